"""The tea room of notebooks 05a, 05b and 10: an apprentice with six words, and what the customer thinks of a response.

The world is small enough for `tiny_world` to list all 156 responses, so the best policy is known, and PPO can be seen
arriving there. `ids` are the tokens of a response; PAD and BEGIN may be chosen like any other, and sound like "um" and
"er" to the customer.
"""

from typing import NamedTuple

import torch

from rlhf_lite import models, ppo
from rlhf_lite import tiny_world as tiny

WORDS = ("um", "er", "END", "tea", "bun", "thanks")
KL_COEF = 0.5  # beta: how many points one nat costs
CONFIG = ppo.PPOConfig(batch_size=256, minibatch=64, max_new_tokens=3, kl_coef=KL_COEF, value_clip=None,
                       micro_batch=None, warmup_iterations=3)


class TeaRoom(NamedTuple):
    """Tensors of scores and log-probabilities are (prompts, responses); there is one prompt."""

    world: tiny.World
    reference: torch.nn.Module  # the apprentice before any training, frozen
    scores: torch.Tensor
    log_ref: torch.Tensor  # log-probability of every response under the reference


def say(ids):
    """Ids -> words."""
    return " ".join(WORDS[token] for token in ids)


def pleased(ids):
    """The score: +1 for a bun, +½ each for tea, thanks and an end; −1 for each "um" or "er", −½ for a repetition."""
    words = [WORDS[token] for token in ids]
    likes = 1.0 * ("bun" in words) + 0.5 * ("tea" in words) + 0.5 * ("thanks" in words) + 0.5 * (words[-1] == "END")
    mumbled = sum(word in ("um", "er") for word in words)
    repeated = sum(words.count(word) - 1 for word in ("tea", "bun", "thanks") if word in words)
    return likes - mumbled - 0.5 * repeated


def open_tea_room():
    """The world, the apprentice, and the score and log-probability of every response -> TeaRoom."""
    world = tiny.make_world(vocab_size=len(WORDS), max_new_tokens=3)
    reference = tiny.tiny_policy(world, seed=1, sharpness=6).requires_grad_(False)
    scores = torch.tensor([[pleased(response) for response in world.responses]])
    return TeaRoom(world, reference, scores, tiny.policy_log_probs(reference, world).sum(dim=-1))


def moved(policy, share, seed=11):
    """A copy of the policy whose weights have gone a share of the way to a stranger's."""
    stranger = tiny.tiny_policy(tiny.make_world(vocab_size=len(WORDS)), seed=seed, sharpness=6)
    policy = models.copy_model(policy)
    with torch.no_grad():
        for weight, other in zip(policy.parameters(), stranger.parameters(), strict=True):
            weight.lerp_(other, share)
    return policy
