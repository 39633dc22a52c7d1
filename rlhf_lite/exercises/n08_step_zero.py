"""Exercises 8.1 to 8.3: what must hold before the first step, and Clara's diagnosis."""

import torch

from rlhf_lite import ppo_math
from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.exercises.laboratory import kl_per_response, largest_ratio_error

# ---------------------------------------------------------------- 8.1 the ratio before the first step

def _two_passes():
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True, True, True, False], [True, True, False, False], [True] * 4])
    old = -torch.rand(3, 4, generator=generator) - 0.5
    noise = torch.tensor([[0.1, -0.9, 0.2, 0.0], [0.3, 0.0, 0.0, 0.0], [0.0, -0.2, 0.1, 0.0]])
    pads = torch.where(mask, 0.0, 3.0)
    nothing = torch.where(mask, old, float("nan"))  # what stands at padding may be anything
    return [(old + noise + pads, old, mask), (old + pads, old, mask), (old - noise, old, mask),
            (nothing + noise, nothing, mask)]


step_zero_ratio = Exercise(
    "8.1", "the ratio before the first step", 8, 1,
    ("Before the first step old and new are the same model. What must every ratio be?",
     "The ratio of an action is exp(new − old). Look at |ratio − 1| for every real action and keep the largest.",
     "`torch.where(mask, torch.expm1(new_log_probs - old_log_probs), 0.0).abs().max()`: `where` selects before "
     "anything at padding can matter."),
    task="`new_log_probs` and `old_log_probs` (batch, response) are log-probabilities of the sampled tokens in two "
         "passes; `mask` (batch, response) is True at tokens. At padding anything may stand. Return a tensor with one "
         "number: the largest |new probability / old probability − 1| of any token.",
    course=largest_ratio_error, cases=_two_passes)


@step_zero_ratio.mistake("padding is counted. Log-probabilities at padding mean nothing, and here they are large: your "
                         "alarm would ring for every healthy run.")
def _ratio_with_pads(new, old, mask):
    return torch.expm1(new - old).abs().max()


@step_zero_ratio.mistake("multiplying by the mask does not remove a NaN at padding, because NaN · 0 is NaN. Select "
                         "with `torch.where`, or index with the mask.")
def _ratio_times_mask(new, old, mask):
    return (torch.expm1(new - old) * mask).abs().max()


@step_zero_ratio.mistake("this is the log-ratio. PPO clips the ratio itself: take exp (or `torch.expm1`, which is exp "
                         "minus 1).")
def _log_ratio(new, old, mask):
    return torch.where(mask, new - old, 0.0).abs().max()


@step_zero_ratio.mistake("this is a mean. One broken token in a thousand could hide in it; an identity must hold for "
                         "every token, so take the largest.")
def _mean_ratio(new, old, mask):
    return ppo_math.masked_mean(torch.expm1(new - old).abs(), mask)


@step_zero_ratio.mistake("ratios below 1 are overlooked: take the absolute value. Half of all mismatches shrink a "
                         "probability.")
def _only_upwards(new, old, mask):
    return torch.where(mask, torch.expm1(new - old), 0.0).max()


@step_zero_ratio.mistake("the ratio is upside down: it should be new over old, so exp(new − old).")
def _old_over_new(new, old, mask):
    return largest_ratio_error(old, new, mask)


# ---------------------------------------------------------------- 8.2 the KL before the first step

def _policy_and_reference():
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    one, other = (-3 * torch.rand(2, 4, generator=generator) for _ in range(2))
    nothing = torch.full_like(one, float("nan"))
    return [(one, other, mask), (one, torch.where(mask, one, -20.0), mask),
            (torch.where(mask, one, nothing), other, mask)]


step_zero_kl = Exercise(
    "8.2", "the KL before the first step", 8, 1,
    ("One number per token, one per answer, one for the batch: in which order?",
     "k1 of a token is log π − log π_ref. A response's KL is the sum over its tokens; then average over "
     "responses.",
     "`torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1).mean()`."),
    task="`log_probs` and `ref_log_probs` (batch, response) are log-probabilities of the policy's own tokens under "
         "policy and reference; `mask` is True at tokens. Return a tensor with one number: the mean over the responses "
         "of their KL in nats, each estimated by k1, the sum of log π − log π_ref over its tokens.",
    course=kl_per_response, cases=_policy_and_reference)


@step_zero_kl.mistake("the sign is flipped: it should be log π − log π_ref, the policy first.")
def _kl_reversed(ours, theirs, mask):
    return -kl_per_response(ours, theirs, mask)


@step_zero_kl.mistake("this is nats per token. A KL of 0.1 sounds small but is 5 nats in an answer of fifty tokens; "
                      "this course counts per response, so sum over a row's tokens first.")
def _kl_per_token(ours, theirs, mask):
    return ppo_math.masked_mean(ours - theirs, mask)


@step_zero_kl.mistake("padding is counted: two models may well disagree about padding, but padding is not an action.")
def _kl_of_pads(ours, theirs, mask):
    return (ours - theirs).sum(dim=1).mean()


@step_zero_kl.mistake("multiplying by the mask does not remove a NaN at padding, because NaN · 0 is NaN. Select with "
                      "`torch.where`.")
def _kl_times_mask(ours, theirs, mask):
    return ((ours - theirs) * mask).sum(dim=1).mean()


@step_zero_kl.mistake("with absolute values every token adds distance, so the result is too large and no longer a KL. "
                      "k1 of a token may be negative; leave it.")
def _kl_absolute(ours, theirs, mask):
    return torch.where(mask, (ours - theirs).abs(), 0.0).sum(dim=1).mean()


@step_zero_kl.mistake("this is the sum over the whole batch. Average over the responses, otherwise a larger batch "
                      "looks further away.")
def _kl_of_the_batch(ours, theirs, mask):
    return torch.where(mask, ours - theirs, 0.0).sum()


# ---------------------------------------------------------------- 8.3 Clara

clara = Exercise(
    "8.3", "Clara's diagnosis", 3, 1,
    ("Which forces act in the loss when every score is 0?",
     "With every score at 0, only one force is left in the loss. Which way does it push?",
     "A price that is too low would push weakly, but still in the right direction."),
    task="You have seen Clara's curves and one step without any reward. Write the diagnosis as one of the texts "
         "below.",
    course="kl sign",
    mistakes={
        "a low price lets the policy wander off when a reward pulls it. With no reward at all it would still come "
        "back, only slowly. Clara moved away.": "kl price",
        "with a flipped reward, the reward curve falls (look at Dov). Clara's rises, and even without any reward she "
        "walks away: it is the other term.": "reward sign",
        "if the reference followed the policy, the measured KL would stay small. Clara's runs away.": "reference",
        "too large a step can throw a policy anywhere, but this was one small step from a known place, in exactly the "
        "wrong direction. The same step brings the healthy one back.": "learning rate"})


EXERCISES = [step_zero_ratio, step_zero_kl, clara]
