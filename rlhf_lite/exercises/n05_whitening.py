"""Exercises 5.8 and 5.9: whitening, and the right order from scores to advantages."""

import torch

from rlhf_lite import ppo_math
from rlhf_lite.exercises.cases import by_name, generator, mask_of, masks, numbers
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 5.8 whitening

def _values_to_whiten():
    rows = [(2 + numbers(mask, 80 + i, 38.0, spread=3.0), mask, i % 2 == 0) for i, mask in enumerate(masks())
            if mask.sum() > 1]
    equal = mask_of(3, 1)
    return [*rows, rows[1][:2], (torch.where(equal, 0.5, 7.0), equal)]  # twice with your default; all values equal


whitening = Exercise(
    "5.8", "whitening", 10, 1,
    ("Mean and standard deviation run over the True places only. How do you get at those numbers, and where do the "
     "results have to go back to?",
     "`values[mask]` is a flat tensor of the real numbers. With `shift_mean` the mean is subtracted; without it the "
     "values are only scaled. At padding return 0.",
     "`chosen = values[mask]`; `centred = values - chosen.mean()` if shift_mean, else `values`; then "
     "`torch.where(mask, centred / (chosen.std(correction=0) + 1e-8), 0.0)`."),
    task="`values` (batch, response) are floats, `mask` is True at real tokens (padding may hold anything), and "
         "`shift_mean` is True if not given. Return a tensor of that shape: the values divided by the standard "
         "deviation of all real tokens of the batch together (the population's, with n and not n − 1), and with "
         "`shift_mean` moved to mean 0 first; 0 at padding. If all values are equal the deviation is 0: add "
         "something tiny (1e-8) to it, so that no NaN comes out.",
    course=ppo_math.masked_whiten, cases=_values_to_whiten)


def _whitened(values, mask, shift_mean=True, over=None, correction=0, keep_mean=False):
    chosen = values[mask if over is None else over]
    centred = values - chosen.mean() if shift_mean else values
    scaled = centred / (chosen.std(correction=correction) + 1e-8)
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
    return _whitened(values, mask, shift_mean) / (values[mask].std(correction=0) + 1e-8)


@whitening.mistake("where all values are equal, this divides 0 by 0, and one NaN would spoil every weight. Add "
                   "something tiny (1e-8) to the deviation.")
def _divides_by_nothing(values, mask, shift_mean=True):
    chosen = values[mask]
    centred = values - chosen.mean() if shift_mean else values
    return torch.where(mask, centred / chosen.std(correction=0), 0.0)


@whitening.mistake("each row is whitened by itself. Then a batch in which one answer is bad and one is good praises "
                   "and blames both alike. Take mean and deviation over the whole batch.")
def _row_by_row(values, mask, shift_mean=True):
    count = mask.sum(dim=1, keepdim=True)
    mean = torch.where(mask, values, 0.0).sum(dim=1, keepdim=True) / count
    deviation = (torch.where(mask, (values - mean) ** 2, 0.0).sum(dim=1, keepdim=True) / count).sqrt()
    return torch.where(mask, (values - mean if shift_mean else values) / (deviation + 1e-8), 0.0)


@whitening.mistake("the mean is gone, but the scale is as it was. Divide by the standard deviation.")
def _only_centred(values, mask, shift_mean=True):
    return torch.where(mask, values - values[mask].mean() if shift_mean else values, 0.0)


@whitening.mistake("the padding is not 0. Select with `torch.where(mask, ..., 0.0)`.")
def _padding_left_in(values, mask, shift_mean=True):
    chosen = values[mask]
    return (values - chosen.mean() if shift_mean else values) / (chosen.std(correction=0) + 1e-8)


# ---------------------------------------------------------------- 5.9 from scores to advantages

def advantages_and_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    """Shaped rewards, GAE with the library's gamma and lambda, and the advantages (not the returns) whitened."""
    rewards = ppo_math.shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef)
    advantages, returns = ppo_math.gae(rewards, values, mask)
    return ppo_math.masked_whiten(advantages, mask), returns


def _rollout_numbers():
    rows = []
    for i, mask in enumerate(mask for mask in masks() if mask.sum() > 1):
        scores = torch.randn(len(mask), generator=generator(90 + i))
        parts = [numbers(mask, 91 + 3 * i + k, 7.0) for k in range(3)]
        rows.append((scores, -parts[0].abs(), -parts[1].abs(), parts[2], mask, (0.1, 1.0)[i % 2]))
    return rows


right_order = Exercise(
    "5.9", "from scores to advantages, in the right order", 10, 2,
    ("Three of your functions in a row. Which of them needs what the one before it returns? Which result does the "
     "critic learn from, and may its unit change?",
     "First `shaped_rewards`, then `gae`, which gives two results. Only one of the two is whitened: the one that tells "
     "the policy which way to go.",
     "`rewards = shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef)`, `advantages, returns = gae(rewards, "
     "values, mask)`, and return `masked_whiten(advantages, mask), returns`."),
    task="Put your three functions together; the order is the exercise. `scores` (batch,) has one float per "
         "response; `log_probs`, `ref_log_probs` and `values` (batch, response) belong to the sampled tokens, "
         "`mask` is True at real ones, and `kl_coef` is the price β. Return two tensors (batch, response): the "
         "whitened advantages, and the returns that the critic has to learn, in the unit of the scores. gamma "
         "and lam keep their defaults.",
    course=advantages_and_returns, cases=_rollout_numbers,
    observe=by_name("the advantages", "the returns"))


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


@right_order.mistake("the two results are swapped: first the advantages, then the returns.")
def _results_swapped(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    return advantages_and_returns(scores, log_probs, ref_log_probs, values, mask, kl_coef)[::-1]


@right_order.mistake("the price of leaving the reference is missing: the rewards hold nothing but the scores.")
def _no_penalty(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    return advantages_and_returns(scores, log_probs, ref_log_probs, values, mask, 0.0)


@right_order.mistake("the advantages are scaled, but their mean is still in them: whiten them with shift_mean.")
def _mean_left_in(scores, log_probs, ref_log_probs, values, mask, kl_coef):
    rewards = ppo_math.shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef)
    advantages, returns = ppo_math.gae(rewards, values, mask)
    return ppo_math.masked_whiten(advantages, mask, shift_mean=False), returns


EXERCISES = [whitening, right_order]
