"""Exercises 8.7 and 8.8: does the sampler draw from the policy, and what its answers are worth if it does not."""

import torch

from rlhf_lite import ppo_math
from rlhf_lite.exercises.cases import draws, mask_of
from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.exercises.laboratory import surprise_gap

# ---------------------------------------------------------------- 8.7 surprise and entropy

def _drawn_tokens():
    mask = mask_of(3, 1, 4)
    log_probs, entropy = -draws(3, 4, seed=30).abs(), draws(3, 4, seed=31).abs()
    return [(torch.where(mask, log_probs, -9.0), torch.where(mask, entropy, 4.0), mask),
            (torch.tensor([[-0.5, -2.0]]), torch.tensor([[0.5, 2.0]]), torch.tensor([[True, True]])),
            (torch.where(mask, 2 * log_probs, float("nan")), torch.where(mask, entropy, float("nan")), mask)]


surprise_and_entropy = Exercise(
    "8.7", "surprise and entropy", 10, 2,
    ("How surprising should a token be, on average, if it was drawn from the very distribution that scores it?",
     "The surprise of a token is −log p. Its expected value is the entropy of the distribution that it was drawn from. "
     "So what should be 0 on average?",
     "`(-log_probs - entropy)` is the gap at every place. Take its mean over the True places of the mask: "
     "`torch.where(mask, gap, 0.0).sum() / mask.sum()`."),
    task="`log_probs` and `entropy` (batch, response) are the log-probability of each token under the policy and the "
         "entropy of the policy's distribution at that place; `mask` is True at tokens, and at padding anything may "
         "stand, even NaN. Return a tensor with one number: the mean over all tokens of surprise (−log p) minus "
         "entropy, in nats.",
    course=surprise_gap, cases=_drawn_tokens)


@surprise_and_entropy.mistake("the sign is flipped: surprise is *minus* the log-probability, and the entropy is taken "
                              "off it.")
def _entropy_minus_surprise(log_probs, entropy, mask):
    return -surprise_gap(log_probs, entropy, mask)


@surprise_and_entropy.mistake("the log-probability is added where its minus belongs. Log-probabilities are negative, "
                              "surprise is positive: −log p − entropy.")
def _log_prob_minus_entropy(log_probs, entropy, mask):
    return ppo_math.masked_mean(log_probs - entropy, mask)


@surprise_and_entropy.mistake("padding is counted. What stands there was never drawn from anything.")
def _gap_with_padding(log_probs, entropy, mask):
    return (-log_probs - entropy).mean()


@surprise_and_entropy.mistake("multiplying by the mask does not remove a NaN at padding. Select with `torch.where`.")
def _gap_times_mask(log_probs, entropy, mask):
    return ((-log_probs - entropy) * mask).sum() / mask.sum()


@surprise_and_entropy.mistake("with absolute values nothing cancels: single tokens are *meant* to be above or below. "
                              "Only the mean says something.")
def _absolute_gap(log_probs, entropy, mask):
    return ppo_math.masked_mean((-log_probs - entropy).abs(), mask)


@surprise_and_entropy.mistake("this is the gap per answer. Longer answers then look further off; divide by the number "
                              "of tokens.")
def _gap_per_answer(log_probs, entropy, mask):
    return torch.where(mask, -log_probs - entropy, 0.0).sum(dim=1).mean()


# ---------------------------------------------------------------- 8.8 what somebody else's answer is worth

def answer_weights(log_probs, sampler_log_probs, mask, cap):
    """(batch, R) log-probabilities of sampled tokens under policy and sampler, mask -> (batch,) weights π/μ of whole
    answers, at most `cap`, without gradient."""
    log_ratio = torch.where(mask, log_probs - sampler_log_probs, 0.0).sum(dim=1)
    return log_ratio.exp().clamp(max=cap).detach()


def _two_machines():
    mask = mask_of(3, 1, 4)
    ours, theirs = (torch.where(mask, -draws(3, 4, seed=seed).abs(), pad) for seed, pad in ((32, -6.0), (33, -1.0)))
    return [(ours.requires_grad_(), theirs, mask, 2.0), (theirs.clone().requires_grad_(), ours.detach(), mask, 1e6),
            (ours.detach().clone().requires_grad_(), ours.detach(), mask, 2.0),
            (torch.tensor([[-1.0, -1.0]], requires_grad=True), torch.tensor([[-3.0, -2.0]]), mask_of(2), 2.0)]


def _numbers_without_gradient(function, *arguments):
    weights = function(*arguments)
    if not isinstance(weights, torch.Tensor):
        return weights
    return {"weights": weights.detach(), "a gradient flows through them": str(weights.requires_grad)}


weights_of_answers = Exercise(
    "8.8", "what somebody else's answer is worth", 12, 3,
    ("If the policy would write an answer twice as often as the sampler does, how often should it count?",
     "The sampler writes an answer with probability μ, the policy would with π. In an average over the sampler's "
     "answers each must count π/μ times. For a whole answer, multiply over its tokens: add up the logarithms.",
     "`log_ratio = torch.where(mask, log_probs - sampler_log_probs, 0.0).sum(dim=1)`, then "
     "`log_ratio.exp().clamp(max=cap).detach()`."),
    task="`log_probs` and `sampler_log_probs` (batch, response) are the tokens' log-probabilities under the policy and "
         "under the sampler that wrote them; `mask` is True at tokens. Return a tensor (batch,) without gradient: π/μ "
         "of every *whole* answer, at most `cap`.",
    course=answer_weights, cases=_two_machines, observe=_numbers_without_gradient)


@weights_of_answers.mistake("the weights carry a gradient. They say how much an answer counts; the loss should move "
                            "the policy through log π alone. Detach them.")
def _weights_with_gradient(log_probs, sampler_log_probs, mask, cap):
    return torch.where(mask, log_probs - sampler_log_probs, 0.0).sum(dim=1).exp().clamp(max=cap)


@weights_of_answers.mistake("the ratio is upside down: an answer that the sampler writes too often must count *less*, "
                            "so π/μ.")
def _weights_turned(log_probs, sampler_log_probs, mask, cap):
    return answer_weights(sampler_log_probs, log_probs, mask, cap)


@weights_of_answers.mistake("padding is counted.")
def _weights_with_padding(log_probs, sampler_log_probs, mask, cap):
    return (log_probs - sampler_log_probs).sum(dim=1).exp().clamp(max=cap).detach()


@weights_of_answers.mistake("this is the mean over tokens. Probabilities of tokens multiply, so their logarithms add "
                            "up.")
def _mean_ratio_of_tokens(log_probs, sampler_log_probs, mask, cap):
    log_ratio = torch.where(mask, log_probs - sampler_log_probs, 0.0)
    return (log_ratio.sum(dim=1) / mask.sum(dim=1)).exp().clamp(max=cap).detach()


@weights_of_answers.mistake("the cap is missing. One answer that the sampler hardly ever writes would then outweigh a "
                            "whole batch.")
def _weights_without_cap(log_probs, sampler_log_probs, mask, cap):
    return answer_weights(log_probs, sampler_log_probs, mask, float("inf"))


@weights_of_answers.mistake("the cap is applied to the logarithm. It is a limit for the weight itself: first exp, then "
                            "clamp.")
def _cap_before_exp(log_probs, sampler_log_probs, mask, cap):
    return torch.where(mask, log_probs - sampler_log_probs, 0.0).sum(dim=1).clamp(max=cap).exp().detach()


EXERCISES = [surprise_and_entropy, weights_of_answers]
