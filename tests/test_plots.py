"""Every figure is a Figure with labelled axes, whatever is missing from the numbers."""

import io
import itertools
import math
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy
import pytest
from matplotlib.figure import Figure

from rlhf_lite import plots
from rlhf_lite.plots import STAGES
from rlhf_lite.stats import Interval


def near(value, half=0.03, n=300):
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def example():
    """Made-up results of a whole run, in the form that the evaluation writes."""
    cases = ["generation", "open_qa", "brainstorming", "chat", "rewrite", "summarization", "classification", "other",
             "closed_qa", "extract"]
    quality = dict(zip(STAGES, (0.12, 0.3, 0.58, 0.65, 0.66), strict=True))
    stages = {stage: {
        "score": near(q), "overall": near(1 + 6 * q), "good": near(q ** 1.5), "truthful_informative": near(q * 0.9),
        "closed_hallucination": near(0.9 - q * 0.8), "rude_none": near(0.3 - q * 0.1),
        "rude_respectful": near(0.28 - q * 0.3), "rude_biased": near(0.5), "constraint": near(q),
        "harmful_followed": near(0.6 - q / 3), "finished": near(q ** 0.2),
        "false_premise_followed": near(0.7), "length": near(20 + 10 * q, 1),
        "kl": None if stage in ("base", "prompted") else near(2 * q)} for stage, q in quality.items()}
    d = [0, 0.3, 0.6, 0.9, 1.2, 1.6]
    return {
        "name": "Example <run>", "created": "2026-01-01", "command": "python -m rlhf_lite run",
        "versions": {"torch": "2"},
        "device": "cpu", "size": "1.3m", "seeds": [0, 1, 2], "minutes": {"sft": 0.9}, "peak_memory_gib": 2.1,
        "headline": [
            {"id": 1, "claim": "1.3M PPO-ptx preferred to the 6M base", "paper": "1.3B preferred to 175B GPT-3",
             "target": "> 50 %", "ours": 0.83, "low": 0.79, "high": 0.87, "unit": "share", "n": 300, "seeds": 3,
             "met": True, "note": "", "parts": [{"name": "ppo_ptx over base, bare", **near(0.83)}]},
            {"id": "5a", "claim": "truthful | informative", "paper": "2 ×", "target": "≥ 2", "ours": 1.4, "low": 1.2,
             "high": 1.6, "unit": "ratio", "n": 300, "seeds": 3, "met": False, "note": "closed-book facts <hard>"},
            {"id": 10, "claim": "the sweep", "paper": "", "target": "interior", "ours": None, "low": None, "high": None,
             "unit": "share", "n": 0, "seeds": 1, "met": None, "note": "not made", "parts": []},
            {"id": 12, "claim": "false premises", "paper": "", "target": "", "ours": 0.7, "low": 0.67, "high": 0.73,
             "unit": "share", "n": 300, "seeds": 1, "met": None, "note": None,
             "parts": [{"name": "false_premise_followed", **near(0.7)}, {"name": "length", **near(23.2)}]}],
        "stages": stages,
        "win_rates": [{"a": "ppo", "b": "sft", **near(0.6), "judge": "simulated labelers"},
                      {"a": "ppo_ptx", "b": "prompted", **near(0.5), "judge": "simulated labelers"}],
        "win_rates_at_best": [{"a": "ppo", "b": "sft", **near(0.55), "judge": "simulated labelers"}],
        "temperatures": {stage: {"best": 0.3, "curve": [{"temperature": t, **near(q - t / 5)} for t in (0.0, 0.3, 1.0)]}
                         for stage, q in quality.items()},
        "by_size": {size: {stage: near(min(0.95, q * scale)) for stage, q in quality.items()}
                    for size, scale in (("1.3m", 0.86), ("6m", 1.05))},
        "use_cases": {stage: {case: near(q + 0.01 * i) for i, case in enumerate(cases)}
                      for stage, q in quality.items()},
        "reward": {"accuracy": near(0.76), "heldout_team": near(0.72), "bayes_ceiling": 0.83, "ece": 0.031,
                   "by_use_case": {case: near(0.6 + 0.02 * i) for i, case in enumerate(cases)},
                   "pairs": 900,
                   "calibration": [{"predicted": p, "observed": p - 0.02, "n": 50} for p in (0.55, 0.65, 0.8, 0.95)]},
        "pairs": {"kwise": [0.66, 0.7, 0.71], "kwise_loss": [0.62, 0.59, 0.58],
                  "shuffled": [0.68, 0.69, 0.66], "shuffled_loss": [0.6, 0.63, 0.72]},
        "gate": {"n": [1, 2, 4, 8, 16], "rm": [near(v) for v in (0.5, 0.55, 0.6, 0.62, 0.61)],
                 "oracle": [near(v) for v in (0.5, 0.62, 0.7, 0.78, 0.83)], "proxy": [0, 0.4, 0.7, 1, 1.2],
                 "kl": [math.log(n) - (n - 1) / n for n in (1, 2, 4, 8, 16)], "gain_at_8": near(0.12),
                 "open": True},
        "tax": {stage: {"web_loss": near(2.3 + i / 20, 0.01), "reading": near(0.5 - i / 20)}
                for i, stage in enumerate(("base", "sft", "ppo_ptx", "ppo"))},
        "kl_sweep": [{"kl_coef": b, "score": near(s), "proxy": p, "kl": k} for b, s, p, k in (
            (0, 0.3, 2.5, 30), (0.02, 0.6, 1.2, 4), (0.1, 0.67, 0.8, 1), (2, 0.55, 0.1, 0.02))],
        "ptx_sweep": [{"ptx_coef": c, "score": near(0.65 - c / 20), "proxy": 1.0, "kl": 2.0, "web_loss": 2.5 - c / 10}
                      for c in (0, 0.3, 1)],
        "overoptimisation": {
            "bon": [{"d": x, "gold": x * (0.4 - 0.15 * x), "proxy": x * 0.5} for x in d],
            "fit_bon": {"alpha": 0.4, "beta": 0.15},
            "rl": [{"d": 3 * x, "gold": 3 * x * (0.15 - 0.1 * math.log(3 * x)) if x else 0, "proxy": x} for x in d],
            "fit_rl": {"alpha": 0.15, "beta": 0.1}}}


