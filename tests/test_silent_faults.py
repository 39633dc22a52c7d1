"""Faults that raised no error, or a raw one: each is now one sentence that names the cause and the fix."""

import json
import re

import pytest
import torch
from tiny import (
    KINDS,
    PROMPTS,
    a_config,
    a_foreign_model,
    a_foreign_tokenizer,
    a_policy,
    a_reward_model,
    a_team,
    low_tokens,
)

from rlhf_lite import checkpoints, dpo, feedback, grpo, models, ppo, pretrain, reward, rloo, sampling, sft
from rlhf_lite.experiment import data
from rlhf_lite.models import END
from rlhf_lite.real import export, hub, human_data, shared_trunk
from rlhf_lite.reward import RankedPrompt

RANKED = [RankedPrompt([1, 5], [[6, END], [7, END]], [1, 2])]
QUIET = {"progress": False}


def of_size(rows, special=None):
    """A policy with another vocabulary, or with other special ids."""
    policy = a_foreign_model("untied", rows=rows, eos=2).eval()
    if special:
        policy.config.special_ids = special
    return policy


def frozen(policy):
    return models.copy_model(policy, trainable=False)


# ---------------------------------------------------------------- another vocabulary

@pytest.mark.parametrize("other", [of_size(70), of_size(60), of_size(64, [0, 1, 3])], ids=["more", "fewer", "ids"])
@pytest.mark.parametrize("role", ["reference", "critic", "reward model"])
def test_ppo_refuses_models_that_read_other_tokens(role, other):
    policy, reference, critic = a_team()
    models_of = {"reference": reference, "critic": critic, "reward model": a_reward_model()}
    models_of[role] = frozen(other) if role == "reference" else models.scalar_from_policy(other, 0)
    with pytest.raises(ValueError, match=f"The {role} has .* tokens"):
        ppo.train_ppo(policy, models_of["reference"], models_of["critic"], PROMPTS, a_config(),
                      models_of["reward model"], **QUIET)


@pytest.mark.parametrize("other", [of_size(70), of_size(64, [0, 1, 3])], ids=["more", "ids"])
def test_so_do_dpo_rloo_and_grpo(other):
    with pytest.raises(ValueError, match="The reference has"):
        dpo.train_dpo(a_policy(), frozen(other), RANKED, dpo.DPOConfig(), **QUIET)
    for train, config in ((rloo.train_rloo, rloo.RLOOConfig), (grpo.train_grpo, grpo.GRPOConfig)):
        with pytest.raises(ValueError, match="The reward model has"):
            train(a_policy(), frozen(a_policy()), PROMPTS, config(iterations=1, max_new_tokens=4),
                  models.scalar_from_policy(other, 0), **QUIET)
        with pytest.raises(ValueError, match="The reference has"):
            train(a_policy(), frozen(other), PROMPTS, config(iterations=1, max_new_tokens=4), low_tokens, **QUIET)


@pytest.mark.parametrize("bad, why", [([1, 64], "token id 64, but the model has 64 tokens"), ([-1, 5], "token id -1"),
                                      ("text", "not a list of token ids"), ([1, None], "not a list of token ids"),
                                      ([1, 2.5], "not a list of token ids"), ([], "is empty")])
def test_ids_that_are_none_are_refused_before_the_first_step(bad, why):
    policy, reference, critic = a_team()
    with pytest.raises(ValueError, match=f"Prompt 12 .*{why}|Prompt 12 {why}"):
        ppo.train_ppo(policy, reference, critic, [*PROMPTS, bad], a_config(), low_tokens, **QUIET)
    with pytest.raises(ValueError, match=why):
        rloo.train_rloo(policy, reference, [*PROMPTS, bad], rloo.RLOOConfig(iterations=1), low_tokens, **QUIET)
    ranked = [*RANKED, RankedPrompt([1], [[6, END], bad], [1, 2])]
    for train in (lambda: reward.train_reward(critic, ranked, reward.RewardConfig(), **QUIET),
                  lambda: dpo.train_dpo(policy, reference, ranked, dpo.DPOConfig(), **QUIET)):
        with pytest.raises(ValueError, match=f"Ranking 1: text 2 .*{why}|Ranking 1: text 2 {why}"):
            train()
    if bad:
        with pytest.raises(ValueError, match=f"Demonstration 0 .*{why}|Demonstration 0 {why}"):
            sft.train_sft(policy, [sft.Example([*bad], [*bad])] if bad != "text" else [sft.Example(bad, [5, 5])],
                          sft.SFTConfig(), **QUIET)


