"""The reward model: learn one score per response from rankings (InstructGPT, section 3.5, equation 1).

The idea: the difference of two scores is the log odds that the first response is preferred. A ranking of K
responses gives K(K−1)/2 pairs. All pairs of a prompt form one batch element, so each response is read only once,
and the model does not overfit within an epoch, as it would with shuffled pairs. Ties are dropped (C.2).

Left out: margins between the ranks, several labelers per response, the Plackett-Luce likelihood.
"""

import math
from dataclasses import dataclass
from numbers import Real as Number
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Real
from torch import Tensor

from rlhf_lite.guards import check_context, check_counts, check_ids
from rlhf_lite.models import device_of, score_at_last
from rlhf_lite.sampling import length_batches, pad_right
from rlhf_lite.training import Loop, cosine


class RankedPrompt(NamedTuple):
    prompt_ids: list[int]
    responses: list[list[int]]  # K lists of ids, as they were sampled
    ranks: list[float]  # K ranks: the lower the better, equal for a tie


@dataclass(frozen=True)
class RewardConfig:
    epochs: int = 1  # paper: with more, the validation loss got worse (appendix C.2)
    batch_prompts: int = 32  # paper: 64 prompts
    lr: float = 5e-4  # ours (paper: 9e-6 for 6B)
    min_lr_share: float = 0.1  # paper
    weight_decay: float = 0.0  # ours
    max_grad_norm: float = 1.0  # ours
    shuffled_pairs: bool = False  # the mistake the paper warns of: each pair is its own batch element
    seed: int = 0
    micro_batch: int | None = 8  # prompts (or pairs) in memory at once; the result does not depend on it
    save_every: int = 100
    bf16: bool = False


def reward_input(prompt_ids, response_ids):
    """The ids that the reward model reads, in its own training as in PPO: the prompt and the response as sampled.

    A finished response keeps its END, and none is added to an unfinished one, so the model can tell them apart.
    """
    return [*prompt_ids, *response_ids]


# ---------------------------------------------------------------- losses and measures

def preferred_pairs(ranks: Real[Tensor, "batch answers"],
                    mask: Bool[Tensor, "batch answers"] | None = None) -> Bool[Tensor, "batch answers answers"]:
    """(batch, K) ranks -> (batch, K, K) bool: [b, i, j] is True where i is better than j (a lower rank).

    mask: (batch, K) bool, False where there is no response.
    """
    better = ranks[:, :, None] < ranks[:, None, :]
    return better if mask is None else better & mask[:, :, None] & mask[:, None, :]


def kwise_losses(scores: Float[Tensor, "batch answers"], ranks: Real[Tensor, "batch answers"],
                 mask: Bool[Tensor, "batch answers"] | None = None) -> Float[Tensor, "batch"]:
    """(batch, K) scores and ranks -> (batch,) losses: minus the mean of log σ(r_w − r_l) over the prompt's pairs.

    Ties do not count as pairs; a prompt without pairs has loss 0. Instead of equation 1's 1/C(K, 2), the mean is
    taken over the pairs that remain.
    """
    pairs = preferred_pairs(ranks, mask)
    # `where` keeps empty places and ties (which may give NaN or ∞ − ∞) out of the loss and out of its gradient.
    differences = torch.where(pairs, scores[:, None, :] - scores[:, :, None], 0.0)  # [b, i, j] = r_j − r_i
    losses = torch.where(pairs, F.softplus(differences), 0.0)  # −log σ(r_i − r_j)
    return losses.sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)


def kwise_loss(scores: Float[Tensor, "*batch answers"], ranks: Real[Tensor, "*batch answers"],
               mask: Bool[Tensor, "*batch answers"] | None = None) -> Float[Tensor, ""]:
    """The mean loss over the prompts that have at least one pair; 0 if none has.

    scores, ranks: (K,) for one prompt or (batch, K); mask as in `preferred_pairs`.
    """
    if scores.ndim == 1:
        scores, ranks, mask = scores[None], ranks[None], None if mask is None else mask[None]
    prompts = preferred_pairs(ranks, mask).any(dim=2).any(dim=1).sum()
    return kwise_losses(scores, ranks, mask).sum() / prompts.clamp(min=1)


def pair_counts(scores: Float[Tensor, "batch answers"], ranks: Real[Tensor, "batch answers"],
                mask: Bool[Tensor, "batch answers"] | None = None) -> dict:
    """(batch, K) scores and ranks -> {"correct", "pairs"}.

    pairs: the number of non-tied pairs; correct: how many of them the scores put in the same order as the ranks,
    with equal scores counted half.
    """
    pairs = preferred_pairs(ranks, mask)
    difference = (scores[:, :, None] - scores[:, None, :])[pairs].cpu()  # Apple's MPS has no float64
    return {"correct": ((difference > 0).double() + 0.5 * (difference == 0).double()).sum().item(),
            "pairs": int(pairs.sum())}


