"""The reward model: learn a number per response from rankings (InstructGPT, section 3.5, equation 1).

The idea: the difference of two scores is the log odds that the first response is preferred. A ranking of K
responses gives K(K−1)/2 pairs; all pairs of a prompt form one batch element, so each response is read once
and the model does not overfit within an epoch as it does on shuffled pairs. Ties are dropped (C.2).

Left out: margins between the ranks, several labelers per response, the Plackett-Luce likelihood.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from rlhf_lite import checkpoints, processes
from rlhf_lite.models import device_of, score_at_last
from rlhf_lite.pretrain import check_counts, cosine_lr, decay_groups
from rlhf_lite.sampling import length_batches, pad_right


class RankedPrompt(NamedTuple):
    prompt_ids: list[int]
    responses: list[list[int]]  # K lists of ids, as they were sampled
    ranks: list[float]  # K ranks: the lower the better, equal for a tie


@dataclass(frozen=True)
class RewardConfig:
    epochs: int = 1  # paper, whose validation loss got worse with more (appendix C.2)
    batch_prompts: int = 32  # paper: 64 prompts
    lr: float = 5e-4  # ours (paper: 9e-6 for 6B)
    min_lr_share: float = 0.1  # paper
    weight_decay: float = 0.0  # ours
    clip: float = 1.0  # ours
    shuffled_pairs: bool = False  # the mistake the paper warns of: every pair a batch element of its own
    seed: int = 0
    micro_batch: int | None = 8  # prompts (or pairs) in memory at once; the result does not depend on it
    save_every: int = 100
    bf16: bool = False


def reward_input(prompt_ids, response_ids):
    """The ids the reward model reads, the same in its training and in PPO: prompt and response as sampled.

    A finished response has its END; none is added to an unfinished one, so the model can tell them apart.
    """
    return [*prompt_ids, *response_ids]


# ---------------------------------------------------------------- losses and measures

def preferred_pairs(ranks, mask=None):
    """(batch, K) ranks -> (batch, K, K) bool: [b, i, j] is True where i is better than j (a lower rank).

    mask: (batch, K) bool, False for places that hold no response.
    """
    better = ranks[:, :, None] < ranks[:, None, :]
    return better if mask is None else better & mask[:, :, None] & mask[:, None, :]


def kwise_losses(scores, ranks, mask=None):
    """(batch, K) scores and ranks -> (batch,) losses: −mean over the prompt's pairs of log σ(r_w − r_l).

    Ties are no pairs; a prompt without pairs has loss 0. Equation 1's 1/C(K, 2) is the mean here, over the
    pairs that are left.
    """
    pairs = preferred_pairs(ranks, mask)
    if mask is not None:
        scores = torch.where(mask, scores, 0.0)  # whatever stands at an empty place stays out of the gradient
    losses = F.softplus(scores[:, None, :] - scores[:, :, None])  # [b, i, j] = −log σ(r_i − r_j)
    return torch.where(pairs, losses, 0.0).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2)).clamp(min=1)


def kwise_loss(scores, ranks, mask=None):
    """Mean loss over the prompts that have at least one pair; 0 when none has.

    scores, ranks: (K,) for one prompt or (batch, K); mask as in `preferred_pairs`.
    """
    if scores.ndim == 1:
        scores, ranks, mask = scores[None], ranks[None], None if mask is None else mask[None]
    prompts = preferred_pairs(ranks, mask).any(dim=2).any(dim=1).sum()
    return kwise_losses(scores, ranks, mask).sum() / prompts.clamp(min=1)


def pair_accuracy(scores, ranks, mask=None):
    """Share of all non-tied pairs that the scores order as the ranks do; equal scores count half. NaN without pairs."""
    if scores.ndim == 1:
        scores, ranks, mask = scores[None], ranks[None], None if mask is None else mask[None]
    pairs = preferred_pairs(ranks, mask)
    if not pairs.any():
        return float("nan")
    difference = (scores[:, :, None] - scores[:, None, :])[pairs]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()


def calibration(scores, ranks, mask=None, bins=5):
    """Does σ(difference) say how often the better-scored response is preferred?

    Returns a list of dicts predicted, observed, pairs: the mean of σ(|Δ|) and the share of pairs in which the
    response with the higher score is the preferred one, per bin of the prediction between 0.5 and 1.
    """
    pairs = preferred_pairs(ranks, mask)
    difference = (scores[:, :, None] - scores[:, None, :])[pairs].double()
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
    """Scores of lists of ids (see `reward_input`): (n,) float32 on the CPU, in the order of the rows."""
    was_training = model.training
    model.eval()
    scores = torch.zeros(len(rows))
    for batch in length_batches([len(row) for row in rows], batch_size):
        ids, mask = pad_right([rows[row] for row in batch], device_of(model))
        scores[torch.from_numpy(batch)] = score_at_last(model(ids, mask), mask).float().cpu()
    model.train(was_training)
    return scores


def rank_tensors(rankings):
    """RankedPrompts -> (batch, K) float ranks and (batch, K) bool mask, K the largest number of responses."""
    width = max(len(ranking.responses) for ranking in rankings)
    ranks, mask = torch.zeros(len(rankings), width), torch.zeros(len(rankings), width, dtype=torch.bool)
    for row, ranking in enumerate(rankings):
        ranks[row, :len(ranking.ranks)] = torch.tensor(ranking.ranks, dtype=torch.float)
        mask[row, :len(ranking.ranks)] = True
    return ranks, mask


def score_rankings(model, rankings, batch_size=64):
    """-> (scores, ranks, mask), each (prompts, K): what the measures above ask for."""
    ranks, mask = rank_tensors(rankings)
    scores = torch.zeros_like(ranks)
    scores[mask] = score(model, [reward_input(r.prompt_ids, response) for r in rankings for response in r.responses],
                         batch_size)
    return scores, ranks, mask


def evaluate_reward(model, rankings, batch_size=64):
    """{"loss", "accuracy", "pairs"} on rankings, which should be of prompts the model was not trained on."""
    scores, ranks, mask = score_rankings(model, rankings, batch_size)
    return {"loss": kwise_loss(scores, ranks, mask).item(), "accuracy": pair_accuracy(scores, ranks, mask),
            "pairs": int(preferred_pairs(ranks, mask).sum())}


def normalise(model, demonstrations, samples=None):
    """Shift the scores, in place, so that demonstrations average 0 (section 3.5, before RL).

    demonstrations, samples: lists of ids (see `reward_input`). With samples the scores are also divided by
    their standard deviation there: this gain is ours; it makes kl_coef mean the same for every reward model,
    but changes the pairwise loss. Both are stored in the weights, so nothing is to be applied again.
    Returns {"mean_before", "gain"}.
    """
    if len(demonstrations) == 0 or samples is not None and len(samples) == 0:
        raise ValueError("There are no demonstrations or samples to normalise by; give some (samples may be None).")
    before = score(model, demonstrations).double().mean().item()
    spread = 1.0 if samples is None else score(model, samples).double().std(correction=0).item()
    if not spread > 1e-6:  # rounding, or NaN
        raise ValueError(f"The scores of the samples do not vary (standard deviation {spread:.1g}), so they set no "
                         "unit; give samples that differ, or none.")
    gain = 1.0 / spread
    with torch.no_grad():
        model.score.weight.mul_(gain)
        model.score.bias.mul_(gain)
        for _ in range(2):  # the second time takes away what rounding left
            model.score.bias.sub_(score(model, demonstrations).double().mean().item())
    return {"mean_before": before, "gain": gain}


# ---------------------------------------------------------------- training

def check_rankings(model, rankings):
    """The rankings that have a pair to learn from; ValueError when one is mistaken or too long for the model."""
    for index, ranking in enumerate(rankings):
        if len(ranking.ranks) != len(ranking.responses):
            raise ValueError(f"Ranking {index} has {len(ranking.responses)} responses but {len(ranking.ranks)} ranks.")
        best = {}
        for rank, response in sorted(zip(ranking.ranks, map(tuple, ranking.responses), strict=True)):
            if best.setdefault(response, rank) != rank:
                raise ValueError(f"Ranking {index} puts two responses apart that have the same tokens, so there is "
                                 "nothing to prefer; leave one of them out or rank them equal.")
    rankings = [ranking for ranking in rankings if len(set(ranking.ranks)) > 1]
    if not rankings:
        raise ValueError("There is nothing to learn from: no ranking has two responses of different rank.")
    longest = max(len(r.prompt_ids) + max(map(len, r.responses)) for r in rankings)
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit and longest > limit:
        raise ValueError(f"The longest prompt and response have {longest} tokens, but the model's context is "
                         f"{limit}; drop long rankings rather than cut them.")
    return rankings


def train_reward(model, rankings, config, valid=None, folder=None, progress=True):
    """Train a ScalarModel in place on RankedPrompts; returns one dict per step: step, loss, accuracy, and, at the
    end of every epoch, epoch, valid_loss and valid_accuracy (split rankings by prompt, never by pair).

    With `folder`, training resumes at the last save.
    """
    check_counts(config, "micro_batch")
    rankings = check_rankings(model, rankings)
    elements, batch_size = rankings, config.batch_prompts
    if config.shuffled_pairs:
        elements = split_into_pairs(rankings)
        batch_size = max(1, round(config.batch_prompts * len(elements) / len(rankings)))  # as many steps
    device = device_of(model)
    optimizer = torch.optim.AdamW(decay_groups(model, config.weight_decay), lr=config.lr, betas=(0.9, 0.95),
                                  fused=True)
    model.zero_grad()  # a training that broke off may have left gradients
    modules, optimizers = {"model": model}, {"adamw": optimizer}
    identity = {**asdict(config), "rankings": checkpoints.fingerprint(rankings),
                "initial weights": checkpoints.fingerprint(model)}
    identity.pop("save_every")
    state = checkpoints.resume(folder, identity, modules, optimizers)
    history = state["history"] if state else []

    lengths = [len(e.prompt_ids) + max(len(response) for response in e.responses) for e in elements]
    per_epoch = len(length_batches(lengths, batch_size, config.seed))
    steps = per_epoch * config.epochs
    model.eval()  # the trunk has no dropout of ours, and must not find one of its own
    bar = tqdm(total=steps, initial=len(history), desc="reward", unit="step",
               disable=not (progress and processes.is_first()))
    for step in range(len(history), steps):
        epoch, index = divmod(step, per_epoch)
        rows = length_batches(lengths, batch_size, config.seed, epoch)[index]
        for group in optimizer.param_groups:
            group["lr"] = cosine_lr(step, steps, config.lr, config.min_lr_share)
        loss, accuracy = _backward(model, [elements[row] for row in rows], config, device)
        processes.add_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if not np.isfinite(loss):
            raise RuntimeError(f"The reward model diverged at step {step + 1}; the learning rate {config.lr} "
                               "is probably too high.")
        entry = {"step": step + 1, "loss": loss, "accuracy": accuracy}
        if index + 1 == per_epoch:
            entry["epoch"] = epoch + 1
            if valid:
                entry |= {f"valid_{name}": value for name, value in evaluate_reward(model, valid).items()}
        history.append(entry)
        bar.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.2f}", refresh=False)
        bar.update()
        if folder and processes.is_first() and ((step + 1) % config.save_every == 0 or step + 1 == steps):
            checkpoints.save_training_state(folder, checkpoints.training_tensors(modules, optimizers),
                                            {"identity": identity, "history": history})
    bar.close()
    return history


def split_into_pairs(rankings):
    """Every non-tied pair as a RankedPrompt of its own, for `shuffled_pairs`."""
    return [RankedPrompt(r.prompt_ids, [r.responses[i], r.responses[j]], [0, 1]) for r in rankings
            for i in range(len(r.ranks)) for j in range(len(r.ranks)) if r.ranks[i] < r.ranks[j]]


def _backward(model, rankings, config, device):
    """Add the gradient of the mean over these prompts, in parts that fit into memory; returns loss and accuracy."""
    ranks, mask = (processes.share(tensor) for tensor in rank_tensors(rankings))
    mine = processes.share(rankings)
    size = config.micro_batch or max(1, len(mine))
    total, scores_of = 0.0, []
    for start in range(0, len(mine), size):
        part = mine[start:start + size]
        ids, attention = pad_right([reward_input(r.prompt_ids, response) for r in part for response in r.responses],
                                   device)
        places = mask[start:start + size].to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
            flat = score_at_last(model(ids, attention), attention)
        scores = torch.zeros(places.shape, device=device).masked_scatter(places, flat)
        loss = kwise_losses(scores, ranks[start:start + size].to(device), places).sum() / len(rankings)
        loss.backward()
        total += loss.item()
        scores_of.append(scores.detach().cpu())
    pairs = int(preferred_pairs(ranks, mask).sum())
    correct = pair_accuracy(torch.cat(scores_of), ranks, mask) * pairs if pairs else 0.0
    total, correct, pairs = processes.add(total, correct, pairs)
    return total, correct / pairs if pairs else float("nan")
