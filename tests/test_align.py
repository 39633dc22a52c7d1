"""A builder's path at tiny size: align, its gate and report, new answers to rank, and the next round."""

import json
import time

import pytest
import torch
from tiny import a_foreign_model, a_foreign_tokenizer

from rlhf_lite import __main__ as cli
from rlhf_lite import checkpoints, feedback, files, models
from rlhf_lite.real import align, align_steps, hub, own_data
from rlhf_lite.widgets import serve

PROMPTS = [f"Q{i} <b>$1$" for i in range(12)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def run(request, tmp_path_factory):
    """A finished first round: (folder, the arguments that made it)."""
    root = tmp_path_factory.mktemp("align")
    model = a_foreign_model(request.param, layers=3)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2 if p.ndim > 1 else 1)
    model.save_pretrained(root / "model")
    a_foreign_tokenizer().save_pretrained(root / "model")
    ranked = [{"prompt": p, "responses": ["ab", "c", "dd"], "ranks": [1, 3, 2]} for p in PROMPTS[:10]]
    arguments = ["align", "--model", str(root / "model"), "--out", str(root / "mine"), "--tokens", "6",
                 "--iterations", "1", "--anyway", "--device", "cpu",
                 "--prompts", write(root / "p.jsonl", [{"prompt": p} for p in PROMPTS] + [{"prompt": ""}]),
                 "--demonstrations", write(root / "d.jsonl", [{"prompt": p, "response": "ab"} for p in PROMPTS[:8]]),
                 "--rankings", write(root / "r.jsonl", [*ranked, {"prompt": "x", "chosen": None, "rejected": "y"}])]
    assert cli.main(arguments) == 0
    return root / "mine", arguments


def test_the_first_round_leaves_models_results_and_a_report(run, capsys):
    folder, arguments = run
    first = folder / "round-1"
    found = files.read_json(first / "results.json")
    assert {"sft", "reward", "judge", "gate", "PPO", "wins", "answers"} <= found.keys() and not found["skipped"]
    assert list(found["answers"]) == ["before", "SFT", "PPO"] and set(found["wins"]) == {"before", "SFT"}
    assert set(found["wins"]["SFT"]) == {"reward", "judge", "reward, equal length", "judge, equal length"}
    held_out = files.read_json(folder / "data.json")["held_out"]
    assert {row["prompt"] for row in found["answers"]["PPO"]} == set(held_out) and len(held_out) == 3
    page = (first / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;$1$" in page and "<b>$1$" not in page and "second judge" in page
    base, sft, aligned = hub.load(folder.parent / "model")[0], hub.load(first / "sft")[0], hub.load(first / "policy")[0]
    assert checkpoints.load_card(first / "reward")["kind"] == "scalar"
    for one, other in ((base, sft), (sft, aligned)):
        changed = [name for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True)
                   if a.shape == b.shape and not torch.equal(a, b)]
        assert changed and all(".2." in name or "norm" in name or "ln_f" in name or "head" in name for name in changed)


def test_a_finished_step_is_not_done_again_and_other_settings_are_refused(run, capsys):
    folder, arguments = run
    before = (folder / "round-1" / "sft" / "model.safetensors").stat().st_mtime_ns
    assert cli.main(arguments) == 0
    assert (folder / "round-1" / "sft" / "model.safetensors").stat().st_mtime_ns == before
    assert cli.main([*arguments, "--seed", "1"]) == 1
    assert "begun with other settings (config" in capsys.readouterr().err


def test_round_two_goes_on_with_what_people_rank(run, capsys):
    folder, arguments = run
    assert cli.main(["align", "--out", str(folder), "--round", "2"]) == 1
    assert "There are no new rankings" in capsys.readouterr().err
    assert cli.main(["rank", "--from", str(folder), "--name", "Ada"]) == 0
    assert "RankingWidget(serve.open_session(" in capsys.readouterr().out
    session = serve.open_session(folder / "to_rank-2.jsonl", "Ada", folder / "feedback" / "ada.jsonl")
    assert not {item["prompt"] for item in session.items} & set(files.read_json(folder / "data.json")["held_out"])
    while session.item is not None:
        for place in range(len(session.item["responses"])):
            session.set_rank(place, place + 1)
        session.submit()
    assert cli.main(["align", "--out", str(folder), "--round", "2", "--tokens", "6", "--iterations", "1", "--anyway",
                     "--steps", "sft,reward,dpo", "--device", "cpu"]) == 0
    found = files.read_json(folder / "round-2" / "results.json")
    assert list(found["answers"]) == ["before", "SFT", "round 1", "DPO"] and found["DPO"]
    assert found["reward"]["rankings"] > files.read_json(folder / "round-1" / "results.json")["reward"]["rankings"]


def test_lora_and_whole_models(tmp_path, run):
    pytest.importorskip("peft")
    folder, arguments = run
    for name, more in (("lora", ["--lora", "2"]), ("whole", ["--frozen", "0"])):
        words = [*arguments, *more]
        words[words.index("--out") + 1] = str(tmp_path / name)
        assert cli.main(words) == 0
        policy, _, _ = hub.load(tmp_path / name / "round-1" / "policy")
        base, _, _ = hub.load(folder.parent / "model")
        first = next(name for name, p in base.named_parameters() if ".0." in name and p.ndim > 1)
        assert not torch.equal(policy.get_parameter(first), base.get_parameter(first))


