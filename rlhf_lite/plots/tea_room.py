"""The tiny world in which everything is exact: the best policy, the path to it, and what clipping leaves of a step."""

from matplotlib import rc_context

from rlhf_lite.plots.parts import new_axes
from rlhf_lite.plots.style import COLOURS, STYLE


@rc_context(STYLE)
def exact_run(path, best_value, responses, kl_coef):
    """A training run whose goal is known: value, distance to the best policy, and every response -> Figure.

    path: [{"iteration", "value", "distance"}]. responses: (score, log π − log π_ref, probability) of each. At the
    optimum, the left line has met the dashed one, the middle one is at 0, and all dots are on a line with slope 1/β.
    """
    figure, ((value, distance, dots),) = new_axes(3, width=11, height=3.4)
    iterations = [row["iteration"] for row in path]
    value.plot(iterations, [row["value"] for row in path], color=COLOURS["ppo"])
    value.axhline(best_value, color=COLOURS["oracle"], linestyle="--")
    value.set(xlabel="iteration", ylabel="mean score − β · KL", title="Value (dashed: the best possible)")
    distance.plot(iterations, [row["distance"] for row in path], color=COLOURS["ppo"])
    distance.set(xlabel="iteration", ylabel="total variation", ylim=(0, None), title="Distance to the best policy")
    scores, moved, likely = (list(map(float, column)) for column in zip(*responses, strict=True))
    ends = [min(scores), max(scores)]
    dots.plot(ends, [(end - best_value) / kl_coef for end in ends], color=COLOURS["oracle"], linestyle="--",
              linewidth=1)
    dots.scatter(scores, moved, s=[4 + 500 * share for share in likely], alpha=0.5, color=COLOURS["ppo"])
    dots.set(xlabel="score", ylabel="log π − log π_ref (nats)", ylim=(-8, 4), title="Every response (large: likely)")
    return figure


@rc_context(STYLE)
def frontier(best, way, prices):
    """The map of what a nat buys: the best policies, and the path that training took -> Figure.

    best and way: [(KL, mean score)]; prices: {β: (KL, mean score)}, marked on the line. No policy lies above the line.
    """
    figure, ((axis,),) = new_axes(width=7, height=3.6)
    axis.plot(*zip(*best, strict=True), color=COLOURS["oracle"], label="best at every price")
    axis.plot(*zip(*way, strict=True), marker=".", color=COLOURS["ppo"], label="PPO's way")
    for price, place in prices.items():
        axis.plot(*place, marker="o", color=COLOURS["oracle"])
        axis.annotate(f"β = {price:g}", place, textcoords="offset points", xytext=(-4, 7), ha="right", fontsize=9)
    axis.set(xlabel="KL from the reference (nats)", ylabel="mean score", title="The map: what a nat buys",
             xlim=(-0.6, None))
    axis.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def clipped_loss(ratios, losses, clip_range=0.2):
    """PPO's loss for one token against its ratio, for a good and a bad token. losses: {advantage: list} -> Figure.

    The ratio may move within the grey band; a step begins at the dot. Where the line is flat, there is no gradient.
    """
    figure, axes = new_axes(2, width=9, height=2.8)
    for axis, (advantage, line) in zip(axes[0], losses.items(), strict=True):
        axis.plot(ratios, line, color=COLOURS["ppo"])
        axis.axvspan(1 - clip_range, 1 + clip_range, color=COLOURS["base"], alpha=0.15)
        axis.plot([1], [-advantage], marker="o", color=COLOURS["oracle"])
        axis.set(xlabel="ratio new / old", ylabel="loss",
                 title=f"A {'good' if advantage > 0 else 'bad'} token (A = {advantage:+g})".replace("-", "−"))
    return figure


@rc_context(STYLE)
def goodhart(policies, best_of_n, summit):
    """Proxy and truth of policies that are better and better for the proxy, by distance -> Figure.

    policies and best_of_n: [(√KL, proxy, truth)]; summit: (√KL, truth, what to write there). The left line only rises;
    find where the right one turns.
    """
    figure, axes = new_axes(2, width=9, height=3.6, sharex=True)
    titles = "What is measured: the proxy", "What is meant: the truth"
    for axis, column, title in zip(axes[0], (1, 2), titles, strict=True):
        axis.plot([row[0] for row in policies], [row[column] for row in policies], color=COLOURS["ppo"],
                  label="π*, cheaper and cheaper")
        axis.plot([row[0] for row in best_of_n], [row[column] for row in best_of_n], color=COLOURS["sft"], marker="s",
                  linestyle=":", label="best of 1, 2, 4, ...")
        axis.set(xlabel="d = √KL from the reference (√nats)", ylabel="mean score", title=title, ylim=(0, None))
    axes[0][0].legend(loc="upper left")
    axes[0][1].annotate(summit[2], summit[:2], xytext=(-18, -34), textcoords="offset points", color=COLOURS["ppo"],
                        arrowprops={"arrowstyle": "->"})
    return figure
