"""The whole path on a tiny base: every stage connected, resumable, repeatable, and clear about bad input."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace

import pytest
import torch

from rlhf_lite import __main__ as cli
from rlhf_lite import checkpoints, files, models
from rlhf_lite.experiment import (
    base_model,
    data,
    evaluate,
    findings,
    ledger,
    pebbleford,
    results,
    run,
    run_files,
    shipped,
    stages,
    studies,
)
from rlhf_lite.experiment.answers import answer_rows
from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS, Recipe
from rlhf_lite.ppo import PPOConfig
from rlhf_lite.town import labelers, tasks, web
from rlhf_lite.town.facts import build_town
from rlhf_lite.town.grading import grade
from rlhf_lite.town.prompts import bare


def small(seed=0, **changes):
    ppo = PPOConfig(iterations=2, batch_size=8, minibatch=4, max_new_tokens=MAX_NEW_TOKENS, kl_coef=0.05,
                    lr=1e-4, seed=seed)
    recipe = Recipe(size="tiny", reward_size="tiny", seed=seed, demonstrations=24, sft_epochs=2, rankings=24,
                    gate_prompts=4, ppo=ppo, pretraining_tokens=4096, test_prompts=12, stratum_prompts=6,
                    samples=2)
    return replace(recipe, **changes)


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    """A models folder with a tiny base and the shipped tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = models.load_tokenizer(files.MODELS / "tokenizer")
    tokenizer.save_pretrained(folder / "tokenizer")
    base_model.make_base("tiny", tokens=120_000, device="cpu", folder=folder / "base-tiny", progress=False)
    return folder


@pytest.fixture(autouse=True)
def use_tiny_models(tiny_models, monkeypatch):
    monkeypatch.setattr(files, "MODELS", tiny_models)


@pytest.fixture(scope="module")
def finished(tiny_models, tmp_path_factory):
    """A finished run; its folder."""
    patch = pytest.MonkeyPatch()
    patch.setattr(files, "MODELS", tiny_models)
    folder = run.run_pipeline(small(), "first", "cpu", runs=tmp_path_factory.mktemp("runs"), progress=False)
    patch.undo()
    return folder


def test_run_leaves_results_figures_and_report(finished):
    made = json.loads((finished / "results.json").read_text())
    assert set(made["stages"]) == set(evaluate.STAGES)
    assert [row["id"] for row in made["headline"]] == list(range(1, 13))
    for row in made["headline"]:
        assert set(row) >= {"id", "paper", "ours", "low", "high", "n", "seeds", "met"}
        assert row["met"] in (True, False, None)
        if row["ours"] is not None and row["n"]:
            assert row["low"] <= row["ours"] <= row["high"]
    assert (finished / "report.html").stat().st_size > 20_000
    assert list((finished / "figures").glob("*.png"))
    for stage in ("sft", "ppo", "ppo_ptx"):
        assert checkpoints.load_card(finished / stage)["stage"] == stage


def test_second_call_does_nothing_again(finished, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/model.safetensors")}
    monkeypatch.setattr(run, "make_sft", lambda _: pytest.fail("SFT was trained again"))
    run.run_pipeline(small(), "first", "cpu", runs=finished.parent, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in finished.glob("*/model.safetensors")}


def test_same_seed_same_numbers(finished, tmp_path):
    again = run.run_pipeline(small(), "again", "cpu", runs=tmp_path, progress=False)
    for stage in ("sft", "reward", "ppo", "ppo_ptx"):
        one, other = (checkpoints.load_card(folder / stage) for folder in (finished, again))
        assert one["sha256"] == other["sha256"], stage
    texts = [[row["response"] for row in map(json.loads, (folder / "answers/ppo.jsonl").read_text().splitlines())]
             for folder in (finished, again)]
    assert texts[0] == texts[1]


def test_a_full_disk_stops_the_run_and_loses_nothing(finished, tmp_path):
    """No file may grow beyond 60 kB, as if the disk were full; with room again the run goes on to the same weights."""
    resource = pytest.importorskip("resource")  # Windows has none
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(OSError):
            run.run_pipeline(small(), "full", "cpu", runs=tmp_path, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "full" / "sft" / "history.json").exists()
    done = run.run_pipeline(small(), "full", "cpu", runs=tmp_path, progress=False, until="reward")
    for stage in ("sft", "reward"):
        assert checkpoints.load_card(finished / stage)["sha256"] == checkpoints.load_card(done / stage)["sha256"], stage


def test_peak_memory_and_minutes_are_kept(finished):
    made = json.loads((finished / "results.json").read_text())
    assert 0.1 < made["peak_memory_gib"]["cpu_gib"] < 16
    assert set(made["minutes"]) == {"sft", "rankings", "first_reward", "first_ppo", "reward", "gate",
                                    "ppo", "ppo_ptx", "answers"}


def test_every_use_case_has_its_samples():
    sets = evaluate.test_sets(60, 10, 12)
    found = Counter(p.use_case for p in sets["mixed"] + sets["samples"])
    assert min(found.values()) >= 12 and len(found) == 10
    assert not {p.id for p in sets["mixed"]} & {p.id for p in sets["samples"]}


def test_another_seed_gives_other_weights(finished, tmp_path):
    other = run.run_pipeline(small(seed=1), "other", "cpu", runs=tmp_path, progress=False, until="sft")
    assert checkpoints.load_card(finished / "sft")["sha256"] != checkpoints.load_card(other / "sft")["sha256"]


def test_interrupted_run_ends_where_an_uninterrupted_one_does(finished, tmp_path, monkeypatch):
    """The machine dies in PPO's second iteration; the same command goes on and ends with the same weights."""
    recipe = small()
    recipe = replace(recipe, ppo=replace(recipe.ppo, save_every=1))
    real, calls = stages.train_ppo, []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) != 2:  # the first call is the first PPO, whose answers the second round ranks
            return real(*args, **kwargs)
        config = replace(args[4], iterations=1)
        real(*args[:4], config, *args[5:], **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "train_ppo", dies)
    with pytest.raises(KeyboardInterrupt):
        run.run_pipeline(recipe, "cut", "cpu", runs=tmp_path, progress=False, until="ppo")
    folder = run.run_pipeline(recipe, "cut", "cpu", runs=tmp_path, progress=False, until="ppo")
    assert checkpoints.load_card(folder / "ppo")["sha256"] == checkpoints.load_card(finished / "ppo")["sha256"]