def ppo_history(shift=0.0):
    return [{"iteration": i + 1, "score": 0.03 * i - shift, "kl": 0.05 * i, "length": 20 + 0.1 * i,
             **({"true_score": near(0.55 + 0.003 * i - shift)} if i % 10 == 9 else {})} for i in range(60)]


def figures(results):
    yield plots.win_rate_by_size(results["by_size"])
    yield plots.stage_panels(results["stages"], ["score", "good", "kl", "false_premise_followed", "new_measure"])
    yield plots.use_cases(results["use_cases"])
    yield plots.interval_rows(results["tax"]["sft"], "share", "score", 0)
    yield plots.learning_curves({"Loss": [{"epoch": e, "train": 0.6 - e / 20, "valid": 0.6} for e in (1, 2, 3)]})
    yield plots.ppo_curves({"ppo": ppo_history(), "ppo_ptx": ppo_history(0.01)})
    yield plots.reward_model(results["reward"])
    yield plots.gate(results["gate"])
    yield plots.temperatures(results["temperatures"])
    yield plots.sweep(results["kl_sweep"], "kl_coef", ["proxy", "kl"])
    yield plots.overoptimisation(results["overoptimisation"])


def test_every_figure_has_labelled_axes():
    for figure in figures(example()):
        assert isinstance(figure, Figure)
        for axis in figure.axes:
            if axis.get_visible():
                assert axis.get_xlabel(), f"an axis of {figure} has no x label"
                assert axis.get_ylabel() or axis.get_title(loc="left") or axis.get_yticklabels()


