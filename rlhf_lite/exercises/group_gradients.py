"""Where does each of GRPO's switches push? Its gradient over infinitely many groups, in a world small enough for sums.

The idea: of a group of answers only the first has to be followed, as all are alike. Its expected advantage depends on
who else is in the group; those others are drawn, many times. Everything else is a sum over all responses.
"""

from dataclasses import replace

import torch

from rlhf_lite import grpo
from rlhf_lite import tiny_world as tiny

RLOO = grpo.GRPOConfig(divide_by_std=False, divide_by_length=False, kl_in="reward", kl_coef=0.5)
SWITCHES = {"group mean": {}, "÷ std": {"divide_by_std": True}, "÷ length": {"divide_by_length": True},
            "KL in the loss, k1": {"kl_in": "loss", "kl_estimator": "k1"},
            "KL in the loss, k2": {"kl_in": "loss", "kl_estimator": "k2"},
            "KL in the loss, k3": {"kl_in": "loss", "kl_estimator": "k3"},
            "all of GRPO": {"divide_by_std": True, "divide_by_length": True, "kl_in": "loss", "kl_estimator": "k3"}}


def expected_advantages(rewards, log_p, group, divide_by_std, groups=1000, seed=0):
    """(N,) rewards and log-probabilities -> (N,) the mean advantage of each response in a group of `group`."""
    generator = torch.Generator().manual_seed(seed)
    others = torch.multinomial(log_p.exp(), groups * (group - 1), replacement=True, generator=generator)
    company = rewards[others].view(groups, group - 1)
    return torch.stack([grpo.group_advantages(torch.cat([own.expand(groups, 1), company], dim=1).flatten(), group,
                                              divide_by_std)[::group].mean() for own in rewards])


def gradient_of(config, log_probs, ref_log_probs, scores, mask, parameters):
    """The ascent direction of `grpo.grpo_losses` over infinitely many groups for each prompt, as a flat vector.

    log_probs (with gradient), ref_log_probs: (P, N, R) of all responses to every prompt; scores: (P, N); mask: (N, R).
    """
    total = 0.0
    for ours, theirs, score in zip(log_probs, ref_log_probs, scores, strict=True):
        log_p = ours.sum(dim=1).detach()
        in_reward = config.kl_coef * (log_p - theirs.sum(dim=1)) if config.kl_in == "reward" else 0.0
        advantages = expected_advantages(score - in_reward, log_p, config.group, config.divide_by_std)
        total = total - (log_p.exp() * grpo.grpo_losses(ours, theirs, advantages, mask, config)).sum()
    return tiny.gradient(total / len(scores), parameters)


def survey(world, log_probs, ref_log_probs, scores, parameters, kl_coef, sizes=(4, 16, 64)):
    """{switch: {group: cosine with the exact gradient of equation 2}}, each switch alone, then all together."""
    exact = tiny.gradient(tiny.objective(log_probs.sum(dim=-1), ref_log_probs.sum(dim=-1), scores, kl_coef).mean(),
                          parameters)
    found = {}
    for name, changes in SWITCHES.items():
        for group in sizes:
            config = replace(RLOO, group=group, kl_coef=kl_coef, **changes)
            got = gradient_of(config, log_probs, ref_log_probs, scores, world.mask, parameters)
            found.setdefault(name, {})[group] = torch.cosine_similarity(got, exact, dim=0).item()
    return found
