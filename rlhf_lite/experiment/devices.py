"""Does another device train as the CPU does, and how fast is it?

Two measurements for `gpu`. The first runs PPO on both devices, from the same weights and with the same answers. The
second takes the time and the memory of sampling, of SFT and of PPO, with random weights, up to a billion of them.

Left out: several devices at once.
"""

import time
from contextlib import nullcontext
from dataclasses import replace
from unittest import mock

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from rlhf_lite import checkpoints, files, models, ppo, sampling, sft
from rlhf_lite.experiment import base_model, data, machine
from rlhf_lite.town.prompts import make_prompts

# train_ppo on two devices, in float32 and from the same answers: every number in the history may differ by a hundredth
# of itself and a thousandth; the weights by a twentieth of the way they have gone. Adam divides by the size of a
# gradient, so where that is nearly 0, rounding decides the direction of a step.
RELATIVE, ABSOLUTE, WEIGHTS = 0.01, 0.001, 0.05
DIFFERS = ("seconds", "clipfrac")  # need not agree: the clock, and a count that rounding can push over the clip


def is_gpu(device):
    return torch.device(device).type == "cuda"


def _products(device):
    """Matrix products in bfloat16 on a GPU, as in all stages."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if is_gpu(device) else nullcontext()


def peak_gb(device):
    """The most memory in use since the last call, in GB: the device's, or on a CPU this process's so far."""
    if not is_gpu(device):
        return round(machine.peak_memory() / 1e9, 3)
    torch.cuda.synchronize(device)
    most = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return round(most / 1e9, 3)


# ---------------------------------------------------------------- the same training on two devices

def agreement(job):
    """`train_ppo` on the CPU and on the device: the same weights, seed and answers must give the same training.

    The answers are the CPU's on both: the sampler's random numbers differ between devices, and so would everything
    after them. "bf16" is the device again with products in bfloat16, as it really trains; no tolerance is set for it.
    """
    plan, tokenizer = job.settings, models.load_tokenizer(files.MODELS / "tokenizer")
    torch.set_num_threads(min(2, torch.get_num_threads()))  # the other cores write text
    prompts = data.encoded(tokenizer, make_prompts(n=8 if plan.toy else 64))
    found = {}
    for size in ("tiny",) if plan.toy else ("tiny", "1.3m"):
        if size == "tiny":
            policy = models.new_policy(size, 0)
            judge = models.scalar_from_policy(policy, 0)
        else:
            policy = checkpoints.load_policy(base_model.shipped("sft", size))
            judge = checkpoints.load_scalar(base_model.shipped("reward", size))
        config = ppo.PPOConfig(iterations=3, batch_size=len(prompts) // 2, minibatch=len(prompts) // 8, lr=1e-4,
                               max_new_tokens=24, warmup_iterations=0)
        here, answers = train_with(policy, judge, prompts, config, "cpu")
        there, _ = train_with(policy, judge, prompts, config, plan.device, answers)
        rough, _ = train_with(policy, judge, prompts, replace(config, bf16=True), plan.device, answers)
        found[size] = {"float32": compare(here, there, policy), "bf16": compare(here, rough, policy)}
        job.report(sizes=found)
    return {"all_within": all(entry["float32"]["within"] for entry in found.values()),
            "tolerance": {"history": f"{RELATIVE} of the number + {ABSOLUTE}", "weights": f"{WEIGHTS} of the way"}}


def train_with(policy, judge, prompts, config, device, answers=None):
    """PPO on a device -> ((history, weights), rollouts); with `answers`, these rollouts take the place of sampling."""
    seen = []

    def sample(*arguments, **options):
        seen.append(on_device(answers[len(seen)], device) if answers else sampling.sample(*arguments, **options))
        return seen[-1]

    start, judge = models.copy_model(policy).to(device), models.copy_model(judge).to(device)
    with mock.patch.object(ppo, "sample", sample):
        run = ppo.train_ppo(start, models.copy_model(start, trainable=False), models.copy_model(judge), prompts, config,
                            judge, progress=False)
    return (run.history, flat(start)), seen


def on_device(rollout, device):
    """A copy of a rollout with its tensors on a device."""
    return replace(rollout, **{name: value.to(device) for name, value in vars(rollout).items()
                               if isinstance(value, torch.Tensor)})


def flat(model):
    """All weights as one vector on the CPU."""
    return torch.cat([p.detach().float().flatten().cpu() for p in model.parameters()])


def compare(here, there, start):
    """How far two trainings from the same start are apart, in units of the tolerance: 1 is just within it."""
    apart = {}
    for a, b in zip(here[0], there[0], strict=True):
        for name in a.keys() - set(DIFFERS):
            apart[name] = max(apart.get(name, 0.0), abs(a[name] - b[name]) / (RELATIVE * abs(a[name]) + ABSOLUTE))
    worst = max(apart, key=apart.get)
    weights = ((here[1] - there[1]).norm() / (here[1] - flat(start)).norm()).item()
    return {"worst": worst, "history": apart[worst], "weights": weights / WEIGHTS,
            "within": bool(apart[worst] <= 1 and weights <= WEIGHTS)}


# ---------------------------------------------------------------- how fast

def speed(job):
    """Tokens per second and peak memory of sampling, of an SFT step and of an iteration of PPO, with random weights."""
    plan, found = job.settings, {}
    for name, config in plan.shapes.items():
        job.check()
        try:
            found[name] = speed_of(config, plan.device, *((4, 8, 4) if plan.toy else (32, 96, 48)))
        except torch.OutOfMemoryError as error:
            found[name] = {"why": str(error).splitlines()[0]}
        if is_gpu(plan.device):
            torch.cuda.empty_cache()
        job.report(sizes=found)
    return {"sizes": found}


def speed_of(config, device, rows, prompt, response):
    """-> {"parameters", "sample", "sft", "ppo", ...}: tokens per second (of PPO: of the answers), and "..._gb"."""
    with torch.device(device):
        policy = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    ids = np.random.default_rng(0).integers(3, config.vocab_size, (rows, prompt)).tolist()
    found, bf16 = {"parameters": models.parameter_count(policy)}, is_gpu(device)
    peak_gb(device)
    for _ in range(2):  # the first time warms up
        started = time.monotonic()
        with _products(device):
            rollout = sampling.sample(policy, ids, response, generator=torch.Generator(device).manual_seed(0))
        tokens = int(rollout.lengths.sum())  # which also waits for the device
        found["sample"] = round(tokens / (time.monotonic() - started))
    found["sample_gb"], marks = peak_gb(device), []
    examples = [sft.build_example(a, b) for a, b in zip(ids, rollout.response_ids(), strict=True)]
    sft.train_sft(policy, examples, sft.SFTConfig(epochs=3, batch_size=rows, lr=1e-6, bf16=bf16), progress=False,
                  evaluate=lambda *_: marks.append(time.monotonic()) or {})
    found["sft"] = round((tokens + rows * prompt) / (marks[-1] - marks[-2]))
    policy.zero_grad(set_to_none=True)
    found["sft_gb"] = peak_gb(device)
    judge = models.scalar_from_policy(policy, 0)
    settings = ppo.PPOConfig(iterations=2, batch_size=rows, minibatch=max(1, rows // 2), lr=1e-6, critic_lr=1e-6,
                             max_new_tokens=response, bf16=bf16)
    run = ppo.train_ppo(policy, models.copy_model(policy, trainable=False), models.copy_model(judge), ids, settings,
                        judge, progress=False)
    found["ppo"] = round(run.history[-1]["length"] * rows / run.history[-1]["seconds"])
    return found | {"ppo_gb": peak_gb(device)}
