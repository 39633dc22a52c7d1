"""Every stage learns, on two seeds, starting from the shipped 1.3M models: the numbers the course rests on."""

import numpy as np
import pytest

from rlhf_lite import checkpoints, sft
from rlhf_lite.experiment import base_model, data, stages
from rlhf_lite.experiment.answers import answer_rows
from rlhf_lite.experiment.recipe import default_recipe

pytestmark = pytest.mark.skipif(not (base_model.shipped("sft", "1.3m") / checkpoints.CARD).is_file(),
                                reason="no shipped models")
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def shipped_sft():
    return checkpoints.load_policy(base_model.shipped("sft", "1.3m"))


@pytest.fixture(scope="module")
def tokenizer():
    return base_model.load_base("1.3m")[1]


def true_scores(policy, tokenizer, prompts, seed=0):
    rows = answer_rows(policy, tokenizer, prompts, seed=seed, progress=False)
    return np.array([row["grade"].score for row in rows])


@pytest.mark.parametrize("seed", SEEDS)
def test_sft_lowers_the_loss_on_held_out_demonstrations_and_raises_the_true_score(seed, tokenizer):
    policy, _ = base_model.load_base("1.3m")
    prompts = data.prompts_of("valid", 100)
    valid = data.demonstration_examples(tokenizer, data.demonstrations(split="valid"))
    before = sft.evaluate_sft(policy, valid), true_scores(policy, tokenizer, prompts).mean()
    history = stages.run_sft(policy, tokenizer, default_recipe(seed=seed), progress=False)
    assert min(entry["valid_loss"] for entry in history) < before[0] - 0.5
    assert history[-1]["train_loss"] < history[0]["train_loss"] / 1.5
    assert true_scores(policy, tokenizer, prompts).mean() > before[1] + 0.15


@pytest.mark.parametrize("seed", SEEDS)
def test_ppo_raises_the_true_score_and_kl_stays_bounded(seed, shipped_sft, tokenizer):
    """Thirty iterations with the shipped reward model; the true score on validation prompts is what PPO never saw."""
    reward_model = checkpoints.load_scalar(base_model.shipped("reward", "1.3m"))
    policy, made = stages.run_ppo(shipped_sft, tokenizer, reward_model, default_recipe(seed=seed), iterations=30,
                                  lr=2e-4, progress=False)
    scores = [entry["score"] for entry in made.history]
    assert np.mean(scores[-3:]) > np.mean(scores[:3])
    assert abs(made.history[0]["kl"]) < 1e-4 and all(entry["kl"] < 8 for entry in made.history)
    prompts = data.prompts_of("valid", 1000)
    gain = true_scores(policy, tokenizer, prompts) - true_scores(shipped_sft, tokenizer, prompts)
    assert gain.mean() - 1.96 * gain.std() / len(gain) ** 0.5 > 0


def test_shipped_ppo_is_better_than_shipped_sft(shipped_sft, tokenizer):
    """The checkpoint students start from shows the gain that the course promises (validation prompts)."""
    ppo = checkpoints.load_policy(base_model.shipped("ppo", "1.3m"))
    prompts = data.prompts_of("valid", 600)
    gain = true_scores(ppo, tokenizer, prompts) - true_scores(shipped_sft, tokenizer, prompts)
    assert gain.mean() - 1.96 * gain.std() / len(gain) ** 0.5 > 0
