"""PPO with a KL penalty, and PPO-ptx (InstructGPT, section 3.5, equation 2, appendix C.4).

The idea of an iteration: sample a response to each prompt; score it; subtract, at every token, kl_coef times
how much likelier the policy finds it than the reference does; estimate which tokens did better than the critic
expected; move the policy a small clipped step towards those. PPO-ptx adds the gradient of ordinary
pretraining text to the same step, so that the policy does not forget.

Every draw depends on the seed and the iteration only, so a resumed run equals an uninterrupted one.
Left out: sampling while training. For a trunk that the four models share see `sharing`, for several GPUs `processes`.
"""

import functools
import time
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from tqdm.auto import tqdm

from rlhf_lite import checkpoints, ppo_guards, ppo_math, processes, reward
from rlhf_lite.models import copy_model, device_of
from rlhf_lite.pretrain import as_rows, lm_loss, rows_at, rows_identity
from rlhf_lite.sampling import length_batches, sample, take, token_log_probs


@dataclass(frozen=True)
class PPOConfig:
    iterations: int = 100  # paper: 500
    batch_size: int = 128  # responses per iteration; paper: 512
    minibatch: int = 16  # responses per optimizer step; the paper, too, makes 8 steps an iteration (512 / 64)
    inner_epochs: int = 1  # paper
    max_new_tokens: int = 48
    temperature: float = 1.0  # paper
    lr: float = 1e-4  # ours
    critic_lr: float = 3e-4  # ours (paper: 9e-6 for 6B)
    warmup_iterations: int = 10  # paper, from a tenth of lr; constant afterwards
    kl_coef: float = 0.02  # paper: beta
    target_kl: float | None = None  # ours: nats per response for `adaptive_kl`; None keeps kl_coef fixed, as the paper
    gamma: float = 1.0  # paper: no discount
    lam: float = 0.95  # ours
    clip_range: float = 0.2  # paper
    value_clip: float | None = 0.2  # ours
    whiten_advantages: bool = True  # ours
    missing_end_penalty: float = 0.0  # ours: subtracted once from the score of a response without END
    max_grad_norm: float = 1.0  # ours
    ema_decay: float = 0.992  # paper; here per optimizer step. For evaluation, never for sampling
    # PPO-ptx. Both losses are means per token, so ptx_coef weighs an average token of the web against an average
    # token of a response. The paper's 27.8 belongs to its own sums and does not transfer.
    ptx_coef: float = 0.0
    ptx_rows: int = 4  # ours: packed rows per minibatch; paper: 8 pretraining examples per episode
    max_kl: float = 100.0  # ours: nats per response at which training counts as diverged
    max_ratio: float = 1000.0  # ours: likewise for the probability ratio within one iteration
    seed: int = 0
    micro_batch: int | None = 8  # responses in memory at once; the result does not depend on it
    save_every: int = 10
    bf16: bool = False  # matrix products in bfloat16; log-probabilities and losses in float32


@dataclass
class PPORun:
    history: list = field(default_factory=list)  # one dict per iteration
    ema: torch.nn.Module | None = None  # the averaged policy


# ---------------------------------------------------------------- over a whole rollout

def rollout_log_probs(policy, rollout, temperature=1.0, entropy=False, batch_size=16):
    """(batch, R) log-probabilities of the sampled tokens, without gradient; with entropy=True a pair."""
    def compute(part):
        return token_log_probs(policy, part.sequences, part.attention_mask, part.prompt_length, temperature, entropy)
    return _in_parts(compute, rollout, batch_size)


def response_values(critic, rollout):
    """(batch, R) values; column t is read where token t is yet to be written, one place before it."""
    values = critic(rollout.sequences, rollout.attention_mask)
    return values[:, rollout.prompt_length - 1:-1]


def rollout_values(critic, rollout, batch_size=16):
    """(batch, R) values of the critic, without gradient."""
    return _in_parts(functools.partial(response_values, critic), rollout, batch_size)


