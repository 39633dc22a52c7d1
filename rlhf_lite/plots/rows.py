"""One row per name: dots with intervals, bars side by side, bars that add up to a whole, every single value."""

import random
from statistics import median

from matplotlib import rc_context

from rlhf_lite.plots.parts import draw_dots, draw_level, errors, in_percent, ink, name_rows, new_axes
from rlhf_lite.plots.style import COLOURS, MARKERS, STAGES, STYLE, interval


@rc_context(STYLE)
def interval_rows(entries, label, kind="share", reference=0, marks=None, title="", tops=None):
    """One dot per row of {name: interval}, with a dashed line at ``reference`` -> Figure.

    marks: {name: stage}, for the colours. tops: {name: the best possible value}, a blue bar in that row.
    """
    entries = {name: entry for name, entry in entries.items() if interval(entry)}
    figure, ((axis,),) = new_axes(height=1.1 + 0.2 * bool(title) + 0.46 * max(1, len(entries)))
    draw_dots(axis, entries, kind, marks or {})
    for place, name in enumerate(entries):
        if name in (tops or {}):
            axis.plot([tops[name]], [place], marker="|", markersize=16, markeredgewidth=3, color=COLOURS["ppo"])
    draw_level(axis, reference)
    axis.set(xlabel=label, title=title)
    return figure


@rc_context(STYLE)
def stage_rows(table, label, kind="share", title=""):
    """One row per name, one dot per stage. table: {stage: {name: interval}} -> Figure.

    See how the order of the stages changes from row to row.
    """
    names = list(dict.fromkeys(name for stage in STAGES for name in table.get(stage, {})))
    figure, ((axis,),) = new_axes(height=1.4 + 0.2 * bool(title) + 0.42 * max(1, len(names)))
    present = [stage for stage in STAGES if stage in table]
    for index, stage in enumerate(present):
        offset = (index - (len(present) - 1) / 2) * 0.15
        points = {place + offset: interval(table[stage].get(name)) for place, name in enumerate(names)}
        points = {place: entry for place, entry in points.items() if entry}
        axis.errorbar([e[0] for e in points.values()], list(points), xerr=errors(points.values()), linestyle="none",
                      color=COLOURS[stage], marker=MARKERS[stage], markersize=5, label=STAGES[stage])
    name_rows(axis, names)
    axis.set(ylim=(len(names) - 0.5, -0.5), xlabel=label, title=title)
    in_percent(axis.xaxis, kind)
    figure.legend(loc="outside upper center", ncols=5, columnspacing=1.2, handletextpad=0.3)
    return figure


@rc_context(STYLE)
def bars(groups, label, title="", number=None, colours=("base", "ppo", "sft", "ppo_ptx")):
    """Bars side by side: one row per name, one bar per group. groups: {group: {name: value}} -> Figure.

    number: how to write a value after its bar, such as "{:.1f}"; None: not at all. Compare the bars of a row.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    thick = 0.8 / len(groups)
    figure, ((axis,),) = new_axes(height=1.2 + (0.16 + 0.12 * len(groups)) * len(names))
    for index, ((group, values), colour) in enumerate(zip(groups.items(), colours, strict=False)):
        places = [place + (index - (len(groups) - 1) / 2) * thick for place in range(len(names))]
        drawn = axis.barh(places, [values.get(name, 0) for name in names], height=0.92 * thick, color=COLOURS[colour],
                          label=group)
        if number:
            axis.bar_label(drawn, [number.format(values.get(name, 0)) for name in names], padding=3, fontsize=8.5)
    name_rows(axis, names)
    axis.set(xlabel=label, title=title)
    axis.margins(x=0.08)
    axis.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def stacked(table, colours, label, title=""):
    """Bars that add up to a whole: one row per name, cut into kinds. table: {name: {kind: share}} -> Figure.

    colours: {kind: colour}. Shares above 6 % are written in the bar. See which kind fills which row.
    """
    figure, ((axis,),) = new_axes(height=1.5 + 0.27 * len(table))
    left = dict.fromkeys(table, 0.0)
    for kind, colour in colours.items():
        shares = [table[name][kind] for name in table]
        drawn = axis.barh(list(table), shares, left=list(left.values()), color=colour, edgecolor="white", label=kind)
        axis.bar_label(drawn, [f"{100 * share:.0f}" if share > 0.06 else "" for share in shares],
                       label_type="center", fontsize=8.5, color=ink(colour))
        left = {name: left[name] + table[name][kind] for name in table}
    name_rows(axis, list(table))
    axis.set(xlabel=label, title=title, xlim=(0, 1))
    in_percent(axis.xaxis)
    figure.legend(loc="outside upper center", ncols=len(colours), fontsize=8.5, columnspacing=1.2)
    return figure


@rc_context(STYLE)
def strips(values, label, title="", limit=None):
    """Every single value as a dot, one row per name, with the median as an orange bar -> Figure.

    values: {name: numbers}. limit: a dashed line. See how far a row spreads, and whose values are beyond the line.
    """
    figure, ((axis,),) = new_axes(height=1.0 + 0.3 * len(values))
    jitter = random.Random(0)
    for place, found in enumerate(values.values()):
        axis.scatter(found, [place + jitter.uniform(-0.28, 0.28) for _ in found], s=7, color=COLOURS["ppo"], alpha=0.35,
                     linewidths=0)
        axis.plot([median(found)] * 2, [place - 0.38, place + 0.38], color=COLOURS["reward"], linewidth=2.5)
    if limit is not None:
        draw_level(axis, limit, colour=COLOURS["oracle"])
    name_rows(axis, list(values))
    axis.set(xlabel=label, title=title, xlim=(0, None))
    return figure
