"""The reward model learns, on two seeds: above what length alone would get, below what the labelers' noise allows.

Beside test_learning.py in a file of its own, because a file is what one of several test processes takes at a time.
"""

from dataclasses import replace

import pytest

from rlhf_lite import checkpoints, reward
from rlhf_lite.experiment import base_model, data, results, stages
from rlhf_lite.experiment.answers import rank_answers
from rlhf_lite.experiment.recipe import default_recipe
from rlhf_lite.town import labelers

pytestmark = pytest.mark.skipif(not (base_model.shipped("sft", "1.3m") / checkpoints.CARD).is_file(),
                                reason="no shipped models")


@pytest.mark.parametrize("seed", (0, 1))
def test_reward_model_beats_chance_and_stays_below_the_ceiling(seed):
    tokenizer = base_model.load_base("1.3m")[1]
    shipped_sft = checkpoints.load_policy(base_model.shipped("sft", "1.3m"))
    # 800 rankings are few, so their answers are made to differ.
    recipe = replace(default_recipe(seed=seed), answers_per_prompt=4, reward_size="1.3m",
                     temperatures=(0.4, 0.7, 1.0, 1.3))
    team = labelers.training_team()
    train, valid = (rank_answers(shipped_sft, tokenizer, data.prompts_of(split, n), team, recipe,
                                 10 + seed, progress=False) for split, n in (("train", 800), ("valid", 300)))
    model, _ = stages.run_reward(base_model.load_base("1.3m")[0], tokenizer, train, valid, recipe, progress=False)
    measured = results.measure_reward(model, tokenizer, valid)
    assert measured["accuracy"]["low"] > max(0.5, measured["length_only"]["high"])
    assert measured["accuracy"]["value"] < measured["bayes_ceiling"] + 0.03
    demonstrations = data.demonstration_rows(tokenizer, data.demonstrations(split="train"))
    assert abs(reward.score(model, demonstrations).double().mean()) < 1e-5
