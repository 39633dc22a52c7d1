"""DPO: from rankings straight to a policy, with no reward model, no critic and no sampling (Rafailov et al. 2023).

The idea: the best policy for InstructGPT's equation 2 is π* ∝ π_ref exp(r/β). Read backwards, r = β log(π*/π_ref) plus
a number that depends only on the prompt and drops out of every comparison. DPO puts this into the reward model's loss.

Left out: the later variants (IPO, KTO, SimPO, ...).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rlhf_lite.guards import check_reference, check_same_tokens
from rlhf_lite.models import device_of
from rlhf_lite.reward import check_rankings, kwise_losses, pair_counts, rank_tensors
from rlhf_lite.sampling import pad_left, pad_right, token_log_probs
from rlhf_lite.training import Loop, cosine


@dataclass(frozen=True)
class DPOConfig:
    epochs: int = 1
    batch_prompts: int = 16  # ours: whole rankings, as in `reward`; DPO's paper: 64 pairs
    beta: float = 0.1  # DPO's paper. Like PPO's kl_coef, for a reward model whose scores are log odds (not normalised)
    lr: float = 3e-4  # ours
    seed: int = 0
    max_grad_norm: float = 1.0  # ours
    save_every: int = 100
    micro_batch: int | None = None  # rankings in memory at once; the result does not depend on it
    bf16: bool = False


# ---------------------------------------------------------------- the mathematics

def sequence_log_probs(policy, prompts, responses) -> Float[Tensor, "batch"]:
    """Lists of ids, one prompt per response -> (batch,) log π(response | prompt), summed over all tokens, END too."""
    prompt_ids, prompt_mask = pad_left(prompts, device_of(policy))
    ids, mask = pad_right(responses, device_of(policy))
    log_probs = token_log_probs(policy, torch.cat([prompt_ids, ids], 1), torch.cat([prompt_mask, mask], 1),
                                prompt_ids.shape[1])
    return torch.where(mask.bool(), log_probs, 0.0).sum(dim=1)


def implicit_reward(log_probs: Float[Tensor, "*shape"], ref_log_probs: Float[Tensor, "*shape"],
                    beta) -> Float[Tensor, "*shape"]:
    """Log-probabilities of responses -> β log(π/π_ref), the reward for which π is best, up to a constant per prompt."""
    return beta * (log_probs - ref_log_probs)


def dpo_loss(policy_chosen: Float[Tensor, "pairs"], policy_rejected: Float[Tensor, "pairs"],
             ref_chosen: Float[Tensor, "pairs"], ref_rejected: Float[Tensor, "pairs"], beta) -> Float[Tensor, ""]:
    """Four (pairs,) log-probabilities of sequences -> −mean log σ(implicit reward of chosen − of rejected).

    Rafailov et al. (2023), equation 7. It is ln 2 when the policy equals the reference. `train_dpo` uses the form for
    whole rankings, `reward.kwise_losses` of the implicit rewards; for K = 2 the two are the same.
    """
    margin = implicit_reward(policy_chosen, ref_chosen, beta) - implicit_reward(policy_rejected, ref_rejected, beta)
    return F.softplus(-margin).mean()  # softplus(−x) = −log σ(x)


# ---------------------------------------------------------------- the loop

def ranking_log_probs(policy, rankings) -> Float[Tensor, "prompts answers"]:
    """RankedPrompts -> (prompts, K) log-probabilities of the responses, 0 where there is none; with gradient."""
    _, mask = rank_tensors(rankings)
    prompts = [ranking.prompt_ids for ranking in rankings for _ in ranking.responses]
    flat = sequence_log_probs(policy, prompts, [response for ranking in rankings for response in ranking.responses])
    return torch.zeros(mask.shape).to(flat).masked_scatter(mask.to(flat.device), flat)


@torch.no_grad()
def frozen_log_probs(policy, rankings, batch_size=16) -> Float[Tensor, "prompts answers"]:
    """`ranking_log_probs` of any number of rankings, without gradient."""
    parts = [ranking_log_probs(policy, rankings[start:start + batch_size])
             for start in range(0, len(rankings), batch_size)]
    return torch.nn.utils.rnn.pad_sequence([row for part in parts for row in part], batch_first=True)


def train_dpo(policy, reference, rankings, config, **options):
    """Train `policy` in place on RankedPrompts; returns one dict per step: step, loss, accuracy.

    The reference reads every response once, before the first step, and is not needed after that. options: see
    `training.Options`.
    """
    rankings = check_rankings(policy, rankings, config)
    check_reference(policy, reference)
    check_same_tokens(policy, reference=reference)
    check_rankings(reference, rankings, config)
    lengths = [len(r.prompt_ids) + max(map(len, r.responses)) for r in rankings]
    steps = config.epochs * -(-len(rankings) // config.batch_prompts)
    loop = Loop("dpo", config, steps, {"policy": policy}, {"reference": reference, "rankings": rankings}, cosine(steps),
                options)
    ref_log_probs = frozen_log_probs(reference, rankings)  # (all prompts, K)
    ranks, mask = (tensor.to(loop.device) for tensor in rank_tensors(rankings))  # (all prompts, K) both
    for step in loop:
        batch = loop.batch(lengths, config.batch_prompts)
        for rows in loop.parts(batch):
            with loop.autocast():  # the policy reads the ranked responses; it samples nothing
                log_probs = ranking_log_probs(policy, [rankings[row] for row in rows])  # (rows, K)
            ref, *where = (tensor[rows, :log_probs.shape[1]] for tensor in (ref_log_probs, ranks, mask))
            rewards = implicit_reward(log_probs, ref, config.beta)  # (rows, K)
            loss = kwise_losses(rewards, *where).sum() / len(batch)  # the reward model's loss
            loop.backward(loss, loss=loss, **pair_counts(rewards.detach(), *where))
        numbers = loop.step()
        loop.log(step=step + 1, loss=numbers["loss"], accuracy=numbers["correct"] / numbers["pairs"])
    return loop.history
