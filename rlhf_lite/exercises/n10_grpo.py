"""Exercises 10.6 and 10.7, on GRPO: the group's mean and spread, and the loss of an answer."""

import torch

from rlhf_lite import grpo, ppo_math, rloo
from rlhf_lite.exercises.cases import draws, mask_of
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 10.6 mean and spread of a group

def _scored_groups():
    return [(draws(8, seed=50), 4, True), (draws(6, seed=51), 3, False),
            (torch.tensor([1.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0]), 4, True),
            (torch.tensor([3.0, 3.0, 0.0, 1.0]), 2, True)]


mean_and_spread = Exercise(
    "10.6", "a group's mean and spread", 10, 2,
    ("What should a group teach in which all answers got the same score?",
     "One row per prompt: `scores.view(-1, group)`. Subtract each row's mean, and divide by each row's `std`. What "
     "happens in a row of equal scores?",
     "`groups.std(dim=1, keepdim=True)` is 0 there, and 0/0 is not a number. Where the spread is 0, return 0: "
     "`torch.where(spread > 1e-6, centred / spread.clamp(min=1e-6), 0.0)`."),
    task="`scores` (batch,) has the scores of `group` answers to the first prompt, then of the second, and so on; "
         "`divide_by_std` is True or False. Return a tensor (batch,): each score minus the mean of its whole group, "
         "divided by the group's standard deviation (that of a sample, as `std` gives it) if asked for. A group of "
         "equal scores gives zeros.",
    course=grpo.group_advantages, cases=_scored_groups, tolerance=1e-3)


@mean_and_spread.mistake("a group of equal scores gives 0/0, which is not a number, and one such group spoils every "
                         "weight of the model. It should give zeros.")
def _zero_by_zero(scores, group, divide_by_std):
    groups = scores.view(-1, group)
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred / groups.std(dim=1, keepdim=True) if divide_by_std else centred).flatten()


@mean_and_spread.mistake("mean and spread run over the whole batch. Compare only answers to the same prompt.")
def _over_the_whole_batch(scores, group, divide_by_std):
    return grpo.group_advantages(scores, len(scores), divide_by_std)


@mean_and_spread.mistake("this leaves the answer's own score out of the mean. That is RLOO; GRPO takes the mean of the "
                         "whole group.")
def _leave_one_out(scores, group, divide_by_std):
    advantages = rloo.rloo_advantages(scores, group).view(-1, group)
    spread = scores.view(-1, group).std(dim=1, keepdim=True)
    return (torch.where(spread > 1e-6, advantages / spread.clamp(min=1e-6), 0.0) if divide_by_std
            else advantages).flatten()


@mean_and_spread.mistake("the switch is ignored: the spread is always divided by.")
def _always_divided(scores, group, divide_by_std):
    return grpo.group_advantages(scores, group, True)


@mean_and_spread.mistake("this divides by the variance. The standard deviation is its square root.")
def _by_the_variance(scores, group, divide_by_std):
    groups = scores.view(-1, group)
    spread = groups.std(dim=1, keepdim=True)
    return (grpo.group_advantages(scores, group, divide_by_std).view(-1, group)
            / (spread.clamp(min=1e-6) if divide_by_std else 1.0)).flatten()


@mean_and_spread.mistake("the groups are read in the wrong direction: answers to one prompt are side by side, so a row "
                         "of `scores.view(-1, group)` is one prompt.")
def _read_across(scores, group, divide_by_std):
    return grpo.group_advantages(scores.view(group, -1).T.flatten(), group, divide_by_std).view(-1, group).T.flatten()


# ---------------------------------------------------------------- 10.7 GRPO's loss

def grpo_losses(log_probs, ref_log_probs, advantages, mask, kl_coef, divide_by_length):
    """(batch,) losses of answers, with k3 in the loss; the library's `grpo.grpo_losses` takes a config instead."""
    config = grpo.GRPOConfig(kl_coef=kl_coef, divide_by_length=divide_by_length)
    return grpo.grpo_losses(log_probs, ref_log_probs, advantages, mask, config)


def _answers_and_reference():
    cases = []
    for seed, lengths, kl_coef, divide in ((60, (3, 1, 4), 0.5, False), (61, (2, 4), 0.1, True),
                                           (62, (1, 3), 0.0, True)):
        mask = mask_of(*lengths)
        ours, theirs = (torch.where(mask, -draws(*mask.shape, seed=seed + i).abs(), pad) for i, pad in
                        ((0, -7.0), (100, -1.0)))
        cases.append((ours.requires_grad_(), theirs, draws(len(mask), seed=seed + 200), mask, kl_coef, divide))
    return cases