def test_name_with_other_settings_is_refused(finished):
    with pytest.raises(ValueError, match="other settings .*rankings.*another NAME"):
        run.Run(small(rankings=25), "first", "cpu", runs=finished.parent)


def test_rankings_keep_sampled_ids_and_differ(finished):
    rows = run.rankings(finished, "train")
    tokenizer = models.load_tokenizer(files.MODELS / "tokenizer")
    assert rows
    for row in rows:
        texts = [r["text"] for r in row["responses"]]
        assert len(set(texts)) == len(texts) == row["K"]
        assert row["labeler"].startswith("simulated:")
        assert all(models.decode_response(tokenizer, r["token_ids"]) == r["text"] for r in row["responses"])
    ranked = data.ranked_prompts(tokenizer, rows)
    assert ranked[0].responses == [r["token_ids"] for r in rows[0]["responses"]]


def test_validation_rankings_are_of_other_customers(finished):
    customer = {p.id: p.customer for p in data.all_prompts()}
    train, valid = ({customer[row["prompt_id"]] for row in run.rankings(finished, s)} for s in ("train", "valid"))
    assert train and valid and not train & valid


@pytest.mark.parametrize("study", sorted(studies.STUDIES))
def test_studies(finished, study, monkeypatch):
    monkeypatch.setattr(studies, "KL_COEFS", (0.0, 0.1))
    monkeypatch.setattr(studies, "PTX_COEFS", (0.0, 0.5))
    monkeypatch.setattr(studies, "PROMPTS", 6)
    opened = run.Run(small(), "first", "cpu", runs=finished.parent, progress=False)
    made = files.read_json(studies.run_study(opened, study))
    if study == "kl_sweep":
        assert [p["kl_coef"] for p in made] == [0.0, 0.1]
    elif study == "ptx_sweep":
        assert [p["ptx_coef"] for p in made] == [0.0, 0.5] and made[1]["web_loss"] > 0
    elif study == "sft_arms":
        assert set(made) == {"ppo", "sft", "sft, 4 times the epochs", "sft, no pretraining text",
                             "sft, 10 % pretraining text", "ppo, kl_coef 0.2"}
        assert all(len(arm["temperature"]["curve"]) == 5 and arm["tax"]["web_loss"]["value"] > 0
                   for arm in made.values())
        assert "ppo_preferred" not in made["ppo"] and 0 <= made["sft"]["ppo_preferred"]["value"] <= 1
    elif study == "pairs":
        assert len(made["kwise"]) == len(made["shuffled"]) == 3
    elif study == "one_round":
        assert made["rankings"]["one"] <= made["rankings"]["two"] <= opened.recipe.rankings
        assert made["two"]["score"]["value"] - made["one"]["score"]["value"] == pytest.approx(made["gain"]["value"])
        assert {"accuracy_sft", "accuracy_ppo", "win_over_base", "win_over_sft"} < set(made["one"])
    else:
        assert made["bon"][0] == {"d": 0.0, "gold": 0.0, "proxy": 0.0}


def with_recipe(finished, folder, **changes):
    """A copy of a finished run, without its weights, that says other things of itself."""
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("state", "*.safetensors"))
    files.write_json(folder / "recipe.json", files.read_json(folder / "recipe.json") | changes)
    return folder


