"""A step is done when all it wrote is whole, and what an error advises works."""

import json
import shutil
from dataclasses import replace

import pytest

from rlhf_lite import checkpoints, files, locks, training_state
from rlhf_lite.experiment import base_model, ledger, report, results, run
from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS, Recipe
from rlhf_lite.ppo import PPOConfig

TINY = Recipe(size="tiny", reward_size="tiny", demonstrations=8, sft_epochs=1, sft_batch=8, rankings=8, first_round=1.0,
              answers_per_prompt=3, gate_prompts=2, pretraining_tokens=2048, test_prompts=4, stratum_prompts=2,
              samples=1, ppo=PPOConfig(iterations=1, batch_size=4, minibatch=4, max_new_tokens=MAX_NEW_TOKENS, lr=1e-4))
STEPS = ("make_sft", "make_rankings", "make_reward", "make_gate", "make_ppo", "make_answers")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished tiny run in its folder of runs, beside a tiny base."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(base_model.TOKENS, "tiny", 4000)
        patch.setattr(results, "collect_results", lambda _: {"name": "first"})  # measuring is for test_run.py
        patch.setattr(base_model, "web_rows", short_web(base_model.web_rows))
        run.run_pipeline(TINY, "first", "cpu", runs, progress=False)
    return runs


def short_web(web_rows):
    return lambda tokenizer, tokens, *more, **named: web_rows(tokenizer, min(tokens, 2000), *more, **named)


@pytest.fixture
def copy(finished, tmp_path, monkeypatch):
    """A copy of it that may be damaged, and the names of the steps that are made again."""
    shutil.copytree(finished, tmp_path / "runs")
    monkeypatch.setitem(base_model.TOKENS, "tiny", 4000)
    monkeypatch.setattr(results, "collect_results", lambda _: {"name": "first"})
    monkeypatch.setattr(base_model, "web_rows", short_web(base_model.web_rows))
    made = []
    for name in STEPS:
        original = getattr(run, name)
        monkeypatch.setattr(run, name, lambda *arguments, name=name, original=original:
                            made.append(" ".join([name, *map(str, arguments[1:2])])) or original(*arguments))
    return tmp_path / "runs" / "first", made


def again(folder, **changes):
    return run.run_pipeline(replace(TINY, **changes), folder.name, "cpu", folder.parent, progress=False)


def halve(path):
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def cut_a_line(path):
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def double(path):
    path.write_bytes(2 * path.read_bytes())


DAMAGE = [  # file, what happens to it, the step that must be made again
    ("sft/model.safetensors", flip, "make_sft"),
    ("reward.json", halve, "make_reward"),
    ("measured/sft.json", files.Path.unlink, "make_answers sft"), ("answers/ppo.jsonl", cut_a_line, "make_answers ppo"),
    ("answers/base.jsonl", double, "make_answers base"), ("rankings-1-train.jsonl", cut_a_line, "make_rankings sft")]


@pytest.mark.parametrize(("name", "damage", "step"), DAMAGE, ids=[f"{n} {d.__name__}" for n, d, _ in DAMAGE])
def test_the_same_command_mends_it(copy, name, damage, step):
    folder, made = copy
    before = (folder / name).read_bytes()
    damage(folder / name)
    again(folder)
    assert made == [step]
    if name.endswith((".safetensors", ".jsonl")) or name in ("reward.json", "gate.json", "measured/sft.json"):
        assert (folder / name).read_bytes() == before


@pytest.mark.parametrize("name", ["reward.json", "answers/ppo.jsonl"])
def test_a_run_without_notes_is_judged_by_its_content(copy, name):
    folder, made = copy
    (folder / ledger.DONE).unlink()
    again(folder)
    assert made == [] and (folder / ledger.DONE).is_file()
    (folder / ledger.DONE).unlink()
    halve(folder / name)
    again(folder)
    assert len(made) == 1


def test_the_base_that_a_run_made_is_mended_too(copy):
    folder, _ = copy
    weights = folder.parent / "base-tiny" / "model.safetensors"
    before = checkpoints.sha256(weights)
    flip(weights)
    again(folder)
    assert checkpoints.sha256(weights) == before


