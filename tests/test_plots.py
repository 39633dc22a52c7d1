"""Every figure is a Figure with labelled axes, whatever is missing from the numbers."""

import math

import pytest
from matplotlib.figure import Figure

from rlhf_lite import plots
from rlhf_lite.plots import STAGES


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
    assert plots.interval(None) is None and plots.interval(math.nan) is None and plots.interval({}) is None


def test_measure_of_an_unknown_name():
    assert plots.measure("drill_loss") == ("Drill loss", "nats", -1) and plots.measure("reading")[1:] == ("share", 1)