def test_runs_that_do_not_belong_into_one_table_are_refused(finished, tmp_path):
    def refused(*folders, says, page=None):
        with pytest.raises(ValueError, match=says):
            results.write_headline([finished, *folders], tmp_path / "out", page)
        assert not (tmp_path / "out").exists()  # nothing is written, not even half
    refused(finished, says="a seed counts only once")
    other = with_recipe(finished, tmp_path / "other", seed=1, rankings=10)
    refused(other, says="different settings .rankings.")
    refused(with_recipe(finished, tmp_path / "headline", seed=2), says="rename the folder")
    (other / "answers" / "ppo.jsonl").unlink()
    refused(other, says="not finished .answers/ppo.jsonl is missing")
    (other / "recipe.json").write_text('{"size": "ti')
    refused(other, says="recipe.json is damaged")
    (tmp_path / "README.md").write_text("no marks")
    refused(says="no place for the table", page=tmp_path / "README.md")


def test_rankings_of_another_tokenizer_are_refused():
    tokenizer = models.load_tokenizer(files.MODELS / "tokenizer")
    rows = [{"prompt_id": "p1", "prompt": "Hi.", "ranks": [1, 2], "responses": [{"text": "a", "token_ids": [5, 2]},
                                                                              {"text": "b", "token_ids": [99_999]}]}]
    with pytest.raises(ValueError, match="Ranking 1 .p1. has the token id 99999"):
        data.ranked_prompts(tokenizer, rows)


def test_answers_to_other_prompts_are_refused(finished, tmp_path):
    folder = with_recipe(finished, tmp_path / "old")
    path = folder / "answers" / "ppo.jsonl"
    lines = path.read_text().splitlines()
    without_task = [json.dumps({k: v for k, v in json.loads(line).items() if k != "task"}) for line in lines]
    path.write_text("\n".join(without_task) + "\n")  # as runs before this project's second test sets have them
    assert results.load_run(folder)["rows"]["ppo"][0]["task"]
    for damaged in (lines[3][:50], json.dumps(json.loads(lines[3]) | {"prompt": "Another one?"})):
        path.write_text("\n".join([*lines[:3], damaged]) + "\n")
        with pytest.raises(ValueError, match="ppo.jsonl, line 4, .*Delete .*answers"):
            results.load_run(folder)


def test_a_study_wants_a_finished_run_and_a_mistyped_name_makes_none(finished, tmp_path):
    folder = with_recipe(finished, tmp_path / "half")
    (folder / "gate.json").unlink()
    half = run.Run(small(), "half", "cpu", runs=tmp_path, progress=False)
    with pytest.raises(ValueError, match="has no gate.json yet"):
        studies.run_study(half, "kl_sweep")
    with pytest.raises(ValueError, match="There is no run in"):
        run.Run(small(), "typo", "cpu", runs=tmp_path, progress=False, new=False)
    assert not (tmp_path / "typo").exists()


def test_write_headline_joins_seeds(finished, tmp_path):
    there = tmp_path / "docs" / "results.md"
    there.parent.mkdir()
    there.write_text("before\n<!-- results:begin -->stale<!-- results:end -->\nafter\n")
    second = with_recipe(finished, tmp_path / "second", seed=1)
    said = results.write_headline([finished, second], tmp_path, there)
    content = json.loads((tmp_path / "headline.json").read_text())
    assert content["headline"][1]["seeds"] == 2 and content["seeds"] == [0, 1]
    assert "PPO-ptx preferred" in said and (tmp_path / "win_rate.png").is_file()
    page = there.read_text()
    assert "(../win_rate.png)" in page and said in page and "stale" not in page
    assert page.startswith("before\n") and page.endswith("after\n")


def test_a_base_that_is_not_shipped_is_pretrained_once_for_all_runs(tmp_path, monkeypatch):
    """What `make run SIZE=175m` does on a GPU, with a tiny model."""
    shutil.copytree(files.MODELS / "tokenizer", tmp_path / "models" / "tokenizer")
    monkeypatch.setattr(files, "MODELS", tmp_path / "models")
    monkeypatch.setitem(base_model.TOKENS, "tiny", 20_000)
    made = []
    original = base_model.make_base
    monkeypatch.setattr(base_model, "make_base", lambda *a, **k: made.append(k["folder"]) or original(*a, **k))
    for seed in (0, 1):
        folder = run.run_pipeline(small(seed), f"s{seed}", "cpu", runs=tmp_path / "runs", progress=False, until="sft")
        assert (folder / "sft" / "card.json").is_file()
    assert made == [tmp_path / "runs" / "base-tiny"]
    assert checkpoints.load_card(made[0])["tokens"] > 10_000
    assert "base" in files.read_json(tmp_path / "runs" / "s0" / "minutes.json")
    with pytest.raises(OSError):  # and a base that neither is nor is made is no base
        base_model.load_base("6m", runs=tmp_path / "runs")


