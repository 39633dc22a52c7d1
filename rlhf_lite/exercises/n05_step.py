"""Exercise 5.12: one step of both losses."""

import functools

import torch

from rlhf_lite import models, ppo, ppo_math, sampling, tiny_world
from rlhf_lite.exercises.cases import generator
from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.exercises.n05_losses import policy_loss

# ---------------------------------------------------------------- 5.12 one step

def ppo_step(policy, critic, optimizers, batch):
    """Both losses on one batch (a `ppo.Experience`), one backward pass, one step of every optimizer -> the loss."""
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
    rollout = sampling.sample(policy, (world.prompts * 12)[:12], 3, generator=generator(15))
    log_probs, values = ppo.rollout_log_probs(policy, rollout), ppo.rollout_values(critic, rollout)
    rewards = ppo_math.shaped_rewards(tiny_world.reward_function(world, scores)(rollout), log_probs, log_probs,
                                      rollout.response_mask, kl_coef=0.1)
    advantages, returns = ppo_math.gae(rewards, values, rollout.response_mask)
    return policy, critic, ppo.Experience(rollout, log_probs, values,
                                          ppo_math.masked_whiten(advantages, rollout.response_mask), returns)


def _step_counts():
    return [(1,), (3,)]


def _after_steps(function, steps):
    """Take some steps on one batch; returns both models' results on it after that, and the last loss."""
    policy, critic, batch = _small_start()
    policy, critic = models.copy_model(policy), models.copy_model(critic)
    optimizers = [torch.optim.SGD(policy.parameters(), lr=0.3), torch.optim.SGD(critic.parameters(), lr=0.03)]
    for _ in range(steps):
        loss = function(policy, critic, optimizers, batch)
    if loss is None:
        return None
    mask = batch.rollout.response_mask
    return {"loss": float(torch.as_tensor(loss).detach()),
            "policy": torch.where(mask, ppo.rollout_log_probs(policy, batch.rollout), 0.0),
            "critic": torch.where(mask, ppo.rollout_values(critic, batch.rollout), 0.0)}


one_step = Exercise(
    "5.12", "one PPO step", 15, 2,
    ("What is new in every step, and what stays as it was when the batch was sampled? Everything of the second kind is "
     "in the batch. Two functions of yours turn both into losses.",
     "New log-probabilities and values come from a forward pass now; old ones, advantages and returns are fixed in the "
     "batch. Add the two losses, call `backward` once, then `step()` and `zero_grad()` of each optimizer.",
     "`log_probs = token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)`, "
     "`values = ppo.response_values(critic, rollout)`, `loss = policy_loss(log_probs, batch.log_probs, "
     "batch.advantages, mask) + value_loss(values, batch.values, batch.returns, mask)`, `loss.backward()`, and return "
     "`loss.item()`."),
    task="`policy` and `critic` are models, `optimizers` a list with one optimizer for each. `batch.rollout` "
         "has `sequences`, `attention_mask`, `prompt_length` and `response_mask`; `batch.log_probs`, "
         "`batch.values`, `batch.advantages` and `batch.returns` are tensors (batch, response). The `batch` "
         "stays as it is. Compute both losses with your functions, add them, move both models one step, leave "
         "no gradients behind. Return the loss as a number.",
    course=ppo_step, cases=_step_counts, observe=_after_steps, tolerance=1e-3)


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


@one_step.mistake("gradients pile up from step to step: `zero_grad()` is missing.")
def _gradients_pile_up(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, after=("step",))


@one_step.mistake("nothing moves: the gradients are thrown away before the step, or a `step()` or "
                  "`backward()` is missing.")
def _gradients_thrown_away(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, after=("zero_grad", "step"))


@one_step.mistake("the old log-probabilities are taken from the new policy. The ratio is then always 1 and nothing is "
                  "ever clipped; use the ones stored in the batch.")
def _ratio_always_one(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, old="new")


@one_step.mistake("the critic never learns: its optimizer has to step too.")
def _critic_left_alone(policy, critic, optimizers, batch):
    loss = _step(policy, critic, optimizers[:1], batch)
    optimizers[1].zero_grad()
    return loss


@one_step.mistake("the values are read one place late, when their token is already known. The critic must judge the "
                  "state *before* token t: columns prompt_length − 1 to the last but one.")
def _values_one_late(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, shift=0)


@one_step.mistake("the policy is pushed away from what went well: the sign of its loss is flipped.")
def _policy_pushed_away(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch, sign=-1)


@one_step.mistake("the optimizers step before there is a gradient: first `backward()`, then `step()`.")
def _steps_too_early(policy, critic, optimizers, batch):
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return _step(policy, critic, optimizers, batch, after=())


@one_step.mistake("the policy never learns: its optimizer has to step too.")
def _policy_left_alone(policy, critic, optimizers, batch):
    loss = _step(policy, critic, optimizers[1:], batch)
    optimizers[0].zero_grad()
    return loss


@one_step.mistake("the value loss got its arguments in another order: values, old values, returns. The critic should "
                  "move towards the returns.")
def _returns_for_old_values(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch._replace(values=batch.returns, returns=batch.values))


@one_step.mistake("each token is pushed by its return. Use the advantage: how much better than expected it was.")
def _returns_for_advantages(policy, critic, optimizers, batch):
    return _step(policy, critic, optimizers, batch._replace(advantages=batch.returns))


EXERCISES = [one_step]
