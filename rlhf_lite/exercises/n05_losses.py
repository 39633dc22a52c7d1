"""Exercises 5.9 to 5.12: the two clipped losses, one step, and the adaptive KL coefficient, with the wrong answers."""

import functools
import math

import torch

from rlhf_lite import models, ppo, ppo_math, sampling, tiny_world
from rlhf_lite.exercises.cases import generator, mask_of
from rlhf_lite.exercises.checking import Exercise


# ---------------------------------------------------------------- 5.9 the clipped policy loss

def policy_loss(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    """The library's loss without its statistics."""
    return ppo_math.policy_loss(log_probs, old_log_probs, advantages, mask, clip_range)[0]


def _loss_and_gradient(function, first, *arguments):
    """The value of a loss and its derivative by the first argument."""
    first = first.detach().clone().requires_grad_()
    loss = function(first, *arguments)
    loss = loss[0] if isinstance(loss, tuple) else loss
    if loss is None:
        return None
    gradient = torch.zeros_like(first)
    if loss.requires_grad:
        found, = torch.autograd.grad(loss.sum(), first, allow_unused=True)
        gradient = gradient if found is None else found
    return {"loss": loss, "gradient": gradient}


def _ratios_and_advantages():
    mask = mask_of(6, 4)
    old = -torch.rand(2, 6, generator=generator(12))
    log_ratio = torch.tensor([[0.5, 0.5, -0.5, -0.5, 0.1, -0.1], [0.9, -0.9, 0.05, -0.3, 2.0, -2.0]])
    advantages = torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0, -0.5], [-2.0, 0.7, -0.3, 1.5, 4.0, 4.0]])
    return [(old + log_ratio, old, advantages, mask, clip_range) for clip_range in (0.2, 0.4)]


def _policy_losses(log_probs, old_log_probs, advantages, clip_range, low=True, worst=torch.maximum):
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - clip_range if low else None, 1 + clip_range)
    return worst(-advantages * ratio, -advantages * clipped)


