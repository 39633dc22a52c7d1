"""The report is one file, says only what the numbers say, and survives whatever is missing."""

import json
import re

import pytest
from test_plots import example, near, ppo_history

from rlhf_lite.experiment import captions, report


def write_run(folder, results, stages=("base", "sft", "ppo")):
    (folder / "answers").mkdir(parents=True)
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    for stage in stages:
        rows = [{"prompt_id": f"{case}-{i}", "use_case": case, "prompt": f"Write <b>{i}</b>", "finished": i % 2 == 0,
                 "response": f"<script>alert({i})</script> & more from {stage}", "overall": 1 + i % 7, "score": 0.5,
                 "reasons": ["invents <a price>"]} for case in ("generation", "closed_qa") for i in range(33)]
        (folder / "answers" / f"{stage}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / stage).mkdir()
    (folder / "ppo" / "history.json").write_text(json.dumps(ppo_history())) if "ppo" in stages else None
    (folder / "sft" / "history.json").write_text(json.dumps(
        [{"epoch": e, "train_loss": 2 / e, "valid_loss": 2.2 / e} for e in (1, 2, 3)])) if "sft" in stages else None
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("runs") / "example", example())
    return folder, report.write_report(folder).read_text(encoding="utf-8")


def test_every_section_is_there(run):
    folder, page = run
    assert "Left out" not in page and "2 of 2" not in page and "1 of 2 targets met" in page
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert len(names) == page.count("<img ")
    assert {"win_rate_by_size", "stages", "gate", "ppo_training", "limits", "pairs"} < names
    assert page.count("<figcaption>") == len(names) and "<figcaption></figcaption>" not in page


def test_model_text_is_escaped(run):
    page = run[1]
    assert "<script" not in page and "&lt;script&gt;alert(0)&lt;/script&gt; &amp; more" in page
    assert "Write &lt;b&gt;0&lt;/b&gt;" in page and "invents &lt;a price&gt;" in page
    assert "Example &lt;run&gt;" in page and "&lt;hard&gt;" in page


def test_self_contained(run):
    page = run[1]
    assert not re.search(r"https?://", page) and "<link" not in page and "url(" not in page
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)', page))
    assert all(f'id="{target}"' in page for target in re.findall(r'href="#([^"]*)', page))


def test_headline_marks_and_parts(run):
    page = run[1]
    assert 'class="met">✓ met' in page and 'class="missed">✗ not met' in page and ">measured<" in page
    assert ">not measured<" in page and "<small>PPO-ptx over base, bare <b>83 % (80 to 86)</b></small>" in page
    assert "length <b>23.2</b>" in page and "| 1 | PPO-ptx over base, bare | 83 % (80 to 86) |" in (
        run[0] / "results_table.md").read_text(encoding="utf-8")


def test_thirty_samples_side_by_side(run):
    page = run[1]
    generation = page[page.index("<summary>generation"):page.index("<summary>closed qa")]
    assert generation.count("<tr>") == 31 and generation.count("more from") == 90
    assert "[cut off]" in generation and "alert(30)" not in generation


def test_deterministic(tmp_path):
    some = {name: value for name, value in example().items() if name in ("name", "gate", "headline")}
    pages = [report.write_report(write_run(tmp_path / str(n) / "example", some, ())).read_bytes() for n in (1, 2)]
    assert pages[0] == pages[1]


def test_markdown_table(run):
    text = (run[0] / "results_table.md").read_text(encoding="utf-8")
    assert "83 % (79 to 87); n = 300; 3 seeds | ✓ met" in text and "truthful \\| informative" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) <= 3 and "| True score (0–1) |" in text


@pytest.mark.parametrize("results", [None, {}, {"name": "x", "stages": {"sft": {"score": near(0.5)}}},
                                     {"gate": {"n": [1, 2]}, "headline": [{}], "by_size": {}, "win_rates": [{}]}])
def test_missing_parts_become_sentences(tmp_path, results):
    page = report.write_report(write_run(tmp_path / "run", results, stages=())).read_text(encoding="utf-8")
    assert "Left out" in page and ("There is no results.json" in page) == (results is None)


