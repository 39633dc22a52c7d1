"""The symptoms of notebook 08's patients: curves next to those of healthy runs, and which test finds which bug.

The idea: a number is odd only in comparison with healthy ones. A vital sign stands out if it is further from the
healthy runs than they are from each other.
"""

import matplotlib.pyplot as plt

from rlhf_lite import plots
from rlhf_lite.exercises.clinic import VITALS
from rlhf_lite.exercises.laboratory import LAB


def _late(run, name):
    """The mean of a vital sign over the last third of a run."""
    last = [entry[name] for entry in run[-max(1, len(run) // 3):]]
    return sum(last) / len(last)


def compare(run, healthy, names=(*VITALS, "true")):
    """{vital sign: (value, lowest healthy value, highest healthy value, -1, 0 or +1)} over the last third of training.

    ±1: further from the healthy runs than they are from each other (or than a twentieth of their size).
    """
    found = {}
    for name in names:
        value, others = _late(run, name), [_late(other, name) for other in healthy]
        low, high = min(others), max(others)
        room = max(high - low, 0.05 * max(abs(low), abs(high)), 0.02)
        found[name] = value, low, high, (value > high + room) - (value < low - room)
    return found


def curves(runs, healthy):
    """One row of curves per patient, with healthy runs in grey behind -> Figure. runs: {patient: history}."""
    figure, axes = plt.subplots(len(runs), len(VITALS), figsize=(13, 0.5 + 1.75 * len(runs)), squeeze=False,
                                layout="constrained", sharex=True)
    for row, (patient, run) in zip(axes, runs.items(), strict=True):
        for axis, (name, label) in zip(row, VITALS.items(), strict=True):
            times = [entry["iteration"] for entry in run]
            others = [[entry[name] for entry in other] for other in healthy]
            at_each_time = list(zip(*others, strict=True))
            axis.fill_between(times, list(map(min, at_each_time)), list(map(max, at_each_time)), color="#D9D9D9")
            for curve in others:
                axis.plot(times, curve, color="#8C8C8C", linewidth=0.8)
            axis.plot(times, [entry[name] for entry in run], color=plots.COLOURS["reward"], linewidth=2)
            axis.tick_params(labelsize=8)
            if name == "explained_variance":
                axis.set_ylim(max(-2.0, axis.get_ylim()[0]), 1.05)
            if axis in axes[0]:
                axis.set_title(label, fontsize=10)
            if axis in axes[-1]:
                axis.set_xlabel("iteration", fontsize=9)
        row[0].set_ylabel(patient, fontsize=11, fontweight="bold", color=plots.COLOURS["reward"])
    return figure


def reading(patient, run, healthy):
    """One sentence about what stands out, with the range of the healthy runs."""
    labels = {name: label.split(" (")[0] for name, label in VITALS.items()}
    late = [f"{labels[name]} {'high' if sign > 0 else 'low'}, {value:.2f} (healthy {low:.2f} to {high:.2f})"
            for name, (value, low, high, sign) in compare(run, healthy, VITALS).items() if sign]
    first = max(entry[0]["clipfrac"] for entry in healthy)
    early = (f" In the very first iteration {run[0]['clipfrac']:.0%} of the actions were clipped (healthy: at most "
             f"{first:.0%})." if run[0]["clipfrac"] > 2 * first + 0.02 else "")
    return f"{patient}, last third of training: " + ("; ".join(late) if late else
                                                     "nothing stands out from the healthy runs") + "." + early


def which_instrument(signs, results):
    """Patients × instruments -> Figure. signs: {patient: compare(...)}, results: {patient: examine(...)}."""
    vitals = {**VITALS, "true": "true score"}
    labels = [label.split(" (")[0].replace(" ", "\n") for label in vitals.values()]
    labels += [label for label, _, _ in LAB.values()]
    figure, axis = plt.subplots(figsize=(13, 1.6 + 0.42 * len(results)), layout="constrained")
    gap = 0.6
    for y, patient in enumerate(results):
        cells = [("▲" if signs[patient][name][3] > 0 else "▼" if signs[patient][name][3] < 0 else "",
                  plots.COLOURS["sft"]) for name in vitals]
        cells += [("" if results[patient][name] else "✗", plots.COLOURS["reward"]) for name in LAB]
        for x, (mark, colour) in enumerate(cells):
            place = x + (gap if x >= len(vitals) else 0)
            axis.add_patch(plt.Rectangle((place - 0.46, y - 0.42), 0.92, 0.84, color=colour if mark else "#EFEFEF"))
            axis.text(place, y, mark, ha="center", va="center", color="white" if mark == "✗" else "#222222",
                      fontsize=12, fontweight="bold")
    places = [x + (gap if x >= len(vitals) else 0) for x in range(len(labels))]
    axis.set_xticks(places, labels, fontsize=8.5)
    axis.set_yticks(range(len(results)), list(results), fontsize=10)
    axis.xaxis.tick_top()
    axis.set(xlim=(-0.6, places[-1] + 0.6), ylim=(len(results) - 0.4, -0.6))
    axis.set_xlabel("left: curves after training (▲ higher, ▼ lower than healthy runs)    ·    right: tests that take "
                    "about a second (✗ fails)")
    axis.grid(False)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure
