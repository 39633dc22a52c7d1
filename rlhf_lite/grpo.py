"""GRPO with its switches: RLOO's cousin (Shao et al. 2024), and what later papers took out of it again.

The idea: as in `rloo`, an answer is compared with the other answers to the same prompt. GRPO subtracts the mean of the
whole group, divides by the group's standard deviation, averages over the tokens of an answer, and puts the KL to the
reference into the loss. Each of these is a switch here, because each bends the gradient of equation 2 (notebook 10).
With all of them off, the step is RLOO's times (group − 1) / group.

Left out: several steps per batch, and the clip that they would need. DeepSeekMath takes one step per batch too.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlhf_lite.ppo import response_log_probs
from rlhf_lite.ppo_math import kl_k1, kl_k2, kl_k3
from rlhf_lite.rloo import group_answers, group_loop
from rlhf_lite.sampling import take

ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


@dataclass(frozen=True)
class GRPOConfig:
    iterations: int = 100
    prompts_per_step: int = 32  # ours
    group: int = 8  # answers per prompt; DeepSeekMath: 64
    divide_by_std: bool = True  # DeepSeekMath; Dr. GRPO (Liu et al. 2025) takes it out
    divide_by_length: bool = True  # DeepSeekMath; Dr. GRPO takes it out, DAPO divides by the tokens of the batch
    kl_in: str = "loss"  # DeepSeekMath; "reward" as in InstructGPT
    kl_estimator: str = "k3"  # DeepSeekMath; of the KL in the loss, token by token
    kl_coef: float = 0.04  # DeepSeekMath
    max_new_tokens: int = 48
    temperature: float = 1.0
    lr: float = 3e-4  # ours
    warmup_iterations: int = 10  # as in `ppo`; constant afterwards
    max_kl: float = 100.0  # ours: nats per response at which training counts as diverged
    seed: int = 0
    max_grad_norm: float = 1.0  # ours
    save_every: int = 100
    micro_batch: int | None = None  # prompts with their answers in memory at once; the result is the same
    bf16: bool = False


# ---------------------------------------------------------------- the mathematics

def group_advantages(scores: Float[Tensor, "batch"], group, divide_by_std=True) -> Float[Tensor, "batch"]:
    """(batch,) scores, with each prompt's `group` responses in a row -> (batch,) score − mean of the group.

    divide_by_std: divided by the group's standard deviation as well; a group of equal scores gives 0.
    """
    if group < 2 or scores.ndim != 1 or len(scores) % group:
        raise ValueError(f"Scores of shape {tuple(scores.shape)} do not split into groups of {group} (2 or more).")
    groups = scores.view(-1, group)
    centred = groups - groups.mean(dim=1, keepdim=True)
    if divide_by_std:
        spread = groups.std(dim=1, keepdim=True)
        centred = torch.where(spread > 1e-6, centred / spread.clamp(min=1e-6), 0.0)
    return centred.flatten()


def grpo_losses(log_probs: Float[Tensor, "batch response"], ref_log_probs: Float[Tensor, "batch response"],
                advantages: Float[Tensor, "batch"], mask: Bool[Tensor, "batch response"], config
                ) -> Float[Tensor, "batch"]:
    """(batch,) the loss of every answer: −advantage · log π of its tokens, plus kl_coef times the KL if that is in the
    loss, summed over the tokens or averaged over them (divide_by_length)."""
    log_probs, ref_log_probs = (torch.where(mask, x, 0.0) for x in (log_probs, ref_log_probs))  # a NaN has no gradient
    losses = -advantages.detach()[:, None] * log_probs
    if config.kl_in == "loss":
        losses = losses + config.kl_coef * ESTIMATORS[config.kl_estimator](log_probs, ref_log_probs)
    sums = torch.where(mask, losses, 0.0).sum(dim=1)
    return sums / mask.sum(dim=1) if config.divide_by_length else sums


# ---------------------------------------------------------------- the loop

def train_grpo(policy, reference, prompts, config, reward_fn, **options):
    """Train `policy` in place -> one dict per iteration: iteration, score, kl, and the share of groups that differ.

    The arguments are those of `rloo.train_rloo`. RuntimeError when it diverges.
    """
    if config.kl_in not in ("loss", "reward") or config.kl_estimator not in ESTIMATORS:
        raise ValueError(f"kl_in is {config.kl_in!r} and kl_estimator {config.kl_estimator!r}; choose \"loss\" or "
                         f"\"reward\", and {', '.join(ESTIMATORS)}.")
    loop = group_loop("grpo", policy, reference, prompts, config, reward_fn, options)
    for iteration in loop:
        # 1. The policy gives `group` answers to each prompt, side by side. Nothing is learnt yet.
        rollout, ref_log_probs, scores = group_answers(policy, reference, prompts, config, reward_fn, loop)
        # 2. One step towards the answers that did better than their group.
        for rows in loop.parts(np.arange(len(scores)).reshape(-1, config.group)):
            part, rows = take(rollout, torch.from_numpy(rows.flatten())), rows.flatten()
            mask, theirs = part.response_mask, ref_log_probs[rows, :part.response_mask.shape[1]]  # (rows, R) both
            with loop.autocast():
                log_probs = response_log_probs(policy, part, config.temperature)  # (rows, R)
            kl = torch.where(mask, kl_k1(log_probs.detach(), theirs), 0.0).sum(dim=1)  # (rows,) nats per response
            final = scores[rows] - (config.kl_coef * kl if config.kl_in == "reward" else 0.0)  # (rows,)
            advantages = group_advantages(final, config.group, config.divide_by_std)  # (rows,)
            loss = grpo_losses(log_probs, theirs, advantages, mask, config).sum() / len(scores)
            useful = (scores[rows].view(-1, config.group).std(dim=1) > 1e-6).sum() * config.group
            loop.backward(loss, **{name: value.sum() / len(scores) for name, value in {
                "score": scores[rows], "kl": kl, "useful": useful, "length": mask.float()}.items()})
        loop.log(iteration=iteration + 1, **loop.step())
    return loop.history
