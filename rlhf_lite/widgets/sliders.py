"""Two settings of PPO on real numbers: beta, the price of distance from the reference, and the clip range.

All curves are computed once, when the page is made; moving a slider only looks up numbers and draws a small SVG.
"""

import ipywidgets as w
import numpy as np
from matplotlib.ticker import MaxNLocator

from rlhf_lite.widgets.parts import Panel, escape, text_html

WIDTH, HEIGHT, MARGIN = 560, 240, 56
BETAS = tuple(float(f"{b:.2g}") for b in np.geomspace(0.02, 5, 41))
CLIPS = tuple(round(0.01 * i, 2) for i in range(1, 101))
BLUE, ORANGE, RED = "#0072B2", "#E69F00", "#D55E00"


def tilt(scores, beta):
    """(K,) scores of samples from the reference -> (K,) weights of the best policy at this beta.

    π* ∝ π_ref exp(r / beta) maximises E[r] − beta KL; on K samples that is a softmax.
    """
    z = np.asarray(scores, dtype=float) / beta
    weights = np.exp(z - z.max())
    return weights / weights.sum()


class BetaSlider(Panel):
    """What the best policy at each beta would do with real answers.

    groups: [(prompt, texts, scores)], see `measure.scored_groups`. trained: real PPO runs in the form of the KL study,
    dicts {"kl_coef", "kl", "proxy"}. With K answers per prompt, the KL of the tilted policy cannot exceed log K.
    """

    def __init__(self, groups, trained=()):
        self.groups, self.trained = list(groups), sorted(trained, key=lambda point: point["kl_coef"])
        super().__init__("The price of leaving the reference: beta")
        self.weights = [[tilt(scores, beta) for _, _, scores in self.groups] for beta in BETAS]
        self.scores = [_mean(w_ @ g[2] for w_, g in zip(row_, self.groups, strict=True)) for row_ in self.weights]
        self.kls = [_mean((w_ * np.log(np.maximum(w_ * len(w_), 1e-300))).sum() for w_ in row_)
                    for row_ in self.weights]
        points = list(zip(self.kls, self.scores, strict=True)) + [(p["kl"], p["proxy"]) for p in self.trained]
        self.axes = Axes([x for x, _ in points], [y for _, y in points], "KL from the reference (nats per answer)",
                         "score of the reward model")
        self.still = self.axes.line(self.kls, self.scores, BLUE) + "".join(
            self.axes.dot(p["kl"], p["proxy"], RED, f"PPO, β {p['kl_coef']:g}") for p in self.trained)
        self.beta = w.SelectionSlider(options=[(f"{beta:g}", i) for i, beta in enumerate(BETAS)], value=20,
                                      description="β", layout=w.Layout(width="95%"))
        names = [(f"{i + 1}. {prompt[:60]}", i) for i, (prompt, _, _) in enumerate(self.groups)]
        self.example = w.Dropdown(options=names, description="Example", layout=w.Layout(width="95%"))
        self.picture, self.table = w.HTML(), w.HTML()
        for control in (self.beta, self.example):
            self.on_value(control, lambda _: self.draw())
        self.children = [self._style, self.beta, self.picture, self.example, self.table, self.status]
        self.draw()

    def draw(self):
        i, (prompt, texts, scores) = self.beta.value, self.groups[self.example.value]
        weights = self.weights[i][self.example.value]
        here = self.axes.dot(self.kls[i], self.scores[i], "#000", f"β {BETAS[i]:g}", big=True)
        words = (f"At β = <b>{BETAS[i]:g}</b> the best policy would score <b>{self.scores[i]:+.2f}</b> at "
                 f"<b>{self.kls[i]:.2f}</b> nats; objective {self.scores[i] - BETAS[i] * self.kls[i]:+.2f}.")
        if self.trained:
            near = min(self.trained, key=lambda p: abs(np.log((p["kl_coef"] or 1e-3) / BETAS[i])))
            words += (f" The nearest PPO run (β {near['kl_coef']:g}) reached {near['proxy']:+.2f} at "
                      f"{near['kl']:.2f} nats.")
        lines = "".join(
            f"<tr><td style='text-align:right'>{100 * weights[k]:.0f} %</td><td><div style='background:{BLUE};"
            f"height:.8em;width:{120 * weights[k]:.0f}px'></div></td><td style='text-align:right'>{scores[k]:+.2f}</td>"
            f"<td style='text-align:left;white-space:pre-wrap'>{escape(texts[k])}</td></tr>"
            for k in np.argsort(-np.asarray(scores), kind="stable"))
        self.load([(self.picture, self.axes.svg(self.still + here, "Score against KL; " + _plain(words))
                    + f"<div>{words}</div>"),
                   (self.table, text_html(prompt, "rlhf-prompt") + "<table><tr><th>chosen</th><th></th><th>score</th>"
                    f"<th>answer</th></tr>{lines}</table>")])


