"""Architectures of transformers, by name, at tiny size: each trains as it should or is refused in one sentence."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from rlhf_lite import models, ppo, reward, sft
from rlhf_lite.real import selftest

SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 64, "head_dim": 8,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SUPPORTED = {name: {} for name in (
    "apertus arcee biogpt bloom cohere cohere2 ctrl ernie4_5 exaone4 gemma gemma2 gemma3_text glm glm4 gpt2 "
    "gpt_bigcode gpt_neox granite helium hunyuan_v1_dense llama mistral mixtral mpt nemotron olmo olmo2 olmo3 opt "
    "persimmon phi phi3 qwen2 qwen3 seed_oss smollm3 stablelm starcoder2 xglm").split()}
SUPPORTED |= {"falcon": {"head_dim": None}, "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
              "gptj": {"rotary_dim": 4}, "codegen": {"rotary_dim": 4}}
REFUSED = {"mamba": ({}, "samples with a cache"), "falcon_mamba": ({}, "samples with a cache"),
           "rwkv": ({}, "padding on the left"), "jamba": ({}, "samples with a cache"),
           "recurrent_gemma": ({}, "samples with a cache"), "openai-gpt": ({}, "samples with a cache"),
           "lfm2": ({"layer_types": ["conv", "full_attention"]}, "a cache|padding"),
           "bert": ({}, "a later token"), "roberta": ({}, "a later token"),
           "opt": ({"word_embed_proj_dim": 16}, "its trunk")}  # as OPT-350m is built


def build(kind, changes):
    wanted = {name: value for name, value in {**SMALL, **changes}.items() if value is not None}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**wanted)).eval()


@pytest.mark.parametrize("kind", SUPPORTED)
def test_what_the_selftest_accepts_can_be_trained(kind):
    policy = build(kind, SUPPORTED[kind])
    selftest.check_model(policy, kind)
    prompts = [[1, 5, 6], [1, 7]]
    sft.train_sft(policy, [sft.build_example(prompts[0], [8, 9, 2])], sft.SFTConfig(epochs=1), progress=False)
    scores = models.scalar_from_policy(policy, 0)
    reward.train_reward(scores, [reward.RankedPrompt(prompts[1], [[8, 2], [9, 9, 2]], [1, 2])], reward.RewardConfig(),
                        progress=False)
    config = ppo.PPOConfig(iterations=1, batch_size=4, minibatch=4, max_new_tokens=4)
    run = ppo.train_ppo(policy, models.copy_model(policy, trainable=False), models.copy_model(scores), prompts, config,
                        scores, progress=False)
    assert abs(run.history[0]["kl"]) < 1e-4 and run.history[0]["max_ratio"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_fail_deep_inside_is_refused_in_one_sentence(kind):
    changes, what = REFUSED[kind]
    with pytest.raises(ValueError, match=f"{kind} .* is not supported: the test whether .*({what})") as error:
        selftest.check_model(build(kind, changes), kind)
    assert "\n" not in str(error.value)


def test_enough_are_tried():
    assert len(SUPPORTED) + len(REFUSED) >= 31
