"""Lines: what training changes from step to step, what one number does to another, what more data buys."""

from matplotlib import rc_context

from rlhf_lite.plots.parts import draw_level, draw_line, errors, in_percent, new_axes, spread_names
from rlhf_lite.plots.style import COLOURS, MARKERS, MEASURES, NAMES, STYLE, interval, written

LEARNING = (("train", "training", "#7F7F7F"), ("valid", "held out", COLOURS["reward"]))
PPO = {"score": "Proxy: score from the reward model", "true_score": MEASURES["score"][0], "kl": MEASURES["kl"][0],
       "length": MEASURES["length"][0]}
UNITS = {"kl": "nats", "web_loss": "nats per token", "length": "tokens"}  # all else is a score
LOOKS = (("ppo", "-"), ("reward", "--"), ("ppo_ptx", "-."), ("sft", ":"))  # colour, and how matplotlib draws it


@rc_context(STYLE)
def learning_curves(panels, lines=LEARNING, levels=None, same_scale=False):
    """One panel per {label: [{"epoch", "step" or "iteration", "train", "valid"}]} -> Figure.

    lines: (key, name, colour) of each line. levels: {label: (value, name)}, a dashed line in that panel. same_scale:
    compare heights across panels. See which line turns, and when.
    """
    figure, axes = new_axes(max(1, len(panels)), height=3.2, width=8 if len(panels) < 3 else 11, sharey=same_scale)
    for axis, (title, rows) in zip(axes[0], panels.items(), strict=False):
        unit = next((unit for unit in ("epoch", "iteration") if all(unit in row for row in rows)), "step")
        for key, name, colour in lines:
            draw_line(axis, [row[unit] for row in rows], [row.get(key) for row in rows], colour,
                      "o" if len(rows) < 30 or key == "valid" else "", name)
        if title in (levels or {}):
            draw_level(axis, *levels[title], across=True)
        axis.set(title=title, xlabel=unit, **({"xticks": [row[unit] for row in rows]} if len(rows) < 10 else {}))
    return spread_names(figure)


def ppo_curves(histories):
    """Proxy, true score, KL and length per iteration. histories: {"ppo": [rows], "ppo_ptx": [rows]} -> Figure."""
    return training_curves(histories, PPO)


@rc_context(STYLE)
def training_curves(histories, panels, levels=None):
    """One panel per measure, one line per run -> Figure.

    histories: {stage: [{"iteration", measure: number or interval}]}. panels: {measure: title}, one to four. levels:
    {measure: (value, name)}, a dashed line in that panel. See what rises together, and what turns.
    """
    columns = 2 if len(panels) == 4 else len(panels)
    figure, axes = new_axes(columns, len(panels) // columns, height=5.2 if len(panels) == 4 else 3.2,
                            width=(7, 8, 11)[columns - 1])
    for axis, (key, title) in zip(axes.flat, panels.items(), strict=True):
        for stage, rows in histories.items():
            rows = [row for row in rows if interval(row.get(key))]
            draw_line(axis, [row["iteration"] for row in rows], [row[key] for row in rows], COLOURS[stage],
                      MARKERS[stage] if len(rows) < 30 else "", NAMES[stage])
        if key in (levels or {}):
            draw_level(axis, *levels[key], across=True)
        axis.set(title=title, xlabel="iteration", ylabel=UNITS.get(key, "score"))
        axis.xaxis.get_major_locator().set_params(integer=True)
    return spread_names(figure)


@rc_context(STYLE)
def lines(panels, xlabel, ylabel="", looks=None, xticks=None, size=None, **options):
    """Any lines: {title: {name: (xs, ys)}}, one panel per title -> Figure.

    looks: {name: (colour, "-", "--", "o" ...)}; without it, the lines differ by colour and dashes. xlabel and ylabel:
    one for all panels, or a list. size: (width, height) in inches. options: xlim, ylim, xscale, yscale.
    """
    width, height = size or (4.5 * len(panels) if len(panels) > 1 else 7, 3.2)
    figure, axes = new_axes(len(panels), height=height, width=width)
    for index, (axis, (title, named)) in enumerate(zip(axes[0], panels.items(), strict=True)):
        for number, (name, (xs, ys)) in enumerate(named.items()):
            colour, look = (looks or {}).get(name, LOOKS[number % len(LOOKS)])
            axis.plot(xs, ys, look, color=COLOURS[colour], label=name)
        axis.set(title=title, xlabel=xlabel if isinstance(xlabel, str) else xlabel[index],
                 ylabel=ylabel if isinstance(ylabel, str) else ylabel[index], **options)
        _ticks(axis, xticks)
    max(axes[0], key=lambda axis: len(axis.lines)).legend()
    return figure


@rc_context(STYLE)
def what_data_buy(scores, xlabel, ylabel, kind="score", levels=None, xscale="linear", title=""):
    """One score per number of examples, written above its point -> Figure.

    scores: {name of a line: {number of examples: score or interval}}.
    levels: {name: score}, one dashed line each. Read the slope: what would the next hundred examples bring?
    """
    figure, ((axis,),) = new_axes(height=3.4, width=7)
    for (name, points), stage in zip(scores.items(), ("reward", "oracle"), strict=False):
        found = {number: interval(score) for number, score in points.items()}
        axis.errorbar(list(found), [value for value, _, _ in found.values()], errors(list(found.values())),
                      color=COLOURS[stage], marker=MARKERS[stage], markersize=7, linewidth=0.6, elinewidth=1.1)
        for number, (score, _, high) in found.items():
            axis.annotate(f"{name} {written(score, kind)}".strip(), (number, high), xytext=(0, 8), ha="center",
                          textcoords="offset points", fontsize=9)
    for name, level in (levels or {}).items():
        draw_level(axis, level, f"{name} {written(level, kind)}", across=True)
    known = [end for points in scores.values() for score in points.values() for end in interval(score)]
    known += list((levels or {}).values())
    low, high = (0, max(known)) if kind == "score" else (min(known), max(known))
    axis.set(xscale=xscale, xlabel=xlabel, ylabel=ylabel, title=title, ylim=(low, high + (0.2 * (high - low) or 0.1)))
    axis.margins(x=0.12)
    if xscale == "log":  # the numbers themselves, not powers of ten
        _ticks(axis, sorted({number for points in scores.values() for number in points}))
    in_percent(axis.yaxis, kind)
    return figure


@rc_context(STYLE)
def gradient_agreement(cosines, marks, xlabel):
    """Does a batch know which way is up? -> Figure.

    cosines: {name: {batch size: interval of the cosine of its gradient with the exact one}}. marks: {name: stage}.
    The nearer to 1, the better; see what a small batch gains from its critic or baseline.
    """
    figure, ((axis,),) = new_axes(height=3.3)
    for name, found in cosines.items():
        draw_line(axis, list(found), list(found.values()), COLOURS[marks[name]], MARKERS[marks[name]], label=name)
    axis.set(xscale="log", xlabel=xlabel, ylabel="cosine with the exact gradient", ylim=(None, 1.03),
             title="Does a batch know which way is up?")
    _ticks(axis, sorted({n for found in cosines.values() for n in found}))
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _ticks(axis, places):
    if places is not None:  # the numbers that were tried, and no others
        axis.set_xticks(places, [f"{place:g}" for place in places])
        axis.minorticks_off()