def test_the_shipped_base_is_never_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MODELS", tmp_path)
    (tmp_path / "base-tiny").mkdir()
    (tmp_path / "base-tiny" / "card.json").write_text("{}")
    (tmp_path / "tokenizer").symlink_to(files.DATA / "models" / "tokenizer")
    monkeypatch.setattr(run, "make_base", lambda *_: pytest.fail("it was replaced"))
    with pytest.raises((ValueError, OSError)):
        run.run_pipeline(TINY, "first", "cpu", tmp_path / "runs", progress=False)


def test_advice_to_delete_a_file_works(copy):
    """Each of these sentences ends in "delete it ..."; after that the command runs."""
    folder, made = copy
    for name in ("recipe.json", "minutes.json"):
        halve(folder / name)
        halve(folder / "gate.json")
        with pytest.raises(ValueError, match=rf"{name} is damaged .*delete it and run the command that started"):
            again(folder)
        (folder / name).unlink()
        again(folder)
        json.loads((folder / name).read_text(encoding="utf-8"))
    assert made == ["make_gate"] * 2


def test_a_damaged_training_state_is_deleted_and_starts_over(copy):
    folder, made = copy
    before = checkpoints.sha256(folder / "sft" / "model.safetensors")
    flip(folder / "sft" / "model.safetensors")
    (folder / "state" / "sft").mkdir(parents=True)
    state = folder / "state" / "sft" / training_state.STATE
    state.write_text("no state")
    with pytest.raises(ValueError, match="training.safetensors is damaged .*delete it to start this training over"):
        again(folder)
    state.unlink()
    again(folder)
    assert checkpoints.sha256(folder / "sft" / "model.safetensors") == before


def test_a_recipe_that_was_deleted_is_not_replaced_by_another(copy):
    folder, _ = copy
    (folder / "recipe.json").unlink()
    with pytest.raises(ValueError, match="contains a run with other settings"):
        again(folder, seed=1)
    assert not (folder / "recipe.json").exists()
    again(folder)
    assert json.loads((folder / "recipe.json").read_text())["seed"] == 0


@pytest.mark.parametrize("name", ["measured/sft.json", "gate.json", "answers/ppo.jsonl", "reward.json"])
def test_a_table_is_not_made_from_what_is_left(copy, name):
    folder, _ = copy
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"is not finished \({name} is missing\); finish it first: .*--name first"):
        results.load_run(folder)


def test_what_the_report_leaves_out_is_there_after_another_run(copy):
    folder, _ = copy
    halve(folder / "sft" / "history.json")
    assert "sft/history.json is damaged and left out; run that step again" in report.write_report(folder).read_text()
    again(folder)
    assert "is damaged and left out" not in (folder / "report.html").read_text()


def test_another_outcome_is_told(copy, capsys, monkeypatch):
    folder, _ = copy
    flip(folder / "sft" / "model.safetensors")
    monkeypatch.setattr(run, "make_sft", lambda opened: (folder / "sft" / "model.safetensors").write_bytes(b"other"))
    opened = run.Run(TINY, "first", "cpu", folder.parent)
    opened.step("sft", [f"sft/{name}" for name in ledger.MODEL], lambda: run.make_sft(opened))
    said = capsys.readouterr().out
    assert "sft again: " in said and "sft/model.safetensors is not what this step wrote" in said


def test_two_commands_on_one_run_do_not_work_twice(copy):
    folder, _ = copy
    with locks.alone(folder), pytest.raises(locks.Busy, match="first is in use by process .*choose another name"):
        again(folder)


def test_an_unwritable_place_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model.pretrain, "train", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "file").write_text("")
    for folder, state in ((tmp_path / "file" / "base", None), (tmp_path / "base", tmp_path / "file" / "state")):
        with pytest.raises(OSError, match="Could not write to .*choose another folder"):
            base_model.make_base("tiny", 5000, folder=folder, state=state, progress=False)