def test_recorded_answers_of_a_larger_base_join_row_1(finished, tmp_path, monkeypatch):
    folder = with_recipe(finished, tmp_path / "small", size="1.3m")
    for stage, rival in zip(("base", "prompted"), evaluate.RIVALS, strict=True):
        text = (folder / "answers" / f"{stage}.jsonl").read_text()
        (folder / "answers" / f"{rival}.jsonl").write_text(text.replace(f'"stage": "{stage}"', f'"stage": "{rival}"'))

    def first():
        return results.headline([results.load_run(folder)])[0]

    monkeypatch.setattr(evaluate, "RECORDED_ANSWERS", tmp_path / "answers-175m.jsonl")
    assert len(first()["parts"]) == 6 and "has not been run yet" in first()["note"]
    # how strong the rival is: here the very same answers
    assert [p["value"] for p in first()["parts"][4:]] == [0.5, 0.5]
    lines = results.record_answers(finished).read_text().splitlines()
    assert len(lines) == 2 * len([r for r in results.load_run(folder)["rows"]["base"] if r["set"] == "mixed"])
    found = first()
    assert [p["name"] for p in found["parts"][2:4]] == [f"against the recorded 175M base, {how}"
                                                      for how in ("bare", "few-shot prompted")]
    assert [p["value"] for p in found["parts"][2:4]] == [p["value"] for p in found["parts"][:2]]
    assert "has not been run yet" not in found["note"]
    evaluate.RECORDED_ANSWERS.write_text(lines[0] + "\n")
    with pytest.raises(ValueError, match="answers-175m.jsonl is not complete.*git checkout"):
        first()


def test_what_waits_for_a_gpu_says_so_and_its_commands_exist():
    waiting = files.read_json(files.DATA / "results" / "gpu.json")
    if "measurements" in waiting:  # what `python -m rlhf_lite gpu` wrote: of a real run, with its date and its device
        assert not waiting["toy"] and waiting["started"] and waiting["device"] != "cpu"
    else:
        assert waiting["status"] == "not yet run"
    for entry in waiting.get("recipes", ()):
        for command in entry["commands"]:
            words = command.split()
            if words[:3] == ["python", "-m", "rlhf_lite"]:
                cli.parser().parse_args(words[3:])
            else:
                assert words[0] == "make" or words[:3] == ["python", "-m", "rlhf_lite.exercises.measure"]


def test_write_headline_puts_another_size_into_row_4_and_the_figure(finished, tmp_path, monkeypatch):
    recipe = files.read_json(finished / "recipe.json")
    larger = with_recipe(finished, tmp_path / "larger", size="6m")
    drawn = {}
    original = results.plots.win_rate_by_size
    monkeypatch.setattr(results.plots, "win_rate_by_size",
                        lambda by_size, against: drawn.update(by_size) or original(by_size, against))
    said = results.write_headline([finished, larger], tmp_path / "out")
    content = files.read_json(tmp_path / "out" / "headline.json")
    fourth = next(row for row in content["headline"] if row["id"] == 4)
    names = [part["name"] for part in fourth["parts"]]
    assert "6m: ppo over sft" in names and fourth["note"] == "Also at 6m (1 seed)."
    assert content["other_sizes"] == {"6m": [0]} and "6m: 1 training seed (0)" in said
    assert list(drawn) == [recipe["size"], "6m"]
    assert drawn["6m"]["sft"]["value"] == 0.5  # the very same answers: every comparison is a tie
    assert (tmp_path / "out" / "larger.json").is_file()


def test_ship_writes_half_precision_that_loads(finished, tmp_path):
    opened = run.Run(small(), "first", "cpu", runs=finished.parent)
    run.ship(opened, tmp_path)
    assert checkpoints.load_card(tmp_path / "ppo-tiny")["dtype"] == "float16"
    assert sum(parameter.numel() for parameter in checkpoints.load_scalar(tmp_path / "reward-tiny").parameters()) > 0


def test_results_are_strict_json(tmp_path):
    files.write_json(tmp_path / "x.json", {"a": [float("nan"), 1.0, float("inf")]})
    assert json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail) == {"a": [None, 1.0, None]}


# ---------------------------------------------------------------- damaged runs, and the advice about them

SAME = ("*.safetensors", "*.jsonl", "reward.json", "gate.json", "measured/*.json")  # made again, these are the same


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for pattern in SAME for path in folder.rglob(pattern)
            if "studies" not in path.parts}


def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "runs" / "first")


def again(folder, **options):
    return run.run_pipeline(small(), "first", "cpu", runs=folder.parent, progress=False, **options)


def lines_of(path, *parts):
    """Some lines of a file, as bytes; parts: (start, end)."""
    lines = path.read_bytes().splitlines(keepends=True)
    return b"".join(b"".join(lines[start:end]) for start, end in parts)


