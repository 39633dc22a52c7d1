"""Who starts from whom: what the stages of a run hand to the training functions."""

import pytest
import torch
from tiny import PROMPTS, a_policy

from rlhf_lite import models, reward
from rlhf_lite.experiment import data, stages
from rlhf_lite.experiment.recipe import default_recipe
from rlhf_lite.models import BEGIN, END
from rlhf_lite.reward import RankedPrompt

RANKINGS = [RankedPrompt([BEGIN, 10 + i], [[7, 7, END], [7, 30], [31, END]], [1, 2, 2]) for i in range(8)]


def test_policy_reference_and_critic_start_from_sft_and_the_reward_model(monkeypatch):
    """P27, P30."""
    sft_model = a_policy()
    reward_model, given = models.scalar_from_policy(sft_model, 3), []
    monkeypatch.setattr(stages, "train_ppo", lambda *arguments, **options: given.extend(arguments))
    monkeypatch.setattr(data, "encoded", lambda tokenizer, prompts: PROMPTS)
    policy, _ = stages.run_ppo(sft_model, None, reward_model, default_recipe())
    assert given[0] is policy
    for copy, original in ((given[0], sft_model), (given[1], sft_model), (given[2], reward_model)):
        for one, other in zip(copy.parameters(), original.parameters(), strict=True):
            assert torch.equal(one, other) and one.data_ptr() != other.data_ptr()
    assert not any(p.requires_grad for p in given[1].parameters())


def test_the_reward_model_that_the_pipeline_hands_over_is_normalised(monkeypatch):
    """P39."""
    rows = [reward.reward_input(r.prompt_ids, response) for r in RANKINGS for response in r.responses]
    monkeypatch.setattr(stages, "train_reward", lambda *arguments, **options: [{}])
    monkeypatch.setattr(data, "ranked_prompts", lambda tokenizer, records: RANKINGS)
    monkeypatch.setattr(data, "demonstrations", lambda split: [])
    monkeypatch.setattr(data, "demonstration_rows", lambda tokenizer, records: rows[::3])
    model, history = stages.run_reward(a_policy(), None, [], [], default_recipe())
    assert abs(reward.score(model, rows[::3]).double().mean().item()) < 1e-6
    assert reward.score(model, rows).std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert history[-1]["gain"] > 0
