"""After InstructGPT: two shorter ways to the maximum of the same objective, DPO and RLOO.

The idea: the best policy of equation 2 is π* ∝ π_ref exp(r/β). Read backwards, r = β log(π*/π_ref) plus a number
that depends on the prompt only and drops out of every comparison. DPO puts that into the reward model's loss: the
policy learns from rankings with no reward model, no critic and no sampling (Rafailov et al. 2023). RLOO keeps the
reward model and the sampling; the other answers to the same prompt take the critic's place (Ahmadian et al. 2024).

Left out: resuming, bf16, batches in parts, averaged weights, and what GRPO changes in RLOO.
"""

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

from rlhf_lite import ppo, ppo_math
from rlhf_lite.models import device_of
from rlhf_lite.pretrain import cosine_lr, rows_at
from rlhf_lite.reward import check_rankings, kwise_losses, pair_accuracy, rank_tensors
from rlhf_lite.sampling import length_batches, pad_left, pad_right, sample, token_log_probs


@dataclass(frozen=True)
class DPOConfig:
    epochs: int = 1
    batch_prompts: int = 16  # ours: whole rankings, as in `reward`; DPO's paper: 64 pairs
    beta: float = 0.1  # DPO's paper. PPO's kl_coef, for a reward model whose scores are log odds (not normalised)
    lr: float = 3e-4  # ours
    seed: int = 0


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


# ---------------------------------------------------------------- the mathematics

def sequence_log_probs(policy, prompts, responses):
    """Lists of ids, a prompt for each response -> (batch,) log π(response | prompt): sums over its tokens, END too."""
    prompt_ids, prompt_mask = pad_left(prompts, device_of(policy))
    ids, mask = pad_right(responses, device_of(policy))
    log_probs = token_log_probs(policy, torch.cat([prompt_ids, ids], 1), torch.cat([prompt_mask, mask], 1),
                                prompt_ids.shape[1])
    return torch.where(mask.bool(), log_probs, 0.0).sum(dim=1)


def implicit_reward(log_probs, ref_log_probs, beta):
    """Log-probabilities of responses -> β log(π/π_ref): the reward for which π is best, up to a constant per prompt."""
    return beta * (log_probs - ref_log_probs)