def pair_accuracy(scores: Float[Tensor, "*batch answers"], ranks: Real[Tensor, "*batch answers"],
                  mask: Bool[Tensor, "*batch answers"] | None = None) -> float:
    """The share of non-tied pairs that scores and ranks put in the same order; equal scores count half; NaN if none."""
    if scores.ndim == 1:
        scores, ranks, mask = scores[None], ranks[None], None if mask is None else mask[None]
    correct, pairs = pair_counts(scores, ranks, mask).values()
    return correct / pairs if pairs else float("nan")


def calibration(scores: Float[Tensor, "batch answers"], ranks: Real[Tensor, "batch answers"],
                mask: Bool[Tensor, "batch answers"] | None = None, bins=5) -> list[dict]:
    """Does σ(difference) say how often the better-scored response is preferred?

    Returns one dict per bin of the prediction, from 0.5 to 1. predicted: the mean of σ(|Δ|); observed: the share of
    pairs in which the response with the higher score is the preferred one; pairs: their number.
    """
    pairs = preferred_pairs(ranks, mask)
    difference = (scores[:, :, None] - scores[:, None, :])[pairs].cpu().double()
    predicted = difference.abs().sigmoid()
    correct = (difference > 0).double() + 0.5 * (difference == 0).double()
    places = ((predicted - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    table = []
    for place in range(bins):
        here = places == place
        if here.any():
            table.append({"predicted": predicted[here].mean().item(), "observed": correct[here].mean().item(),
                          "pairs": int(here.sum())})
    return table


# ---------------------------------------------------------------- scoring

@torch.no_grad()
def score(model, rows, batch_size=64):
    """The scores of lists of ids (see `reward_input`): (n,) float32 on the CPU, in the order of the rows."""
    was_training = model.training
    model.eval()
    scores = torch.zeros(len(rows))
    for batch in length_batches([len(row) for row in rows], batch_size):
        ids, mask = pad_right([rows[row] for row in batch], device_of(model))
        scores[torch.from_numpy(batch)] = score_at_last(model(ids, mask), mask).float().cpu()
    model.train(was_training)
    if not scores.isfinite().all():
        raise RuntimeError(f"The score of row {int((~scores.isfinite()).nonzero()[0])} is not a number: the model's "
                           "weights are damaged, or its training diverged; load or train it again.")
    return scores


def rank_tensors(rankings):
    """RankedPrompts -> (batch, K) float ranks and (batch, K) bool mask, where K is the largest number of responses."""
    width = max(len(ranking.responses) for ranking in rankings)
    ranks, mask = torch.zeros(len(rankings), width), torch.zeros(len(rankings), width, dtype=torch.bool)
    for row, ranking in enumerate(rankings):
        ranks[row, :len(ranking.ranks)] = torch.tensor(ranking.ranks, dtype=torch.float)
        mask[row, :len(ranking.ranks)] = True
    return ranks, mask


def score_rankings(model, rankings, batch_size=64):
    """RankedPrompts -> (scores, ranks, mask), each (prompts, K): the arguments of the measures above."""
    ranks, mask = rank_tensors(rankings)
    scores = torch.zeros_like(ranks)
    scores[mask] = score(model, [reward_input(r.prompt_ids, response) for r in rankings for response in r.responses],
                         batch_size)
    return scores, ranks, mask


def evaluate_reward(model, rankings, batch_size=64):
    """{"loss", "accuracy", "pairs"} on rankings; use prompts that the model was not trained on."""
    scores, ranks, mask = score_rankings(model, rankings, batch_size)
    return {"loss": kwise_loss(scores, ranks, mask).item(), "accuracy": pair_accuracy(scores, ranks, mask),
            "pairs": int(preferred_pairs(ranks, mask).sum())}


def normalise(model, demonstrations, samples=None):
    """Shift the model's scores, in place, so that demonstrations average 0 (section 3.5, before RL).

    demonstrations, samples: lists of ids (see `reward_input`). With samples, the scores are also divided by their
    standard deviation on the samples. This gain is ours: it makes kl_coef mean the same for every reward model,
    but it changes the pairwise loss. Shift and gain are stored in the weights, so nothing needs to be applied
    later. Returns {"mean_before", "gain"}.
    """
    if len(demonstrations) == 0 or samples is not None and len(samples) == 0:
        raise ValueError("There are no demonstrations or samples to normalise by; give some (samples may be None).")
    before = score(model, demonstrations).double().mean().item()
    spread = 1.0 if samples is None else score(model, samples).double().std(correction=0).item()
    if not spread > 1e-6:  # rounding, or NaN
        raise ValueError(f"The scores of the samples do not vary (standard deviation {spread:.1g}), so they set no "
                         "unit; give samples that differ, or no samples.")
    gain = 1.0 / spread
    with torch.no_grad():
        model.score.weight.mul_(gain)
        model.score.bias.mul_(gain)
        for _ in range(2):  # the second time removes what rounding left
            model.score.bias.sub_(score(model, demonstrations).double().mean().item())
    return {"mean_before": before, "gain": gain}


# ---------------------------------------------------------------- training

def check_rankings(model, rankings, config):
    """The rankings that have a pair to learn from; ValueError if a ranking is faulty or too long for the model."""
    check_counts(config)
    for index, ranking in enumerate(rankings):
        if len(ranking.ranks) != len(ranking.responses):
            raise ValueError(f"Ranking {index} has {len(ranking.responses)} responses but {len(ranking.ranks)} ranks.")
        if not all(isinstance(rank, Number) and math.isfinite(rank) for rank in ranking.ranks):
            raise ValueError(f"Ranking {index} has the ranks {ranking.ranks}; every rank must be a number.")
        best = {}
        for rank, response in sorted(zip(ranking.ranks, map(tuple, ranking.responses), strict=True)):
            if best.setdefault(response, rank) != rank:
                raise ValueError(f"Ranking {index} gives two identical responses different ranks, but there is "
                                 "nothing to prefer; leave one of them out or rank them equal.")
    rankings = [ranking for ranking in rankings if len(set(ranking.ranks)) > 1]
    if not rankings:
        raise ValueError("There is nothing to learn from: no ranking has two responses with different ranks.")
    for index, ranking in enumerate(rankings):
        check_ids(model, [ranking.prompt_ids, *ranking.responses], f"Ranking {index}: text")
    longest = max(len(r.prompt_ids) + max(map(len, r.responses)) for r in rankings)
    check_context(model, longest, f"The longest prompt and response ({longest} tokens) exceed",
                  "drop long rankings rather than cutting them.")
    return rankings


def train_reward(model, rankings, config, valid=None, **options):
    """Train a ScalarModel in place on RankedPrompts; returns one dict per step: step, loss, accuracy.

    The last step of each epoch adds epoch, valid_loss and valid_accuracy. valid: held-out RankedPrompts (split
    rankings by prompt, never by pair). options: see `training.Options`.
    """
    elements = rankings = check_rankings(model, rankings, config)
    batch_size = config.batch_prompts
    if config.shuffled_pairs:
        elements = split_into_pairs(rankings)
        batch_size = max(1, round(config.batch_prompts * len(elements) / len(rankings)))  # to keep the number of steps
    lengths = [len(e.prompt_ids) + max(map(len, e.responses)) for e in elements]
    per_epoch = -(-len(elements) // batch_size)
    loop = Loop("reward", config, per_epoch * config.epochs, {"model": model}, {"rankings": rankings},
                cosine(per_epoch * config.epochs, config.min_lr_share), options)
    for step in loop:
        batch = [elements[row] for row in loop.batch(lengths, batch_size)]
        ranks, mask = (tensor.to(loop.device) for tensor in rank_tensors(batch))  # (prompts, K) each
        for rows in loop.parts(np.arange(len(batch))):
            with loop.autocast():  # score each response once, then compare all pairs of the same prompt
                scores = ranking_scores(model, [batch[row] for row in rows], mask[rows])  # (rows, K)
            loss = kwise_losses(scores, ranks[rows], mask[rows]).sum() / len(batch)
            loop.backward(loss, loss=loss, **pair_counts(scores.detach(), ranks[rows], mask[rows]))
        numbers = loop.step()
        entry = {"step": step + 1, "loss": numbers["loss"], "accuracy": numbers["correct"] / numbers["pairs"]}
        if (step + 1) % per_epoch == 0:
            entry |= {"epoch": (step + 1) // per_epoch}
            entry |= {f"valid_{name}": x for name, x in evaluate_reward(model, valid).items()} if valid else {}
        loop.log(**entry)
    return loop.history


def ranking_scores(model, rankings, mask):
    """RankedPrompts and their (prompts, K) mask -> (prompts, K) scores, 0 where there is no response; with gradient."""
    ids, attention = pad_right([reward_input(r.prompt_ids, response) for r in rankings for response in r.responses],
                               mask.device)
    flat = score_at_last(model(ids, attention), attention)
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, flat)


def split_into_pairs(rankings):
    """Every non-tied pair as its own RankedPrompt, for `shuffled_pairs`."""
    return [RankedPrompt(r.prompt_ids, [r.responses[i], r.responses[j]], [0, 1]) for r in rankings
            for i in range(len(r.ranks)) for j in range(len(r.ranks)) if r.ranks[i] < r.ranks[j]]