def test_text_packed_for_another_model_is_refused():
    rows = pretrain.pack([[5, 6, 70]] * 20, length=8)
    for train in (lambda: pretrain.train(a_policy(), rows, pretrain.PretrainConfig(steps=1), **QUIET),
                  lambda: sft.train_sft(a_policy(), [sft.build_example([1, 5], [6, END])],
                                        sft.SFTConfig(pretraining_mix=0.1), pretraining=rows, **QUIET)):
        with pytest.raises(ValueError, match="token id 70, but the model has 64 tokens"):
            train()


# ---------------------------------------------------------------- nothing to learn, or too coarsely

@pytest.mark.parametrize("response", [[], [END]])
def test_empty_responses_teach_nothing(response):
    with pytest.raises(ValueError, match="Demonstration 1 has an empty response"):
        sft.train_sft(a_policy(), [sft.build_example([1, 5], [6, END]), sft.build_example([1, 5], response)],
                      sft.SFTConfig(epochs=1), **QUIET)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_coarse_weights_and_frozen_ones_are_not_trained(dtype):
    policy, reference, critic = a_team()
    runs = {"sft": lambda p: sft.train_sft(p, [sft.build_example([1, 5], [6, END])], sft.SFTConfig(), **QUIET),
            "dpo": lambda p: dpo.train_dpo(p, reference, RANKED, dpo.DPOConfig(), **QUIET),
            "ppo": lambda p: ppo.train_ppo(p, reference, critic, PROMPTS, a_config(), low_tokens, **QUIET),
            "rloo": lambda p: rloo.train_rloo(p, reference, PROMPTS, rloo.RLOOConfig(max_new_tokens=4), low_tokens,
                                              **QUIET)}
    for run in runs.values():
        with pytest.raises(ValueError, match=f"{str(dtype)[6:]}, and most training steps would round to nothing"):
            run(a_policy().to(dtype))
        with pytest.raises(ValueError, match="has no weight to train"):
            run(frozen(a_policy()))
    with pytest.raises(ValueError, match="round to nothing"):
        reward.train_reward(critic.to(dtype), RANKED, reward.RewardConfig(), **QUIET)


# ---------------------------------------------------------------- NaN

def test_nan_is_neither_an_answer_nor_an_accuracy():
    policy, scores = a_policy(), a_reward_model()
    torch.nn.init.constant_(policy.model.norm.weight, float("nan"))
    torch.nn.init.constant_(scores.score.weight, float("nan"))
    for greedy in (True, False):
        with pytest.raises(RuntimeError, match="logits are not finite"):
            sampling.sample(policy, PROMPTS, 4, greedy=greedy)
    for measure in (lambda: reward.evaluate_reward(scores, RANKED), lambda: reward.score(scores, [[1, 5]])):
        with pytest.raises(RuntimeError, match="The score of row 0 is not a number"):
            measure()


@pytest.mark.parametrize("raw", [None, "good", [None] * 16, [[1.0], [1.0, 2.0]], float("nan")])
def test_a_reward_that_is_no_number(raw):
    policy, reference, critic = a_team()
    with pytest.raises(RuntimeError, match="one finite number per response"):
        ppo.train_ppo(policy, reference, critic, PROMPTS, a_config(), lambda rollout: raw, **QUIET)