def dpo_loss(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    """(pairs,) sequence log-probabilities, four times -> −mean log σ(implicit reward of chosen − of rejected).

    Rafailov et al. (2023), equation 7. ln 2 for a policy that is the reference. `train_dpo` uses its form for whole
    rankings, `reward.kwise_losses` of the implicit rewards, which is this for K = 2.
    """
    margin = implicit_reward(policy_chosen, ref_chosen, beta) - implicit_reward(policy_rejected, ref_rejected, beta)
    return F.softplus(-margin).mean()  # softplus(−x) = −log σ(x)


def rloo_advantages(scores, group):
    """(batch,) scores, `group` responses to one prompt after the other -> (batch,) score − mean of the others' scores.

    Ahmadian et al. (2024). As its own score is not in its baseline, the baseline takes away noise and nothing else.
    """
    if group < 2 or scores.ndim != 1 or len(scores) % group:
        raise ValueError(f"Scores of shape {tuple(scores.shape)} do not split into groups of {group} (2 or more).")
    scores = scores.view(-1, group)
    others = (scores.sum(dim=1, keepdim=True) - scores) / (group - 1)
    return (scores - others).flatten()


def rloo_loss(log_probs, advantages, mask):
    """REINFORCE: −mean of advantage · log π(response). log_probs, mask: (batch, R); advantages: (batch,)."""
    return -(advantages.detach() * torch.where(mask, log_probs, 0.0).sum(dim=1)).mean()


# ---------------------------------------------------------------- DPO

def ranking_log_probs(policy, rankings):
    """RankedPrompts -> (prompts, K) log-probabilities of their responses, 0 where there is none; with gradient."""
    _, mask = rank_tensors(rankings)
    flat = sequence_log_probs(policy, *zip(*((r.prompt_ids, response) for r in rankings for response in r.responses)))
    return torch.zeros(mask.shape).to(flat).masked_scatter(mask.to(flat.device), flat)


@torch.no_grad()
def frozen_log_probs(policy, rankings, batch_size=16):
    """`ranking_log_probs` of any number of rankings, without gradient."""
    parts = [ranking_log_probs(policy, rankings[start:start + batch_size])
             for start in range(0, len(rankings), batch_size)]
    return torch.nn.utils.rnn.pad_sequence([row for part in parts for row in part], batch_first=True)


def train_dpo(policy, reference, rankings, config, evaluate=None, evaluate_every=10, progress=True):
    """Train `policy` in place on RankedPrompts; returns one dict per step: step, loss, accuracy.

    The reference reads every response once, before the first step, and could leave the memory then. evaluate: called
    as evaluate(policy, step) every `evaluate_every` steps and after the last; its dict joins the history.
    """
    rankings = check_rankings(policy, rankings)
    _check_reference(policy, reference)
    policy.eval()  # no dropout: before the first step every implicit reward must be 0
    ref_log_probs = frozen_log_probs(reference, rankings)
    ranks, mask = (tensor.to(ref_log_probs.device) for tensor in rank_tensors(rankings))
    lengths = [len(r.prompt_ids) + max(len(response) for response in r.responses) for r in rankings]
    plan = [torch.from_numpy(rows) for epoch in range(config.epochs)
            for rows in length_batches(lengths, config.batch_prompts, config.seed, epoch)]
    optimizer, history = torch.optim.Adam(policy.parameters(), betas=(0.9, 0.95), fused=True), []
    policy.zero_grad()  # a training that broke off may have left gradients
    bar = tqdm(plan, desc="dpo", unit="step", disable=not progress)
    for step, rows in enumerate(bar):
        log_probs = ranking_log_probs(policy, [rankings[row] for row in rows])
        ref, *where = (tensor[rows, :log_probs.shape[1]] for tensor in (ref_log_probs, ranks, mask))
        rewards = implicit_reward(log_probs, ref, config.beta)
        loss = kwise_losses(rewards, *where).mean()  # the reward model's loss
        loss.backward()
        _move(policy, optimizer, cosine_lr(step, len(plan), config.lr), f"DPO diverged at step {step + 1}")
        history.append({"step": step + 1, "loss": loss.item(), "accuracy": pair_accuracy(rewards.detach(), *where)})
        if evaluate and ((step + 1) % evaluate_every == 0 or step + 1 == len(plan)):
            history[-1] |= evaluate(policy, step + 1)
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
    return history


# ---------------------------------------------------------------- RLOO

def train_rloo(policy, reference, prompts, config, reward_model=None, reward_fn=None, evaluate=None, evaluate_every=10,
               progress=True):
    """Train `policy` in place; returns one dict per iteration: iteration, score, kl.

    Arguments as for `ppo.train_ppo`, without a critic. One step per batch: the answers are always the policy's own, and
    no ratio is to be clipped. RuntimeError when training diverges.
    """
    if (reward_model is None) == (reward_fn is None) or not prompts:
        raise ValueError("Give prompts, and exactly one of reward_model and reward_fn.")
    _check_reference(policy, reference)
    policy.eval()
    reward_fn = reward_fn or functools.partial(ppo.score_rollout, reward_model)
    optimizer, history = torch.optim.Adam(policy.parameters(), betas=(0.9, 0.95), fused=True), []
    policy.zero_grad()  # a training that broke off may have left gradients
    bar = tqdm(range(config.iterations), desc="rloo", unit="iteration", disable=not progress)
    for iteration in bar:
        rollout, scores = _episodes(policy, prompts, config, reward_fn, iteration)
        where, mask = (rollout.sequences, rollout.attention_mask, rollout.prompt_length), rollout.response_mask
        log_probs = token_log_probs(policy, *where, config.temperature)
        with torch.no_grad():
            difference = ppo_math.kl_k1(log_probs, token_log_probs(reference, *where, config.temperature))
            kls = torch.where(mask, difference, 0.0).sum(dim=1)
        if kls.mean() > config.max_kl:
            raise RuntimeError(f"RLOO diverged: the KL is {kls.mean():.0f} nats. Raise kl_coef or lower lr.")
        rloo_loss(log_probs, rloo_advantages(scores - config.kl_coef * kls, config.group), mask).backward()
        lr = cosine_lr(iteration, config.iterations, config.lr, 1.0, config.warmup_iterations)  # constant in the end
        _move(policy, optimizer, lr, f"RLOO diverged in iteration {iteration + 1}")
        history.append({"iteration": iteration + 1, "score": scores.mean().item(), "kl": kls.mean().item()})
        if evaluate and ((iteration + 1) % evaluate_every == 0 or iteration + 1 == config.iterations):
            history[-1] |= evaluate(policy, iteration + 1)
        bar.set_postfix(score=f"{scores.mean():.3f}", kl=f"{kls.mean():.2f}", refresh=False)
    return history


def _episodes(policy, prompts, config, reward_fn, iteration):
    """Sample and score one batch -> (rollout, (batch,) scores), the `group` responses to a prompt side by side."""
    device = device_of(policy)
    generator = torch.Generator(device=device).manual_seed(1_000_003 * config.seed + iteration)
    rows = rows_at(iteration, len(prompts), config.prompts_per_step, config.seed)
    asked = [prompts[row] for row in rows for _ in range(config.group)]
    rollout = sample(policy, asked, config.max_new_tokens, config.temperature, generator=generator)
    scores = torch.as_tensor(reward_fn(rollout), dtype=torch.float32, device=device).detach()
    if scores.shape != (len(asked),) or not scores.isfinite().all():
        raise RuntimeError(f"The reward must be one finite number per response; its shape is {tuple(scores.shape)}.")
    return rollout, scores


def _move(policy, optimizer, lr, blame):
    """One step, the gradient clipped to norm 1; RuntimeError when it is not a number."""
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    if not norm.isfinite():
        raise RuntimeError(f"{blame}: the gradient is not a number. The learning rate is probably too high.")
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _check_reference(policy, reference):
    shared = {p.data_ptr() for p in policy.parameters()} & {p.data_ptr() for p in reference.parameters()}
    if shared or any(parameter.requires_grad for parameter in reference.parameters()):
        raise ValueError("The reference would move with the policy; make it with copy_model(policy, trainable=False).")