class ClipSlider(Panel):
    """Which tokens a clip range silences.

    log_ratios, advantages: one number per token, see `measure.ratios`. A token has no gradient once its ratio has
    left the range in the direction in which its advantage pushes it.
    """

    def __init__(self, log_ratios, advantages):
        super().__init__("How far one update may go: the clip range")
        ratios, advantages = np.exp(np.asarray(log_ratios, dtype=float)), np.asarray(advantages, dtype=float)
        if not len(ratios) or len(ratios) != len(advantages):
            raise ValueError(f"{len(ratios)} ratios and {len(advantages)} advantages; give one of each per token")
        self.count = len(ratios)
        self.outside = [float((abs(ratios - 1) > clip).mean()) for clip in CLIPS]
        up, down = advantages > 0, advantages < 0
        self.silent = [float((up & (ratios > 1 + clip) | down & (ratios < 1 - clip)).mean()) for clip in CLIPS]
        self.objective = [float(np.minimum(ratios * advantages,
                                           np.clip(ratios, 1 - clip, 1 + clip) * advantages).mean()) for clip in CLIPS]
        edges = np.linspace(0, 2, 41)
        inside = np.clip(ratios, 0, 2 - 1e-9)  # anything beyond 2 goes into the last bar
        self.bars = [np.histogram(inside[which], edges)[0] for which in (up, ~up)]
        self.axes = Axes([0, 2], [0, max(1, *(bars.max() for bars in self.bars))],
                         "ratio new / old (2 and more: last bar)", "tokens")
        self.still = "".join(
            self.axes.bar(edges[i], edges[i + 1], bars[i], colour, half)
            for half, (bars, colour) in enumerate(zip(self.bars, (BLUE, ORANGE), strict=True))
            for i in range(40))
        self.clip = w.SelectionSlider(options=[(f"{clip:.2f}", i) for i, clip in enumerate(CLIPS)], value=19,
                                      description="Clip range", layout=w.Layout(width="95%"))
        self.picture = w.HTML()
        self.on_value(self.clip, lambda _: self.draw())
        self.children = [self._style, self.clip, self.picture, self.status]
        self.draw()

    def draw(self):
        i = self.clip.value
        words = (f"At a clip range of <b>{CLIPS[i]:.2f}</b>, <b>{100 * self.outside[i]:.1f} %</b> of {self.count} "
                 f"tokens have left 1 ± {CLIPS[i]:.2f}, and <b>{100 * self.silent[i]:.1f} %</b> no longer get a "
                 f"gradient. Clipped objective {self.objective[i]:+.4f}. In each pair of bars, the left one (blue) "
                 "counts tokens with advantages above 0, the right one (orange) those below.")
        band = self.axes.band(max(0, 1 - CLIPS[i]), 1 + CLIPS[i])
        picture = self.axes.svg(band + self.still, "Ratios; " + _plain(words))
        self.load([(self.picture, f"{picture}<div>{words}</div>")])


class Axes:
    """Just enough to draw a plot in well under a millisecond: linear axes, lines, dots, bars."""

    def __init__(self, xs, ys, x_label, y_label):
        round_numbers = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
        across, up = (round_numbers.tick_values(min(0.0, *values), max(0.0, *values) or 1.0) for values in (xs, ys))
        self.x0, self.x1, self.y0, self.y1 = across[0], across[-1], up[0], up[-1]
        ticks = "".join(f'<text x="{self.x(x):.0f}" y="{HEIGHT - MARGIN + 16}" text-anchor="middle">{x:g}</text>'
                        for x in across)
        ticks += "".join(f'<text x="{MARGIN - 6}" y="{self.y(y) + 4:.0f}" text-anchor="end">{y:g}</text>' for y in up)
        self.frame = (f'<rect x="{MARGIN}" y="10" width="{WIDTH - MARGIN - 10}" height="{HEIGHT - MARGIN - 10}" '
                      f'fill="none" stroke="#888"/>{ticks}'
                      f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
                      f'{escape(x_label)}</text><text x="12" y="{HEIGHT / 2}" text-anchor="middle" '
                      f'transform="rotate(-90 12 {HEIGHT / 2})">{escape(y_label)}</text>')

    def x(self, value):
        return MARGIN + (WIDTH - MARGIN - 10) * (value - self.x0) / (self.x1 - self.x0)

    def y(self, value):
        return HEIGHT - MARGIN - (HEIGHT - MARGIN - 10) * (value - self.y0) / (self.y1 - self.y0)

    def line(self, xs, ys, colour):
        points = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'

    def dot(self, x, y, colour, label, big=False):
        left = self.x(x) > WIDTH - 100  # the label must stay inside
        return (f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{7 if big else 4}" fill="{colour}"/><text '
                f'x="{self.x(x) + (-10 if left else 10):.1f}" y="{self.y(y) + (18 if big else -6):.1f}" '
                f'text-anchor="{"end" if left else "start"}" font-weight="{700 if big else 400}">'
                f'{escape(label)}</text>')

    def bar(self, left, right, height, colour, half):
        width = (self.x(right) - self.x(left)) / 2
        return (f'<rect x="{self.x(left) + half * width:.1f}" y="{self.y(height):.1f}" width="{width:.1f}" '
                f'height="{self.y(self.y0) - self.y(height):.1f}" fill="{colour}"/>')

    def band(self, left, right):
        return (f'<rect x="{self.x(left):.1f}" y="10" '
                f'width="{self.x(right) - self.x(left):.1f}" '
                f'height="{HEIGHT - MARGIN - 10}" fill="#ddd" stroke="#555" stroke-dasharray="4"/>')

    def svg(self, content, description):
        return (f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {WIDTH} {HEIGHT}" style="max-width:'
                f'{WIDTH}px;width:100%;background:#fff;font:11px sans-serif">{content}{self.frame}</svg>')


def _mean(values):
    values = list(values)
    return float(sum(values) / len(values))


def _plain(words):
    return words.replace("<b>", "").replace("</b>", "")
