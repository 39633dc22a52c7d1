"""The building blocks of figures: axes, a line with intervals, rows of dots, the names beside them.

Every function of the other files draws with these, inside `style.STYLE`. An interval is what `style.interval` reads;
what was not measured is skipped.
"""

import math
from numbers import Real

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from rlhf_lite.plots.style import COLOURS, GREY, MARKERS, interval, written


def new_axes(columns=1, rows=1, height=3.4, width=8.0, **options):
    """(figure, 2-d array of axes); 8 inches are 800 pixels at 100 dots per inch. options: those of `subplots`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def ink(colour):
    """Black or white, whichever is readable on this colour."""
    red, green, blue = to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def errors(entries):
    """(value, low, high) triples as the (2, n) distances that errorbar wants."""
    return [[max(0, v - low) for v, low, _ in entries], [max(0, high - v) for v, _, high in entries]]


def draw_line(axis, xs, entries, colour, marker="o", beside=None, **options):
    """A line through the measured points with their intervals; a name goes beside the last point."""
    points = [(x, interval(entry)) for x, entry in zip(xs, entries, strict=True)]
    points = [(x, entry) for x, entry in points if entry and isinstance(x, Real)]
    if not points:
        return
    xs, entries = zip(*points, strict=True)
    axis.errorbar(xs, [e[0] for e in entries], errors(entries), color=colour, marker=marker, markersize=5,
                  capsize=2.5 if marker else 0, elinewidth=1.1, **options)
    if beside:
        axis.annotate(beside, (xs[-1], entries[-1][0]), xytext=(8, 0), textcoords="offset points", va="center",
                      color=colour, fontsize=9, fontweight="bold", annotation_clip=False, gid="beside a line")


def spread_names(figure, line=13.0):
    """Move the names beside lines vertically until none overlaps; the last step of a figure. line: points a line."""
    def apart(a, b):
        return line * (2 + a.get_text().count("\n") + b.get_text().count("\n")) / 2

    figure.draw_without_rendering()
    for axis in figure.axes:
        height = {note: axis.transData.transform(note.xy)[1] * 72 / figure.dpi for note in axis.texts
                  if note.get_gid() == "beside a line"}
        notes, place = sorted(height, key=height.get), -math.inf
        shift = sum(max(0, apart(a, b) - height[b] + height[a]) for a, b in zip(notes, notes[1:], strict=False)) / 2
        for below, note in zip([None, *notes], notes, strict=False):
            place = max(height[note] - shift, place + apart(below, note) if below else -math.inf)
            note.set_position((8, place - height[note]))
    return figure


def in_percent(axis, kind="share"):
    """Let the x or y axis count in per cent if it shows a share."""
    if kind == "share":
        axis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")


def name_rows(axis, names):
    """Names down the left side, the first on top, one row each."""
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.set_ylim(len(names) - 0.5, -0.7)
    axis.grid(axis="y", visible=False)


def draw_dots(axis, entries, kind, marks):
    """One row per measured name, top to bottom: a dot with its interval and the value written above it."""
    entries = {name: entry for name, entry in entries.items() if interval(entry)}
    for place, (name, entry) in enumerate(entries.items()):
        entry, mark = interval(entry), marks.get(name, "reward")
        axis.errorbar([entry[0]], [place], xerr=errors([entry]), color=COLOURS[mark], marker=MARKERS[mark],
                      markersize=6, capsize=3, linestyle="none")
        axis.annotate(written(entry[0], kind), (entry[0], place), xytext=(0, 6), textcoords="offset points",
                      ha="center", va="bottom", fontsize=8.5, color=COLOURS[mark],
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})
    name_rows(axis, list(entries))
    in_percent(axis.xaxis, kind)


def draw_level(axis, value, name="", across=False, colour=GREY):
    """A dashed line at a value with which others are compared; ``across`` draws it from left to right."""
    (axis.axhline if across else axis.axvline)(value, color=colour, linestyle="--", linewidth=1)
    if name:  # above its left end
        axis.annotate(name, (0, value), xycoords=("axes fraction", "data"), xytext=(3, 3), textcoords="offset points",
                      color=colour, fontsize=9)


def draw_calibration(axis, rows, colour=COLOURS["reward"], **options):
    """Observed against predicted shares, with the dashed line on which both are equal. rows: `reward.calibration`."""
    axis.plot([0.5, 1], [0.5, 1], color=GREY, linestyle="--", linewidth=1)
    draw_line(axis, [row["predicted"] for row in rows], [row["observed"] for row in rows], colour, **options)
    in_percent(axis.xaxis)
    in_percent(axis.yaxis)