def test_each_section_may_be_absent(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "picture", lambda *_: {"name": "", "reading": "", "image": ""})
    for name in ("win_rate_by_size", "interval_rows", "stage_panels", "use_cases", "learning_curves", "ppo_curves",
                 "reward_model", "gate", "sweep", "overoptimisation"):
        monkeypatch.setattr(captions.plots, name, lambda *_, **__: None)  # drawing is tested above, and slow
    for key in ("by_size", "win_rates", "stages", "use_cases", "reward", "pairs", "gate", "tax", "kl_sweep",
                "overoptimisation", "headline"):
        results = {name: value for name, value in example().items() if name != key}
        page = report.write_report(write_run(tmp_path / key, results)).read_text(encoding="utf-8")
        assert "incomplete" not in page, key


def test_damaged_rows_are_named(tmp_path):
    folder = write_run(tmp_path / "run", {"name": "x"})
    with open(folder / "answers" / "ppo.jsonl", "a") as file:
        file.write('{"prompt_id": "torn')
    (folder / "sft" / "history.json").write_text("[{")
    assert "answers/ppo.jsonl, line 67, is damaged" in report.write_report(folder).read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", [[], "x", 5, None, {"headline": 5}, {"headline": [5]}, {"stages": []},
                                    {"headline": [{"parts": [{}]}]}, {"stages": {"sft": 5}}, {"name": ["<b>"]},
                                    {"headline": [{"claim": ["x"]}]}, {"gate": "x"}, {"reward": 10**400}])
def test_damaged_results_are_left_out(tmp_path, damage):
    folder = write_run(tmp_path / "run", damage)
    (folder / "answers" / "sft.jsonl").write_text('{"prompt_id": []}\n[]\n' + "[" * 10**5 + "\n")
    page = report.write_report(folder).read_text(encoding="utf-8")
    assert "answers/sft.jsonl, line 1, is damaged" in page and "line 3, is damaged" in page
    assert "results.json" in page and "left out" in page or "incomplete" in page


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no run in"):
        report.write_report(tmp_path / "nowhere")


def test_a_change_is_claimed_only_when_clear():
    table = {"sft": {"score": near(0.50), "good": near(0.5)}, "ppo": {"score": near(0.60), "good": near(0.49)},
             "ppo_ptx": {"score": near(0.30), "good": None}}
    said = captions.change(table, "score", "ppo", "sft")
    assert said == 'PPO raises "True score" by 0.10 (0.06 to 0.14) relative to SFT.'
    assert captions.change(table, "score", "ppo_ptx", "sft").startswith('PPO-ptx lowers "True score" by 0.20 (0.16')
    assert captions.change(table, "good", "ppo", "sft") == (
        'PPO does not clearly change "Good answers" relative to SFT (-1.0 points; -5.2 to +3.2).')
    assert captions.change(table, "good", "ppo_ptx", "sft") == captions.change(table, "kl", "ppo", "sft") == ""


def test_readings_follow_the_numbers(monkeypatch):
    for name in ("win_rate_by_size", "sweep", "gate", "interval_rows", "stage_panels"):
        monkeypatch.setattr(captions.plots, name, lambda *_, **__: None)
    results = example()
    assert captions.win_rates(results)[0][2] == (
        "Clearly more than half: PPO over SFT. No clear winner: PPO-ptx over Base, few-shot prompted.")
    assert "SFT raises \"Loss on web text\" by 0.05" in captions.tax(results)[0][2]
    assert "1.3M: " not in captions.by_size(results)[0][2] and "PPO-ptx wins" in captions.by_size(results)[0][2]
    assert "kl_coef = 0.1" in (reading := captions.sweeps(results)[0][2]) and "inside the range" in reading
    results["kl_sweep"] = results["kl_sweep"][:2]
    assert "at an end of the range" in captions.sweeps(results)[0][2]
    said = captions.gate(results)[0][2]
    assert "best-of-8 is a clear gain (+0.12;" in said and "open" in said
    results["gate"] |= {"rm": [near(0.5)] * 5, "open": False, "gain_at_8": near(0.01)}
    assert "no clear change" in captions.gate(results)[0][2] and "closed" in captions.gate(results)[0][2]