@pytest.mark.parametrize("ranks", [[float("nan"), 1], [None, 1], ["1", "2"], [float("inf"), 1]])
def test_ranks_that_are_no_numbers(ranks):
    with pytest.raises(ValueError, match="Ranking 0 has the ranks .*; every rank must be a number"):
        reward.train_reward(a_reward_model(), [RankedPrompt([1, 5], [[6, END], [7, END]], ranks)],
                            reward.RewardConfig(), **QUIET)
    with pytest.raises(ValueError, match="is not a whole number from 1 to 2"):
        feedback.new_ranking("p", "ask", ["a", "b"], ranks, "Ada")


def test_a_model_that_cannot_hold_the_answers():
    policy, reference, critic = a_team("gpt2")
    short = models.scalar_from_policy(a_policy("gpt2", n_positions=8), 0)
    with pytest.raises(ValueError, match="exceed the reward model's context"):
        ppo.train_ppo(policy, reference, critic, PROMPTS, a_config(), short, **QUIET)


# ---------------------------------------------------------------- what is saved can be loaded

@pytest.mark.parametrize("kind", KINDS)
def test_what_would_be_lost_is_not_saved_and_is_exported_whole(kind, tmp_path):
    pytest.importorskip("peft")
    policy, scores = a_foreign_model(kind, eos=280).eval(), None
    tokenizer = a_foreign_tokenizer()
    hub.add_special_ids(policy, tokenizer)
    scores = models.scalar_from_policy(policy, 0)
    with_lora = hub.lora(models.copy_model(policy), 2)
    torch.manual_seed(0)
    for name, p in with_lora.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.1)
    shared, _, _, shared_scores = shared_trunk.share(policy, scores, 1)
    for model in (with_lora, shared, shared_scores):
        with pytest.raises(ValueError, match="could not be loaded again; merge LoRA"):
            checkpoints.save_checkpoint(tmp_path / "no", model, {})
    assert not (tmp_path / "no").exists()
    ids, mask = torch.tensor([[280, 5, 6, 7]]), torch.ones(1, 4, dtype=torch.long)
    for name, model in (("lora", with_lora), ("shared", shared)):
        before = models.logits(model, ids, mask)
        export.write_export(tmp_path / name, "trl", tokenizer, {"sft": model}, export.engine_flags.settings())
        again, _, _ = hub.load(tmp_path / name / "sft")
        torch.testing.assert_close(models.logits(again, ids, mask), before, atol=1e-5, rtol=1e-4)
    export.write_export(tmp_path / "r", "trl", tokenizer, {"reward": shared_scores}, export.engine_flags.settings())
    torch.testing.assert_close(export.load_classifier(tmp_path / "r" / "reward")(ids, mask)[0, -1],
                               scores(ids, mask)[0, -1], atol=1e-5, rtol=1e-4)


def test_weights_that_do_not_lie_in_order_are_saved(tmp_path):
    policy = a_policy()
    layer = policy.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.detach().T.contiguous().T)
    assert not layer.weight.is_contiguous()
    checkpoints.save_checkpoint(tmp_path / "p", policy, {})
    assert torch.equal(checkpoints.load_policy(tmp_path / "p").model.layers[0].mlp.up_proj.weight, layer.weight)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "untied"])
def test_tensors_that_nobody_asked_for_are_named(kind, tmp_path):
    policy, tokenizer = a_foreign_model(kind).eval(), a_foreign_tokenizer()
    hub.add_special_ids(policy, tokenizer)
    export.write_export(tmp_path / "x", "trl", tokenizer, {"reward": models.scalar_from_policy(policy, 0)},
                        export.engine_flags.settings())
    with pytest.raises(ValueError, match=r"score\.weight|lm_head"):
        hub.load(tmp_path / "x" / "reward")
    from safetensors.torch import load_file, save_file
    policy.save_pretrained(tmp_path / "v")
    tokenizer.save_pretrained(tmp_path / "v")
    weights = load_file(tmp_path / "v" / "model.safetensors") | {"v_head.summary.weight": torch.zeros(1, 32)}
    save_file(weights, tmp_path / "v" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"v_head\.summary\.weight.*value head"):
        hub.load(tmp_path / "v")


