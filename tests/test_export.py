"""Hand-over: what is written is read back by transformers and datasets, with the same scores and logits."""

import json
import os
import re
import runpy
import subprocess
from pathlib import Path

import datasets
import pytest
import torch
from tiny import a_foreign_model, a_foreign_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from rlhf_lite import __main__, checkpoints, feedback, files, models, reward
from rlhf_lite.experiment import data
from rlhf_lite.experiment.recipe import default_recipe, recipe_settings
from rlhf_lite.real import engine_flags, export, hub
from rlhf_lite.real.engine_flags import ENGINES
from rlhf_lite.sampling import pad_left, pad_right

PROMPTS = ["Who sells bread?", "Write one line\nabout the baker."]
ANSWERS = ["Alice does.", "The baker", "I do not know.", "Bread!"]


def a_reward_model(policy):
    model = models.scalar_from_policy(policy, 3)
    with torch.no_grad():
        model.score.bias.fill_(0.7)
    return model


def a_ranking(tokenizer, prompt, ranks, cut=()):
    responses = []
    for place, text in enumerate(ANSWERS[:len(ranks)]):
        ids = models.encode_response(tokenizer, text)
        responses.append({"text": text, "source": "sft", "token_ids": ids[:-1] if place in cut else ids})
    return feedback.new_ranking(f"p{len(prompt)}", prompt, responses, ranks, "simulated:a")


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A run of the town with tiny models."""
    folder = tmp_path_factory.mktemp("run") / "first"
    tokenizer = models.load_tokenizer(files.MODELS / "tokenizer")
    policy = models.new_policy("tiny", 0, len(tokenizer))
    checkpoints.save_checkpoint(folder / "sft", policy, {})
    checkpoints.save_checkpoint(folder / "reward", a_reward_model(policy), {})
    recipe = json.loads(json.dumps(recipe_settings(default_recipe("1.3m", 5)))) | {"size": "tiny"}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    for split in ("train", "valid"):
        for prompt in PROMPTS:
            feedback.append_jsonl(folder / f"rankings-1-{split}.jsonl",
                                  a_ranking(tokenizer, prompt, [1, 2, 2, 4], cut=(3,)))
    return folder, policy, tokenizer


@pytest.fixture(scope="module")
def exported(town, tmp_path_factory):
    root = tmp_path_factory.mktemp("out")
    rows = [{"prompt": PROMPTS[0], "response": ANSWERS[0]}] * 3
    patch = pytest.MonkeyPatch()
    patch.setattr(data, "demonstrations", lambda split: rows)
    patch.setattr(data, "prompts_of", lambda split: [type("P", (), {"text": text}) for text in PROMPTS])
    for engine in ENGINES:
        export.export(town[0], root / engine, engine)
    patch.undo()
    return root


def rows_of(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


# ---------------------------------------------------------------- models

@pytest.mark.parametrize("kind", ("gpt2", "llama", "untied"))
def test_a_classifier_gives_our_scores_whatever_the_padding(kind, tmp_path):
    policy, tokenizer = a_foreign_model(kind).eval(), a_foreign_tokenizer()
    pad = hub.add_special_ids(policy, tokenizer).pad
    model = a_reward_model(policy)
    export.to_classifier(model, pad).save_pretrained(tmp_path)
    again, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert again.score.bias is None and again.config.mean == pytest.approx(-0.7) and again.config.std == 1.0
    end = tokenizer.eos_token_id
    rows = [[end, 5, 6, end], [end, 7, end, 8, 9, 10, end], [end, 3]]  # an end in the prompt, one without
    ours = reward.score(model, rows)
    for padded in (pad_right(rows), pad_left(rows)):
        ids, mask = torch.where(padded[1].bool(), padded[0], pad), padded[1]
        with torch.no_grad():
            logits = again(input_ids=ids, attention_mask=mask, **models.position_arguments(again, mask)).logits
        assert torch.allclose((logits.squeeze(-1) - again.config.mean) / again.config.std, ours, atol=1e-5)
    back = export.load_classifier(tmp_path)
    assert torch.allclose(reward.score(back, rows), ours, atol=1e-5)


def test_models_of_a_run_are_read_back_by_transformers(town, exported):
    folder, policy, tokenizer = town
    for engine in ENGINES:
        again = AutoModelForCausalLM.from_pretrained(exported / engine / "sft").eval()
        theirs = AutoTokenizer.from_pretrained(exported / engine / "sft")
        ids = torch.tensor([models.encode_prompt(tokenizer, PROMPTS[0])])
        assert torch.equal(again(ids).logits, policy(ids).logits)
        assert (theirs.pad_token_id, theirs.eos_token_id, len(theirs)) == (0, 2, len(tokenizer))
        assert again.generation_config.top_k == 0 and again.generation_config.eos_token_id == 2
        row = models.encode_prompt(tokenizer, PROMPTS[0]) + models.encode_response(tokenizer, ANSWERS[0])
        judge = AutoModelForSequenceClassification.from_pretrained(exported / engine / "reward").eval()
        score = judge(torch.tensor([row])).logits.item() - judge.config.mean
        assert score == pytest.approx(reward.score(checkpoints.load_scalar(folder / "reward"), [row]).item(), abs=1e-5)


def test_the_judge_of_trl_reads_the_ids_that_were_sampled(town, exported, monkeypatch):
    """Answers as sampled: with END, cut off, and in other pieces than the text would have."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    folder, _, tokenizer = town
    whole, other = (models.encode_response(tokenizer, text) for text in ANSWERS[:2])
    answers = [whole, other[:-1], [5, 2]]
    prompts = [PROMPTS[0], PROMPTS[1], PROMPTS[0]]
    judge = runpy.run_path(str(exported / "trl" / "judge.py"))
    told = judge["score"](prompts=[[{"role": "user", "content": text}] for text in prompts], completion_ids=answers,
                          completions=None, trainer_state=None)
    ours = checkpoints.load_scalar(folder / "reward")
    rows = [reward.reward_input(models.encode_prompt(tokenizer, text), ids)
            for text, ids in zip(prompts, answers, strict=True)]
    assert torch.allclose(torch.tensor(told), reward.score(ours, rows) - ours.score.bias.item(), atol=1e-5)
    assert not (exported / "openrlhf" / "judge.py").exists()


