"""The report of a round of `align`: what each step did, the gate, who wins by whom, and answers side by side.

Everything that a model or a person wrote is escaped (`pages.render`).
"""

from pathlib import Path

from rlhf_lite import files
from rlhf_lite.experiment import pages

TEMPLATE = Path(__file__).parent / "templates" / "align.html"
SHOWN = 12  # prompts, the first ones, one answer each: not selected


def percent(interval):
    """[value, low, high, n] as text."""
    value, low, high, n = interval
    return f"{100 * value:.0f} % ({100 * low:.0f} to {100 * high:.0f}), n = {n}"


def judges(found):
    """Rows of the table of judges: who, on how many held-out rankings, pairs ordered right, and who cannot read."""
    names = (("reward", "reward model"), ("judge", "second judge"))
    return [(name, found[key]["rankings"], found[key]["held-out rankings"], percent(found[key]["accuracy"]),
             f"{100 * found[key]['length']:.0f} %", f"{100 * found[key]['bag of words']:.0f} %")
            for key, name in names]


def html(found, round):
    """Results (as in results.json) -> the page as text."""
    names, rows = list(found["answers"]), found["answers"]
    prompts = list(dict.fromkeys(row["prompt"] for row in rows[names[0]]))[:SHOWN]
    one = {name: {row["prompt"]: row for row in reversed(rows[name])} for name in names}
    shown = {"DPO": ("step", "loss", "accuracy"), "PPO": ("iteration", "score", "kl")}
    steps = [(name, [(entry[first], f"{entry[second]:.2f}", f"{entry[third]:.2f}") for entry in found[name]])
             for name, (first, second, third) in shown.items() if name in found]
    means = [(name, len(rows[name]), *(f"{sum(row[key] for row in rows[name]) / len(rows[name]):+.2f}"
                                       for key in ("reward", "judge")),
              f"{sum(row['tokens'] for row in rows[name]) / len(rows[name]):.0f}") for name in names]
    return pages.render(
        TEMPLATE, round=round, found=found, judges=judges(found), steps=steps, means=means, names=names, last=names[-1],
        wins=[(f"{names[-1]} against {rival}", who, percent(value)) for rival, by in found["wins"].items()
              for who, value in by.items()],
        left_out=found["reward"]["left out"],
        answers=[(prompt, *(f"{one[name][prompt]['response']}\n[{one[name][prompt]['reward']:+.1f}, "
                            f"{one[name][prompt]['judge']:+.1f}]" for name in names)) for prompt in prompts])


def write(folder, found, round):
    """Write report.html into the round's folder, whole or not at all."""
    files.write_text(Path(folder) / "report.html", html(found, round))
