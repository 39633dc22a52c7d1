"""One page about a model that followed one person's rankings: four pictures, three tables, answers side by side.

`figure(found)` is a matplotlib Figure, `html(found)` the whole page as text, `save(found, path)` writes it.
Everything that a model or a person wrote is escaped. `found` is what `own_model.drive` returns.
"""

import base64
import io
import os
from html import escape
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from rlhf_lite import plots
from rlhf_lite.own_model import changes, percent
from rlhf_lite.stats import proportion_interval

BEFORE, AFTER = plots.COLOURS["sft"], plots.COLOURS["ppo"]
SHIPPED = {"shipped": "shipped reward model,\nnever saw your rankings", "alone": "your rankings alone",
           "on top": "your rankings on top\nof the shipped model"}
LEFT = 'style="text-align: left"'  # JupyterLab aligns tables to the right, and its rule is stronger than a class
CSS = """<style>.own {max-width: 62em; font: 15px/1.5 system-ui, sans-serif} .own table {border-collapse: collapse;
width: 100%} .own td, .own th {border-bottom: 1px solid #ccc; padding: .35em .6em; text-align: left; vertical-align:
top} .own .text {white-space: pre-wrap; overflow-wrap: anywhere} .own img {max-width: 100%; background: #fff}</style>"""


def figure(found):
    """Held-out accuracy, agreement, PPO's climb, and the length of the answers before and after."""
    with rc_context(plots.STYLE):
        page = Figure(figsize=(11, 7), layout="constrained")
        axes = page.subplots(2, 2)
        _intervals(axes[0, 0], {SHIPPED[name]: value for name, value in found.accuracy.items()})
        axes[0, 0].set(title=f"Who predicts you? ({found.pairs} held-out pairs)",
                       xlabel="share of pairs ordered as you did (95 %)")
        _intervals(axes[0, 1], {f"{name}, n = {a.n}": proportion_interval(a.percent / 100 * a.n, a.n)
                                for name, a in found.agreements.items() if a.n})
        axes[0, 1].set(title="Who ranks as you do?", xlabel="share of pairs that neither tied (95 %)")
        steps = [entry["iteration"] for entry in found.history]
        axes[1, 0].plot(steps, [entry["score"] for entry in found.history], color=AFTER, marker="D", markersize=4)
        axes[1, 0].set(title=f"PPO follows it (KL at the end: {found.history[-1]['kl']:.1f} nats)",
                       xlabel="iteration", ylabel="score of your reward model")
        words = [[len(row["response"].split()) for row in rows] for rows in (found.before, found.after)]
        bins = range(0, max(map(max, words)) + 3, 2)
        for counts, name, colour in zip(words, ("before", "after"), (BEFORE, AFTER), strict=True):
            axes[1, 1].hist(counts, bins=bins, histtype="stepfilled", alpha=0.45, color=colour,
                            label=f"{name}, mean {sum(counts) / len(counts):.1f}")
        axes[1, 1].set(title="How long are the answers?", xlabel="words", ylabel=f"of {len(words[0])} answers")
        axes[1, 1].legend()
        return page


def _intervals(axis, named):
    for place, (name, found) in enumerate(named.items()):
        axis.errorbar([found.value], [place], xerr=[[found.value - found.low], [found.high - found.value]], marker="o",
                      color=AFTER, capsize=3)
    axis.axvline(0.5, color="#888888", linestyle="--", linewidth=1)  # chance
    axis.set_yticks(range(len(named)), list(named))
    axis.set(xlim=(0, 1.02), ylim=(max(1, len(named)) - 0.5, -0.5))
    axis.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.grid(axis="y", visible=False)


def html(found, shown=8, measures=None):
    """The page as text. shown: prompts side by side, the first ones, none selected. measures: as in `changes`."""
    picture = io.BytesIO()
    figure(found).savefig(picture, format="png", dpi=100)
    encoded = base64.b64encode(picture.getvalue()).decode()
    moved = _table(("", "before", "after", "change (95 % interval over prompts)"), [
        (name, f"{one:.2f}", f"{two:.2f}", f"{step.value:+.2f} ({step.low:+.2f} to {step.high:+.2f}), n = {step.n}")
        for name, (one, two, step) in changes(found, measures).items()])
    agreed = _table(("you and", "agree on"), [(name, percent(a)) for name, a in found.agreements.items()])
    predicted = _table(("reward model", "held-out pairs ordered as you did"), [
        (SHIPPED[name].replace("\n", " "), f"{100 * a.value:.0f} % ({100 * a.low:.0f} to {100 * a.high:.0f}), "
                                           f"{a.n} prompts") for name, a in found.accuracy.items()])
    side = _table(("prompt", "before", "after"), [
        (one["prompt"], *(f"{row['response']}\n[{row['own_score']:+.2f}]" for row in (one, two)))
        for one, two in list(zip(found.before, found.after, strict=True))[:shown]])
    took = ", ".join(f"{part} {value:.0f} s" for part, value in found.seconds.items())
    return (f'{CSS}<div class="own"><h2>The model that {escape(found.learner)} made</h2><p>{found.rankings} rankings, '
            f'{found.pairs} pairs. PPO followed: {SHIPPED[found.driver]}. Time: {took}.</p>'
            '<img alt="Four pictures; the tables below hold most of their numbers." '
            f'src="data:image/png;base64,{encoded}"><h3>What moved</h3>{moved}<h3>Who predicts you</h3>{predicted}'
            f'<h3>Who agrees with you</h3>{agreed}<h3>The same prompts, before and after</h3>'
            f"<p>In brackets the score of your reward model. Both were sampled, so some of the difference is luck.</p>"
            f"{side}</div>")


def _table(head, rows):
    lines = ["".join(f"<th {LEFT}>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f'<td class="text" {LEFT}>{escape(str(cell))}</td>' for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def save(found, path, **options):
    """Write the page, whole or not at all; returns the path. options: as for `html`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    page = html(found, **options)
    part.write_text(f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>My model</title>{page}</html>\n',
                    encoding="utf-8")
    os.replace(part, path)
    return path