def test_a_model_from_elsewhere_loads_here(exported, tmp_path):
    """What an engine saves is a folder of transformers: the policy through hub.load, the reward model from here."""
    policy, tokenizer, ids = hub.load(exported / "trl" / "sft")
    assert ids == (0, 1, 2) and models.end_token(policy) == 2
    judge = AutoModelForSequenceClassification.from_pretrained(exported / "trl" / "sft", num_labels=1)  # a fresh head
    judge.save_pretrained(tmp_path / "rm")
    row = models.encode_prompt(tokenizer, "Who?")
    ours = reward.score(export.load_classifier(tmp_path / "rm"), [row]).item()
    assert ours == pytest.approx(judge.eval()(torch.tensor([row])).logits.item(), abs=1e-5)
    for folder, match in ((exported / "trl" / "sft", "is not a reward model with one output"),
                          (exported / "trl" / "data", "has no weights in safetensors")):
        with pytest.raises((ValueError, FileNotFoundError), match=match):
            export.load_classifier(folder)


# ---------------------------------------------------------------- data

def test_texts_become_the_ids_we_trained_on(town, exported):
    _, _, tokenizer = town
    wanted = {(tuple(models.encode_prompt(tokenizer, prompt)), tuple(models.encode_response(tokenizer, answer)))
              for prompt in PROMPTS for answer in ANSWERS}
    for engine in ("trl", "openrlhf"):
        theirs = AutoTokenizer.from_pretrained(exported / engine / "sft")
        found = set()
        for row in datasets.load_dataset(str(exported / engine / "data" / "pairs"), split="train"):
            for answer in (row["chosen"], row["rejected"]):
                special = engine == "trl"  # OpenRLHF asks for no special tokens, TRL for the usual ones
                prompt = theirs(row["prompt"], add_special_tokens=special)["input_ids"]
                both = theirs(row["prompt"] + answer, add_special_tokens=special)["input_ids"]
                assert both[:len(prompt)] == prompt and both.count(2) == 1
                found.add((tuple(prompt), tuple(both[len(prompt):])))
        assert found == wanted


