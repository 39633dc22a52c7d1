"""How do time and memory grow? Each dial is turned, everything else stays, and the slope is taken in logarithms.

An exponent of 1: twice as much takes twice as long. Below 1, something fixed is being shared; above 1, it pays to ask
why. Every point is a process of its own, because a process never gives back its peak of memory.
"""

import numpy as np
import torch

from benchmarks.clock import timed
from benchmarks.ours import never_ending
from benchmarks.sides import Side, spread
from rlhf_lite import models, ppo, reward
from rlhf_lite.experiment import machine
from rlhf_lite.models import BEGIN, END, copy_model

START = {"size": "1.3m", "prompts": 64, "tokens": 20, "answers": 4, "rankings": 64}
DIALS = {"prompts per step": ("ppo", "prompts", (32, 64, 128, 256)),
         "answer length": ("ppo", "tokens", (10, 20, 40, 80)), "model size": ("ppo", "size", ("tiny", "1.3m", "6m")),
         "answers per ranking": ("reward", "answers", (2, 4, 8, 16)),
         "rankings": ("reward", "rankings", (32, 64, 128, 256))}


def measure(job, dial):
    """-> {"points": [{"at", "wall", "cpu", "bytes"}], "exponents": {"wall", "cpu", "bytes"}} of one dial."""
    plan, (method, name, values) = job.settings, DIALS[dial]
    points = []
    for value in values[:2] if plan.toy else values:
        job.check()
        point = START | ({"size": "tiny", "prompts": 4, "tokens": 4, "rankings": 4} if plan.toy else {}) | {name: value}
        with Side("benchmarks.growth", {"method": method, "threads": plan.threads, **point},
                  plan.out / "logs" / "growth.txt", plan.threads) as side:
            times = [side.once() for _ in range(2 if plan.toy else 4)][1:]  # the first warms up
        at = models.parameter_count(models.new_policy(value, 0)) if name == "size" else value
        points.append({"at": at, **{clock: spread([found[clock] for found in times]) for clock in ("wall", "cpu")},
                       "bytes": times[-1]["bytes"]})
        job.report(points=points)
    return {"points": points, "exponents": {
        clock: exponent([point["at"] for point in points], [point[clock]["value"] for point in points])
        for clock in ("wall", "cpu")} | {"bytes": exponent([p["at"] for p in points], [p["bytes"] for p in points])}}


def exponent(sizes, costs):
    """The slope of log cost over log size; for bytes that did not grow at all, 0."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(costs, 1e-9)), 1)[0])


# ---------------------------------------------------------------- in the process of a point

def prepare(method, size, prompts, tokens, answers, rankings, threads=1):
    """A function that does the work once, with random weights and ids; "bytes": by how much the peak has risen."""
    torch.set_num_threads(threads)
    policy, rng = models.new_policy(size, 0), np.random.default_rng(0)
    policy.config.special_ids = never_ending(policy)
    judge = models.scalar_from_policy(policy, 0)

    def words(count):
        return rng.integers(3, policy.config.vocab_size, count).tolist()

    if method == "ppo":
        asked = [[BEGIN, *words(14)] for _ in range(prompts)]
        config = ppo.PPOConfig(iterations=1, batch_size=prompts, minibatch=max(1, prompts // 4), max_new_tokens=tokens,
                               warmup_iterations=0, lr=1e-6, critic_lr=1e-6)
        reference = copy_model(policy, trainable=False)

        def work():
            ppo.train_ppo(copy_model(policy), reference, copy_model(judge), asked, config, judge, progress=False)
    else:
        ranked = [reward.RankedPrompt([BEGIN, *words(14)], [[*words(tokens), END] for _ in range(answers)],
                                      list(range(answers))) for _ in range(rankings)]
        config = reward.RewardConfig(batch_prompts=16, lr=1e-6)

        def work():
            reward.train_reward(copy_model(judge), ranked, config, progress=False)

    before = machine.peak_memory()
    return lambda: timed(work) | {"bytes": machine.peak_memory() - before}