def _losses_and_gradient(function, log_probs, *rest):
    losses = function(log_probs, *rest)
    if not isinstance(losses, torch.Tensor) or not losses.requires_grad:
        return losses
    return {"losses": losses.detach(), "gradient": torch.autograd.grad(losses.sum(), log_probs)[0]}


loss_of_an_answer = Exercise(
    "10.7", "GRPO's loss", 15, 3,
    ("Every token has a share in the answer's advantage and a price of its own.",
     "Every token of an answer gets the answer's advantage: −advantage · log π(token). Add kl_coef · k3 of that token, "
     "then add up the real tokens, or take their mean.",
     "k3 with samples from the policy is `(ref − log π).exp() − 1 − (ref − log π)`. `tokens = torch.where(mask, "
     "-advantages.detach()[:, None] * log_probs + kl_coef * k3, 0.0)`, then `.sum(dim=1)`, divided by "
     "`mask.sum(dim=1)` if asked for."),
    task="`log_probs` and `ref_log_probs` (batch, response) are the sampled tokens' log-probabilities under policy and "
         "reference, `advantages` (batch,) one number per answer, `mask` True at tokens. A token's loss is −advantage "
         "· log π + `kl_coef` · k3, with k3 = π_ref/π − 1 − log(π_ref/π). Return a tensor (batch,): the sum over each "
         "answer's tokens or, if `divide_by_length`, their mean. No gradient flows into the advantages.",
    course=grpo_losses, cases=_answers_and_reference, observe=_losses_and_gradient)


def _per_token(log_probs, ref_log_probs, advantages, mask, kl_coef, divide_by_length, estimator=ppo_math.kl_k3):
    tokens = torch.where(mask, -advantages[:, None] * log_probs + kl_coef * estimator(log_probs, ref_log_probs), 0.0)
    return tokens.sum(dim=1) / mask.sum(dim=1) if divide_by_length else tokens.sum(dim=1)


@loss_of_an_answer.mistake("the sign of the advantage is flipped: this makes the worse answers likelier.")
def _worse_answers_likelier(log_probs, ref_log_probs, advantages, *rest):
    return _per_token(log_probs, ref_log_probs, -advantages, *rest)


@loss_of_an_answer.mistake("the KL is subtracted. A loss is minimised, so the price is added.")
def _price_as_a_prize(log_probs, ref_log_probs, advantages, mask, kl_coef, divide_by_length):
    return _per_token(log_probs, ref_log_probs, advantages, mask, -kl_coef, divide_by_length)


@loss_of_an_answer.mistake("this is k1. As a number it is right on average, as a loss it does nothing on average; GRPO "
                           "uses k3.")
def _k1_in_the_loss(*arguments):
    return _per_token(*arguments, estimator=ppo_math.kl_k1)


@loss_of_an_answer.mistake("k3 runs the wrong way. The tokens were sampled from the policy, so the ratio in it is "
                           "π_ref/π: exp(ref − log π) − 1 − (ref − log π).")
def _k3_turned(*arguments):
    return _per_token(*arguments, estimator=lambda ours, theirs: ppo_math.kl_k3(theirs, ours))


@loss_of_an_answer.mistake("padding is counted.")
def _with_padding(log_probs, ref_log_probs, advantages, mask, kl_coef, divide_by_length):
    return _per_token(log_probs, ref_log_probs, advantages, torch.ones_like(mask), kl_coef, divide_by_length)


@loss_of_an_answer.mistake("this divides by the width of the batch, padding included. Divide by the answer's own "
                           "length, `mask.sum(dim=1)`.")
def _divided_by_width(log_probs, ref_log_probs, advantages, mask, kl_coef, divide_by_length):
    sums = _per_token(log_probs, ref_log_probs, advantages, mask, kl_coef, False)
    return sums / mask.shape[1] if divide_by_length else sums


@loss_of_an_answer.mistake("the switch is ignored: the loss is divided by the length whatever it says.")
def _divided_anyway(log_probs, ref_log_probs, advantages, mask, kl_coef, divide_by_length):
    return _per_token(log_probs, ref_log_probs, advantages, mask, kl_coef, True)


EXERCISES = [mean_and_spread, loss_of_an_answer]