def test_pairs_carry_their_weights_ties_are_left_out_and_no_margin_is_shipped(town, exported):
    rows = rows_of(exported / "trl" / "data" / "pairs" / "train.jsonl")
    assert len(rows) == 2 * 5 and rows[0].keys() == {"prompt", "chosen", "rejected", "ranking_id", "pair_weight"}
    assert all(row["pair_weight"] == 1 / 5 for row in rows) and len({row["ranking_id"] for row in rows}) == 2
    assert {(row["chosen"], row["rejected"]) for row in rows} == {
        (ANSWERS[i] + "<|end|>", ANSWERS[j] + "<|end|>") for i, j in ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3))}
    counts = json.loads((exported / "trl" / "export.json").read_text())["counts"]["train"]
    assert counts == {"pairs": 10, "unfinished": 2, "other_ids": 0, "special_token_in_text": 0}
    tokenizer = town[2]
    odd = a_ranking(tokenizer, "What is <|end|>?", [1, 2])
    assert export.pair_rows([odd], tokenizer)[1]["special_token_in_text"] == 1


def test_demonstrations_prompts_and_the_chat_template(town, exported):
    tokenizer = town[2]
    row = rows_of(exported / "openrlhf" / "data" / "demonstrations" / "train.jsonl")[0]
    assert row == {"prompt": f"<|begin|>{PROMPTS[0]}\n", "completion": ANSWERS[0] + "<|end|>"}
    assert [r["prompt"] for r in rows_of(exported / "openrlhf" / "data" / "prompts" / "train.jsonl")] == [
        f"<|begin|>{text}\n" for text in PROMPTS]
    rows = datasets.load_dataset("parquet", data_files=str(exported / "verl" / "data" / "prompts" / "train.parquet"),
                                 split="train")
    assert set(rows.column_names) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    for engine, found in (("verl", rows), ("trl", rows_of(exported / "trl" / "data" / "prompts" / "train.jsonl"))):
        theirs = AutoTokenizer.from_pretrained(exported / engine / "reward")
        for text, row in zip(PROMPTS, found, strict=True):
            ids = theirs.apply_chat_template(row["prompt"], tokenize=True, add_generation_prompt=True)["input_ids"]
            assert ids == models.encode_prompt(tokenizer, text)
            whole = theirs.apply_chat_template([*row["prompt"], {"role": "assistant", "content": ANSWERS[0]}],
                                               tokenize=False)  # what TRL's RLOO hands to the reward model
            assert whole == f"<|begin|>{text}\n{ANSWERS[0]}<|end|>"
            assert theirs(whole, add_special_tokens=False)["input_ids"] == reward.reward_input(
                ids, models.encode_response(tokenizer, ANSWERS[0]))


def test_nemo_rl_gets_all_ranks_and_they_can_be_imported_again(tmp_path):
    from rlhf_lite.real import importing
    policy, tokenizer = a_foreign_model("llama").eval(), a_foreign_tokenizer()
    hub.add_special_ids(policy, tokenizer)
    rows = [feedback.new_ranking("1", "Who?", ["a", "b", "c"], [2, 1, 2], "Ada")]
    export.write_export(tmp_path / "x", "nemo-rl", tokenizer, {"sft": policy}, engine_flags.settings(), {"train": rows})
    (row,) = rows_of(tmp_path / "x" / "data" / "preferences" / "train.jsonl")
    assert [one["rank"] for one in row["completions"]] == [1, 0, 1]
    (again,) = importing.read(tmp_path / "x" / "data" / "preferences" / "train.jsonl").rows
    assert (again["prompt"], again["ranks"]) == ("Who?", [2, 1, 2])
    assert "examples/run_rm.py" in (tmp_path / "x" / "launch.sh").read_text()


