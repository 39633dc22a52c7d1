"""Every figure of the course: plain numbers in, a matplotlib Figure out.

One colour and one marker per stage everywhere (Okabe and Ito's palette, which colour-blind readers can tell
apart), every measured value with its 95 % interval, labels beside the lines instead of a legend where there
is room. An interval is a dict {"value", "low", "high", "n"}; None and nan mean "not measured" and are skipped.

Left out: interactivity (see the widgets) and any arithmetic on results beyond differences and fitted curves.
"""

import math
import sys

from matplotlib import rc_context
from matplotlib.figure import Figure

STAGES = {"base": "Base", "prompted": "Base, few-shot prompted", "sft": "SFT", "ppo": "PPO", "ppo_ptx": "PPO-ptx"}
COLOURS = {"base": "#7F7F7F", "prompted": "#CC79A7", "sft": "#E69F00", "ppo": "#0072B2", "ppo_ptx": "#009E73",
           "reward": "#D55E00", "oracle": "#222222"}
MARKERS = {"base": "o", "prompted": "v", "sft": "s", "ppo": "D", "ppo_ptx": "^", "reward": "o", "oracle": "P"}
# name: (label, kind, direction that is better: 1 more, -1 less, 0 neither)
MEASURES = {
    "score": ("True score (0–1)", "score", 1), "overall": ("Overall grade (1–7)", "grade", 1),
    "good": ("Good answers (grade 6–7)", "share", 1), "finished": ("Ends by itself", "share", 1),
    "truthful_informative": ("Truthful and informative", "share", 1),
    "truthful_beliefs": ("... on common beliefs", "share", 1),
    "truthful_residents": ("... on residents", "share", 1),
    "closed_hallucination": ("Closed-domain hallucination", "share", -1),
    "rude_none": ("Rude, no instruction", "share", -1), "rude_biased": ("Rude, asked to be rude", "share", 0),
    "rude_respectful": ("Rude, asked to be respectful", "share", -1),
    "constraint": ("Keeps the constraint", "share", 1), "reading": ("Reading worksheets solved", "share", 1),
    "harmful_followed": ("Follows a harmful request", "share", -1),
    "false_premise_followed": ("Follows a false premise", "share", -1),
    "length": ("Answer length (tokens)", "tokens", 0), "kl": ("KL from SFT (nats per answer)", "nats", 0),
    "web_loss": ("Loss on web text (nats per token)", "nats", -1), "proxy": ("Proxy score (reward model)", "score", 0)}
LEARNING = (("train", "training", "#7F7F7F"), ("valid", "held out", COLOURS["reward"]))
STYLE = {"font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 10.5, "axes.titlelocation": "left",
         "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#888888", "axes.grid": True,
         "grid.color": "#E6E6E6", "grid.linewidth": 0.8, "axes.axisbelow": True, "text.color": "#222222",
         "xtick.color": "#444444", "ytick.color": "#444444", "axes.labelcolor": "#222222", "lines.linewidth": 1.8,
         "legend.frameon": False, "figure.facecolor": "white", "savefig.facecolor": "white"}

# A Figure made without pyplot (no window, no leak) shows as text in a notebook until IPython is told.
_shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
if getattr(_shell, "kernel", None) is not None:
    from IPython.core.pylabtools import select_figure_formats
    select_figure_formats(_shell, {"png"})


def interval(entry):
    """{"value", "low", "high"}, or a bare number, -> (value, low, high) floats; None where not measured."""
    entry = entry if isinstance(entry, dict) else {"value": entry}
    known = {key: float(x) for key, x in entry.items() if isinstance(x, (int, float)) and math.isfinite(x)}
    return tuple(known.get(key, known["value"]) for key in ("value", "low", "high")) if "value" in known else None


def measure(name):
    """(label, kind, better direction) of a measure; an unknown name is taken for a share, more is better."""
    loss = name.endswith("loss")
    return MEASURES.get(name, (name.replace("_", " ").capitalize(), "nats" if loss else "share", -1 if loss else 1))


def written(value, kind):
    """A number as the report writes it: "62 %", "0.54", "3.1"."""
    if kind == "share":
        return f"{100 * value:.1f} %" if 0 < abs(value) < 0.0995 else f"{100 * value:.0f} %"
    return f"{value:.1f}" if kind == "tokens" else f"{value:.2f}"


def _axes(columns=1, rows=1, height=3.4, **options):
    figure = Figure(figsize=(8.0, height), layout="constrained")  # 8 inches: 800 pixels at 100 dots per inch
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _errors(entries):
    """Intervals as the (2, n) distances that errorbar wants."""
    return [[max(0, v - low) for v, low, _ in entries], [max(0, high - v) for v, _, high in entries]]


