"""Our side: each method once on a world, from fresh copies of its models. Copying is not timed."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.clock import timed
from benchmarks.worlds import SMALL_LR
from rlhf_lite import dpo, grpo, models, ppo, reward, rloo, sft
from rlhf_lite.experiment import data
from rlhf_lite.models import copy_model
from rlhf_lite.real import export, hub, shared_trunk

QUIET = {"progress": False}


def prepare(method, world, threads=1, equal=False):
    """A function that does the work once. equal: nothing ends an answer, so all have the same number of tokens."""
    torch.set_num_threads(threads)
    world = Path(world)
    policy, tokenizer, _ = hub.load(world / "sft")
    judge, amounts = export.load_classifier(world / "reward"), json.loads((world / "amounts.json").read_text("utf-8"))
    if equal:
        for model in (policy, judge):
            model.config.special_ids = never_ending(model)
    return METHODS[method](world, policy, judge, tokenizer, amounts)


def never_ending(model):
    """The model's special ids with an end that is no token."""
    pad, begin, _ = models.special_ids(model)
    return [pad, begin, -1]


def rows_of(world, kind):
    text = (world / "data" / kind / "train.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def prompts_of(world, tokenizer):
    return [models.encode_prompt(tokenizer, row["prompt"][0]["content"]) for row in rows_of(world, "prompts")]


# ---------------------------------------------------------------- the methods

def prepare_sft(world, policy, judge, tokenizer, amounts):
    examples = []
    for row in rows_of(world, "demonstrations"):  # texts with BEGIN and END already in them
        examples.append(sft.build_example(tokenizer(row["prompt"])["input_ids"],
                                          tokenizer(row["completion"])["input_ids"]))
    config = sft.SFTConfig(epochs=1, batch_size=amounts["batch"], lr=SMALL_LR)

    def once():
        learner = copy_model(policy)
        return timed(lambda: sft.train_sft(learner, examples, config, **QUIET))
    return once


def rankings_of(world, tokenizer):
    return data.ranked_prompts(tokenizer, json.loads((world / "rankings.json").read_text("utf-8")))


def prepare_reward(world, policy, judge, tokenizer, amounts):
    rankings = rankings_of(world, tokenizer)
    config = reward.RewardConfig(batch_prompts=amounts["batch"], lr=SMALL_LR)

    def once():
        learner = models.scalar_from_policy(policy, 0)
        return timed(lambda: reward.train_reward(learner, rankings, config, **QUIET))
    return once


def prepare_dpo(world, policy, judge, tokenizer, amounts):
    rankings, reference = rankings_of(world, tokenizer), copy_model(policy, trainable=False)
    config = dpo.DPOConfig(batch_prompts=amounts["batch"], lr=SMALL_LR)

    def once():
        learner = copy_model(policy)
        return timed(lambda: dpo.train_dpo(learner, reference, rankings, config, **QUIET))
    return once


def _in_groups(train, config):
    def prepare(world, policy, judge, tokenizer, amounts):
        prompts, reference = prompts_of(world, tokenizer), copy_model(policy, trainable=False)
        settings = replace(config, iterations=1, prompts_per_step=amounts["group_answers"] // 4, group=4, lr=SMALL_LR,
                           max_new_tokens=amounts["tokens"], warmup_iterations=0)

        def once():
            learner = copy_model(policy)
            return timed(lambda: train(learner, reference, prompts, settings, judge, **QUIET))
        return once
    return prepare


def prepare_ppo(world, policy, judge, tokenizer, amounts, share=None):
    """share: the part of the blocks that is frozen and shared by all four models; None: four full models."""
    prompts = prompts_of(world, tokenizer)
    config = ppo.PPOConfig(iterations=1, batch_size=amounts["answers"], minibatch=amounts["minibatch"], lr=SMALL_LR,
                           critic_lr=SMALL_LR, max_new_tokens=amounts["tokens"], warmup_iterations=0)

    def team():
        if share is None:
            return copy_model(policy), copy_model(policy, trainable=False), copy_model(judge), copy_model(judge, False)
        blocks = policy.config.num_hidden_layers
        below = min(blocks - 1, round(share * blocks))
        scores = shared_trunk.freeze_trunk(copy_model(judge), below)
        return shared_trunk.share(copy_model(policy), scores, below)

    def once():
        learner, reference, critic, scores = team()
        runs = []
        found = timed(lambda: runs.append(ppo.train_ppo(learner, reference, critic, prompts, config, scores, **QUIET)))
        return found | {"tokens": runs[0].history[0]["length"] * config.batch_size}
    return once


METHODS = {"sft": prepare_sft, "reward": prepare_reward, "dpo": prepare_dpo, "ppo": prepare_ppo,
           "ppo, shared trunk": lambda *arguments: prepare_ppo(*arguments, share=0.75),
           "rloo": _in_groups(rloo.train_rloo, rloo.RLOOConfig()),
           "grpo": _in_groups(grpo.train_grpo, grpo.GRPOConfig())}