def test_begin_stands_before_a_prompt_once():
    tokenizer = a_foreign_tokenizer()
    tokenizer.bos_token = "!"
    assert [export.begin_text(tokenizer, engine) for engine in ENGINES] == ["!", "!", "", ""]
    tokenizer._tokenizer.post_processor = export_processor("!", tokenizer.bos_token_id)
    assert [export.begin_text(tokenizer, engine) for engine in ENGINES] == ["", "!", "", ""]


def export_processor(token, token_id):
    from tokenizers.processors import TemplateProcessing
    return TemplateProcessing(single=f"{token} $A", special_tokens=[(token, token_id)])


# ---------------------------------------------------------------- the launch script

def test_the_script_holds_our_settings_and_says_what_an_engine_lacks(exported):
    ppo = engine_flags.settings(recipe_settings(default_recipe("1.3m", 5)))["ppo"]
    steps = ppo.iterations * ppo.batch_size // ppo.minibatch  # one inner epoch
    for engine, wanted in (("trl", [f"--beta {ppo.kl_coef}", f"--max_completion_length {ppo.max_new_tokens}",
                                    f"--max_steps {steps}", f"--per_device_train_batch_size {ppo.minibatch}",
                                    "--gradient_accumulation_steps 5", "--learning_rate 0.0003 "]),  # 5 pairs a ranking
                           ("openrlhf", [f"--algo.kl.init_coef {ppo.kl_coef}", f"--algo.advantage.lambd {ppo.lam}",
                                         "--train.ema_beta 0.992", "--train.seed 5", "--train.batch_size 80 "]),
                           ("verl", [f"algorithm.kl_ctrl.kl_coef={ppo.kl_coef}", "algorithm.use_kl_in_reward=True",
                                     f"algorithm.lam={ppo.lam}", "critic.model.path=reward"])):
        path = exported / engine / "launch.sh"
        text = path.read_text()
        assert all(word in text for word in wanted) and re.search(r"# .*ptx_coef", text) and os.access(path, os.X_OK)
        assert subprocess.run(["bash", "-n", path], capture_output=True).returncode == 0
        if engine != "verl":  # the command stands there all the same, as a comment
            assert re.search(r"\n# \(left out: base was not exported\)\n# (trl|deepspeed) ", text)


def test_every_flag_of_trl_exists():
    trl = pytest.importorskip("trl")
    import dataclasses

    from trl.scripts.rloo import RLOOScriptArguments
    for title, config in (("sft", trl.SFTConfig), ("reward", trl.RewardConfig), ("dpo", trl.DPOConfig),
                          ("rloo", trl.RLOOConfig)):
        known = {f.name for c in (config, trl.ModelConfig, RLOOScriptArguments) for f in dataclasses.fields(c)}
        assert {flag[2:] for flag in engine_flags.flags("trl")[title]} <= known


