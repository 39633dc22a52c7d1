"""Exercises 5.6 to 5.9: which token deserves the credit (GAE, whitening, and their order)."""

import torch

from rlhf_lite import ppo_math
from rlhf_lite.exercises.cases import generator, mask_of, need_tensors
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 5.6 three advantages by hand

by_hand = Exercise(
    "5.6", "three advantages by hand", 10, 2,
    ("First the three surprises: δ = reward + next value − value, where after the last token the next value is 0. "
     "They are 0.2, 0.0 and 0.6.",
     "Then work backwards: the last advantage is the last δ; each earlier one is its own δ plus λ times the advantage "
     "after it."),
    course=[0.35, 0.3, 0.6], tolerance=0.005,
    mistakes={
        "these are the surprises δ alone (λ = 0). Each advantage also gets λ times the one after it.": [0.2, 0.0, 0.6],
        "here the later surprises count in full (λ = 1). With λ = 0.5 each step back halves them.": [0.8, 0.6, 0.6],
        "these are the returns, advantages plus values.": [0.55, 0.8, 1.0],
        "you went forwards. Credit flows backwards: an early token is praised for what came after it.":
            [0.2, 0.1, 0.65]})


# ---------------------------------------------------------------- 5.7 generalised advantage estimation

def _as_tensors(function, *arguments):
    parts = function(*arguments)
    need_tensors(*(parts if isinstance(parts, tuple | list) else [parts]))
    return parts


def _rewards_and_values():
    mask = mask_of(3, 1, 4)
    rewards = torch.where(mask, torch.randn(3, 4, generator=generator(6)), 3.0)
    values = torch.where(mask, torch.randn(3, 4, generator=generator(7)), 5.0)
    return [(rewards, values, mask, 1.0, 0.5), (rewards, values, mask, 0.9, 0.6)]


advantage_estimation = Exercise(
    "5.7", "generalised advantage estimation", 15, 3,
    ("Put zeros at the padding of rewards and values first. Then go through the columns from the last to the first "
     "and keep two things: the running advantage and the value of the column after.",
     "In the loop: `delta = rewards[:, t] + gamma * next_value - values[:, t]`, `running = torch.where(mask[:, t], "
     "delta + gamma * lam * running, 0.0)`, `next_value = values[:, t]`. Returns are advantages plus values."),
    course=ppo_math.gae, cases=_rewards_and_values, observe=_as_tensors)


def _gae_by(rewards, values, mask, gamma, lam, backwards=True, next_values=None, delta_discount=None):
    """GAE with switches for what is often done wrong."""
    width = rewards.shape[1]
    following = next_values
    if following is None:
        following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    advantages, running = torch.zeros_like(rewards), torch.zeros(len(rewards))
    for t in reversed(range(width)) if backwards else range(width):
        delta = rewards[:, t] + (gamma if delta_discount is None else delta_discount) * following[:, t] - values[:, t]
        running = torch.where(mask[:, t], delta + gamma * lam * running, 0.0)
        advantages[:, t] = running
    return advantages, torch.where(mask, advantages + values, 0.0)


def _real_only(rewards, values, mask):
    return torch.where(mask, rewards, 0.0), torch.where(mask, values, 0.0)


@advantage_estimation.mistake("padding leaks in: the numbers after the end of a short answer change its advantages. "
                              "Start each row's sum at its own last token.")
def _pads_leak(rewards, values, mask, gamma=1.0, lam=0.95):
    advantages, _ = _gae_by(rewards, values, torch.ones_like(mask), gamma, lam)
    return torch.where(mask, advantages, 0.0), torch.where(mask, advantages + values, 0.0)


@advantage_estimation.mistake("you bootstrap beyond the end: the last token's surprise uses the critic's number at the "
                              "padding. Nothing comes after END, so the next value is 0.")
def _bootstraps_at_the_end(rewards, values, mask, gamma=1.0, lam=0.95):
    return _gae_by(rewards, values, mask, gamma, lam)


@advantage_estimation.mistake("gamma and lam are swapped in the surprise: δ discounts the next value by gamma alone; "
                              "lam only weighs the surprises that follow.")
