"""One page about a model that followed one person's rankings: four pictures, three tables, answers side by side.

`figure(found)` is a matplotlib Figure, `html(found)` is the whole page as text, and `save(found, path)` writes it. The
template is `templates/my_model.html`; everything that a model or a person wrote is escaped. `found` is the result of
`my_model.drive`.
"""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from rlhf_lite import files, plots
from rlhf_lite.exercises.my_model import changes, percent
from rlhf_lite.experiment import pages
from rlhf_lite.stats import proportion_interval

BEFORE, AFTER = plots.COLOURS["sft"], plots.COLOURS["ppo"]
SHIPPED = {"shipped": "shipped reward model,\nnever saw your rankings", "alone": "your rankings alone",
           "on top": "your rankings on top\nof the shipped model"}
TEMPLATE = Path(__file__).parent / "templates" / "my_model.html"


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
    for place, found in enumerate(named.values()):
        axis.errorbar([found.value], [place], xerr=[[found.value - found.low], [found.high - found.value]], marker="o",
                      color=AFTER, capsize=3)
    axis.axvline(0.5, color="#888888", linestyle="--", linewidth=1)  # chance
    axis.set_yticks(range(len(named)), list(named))
    axis.set(xlim=(0, 1.02), ylim=(max(1, len(named)) - 0.5, -0.5))
    axis.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axis.grid(axis="y", visible=False)


def html(found, shown=8, measures=None):
    """The page as text. shown: how many prompts to show, the first ones, not selected. measures: as in `changes`."""
    names = {name: words.replace("\n", " ") for name, words in SHIPPED.items()}
    answers = list(zip(found.before, found.after, strict=True))[:shown]
    return pages.render(
        TEMPLATE, found=found, driver=names[found.driver], image=pages.data_address(pages.png(figure(found), dpi=100)),
        moved=[(name, f"{one:.2f}", f"{two:.2f}", f"{by.value:+.2f} ({by.low:+.2f} to {by.high:+.2f}), n = {by.n}")
               for name, (one, two, by) in changes(found, measures).items()],
        predicted=[(names[name], f"{100 * a.value:.0f} % ({100 * a.low:.0f} to {100 * a.high:.0f}), {a.n} prompts")
                   for name, a in found.accuracy.items()],
        agreed=[(name, percent(a)) for name, a in found.agreements.items()],
        side_by_side=[(one["prompt"], *(f"{row['response']}\n[{row['own_score']:+.2f}]" for row in (one, two)))
                      for one, two in answers])


def save(found, path, **options):
    """Write the page, whole or not at all; returns the path. options: those of `html`."""
    files.write_text(path, '<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>My model</title>\n'
                           f"{html(found, **options)}\n</html>\n")
    return Path(path)