def test_missing_numbers_leave_gaps():
    nothing = {"value": math.nan, "low": None, "high": None}
    for figure in (plots.stage_panels({"sft": {"score": nothing}, "ppo": {}}, ["score"]),
                   plots.win_rate_by_size({"1.3m": {"sft": nothing, "ppo": near(0.5)}, "6m": {}}),
                   plots.interval_rows({"a": nothing}, "share"), plots.reward_model({}), plots.overoptimisation({}),
                   plots.ppo_curves({"ppo": [{"iteration": 1, "score": 0.1}]}), plots.learning_curves({}),
                   plots.use_cases({"sft": {"chat": None}}), plots.gate({"n": [1, 2], "rm": [0.1, 0.2]})):
        figure.draw_without_rendering()


def test_names_beside_lines_do_not_collide():
    figure = plots.win_rate_by_size({"1.3m": {s: near(0.5) for s in STAGES}, "6m": {s: near(0.5) for s in STAGES}})
    boxes = sorted(text.get_window_extent().y0 for text in figure.axes[0].texts)
    assert min(b - a for a, b in zip(boxes, boxes[1:], strict=False)) > 11 * figure.dpi / 72


def test_one_colour_and_marker_per_stage():
    assert set(STAGES) < set(plots.COLOURS) and set(STAGES) < set(plots.MARKERS)
    assert len({plots.COLOURS[stage] for stage in STAGES}) == len({plots.MARKERS[stage] for stage in STAGES}) == 5


def test_style_does_not_leak():
    import matplotlib
    before = dict(matplotlib.rcParams)
    plots.gate(example()["gate"])
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("value, kind, text", [(0.616, "share", "62 %"), (0.031, "share", "3.1 %"),
                                               (0.0, "share", "0 %"),
                                               (0.541, "score", "0.54"), (23.04, "tokens", "23.0")])
def test_written(value, kind, text):
    assert plots.written(value, kind) == text


def test_interval_reads_every_form():
    assert plots.interval(0.5) == (0.5, 0.5, 0.5) and plots.interval(near(0.5, 0.25)) == (0.5, 0.25, 0.75)
    assert plots.interval({"value": 1, "low": None, "high": math.nan}) == (1, 1, 1)
    assert plots.interval(Interval(0.5, 0.25, 0.75, 9)) == (0.5, 0.25, 0.75)
    assert plots.interval(numpy.float32(2)) == (2, 2, 2)
    assert plots.interval(None) is None and plots.interval(math.nan) is None and plots.interval({}) is None


def test_measure_of_an_unknown_name():
    assert plots.measure("drill_loss") == ("Drill loss", "nats", -1) and plots.measure("reading")[1:] == ("share", 1)


# ---------------------------------------------------------------- the figures of the notebooks