def _discounts_swapped(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values = _real_only(rewards, values, mask)
    return _gae_by(rewards, values, mask, gamma, lam, delta_discount=lam)


@advantage_estimation.mistake("you went forwards. Credit flows backwards: begin at the last column.")
def _forwards(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values = _real_only(rewards, values, mask)
    return _gae_by(rewards, values, mask, gamma, lam, backwards=False)


@advantage_estimation.mistake("lam is not used, so all later surprises count in full.")
def _no_lambda(rewards, values, mask, gamma=1.0, lam=0.95):
    return ppo_math.gae(rewards, values, mask, gamma, 1.0)


@advantage_estimation.mistake("the surprise lacks the next value. Without it, a token is blamed for everything that "
                              "the critic still expects.")
def _no_next_value(rewards, values, mask, gamma=1.0, lam=0.95):
    rewards, values = _real_only(rewards, values, mask)
    return _gae_by(rewards, values, mask, gamma, lam, next_values=torch.zeros_like(values))


@advantage_estimation.mistake("the second result should be the returns, which the critic has to learn: advantages plus "
                              "values.")
def _returns_are_advantages(rewards, values, mask, gamma=1.0, lam=0.95):
    advantages, _ = ppo_math.gae(rewards, values, mask, gamma, lam)
    return advantages, advantages


# ---------------------------------------------------------------- 5.8 whitening

def _values_to_whiten():
    mask = mask_of(3, 1, 4)
    values = torch.where(mask, 2 + torch.randn(3, 4, generator=generator(8)), 40.0)
    return [(values, mask, True), (values, mask, False)]


whitening = Exercise(
    "5.8", "whitening", 10, 1,
    ("Mean and standard deviation run over the True places only. With `shift_mean` the mean is subtracted; without "
     "it the values are only scaled.",
     "`chosen = values[mask]`; `chosen.mean()` and `chosen.std(correction=0)`. At padding return 0, with "
     "`torch.where(mask, ..., 0.0)`."),
    course=ppo_math.masked_whiten, cases=_values_to_whiten, observe=_as_tensors)


def _whitened(values, mask, shift_mean=True, over=None, correction=0, keep_mean=False):
    chosen = values[mask if over is None else over]
    centred = values - chosen.mean() if shift_mean else values
    scaled = centred / chosen.std(correction=correction)
    return torch.where(mask, scaled + (chosen.mean() if keep_mean and shift_mean else 0.0), 0.0)


@whitening.mistake("the statistics include the padding and whatever garbage is there.")
def _whitened_over_pads(values, mask, shift_mean=True):
    return _whitened(values, mask, shift_mean, over=torch.ones_like(mask))


@whitening.mistake("the padding was set to 0 and then counted. Zeros are numbers too: they pull mean and deviation "
                   "towards 0.")
def _whitened_over_zeros(values, mask, shift_mean=True):
    return _whitened(torch.where(mask, values, 0.0), mask, shift_mean, over=torch.ones_like(mask))


@whitening.mistake("the mean was put back after scaling. Then an average token is praised (or blamed) for nothing.")
def _mean_kept(values, mask, shift_mean=True):
    return _whitened(values, mask, shift_mean, keep_mean=True)


@whitening.mistake("this is the sample deviation (n − 1). Use the population's; with a single token, n − 1 "
                   "would mean a division by 0.")
def _sample_deviation(values, mask, shift_mean=True):
    return _whitened(values, mask, shift_mean, correction=1)


@whitening.mistake("with `shift_mean=False` the mean must stay: rewards would change their signs otherwise.")
def _always_shifted(values, mask, shift_mean=True):
    return _whitened(values, mask, True)


@whitening.mistake("this divides by the variance. Divide by its square root.")
def _variance_for_deviation(values, mask, shift_mean=True):
    return _whitened(values, mask, shift_mean) / values[mask].std(correction=0)


# ---------------------------------------------------------------- 5.9 from scores to advantages

def advantages_and_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    """Shaped rewards, GAE with the library's gamma and lambda, and the advantages (not the returns) whitened."""
    rewards = ppo_math.shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef)
    advantages, returns = ppo_math.gae(rewards, values, mask)
    return ppo_math.masked_whiten(advantages, mask), returns


def _rollout_numbers():
    mask = mask_of(3, 1, 4)
    parts = [torch.where(mask, torch.randn(3, 4, generator=generator(seed)), 7.0) for seed in (9, 10, 11)]
    return [(torch.tensor([1.0, -0.5, 2.0]), -parts[0].abs(), -parts[1].abs(), parts[2], mask, kl_coef)
            for kl_coef in (0.1, 1.0)]


right_order = Exercise(
    "5.9", "from scores to advantages, in the right order", 10, 2,
    ("Three of your functions in a row: shaped rewards, GAE, whitening. Only one of GAE's two results is whitened.",
     "`rewards = shaped_rewards(...)`, `advantages, returns = gae(rewards, values, mask)`, and return "
     "`masked_whiten(advantages, mask), returns`."),
    course=advantages_and_returns, cases=_rollout_numbers, observe=_as_tensors)


@right_order.mistake("the returns were made from the whitened advantages. The critic would learn a number whose unit "
                     "changes with every batch. Compute the returns first, then whiten.")
def _whitened_before_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    advantages, _ = advantages_and_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef)
    return advantages, torch.where(mask, advantages + values, 0.0)


@right_order.mistake("the advantages are not whitened.")
def _not_whitened(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    return ppo_math.gae(ppo_math.shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef), values, mask)


@right_order.mistake("policy and reference are swapped, so the policy is paid for leaving the reference.")
def _policies_swapped(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    return advantages_and_returns(scores, ref_log_probs, log_probs, values, mask, kl_coef)


@right_order.mistake("the rewards were whitened too, including the mean: a token that earned nothing now has a reward.")
def _rewards_whitened(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    rewards = ppo_math.shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef)
    advantages, returns = ppo_math.gae(ppo_math.masked_whiten(rewards, mask), values, mask)
    return ppo_math.masked_whiten(advantages, mask), returns


@right_order.mistake("the returns were whitened. The critic must predict rewards as they are.")
def _returns_whitened(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    advantages, returns = advantages_and_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef)
    return advantages, ppo_math.masked_whiten(returns, mask)


EXERCISES = [by_hand, advantage_estimation, whitening, right_order]
