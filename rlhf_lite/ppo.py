"""PPO with a KL penalty, and PPO-ptx (InstructGPT, section 3.5, equation 2, appendix C.4).

One iteration: sample a response to each prompt and score it; at every token, subtract kl_coef times how much likelier
(in log-probability) the policy finds it than the reference does; estimate which tokens did better than the critic
expected; move the policy a small, clipped step towards those. PPO-ptx adds the gradient of ordinary pretraining text
to the same step, so that the policy does not forget.

The mathematics is in `ppo_math`, the plumbing (optimizers, micro-batches, resuming, several processes) in `training`.
Left out: sampling while training. For a trunk shared by all four models, see `real.shared_trunk`.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch

from rlhf_lite import distributed, reward
from rlhf_lite.guards import check_others, check_pretraining, check_prompts
from rlhf_lite.models import ScalarModel, copy_model
from rlhf_lite.ppo_math import (
    adaptive_kl,
    explained_variance,
    gae,
    kl_k1,
    masked_mean,
    masked_whiten,
    policy_loss,
    shaped_rewards,
    value_loss,
)
from rlhf_lite.pretrain import mixed_in_loss
from rlhf_lite.sampling import Rollout, length_batches, sample, take, token_log_probs
from rlhf_lite.training import Loop, adam, move_average, warm_up


@dataclass(frozen=True)
class PPOConfig:
    iterations: int = 100  # paper: 500
    batch_size: int = 128  # responses per iteration; paper: 512
    minibatch: int = 16  # responses per optimizer step; the paper also has 8 steps per iteration (512 / 64)
    inner_epochs: int = 1  # paper
    max_new_tokens: int = 48
    temperature: float = 1.0  # paper
    lr: float = 1e-4  # ours
    critic_lr: float = 3e-4  # ours (paper: 9e-6 for 6B)
    warmup_iterations: int = 10  # paper, from a tenth of lr; constant afterwards
    kl_coef: float = 0.02  # paper: beta
    target_kl: float | None = None  # ours: nats per response for `adaptive_kl`; None: kl_coef stays fixed (paper)
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


# ---------------------------------------------------------------- over a whole rollout

def response_log_probs(policy, rollout, temperature=1.0, entropy=False):
    """(batch, R) log-probabilities of the sampled tokens, with gradient; with entropy=True a pair."""
    return token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length, temperature,
                           entropy)


def rollout_log_probs(policy, rollout, temperature=1.0, entropy=False, batch_size=16):
    """`response_log_probs` of a whole rollout, in parts and without gradient."""
    compute = functools.partial(response_log_probs, policy, temperature=temperature, entropy=entropy)
    return _in_parts(compute, rollout, batch_size)


def response_values(critic, rollout):
    """(batch, R) values, with gradient; column t is read one place before token t, when it is not yet written."""
    values = critic(rollout.sequences, rollout.attention_mask)
    return values[:, rollout.prompt_length - 1:-1]


def rollout_values(critic, rollout, batch_size=16):
    """(batch, R) values of the critic, without gradient."""
    return _in_parts(functools.partial(response_values, critic), rollout, batch_size)


@torch.no_grad()
def _in_parts(compute, rollout, batch_size):
    """Run `compute` on rows of similar length, which saves most of the padding, and put the results together."""
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
    """(batch,) scores of a reward model, which reads the same ids as in its training (`reward.reward_input`)."""
    rows = [reward.reward_input(prompt, response)
            for prompt, response in zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)]
    return reward.score(reward_model, rows).to(rollout.sequences.device)


def rollout_scores(reward_fn, rollout):
    """(batch,) float32 scores from a reward model or a function of the rollout; RuntimeError unless all are finite."""
    if not callable(reward_fn):
        raise ValueError("reward_fn is neither a reward model nor a function of the rollout.")
    raw = score_rollout(reward_fn, rollout) if isinstance(reward_fn, ScalarModel) else reward_fn(rollout)
    try:
        scores = torch.as_tensor(raw, dtype=torch.float32, device=rollout.sequences.device).detach()
    except (TypeError, ValueError, RuntimeError) as error:  # None, texts, lists of unequal length
        raise RuntimeError(f"The reward must be one finite number per response, not {str(raw)[:60]}.") from error
    if scores.shape != (len(rollout.sequences),) or not scores.isfinite().all():
        raise RuntimeError(f"The reward must be one finite number per response; its shape is {tuple(scores.shape)}.")
    return scores


# ---------------------------------------------------------------- the loop

class PPORun(NamedTuple):
    history: list  # one dict per iteration
    ema: torch.nn.Module  # the averaged policy


class Experience(NamedTuple):
    """A rollout and the numbers that stay fixed during an iteration; tensors are (batch, R)."""

    rollout: Rollout
    log_probs: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor

    @property
    def mask(self):
        return self.rollout.response_mask

    def take(self, rows):
        """The given rows, without the columns that are padding in all of them."""
        part = take(self.rollout, torch.from_numpy(rows))
        return type(self)(part, *(tensor[rows, :part.responses.shape[1]] for tensor in self[1:]))


def train_ppo(policy, reference, critic, prompts, config, reward_fn, pretraining=None, **options):
    """Train policy and critic in place -> PPORun. `set_up` explains the arguments, `training.Options` the options.

    Raises ValueError for arguments that would train the wrong thing, RuntimeError when training diverges.
    """
    loop, ema = set_up(policy, reference, critic, prompts, config, reward_fn, pretraining, options)
    for _ in loop:
        # 1. The policy answers the prompts. Nothing is learnt yet, so no gradients are needed.
        with torch.no_grad(), loop.autocast():
            rollout = sample(policy, loop.pick(prompts, config.batch_size), config.max_new_tokens, config.temperature,
                             generator=loop.generator())
            log_probs, entropy = rollout_log_probs(policy, rollout, config.temperature, entropy=True)  # (batch, R) both
            ref_log_probs = rollout_log_probs(reference, rollout, config.temperature)  # (batch, R)
            values, scores = rollout_values(critic, rollout), rollout_scores(reward_fn, rollout)  # (batch, R), (batch,)
        rollout, log_probs, entropy, ref_log_probs, values, scores = distributed.gather(
            rollout, log_probs, entropy, ref_log_probs, values, scores)
        # 2. Which tokens did better than the critic expected? The advantages say.
        mask, kl_coef = rollout.response_mask, loop.carried["kl_coef"]  # (batch, R): the sampled tokens; a number
        kl = torch.where(mask, kl_k1(log_probs, ref_log_probs), 0.0).sum(dim=1)  # (batch,) nats per response
        loop.guard_kl(kl)
        final = scores - config.missing_end_penalty * (~rollout.finished).float()  # (batch,)
        rewards = shaped_rewards(final, log_probs, ref_log_probs, mask, kl_coef)  # (batch, R): the KL is in the reward
        advantages, returns = gae(rewards, values, mask, config.gamma, config.lam)  # (batch, R) both
        advantages = masked_whiten(advantages, mask) if config.whiten_advantages else advantages
        experience = Experience(rollout, log_probs, values, advantages, returns)
        # 3. Small steps towards those tokens; the clip stops the policy from straying far from the one that sampled.
        for minibatch in loop.minibatches(len(scores)):
            actions = mask[minibatch].sum()  # each part is divided by the actions of the whole minibatch
            for rows in loop.parts(minibatch, rollout.attention_mask.sum(dim=1).cpu()):
                part = experience.take(rows)
                with loop.autocast():
                    new_log_probs = response_log_probs(policy, part.rollout, config.temperature)  # (rows, R)
                    new_values = response_values(critic, part.rollout)  # (rows, R)
                loss, seen = policy_loss(new_log_probs, part.log_probs, part.advantages, part.mask, config.clip_range,
                                         actions)
                error = value_loss(new_values, part.values, part.returns, part.mask, config.value_clip, actions)
                loop.backward(loss + error, policy_loss=loss, value_loss=error, **seen)  # two separate models
            if config.ptx_coef > 0:  # PPO-ptx: pretraining text in the same step, so that the policy does not forget
                ptx_loss = mixed_in_loss(policy, pretraining, config.ptx_rows, loop)
                loop.backward(config.ptx_coef * ptx_loss, ptx_loss=ptx_loss)
            loop.step()
            move_average(ema, policy, config.ema_decay)
        loop.log(**measured(experience, scores, final, kl, entropy, loop), **loop.means())
        loop.carried["kl_coef"] = adaptive_kl(kl_coef, kl.mean().item(), config.target_kl, config.batch_size)
    return PPORun(loop.history, ema)


def measured(experience, scores, final, kl, entropy, loop):
    """The history entry for a rollout, as a dict. scores, final, kl: (batch,); entropy: (batch, R)."""
    rollout, lengths = experience.rollout, experience.rollout.lengths.float()
    together = torch.stack([scores, lengths])
    correlation = torch.corrcoef(together)[0, 1].item() if (together.std(dim=1) > 0).all() else 0.0
    kl_coef = loop.carried["kl_coef"]
    return {"iteration": loop.round + 1, "score": scores.mean().item(), "score_std": scores.std(correction=0).item(),
            "objective": (final.mean() - kl_coef * kl.mean()).item(), "kl": kl.mean().item(), "kl_coef": kl_coef,
            "entropy": masked_mean(entropy, experience.mask).item(),
            "explained_variance": explained_variance(experience.values, experience.returns, experience.mask),
            "length": lengths.mean().item(), "finished": rollout.finished.float().mean().item(),
            "length_score_correlation": correlation, "lr": loop.lr, "seconds": loop.seconds()}


def set_up(policy, reference, critic, prompts, config, reward_fn, pretraining, options):
    """Check the arguments of `train_ppo` -> (Loop, the averaged policy).

    policy and reference start as the same model (reference: `copy_model(sft, trainable=False)`). critic: a ScalarModel;
    in the paper, a copy of the reward model. prompts: lists of ids. reward_fn: a reward model, or a function
    rollout -> (batch,) scores. pretraining: packed rows (n, length) for config.ptx_coef.
    """
    pretrains = {"ptx_rows": config.ptx_rows} if config.ptx_coef > 0 else {}
    check_prompts(policy, prompts, config, batch_size=config.batch_size, **pretrains)
    check_pretraining(policy, "ptx_coef", config.ptx_coef, pretraining)
    check_others(policy, prompts, config, reference=reference, critic=critic, reward_model=reward_fn)
    others = [model for model in (policy, reward_fn) if isinstance(model, torch.nn.Module)]
    moving = {p.data_ptr() for p in critic.parameters() if p.requires_grad}  # a frozen trunk may be shared
    if not moving or moving & {p.data_ptr() for model in others for p in model.parameters()}:
        raise ValueError("The critic has nothing to train, or would move the policy or the reward model (they share "
                         "weights); make it with copy_model(reward_model).")
    steps = config.inner_epochs * -(-config.batch_size // config.minibatch)  # per iteration
    loop = Loop("ppo", config, config.iterations, {"policy": policy, "critic": critic},
                {"prompts": prompts, "reference": reference, "reward model": reward_fn, "pretraining": pretraining},
                warm_up(config.warmup_iterations, steps), options,
                {"policy": adam(policy, config.lr), "critic": adam(critic, config.critic_lr)})
    ema = copy_model(policy, trainable=False)
    loop.averages, loop.carried = {"ema": ema}, {"kl_coef": config.kl_coef}
    return loop, ema
