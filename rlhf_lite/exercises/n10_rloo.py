"""Exercises 10.4, 10.5 and 10.8, on RLOO: the others as a baseline, REINFORCE, and how far a policy has moved."""

import torch

from rlhf_lite import ppo_math, rloo
from rlhf_lite.exercises.cases import draws, mask_of
from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 10.4 the others as a baseline

def _groups():
    return [(torch.tensor([1.0, 0.0, 3.0, 0.0, 2.0, 2.5]), 3), (draws(8, seed=6), 2), (draws(5, seed=9), 5),
            (torch.tensor([4.0, 4.0, 4.0, -1.0, -1.0, -1.0]), 3)]


others_as_baseline = Exercise(
    "10.4", "the others as a baseline", 10, 2,
    ("What else do you know about how hard the prompt is?",
     "Put the scores into a table with one row per prompt: `scores.view(-1, group)`. The mean of the others is "
     "(sum of the row − own score) / (group − 1).",
     "`groups = scores.view(-1, group)`; `others = (groups.sum(dim=1, keepdim=True) - groups) / (group - 1)`; "
     "return `(groups - others).flatten()`."),
    task="`scores` (batch,) has the scores of `group` answers to the first prompt, then of as many to the second, and "
         "so on. Return a tensor (batch,): each score minus the mean of the *other* scores to the same prompt.",
    course=rloo.rloo_advantages, cases=_groups)


@others_as_baseline.mistake("the answer's own score is part of its baseline. Leave it out: an answer should not be "
                            "compared with itself. (The direction survives, but everything is only (group − 1)/group "
                            "as large.)")
def _own_included(scores, group):
    groups = scores.view(-1, group)
    return (groups - groups.mean(dim=1, keepdim=True)).flatten()


@others_as_baseline.mistake("there are group − 1 others, not group.")
def _wrong_denominator(scores, group):
    groups = scores.view(-1, group)
    return (groups - (groups.sum(dim=1, keepdim=True) - groups) / group).flatten()


@others_as_baseline.mistake("this divides by the group's spread. That is GRPO, not RLOO: a group that differs by a "
                            "hair gets advantages as large as one that differs by a mile.")
def _whitened(scores, group):
    groups = scores.view(-1, group)
    return ((groups - groups.mean(dim=1, keepdim=True)) / (groups.std(dim=1, keepdim=True) + 1e-8)).flatten()


@others_as_baseline.mistake("the sign is flipped: better than the others must be positive.")
def _baseline_minus_score(scores, group):
    return -rloo.rloo_advantages(scores, group)


@others_as_baseline.mistake("the baseline runs over the whole batch. An easy prompt would then make all its answers "
                            "look good; compare only answers to the same prompt.")
def _over_the_batch(scores, group):
    return rloo.rloo_advantages(scores, len(scores))


@others_as_baseline.mistake("the groups are read in the wrong direction: answers to one prompt are side by side, so "
                            "a row of `scores.view(-1, group)` is one prompt.")
def _groups_interleaved(scores, group):
    return rloo.rloo_advantages(scores.view(group, -1).T.flatten(), group).view(-1, group).T.flatten()


# ---------------------------------------------------------------- 10.5 REINFORCE

def _advantages_of_answers():
    """The advantages depend on the log-probabilities, as they do when the KL is part of the reward."""
    cases = []
    for seed, lengths in ((7, (3, 1, 4, 2)), (8, (2, 4))):
        mask = mask_of(*lengths)
        log_probs = torch.where(mask, -draws(*mask.shape, seed=seed).abs(), -7.0).requires_grad_()
        cases.append((log_probs, draws(len(mask), seed=seed + 10), mask))
    return cases


def _with_a_live_advantage(function, log_probs, advantages, mask):
    """As in training: the KL penalty inside the advantage comes from the same forward pass."""
    log_probs = log_probs.detach().requires_grad_()
    alive = advantages - 0.3 * torch.where(mask, log_probs, 0.0).sum(dim=1)
    loss = function(log_probs, alive, mask)
    if not isinstance(loss, torch.Tensor) or loss.ndim or not loss.requires_grad:
        return loss
    return {"loss": loss.detach(), "gradient": torch.autograd.grad(loss, log_probs)[0]}


reinforce = Exercise(
    "10.5", "REINFORCE in one line", 10, 2,
    ("Which answers should become likelier, and by what are they weighed?",
     "The whole answer is one action: sum its log-probabilities over its real tokens, multiply by its advantage, "
     "take the mean over answers, and watch the sign: it is a loss.",
     "`-(advantages.detach() * torch.where(mask, log_probs, 0.0).sum(dim=1)).mean()`. The advantage is a number, not "
     "a function of the weights."),
    task="`log_probs` (batch, response) are the log-probabilities of sampled tokens, `advantages` (batch,) one number "
         "per answer, `mask` (batch, response) True at tokens. Return a tensor with one number: minus the mean over "
         "answers of advantage · log π(answer). The gradient flows through the log-probabilities only, even if the "
         "advantages were computed from them.",
    course=rloo.rloo_loss, cases=_advantages_of_answers, observe=_with_a_live_advantage)