def test_mistakes_are_one_sentence(run, tmp_path, capsys):
    folder, arguments = run
    for change, why in (({"--steps": "sft,rewards"}, "There is no step 'rewards'"),
                        ({"--model": "./none"}, "not a folder"), ({"--round": "3"}, "no finished round 2"),
                        ({"--tokens": "60"}, "leave no room for 60 new tokens"),
                        ({"--prompts": write(tmp_path / "p", [{"text": 3}])}, "there is nothing to use")):
        words = [*arguments, "--out", str(tmp_path / "x")]
        for option, value in change.items():
            words += [option, value]
        if "--round" in change:
            (tmp_path / "x").mkdir(exist_ok=True)
            files.write_json(tmp_path / "x" / "data.json", files.read_json(folder / "data.json"))
            feedback.append_jsonl(tmp_path / "x" / "feedback" / "a.jsonl",
                                  feedback.new_ranking("1", "Q", ["a", "b"], [1, 2], "A"))
        assert cli.main(words) == 1
        assert why in capsys.readouterr().err


# ---------------------------------------------------------------- its parts

def test_nobody_trains_on_what_is_held_out():
    own = own_data.Own(PROMPTS, [(p, "a") for p in PROMPTS[:9]], [
        feedback.new_ranking(str(i), p, ["a", "b"], [1, 2], "Ada") for i, p in enumerate(PROMPTS[:8] * 2)])
    train, held_out = own_data.hold_out(own, 0.25, 0)
    assert sorted(train + held_out) == sorted(PROMPTS) and set(held_out) == set(PROMPTS[9:])
    first, second = own_data.for_two_judges(own.rankings, 0.4, 0)
    assert len(first) + len(second) == 16 and not {r["prompt"] for r in first} & {r["prompt"] for r in second}
    with pytest.raises(ValueError, match="only 3 different prompts"):
        own_data.hold_out(own_data.Own(PROMPTS[:3], [], []), 0.25, 0)


def test_rankings_that_cannot_be_compared_are_named():
    tokenizer = a_foreign_tokenizer(bos_token="<|endoftext|>")
    same = [{"text": text, "token_ids": [5]} for text in "ab"]
    rows = [feedback.new_ranking("same", "Q", same, [1, 2], "A"),
            feedback.new_ranking("long", "Q" * 99, ["a", "b"], [1, 2], "A"),
            feedback.new_ranking("tie", "Q", ["a", "b"], [1, 1], "A"),
            feedback.new_ranking("other", "Q", [{"text": "a", "token_ids": [9999]}, "b"], [1, 2], "A")]
    kept, notes = own_data.ranked_prompts(tokenizer, rows, 40)
    assert len(kept) == 1 and kept[0].responses[0] == models.encode_response(tokenizer, "a")
    assert [note.split(":")[0] for note in notes] == ["same", "long"]


def test_micro_batches_follow_the_memory(monkeypatch):
    policy = a_foreign_model("llama")
    need = align_steps.memory.training_memory(policy.config, 2, 10, 6)["peak"]
    config = align_steps.AlignConfig(max_new_tokens=6, frozen=0.0)
    monkeypatch.setattr(align_steps.memory, "free_memory", lambda device: need / 0.9 + 1)
    assert align_steps.fit(config, policy, 16).ppo.micro_batch == 2
    monkeypatch.setattr(align_steps.memory, "free_memory", lambda device: 1000)
    with pytest.raises(MemoryError, match="with one row at a time"):
        align_steps.fit(config, policy, 16)


def test_the_served_page(tmp_path):
    items = tmp_path / "items.jsonl"
    write(items, [{"prompt_id": "1", "prompt": "Q", "responses": ["a", "b"]}])
    code = serve.notebook(serve.cell(items, "Ada", tmp_path / "a.jsonl"))["cells"][0]["source"]
    pytest.importorskip("ipywidgets")
    found = {}
    exec(code.replace("\nRankingWidget(", "\npage = RankingWidget("), found)
    assert found["page"].session.item["prompt"] == "Q"
    words = serve.voila(tmp_path / "x.ipynb", 8866, "secret")
    assert "--Voila.ip=127.0.0.1" in words and "--Voila.token=secret" in words
    assert "--Voila.ip=0.0.0.0" in serve.voila(tmp_path / "x.ipynb", 8866, "secret", others=True)
    assert align.finished(tmp_path) == 0


def test_the_forecast_is_for_an_idle_machine(monkeypatch):
    """On a busy one, a model of 135M parameters was said to take 986 minutes."""
    policy, read = a_foreign_model("llama", layers=3), models.logits
    monkeypatch.setattr(models, "logits", lambda *given: (time.sleep(0.5), read(*given))[1])  # waiting for its turn
    assert align_steps.seconds(policy, lambda: models.logits(policy, torch.ones(1, 4, dtype=torch.long),
                                                             torch.ones(1, 4, dtype=torch.long))) < 0.25
