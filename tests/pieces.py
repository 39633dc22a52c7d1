"""One piece of a training at a time, for tests: the library's own loops, with everything else held still.

`collect` is what `train_ppo` makes of a rollout, `update` its steps on a given batch, and the functions that end in
`_gradients` leave the gradients of one step in the models without taking it.
"""

import math
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from rlhf_lite import distributed, models, ppo, reward, sft, training
from rlhf_lite.models import BEGIN


def collect(policy, reference, critic, prompts, config, reward_fn, iteration=0, kl_coef=0.02):
    """What an iteration of `train_ppo` keeps fixed, and what it logs -> (`ppo.Experience`, dict); no weight moves."""
    seen, experience = [], ppo.Experience
    config = replace(config, iterations=iteration + 1, kl_coef=kl_coef, target_kl=None, ptx_coef=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "Experience", lambda *columns: seen.append(experience(*columns)) or seen[-1])
        patch.setattr(training.Loop, "minibatches", lambda *_: [])
        patch.setattr(training.Loop, "means", lambda _: {})
        run = ppo.train_ppo(policy, reference, critic, prompts, config, reward_fn, progress=False)
    return seen[-1], {name: number for name, number in run.history[-1].items() if name not in ("lr", "seconds")}


def sgd(lr):
    """Plain gradient descent, for `update`."""
    return lambda model, *_: torch.optim.SGD(model.parameters(), lr=lr)


def update(policy, critic, batch, config, optimizer=None, pretraining=None):
    """The steps of an iteration of `train_ppo` on a given `ppo.Experience` -> their means.

    optimizer(model, lr): without one the weights stay, and the numbers are those of the first step.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "adam", optimizer or sgd(0.0))
        patch.setattr(ppo, "warm_up", lambda *_: lambda step, peak: peak)
        patch.setattr(ppo, "sample", lambda *_, **__: batch.rollout)
        patch.setattr(ppo, "rollout_log_probs", lambda *_, entropy=False: (batch.log_probs,) * 2 if entropy
                      else batch.log_probs)
        patch.setattr(ppo, "rollout_values", lambda *_: batch.values)
        patch.setattr(ppo, "Experience", lambda *_: batch)
        patch.setattr(ppo, "measured", lambda *_: {})
        patch.setattr(distributed, "gather", lambda *columns: columns)  # all processes are given the whole batch
        patch.setattr(training.Loop, "guard_kl", lambda *_: None)
        run = ppo.train_ppo(policy, models.copy_model(policy, trainable=False), critic, [[BEGIN]],
                            replace(config, iterations=1), lambda rollout: torch.zeros(len(rollout.sequences)),
                            pretraining, progress=False)
    return run.history[0]


class Still(torch.optim.SGD):
    """Takes no step, and leaves the gradients where they are."""

    def __init__(self, model, *_):
        super().__init__(model.parameters(), lr=0.0)

    def step(self, closure=None):
        pass

    def zero_grad(self, set_to_none=True):
        pass


def ppo_gradients(policy, critic, batch, rows, config, pretraining=None):
    """The gradients of one minibatch of `train_ppo`, left in the models -> its losses and statistics."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Loop, "minibatches", lambda *_: [np.asarray(rows)])
        means = update(policy, critic, batch, replace(config, max_grad_norm=math.inf), Still, pretraining)
    return {name: number for name, number in means.items() if name != "grad_norm"}


def sft_gradients(policy, examples, config):
    """The gradient of one step of `train_sft` on all examples, without dropout, left in the policy -> the loss."""
    config = replace(config, epochs=1, batch_size=len(examples), max_grad_norm=math.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "adam", Still)
        patch.setattr(sft, "residual_dropout", lambda *_: nullcontext())
        return sft.train_sft(policy, examples, config, progress=False)[0]["train_loss"]


def reward_gradients(model, rankings, config):
    """The gradient of one step of `train_reward` on all rankings, also those without a pair -> (loss, accuracy)."""
    config = replace(config, epochs=1, batch_prompts=len(rankings), max_grad_norm=math.inf)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "adam", Still)
        patch.setattr(reward, "check_rankings", lambda model, rankings, config: rankings)
        [entry] = reward.train_reward(model, rankings, config, progress=False)
    return entry["loss"], entry["accuracy"]


@contextmanager
def optimizer_steps():
    """Learning rate and gradients of every optimizer step taken inside: a list of (number, {parameter: gradient})."""
    steps = []

    def note(optimizer, arguments, keywords):
        steps.append((optimizer.param_groups[0]["lr"],
                      {p: p.grad.clone() for group in optimizer.param_groups for p in group["params"]}))

    handle = register_optimizer_step_pre_hook(note)
    try:
        yield steps
    finally:
        handle.remove()


def norm(*gradients):
    """Of the gradients of some optimizers together, as `optimizer_steps` notes them."""
    return torch.cat([g.flatten() for of_one in gradients for g in of_one.values()]).norm().item()


def same_step(step, policy, begun, loss):
    """One of `optimizer_steps` had, for `policy`, the gradients of a loss of `begun`, the policy before: to norm 1."""
    expected = torch.autograd.grad(loss, list(begun.parameters()))
    length = torch.cat([g.flatten() for g in expected]).norm().item()
    assert sum(g.abs().sum() for g in step[1].values()) > 1e-3
    for parameter, gradient in zip(policy.parameters(), expected, strict=True):
        assert torch.allclose(step[1][parameter], gradient / max(1.0, length), rtol=1e-3, atol=1e-5)