@torch.no_grad()
def _in_parts(compute, rollout, batch_size):
    """Run `compute` on rows of similar length, which spares most of the padding, and put the results together."""
    results = None
    for rows in length_batches(rollout.attention_mask.sum(dim=1).tolist(), batch_size):
        rows = torch.from_numpy(rows)
        outputs = compute(take(rollout, rows))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if results is None:
            results = [torch.zeros(rollout.responses.shape, device=rollout.sequences.device) for _ in outputs]
        for result, output in zip(results, outputs, strict=True):
            result[rows.to(result.device), :output.shape[1]] = output.float()
    return results[0] if len(results) == 1 else tuple(results)


def score_rollout(reward_model, rollout):
    """(batch,) scores of a reward model, read from the same ids as in its training (`reward.reward_input`)."""
    rows = [reward.reward_input(prompt, response)
            for prompt, response in zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)]
    return reward.score(reward_model, rows).to(rollout.sequences.device)


# ---------------------------------------------------------------- the loop

def train_ppo(policy, reference, critic, prompts, config, reward_model=None, reward_fn=None, pretraining=None,
              evaluate=None, evaluate_every=10, folder=None, progress=True):
    """Train policy and critic in place; returns a PPORun with the history and the averaged policy.

    policy and reference start as the same model (reference: `copy_model(sft, trainable=False)`); critic: a
    ScalarModel, in the paper a copy of the reward model. prompts: lists of ids. One of reward_model or reward_fn
    (rollout -> (batch,) scores). pretraining: packed rows (n, length) for config.ptx_coef. evaluate: called as
    evaluate(policy, iteration) every `evaluate_every` iterations; its dict joins the history. With `folder`,
    training resumes at the last save. Raises RuntimeError when training diverges.
    """
    ppo_guards.check_arguments(policy, reference, critic, prompts, config, reward_model, reward_fn, pretraining)
    reward_fn = reward_fn or functools.partial(score_rollout, reward_model)
    models = {"policy": policy, "reference": reference, "critic": critic}
    models |= {"reward model": reward_model} if reward_model else {}
    for model in models.values():
        model.eval().zero_grad()  # no dropout anywhere: the first ratio must be 1; no gradients of an earlier run
    ema = copy_model(policy, trainable=False)
    optimizers = {name: torch.optim.Adam(model.parameters(), betas=(0.9, 0.95), fused=True)  # lr is set below
                  for name, model in (("policy_adam", policy), ("critic_adam", critic))}
    modules = {"policy": policy, "critic": critic, "ema": ema}
    identity = {**asdict(config), "prompts": checkpoints.fingerprint([list(row) for row in prompts]),
                **{name: checkpoints.fingerprint(model) for name, model in models.items()}}
    for name in ("iterations", "save_every"):  # the schedule does not depend on them: a run may be prolonged
        identity.pop(name)
    identity |= {"pretraining": rows_identity(pretraining)} if pretraining is not None else {}
    state = checkpoints.resume(folder, identity, modules, optimizers)
    run = PPORun(state["history"] if state else [], ema)
    if len(run.history) > config.iterations:
        raise ValueError(f"{folder} holds {len(run.history)} iterations; ask for that many at least, or name another.")
    kl_coef = state["kl_coef"] if state else config.kl_coef

    bar = tqdm(total=config.iterations, initial=len(run.history), desc="ppo", unit="iteration",
               disable=not (progress and processes.is_first()))
    for iteration in range(len(run.history), config.iterations):
        started = time.perf_counter()
        share = min(1.0, 0.1 + 0.9 * iteration / max(1, config.warmup_iterations))
        for optimizer, peak in zip(optimizers.values(), (config.lr, config.critic_lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = share * peak
        batch, entry = collect(policy, reference, critic, prompts, config, reward_fn, iteration, kl_coef)
        entry |= update(policy, critic, ema, optimizers, batch, config, iteration, pretraining)
        entry |= {"lr": share * config.lr, "seconds": time.perf_counter() - started}
        kl_coef = entry["kl_coef"]
        if config.target_kl is not None:
            kl_coef = ppo_math.adaptive_kl(kl_coef, entry["kl"], config.target_kl, config.batch_size)
        if evaluate and (iteration + 1) % evaluate_every == 0:
            entry |= evaluate(policy, iteration + 1)
        run.history.append(entry)
        bar.set_postfix(score=f"{entry['score']:.3f}", kl=f"{entry['kl']:.2f}", refresh=False)
        bar.update()
        due = (iteration + 1) % config.save_every == 0 or iteration + 1 == config.iterations
        if folder and processes.is_first() and due:
            checkpoints.save_training_state(folder, checkpoints.training_tensors(modules, optimizers),
                                            {"identity": identity, "history": run.history, "kl_coef": kl_coef})
    bar.close()
    return run


@dataclass
class Batch:
    """A rollout with all that one iteration keeps fixed; tensors are (batch, R)."""

    rollout: object
    log_probs: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


def collect(policy, reference, critic, prompts, config, reward_fn, iteration, kl_coef):
    """Sample and score one batch -> (Batch, the iteration's measurements as a dict)."""
    device = device_of(policy)
    generator = torch.Generator(device=device).manual_seed(int(np.random.SeedSequence(
        (config.seed, iteration)).generate_state(1)[0]) + processes.rank())  # every process draws other tokens
    rows = rows_at(iteration, len(prompts), config.batch_size, config.seed)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16)
    with autocast:
        mine = processes.share(rows)
        rollout = sample(policy, [prompts[row] for row in mine], config.max_new_tokens, config.temperature,
                         generator=generator)
        # Old log-probabilities come from the forward pass that training uses, not from the sampler's.
        log_probs, entropy = rollout_log_probs(policy, rollout, config.temperature, entropy=True)
        ref_log_probs = rollout_log_probs(reference, rollout, config.temperature)
        values = rollout_values(critic, rollout)
        raw = torch.as_tensor(reward_fn(rollout), dtype=torch.float32, device=device).detach()
    if raw.shape != (len(mine),) or not raw.isfinite().all():
        raise RuntimeError(f"The reward must be one finite number per response; its shape is {tuple(raw.shape)}.")
    rollout, log_probs, entropy, ref_log_probs, values, raw = processes.gather(
        rollout, log_probs, entropy, ref_log_probs, values, raw)
    mask = rollout.response_mask
    scores = raw - config.missing_end_penalty * (~rollout.finished).float()
    rewards = ppo_math.shaped_rewards(scores, log_probs, ref_log_probs, mask, kl_coef)
    advantages, returns = ppo_math.gae(rewards, values, mask, config.gamma, config.lam)
    explained = ppo_math.explained_variance(values, returns, mask)
    if config.whiten_advantages:
        advantages = ppo_math.masked_whiten(advantages, mask)
    kls = torch.where(mask, ppo_math.kl_k1(log_probs, ref_log_probs), 0.0).sum(dim=1)
    kl, lengths = kls.mean().item(), rollout.lengths.float()
    ppo_guards.guard_kl(kl, kls, iteration, config)
    together = torch.stack([raw, lengths])
    correlation = torch.corrcoef(together)[0, 1].item() if (together.std(dim=1) > 0).all() else 0.0
    return Batch(rollout, log_probs, values, advantages, returns), {
        "iteration": iteration + 1, "score": raw.mean().item(), "score_std": raw.std(correction=0).item(),
        "objective": (scores.mean() - kl_coef * kls.mean()).item(), "kl": kl, "kl_coef": kl_coef,
        "entropy": ppo_math.masked_mean(entropy, mask).item(), "explained_variance": explained,
        "length": lengths.mean().item(), "finished": rollout.finished.float().mean().item(),
        "length_score_correlation": correlation}


def update(policy, critic, ema, optimizers, batch, config, iteration, pretraining=None):
    """The optimizer steps of one iteration -> mean losses and statistics as a dict."""
    size, measured = len(batch.log_probs), []
    per_epoch = -(-size // config.minibatch)
    for epoch in range(config.inner_epochs):
        order = np.random.default_rng((config.seed, iteration, epoch)).permutation(size)
        for index in range(per_epoch):
            rows = order[index * config.minibatch:(index + 1) * config.minibatch]
            entry = _gradients(policy, critic, batch, rows, config)
            if config.ptx_coef > 0:  # into the same gradient buffers, for one and the same step
                step = (iteration * config.inner_epochs + epoch) * per_epoch + index
                web = pretraining[rows_at(step, len(pretraining), config.ptx_rows, config.seed)]
                weight, web = len(processes.share(web)) / len(web), processes.share(web)
                with torch.autocast(device_of(policy).type, dtype=torch.bfloat16, enabled=config.bf16):
                    ptx = lm_loss(policy, as_rows(web, device_of(policy))) * weight
                (config.ptx_coef * ptx).backward()
                entry["ptx_loss"] = processes.add(ptx.item())[0]
            processes.add_gradients(policy, critic)
            norms = [torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm).item()
                     for model in (policy, critic)]
            if not np.isfinite([*entry.values(), *norms]).all():
                raise RuntimeError(f"PPO diverged in iteration {iteration + 1}: a loss or gradient is not a number. "
                                   "The learning rate is probably too high, or the reward is.")
            if entry["max_ratio"] > config.max_ratio:
                raise RuntimeError(f"PPO diverged in iteration {iteration + 1}: the policy changed a probability "
                                   f"{entry['max_ratio']:.0f}-fold. Lower lr, or check that old and new "
                                   "log-probabilities use the same temperature and mask.")
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            with torch.no_grad():
                for average, now in zip(ema.parameters(), policy.parameters(), strict=True):
                    average.lerp_(now, 1 - config.ema_decay)
            measured.append({**entry, "grad_norm": norms[0]})
    means = {name: float(np.mean([entry[name] for entry in measured])) for name in measured[0]}
    return {**means, "max_ratio": max(entry["max_ratio"] for entry in measured)}


def _gradients(policy, critic, batch, rows, config):
    """Add the gradients of a minibatch's policy and value loss, in parts that fit into memory."""
    mask = batch.rollout.response_mask
    actions = mask[torch.from_numpy(rows)].sum()  # divide every part by the actions of the whole minibatch
    totals = dict.fromkeys(("policy_loss", "value_loss", "clipfrac", "approx_kl"), 0.0)
    max_ratio = 0.0
    rows = processes.share(rows)
    lengths = batch.rollout.attention_mask.sum(dim=1).cpu().numpy()[rows]
    for places in length_batches(lengths, config.micro_batch or max(1, len(rows))):
        part_rows = torch.from_numpy(rows[places])
        part = take(batch.rollout, part_rows)
        width = part.responses.shape[1]
        old, old_values, advantages, returns = (
            tensor[part_rows.to(tensor.device), :width]
            for tensor in (batch.log_probs, batch.values, batch.advantages, batch.returns))
        with torch.autocast(part.sequences.device.type, dtype=torch.bfloat16, enabled=config.bf16):
            log_probs = token_log_probs(policy, part.sequences, part.attention_mask, part.prompt_length,
                                        config.temperature)
            values = response_values(critic, part)
        loss, statistics = ppo_math.policy_loss(log_probs, old, advantages, part.response_mask, config.clip_range,
                                                actions)
        error = ppo_math.value_loss(values, old_values, returns, part.response_mask, config.value_clip, actions)
        (loss + error).backward()  # two separate models: the sum is only a shorter way to write it
        share = (part.response_mask.sum() / actions).item()
        totals["policy_loss"] += loss.item()
        totals["value_loss"] += error.item()
        totals["clipfrac"] += share * statistics["clipfrac"]
        totals["approx_kl"] += share * statistics["approx_kl"]
        max_ratio = max(max_ratio, statistics["max_ratio"])
    sums = processes.add(*totals.values())
    return {**dict(zip(totals, sums, strict=True)), "max_ratio": processes.largest(max_ratio)}
