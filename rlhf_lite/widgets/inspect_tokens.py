"""Step through a sampled answer token by token: what PPO sees, instead of a single score at the end.

Under each token is its number, with its sign; colour only repeats the number (blue above zero, orange below). A slider
moves through the tokens and shows the likeliest choices at each place.
"""

import ipywidgets as w

from rlhf_lite.widgets.parts import Panel, escape, row, text_html

MEASURES = {  # name: what it means
    "advantage": "how much better this token turned out than the critic expected (GAE)",
    "reward": "the KL penalty of each token and, at the last one, also the score of the reward model",
    "value": "the reward that the critic still expects, before this token is written",
    "log-ratio": "log policy minus log reference of this token: the basis of the KL penalty",
    "KL": "the distance of the whole distribution from the reference's at this place, in nats",
    "probability": "that of this token under the policy"}


class TokenInspector(Panel):
    """The page for a `measure.Trace`. measure: which of MEASURES it shows first."""

    def __init__(self, trace, measure="advantage"):
        self.trace = trace
        super().__init__("Inside one answer")
        self.measure = w.Dropdown(options=list(MEASURES), value=measure, description="Colour by")
        self.place = w.IntSlider(min=1, max=len(trace.tokens), value=1, description="Token")
        self.map, self.detail = w.HTML(), w.HTML()
        prompt = w.HTML(text_html(trace.prompt, "rlhf-prompt"))
        total = sum(trace.numbers["log-ratio"])
        summary = w.HTML(f"score of the reward model <b>{signed(trace.score)}</b> &middot; KL penalty "
                         f"{signed(-trace.kl_coef * total)} (&beta; {trace.kl_coef:g} &times; {signed(total)} nats) "
                         f"&middot; together <b>{signed(trace.score - trace.kl_coef * total)}</b>")
        for control in (self.measure, self.place):
            self.on_value(control, lambda _: self.draw())
        self.children = [self._style, prompt, summary, row(self.measure, self.place), self.map, self.detail,
                         self.status]
        self.draw()

    def draw(self):
        name, at = self.measure.value, self.place.value - 1
        values = self.trace.numbers[name]
        scale = max(map(abs, values)) or 1.0
        cells = "".join(_cell(token, value, value / scale, i == at)
                        for i, (token, value) in enumerate(zip(self.trace.tokens, values, strict=True)))
        self.load([(self.map, f'<div><i>{name}: {MEASURES[name]}</i></div><div style="display:flex;flex-wrap:wrap;'
                              f'gap:2px;margin:.5em 0">{cells}</div>'), (self.detail, self._detail(at))])

    def _detail(self, at):
        numbers = "".join(f"<tr><td>{name}</td><td style='text-align:right'><b>{signed(column[at])}</b></td></tr>"
                          for name, column in self.trace.numbers.items())
        bars = "".join(
            f"<tr><td><code>{_visible(text)}</code>{' &#9664; sampled' if text == self.trace.tokens[at] else ''}</td>"
            f"<td style='text-align:right'>{100 * p:.1f} %</td><td>{_bar(p)}</td>"
            f"<td style='text-align:right'>{100 * q:.1f} %</td></tr>" for text, p, q in self.trace.top[at])
        return (f"<b>Token {at + 1} of {len(self.trace.tokens)}: <code>{_visible(self.trace.tokens[at])}</code></b>"
                f"<div style='display:flex;flex-wrap:wrap;gap:2em'><table>{numbers}</table><table>"
                f"<tr><th>likeliest</th><th>policy</th><th></th><th>reference</th></tr>{bars}</table></div>")


def signed(value):
    """+0.12 or −0.12: the sign is always there."""
    return f"{value:+.2f}".replace("-", "−")


def _visible(token):
    """A token as harmless HTML, with its spaces and line ends made visible."""
    return escape(token).replace(" ", "&#9251;").replace("\n", "&#8629;") or "&empty;"


def _cell(token, value, share, chosen):
    """Dark text on a tint of at most half strength, so that it can always be read."""
    colour = "0,114,178" if value >= 0 else "230,159,0"
    tint = f"{colour},{0.5 * min(abs(share), 1):.2f}"  # on white, even if the page is dark
    frame = "3px solid #D55E00" if chosen else "1px solid #bbb"
    return (f'<span style="border:{frame};background:linear-gradient(rgba({tint}),rgba({tint})),#fff;color:#111;'
            f'padding:2px 4px;text-align:center"><code style="background:none;color:#111">{_visible(token)}</code><br>'
            f'<small>{"&#9650; " if chosen else ""}{signed(value)}</small></span>')


def _bar(share):
    return f'<div style="background:#0072B2;height:.8em;width:{120 * share:.0f}px"></div>'