# ---------------------------------------------------------------- the town's template, and others

def test_every_function_asks_in_the_tokenizers_own_template(tmp_path):
    """`data.ranked_prompts` used the town's template, so a reward model read other prompts than PPO."""
    policy, tokenizer = a_foreign_model("llama").eval(), a_foreign_tokenizer()
    policy.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    _, tokenizer, _ = hub.load(tmp_path)
    asked = hub.format_plain(tokenizer, "Who sells bread?")
    assert models.encode_prompt(tokenizer, "Who sells bread?") == asked
    row = feedback.new_ranking("p", "Who sells bread?", ["Alice.", "Who?"], [1, 2], "Ada")
    assert data.ranked_prompts(tokenizer, [row])[0].prompt_ids == asked
    pair = human_data.Preference(("Who sells bread?",), "Alice.", "Who?")
    assert human_data.ranked_prompts(tokenizer, [pair], 64)[0][0].prompt_ids == asked
    tokenizer.init_kwargs["prompt_template"] = "User: {}\nBot:\n"
    tokenizer.save_pretrained(tmp_path)
    _, again, _ = hub.load(tmp_path)
    assert again.decode(models.encode_prompt(again, "a {} b")[1:]) == "User: a {} b\nBot:\n"


def test_a_model_of_the_town_comes_back_with_its_own_template(tmp_path):
    tokenizer = models.train_tokenizer(["Who sells bread? Alice sells bread."], 300)
    policy = models.new_policy("tiny", 0, len(tokenizer))
    export.write_export(tmp_path / "x", "trl", tokenizer, {"sft": policy}, export.engine_flags.settings())
    _, again, _ = hub.load(tmp_path / "x" / "sft")
    assert models.encode_prompt(again, "Who?") == models.encode_prompt(tokenizer, "Who?")


@pytest.mark.parametrize("prompt", [[{"role": "user", "content": "Who?"}], None, "half \ud83d a character"])
def test_what_is_not_text_is_not_encoded(prompt):
    tokenizer = a_foreign_tokenizer(bos_token="<|endoftext|>")
    for encode in (models.encode_prompt, hub.format_plain, models.encode_text):
        with pytest.raises(ValueError, match="is not text that can be encoded"):
            encode(tokenizer, prompt)


# ---------------------------------------------------------------- one bad row

def test_answers_with_the_same_tokens_are_named_by_their_prompt():
    tokenizer = models.train_tokenizer(["a b c"], 300)
    row = feedback.new_ranking("p-7", "ask", [{"text": "a", "token_ids": [5, 2]}, {"text": "b", "token_ids": [5, 2]}],
                               [1, 2], "Ada")
    with pytest.raises(ValueError, match=re.escape("Ranking 1 (p-7) gives different ranks to two answers")):
        data.ranked_prompts(tokenizer, [row])


def test_one_bad_row_of_a_preference_file_is_counted(tmp_path):
    good = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    bad = [{**good, "chosen": None}, {**good, "chosen": good["chosen"] + "\ud83d"}, [1]]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [good, *bad]))
    pairs, dropped = human_data.preferences(path)
    assert len(pairs) == 1 and dropped == {"not a row": 2, "half a character": 1}


def test_jupyter_does_not_read_money_as_mathematics():
    """JupyterLab's MathJax passes over `mathjax_ignore`, and nothing but it."""
    from rlhf_lite import plots
    from rlhf_lite.exercises import my_model_page
    page = my_model_page.TEMPLATE.read_text(encoding="utf-8")
    assert page.index("mathjax_ignore") < page.index("{{ found.learner }}")
    assert 'class="mathjax_ignore"' in plots.table(("",), [("it costs $5 or $6",)]).data
