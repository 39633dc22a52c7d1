"""Exercise 5.5: a reward for every token."""

import torch

from rlhf_lite import ppo_math
from rlhf_lite.exercises.cases import generator, masks, numbers
from rlhf_lite.exercises.checking import Exercise


def _scored_rows():
    rows = []
    for i, mask in enumerate(masks()):
        log_probs = numbers(mask, 4 + 3 * i, -9.0).clamp(max=0.0).requires_grad_()
        scores = torch.randn(len(mask), generator=generator(6 + 3 * i))
        rows.append((scores, log_probs, numbers(mask, 5 + 3 * i, -5.0).clamp(max=0.0), mask, (0.1, 2.0, 0.5)[i % 3]))
    return [*rows, (*rows[0][:4], 0.0)]  # for nothing one may go anywhere


def _rewards_and_gradient(function, *arguments):
    rewards = function(*arguments)
    return {"the rewards": rewards, "carries a gradient": bool(rewards.requires_grad)}


token_rewards = Exercise(
    "5.5", "a reward for every token", 15, 2,
    ("Two steps: first every real token pays for leaving the reference, then each row's score is added in one place. "
     "Which place, in a row that is shorter than the longest?",
     "Start with the penalty: `torch.where(mask, -kl_coef * (log_probs - ref_log_probs), 0.0)`. "
     "`ppo_math.last_action(mask)` gives the column of each row's last token; add each score there, and nowhere else.",
     "`rewards[torch.arange(len(mask)), ppo_math.last_action(mask)] += scores`, then `return rewards.detach()`."),
    task="`scores` (batch,) has one float per response; `log_probs` and `ref_log_probs` (batch, response) "
         "belong to the sampled tokens under policy and reference; `mask` (batch, response) is True at real "
         "tokens (the padding behind a short answer may hold anything); `kl_coef` is the price β. Return the "
         "rewards, a tensor (batch, response): at every real token its part of the penalty, at each row's last "
         "real token the score as well, at padding 0. A reward is a number, so the result carries no gradient.",
    course=ppo_math.shaped_rewards, cases=_scored_rows, observe=_rewards_and_gradient)


def _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, sign=-1, pads=False, place=None):
    rewards = sign * kl_coef * (log_probs - ref_log_probs)
    rewards = (rewards if pads else torch.where(mask, rewards, 0.0)).clone()
    columns = ppo_math.last_action(mask) if place is None else torch.full((len(mask),), place)
    rewards[torch.arange(len(mask)), columns] += scores
    return rewards


@token_rewards.mistake("the penalty has the wrong sign: this pays the policy for leaving the reference. (OpenAI once "
                       "flipped reward and penalty together and woke up to a fluent model of the worst kind.)")
def _pays_for_leaving(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, sign=1).detach()


@token_rewards.mistake("the score is in the last column. In a short row that is padding, and its answer is never "
                       "paid. Put the score at the last action of its own row.")
def _score_in_last_column(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, place=mask.shape[1] - 1).detach()


@token_rewards.mistake("the score is paid at every token. A long answer then earns its score many times over.")
def _score_on_every_token(scores, log_probs, ref_log_probs, mask, kl_coef):
    return torch.where(mask, scores[:, None] - kl_coef * (log_probs - ref_log_probs), 0.0).detach()


@token_rewards.mistake("the numbers are right, but they still carry a gradient. A reward is a number the world hands "
                       "out, not a function to differentiate: detach it.")
def _not_detached(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef)


@token_rewards.mistake("the penalty is also charged at the padding, where no token was chosen.")
def _penalty_at_pads(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, ref_log_probs, mask, kl_coef, pads=True).detach()


@token_rewards.mistake("the whole penalty falls on the last token. Its sum is right, but the paper charges it per "
                       "token, so that the token that left the reference is the one that pays.")
def _penalty_in_one_lump(scores, log_probs, ref_log_probs, mask, kl_coef):
    total = torch.where(mask, log_probs - ref_log_probs, 0.0).sum(dim=1)
    return _rewards(scores - kl_coef * total, log_probs, log_probs, mask, kl_coef).detach()


@token_rewards.mistake("the score *replaces* the last token's penalty. Add it: the last token, too, pays for leaving "
                       "the reference.")
def _score_replaces_the_penalty(scores, log_probs, ref_log_probs, mask, kl_coef):
    rewards = torch.where(mask, -kl_coef * (log_probs - ref_log_probs), 0.0).detach()
    rewards[torch.arange(len(mask)), ppo_math.last_action(mask)] = scores
    return rewards


@token_rewards.mistake("`rewards[:, columns]` means those columns of *every* row, so each row collects the scores of "
                       "others. Give each row its own column: `rewards[torch.arange(len(mask)), columns]`.")
def _every_row_every_column(scores, log_probs, ref_log_probs, mask, kl_coef):
    rewards = torch.where(mask, -kl_coef * (log_probs - ref_log_probs), 0.0).detach()
    rewards[:, ppo_math.last_action(mask)] += scores
    return rewards


@token_rewards.mistake("each token pays k3. Per token that is calmer, but only k1 adds up to the log-ratio of the "
                       "whole answer, which is what equation 2 charges.")
def _pays_k3(scores, log_probs, ref_log_probs, mask, kl_coef):
    ratio = ppo_math.kl_k3(log_probs, ref_log_probs)
    return _rewards(scores, ratio, torch.zeros_like(ratio), mask, kl_coef).detach()


@token_rewards.mistake("the penalty is missing: `kl_coef` is not used at all.")
def _no_penalty(scores, log_probs, ref_log_probs, mask, kl_coef):
    return _rewards(scores, log_probs, log_probs, mask, kl_coef).detach()


EXERCISES = [token_rewards]
