"""Every stage learns, on two seeds, starting from the shipped 1.3M models: the numbers the course rests on."""

from dataclasses import replace

import numpy as np
import pytest

from rlhf_lite import checkpoints, models, pipeline, results, reward, sft
from rlhf_lite.town import labelers
from rlhf_lite.town.grading import grade

pytestmark = pytest.mark.skipif(not (pipeline.shipped("sft", "1.3m") / checkpoints.CARD).is_file(), reason="no shipped models")
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def shipped_sft():
    return checkpoints.load_policy(pipeline.shipped("sft", "1.3m"))


@pytest.fixture(scope="module")
def tokenizer():
    return pipeline.load_base("1.3m")[1]


def true_scores(policy, tokenizer, prompts, seed=0):
    return np.array([row["grade"].score for row in pipeline.answer_rows(policy, tokenizer, prompts, seed=seed, progress=False)])


@pytest.mark.parametrize("seed", SEEDS)
def test_sft_lowers_the_loss_on_held_out_demonstrations_and_raises_the_true_score(seed, tokenizer):
    policy, _ = pipeline.load_base("1.3m")
    prompts = pipeline.prompts_of("valid", 100)
    valid = pipeline.demonstration_examples(tokenizer, pipeline.demonstrations(split="valid"))
    before = sft.evaluate_sft(policy, valid), true_scores(policy, tokenizer, prompts).mean()
    pipeline.run_sft(policy, tokenizer, replace(pipeline.recipe(seed=seed), sft_epochs=2), progress=False)
    after = sft.evaluate_sft(policy, valid), true_scores(policy, tokenizer, prompts).mean()
    assert after[0] < before[0] - 0.5
    assert after[1] > before[1] + 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_reward_model_beats_chance_and_stays_below_the_ceiling(seed, shipped_sft, tokenizer):
    recipe = replace(pipeline.recipe(seed=seed), rankings=400, reward_size="1.3m")
    team = labelers.training_team()
    train, valid = (pipeline.rank_answers(shipped_sft, tokenizer, pipeline.prompts_of(split, n), team, recipe, 10 + seed, progress=False)
                    for split, n in (("train", 400), ("valid", 150)))
    model, history = pipeline.run_reward(shipped_sft, tokenizer, train, valid, recipe, progress=False)
    measured = results.measure_reward(model, tokenizer, valid)
    assert measured["accuracy"]["low"] > 0.5
    assert measured["accuracy"]["value"] < measured["bayes_ceiling"] + 0.03
    demonstrations = pipeline.demonstration_rows(tokenizer, pipeline.demonstrations(split="train"))
    assert abs(reward.score(model, demonstrations).double().mean()) < 1e-5


@pytest.mark.parametrize("seed", SEEDS)
def test_ppo_raises_the_true_score_when_it_is_the_reward_and_kl_stays_bounded(seed, shipped_sft, tokenizer):
    """The loop itself, without the reward model's mistakes: the grader is the reward (an oracle)."""
    prompts = pipeline.prompts_of("train", 400)
    ids = pipeline.encoded(tokenizer, prompts)
    known = {tuple(row): prompt for row, prompt in zip(ids, prompts, strict=True)}

    def oracle(rollout):
        return [2 * grade(known[tuple(p)], models.decode_response(tokenizer, a), a[-1] == models.END).score - 1
                for p, a in zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)]

    config = replace(pipeline.recipe(seed=seed).ppo, iterations=14, batch_size=96, kl_coef=0.02, lr=4e-4, warmup_iterations=2)
    policy = models.copy_model(shipped_sft)
    made = pipeline.train_ppo(policy, models.copy_model(shipped_sft, trainable=False), models.scalar_from_policy(shipped_sft, seed),
                              ids, config, reward_fn=oracle, progress=False)
    held_out = pipeline.prompts_of("valid", 400)
    gain = true_scores(policy, tokenizer, held_out) - true_scores(shipped_sft, tokenizer, held_out)
    assert gain.mean() > 0
    assert np.mean([entry["score"] for entry in made.history[-4:]]) > np.mean([entry["score"] for entry in made.history[:4]])
    assert abs(made.history[0]["kl"]) < 1e-4 and all(entry["kl"] < 5 for entry in made.history)


def test_shipped_ppo_is_better_than_shipped_sft(shipped_sft, tokenizer):
    """The checkpoint students start from shows the gain that the course promises (validation prompts)."""
    ppo = checkpoints.load_policy(pipeline.shipped("ppo", "1.3m"))
    prompts = pipeline.prompts_of("valid", 600)
    gain = true_scores(ppo, tokenizer, prompts) - true_scores(shipped_sft, tokenizer, prompts)
    assert gain.mean() - 1.96 * gain.std() / len(gain) ** 0.5 > 0
