"""What a whole run found, as drawn in the report and the notebooks: stages, sizes, the reward model, sweeps.

Plain numbers in, a matplotlib Figure out. Left out: interactivity (see the widgets) and any arithmetic on results
beyond differences and fitted curves.
"""

import math

from matplotlib import rc_context

from rlhf_lite.plots.parts import (
    draw_calibration,
    draw_dots,
    draw_level,
    draw_line,
    errors,
    in_percent,
    new_axes,
    spread_names,
)
from rlhf_lite.plots.rows import stage_rows
from rlhf_lite.plots.style import COLOURS, MARKERS, MEASURES, NAMES, STAGES, STYLE, interval, measure, written


@rc_context(STYLE)
def win_rate_by_size(by_size, against="the smallest SFT model"):
    """InstructGPT's Figure 1. by_size: {size: {stage: interval}}, sizes smallest first -> Figure."""
    figure, ((axis,),) = new_axes(height=4.2)
    sizes = list(by_size)
    for stage in STAGES:
        draw_line(axis, range(len(sizes)), [by_size[size].get(stage) for size in sizes], COLOURS[stage],
                  MARKERS[stage], STAGES[stage])
    draw_level(axis, 0.5, across=True)
    axis.set(xlabel="Model size (parameters)", ylabel=f"Win rate against\n{against}", ylim=(-0.03, 1.03),
             xlim=(-0.25, len(sizes) - 0.75))
    axis.set_xticks(range(len(sizes)), [size.upper() for size in sizes])
    in_percent(axis.yaxis)
    return spread_names(figure)


