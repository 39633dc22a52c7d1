"""How near is an iteration of PPO to what the processor could do? Where does its time go?

The floor of a phase is its operations, counted from the tokens that are there (padding does not count), over the rate
of this processor's matrix products, measured in the same minute. What Python costs is measured apart: the same calls on
models of the same depth that are so narrow that there is nothing to multiply.

Nothing ends an answer here, so every iteration has the same tokens. The phases are timed in `train_ppo` itself.
"""

import contextlib
import copy
import time
from unittest import mock

import numpy as np
import torch

from benchmarks.ours import never_ending
from benchmarks.sides import spread
from rlhf_lite import models, ppo, training
from rlhf_lite.models import BEGIN, copy_model

PROMPT = 15  # tokens, as the town's prompts have
PHASES = {"sampling": ("sample",), "scoring": ("rollout_log_probs", "rollout_values", "rollout_scores"),
          "update": ("response_log_probs", "response_values", "backward"), "optimizer": ("step",),
          "average": ("move_average",)}
SIZES = {"tiny": (8, 4, 6), "1.3m": (128, 32, 40), "6m": (64, 32, 40)}  # answers, minibatch, tokens of an answer


def measure(job, size):
    """-> seconds of each phase, its floor, their ratio, and the seconds that are Python's."""
    torch.set_num_threads(job.settings.threads)
    policy, (answers, minibatch, tokens) = models.new_policy(size, 0), SIZES[size]
    rates, phases = [], []
    narrow = [one_iteration(narrow_model(policy), answers, minibatch, tokens) for _ in range(2)][-1]
    one_iteration(policy, answers, minibatch, tokens)  # warms up
    for number in range(1 if job.settings.toy else 5):
        rates.append(matrix_rate())
        phases.append(one_iteration(policy, answers, minibatch, tokens))
        job.report(rounds=number + 1)
    needed, rate = operations(policy, answers, tokens), spread(rates)
    seconds = {name: spread([found[name] for found in phases]) for name in phases[0]}
    floors = {name: count / rate["value"] for name, count in needed.items()}
    return {"rate": rate, "seconds_of": seconds, "floors": floors, "calls": narrow, "operations": needed,
            "ratios": {name: spread([floors[name] / found[name] for found in phases]) for name in floors}}


def matrix_rate(n=768):
    """Floating-point operations per second of a square matrix product, the best of a few."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    best = float("inf")
    for _ in range(6):
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def narrow_model(policy):
    """A policy of the same depth with next to no width: what takes time in it is not arithmetic."""
    config = copy.deepcopy(policy.config)
    config.hidden_size, config.intermediate_size, config.vocab_size, config.head_dim = 8, 8, 64, 4
    config.num_attention_heads = config.num_key_value_heads = 2
    with torch.random.fork_rng(devices=[]):
        return type(policy)(config).eval()


# ---------------------------------------------------------------- the time of each phase

def one_iteration(policy, answers, minibatch, tokens):
    """{phase: seconds} of one iteration of `train_ppo` with four models like this one; "rest" is what is left."""
    learner, judge = copy_model(policy), models.scalar_from_policy(policy, 0)
    for model in (learner, judge):
        model.config.special_ids = never_ending(model)
    ids = np.random.default_rng(0).integers(3, policy.config.vocab_size, (answers, PROMPT - 1))
    config = ppo.PPOConfig(iterations=1, batch_size=answers, minibatch=minibatch, max_new_tokens=tokens,
                           warmup_iterations=0, lr=1e-6, critic_lr=1e-6)
    with timing() as spent:
        started = time.perf_counter()
        run = ppo.train_ppo(learner, copy_model(learner, trainable=False), copy_model(judge),
                            [[BEGIN, *row] for row in ids.tolist()], config, judge, progress=False)
        whole = time.perf_counter() - started
    del run
    return spent | {"rest": whole - sum(spent.values())}


@contextlib.contextmanager
def timing():
    """Within the block, {phase: seconds} of the functions in PHASES; of one that calls another, the outer counts."""
    spent, inside = dict.fromkeys(PHASES, 0.0), []

    def clocked(function, phase):
        def call(*arguments, **options):
            if inside:
                return function(*arguments, **options)
            inside.append(phase)
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[phase] += time.perf_counter() - started
                inside.pop()
        return call

    with contextlib.ExitStack() as stack:
        for phase, names in PHASES.items():
            for name in names:
                owner = training.Loop if hasattr(training.Loop, name) else ppo
                stack.enter_context(mock.patch.object(owner, name, clocked(getattr(owner, name), phase)))
        yield spent


# ---------------------------------------------------------------- the floor

def operations(policy, answers, tokens):
    """{phase: multiplications and additions} that cannot be avoided with four full models, in one inner epoch."""
    config, rows = policy.config, answers * (PROMPT + tokens)
    head = 2 * config.hidden_size * config.vocab_size * answers * tokens  # logits only where a token is chosen
    body = sum(p.numel() for p in policy.base_model.parameters() if p.ndim == 2) - policy.get_input_embeddings(
        ).weight.numel()
    width = config.num_attention_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    attention = 2 * config.num_hidden_layers * width * (PROMPT + tokens) * rows  # half of the square, two products
    forward = 2 * body * rows + attention
    return {"sampling": forward + head, "scoring": 4 * forward + 2 * head, "update": 3 * (2 * forward + head)}