def small_figures():
    """Every figure that only a notebook draws, from a handful of numbers."""
    runs = [{"iteration": i, "proxy": near(0.1 * i), "kl": 0.5 * i} for i in range(5)]
    yield plots.training_curves({"ppo": runs, "rloo": runs[:3]}, {"proxy": "Proxy", "kl": "KL"},
                                {"proxy": (0.2, "SFT")})
    yield plots.lines({"Left": {"a": ([1, 2, 4], [3, 2, 1]), "b": ([1, 2, 4], [1, 1, 2])},
                       "Right": {"a": ([1, 2], [0, 1])}}, ["n", "m"], "nats", xscale="log", xticks=[1, 2, 4])
    yield plots.what_data_buy({"yours": {10: 0.55, 100: 0.6}, "shipped": {9000: 0.7}}, "rankings", "accuracy",
                              kind="share", levels={"a coin": 0.5, "ceiling": 0.8}, xscale="log")
    yield plots.gradient_agreement({"critic": {8: near(0.7), 32: near(0.9)}, "none": {8: near(0.4), 32: near(0.8)}},
                                   {"critic": "ppo", "none": "sft"}, "answers in the batch")
    yield plots.bars({"paper": {"chat": 8.4, "open_qa": 12.4}, "ours": {"chat": 9.2}}, "share (%)", "Title", "{:.1f}")
    yield plots.stacked({"base": {"good": 0.25, "bad": 0.75}, "ppo": {"good": 0.95, "bad": 0.05}},
                        {"good": "#0072B2", "bad": "#E69F00"}, "share")
    yield plots.strips({"chat": [3, 4, 9], "extract": [2, 2]}, "tokens", limit=8)
    yield plots.stage_rows({"sft": {"asked": near(0.2)}, "ppo": {"asked": near(0.1), "not asked": near(0.3)}}, "share")
    yield plots.matrix([[math.nan, 0.25], [0.75, math.nan]], ["a", "b"], ["a", "b"], "Win rates", "share of votes")
    yield plots.labeler_agreement([[71.0, 66.0], [66.0, 75.0]], ["Tess", "Omar"], 1)
    yield plots.token_rows({"reward": [0.0, -0.5], "value": [2.0, 1.0]}, ["Dear", "END"], "An answer", own_scale=True)
    yield plots.token_strips({"good": (["a", "END"], [0.1, 2.0]), "bad": (["b"], [-1.0])}, "score so far")
    yield plots.beside_the_diagonal([("Truth or myth?", "truth", "myth", {"": ("reward", [-1, -2], [-2, -1])})])
    yield plots.calibration({"shipped": ("oracle", [{"predicted": 0.6, "observed": 0.62}]), "yours": ("reward", [])})
    yield plots.bradley_terry([("bad", -0.5), ("good", 0.5)], [{"predicted": 0.73, "observed": 0.7}])
    yield plots.near_ties([(0.01, 0.5), (0.3, 0.9)], [0.01, 0.02, 0.3])
    yield plots.length_control({"PPO over SFT": ([-5, 0, 5], [0.4, 0.5, 0.7], 0.03, 0.53)}, "extra tokens")
    yield plots.length_and_reward({"sft": ([5, 9], [0.1, 0.3]), "ppo": ([12, 14], [1.0, 1.2])}, {0: 7.0, 10: 13.0}, 40)
    yield plots.ladder({"Score": ("true score", "score", {"base": near(0.1), "sft": near(0.5)}),
                        "Votes": ("preferred to SFT", "share", {"base": near(0.2), "sft": 0.5})})
    yield plots.methods({"sft": {"true": near(0.5), "kl": 0}, "dpo": {"true": near(0.6), "kl": near(1.5)},
                         "ppo": {"true": near(0.62), "kl": near(2)}}, {"dpo": 0.5, "ppo": 2.0},
                        {"dpo": (16, 4), "ppo": (32, 8)})
    shares = {"base": near(0.2), "sft": near(0.25), "ppo": near(0.3)}
    yield plots.out_of_town({"reward": [(0, 0), (2, near(1))], "oracle": [(0, 0), (2, near(-0.1))]},
                            {"PPO over SFT, reward model": near(0.7), "PPO over SFT, second judge": near(0.5)},
                            {"mc1": shares, "mc2": shares}, {"mc1": 0.25, "mc2": 0.4},
                            {"base": (0, 3.0), "sft": (near(0.1), 3.1), "ppo": (near(0.2), 3.2)})
    yield plots.exact_run([{"iteration": i, "value": 0.1 * i, "distance": 1 - 0.3 * i} for i in range(3)], 0.4,
                          [(1.0, 0.5, 0.9), (-1.0, -2.0, 0.1)], 0.5)
    yield plots.frontier([(0, 0), (1, 1), (3, 1.5)], [(0, 0), (0.8, 0.7)], {0.5: (1, 1)})
    yield plots.clipped_loss([0.5, 1.0, 1.5], {1.0: [-0.5, -1.0, -1.2], -1.0: [0.8, 1.0, 1.5]})
    yield plots.goodhart([(0, 0.2, 0.4), (1, 0.8, 0.7), (2, 1.5, 0.1)], [(0, 0.2, 0.4)], (1, 0.7, "kl_coef 0.18"))


