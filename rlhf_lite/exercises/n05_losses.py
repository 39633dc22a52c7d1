"""Exercises 5.10 and 5.11: the two clipped losses."""

import math

import torch

from rlhf_lite import ppo_math
from rlhf_lite.exercises.cases import generator, loss_and_gradient, mask_of, masks, numbers
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 5.10 the clipped policy loss

def policy_loss(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    """The library's loss without its statistics."""
    return ppo_math.policy_loss(log_probs, old_log_probs, advantages, mask, clip_range)[0]


def _ratios_and_advantages():
    mask = mask_of(6, 4)
    old = -torch.rand(2, 6, generator=generator(12))
    log_ratio = torch.tensor([[0.5, 0.5, -0.5, -0.5, 0.1, -0.1], [0.9, -0.9, 0.05, -0.3, 2.0, -2.0]])
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0, -0.5], [-2.0, 0.7, -0.3, 1.5, 4.0, 4.0]])
    chosen = [(old + log_ratio, old, advantages, mask, clip_range) for clip_range in (0.2, 0.4)]
    for i, mask in enumerate(masks()):
        old = -numbers(mask, 120 + 3 * i, -8.0).abs()
        chosen.append((old + numbers(mask, 121 + 3 * i, 3.0, spread=0.4), old, numbers(mask, 122 + 3 * i, -6.0), mask,
                       (0.1, 0.3)[i % 2]))
    _, old, advantages, mask, _ = chosen[2]
    return [*chosen, (old.clone(), old, advantages, mask)]  # the very first step, with your default clip range


clipped_policy = Exercise(
    "5.10", "the clipped policy loss", 15, 3,
    ("Start from the ratio of new to old probability, token by token. How do you get it from two log-probabilities? "
     "Then there are two candidates for every token's loss.",
     "The ratio is `(log_probs - old_log_probs).exp()`. The two losses per token are −A · ratio and −A · clipped "
     "ratio; keep the worse one, which for a *loss* is the larger.",
     "`torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))`, then the mean "
     "over the True places of the mask: `losses[mask].mean()`."),
    task="`log_probs` (with a gradient), `old_log_probs` and `advantages` (batch, response) belong to the "
         "sampled tokens, `mask` is True at real ones, `clip_range` is 0.2 if not given. Return the loss, one "
         "number as a tensor that the gradient flows through: per token the larger of $-A\\rho$ and $-A\\rho'$, "
         "where $\\rho$ is the ratio of new to old probability and $\\rho'$ the same ratio kept within 1 ± "
         "`clip_range`; and of that the mean over all real tokens of the batch.",
    course=policy_loss, cases=_ratios_and_advantages, observe=loss_and_gradient)


def _policy_losses(log_probs, old_log_probs, advantages, clip_range, low=True, worst=torch.maximum):
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip_range if low else None, 1 + clip_range)
    return worst(-advantages * ratio, -advantages * clipped)


@clipped_policy.mistake("the ratio is upside down: it should be new over old, so that it grows when the token becomes "
                        "likelier.")
