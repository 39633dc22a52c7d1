"""The best policy at any price, where it can be written down: a slider for beta in the tea room.

All prices are solved once, when the widget is made, by the function that the tests use (`tiny_world.optimum`). Moving
the slider only looks up numbers and draws a small SVG.
"""

import ipywidgets as w
import numpy as np

from rlhf_lite import tiny_world
from rlhf_lite.widgets.parts import Panel, escape
from rlhf_lite.widgets.sliders import BLUE, Axes

PRICES = (0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5,
          3.0, 4.0, 5.0, 7.0, 10.0)
GREY = "#7F7F7F"


class BestPolicySlider(Panel):
    """What the best policy would say at each price of a nat.

    texts: the responses; scores, log_ref: (responses,) tensors. shown: how many responses are listed, those that are
    likely at some price.
    """

    def __init__(self, texts, scores, log_ref, shown=8):
        super().__init__("The price of a nat: β")
        self.texts, self.scores, self.ref = list(texts), scores.tolist(), log_ref.exp().tolist()
        solved = [tiny_world.optimum(log_ref[None], scores[None], price) for price in PRICES]
        self.best = [log_best[0].exp().tolist() for log_best, _ in solved]
        self.values = [value.item() for _, value in solved]
        self.means = [tiny_world.expected(log_best, scores).item() for log_best, _ in solved]
        self.kls = [tiny_world.kl(log_best, log_ref[None]).item() for log_best, _ in solved]
        peak = np.max([*self.best, self.ref], axis=0)
        self.rows = sorted(np.argsort(-peak, kind="stable")[:shown].tolist(), key=lambda row: -self.scores[row])
        self.axes = Axes(self.kls, self.means, "KL from the reference (nats)", "mean score")
        self.still = self.axes.line(self.kls, self.means, BLUE)
        self.beta = w.SelectionSlider(options=[(f"{price:g}", i) for i, price in enumerate(PRICES)],
                                      value=PRICES.index(0.5), description="β", layout=w.Layout(width="95%"))
        self.picture, self.table = w.HTML(), w.HTML()
        self.on_value(self.beta, lambda _: self.draw())
        self.children = [self._style, self.beta, self.picture, self.table, self.status]
        self.draw()

    def draw(self):
        i = self.beta.value
        words = (f"A nat costs β = {PRICES[i]:g}. The best policy has a mean score of {self.means[i]:.2f} at "
                 f"{self.kls[i]:.2f} nats, so its value, the score minus β · KL, "
                 f"is {self.values[i]:.2f}: no policy can have more.")
        dot = self.axes.dot(self.kls[i], self.means[i], "#000", f"β {PRICES[i]:g}", big=True)
        listed = [(self.texts[k], f"{self.scores[k]:+.1f}".replace("-", "−"), self.ref[k], self.best[i][k])
                  for k in self.rows]
        listed.append((f"the other {len(self.texts) - len(self.rows)}", "", 1 - sum(self.ref[k] for k in self.rows),
                       1 - sum(self.best[i][k] for k in self.rows)))
        lines = "".join(f"<tr><td style='text-align:left'>{escape(text)}</td><td style='text-align:right'>{score}</td>"
                        f"{_bar(before, GREY)}{_bar(now, BLUE)}</tr>" for text, score, before, now in listed)
        self.load([(self.picture, self.axes.svg(self.still + dot, words) + f"<div>{escape(words)}</div>"),
                   (self.table, "<table><tr><th>response</th><th>score</th><th colspan=2>reference</th>"
                                f"<th colspan=2>best policy</th></tr>{lines}</table>")])


def _bar(share, colour):
    share = max(0.0, share)
    return (f"<td style='width:190px'><div style='background:{colour};height:.8em;width:{180 * share:.0f}px'>"
            "</div></td>"
            f"<td style='text-align:right'>{100 * share:.{1 if share < 0.01 else 0}f} %</td>")