def _ratio_reversed(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = _policy_losses(-log_probs, -old_log_probs, advantages, clip_range)
    return ppo_math.masked_mean(losses, mask)


def _best_of_both(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = _policy_losses(log_probs, old_log_probs, advantages, clip_range, worst=torch.minimum)
    return ppo_math.masked_mean(losses, mask)


def _policy_sign(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return -policy_loss(log_probs, old_log_probs, advantages, mask, clip_range)


def _clipped_above_only(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return ppo_math.masked_mean(_policy_losses(log_probs, old_log_probs, advantages, clip_range, low=False), mask)


def _policy_mean_over_pads(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return _policy_losses(log_probs, old_log_probs, advantages, clip_range).mean()


def _zeros_counted(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return torch.where(mask, _policy_losses(log_probs, old_log_probs, advantages, clip_range), 0.0).mean()


def _clip_without_choice(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    losses = _policy_losses(log_probs, old_log_probs, advantages, clip_range, worst=lambda plain, clipped: clipped)
    return ppo_math.masked_mean(losses, mask)


def _never_clipped(log_probs, old_log_probs, advantages, mask, clip_range=0.2):
    return policy_loss(log_probs, old_log_probs, advantages, mask, math.inf)


# ---------------------------------------------------------------- 5.10 the clipped value loss

def _values_and_returns():
    mask = mask_of(5, 3)
    old = torch.randn(2, 5, generator=generator(13))
    values = old + torch.tensor([[0.5, -0.5, 0.1, -0.1, 0.5], [-0.5, 0.05, 0.4, 3.0, 3.0]])
    returns = old + torch.tensor([[1.0, 1.0, -1.0, 0.3, -1.0], [-0.2, 0.4, 0.25, -4.0, -4.0]])
    return [(values, old, returns, mask, clip_range) for clip_range in (0.2, 0.3)]


def _value_errors(values, centre, returns, clip_range, worst=torch.maximum):
    clipped = centre + (values - centre).clamp(-clip_range, clip_range)
    return worst((values - returns) ** 2, (clipped - returns) ** 2)


def _no_half(values, old_values, returns, mask, clip_range=0.2):
    return 2 * ppo_math.value_loss(values, old_values, returns, mask, clip_range)


def _clipped_around_zero(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * ppo_math.masked_mean(_value_errors(values, torch.zeros_like(values), returns, clip_range), mask)


def _smaller_error(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * ppo_math.masked_mean(_value_errors(values, old_values, returns, clip_range, torch.minimum), mask)


def _only_the_clipped_error(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * ppo_math.masked_mean(_value_errors(values, old_values, returns, clip_range, lambda a, b: b), mask)


def _value_mean_over_pads(values, old_values, returns, mask, clip_range=0.2):
    return 0.5 * _value_errors(values, old_values, returns, clip_range).mean()


def _value_not_clipped(values, old_values, returns, mask, clip_range=0.2):
    return ppo_math.value_loss(values, old_values, returns, mask, None)


# ---------------------------------------------------------------- 5.11 one step

def ppo_step(policy, critic, optimizers, batch):
    """Both losses on one batch (a `ppo.Batch`), one backward pass, a step of every optimizer -> the losses' sum."""
    rollout, mask = batch.rollout, batch.rollout.response_mask
    log_probs = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    values = ppo.response_values(critic, rollout)
    loss = (policy_loss(log_probs, batch.log_probs, batch.advantages, mask)
            + ppo_math.value_loss(values, batch.values, batch.returns, mask))
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


@functools.cache
def _small_start():
    """A policy, a critic and a batch of twelve answers in a world of five tokens."""
    world = tiny_world.make_world(vocab_size=5, max_new_tokens=3)
    policy = tiny_world.tiny_policy(world, seed=0, sharpness=4, hidden_size=16)
    critic = models.scalar_from_policy(policy, 0)
    scores = torch.randn(1, len(world.responses), generator=generator(14))
    batch, _ = ppo.collect(policy, models.copy_model(policy, trainable=False), critic, world.prompts,
                           ppo.PPOConfig(batch_size=12, max_new_tokens=3), tiny_world.reward_function(world, scores),
                           iteration=0, kl_coef=0.1)
    return policy, critic, batch


def _step_counts():
    return [(1,), (3,)]


def _after_steps(function, steps):
    """Take some steps on one batch; what the two models then say of it, and the last loss."""
    policy, critic, batch = _small_start()
    policy, critic = models.copy_model(policy), models.copy_model(critic)
    optimizers = [torch.optim.SGD(policy.parameters(), lr=0.3), torch.optim.SGD(critic.parameters(), lr=0.03)]
    for _ in range(steps):
        loss = function(policy, critic, optimizers, batch)
    if loss is None:
        return None
    mask = batch.rollout.response_mask
    return {"loss": float(loss), "policy": torch.where(mask, ppo.rollout_log_probs(policy, batch.rollout), 0.0),
            "critic": torch.where(mask, ppo.rollout_values(critic, batch.rollout), 0.0)}


def _step(policy, critic, optimizers, batch, old=None, shift=1, before=(), after=("step", "zero_grad"), sign=1):
    rollout, mask = batch.rollout, batch.rollout.response_mask
    log_probs = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
    start = rollout.prompt_length - shift
    values = critic(rollout.sequences, rollout.attention_mask)[:, start:start + mask.shape[1]]
    old = log_probs.detach() if old == "new" else batch.log_probs
    loss = (sign * policy_loss(log_probs, old, batch.advantages, mask)
            + ppo_math.value_loss(values, batch.values, batch.returns, mask))
    loss.backward()
    for optimizer in optimizers:
        for name in after:
            getattr(optimizer, name)()
    return loss.item()


def _gradients_pile_up(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, after=("step",))


def _gradients_thrown_away(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, after=("zero_grad", "step"))


def _ratio_always_one(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, old="new")


def _critic_left_alone(policy, critic, optimizers, batch):
    loss = _step(policy, critic, optimizers[:1], batch)
    optimizers[1].zero_grad()
    return loss


def _values_one_late(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, shift=0)


def _policy_pushed_away(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, sign=-1)


# ---------------------------------------------------------------- 5.12 the dial that turns itself

def _controller_cases():
    return [(0.2, 2.2, 2.0, 256, 10_000), (0.05, 30.0, 6.0, 512, 10_000), (0.1, 0.5, 6.0, 256, 1000),
            (0.1, 5.5, 6.0, 256, 1000)]


def _turned_the_wrong_way(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef * (1 - max(-0.2, min(0.2, kl / target - 1)) * episodes / horizon)


def _error_not_clipped(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef * (1 + (kl / target - 1) * episodes / horizon)


def _absolute_error(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef * (1 + max(-0.2, min(0.2, kl - target)) * episodes / horizon)


def _added(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef + max(-0.2, min(0.2, kl / target - 1)) * episodes / horizon


def _no_horizon(kl_coef, kl, target, episodes, horizon=10_000):
    return kl_coef * (1 + max(-0.2, min(0.2, kl / target - 1)))


EXERCISES = [
    Exercise(
        "5.9", "the clipped policy loss", 15, 3,
        ("The ratio is `(log_probs - old_log_probs).exp()`. Compute two losses per token, −A · ratio and −A · clipped "
         "ratio, and keep the worse one.",
         "`torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range))`, then a mean "
         "over the True places of the mask."),
        policy_loss, _ratios_and_advantages,
        {"the ratio is upside down: it is new over old, so that it grows when the token becomes likelier.":
             _ratio_reversed,
         "you keep the better of the two losses. Clipping then rewards what it should stop: take the minimum of the "
         "gains, which is the maximum of the losses.": _best_of_both,
         "the sign is flipped. A loss goes down, gains go up: minus ratio times advantage.": _policy_sign,
         "only large ratios are clipped. A token with a negative advantage is pushed down, and must be stopped at "
         "1 − clip_range.": _clipped_above_only,
         "the mean runs over padding too.": _policy_mean_over_pads,
         "the padding adds 0 but is still counted: divide by the number of real tokens, or short answers weaken the "
         "step.": _zeros_counted,
         "only the clipped loss is used. A token that has moved too far the *wrong* way then has no gradient and never "
         "comes back.": _clip_without_choice,
         "nothing is clipped: one lucky batch can now throw the policy anywhere.": _never_clipped},
        observe=_loss_and_gradient),
    Exercise(
        "5.10", "the clipped value loss", 10, 2,
        ("The clipped value is the old one plus a change of at most ±clip_range. Square both errors, keep the larger.",
         "`clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)`, then half the masked mean of "
         "`torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)`."),
        ppo_math.value_loss, _values_and_returns,
        {"the half is missing.": _no_half,
         "the values themselves are clipped. Clip their *change*: old value plus at most ±clip_range.":
             _clipped_around_zero,
         "you keep the smaller error. As with the policy, keep the worse one.": _smaller_error,
         "only the clipped error is used: a value that moved too far has no gradient any more, even if it moved the "
         "wrong way.": _only_the_clipped_error,
         "the mean runs over padding too.": _value_mean_over_pads,
         "this is the plain squared error. Either the clip is missing, or it stands around the returns, where it never "
         "bites: it limits how far the critic moves from what it said *before*.": _value_not_clipped},
        observe=_loss_and_gradient),
    Exercise(
        "5.11", "one PPO step", 15, 2,
        ("New log-probabilities and values come from a forward pass now; old ones, advantages and returns are fixed in "
         "the batch. Add the two losses, go backward, step.",
         "`log_probs = token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)`, "
         "`values = ppo.response_values(critic, rollout)`, the two losses, `backward()`, then `step()` and "
         "`zero_grad()` of each optimizer."),
        ppo_step, _step_counts,
        {"gradients pile up from step to step: `zero_grad()` is missing.": _gradients_pile_up,
         "the gradients are thrown away before the step, so nothing is learnt.": _gradients_thrown_away,
         "the old log-probabilities are taken from the new policy. The ratio is then always 1 and nothing is ever "
         "clipped; use those that were kept in the batch.": _ratio_always_one,
         "the critic never learns: its optimizer has to step too.": _critic_left_alone,
         "the values are read one place late, after their token is known. The critic must judge the state *before* "
         "token t: columns prompt_length − 1 up to the last but one.": _values_one_late,
         "the policy is pushed away from what went well: the sign of its loss is flipped.": _policy_pushed_away},
        observe=_after_steps, tolerance=1e-3),
    Exercise(
        "5.12", "the dial that turns itself", 5, 1,
        ("The error is relative: KL over target, minus 1. Clip it to ±0.2 and change kl_coef by that share, times "
         "episodes / horizon.",
         "`error = max(-0.2, min(0.2, kl / target - 1))`, and `kl_coef * (1 + error * episodes / horizon)`."),
        ppo_math.adaptive_kl, _controller_cases,
        {"it turns the wrong way: when the KL is above its target, leaving must become dearer.": _turned_the_wrong_way,
         "the error is not clipped. One wild batch should not be able to multiply the coefficient.": _error_not_clipped,
         "the error is a difference in nats. Make it relative to the target, otherwise it means something else for "
         "every target.": _absolute_error,
         "the change is added. It should multiply: kl_coef must stay above 0, and 0.02 needs smaller steps than 2.":
             _added,
         "the horizon is missing: this turns the dial by up to a fifth with every batch.": _no_horizon},
        tolerance=1e-6),
]
