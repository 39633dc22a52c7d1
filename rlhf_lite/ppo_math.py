"""The mathematics of PPO on responses: pure functions, no model in sight.

All tensors are (batch, R), one column per response token; `mask` is (batch, R) bool, True for the sampled
tokens (END included). The numbers at padding, even NaN, have no effect: every function selects with `where`
rather than multiplying by the mask.

The action at column t is the choice of token t; its value is that of the state before it. The paper says: no
discount, clip 0.2, a KL penalty per token inside the reward (section 3.5, appendix C.4). GAE's lambda, the
clipped value loss and whitening are ours; the paper does not mention them.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# ---------------------------------------------------------------- statistics

def masked_mean(values: Float[Tensor, "batch response"], mask: Bool[Tensor, "batch response"]) -> Float[Tensor, ""]:
    """The mean over the True places of the whole tensor; 0 if there are none."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def masked_whiten(values: Float[Tensor, "batch response"], mask: Bool[Tensor, "batch response"],
                  shift_mean=True, epsilon=1e-8) -> Float[Tensor, "batch response"]:
    """Scale the True places to (population) standard deviation 1 and, with shift_mean, to mean 0. Zero elsewhere.

    For advantages, shift the mean. For rewards, do not: with shift_mean=False the signs stay as they are.
    """
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    centred = values - mean if shift_mean else values
    return torch.where(mask, centred * (variance + epsilon).rsqrt(), 0.0)


def explained_variance(values: Float[Tensor, "batch response"], returns: Float[Tensor, "batch response"],
                       mask: Bool[Tensor, "batch response"] | Int[Tensor, "batch response"]) -> float:
    """1 − Var(returns − values) / Var(returns) over the True places: 1 is a perfect critic, 0 a constant one."""
    mask = mask.bool()
    real, told = (tensor[mask].cpu().double() for tensor in (returns, values))  # Apple's MPS has no float64
    total = real.var(correction=0)
    if total == 0:
        return 0.0
    return (1 - (real - told).var(correction=0) / total).item()


# ---------------------------------------------------------------- KL