@pytest.mark.skipif("RLHF_LITE_ENGINES" not in os.environ, reason="RLHF_LITE_ENGINES names no folder with sources")
def test_every_flag_of_openrlhf_and_verl_exists():
    """Against unpacked wheels (openrlhf and verl need a GPU to be installed whole)."""
    root = Path(os.environ["RLHF_LITE_ENGINES"])
    for title, program in (("sft", "train_sft"), ("reward", "train_rm"), ("ppo", "train_ppo_ray")):
        source = next(root.rglob(f"openrlhf/cli/{program}.py")).read_text()
        known = set(re.findall(r'"(--[\w.]+)"', source)) | {"--module"}
        for who in ("actor", "critic"):
            known |= {name.replace("{name}", who).replace("{role}", who).replace("{prefix}", who)
                      for name in re.findall(r'f"(--[\w.{}]+)"', source)}
        assert set(engine_flags.flags("openrlhf")[title]) <= known
    import yaml
    tree = yaml.safe_load(next(root.rglob("_generated_ppo_trainer.yaml")).read_text())
    for flag in engine_flags.flags("verl")["ppo"]:
        place = tree
        for part in flag.split("."):
            place = place[part]  # a KeyError names the flag that is gone


# ---------------------------------------------------------------- the command, and what can go wrong

def test_the_command_exports_a_single_model_too(town, exported, tmp_path, capsys):
    folder, policy, _ = town
    assert __main__.main(["export", "--to", "trl", str(folder / "reward"), str(tmp_path / "r")]) == 0
    assert (tmp_path / "r" / "reward" / "model.safetensors").is_file() and "read launch.sh" in capsys.readouterr().out
    assert __main__.main(["export", "--to", "verl", str(exported / "trl" / "sft"), str(tmp_path / "p")]) == 0
    ids = torch.tensor([[1, 5, 6]])
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "p" / "sft").eval()
    assert torch.equal(again(ids).logits, policy(ids).logits)
    assert __main__.main(["export", "--to", "trl", str(folder / "sft"), str(tmp_path / "r")]) == 1
    assert "already exists; choose another folder" in capsys.readouterr().err


def test_a_reward_model_on_a_model_from_the_hub(tmp_path):
    policy, tokenizer = a_foreign_model("gpt2").eval(), a_foreign_tokenizer()
    hub.add_special_ids(policy, tokenizer)
    model = a_reward_model(policy)
    checkpoints.save_checkpoint(tmp_path / "r", model, {})
    with pytest.raises(FileNotFoundError, match="has no tokenizer.json; save one there"):
        export.export(tmp_path / "r", tmp_path / "o", "trl")
    tokenizer.save_pretrained(tmp_path / "r")
    export.export(tmp_path / "r", tmp_path / "o", "trl")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "o" / "reward")
    message = [{"role": "user", "content": "Who?"}]
    ids = theirs.apply_chat_template(message, tokenize=True, add_generation_prompt=True)["input_ids"]
    assert ids == hub.format_plain(tokenizer, "Who?")
    back = export.load_classifier(tmp_path / "o" / "reward")
    assert torch.allclose(reward.score(back, [ids]), reward.score(model, [ids]), atol=1e-5)


def test_what_cannot_be_exported_is_one_sentence_and_leaves_nothing(town, tmp_path):
    folder, policy, tokenizer = town
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text((folder / "recipe.json").read_text())
    with pytest.raises(FileNotFoundError, match="no sft model yet; finish it with: python -m rlhf_lite run"):
        export.export(tmp_path / "run", tmp_path / "o", "trl")
    checkpoints.save_checkpoint(tmp_path / "run" / "sft", models.new_policy("tiny", 0, 400), {})
    with pytest.raises(ValueError, match="has 400 tokens but the tokenizer"):
        export.export(tmp_path / "run", tmp_path / "o", "trl")
    with pytest.raises(ValueError, match="no engine 'trlx'; choose one of trl"):
        export.write_export(tmp_path / "o", "trlx", tokenizer, {}, engine_flags.settings())
    with pytest.raises(ValueError, match="no pad token of its own"):
        export.write_export(tmp_path / "o", "trl", a_foreign_tokenizer(), {"sft": policy}, engine_flags.settings())
    with pytest.raises(KeyError):  # a row that is no ranking: nothing is half-written
        export.write_export(tmp_path / "o", "trl", tokenizer, {"sft": policy}, engine_flags.settings(), {"train": [{}]})
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith((".lock", ".owner"))] == ["run"]