def test_every_damaged_file_of_a_run_is_made_again(finished, tmp_path):
    """One wrong bit, halves, other JSON, missing, cut, emptied and doubled files: the same command puts all right."""
    folder, before = copied(finished, tmp_path), contents(finished)
    weights = bytearray((folder / "sft" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    damage = {"sft/model.safetensors": bytes(weights), "reward.json": (folder / "reward.json").read_bytes()[:200],
              "measured/sft.json": None, "measured/ppo.json": b"{}", "gate.json": b"[]",
              "rankings-1-train.jsonl": lines_of(folder / "rankings-1-train.jsonl", (0, 5)),
              "rankings-2-valid.jsonl": b"",
              "answers/ppo.jsonl": lines_of(folder / "answers" / "ppo.jsonl", (0, None), (0, None)),
              "answers/sft.jsonl": (folder / "answers" / "base.jsonl").read_bytes()}
    for name, content in damage.items():
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    again(folder)
    after = contents(folder)
    assert {path: after[path] == before[path] for path in before} == dict.fromkeys(before, True)
    kept = [path.name for path in folder.rglob("*.old")]  # rows that no step wrote may be a person's
    assert "rankings-1-train.jsonl.old" in kept and "sft" in json.loads((folder / "results.json").read_text())["tax"]


def test_what_advice_says_works(finished, tmp_path, monkeypatch):
    folder = copied(finished, tmp_path)
    for name in ("done.json", "recipe.json", "minutes.json"):  # "delete it and run the same command again"
        (folder / name).write_text("[]")
        if name == "minutes.json":  # read when a step has been done
            (folder / "measured" / "base.json").unlink()
        with pytest.raises(ValueError, match=f"{name} is damaged .*delete it and run the command that started"):
            again(folder)
        (folder / name).unlink()
        with monkeypatch.context() as patch:  # a run without a record of its sums is checked file by file
            patch.setattr(run, "make_sft", lambda _: pytest.fail("SFT was trained again"))
            again(folder)
    (folder / "answers" / "ppo.jsonl").write_bytes(lines_of(folder / "answers" / "ppo.jsonl", (0, 9)))
    (folder / "done.json").unlink()  # as an older run, which has no sums
    with pytest.raises(ValueError, match="ppo.jsonl is not complete: it has 9 answers to the 12 prompts .*Delete "):
        again(folder)
    shutil.rmtree(folder / "answers")
    assert contents(again(folder)) == contents(finished)


def test_a_damaged_training_state_is_deleted_and_trained_again(finished, tmp_path):
    folder = copied(finished, tmp_path)
    shutil.rmtree(folder / "sft")
    state = folder / "state" / "sft" / "training.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"{}" * 40)
    with pytest.raises(ValueError, match="training.safetensors is damaged .*delete it to start this training over"):
        again(folder, until="sft")
    state.unlink()
    again(folder, until="sft")
    assert checkpoints.load_card(folder / "sft")["sha256"] == checkpoints.load_card(finished / "sft")["sha256"]


def test_what_was_made_from_a_file_that_changed_is_made_again(finished, tmp_path):
    folder = copied(finished, tmp_path)
    outputs = ledger.steps(0.5, ("base",))
    assert all(ledger.unfinished(folder, names) is None for names in outputs.values())
    path = folder / "rankings-1-train.jsonl"
    path.write_bytes(lines_of(path, (0, 5)))
    assert "is not what this step wrote" in ledger.unfinished(folder, outputs["rankings 1"])
    with pytest.raises(ValueError, match="is not what this step wrote; run the command that started the run again"):
        run.rankings(folder, "train")
    assert ledger.record(folder, outputs["rankings 1"]) is True  # as if the step had written it like this
    ledger.mark_stale(folder, outputs["reward"])
    assert "files that have changed since" in ledger.unfinished(folder, outputs["reward"])
    path.write_bytes(lines_of(path, (0, 5), (0, 5)))
    (folder / "done.json").unlink()
    with pytest.raises(ValueError, match="rank the prompt .* twice; delete both files"):
        run.rankings(folder, "train")


@pytest.mark.parametrize("rows, says", [
    (((0, 7),), "has 7 answers to the 12 prompts"), (((0, None), (0, None)), "24 answers"),
    (((1, 2), (0, 1), (2, None)), "in another order"), ((), "has 0 answers")])
def test_incomplete_answers_are_no_data(finished, tmp_path, rows, says):
    folder = with_recipe(finished, tmp_path / "run")
    path = folder / "answers" / "ppo.jsonl"
    path.write_bytes(lines_of(path, *rows))
    with pytest.raises(ValueError, match=f"ppo.jsonl is not complete: .*{says}.*Delete .*answers"):
        results.load_run(folder)
    shutil.copy(folder / "answers" / "base.jsonl", path)
    with pytest.raises(ValueError, match="has answers of base, not of ppo"):
        results.load_run(folder)


def test_a_run_that_lacks_a_measurement_is_not_finished(finished, tmp_path):
    for name in ("measured/sft.json", "gate.json", "results.json"):
        folder = with_recipe(finished, tmp_path / name.replace("/", "-"))
        (folder / name).unlink()
        with pytest.raises((ValueError, OSError), match=f"{name} is missing"):
            results.write_headline([folder], tmp_path / "out")
    odd = with_recipe(finished, tmp_path / "a; touch PWNED")
    (odd / "reward.json").unlink()
    with pytest.raises(ValueError, match="--name 'a; touch PWNED'"):  # to be pasted into a shell
        results.load_run(odd)


# ---------------------------------------------------------------- the course's own data

def test_the_courses_own_data_is_not_replaced_by_accident(finished, tmp_path, monkeypatch):
    opened = run.Run(small(), "first", "cpu", runs=finished.parent, progress=False)
    ours = copied(finished, tmp_path)
    data_folder = tmp_path / "data"
    (data_folder / "results").mkdir(parents=True)
    monkeypatch.setattr(files, "DATA", data_folder)
    record = data_folder / "results" / "answers-175m.jsonl"
    writing = {"ship": lambda **o: run.ship(opened, data_folder / "models", **o),
               "results": lambda **o: results.write_headline([ours], data_folder / "results", **o),
               "record": lambda **o: results.record_answers(ours, record, **o)}
    for name, write in writing.items():
        with pytest.raises(ValueError, match="is a run with settings of its own"):
            write(force=True)
        assert not any(path.is_file() for path in data_folder.rglob("*")), name
    monkeypatch.setattr(run_files, "is_default", lambda recipe, fast=False: fast)
    with pytest.raises(ValueError, match="is a fast run"):
        writing["record"](force=True)
    monkeypatch.setattr(run_files, "is_default", lambda recipe, fast=False: not fast)
    with pytest.raises(ValueError, match="size tiny, not 175m"):
        writing["record"](force=True)
    monkeypatch.setattr(results, "RECORDED_SIZES", ("tiny",))
    (ours / "gate.json").rename(ours / "gate")
    with pytest.raises(ValueError, match="is not finished .*gate.json is missing"):
        writing["record"](force=True)
    (ours / "gate").rename(ours / "gate.json")
    writing["record"]()  # there was none
    with pytest.raises(ValueError, match="add --force to replace it"):
        writing["record"]()
    writing["record"](force=True)
    results.record_answers(ours, tmp_path / "elsewhere.jsonl")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["pretrain", "--size", "tiny", "--out", str(data_folder / "results")]) == 1


def test_the_manifest_is_true():
    """If this fails after a change to what the course ships: python -m rlhf_lite manifest"""
    assert shipped.check_manifest() == []
    kept = files.read_json(shipped.manifest_path())
    assert list(kept) == shipped.listed()


def test_doctor_misses_what_must_be_there(tmp_path, monkeypatch, capsys):
    shutil.copytree(shipped.manifest_path().parent, tmp_path / "data")
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    for name in ("models/tokenizer/tokenizer.json", "models/sft-1.3m/model.safetensors", "town/labelers.json"):
        (tmp_path / "data" / name).unlink()
    text = tmp_path / "data" / "demonstrations.jsonl"
    text.write_bytes(text.read_bytes().replace(b"\n", b"\r\n"))  # as git writes it on another system
    changed = tmp_path / "data" / "few_shot_prefix.txt"
    changed.write_text(changed.read_text() + " ")
    assert cli.doctor() == 1
    said = capsys.readouterr().out
    for name in ("models/tokenizer/tokenizer.json", "models/sft-1.3m/model.safetensors", "town/labelers.json"):
        assert re.search(rf"data/{name} is missing\n *-> restore it with: git checkout -- data/{name}", said)
    assert "few_shot_prefix.txt has changed" in said and "demonstrations" not in said
    (tmp_path / "data" / "manifest.json").write_text("[" * 10**5)
    assert "manifest.json is damaged" in shipped.check_manifest()[0]


# ---------------------------------------------------------------- evaluation

def row(prompt_id, response, grade, test_set="mixed"):
    return {"prompt_id": prompt_id, "response": response, "grade": grade, "set": test_set, "token_ids": [5, 2]}


def test_preferences_ties_and_order():
    prompt = data.prompts_of("valid", 1)[0]
    good = grade(prompt, "")
    best = replace(good, helpful=1.0, truthful=1.0, harmless=1.0)
    a = [row("x", "fine", best), row("y", "same", best)]
    b = [row("x", "bad", replace(best, helpful=0.0, truthful=0.0)), row("y", "same", best)]
    wins = evaluate.preferences(a, b)
    assert wins[1] == 0.5 and wins[0] > 0.8
    assert evaluate.preferences(b, a)[0] == pytest.approx(1 - wins[0])
    assert (wins == evaluate.preferences(a, b)).all()  # no dice
    sure = [labelers.Labeler("Ada", (1.0, 0.0, 0.0), noise=0.0)]
    assert evaluate.preferences(a, b, team=sure).tolist() == [1.0, 0.5]


def test_an_answer_that_is_cut_is_as_long_as_what_is_left(tiny_models):
    policy, tokenizer = base_model.load_base("tiny")
    prompts = data.prompts_of("valid", 30)
    whole = answer_rows(policy, tokenizer, prompts, progress=False)
    cut = answer_rows(policy, tokenizer, prompts, cut="\n", progress=False)
    shorter = 0
    for before, after in zip(whole, cut, strict=True):
        if "\n" not in before["response"]:
            assert after == before
            continue
        shorter += len(after["token_ids"]) < len(before["token_ids"])
        assert after["response"] == before["response"].split("\n")[0].strip() and after["finished"]
        assert models.decode_response(tokenizer, after["token_ids"]) == after["response"]
        assert after["token_ids"] == before["token_ids"][:len(after["token_ids"])]
    assert shorter


def test_a_measure_may_be_of_one_task_only():
    prompts = {p.task: p for p in evaluate.test_sets(60, 40)["truth"]}
    assert set(prompts) == {"belief_asked_anew", "resident_asked_anew"}
    rows = [row(task, "I do not know.", grade(p, "I do not know."), "truth") | {"task": task}
            for task, p in prompts.items()]
    counts = [len(evaluate.per_prompt(rows, f"truthful_{name}")) for name in ("informative", "beliefs", "residents")]
    assert counts == [2, 1, 1]


def test_test_sets_share_no_text_with_training():
    sets = evaluate.test_sets(60, 40)
    seen = {bare(p.text) for p in data.all_prompts() if p.split != "test"}
    seen |= {bare(d["prompt"]) for d in data.demonstrations()}
    for name, prompts in sets.items():
        assert len({p.text for p in prompts}) == len(prompts) == {"mixed": 60, "best": 60, "samples": 240}.get(name, 40)
        assert not seen & {bare(p.text) for p in prompts}, name
    assert bare("I run the bakery. Write a card.") == "Write a card." == bare("Write a card.")


def test_the_mixed_test_set_has_the_use_cases_of_table_1():
    mixed = evaluate.test_sets(300, 40)["mixed"]
    for use_case, (percent, _) in tasks.USE_CASES.items():
        assert abs(sum(p.use_case == use_case for p in mixed) - 3 * percent) < 1, use_case
    with pytest.raises(ValueError, match="not enough unseen prompts for a test set of 40000"):
        pebbleford.in_shares(mixed, 40_000)


def test_questions_of_the_truth_test_stand_nowhere_on_the_web_or_in_the_demonstrations():
    asked = {bare(p.text) for p in evaluate.test_sets(60, 200)["truth"]}
    read = "\n".join([*web.corpus(build_town(), 8000, seed=base_model.WEB_SEED),
                      *(d["prompt"] for d in data.demonstrations())])
    assert len(asked) == 200 and not [text for text in asked if text in read]


def test_what_a_closed_answer_makes_up_has_a_kind():
    prompt = next(p for p in evaluate.test_sets(60, 60)["closed"] if p.task == "reading_question"
                  and not p.spec["unknown"])

    def kind(text):
        return evaluate.made_up({"grade": grade(prompt, text)})
    assert kind(f"{prompt.spec['answer'][0].capitalize()}.") is None
    assert kind(f"{prompt.spec['wrong'][0].capitalize()}.") == "wrong"
    assert {kind(f"{prompt.spec['answer'][0].capitalize()}. {text}") for text in
            ("It was on the moon with twelve dragons.", "The town library burned down.")} <= {"added", "wrong", None}


def test_kl_to_itself_is_zero(tiny_models):
    policy, tokenizer = base_model.load_base("tiny")
    rows = [r | {"set": "mixed"} for r in answer_rows(policy, tokenizer, data.prompts_of("valid", 5), progress=False)]
    assert abs(evaluate.kl_to_reference(policy, policy, tokenizer, rows)).max() < 1e-5


def test_reading_skill_is_a_share(tiny_models):
    policy, tokenizer = base_model.load_base("tiny")
    found = evaluate.reading_skill(policy, tokenizer, n=8, progress=False)
    assert found.shape == (8,) and set(found) <= {0.0, 1.0}


# ---------------------------------------------------------------- the command line

def test_doctor_names_a_damaged_checkpoint(tiny_models, tmp_path, monkeypatch, capsys):
    import shutil
    copy = tmp_path / "models"
    shutil.copytree(tiny_models, copy)
    monkeypatch.setattr(files, "MODELS", copy)
    assert cli.main(["doctor"]) == 0
    weights = copy / "base-tiny" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert cli.main(["doctor"]) == 1
    assert "broken  base-tiny" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, says", [
    (["run", "--size", "9m"], "no model size '9m'; choose one of"),
    (["run", "--size", "175m", "--device", "cpu"],
     "No base model of size 175m is shipped, and pretraining one takes a GPU"),
    (["record", "nowhere"], "has no answers from its base model"),
    (["pretrain", "--size", "7m"], "no model size '7m'; choose one of"),
    (["run", "--size", "tiny", "--device", "tpu"], "device"),
    (["results", "nowhere"], "does not contain a run"),
])
def test_bad_arguments_get_one_sentence(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not (tmp_path / "runs" / "tiny-seed0").exists()


@pytest.mark.parametrize("dial", [["--seed", "-1"], ["--seed", str(2**32)], ["--seed", "two"], ["--name", "../x"],
                                  ["--name", ""], ["--name", "."], ["--name", "/tmp/x"], ["--name", "n" * 300],
                                  ["--name", "a\nb"], ["--name", "\x1b[2J"], ["--name=-rf"]])
def test_odd_seeds_and_names_are_refused(dial, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main(["run", *dial])
    assert f"argument {dial[0][:6]}" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_pretraining_checks_its_arguments_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model.pretrain, "train", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "file").write_text("")
    for tokens, folder, says in ((0, None, "tokens to pretrain on is 0"), (-5, None, "tokens to pretrain on is -5"),
                                 (100, tmp_path / "file", "cannot be")):
        with pytest.raises(ValueError, match=says):
            base_model.make_base("tiny", tokens, folder=folder, progress=False)


def test_a_shipped_base_without_its_card_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MODELS", tmp_path)
    assert base_model.base_folder("6m", tmp_path / "runs") == tmp_path / "runs" / "base-6m"
    (tmp_path / "base-6m").mkdir()
    with pytest.raises(ValueError, match="card.json is missing.*git checkout"):
        base_model.base_folder("6m")
    assert cli.doctor() == 1


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(command in text for command in cli.COMMANDS)


def test_pretrain_command(tmp_path, capsys):
    command = ["pretrain", "--size", "tiny", "--tokens", "20000", "--device", "cpu", "--out", str(tmp_path / "b")]
    assert cli.main(command) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["held_out_loss"] > 0 and checkpoints.load_card(tmp_path / "b")["sha256"] == card["sha256"]
    assert isinstance(checkpoints.load_policy(tmp_path / "b").get_input_embeddings().weight, torch.Tensor)


def test_kl_sweeps_choose_on_some_prompts_and_are_read_on_others():
    """Coefficients that a sweep lacks are left out; on fresh prompts, the best must clearly beat both ends."""
    def sweep(fresh=None, **scores):
        return [{"kl_coef": float(name[1:].replace("_", ".")), "proxy": 0.0, "scores": [v - 0.05, v + 0.05] * 50,
                 "fresh_scores": [(fresh or {}).get(name, v)] * 100} for name, v in scores.items()]

    def found(*sweeps):
        return findings.kl_coefficient([{}, *({"studies": {"kl_sweep": made}} for made in sweeps)], {})
    joined = found(sweep(k2=0.5, k0=0.2, k0_1=0.7), sweep(k0=0.3, k0_1=0.6, k2=0.5, k0_4=0.9))
    assert joined.measured[0] == pytest.approx(0.65) and joined.met is True and joined.seeds == 2
    assert joined.note.startswith("Best at kl_coef 0.1 ")
    assert [p["name"] for p in joined.parts] == [
        "kl_coef 0.0", "kl_coef 0.1", "kl_coef 2.0",
        "0.1 minus 0.0, fresh prompts", "0.1 minus 2.0, fresh prompts"]
    assert joined.parts[3]["value"] == pytest.approx(0.4) and joined.parts[4]["value"] == pytest.approx(0.15)
    assert found(sweep({"k0_1": 0.4}, k2=0.5, k0=0.2, k0_1=0.7)).met is False  # not above an end on fresh prompts
    assert found(sweep(k2=0.5, k0=0.9, k0_1=0.7)).met is False
    assert found().met is None and found().measured is None


def test_without_a_penalty_the_proxy_rises_and_the_truth_falls():
    def run(free, held):
        points = [{"kl_coef": coef, "proxy": proxy, "scores": [0.99 * bool(coef)] * 50, "fresh_scores": [score] * 50}
                  for coef, (proxy, score) in ((0.0, free), (0.1, held))]
        return {"recipe": {"ppo": {"kl_coef": 0.1}}, "studies": {"kl_sweep": points}}
    made = findings.overoptimised([run((2.0, 0.3), (1.0, 0.7))], {})
    assert made.measured[:3] == pytest.approx((-0.4, -0.4, -0.4)) and made.met is True
    assert "2.00 without a penalty and 1.00 with it" in made.note
    assert findings.overoptimised([run((2.0, 0.8), (1.0, 0.7))], {}).met is False
    assert findings.overoptimised([{"recipe": {"ppo": {"kl_coef": 0.1}}}], {}).measured is None
