"""RLOO: PPO without a critic and without a clip (Ahmadian et al. 2024).

The idea: sample several answers to each prompt. The mean score of the other answers to the same prompt is the baseline;
PPO needs a critic for that. There is one step per batch, so the answers always come from the current policy, and there
is no ratio to clip.

Left out: what GRPO changes (see `grpo`), and inner epochs with a clip.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlhf_lite import distributed
from rlhf_lite.guards import check_others, check_prompts
from rlhf_lite.ppo import response_log_probs, rollout_scores
from rlhf_lite.ppo_math import kl_k1
from rlhf_lite.sampling import sample, take
from rlhf_lite.training import Loop, cosine


@dataclass(frozen=True)
class RLOOConfig:
    iterations: int = 100
    prompts_per_step: int = 32  # ours
    group: int = 4  # answers per prompt; RLOO's paper: 2 and 4
    max_new_tokens: int = 48
    temperature: float = 1.0
    lr: float = 3e-4  # ours
    warmup_iterations: int = 10  # as in `ppo`; constant afterwards
    kl_coef: float = 0.02  # as in `ppo`
    max_kl: float = 100.0  # ours: nats per response at which training counts as diverged
    seed: int = 0
    max_grad_norm: float = 1.0  # ours
    save_every: int = 100
    micro_batch: int | None = None  # prompts with their answers in memory at once; the result is the same
    bf16: bool = False


# ---------------------------------------------------------------- the mathematics

def rloo_advantages(scores: Float[Tensor, "batch"], group) -> Float[Tensor, "batch"]:
    """(batch,) scores, with each prompt's `group` responses in a row -> (batch,) score − mean score of the other ones.

    Ahmadian et al. (2024). A response's own score is not in its baseline, so the baseline removes noise, nothing else.
    """
    if group < 2 or scores.ndim != 1 or len(scores) % group:
        raise ValueError(f"Scores of shape {tuple(scores.shape)} do not split into groups of {group} (2 or more).")
    scores = scores.view(-1, group)
    others = (scores.sum(dim=1, keepdim=True) - scores) / (group - 1)
    return (scores - others).flatten()


def rloo_loss(log_probs: Float[Tensor, "batch response"], advantages: Float[Tensor, "batch"],
              mask: Bool[Tensor, "batch response"]) -> Float[Tensor, ""]:
    """REINFORCE: −mean of advantage · log π(response). log_probs, mask: (batch, R); advantages: (batch,)."""
    return -(advantages.detach() * torch.where(mask, log_probs, 0.0).sum(dim=1)).mean()


# ---------------------------------------------------------------- the loop

def train_rloo(policy, reference, prompts, config, reward_fn, **options):
    """Train `policy` in place; returns one dict per iteration: iteration, score, kl. RuntimeError when it diverges.

    The arguments are those of `ppo.train_ppo`, without the critic.
    """
    loop = group_loop("rloo", policy, reference, prompts, config, reward_fn, options)
    for iteration in loop:
        # 1. The policy gives `group` answers to each prompt, side by side. Nothing is learnt yet.
        rollout, ref_log_probs, scores = group_answers(policy, reference, prompts, config, reward_fn, loop)
        # 2. One step towards the answers that did better than the other answers to the same prompt.
        for rows in loop.parts(np.arange(len(scores)).reshape(-1, config.group)):
            part, rows = take(rollout, torch.from_numpy(rows.flatten())), rows.flatten()
            with loop.autocast():
                log_probs = response_log_probs(policy, part, config.temperature)  # (rows, R)
            ratio = kl_k1(log_probs.detach(), ref_log_probs[rows, :log_probs.shape[1]])  # (rows, R)
            kl = torch.where(part.response_mask, ratio, 0.0).sum(dim=1)  # (rows,) nats per response
            advantages = rloo_advantages(scores[rows] - config.kl_coef * kl, config.group)  # (rows,)
            loss = rloo_loss(log_probs, advantages, part.response_mask) * (len(rows) / len(scores))
            loop.backward(loss, score=scores[rows].sum() / len(scores), kl=kl.sum() / len(scores))
        loop.log(iteration=iteration + 1, **loop.step())
    return loop.history


# ---------------------------------------------------------------- what GRPO does too

def group_loop(name, policy, reference, prompts, config, reward_fn, options):
    """Check the arguments of `train_rloo` or `train_grpo` -> Loop."""
    check_prompts(policy, prompts, config, prompts_per_step=config.prompts_per_step)
    check_others(policy, prompts, config, reference=reference, reward_model=reward_fn)
    known = {"prompts": prompts, "reference": reference, "reward model": reward_fn}
    warm_up = cosine(config.iterations, 1.0, config.warmup_iterations)  # constant afterwards
    return Loop(name, config, config.iterations, {"policy": policy}, known, warm_up, options)


@torch.no_grad()
def group_answers(policy, reference, prompts, config, reward_fn, loop):
    """`group` answers to each prompt of this iteration, side by side -> (Rollout, ref_log_probs (batch, R), scores
    (batch,)), of all processes together."""
    asked = [prompt for prompt in loop.pick(prompts, config.prompts_per_step) for _ in range(config.group)]
    with loop.autocast():
        rollout = sample(policy, asked, config.max_new_tokens, config.temperature, generator=draws(loop))
        ref_log_probs = response_log_probs(reference, rollout, config.temperature)  # (batch, R)
        scores = rollout_scores(reward_fn, rollout)  # (batch,)
    return distributed.gather(rollout, ref_log_probs, scores)


def draws(loop):
    """The random generator of an iteration; each process has a different one."""
    seed = 1_000_003 * loop.config.seed + loop.round + 500_009 * distributed.rank()
    return torch.Generator(device=loop.device).manual_seed(seed)
