"""Exercises 5.10 and 5.11: the two clipped losses."""

import math

import torch

from rlhf_lite import ppo_math
from rlhf_lite.exercises.cases import generator, mask_of
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 5.10 the clipped policy loss

def policy_loss(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    """The library's loss without its statistics."""
    return ppo_math.policy_loss(log_probs, old_log_probs, advantages, mask, clip_range)[0]


def _loss_and_gradient(function, first, *arguments):
    """The value of a loss and its derivative with respect to the first argument."""
    first = first.detach().clone().requires_grad_()
    loss = function(first, *arguments)
    loss = loss[0] if isinstance(loss, tuple) else loss
    if loss is None:
        return None
    gradient = torch.zeros_like(first)
    if loss.requires_grad:
        found, = torch.autograd.grad(loss.sum(), first, allow_unused=True)
        gradient = gradient if found is None else found
    return {"loss": loss, "gradient": gradient}


def _ratios_and_advantages():
    mask = mask_of(6, 4)
    old = -torch.rand(2, 6, generator=generator(12))
    log_ratio = torch.tensor([[0.5, 0.5, -0.5, -0.5, 0.1, -0.1], [0.9, -0.9, 0.05, -0.3, 2.0, -2.0]])
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0, -0.5], [-2.0, 0.7, -0.3, 1.5, 4.0, 4.0]])
    return [(old + log_ratio, old, advantages, mask, clip_range) for clip_range in (0.2, 0.4)]


clipped_policy = Exercise(
    "5.10", "the clipped policy loss", 15, 3,
    ("The ratio is `(log_probs - old_log_probs).exp()`. Compute two losses per token, −A · ratio and −A · clipped "
     "ratio, and keep the worse one.",
     "`torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))`, then the mean "
     "over the True places of the mask."),
    course=policy_loss, cases=_ratios_and_advantages, observe=_loss_and_gradient)


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


# ---------------------------------------------------------------- 5.11 the clipped value loss

def _values_and_returns():
    mask = mask_of(5, 3)
    old = torch.randn(2, 5, generator=generator(13))
    values = old + torch.tensor([[0.5, -0.5, 0.1, -0.1, 0.5], [-0.5, 0.05, 0.4, 3.0, 3.0]])
    returns = old + torch.tensor([[1.0, 1.0, -1.0, 0.3, -1.0], [-0.2, 0.4, 0.25, -4.0, -4.0]])
    return [(values, old, returns, mask, clip_range) for clip_range in (0.2, 0.3)]


clipped_value = Exercise(
    "5.11", "the clipped value loss", 10, 2,
    ("The clipped value is the old one plus a change of at most ±clip_range. Square both errors, keep the larger.",
     "`clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)`, then half the masked mean of "
     "`torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)`."),
    course=ppo_math.value_loss, cases=_values_and_returns, observe=_loss_and_gradient)


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


EXERCISES = [clipped_policy, clipped_value]