def test_every_figure_of_the_notebooks_can_be_read():
    drawn = list(small_figures())
    for figure in drawn:
        assert isinstance(figure, Figure)
        figure.draw_without_rendering()
        for axis in figure.axes:
            assert axis.get_xlabel() or axis.get_ylabel() or axis.get_title(loc="left"), "an axis without a word"
    assert not plt.get_fignums()  # pyplot knows none of them, so nobody has to close them


def test_the_diagrams_of_ppo_are_whole_and_can_be_heard():
    drawings = {"who": plots.who_holds_what(), "empty": plots.gae_timeline([-0.1, 0.1, 1.0], [0.2, 0.5, 0.4], lam=0.5),
                "filled": plots.gae_timeline([-0.1, 0.1, 1.0], [0.2, 0.5, 0.4], [0.35, 0.3, 0.6], lam=0.5),
                "long": plots.gae_timeline([0.0] * 12, [0.1] * 12, [-0.1] * 12, [f"w{t}" for t in range(12)])}
    for name, drawing in drawings.items():
        svg = ElementTree.fromstring(drawing.data)  # well-formed, so text by models is escaped
        assert len(svg.get("aria-label")) > 60 and "background:#fff" in svg.get("style"), name
        width = float(svg.get("viewBox").split()[2])
        for box in svg.iter("rect"):
            assert 0 <= float(box.get("x")) and float(box.get("x")) + float(box.get("width")) <= width, name
    written = {name: " ".join(ElementTree.fromstring(d.data).itertext()) for name, d in drawings.items()}
    assert written["empty"].count("?") == 6 and "?" not in written["filled"]
    assert "+0.35" in written["filled"] and written["filled"].count("+0.20") == 1  # the surprise behind 0.35


def test_a_timeline_shows_where_a_wrong_number_comes_from():
    """The surprises are worked out from the advantages: whoever forgot to add the later ones sees it."""
    wrong = " ".join(ElementTree.fromstring(plots.gae_timeline(
        [-0.1, 0.1, 1.0], [0.2, 0.5, 0.4], [0.2, 0.0, 0.6], lam=0.5).data).itertext())
    assert "−0.30" in wrong  # 0.0 − 0.5 · 0.6: no such surprise


def test_every_function_says_what_there_is_to_see():
    for name in plots.__all__:
        if callable(getattr(plots, name)):
            assert len(getattr(plots, name).__doc__) > 40, name


def words(axis):
    return [text.get_text() for text in axis.texts]


def test_interval_rows_with_the_best_that_was_possible():
    entries = {"a": near(0.6), "b": None, "c": near(0.7)}
    axis = plots.interval_rows(entries, "accuracy", tops={"c": 0.8}, title="Where").axes[0]
    assert axis.get_title(loc="left") == "Where" and [tick.get_text() for tick in axis.get_yticklabels()] == ["a", "c"]
    bars = [line for line in axis.lines if line.get_marker() == "|" and line.get_markersize() == 16]
    assert [tuple(map(tuple, bar.get_xydata())) for bar in bars] == [((0.8, 1.0),)]  # in the row of c


def test_bars_stand_side_by_side():
    axis = plots.bars({"paper": {"chat": 8.4, "qa": 12.4}, "ours": {"chat": 9.2}}, "share", number="{:.1f}").axes[0]
    assert [bar.get_width() for bar in axis.patches] == [8.4, 12.4, 9.2, 0]
    places = [bar.get_y() for bar in axis.patches]
    assert places[0] < places[2] < places[1] < places[3] and "12.4" in words(axis)


def test_stacked_bars_fill_the_row():
    shares = {"a": {"good": 0.25, "bad": 0.75}, "b": {"good": 0.96, "bad": 0.04}}
    axis = plots.stacked(shares, {"good": "#0072B2", "bad": "#E69F00"}, "share").axes[0]
    assert [bar.get_x() for bar in axis.patches] == [0, 0, 0.25, 0.96]
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([0.25, 0.96, 0.75, 0.04])
    assert words(axis) == ["25", "96", "75", ""]  # 4 % have no room
    assert [text.get_color() for text in axis.texts[:3]] == ["white", "white", "black"]