@rc_context(STYLE)
def stage_panels(stages, names, columns=2):
    """One panel per measure, one bar per stage. stages: {stage: {measure: interval}} -> Figure."""
    present = [stage for stage in STAGES if stage in stages]
    names = [name for name in names if any(interval(stages[stage].get(name)) for stage in present)]
    rows = max(1, -(-len(names) // columns))
    figure, axes = new_axes(columns, rows, height=rows * (0.8 + 0.34 * max(1, len(present))), sharey=True)
    for axis, name in zip(axes.flat, names, strict=False):
        label, kind, better = measure(name)
        for place, stage in enumerate(present):
            entry = interval(stages[stage].get(name))
            if entry is None:
                axis.text(0, place, " not measured", va="center", fontsize=8.5, color="#777777")
                continue
            axis.barh(place, entry[0], color=COLOURS[stage], height=0.62, xerr=errors([entry]), capsize=2.5)
            axis.annotate(written(entry[0], kind), (max(entry[2], 0), place), xytext=(5, 0),
                          textcoords="offset points", va="center", fontsize=8.5)
        axis.set_title(label)
        axis.set_xlabel(("share of answers" if kind == "share" else kind)
                        + {1: " (more is better)", -1: " (less is better)", 0: ""}[better], fontsize=9)
        axis.set_yticks(range(len(present)), [STAGES[stage] for stage in present])
        axis.margins(x=0.22)
        axis.set(ylim=(len(present) - 0.4, -0.6), xlim=(0, None) if kind == "share" else (None, None))
        axis.grid(axis="y", visible=False)
        in_percent(axis.xaxis, kind)
    for axis in axes.flat[len(names):]:
        axis.set_visible(False)
    return figure


def use_cases(table, name="score"):
    """One row per use case, one dot per stage. table: {stage: {use_case: interval}} -> Figure."""
    label, kind, _ = measure(name)
    return stage_rows(table, label, kind)


@rc_context(STYLE)
def reward_model(reward):
    """Pair accuracy per use case and calibration. reward: results["reward"] -> Figure."""
    figure, axes = new_axes(2, height=5.4, width_ratios=[1.25, 1])
    rows = {"all": reward.get("accuracy"), "held-out team": reward.get("heldout_team"), **reward.get("by_use_case", {})}
    axis, ceiling = axes[0][0], interval(reward.get("bayes_ceiling"))
    draw_dots(axis, rows, "share", {"all": "oracle", "held-out team": "oracle"})
    draw_level(axis, 0.5)
    axis.set(xlabel="Pair accuracy on held-out rankings", title="How often does it agree?\n(dashed: chance)")
    if ceiling:
        axis.axvline(ceiling[0], color=COLOURS["ppo"], linewidth=1.3)
        axis.set_title(f"How often does it agree? (dashed: chance;\nblue line: ceiling {written(ceiling[0], 'share')})")
    draw_calibration(axes[0][1], reward.get("calibration", []))
    axes[0][1].set(xlabel="Predicted: σ(score difference)", ylabel="Observed: share preferred",
                   title="Does it know how sure to be?\n(dashed: perfectly calibrated)")
    return figure


@rc_context(STYLE)
def gate(data):
    """True score of best-of-n, chosen by the reward model and by the oracle; KL on top. data: results["gate"]."""
    figure, ((axis,),) = new_axes(height=4.0)
    axis.set_xscale("log", base=2)
    for key, name, label in (("oracle", "oracle", "truth"), ("rm", "reward", "reward model")):
        scores = data.get(key) or [None] * len(data["n"])
        draw_line(axis, data["n"], scores, COLOURS[name], MARKERS[name], f"chosen by the\n{label}")
    axis.set_xticks(data["n"], [str(n) for n in data["n"]])
    axis.minorticks_off()
    axis.set(xlabel="n: answers to choose from", ylabel="True score of the chosen answer (0–1)")
    if data.get("kl"):
        top = axis.secondary_xaxis("top")
        top.set_xticks(data["n"], [f"{kl:.2f}" for kl in data["kl"]])
        top.minorticks_off()
        top.set_xlabel("KL from SFT (nats)")
    return spread_names(figure)


@rc_context(STYLE)
def temperatures(table):
    """True score against the sampling temperature. table: results["temperatures"], {stage: {"curve", "best"}}.

    A ring marks each stage's best temperature. See what a stage gains from slipping less, and what is left of the
    distance between two stages when both do.
    """
    figure, ((axis,),) = new_axes(height=4.2)
    for stage, found in table.items():
        curve = found["curve"]
        draw_line(axis, [point["temperature"] for point in curve], curve, COLOURS[stage], MARKERS[stage],
                  NAMES[stage].replace(", few", ",\nfew"))
        best = next(point for point in curve if point["temperature"] == found["best"])
        axis.plot([best["temperature"]], [best["value"]], "o", markersize=12, markerfacecolor="none",
                  markeredgecolor=COLOURS[stage])
    ticks = sorted({point["temperature"] for found in table.values() for point in found["curve"]})
    axis.set_xticks(ticks, ["greedy" if t == 0 else f"{t:g}" for t in ticks])
    axis.set(xlabel="sampling temperature", ylabel=MEASURES["score"][0])
    return spread_names(figure)


@rc_context(STYLE)
def sweep(rows, key, others):
    """True score against a coefficient, and below it what else moved. others: e.g. ["kl", "proxy"] -> Figure."""
    rows = sorted(rows, key=lambda row: row[key])
    others = [other for other in others if any(interval(row.get(other)) for row in rows)]
    figure, axes = new_axes(1 + len(others), height=3.3)
    for axis, name in zip(axes[0], ["score", *others], strict=True):
        colour = COLOURS["oracle" if name == "score" else "reward" if name == "proxy" else "ppo"]
        draw_line(axis, range(len(rows)), [row.get(name) for row in rows], colour)
        axis.set_xticks(range(len(rows)), [f"{row[key]:g}" for row in rows])  # even steps: 0 has a place
        axis.set(title=measure(name)[0].replace(" (", "\n("), xlabel=key, ylabel=measure(name)[1])
    return figure


@rc_context(STYLE)
def overoptimisation(data):
    """Proxy and truth against d = sqrt(KL), with Gao et al.'s forms d(α − βd) and d(α − β log d) -> Figure."""
    figure, axes = new_axes(2, height=3.8, sharey=True)
    panels = (("bon", "Best-of-n", lambda d, a, b: d * (a - b * d)),
              ("rl", "Reinforcement learning", lambda d, a, b: d * (a - b * math.log(d)) if d > 0 else 0.0))
    for axis, (key, title, form) in zip(axes[0], panels, strict=True):
        rows, fit = sorted(data.get(key) or [], key=lambda row: row["d"]), data.get(f"fit_{key}") or {}
        for name, colour in (("proxy", "reward"), ("gold", "oracle")):
            draw_line(axis, [row["d"] for row in rows], [row.get(name) for row in rows], COLOURS[colour],
                      MARKERS[colour], name.replace("gold", "truth"), linestyle="-" if name == "proxy" else "none")
        if rows and all(interval(fit.get(name)) for name in ("alpha", "beta")):
            grid = [rows[-1]["d"] * step / 100 for step in range(101)]
            axis.plot(grid, [form(d, fit["alpha"], fit["beta"]) for d in grid], color=COLOURS["oracle"], linewidth=1.2)
            title += f"\nα = {fit['alpha']:.2f}, β = {fit['beta']:.2f}"
        axis.set(title=title, xlabel="d = √KL from SFT (√nats)", ylabel="Change in score" if key == "bon" else "")
    return spread_names(figure)