def kl_k1(log_probs: Float[Tensor, "*shape"], ref_log_probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """log p − log q of the sampled tokens: unbiased for KL(p ‖ q), but it can be negative for a single token.

    As a loss it does nothing (its expected gradient is 0); it belongs in the reward.
    """
    return log_probs - ref_log_probs


def kl_k2(log_probs: Float[Tensor, "*shape"], ref_log_probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """½ (log p − log q)²: biased in value, right in gradient."""
    return 0.5 * (log_probs - ref_log_probs) ** 2


def kl_k3(log_probs: Float[Tensor, "*shape"], ref_log_probs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """q/p − 1 − log(q/p): unbiased and never negative."""
    return torch.expm1(ref_log_probs - log_probs) - (ref_log_probs - log_probs)


def adaptive_kl(kl_coef, kl, target, episodes, horizon=10_000):
    """The next kl_coef, moved towards the value that keeps the KL (nats per response) at `target`.

    Ziegler et al. (2019), section 2.2: the proportional error is clipped to ±0.2. InstructGPT keeps kl_coef fixed, and
    so does target=None.
    """
    if target is None:
        return kl_coef
    error = max(-0.2, min(0.2, kl / target - 1))
    return kl_coef * (1 + error * episodes / horizon)


# ---------------------------------------------------------------- rewards and advantages

def last_action(mask: Bool[Tensor, "batch response"]) -> Int[Tensor, "batch"]:
    """(batch, R) mask -> (batch,) the column of each row's last action."""
    if not mask.any(dim=1).all():
        raise ValueError("A response has no token, so there is no action to reward.")
    places = torch.arange(mask.shape[1], device=mask.device)
    return (places * mask.long()).argmax(dim=1)


def shaped_rewards(scores: Float[Tensor, "batch"], log_probs: Float[Tensor, "batch response"],
                   ref_log_probs: Float[Tensor, "batch response"], mask: Bool[Tensor, "batch response"],
                   kl_coef) -> Float[Tensor, "batch response"]:
    """(batch,) scores -> (batch, R) rewards: −kl_coef (log π − log π_ref) at every action, plus the score at the last.

    Equation 2, with the KL term written per token. The last action is END or, if the response was cut off, its last
    token; the rule is the same. Rewards carry no gradient: they are numbers, not functions of the weights.
    """
    rewards = torch.where(mask, -kl_coef * kl_k1(log_probs, ref_log_probs), 0.0)
    rows = torch.arange(len(mask), device=mask.device)
    return rewards.index_put((rows, last_action(mask)), scores.to(rewards.dtype), accumulate=True).detach()


def gae(rewards: Float[Tensor, "batch response"], values: Float[Tensor, "batch response"],
        mask: Bool[Tensor, "batch response"], gamma=1.0, lam=0.95
        ) -> tuple[Float[Tensor, "batch response"], Float[Tensor, "batch response"]]:
    """(batch, R) rewards and values -> (advantages, returns), both (batch, R), 0 at padding.

    Generalised advantage estimation. The value after the last action is 0, because the episode ends there. The
    returns are advantages + values, before any whitening. gamma = 1 is the paper's, lam is ours.
    """
    rewards, values = torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)
    advantages = torch.zeros_like(rewards)
    running, next_value = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        running = torch.where(mask[:, t], delta + gamma * lam * running, 0.0)
        next_value = values[:, t]
        advantages[:, t] = running
    return advantages.detach(), (advantages + values).detach()


# ---------------------------------------------------------------- losses

def policy_loss(log_probs: Float[Tensor, "batch response"], old_log_probs: Float[Tensor, "batch response"],
                advantages: Float[Tensor, "batch response"], mask: Bool[Tensor, "batch response"],
                clip_range=0.2, normaliser=None) -> tuple[Float[Tensor, ""], dict]:
    """PPO's clipped loss, averaged over actions -> (loss, statistics).

    −min(ratio A, clip(ratio, 1 ± clip_range) A). statistics: clipfrac, approx_kl (k3 of the old against the new
    policy) and max_ratio. normaliser: the number of actions to divide by when these rows are only part of the
    minibatch; the loss, clipfrac and approx_kl of the parts then add up to those of the whole.
    """
    count = mask.sum().clamp(min=1) if normaliser is None else normaliser
    log_ratio = torch.where(mask, log_probs - old_log_probs, 0.0).clamp(-50, 50)  # before exp: no ∞, no NaN, no 0 · ∞
    ratio = log_ratio.exp()
    advantages = torch.where(mask, advantages, 0.0)
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))
    with torch.no_grad():
        share = (mask.sum() / count).item()  # 1 without a normaliser
        statistics = {"clipfrac": share * masked_mean(((ratio - 1).abs() > clip_range).float(), mask).item(),
                      "approx_kl": share * masked_mean(torch.expm1(log_ratio) - log_ratio, mask).item(),
                      "max_ratio": torch.where(mask, ratio, 0.0).max().item()}
    return losses.sum() / count, statistics


def value_loss(values: Float[Tensor, "batch response"], old_values: Float[Tensor, "batch response"],
               returns: Float[Tensor, "batch response"], mask: Bool[Tensor, "batch response"],
               clip_range=0.2, normaliser=None) -> Float[Tensor, ""]:
    """Half the larger squared error of V and of V clipped to old V ± clip_range, averaged over actions.

    clip_range=None gives the plain ½ (V − return)². normaliser: as in `policy_loss`. The clip is ours.
    """
    count = mask.sum().clamp(min=1) if normaliser is None else normaliser
    values, old_values = torch.where(mask, values, 0.0), torch.where(mask, old_values, 0.0)
    returns = torch.where(mask, returns, 0.0)
    errors = (values - returns) ** 2
    if clip_range is not None:
        clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
        errors = torch.maximum(errors, (clipped - returns) ** 2)
    return 0.5 * errors.sum() / count
