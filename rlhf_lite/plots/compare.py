"""Models side by side: the ladder of stages, three methods on one map, and one page about a model from out of town."""

from matplotlib import rc_context

from rlhf_lite.plots.parts import draw_dots, draw_level, draw_line, errors, in_percent, new_axes
from rlhf_lite.plots.style import COLOURS, GREY, MARKERS, NAMES, STYLE, interval, written


@rc_context(STYLE)
def ladder(panels):
    """One step per stage, with the value written above it: {title: (ylabel, kind, {stage: interval})} -> Figure.

    Two steps whose intervals overlap may be equal. A share is compared with one half.
    """
    figure, axes = new_axes(len(panels), width=4.5 * len(panels), height=3.6)
    for axis, (title, (ylabel, kind, stages)) in zip(axes[0], panels.items(), strict=True):
        found = {stage: interval(entry) for stage, entry in stages.items()}
        axis.plot([value for value, _, _ in found.values()], color="#BBBBBB", linewidth=1, zorder=0)
        for place, (stage, entry) in enumerate(found.items()):
            axis.errorbar(place, entry[0], errors([entry]), color=COLOURS[stage], marker=MARKERS[stage], markersize=9,
                          capsize=4)
            axis.annotate(written(entry[0], kind), (place, entry[2]), xytext=(0, 5), textcoords="offset points",
                          ha="center", color=COLOURS[stage], fontweight="bold")
        if kind == "share":
            draw_level(axis, 0.5, across=True)
            in_percent(axis.yaxis)
        axis.set_xticks(range(len(found)), [NAMES[stage].replace(", few-shot ", ",\n") for stage in found])
        top = 1 if kind == "share" else 1.2 * max(high for _, _, high in found.values())
        axis.set(title=title, ylabel=ylabel, ylim=(0, top))
        axis.margins(x=0.18)
    return figure


@rc_context(STYLE)
def methods(found, minutes, weights):
    """What each method gained and what it cost -> Figure.

    found: {stage: {"true", "kl": interval}}; minutes: {stage: minutes of training}; weights: {stage: (bytes per weight
    of the trained models, of the frozen ones)}. Compare the scores at equal KL, then look to the right for the bill.
    """
    figure, ((chart, time, memory),) = new_axes(3, width=12, height=3.6, width_ratios=[1.7, 1, 1])
    for stage, row in found.items():
        kl, true = interval(row["kl"]), interval(row["true"])
        chart.errorbar(kl[0], true[0], errors([true]), color=COLOURS[stage], marker=MARKERS[stage], capsize=3,
                       markersize=7, linestyle="none", label=NAMES[stage])
    if "sft" in found:
        draw_level(chart, interval(found["sft"]["true"])[0], across=True)
    chart.set(xlabel="KL from SFT (nats per answer)", ylabel="true score (0–1)", title="What it brought, what it moved")
    chart.margins(x=0.15, y=0.25 if len(found) < 5 else 0.4)
    chart.legend(loc="upper center", ncols=4 if len(found) < 5 else 3, columnspacing=1, handletextpad=0.2)
    names, colours = [NAMES[stage] for stage in minutes], [COLOURS[stage] for stage in minutes]
    time.bar_label(time.barh(names, list(minutes.values()), color=colours), fmt="%.1f", padding=3)
    time.set(xlabel="minutes of training", title="Time, here")
    trained, frozen = ([weights[stage][part] for stage in minutes] for part in (0, 1))
    memory.barh(names, trained, color=colours)
    bars = memory.barh(names, frozen, left=trained, color=colours, alpha=0.45, hatch="//", edgecolor="white")
    memory.bar_label(bars, [f"{sum(weights[stage])}" for stage in minutes], padding=3)
    memory.set(xlabel="bytes per weight (hatched: frozen)", title="Memory, in 32 bits")
    for axis in (time, memory):
        axis.margins(x=0.2)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
    return figure


@rc_context(STYLE)
def out_of_town(judged, wins, truth, guesses, losses, truth_name="TruthfulQA"):
    """One page about a model that no program can grade -> Figure.

    judged: {"reward" or "oracle": [(KL, interval of the change in its score)]}, the judge that PPO was paid by and one
    that it was not; wins: {comparison: interval}; truth: {"mc1", "mc2": {stage: interval}} with guesses {"mc1", "mc2":
    share}; losses: {stage: (interval of the extra loss, loss)}. Read the two upper pictures together: do the judges
    that PPO was not paid by agree?
    """
    figure, ((paid, prefers), (true, cost)) = new_axes(2, 2, width=10.5, height=7)
    for key, name in (("reward", "reward model (paid)"), ("oracle", "second judge (not paid)")):
        draw_line(paid, *zip(*judged[key], strict=True), COLOURS[key], MARKERS[key], label=name)
    draw_level(paid, 0, across=True)
    paid.set(title="What it was paid for, and what it was not", xlabel="KL from SFT (nats per answer)",
             ylabel="change since SFT\n(standard deviations)")
    paid.legend(loc="upper left")
    paid.margins(y=0.3)
    draw_dots(prefers, wins, "share", {name: "oracle" for name in wins if "second" in name})
    draw_level(prefers, 0.5)
    prefers.set_title("Who prefers it: win rates")
    _guessed(true, truth, guesses)
    true.set(title="True or false: mc1 (■) and mc2 (◆)", ylabel=truth_name)
    for place, (stage, (entry, loss)) in enumerate(losses.items()):
        entry, colour = interval(entry), COLOURS[stage]
        cost.errorbar([place], [entry[0]], errors([entry]), color=colour, marker="o", markersize=8, capsize=4)
        cost.annotate(f"{entry[0]:+.2f}\n(loss {loss:.2f})", (place, entry[0]), xytext=(9, 0), va="center", fontsize=9,
                      textcoords="offset points", color=colour)
    draw_level(cost, 0, across=True)
    cost.set_xticks(range(len(losses)), [_stage(stage) for stage in losses])
    cost.set(title="What it cost: extra loss on plain text", xlim=(-0.5, len(losses) - 0.2),
             ylabel="nats per token, against the start")
    cost.margins(y=0.15)
    return figure


def _guessed(axis, truth, guesses):
    """Two shares per stage, and what guessing would get for each."""
    for (name, stages), shift, marker, dashes in zip(truth.items(), (-0.1, 0.1), "sD", ("--", ":"), strict=True):
        for place, (stage, entry) in enumerate(stages.items()):
            entry = interval(entry)
            axis.errorbar([place + shift], [entry[0]], errors([entry]), color=COLOURS[stage], marker=marker, capsize=3)
        left, last = shift < 0, len(stages) - 1
        axis.axhline(guesses[name], color=GREY, linestyle=dashes, linewidth=1)
        axis.annotate(f"{name} by guessing", (-0.45 if left else last + 0.45, guesses[name]), xytext=(0, 3),
                      textcoords="offset points", ha="left" if left else "right", fontsize=8.5, color="#666666")
        axis.set_xticks(range(len(stages)), [_stage(stage) for stage in stages])
        axis.set_xlim(-0.5, last + 0.5)


def _stage(stage):
    return "start" if stage == "base" else NAMES[stage]