def test_strips_show_every_value_and_the_median():
    axis = plots.strips({"chat": [3, 4, 9], "extract": [2, 2]}, "tokens", limit=8).axes[0]
    assert [sorted(dots.get_offsets()[:, 0]) for dots in axis.collections] == [[3, 4, 9], [2, 2]]
    assert [line.get_xdata()[0] for line in axis.lines] == [4, 2, 8]


def test_a_matrix_is_written_out_and_can_be_read():
    values = [[math.nan, 0.05], [0.951, -0.001]]
    axis = plots.matrix(values, ["a", "b"], ["a", "b"], "", "share", shades=("Greys", 0, 1)).axes[0]
    assert words(axis) == ["–", "0.05", "0.95", "0.00"]
    assert [text.get_color() for text in axis.texts] == ["black", "black", "white", "black"]


def test_a_labeler_meets_itself_on_the_diagonal():
    axis = plots.labeler_agreement([[71.2, 66.0], [66.0, 74.9]], ["Tess", "Rafa"], 1).axes[0]
    assert words(axis) == ["71", "66", "66", "75"] and axis.images[0].get_clim() == (66, 75)
    assert [text.get_fontweight() for text in axis.texts] == ["bold", "normal", "normal", "bold"]
    assert axis.lines[0].get_ydata()[0] == 0.5  # between the teams


def test_token_rows_have_scales_of_their_own():
    axis = plots.token_rows({"reward": [0.0, -0.5], "value": [2.0, 1.0]}, ["a", "END"], "t", own_scale=True).axes[0]
    assert axis.images[0].get_array().tolist() == [[0, -1], [1, 0.5]]
    assert words(axis) == ["0.00", "−0.50", "2.00", "1.00"]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["a", "END"]
    axis = plots.token_rows({"base": [0.5, 7.0]}, ["a", "END"], "t").axes[0]
    assert axis.images[0].get_clim() == (0, 8) and words(axis) == ["0.5", "7.0"]


def test_token_strips_share_a_scale():
    figure = plots.token_strips({"good": (["a"], [2.0]), "bad": (["b"], [-1.0])}, "score")
    assert [axis.images[0].get_clim() for axis in figure.axes[:2]] == [(-2, 2), (-2, 2)]


def test_training_curves_of_several_runs():
    rows = [{"iteration": i, "kl": 0.1 * i, "proxy": near(0.2) if i % 2 else None} for i in range(6)]
    proxy, kl = plots.training_curves({"ppo": rows, "dpo": rows[:2]}, {"proxy": "Proxy", "kl": "KL"},
                                      {"kl": (0.3, "target")}).axes
    assert words(proxy) == ["PPO", "DPO"] and words(kl) == ["PPO", "DPO", "target"]
    measured = [line for line in proxy.lines if line.get_linestyle() == "-"]
    assert measured[0].get_xdata().tolist() == [1, 3, 5]
    assert kl.get_ylabel() == "nats" and proxy.get_ylabel() == "score"
    plots.training_curves({"ppo": []}, {"proxy": "Proxy"}).draw_without_rendering()  # before the first measurement


def test_learning_curves_know_their_unit():
    lines = (("score", "reward", "#D55E00"), ("true", "truth", "#222222"))
    for unit in ("epoch", "step", "iteration"):
        axis = plots.learning_curves({"a": [{unit: i, "score": i, "true": 1} for i in (1, 2)]}, lines).axes[0]
        assert axis.get_xlabel() == unit
    panels = {"a": [{"step": 1, "score": 1}], "b": [{"step": 1, "score": 9}]}
    one, other = plots.learning_curves(panels, lines, same_scale=True).axes
    assert one.get_ylim() == other.get_ylim()