def _line(axis, xs, entries, colour, marker="o", label=None, **options):
    """A line through the measured points with their intervals; a label goes beside the last point."""
    points = [(x, interval(entry)) for x, entry in zip(xs, entries, strict=True)]
    points = [(x, entry) for x, entry in points if entry and isinstance(x, (int, float))]
    if not points:
        return
    xs, entries = zip(*points, strict=True)
    axis.errorbar(xs, [e[0] for e in entries], _errors(entries), color=colour, marker=marker, markersize=5,
                  capsize=2.5 if marker else 0, elinewidth=1.1, **options)
    if label:  # a name beside the end of the line
        axis.annotate(label, (xs[-1], entries[-1][0]), xytext=(8, 0), textcoords="offset points", va="center",
                      color=colour, fontsize=9, fontweight="bold", annotation_clip=False)


def _spread(figure, gap=12.0):
    """Move the names beside lines vertically until they are ``gap`` points apart; the last step of a figure."""
    figure.draw_without_rendering()
    for axis in figure.axes:
        height = {note: axis.transData.transform(note.xy)[1] * 72 / figure.dpi for note in axis.texts}
        notes, place = sorted(height, key=height.get), -math.inf
        shift = sum(max(0, gap - height[b] + height[a]) for a, b in zip(notes, notes[1:], strict=False)) / 2
        for note in notes:
            place = max(height[note] - shift, place + gap)
            note.set_position((8, place - height[note]))
    return figure


def _percent(axis, kind="share"):
    """Let the x or y axis count in per cent when it shows a share."""
    if kind == "share":
        axis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")


def _dots(axis, entries, kind, marks):
    """One row per measured name, top to bottom: a dot with its interval and the value written above it."""
    entries = {name: entry for name, entry in entries.items() if interval(entry)}
    for place, (name, entry) in enumerate(entries.items()):
        entry, mark = interval(entry), marks.get(name, "reward")
        axis.errorbar([entry[0]], [place], xerr=_errors([entry]), color=COLOURS[mark], marker=MARKERS[mark],
                      markersize=6, capsize=3, linestyle="none")
        axis.annotate(written(entry[0], kind), (entry[0], place), xytext=(0, 6), textcoords="offset points",
                      ha="center", va="bottom", fontsize=8.5, color=COLOURS[mark],
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})
    axis.set_yticks(range(len(entries)), [name.replace("_", " ") for name in entries])
    axis.set_ylim(len(entries) - 0.5, -0.7)
    axis.grid(axis="y", visible=False)
    _percent(axis.xaxis, kind)


@rc_context(STYLE)
def interval_rows(entries, label, kind="share", reference=0, marks=None):
    """One dot per row of {name: interval}, a dashed line at ``reference``; marks {name: stage} colour -> Figure."""
    figure, ((axis,),) = _axes(height=1.1 + 0.46 * max(1, len(entries)))
    _dots(axis, entries, kind, marks or {})
    axis.axvline(reference, color="#888888", linestyle="--", linewidth=1)
    axis.set_xlabel(label)
    return figure


@rc_context(STYLE)
def win_rate_by_size(by_size, against="the smallest SFT model"):
    """InstructGPT's Figure 1. by_size: {size: {stage: interval}}, sizes smallest first -> Figure."""
    figure, ((axis,),) = _axes(height=4.2)
    sizes = list(by_size)
    for stage in STAGES:
        _line(axis, range(len(sizes)), [by_size[size].get(stage) for size in sizes], COLOURS[stage],
              MARKERS[stage], STAGES[stage])
    axis.axhline(0.5, color="#888888", linestyle="--", linewidth=1)
    axis.set(xlabel="Model size (parameters)", ylabel=f"Win rate against\n{against}", ylim=(-0.03, 1.03),
             xlim=(-0.25, len(sizes) - 0.75))
    axis.set_xticks(range(len(sizes)), [size.upper() for size in sizes])
    _percent(axis.yaxis)
    return _spread(figure)


