"""What would train on nothing, or on something that was cut, is refused before the first step."""

import pytest
import torch
from tiny import PROMPTS, a_config, a_team

from rlhf_lite import distributed, models, ppo, reward, rloo, sft
from rlhf_lite.models import BEGIN, END


def test_what_is_too_long_for_the_context_is_refused_and_not_cut():
    policy = models.new_policy("tiny", 0)
    long = [BEGIN] + [5] * (models.CONTEXT - 2)
    with pytest.raises(ValueError, match="context of 320; drop long prompts"):
        ppo.train_ppo(policy, models.copy_model(policy, trainable=False), models.scalar_from_policy(policy, 0), [long],
                      ppo.PPOConfig(iterations=1, batch_size=1, minibatch=1, max_new_tokens=8),
                      reward_fn=lambda rollout: torch.zeros(len(rollout.sequences)), progress=False)
    with pytest.raises(ValueError, match="context of 320; drop long ones"):
        sft.train_sft(policy, [sft.build_example(long, [5, 6, END])], sft.SFTConfig(epochs=1), progress=False)
    ranking = reward.RankedPrompt(long, [[5, 6, END], [7, 8, END]], [1, 2])
    with pytest.raises(ValueError, match="context of 320; drop long rankings"):
        reward.train_reward(models.scalar_from_policy(policy, 0), [ranking], reward.RewardConfig(), progress=False)


@pytest.mark.parametrize(("changes", "rows"), [({"batch_size": 3}, 3), ({"ptx_coef": 0.5, "ptx_rows": 2}, 2)])
def test_a_batch_of_ppo_smaller_than_the_number_of_processes_is_refused(monkeypatch, changes, rows):
    monkeypatch.setattr(distributed, "size", lambda: 4)
    sentence = f"There are 4 processes but only {rows} rows in a batch; raise {list(changes)[-1]} or start fewer"
    with pytest.raises(ValueError, match=sentence):
        ppo.train_ppo(*a_team(), PROMPTS, a_config(**changes), reward_fn=len, pretraining=[[5, 6]], progress=False)


def test_a_batch_smaller_than_the_number_of_processes_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 4)
    policy, reference, _ = a_team()
    with pytest.raises(ValueError, match="There are 4 processes but only 2 rows in a batch; raise batch_size or"):
        sft.train_sft(policy, [sft.build_example([1, 5], [6, 2])], sft.SFTConfig(batch_size=2), progress=False)
    with pytest.raises(ValueError, match="There are 4 processes but only 3 rows in a batch; raise prompts_per_step or"):
        rloo.train_rloo(policy, reference, PROMPTS, rloo.RLOOConfig(prompts_per_step=3), reward_fn=len, progress=False)