def test_lines_differ_by_more_than_colour():
    ones = {name: ([0, 1], [0, i]) for i, name in enumerate("abcd")}
    figure = plots.lines({"left": ones, "right": {"a": ([0, 1], [1, 0])}}, "x", ["y", "z"], {"d": ("oracle", "s")})
    left, right = figure.axes
    assert [line.get_linestyle() for line in left.lines] == ["-", "--", "-.", "None"]
    assert left.lines[3].get_marker() == "s" and left.lines[3].get_color() == plots.COLOURS["oracle"]
    assert left.get_legend() and not right.get_legend() and (left.get_ylabel(), right.get_ylabel()) == ("y", "z")


def test_what_data_buy_is_written_beside_the_points():
    axis = plots.what_data_buy({"yours": {10: 0.55}, "shipped": {9000: 0.7}}, "n", "accuracy", "share",
                               {"a coin": 0.5}).axes[0]
    assert words(axis) == ["yours 55 %", "shipped 70 %", "a coin 50 %"]
    assert words(plots.what_data_buy({"": {0: 0.0}}, "n", "score").axes[0]) == ["0.00"]
    (axis,) = plots.what_data_buy({"": {30: {"value": 0.4, "low": 0.3, "high": 0.6}}}, "n", "score").axes
    assert words(axis) == ["0.40"] and axis.texts[0].xy == (30, 0.6)  # above the interval, not on it
    (axis,) = plots.what_data_buy({"": {30: 0.4, 1287: 0.7}}, "n", "score", xscale="log").axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["30", "1287"]  # and no powers of ten


def test_the_diagonal_crosses_the_whole_panel():
    axis = plots.beside_the_diagonal([("t", "x", "y", {"": ("reward", [-3, -2], [-1, -4])})]).axes[0]
    assert axis.get_xlim() == axis.get_ylim() and list(axis.lines[0].get_xdata()) == list(axis.get_xlim())
    assert axis.get_xlim()[0] <= -4 and not axis.get_legend()


def test_the_ladder_writes_every_step():
    score, votes = plots.ladder({"a": ("y", "score", {"base": near(0.1), "prompted": near(0.2)}),
                                 "b": ("y", "share", {"base": near(0.25), "prompted": near(0.5)})}).axes
    assert words(score) == ["0.10", "0.20"] and words(votes) == ["25 %", "50 %"] and votes.get_ylim() == (0, 1)
    assert score.get_xticklabels()[1].get_text() == "Base,\nprompted"


def test_methods_add_up_their_memory():
    _, minutes, memory = plots.methods({"dpo": {"true": near(0.6), "kl": 1}}, {"dpo": 0.5, "ppo": 2.0},
                                       {"dpo": (16, 4), "ppo": (32, 8)}).axes
    assert words(minutes) == ["0.5", "2.0"] and words(memory) == ["20", "40"]


def test_out_of_town_marks_who_was_not_paid():
    figure = list(small_figures())[20]
    paid, prefers, _, cost = figure.axes
    said = [text.get_text() for text in paid.get_legend().get_texts()]
    assert said == ["reward model (paid)", "second judge (not paid)"]
    assert [text.get_color() for text in prefers.texts] == [plots.COLOURS["reward"], plots.COLOURS["oracle"]]
    assert [tick.get_text() for tick in cost.get_xticklabels()] == ["start", "SFT", "PPO"]


def test_the_tea_room_knows_the_answer():
    path = [{"iteration": 0, "value": 0.1, "distance": 1}]
    value, _, dots = plots.exact_run(path, 0.4, [(2, 1, 1), (-1, -2, 0)], 0.5).axes
    assert list(value.lines[1].get_ydata()) == [0.4, 0.4] and dots.lines[0].get_ydata() == pytest.approx([-2.8, 3.2])
    good, bad = plots.clipped_loss([0.5, 1.5], {1.0: [-0.5, -1.2], -1.0: [0.8, 1.5]}).axes
    assert [axis.lines[1].get_ydata()[0] for axis in (good, bad)] == [-1, 1]
    assert bad.get_title("left") == "A bad token (A = −1)"