def _ratio_reversed(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = _policy_losses(-log_probs, -old_log_probs, advantages, clip_range)
    return ppo_math.masked_mean(losses, mask)


@clipped_policy.mistake("you keep the better of the two losses. Clipping then rewards what it should stop: take the "
                        "minimum of the gains, which is the maximum of the losses.")
def _best_of_both(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = _policy_losses(log_probs, old_log_probs, advantages, clip_range, worst=torch.minimum)
    return ppo_math.masked_mean(losses, mask)


@clipped_policy.mistake("the sign is flipped. A loss should fall when gains rise: minus ratio times advantage.")
def _policy_sign(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return -policy_loss(log_probs, old_log_probs, advantages, mask, clip_range)


@clipped_policy.mistake("only large ratios are clipped. A token with a negative advantage is pushed down, and must be "
                        "stopped at 1 − clip_range.")
def _clipped_above_only(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return ppo_math.masked_mean(_policy_losses(log_probs, old_log_probs, advantages, clip_range, low=False), mask)


@clipped_policy.mistake("the mean runs over padding too.")
def _policy_mean_over_pads(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return _policy_losses(log_probs, old_log_probs, advantages, clip_range).mean()


@clipped_policy.mistake("the padding adds 0 but is still counted: divide by the number of real tokens, or short "
                        "answers weaken the step.")
def _zeros_counted(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return torch.where(mask, _policy_losses(log_probs, old_log_probs, advantages, clip_range), 0.0).mean()


@clipped_policy.mistake("only the clipped loss is used. A token that has moved too far the *wrong* way then has no "
                        "gradient and never comes back.")
def _clip_without_choice(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = _policy_losses(log_probs, old_log_probs, advantages, clip_range, worst=lambda plain, clipped: clipped)
    return ppo_math.masked_mean(losses, mask)


@clipped_policy.mistake("nothing is clipped: one lucky batch can now throw the policy anywhere.")
def _never_clipped(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return policy_loss(log_probs, old_log_probs, advantages, mask, math.inf)


@clipped_policy.mistake("the *ratios* are compared, before they meet the advantage. For a negative advantage the "
                        "smaller ratio is the better, not the worse one: multiply first, then choose.")
def _smaller_ratio(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    ratio = (log_probs - old_log_probs).exp()
    return ppo_math.masked_mean(-advantages * torch.minimum(ratio, ratio.clamp(1 - clip_range, 1 + clip_range)), mask)


@clipped_policy.mistake("this is the difference of the log-probabilities; its exponential is the ratio.")
def _no_exp(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    ratio = log_probs - old_log_probs
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))
    return ppo_math.masked_mean(losses, mask)


@clipped_policy.mistake("the ratio is one of *log*-probabilities. Subtract them and take the exponential.")
def _ratio_of_logs(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    ratio = log_probs / old_log_probs
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))
    return ppo_math.masked_mean(losses, mask)


@clipped_policy.mistake("the log-ratio is clipped to ±clip_range, before the exponential. It is the ratio itself that "
                        "stays within 1 ± clip_range.")
def _log_ratio_clipped(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    log_ratio = log_probs - old_log_probs
    losses = torch.maximum(-advantages * log_ratio.exp(),
                           -advantages * log_ratio.clamp(-clip_range, clip_range).exp())
    return ppo_math.masked_mean(losses, mask)


@clipped_policy.mistake("first the mean of each answer, then the mean over answers: a token of a short answer then "
                        "weighs more. Take one mean over all real tokens.")
def _mean_of_means(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = torch.where(mask, _policy_losses(log_probs, old_log_probs, advantages, clip_range), 0.0)
    return (losses.sum(dim=1) / mask.sum(dim=1)).mean()


@clipped_policy.mistake("the clip is always 0.2: the argument `clip_range` is not used.")
def _always_a_fifth(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return policy_loss(log_probs, old_log_probs, advantages, mask, 0.2)


@clipped_policy.mistake("this is the sum over the tokens. Take their mean, or long batches take longer steps.")
def _policy_sum(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return policy_loss(log_probs, old_log_probs, advantages, mask, clip_range) * mask.sum()


# ---------------------------------------------------------------- 5.11 the clipped value loss

def _values_and_returns():
    mask = mask_of(5, 3)
    old = torch.randn(2, 5, generator=generator(13))
    values = old + torch.tensor([[0.5, -0.5, 0.1, -0.1, 0.5], [-0.5, 0.05, 0.4, 3.0, 3.0]])
    returns = old + torch.tensor([[1.0, 1.0, -1.0, 0.3, -1.0], [-0.2, 0.4, 0.25, -4.0, -4.0]])
    chosen = [(values, old, returns, mask, clip_range) for clip_range in (0.2, 0.3)]
    for i, mask in enumerate(masks()):
        old = numbers(mask, 140 + 3 * i, -8.0)
        chosen.append((old + numbers(mask, 141 + 3 * i, 2.0, spread=0.5), old, numbers(mask, 142 + 3 * i, 6.0), mask,
                       (0.1, 0.5)[i % 2]))
    return [*chosen, chosen[2][:4]]  # the last one with your default clip range


clipped_value = Exercise(
    "5.11", "the clipped value loss", 10, 2,
    ("Two squared errors for every token, and again the worse one counts. Worse than what the value says now is what "
     "it would say if its step had been cut short.",
     "The clipped value is the *old* one plus a change of at most ±clip_range. Square both errors, keep the larger, "
     "and halve the mean.",
     "`clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)`, then half the masked mean of "
     "`torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)`."),
    task="`values` (batch, response) are the critic's now, with a gradient; `old_values` are those from when "
         "the batch was sampled, `returns` what it should have said; `mask` is True at real tokens, "
         "`clip_range` is 0.2 if not given. Return the loss, one number as a tensor that the gradient flows "
         "through. Per token, take the larger of two squared errors against the return: that of the value, and "
         "that of the clipped value, which is at most `clip_range` away from the *old* value. The loss is half "
         "their mean over all real tokens.",
    course=ppo_math.value_loss, cases=_values_and_returns, observe=loss_and_gradient)


def _value_errors(values, centre, returns, clip_range, worst=torch.maximum):
    clipped = centre + (values - centre).clamp(-clip_range, clip_range)
    return worst((values - returns) ** 2, (clipped - returns) ** 2)


@clipped_value.mistake("the half is missing.")
def _no_half(values, old_values, returns, mask, clip_range=0.2):
    return 2 * ppo_math.value_loss(values, old_values, returns, mask, clip_range)


@clipped_value.mistake("the values themselves are clipped. Clip their *change*: old value plus at most ±clip_range.")
def _clipped_around_zero(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * ppo_math.masked_mean(_value_errors(values, torch.zeros_like(values), returns, clip_range), mask)


@clipped_value.mistake("you keep the smaller error. As with the policy, keep the worse one.")
def _smaller_error(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * ppo_math.masked_mean(_value_errors(values, old_values, returns, clip_range, torch.minimum), mask)


@clipped_value.mistake("only the clipped error is used: a value that moved too far no longer has a gradient, even if "
                       "it moved the wrong way.")
def _only_the_clipped_error(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * ppo_math.masked_mean(_value_errors(values, old_values, returns, clip_range, lambda a, b: b), mask)


@clipped_value.mistake("the mean runs over padding too.")
def _value_mean_over_pads(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * _value_errors(values, old_values, returns, clip_range).mean()


@clipped_value.mistake("this is the plain squared error. Either the clip is missing, or it is centred on the returns, "
                       "where it never acts: it should limit how far the critic moves from its *old* value.")
def _value_not_clipped(values, old_values, returns, mask, clip_range=0.2):
    return ppo_math.value_loss(values, old_values, returns, mask, None)


@clipped_value.mistake("the clip is relative: old value times 1 ± clip_range. A value near 0 could then never move. "
                       "Clip the difference.")
def _clipped_as_a_ratio(values, old_values, returns, mask, clip_range=0.2):
    ends = torch.stack([old_values * (1 - clip_range), old_values * (1 + clip_range)]).sort(dim=0).values
    errors = torch.maximum((values - returns) ** 2, (values.clamp(ends[0], ends[1]) - returns) ** 2)
    return 0.5 * ppo_math.masked_mean(errors, mask)


@clipped_value.mistake("the errors are not squared.")
def _absolute_errors(values, old_values, returns, mask, clip_range=0.2):
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    return 0.5 * ppo_math.masked_mean(torch.maximum((values - returns).abs(), (clipped - returns).abs()), mask)


@clipped_value.mistake("first the mean of each answer, then the mean over answers: a token of a short answer then "
                       "weighs more. Take one mean over all real tokens.")
def _value_mean_of_means(values, old_values, returns, mask, clip_range=0.2):
    errors = torch.where(mask, _value_errors(values, old_values, returns, clip_range), 0.0)
    return 0.5 * (errors.sum(dim=1) / mask.sum(dim=1)).mean()


@clipped_value.mistake("the padding adds 0 but is still counted: divide by the number of real tokens.")
def _value_zeros_counted(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * torch.where(mask, _value_errors(values, old_values, returns, clip_range), 0.0).mean()


@clipped_value.mistake("the clip is always 0.2: the argument `clip_range` is not used.")
def _value_always_a_fifth(values, old_values, returns, mask, clip_range=0.2):
    return ppo_math.value_loss(values, old_values, returns, mask, 0.2)


EXERCISES = [clipped_policy, clipped_value]
