"""What must hold before PPO starts, and after every rollout: mistakes that would otherwise train on without a word.

Every sentence names the likely cause and the mend. What is watched inside a step (losses, gradients, probability
ratios) stands in `ppo.update`.
"""

import warnings

import numpy as np

from rlhf_lite import processes
from rlhf_lite.pretrain import check_counts


def check_arguments(policy, reference, critic, prompts, config, reward_model, reward_fn, pretraining):
    """What would train nothing, or the wrong thing, is refused before the first step. Arguments as of `train_ppo`."""
    if (reward_model is None) == (reward_fn is None):
        raise ValueError("Give exactly one of reward_model and reward_fn.")
    if not prompts:
        raise ValueError("There are no prompts to train on.")
    check_counts(config, "iterations", "minibatch", "inner_epochs", "micro_batch", "save_every")
    limit, longest = getattr(policy.config, "max_position_embeddings", None), max(map(len, prompts))
    if limit and longest + config.max_new_tokens > limit:
        raise ValueError(f"The longest prompt ({longest} tokens) and {config.max_new_tokens} new tokens exceed the "
                         f"model's context of {limit}; drop long prompts rather than cut them.")
    if min(config.batch_size, config.ptx_rows if config.ptx_coef > 0 else config.batch_size) < processes.size():
        raise ValueError(f"There are {processes.size()} processes but fewer rows in a batch (batch_size "
                         f"{config.batch_size}, ptx_rows {config.ptx_rows}); raise these or start fewer processes.")
    if config.ptx_coef > 0 and pretraining is None:
        raise ValueError("ptx_coef is above 0 but no pretraining rows were given.")
    shared = {p.data_ptr() for p in policy.parameters()} & {p.data_ptr() for p in reference.parameters()}
    if shared or any(parameter.requires_grad for parameter in reference.parameters()):
        raise ValueError("The reference would move with the policy (it can be trained, or they share weights); "
                         "make it with copy_model(policy, trainable=False).")
    moving = {p.data_ptr() for p in critic.parameters() if p.requires_grad}  # a frozen trunk may be shared
    if not moving or moving & {p.data_ptr() for m in (policy, reward_model) if m is not None for p in m.parameters()}:
        raise ValueError("The critic has nothing to train, or would move the policy or the reward model (they share "
                         "weights); make it with copy_model(reward_model).")


def guard_kl(kl, kls, iteration, config):
    """kl: nats per response, the mean of kls (batch,). RuntimeError where training has diverged, a warning below 0."""
    if not np.isfinite(kl):
        raise RuntimeError(f"PPO diverged in iteration {iteration + 1}: log-probabilities are not numbers. "
                           "The learning rate is probably too high.")
    if kl > config.max_kl:
        raise RuntimeError(f"PPO diverged in iteration {iteration + 1}: the policy is {kl:.0f} nats from the "
                           "reference. Raise kl_coef or lower lr.")
    error = kls.std(correction=0).item() / len(kls) ** 0.5
    if kl < -0.1 and kl < -3 * error:  # a mean of many samples cannot be far below 0
        warnings.warn(f"The measured KL is {kl:.2f} nats in iteration {iteration + 1}; it cannot be negative. "
                      "Responses are probably sampled from another distribution than is scored.", stacklevel=3)