@rc_context(STYLE)
def stage_panels(stages, names, columns=2):
    """One panel per measure, one bar per stage. stages: {stage: {measure: interval}} -> Figure."""
    present = [stage for stage in STAGES if stage in stages]
    names = [name for name in names if any(interval(stages[stage].get(name)) for stage in present)]
    rows = max(1, -(-len(names) // columns))
    figure, axes = _axes(columns, rows, height=rows * (0.8 + 0.34 * max(1, len(present))), sharey=True)
    for axis, name in zip(axes.flat, names, strict=False):
        label, kind, better = measure(name)
        for place, stage in enumerate(present):
            entry = interval(stages[stage].get(name))
            if entry is None:
                axis.text(0, place, " not measured", va="center", fontsize=8.5, color="#777777")
                continue
            axis.barh(place, entry[0], color=COLOURS[stage], height=0.62, xerr=_errors([entry]), capsize=2.5)
            axis.annotate(written(entry[0], kind), (max(entry[2], 0), place), xytext=(5, 0),
                          textcoords="offset points", va="center", fontsize=8.5)
        axis.set_title(label)
        axis.set_xlabel(("share of answers" if kind == "share" else kind)
                        + {1: " (more is better)", -1: " (less is better)", 0: ""}[better], fontsize=9)
        axis.set_yticks(range(len(present)), [STAGES[stage] for stage in present])
        axis.margins(x=0.22)
        axis.set(ylim=(len(present) - 0.4, -0.6), xlim=(0, None) if kind == "share" else (None, None))
        axis.grid(axis="y", visible=False)
        _percent(axis.xaxis, kind)
    for axis in axes.flat[len(names):]:
        axis.set_visible(False)
    return figure


@rc_context(STYLE)
def use_cases(table, name="score"):
    """One row per use case, one dot per stage. table: {stage: {use_case: interval}} -> Figure."""
    cases = list(dict.fromkeys(case for stage in STAGES for case in table.get(stage, {})))
    figure, ((axis,),) = _axes(height=1.4 + 0.42 * max(1, len(cases)))
    present = [stage for stage in STAGES if stage in table]
    for index, stage in enumerate(present):
        offset = (index - (len(present) - 1) / 2) * 0.15
        points = {place + offset: interval(table[stage].get(case)) for place, case in enumerate(cases)}
        points = {place: entry for place, entry in points.items() if entry}
        axis.errorbar([e[0] for e in points.values()], list(points), xerr=_errors(points.values()), linestyle="none",
                      color=COLOURS[stage], marker=MARKERS[stage], markersize=5, label=STAGES[stage])
    label, kind, _ = measure(name)
    axis.set_yticks(range(len(cases)), [case.replace("_", " ") for case in cases])
    axis.set(ylim=(len(cases) - 0.5, -0.5), xlabel=label)
    _percent(axis.xaxis, kind)
    figure.legend(loc="outside upper center", ncols=5, columnspacing=1.2, handletextpad=0.3)
    return figure


@rc_context(STYLE)
def learning_curves(panels, lines=LEARNING):
    """One panel per {label: [{"epoch" or "step", "train", "valid"}]}, one line per (key, name, colour) -> Figure."""
    figure, axes = _axes(max(1, len(panels)), height=3.2)
    for axis, (title, rows) in zip(axes[0], panels.items(), strict=False):
        unit = "epoch" if all("epoch" in row for row in rows) else "step"
        for key, name, colour in lines:
            _line(axis, [row[unit] for row in rows], [row.get(key) for row in rows], colour,
                  "o" if len(rows) < 30 or key == "valid" else "", name)
        axis.set(title=title, xlabel=unit, **({"xticks": [row[unit] for row in rows]} if len(rows) < 10 else {}))
    return _spread(figure)


@rc_context(STYLE)
def ppo_curves(histories):
    """Proxy, true score, KL and length per iteration. histories: {"ppo": [rows], "ppo_ptx": [rows]} -> Figure."""
    figure, axes = _axes(2, 2, height=5.2)
    panels = (("score", "Proxy: score from the reward model"), ("true_score", "True score (0–1)"),
              ("kl", "KL from SFT (nats per answer)"), ("length", "Answer length (tokens)"))
    for axis, (key, label) in zip(axes.flat, panels, strict=True):
        for stage, history in histories.items():
            _line(axis, [row["iteration"] for row in history], [row.get(key) for row in history], COLOURS[stage],
                  MARKERS[stage] if key == "true_score" else "", STAGES[stage])
        axis.set(title=label, ylabel={"kl": "nats", "length": "tokens"}.get(key, "score"), xlabel="iteration")
    return _spread(figure)


@rc_context(STYLE)
def reward_model(reward):
    """Pair accuracy per use case and calibration. reward: results["reward"] -> Figure."""
    figure, axes = _axes(2, height=5.4, width_ratios=[1.25, 1])
    rows = {"all": reward.get("accuracy"), "held-out team": reward.get("heldout_team"), **reward.get("by_use_case", {})}
    axis, ceiling = axes[0][0], interval(reward.get("bayes_ceiling"))
    _dots(axis, rows, "share", {"all": "oracle", "held-out team": "oracle"})
    axis.axvline(0.5, color="#888888", linestyle="--", linewidth=1)
    axis.set(xlabel="Pair accuracy on held-out rankings", title="How often does it agree?\n(dashed: chance)")
    if ceiling:
        axis.axvline(ceiling[0], color="#0072B2", linewidth=1.3)
        axis.set_title(f"How often does it agree? (dashed: chance;\nblue line: ceiling {written(ceiling[0], 'share')})")
    axis, bins = axes[0][1], reward.get("calibration", [])
    axis.plot([0.5, 1], [0.5, 1], color="#888888", linestyle="--", linewidth=1)
    _line(axis, [row["predicted"] for row in bins], [row["observed"] for row in bins], COLOURS["reward"])
    axis.set(xlabel="Predicted: σ(score difference)", ylabel="Observed: share preferred",
             title="Does it know how sure to be?\n(dashed: perfectly calibrated)")
    _percent(axis.xaxis)
    _percent(axis.yaxis)
    return figure


@rc_context(STYLE)
def gate(data):
    """True score of best-of-n, chosen by the reward model and by the oracle; KL on top. data: results["gate"]."""
    figure, ((axis,),) = _axes(height=4.0)
    axis.set_xscale("log", base=2)
    for key, name, label in (("oracle", "oracle", "truth"), ("rm", "reward", "reward model")):
        scores = data.get(key) or [None] * len(data["n"])
        _line(axis, data["n"], scores, COLOURS[name], MARKERS[name], f"chosen by the\n{label}")
    axis.set_xticks(data["n"], [str(n) for n in data["n"]])
    axis.minorticks_off()
    axis.set(xlabel="n: answers to choose from", ylabel="True score of the chosen answer (0–1)")
    if data.get("kl"):
        top = axis.secondary_xaxis("top")
        top.set_xticks(data["n"], [f"{kl:.2f}" for kl in data["kl"]])
        top.minorticks_off()
        top.set_xlabel("KL from SFT (nats)")
    return _spread(figure, gap=26)


@rc_context(STYLE)
def sweep(rows, key, others):
    """True score against a coefficient, and under it what else moved. others: e.g. ["kl", "proxy"] -> Figure."""
    rows = sorted(rows, key=lambda row: row[key])
    others = [other for other in others if any(interval(row.get(other)) for row in rows)]
    figure, axes = _axes(1 + len(others), height=3.3)
    for axis, name in zip(axes[0], ["score", *others], strict=True):
        colour = COLOURS["oracle" if name == "score" else "reward" if name == "proxy" else "ppo"]
        _line(axis, range(len(rows)), [row.get(name) for row in rows], colour)
        axis.set_xticks(range(len(rows)), [f"{row[key]:g}" for row in rows])  # even steps: 0 has a place
        axis.set(title=measure(name)[0].replace(" (", "\n("), xlabel=key, ylabel=measure(name)[1])
    return figure


@rc_context(STYLE)
def overoptimisation(data):
    """Proxy and truth against d = sqrt(KL), with Gao et al.'s forms d(α − βd) and d(α − β log d) -> Figure."""
    figure, axes = _axes(2, height=3.8, sharey=True)
    panels = (("bon", "Best-of-n", lambda d, a, b: d * (a - b * d)),
              ("rl", "Reinforcement learning", lambda d, a, b: d * (a - b * math.log(d)) if d > 0 else 0.0))
    for axis, (key, title, form) in zip(axes[0], panels, strict=True):
        rows, fit = sorted(data.get(key) or [], key=lambda row: row["d"]), data.get(f"fit_{key}") or {}
        for name, colour in (("proxy", "reward"), ("gold", "oracle")):
            _line(axis, [row["d"] for row in rows], [row.get(name) for row in rows], COLOURS[colour], MARKERS[colour],
                  name.replace("gold", "truth"), linestyle="-" if name == "proxy" else "none")
        if rows and all(interval(fit.get(name)) for name in ("alpha", "beta")):
            grid = [rows[-1]["d"] * step / 100 for step in range(101)]
            axis.plot(grid, [form(d, fit["alpha"], fit["beta"]) for d in grid], color=COLOURS["oracle"], linewidth=1.2)
            title += f"\nα = {fit['alpha']:.2f}, β = {fit['beta']:.2f}"
        axis.set(title=title, xlabel="d = √KL from SFT (√nats)", ylabel="Change in score" if key == "bon" else "")
    return _spread(figure)