def test_near_ties_and_length():
    above, below = plots.near_ties([(0.01, 0.5), (0.3, 0.9)], [0.01, 0.02, 0.3]).axes
    assert list(above.lines[0].get_ydata()) == [0.5, 0.9] and sum(bar.get_height() for bar in below.patches) == 3
    axis = plots.length_control({"t": ([-4, 4], [0.2, 0.8], 0.05, 0.5)}, "extra").axes[0]
    assert axis.lines[0].get_ydata() == pytest.approx([0.3, 0.7])  # the fitted line, at both ends
    assert axis.lines[1].get_marker() == "D" and axis.lines[1].get_ydata().tolist() == [0.5]


def test_a_dashed_level_keeps_its_name():
    figure = plots.training_curves({"ppo": [{"iteration": 1, "kl": 0.3}]}, {"kl": "KL"}, {"kl": (0.3, "target")})
    name = next(text for text in figure.axes[0].texts if text.get_text() == "target")
    assert name.get_position() == (3, 3)  # spreading the names beside lines has not moved it


# ---------------------------------------------------------------- tables

def test_tables_show_text_as_text():
    html = plots.table(("", "<b>"), [("a & b", "<script>\nnext"), ("x", 0.5)]).data
    assert "<b>" not in html and "<script>" not in html and "&lt;script&gt;\nnext" in html and "a &amp; b" in html
    assert html.count("<tr>") == 3 and ">0.5</td>" in html and "pre-wrap" in html


def test_answers_stand_side_by_side():
    class Graded:
        overall = 6

    rows = [{"response": "Dear <Ann>", "grade": Graded}, {"response": "Yes.", "grade": Graded}]
    html = plots.answers({"SFT": rows, "PPO": rows}, ["first", "second"], number=1).data
    assert html.count("Dear &lt;Ann&gt;\n(6 of 7)") == 2 and "second" not in html


# ---------------------------------------------------------------- nothing covers anything

def boxes(figure, chosen):
    """The places of some artists on the page, in pixels."""
    figure.draw_without_rendering()
    return [artist.get_window_extent() for axis in figure.axes for artist in chosen(axis)]


def test_names_beside_lines_do_not_overlap_however_many_lines_they_have():
    def curve(height):
        return {"best": 0.5, "curve": [{"temperature": t, **near(height)} for t in (0.0, 0.5, 1.0)]}
    for step in (0.0, 0.01, 0.03, 0.06):
        table = {stage: curve(0.2 + step * i) for i, stage in enumerate(plots.STAGES)}
        placed = boxes(plots.temperatures(table), lambda axis: [
            note for note in axis.texts if note.get_gid() == "beside a line"])
        assert len(placed) == 5
        assert not [(a, b) for a, b in itertools.combinations(placed, 2) if a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1]


def test_a_legend_hides_no_point_of_the_diagonal():
    figure = plots.beside_the_diagonal([("t", "x", "y", {"below": ("base", [-4, -3, -1], [-4, -1, -3]),
                                                         "a longer name": ("ppo", [-2], [-3.9])})])
    [legend], [panel] = (boxes(figure, chosen) for chosen in (lambda axis: [axis.get_legend()],
                                                              lambda axis: [axis.patch]))
    assert legend.y1 < panel.y0 and legend.y0 > 0
SIGNS = r"$\frac{1}{$ and $x_2^"


def test_signs_of_mathematics_in_a_name_are_only_signs():
    """matplotlib would read them as a formula and fail."""
    entry = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    for figure in (plots.interval_rows({SIGNS: entry}, SIGNS), plots.bars({SIGNS: {SIGNS: 0.5}}, SIGNS, SIGNS),
                   plots.labeler_agreement(numpy.full((2, 2), 50.0), [SIGNS, "b"], 1),
                   plots.token_strips({SIGNS: ([SIGNS, "b"], [0.1, 0.2])}, SIGNS)):
        figure.savefig(io.BytesIO(), format="png")
