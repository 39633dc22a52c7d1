"""One dot per thing that was measured: do two numbers go together?"""

import random

from matplotlib import rc_context

from rlhf_lite.plots.parts import draw_calibration, draw_level, in_percent, new_axes
from rlhf_lite.plots.style import COLOURS, GREY, MARKERS, NAMES, STYLE


@rc_context(STYLE)
def beside_the_diagonal(panels, title=""):
    """Two numbers for the same thing against each other; on the dashed line both are equal -> Figure.

    panels: [(title, xlabel, ylabel, {name: (stage, xs, ys)})]; a name of "" has no legend. Count the points above the
    line.
    """
    names = max(sum(map(bool, groups)) for *_, groups in panels)
    figure, axes = new_axes(len(panels), width=4.5 * len(panels), height=4.3 + 0.25 * names)
    for axis, (name, xlabel, ylabel, groups) in zip(axes[0], panels, strict=True):
        for group, (stage, xs, ys) in groups.items():
            axis.scatter(xs, ys, s=28, color=COLOURS[stage], marker=MARKERS[stage], label=group)
        low = min(axis.get_xlim()[0], axis.get_ylim()[0])
        high = max(axis.get_xlim()[1], axis.get_ylim()[1], 0)
        axis.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1)
        axis.set(title=name, xlabel=xlabel, ylabel=ylabel, xlim=(low, high), ylim=(low, high), aspect="equal")
        if any(groups):
            axis.legend(loc="upper left", bbox_to_anchor=(0, -0.16))  # below, where it hides no point
    figure.suptitle(title, fontsize=11)
    return figure


@rc_context(STYLE)
def calibration(models):
    """Promised and kept: {name: (stage, rows of `reward.calibration`)} -> Figure.

    On the dashed line, a model is as sure as it should be; below the line, it is too sure.
    """
    figure, ((axis,),) = new_axes(width=5.6, height=4)
    for name, (stage, rows) in models.items():
        draw_calibration(axis, rows, COLOURS[stage], marker=MARKERS[stage], label=name)
    axis.set(xlabel="promised: σ(difference of scores)", ylabel="kept: share of pairs it got right",
             title="Below the dashed line: surer than it should be", ylim=(0.3, 1.03))
    axis.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def bradley_terry(scores, pairs):
    """One score per answer, and whether their differences say what the votes said -> Figure.

    scores: [(answer, score)]. pairs: [{"predicted", "observed"}]. On the dashed line the model says exactly what the
    voters did.
    """
    figure, ((left, right),) = new_axes(2, width=9.5, height=1.2 + 0.4 * len(scores), width_ratios=[1.5, 1])
    left.barh(range(len(scores)), [score for _, score in scores], color=COLOURS["reward"], height=0.6)
    left.set_yticks(range(len(scores)), [answer for answer, _ in scores], fontsize=8)
    left.axvline(0, color=GREY, linewidth=1)
    left.set(xlabel="score (nats of log odds, mean 0)", title="Scores that explain the votes")
    left.grid(axis="y", visible=False)
    draw_calibration(right, pairs, COLOURS["ppo"], linestyle="none")
    right.set(xlabel="predicted: σ(difference of scores)", ylabel="observed share of votes",
              title=f"{len(pairs)} pairs, {len(scores)} numbers")
    return figure


@rc_context(STYLE)
def near_ties(bins, gaps):
    """How often votes go to the better answer, by how much better it is, and how often each gap comes up -> Figure.

    bins: [(mean gap, share of the votes)], gaps: every pair's. Where the bars are high and the line is low, nobody can
    be right often.
    """
    figure, axes = new_axes(rows=2, width=7, height=4.2, sharex=True, height_ratios=[2, 1])
    above, below = axes[:, 0]
    above.plot(*zip(*bins, strict=True), marker="o", color=COLOURS["reward"])
    draw_level(above, 0.5, across=True)
    above.set(ylabel="votes for the\nbetter answer", ylim=(0.45, 1.03), title="Near-ties are coin flips")
    in_percent(above.yaxis)
    below.hist(gaps, bins=40, color=COLOURS["base"])
    below.set(xlabel="how much better the team finds it on average (utility)", ylabel="pairs")
    return figure


@rc_context(STYLE)
def length_control(panels, xlabel):
    """Preference against extra length, and where a straight line meets equal length (the diamond) -> Figure.

    panels: {title: (extra tokens, preferences, slope, preference at equal length)}. Read the height of the diamond, not
    the mean of the dots.
    """
    figure, axes = new_axes(len(panels), width=4.25 * len(panels), height=3.3, sharey=True)
    jitter = random.Random(0)
    for axis, (title, (extra, preferred, slope, controlled)) in zip(axes[0], panels.items(), strict=True):
        axis.scatter(extra, [share + jitter.gauss(0, 0.015) for share in preferred], s=9, alpha=0.4,
                     color=COLOURS["ppo"])
        ends = [min(extra), max(extra)]
        axis.plot(ends, [controlled + slope * end for end in ends], color=COLOURS["oracle"])
        axis.plot(0, controlled, marker="D", color=COLOURS["reward"], markersize=8)
        axis.set(title=title, xlabel=xlabel, ylim=(-0.08, 1.08))
    axes[0][0].set_ylabel("share of the team for PPO")
    return figure


@rc_context(STYLE)
def length_and_reward(answers, mean_lengths, limit):
    """Left: every answer's length and score; right: the mean length during training -> Figure.

    answers: {stage: (lengths, scores)}; mean_lengths: {iteration: tokens}. See whether the right end of the left cloud
    stands higher, and whether training moved there.
    """
    figure, ((left, right),) = new_axes(2, width=9, height=3.4)
    jitter = random.Random(0)
    for stage, (lengths, scores) in answers.items():
        left.scatter([length + jitter.uniform(-0.4, 0.4) for length in lengths], scores, s=14, alpha=0.6,
                     color=COLOURS[stage], marker=MARKERS[stage], label=NAMES[stage])
    left.set(xlabel="tokens of the answer", ylabel="proxy", title="Length and reward")
    left.legend()
    right.plot(list(mean_lengths), list(mean_lengths.values()), color=COLOURS["ppo"], marker=MARKERS["ppo"])
    right.set(xlabel="iteration", ylabel="tokens", title="Mean length as PPO goes on", ylim=(0, limit))
    right.xaxis.get_major_locator().set_params(integer=True)
    return figure