def _answers(log_probs, mask):
    return torch.where(mask, log_probs, 0.0).sum(dim=1)


@reinforce.mistake("the sign is flipped: going down this loss makes good answers rarer.")
def _makes_good_answers_rarer(log_probs, advantages, mask):
    return -rloo.rloo_loss(log_probs, advantages, mask)


@reinforce.mistake("the gradient also runs through the advantage. The value is right, so no curve will tell you; "
                   "detach it.")
def _not_detached(log_probs, advantages, mask):
    return -(advantages * _answers(log_probs, mask)).mean()


@reinforce.mistake("each answer's sum is divided by its length. A long bad answer is then punished less per token than "
                   "a short one, and bad answers grow.")
def _mean_per_answer(log_probs, advantages, mask):
    return -(advantages.detach() * _answers(log_probs, mask) / mask.sum(dim=1)).mean()


@reinforce.mistake("the mean runs over all tokens of the batch, not over answers: how much an answer counts would "
                   "depend on how long the others are.")
def _mean_over_all_tokens(log_probs, advantages, mask):
    return -(advantages.detach()[:, None] * torch.where(mask, log_probs, 0.0)).sum() / mask.sum()


@reinforce.mistake("padding is trained too, but after the end of an answer there is nothing to make likelier.")
def _pads_pushed(log_probs, advantages, mask):
    return -(advantages.detach() * log_probs.sum(dim=1)).mean()


@reinforce.mistake("this uses probabilities. The gradient of an expectation needs the logarithm: answers were already "
                   "drawn as often as they are likely.")
def _probabilities(log_probs, advantages, mask):
    return -(advantages.detach() * _answers(log_probs, mask).exp()).mean()


# ---------------------------------------------------------------- 10.8 how far from the reference

def kl_per_answer(log_probs, ref_log_probs, mask):
    """Log-probabilities of sampled answers -> k1 estimates of the KL to the reference, in nats per answer."""
    return torch.where(mask, ppo_math.kl_k1(log_probs, ref_log_probs), 0.0).sum(dim=1)


def _sampled_answers():
    mask = mask_of(3, 1, 4)
    parts = [torch.where(mask, -draws(3, 4, seed=seed).abs(), pad) for seed, pad in ((20, -6.0), (21, -2.0))]
    nothing = torch.full_like(parts[0], float("nan"))  # at padding
    return [(*parts, mask), (parts[1], parts[0], mask), (torch.where(mask, parts[0], nothing), parts[1], mask)]


how_far = Exercise(
    "10.8", "how far has it moved?", 10, 1,
    ("From whom were the answers sampled?",
     "The answers were sampled from the policy, so the mean of log π − log π_ref over them estimates KL(π‖π_ref). For "
     "each answer, take the sum over its real tokens.",
     "`torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1)`."),
    task="`log_probs` and `ref_log_probs` (batch, response) are log-probabilities of tokens that the policy sampled, "
         "under policy and reference; `mask` is True at tokens. Return a tensor (batch,): of every answer the sum of "
         "log π − log π_ref over its tokens, whose mean over answers is the KL.",
    course=kl_per_answer, cases=_sampled_answers)


@how_far.mistake("the direction is reversed. With samples from the policy, this is minus the KL.")
def _from_the_reference(log_probs, ref_log_probs, mask):
    return kl_per_answer(ref_log_probs, log_probs, mask)


@how_far.mistake("this is nats per token. Papers and our β refer to whole answers.")
def _nats_per_token(log_probs, ref_log_probs, mask):
    return kl_per_answer(log_probs, ref_log_probs, mask) / mask.sum(dim=1)


@how_far.mistake("multiplying by the mask does not remove a NaN at padding, because NaN · 0 is NaN. Select with "
                 "`torch.where`.")
def _kl_by_multiplying(log_probs, ref_log_probs, mask):
    return ((log_probs - ref_log_probs) * mask).sum(dim=1)


@how_far.mistake("padding is counted.")
def _kl_with_padding(log_probs, ref_log_probs, mask):
    return (log_probs - ref_log_probs).sum(dim=1)


@how_far.mistake("the absolute value makes every token count as distance. Single tokens may be negative; only the mean "
                 "may not.")
def _never_negative(log_probs, ref_log_probs, mask):
    return torch.where(mask, (log_probs - ref_log_probs).abs(), 0.0).sum(dim=1)


@how_far.mistake("each token is weighted by its probability. The sampling did that already.")
def _weighted_again(log_probs, ref_log_probs, mask):
    return torch.where(mask, log_probs.exp() * (log_probs - ref_log_probs), 0.0).sum(dim=1)


EXERCISES = [others_as_baseline, reinforce]
LAST = [how_far]  # after GRPO, which is exercises 10.6 and 10.7
