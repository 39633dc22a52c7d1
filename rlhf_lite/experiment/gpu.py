"""Everything that waits for a GPU, in one call: `python -m rlhf_lite gpu --minutes 8 --out runs/gpu`.

A list of measurements (at the end), each a function with a share of the time; `measuring` runs them one by one. All
processor cores but two write web text meanwhile. In `out` there are then at most eight small files: gpu.json, the base
models of 1.3M and 6M, and the answers of one of 175M, which is itself too large to bring home.

With --toy the same functions run at the smallest size, on the CPU if need be. A test does that, so that on a GPU only
the GPU can fail. Nothing here has run on a GPU until data/results/gpu.json says so.
"""

import copy
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from rlhf_lite import checkpoints, files, models, pretrain
from rlhf_lite.experiment import base_model, devices, evaluate, machine, measuring, results
from rlhf_lite.experiment import doctor as checks
from rlhf_lite.experiment.devices import is_gpu, peak_gb
from rlhf_lite.experiment.measuring import Measurement, OutOfTime, Skip

GOAL = {"1.3m": 500_000_000, "6m": 500_000_000, "175m": 100_000_000}  # tokens to read, if the time suffices
# Rows of 256 tokens per step: a GPU wants large batches. A guess, as is using the learning rates of small batches.
ROWS = {"1.3m": 512, "6m": 256, "175m": 64}
SHARD, TEXT_SEED = 1_000_000, 1000  # tokens per file of text; the files' seeds, which nothing else uses
NOTEBOOK = files.DATA.parent / "solutions" / "09_the_real_thing.py"


class Plan(NamedTuple):
    """What all measurements share."""

    device: str
    toy: bool
    out: Path  # what comes back
    work: Path  # text, and the model that is too large to come back
    shapes: dict  # {name: transformers config} of the models whose speed is measured


def _tokenizer():
    return models.load_tokenizer(files.MODELS / "tokenizer")


# ---------------------------------------------------------------- text, written while the GPU computes

def write_text(folder, first, step, shards, tokens):
    """Write shards first, first + step, ... of fresh web text, each a file of packed rows: one process's share."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there are processes enough
    tokenizer = _tokenizer()
    for number in range(first, shards, step):
        if measuring.orphaned():
            return
        rows = base_model.web_rows(tokenizer, tokens, seed=TEXT_SEED + number)
        with files.whole_file(folder / f"{number:04d}.safetensors") as new:
            save_file({"rows": rows}, new)


def read_text(folder, tokens, wait):
    """`tokens` tokens of packed rows, or as many as are there after `wait` seconds: (n, 256) uint16."""
    end, shards = time.monotonic() + wait, {}
    while True:
        for path in sorted(folder.glob("*.safetensors")):
            if path not in shards and sum(rows.size for rows in shards.values()) < tokens:
                shards[path] = load_file(path)["rows"]
        if sum(rows.size for rows in shards.values()) >= tokens or time.monotonic() > end and shards:
            return np.concatenate(list(shards.values()))
        if time.monotonic() > end + 60:
            raise RuntimeError("No text has been written; do the processes that write it start?")
        time.sleep(0.2)


# ---------------------------------------------------------------- the measurements

def doctor(job):
    """Versions, the device, whether the shipped models are whole, and how fast a large matrix product is."""
    device = job.settings.device
    job.report(versions=machine.versions(), cores=os.cpu_count(), machine=platform.machine(),
               doctor=[str(finding) for finding in checks.this_machine() + checks.shipped_models()])
    if is_gpu(device):
        properties = torch.cuda.get_device_properties(device)
        job.report(name=properties.name, memory_gb=round(properties.total_memory / 1e9, 1), cuda=torch.version.cuda)
    n = 256 if job.settings.toy else 8192
    matrix = torch.randn(n, n, device=device).bfloat16()
    for _ in range(2):  # the first time warms up
        peak_gb(device)
        started = time.monotonic()
        for _ in range(10):
            matrix @ matrix
        peak_gb(device)
        seconds = time.monotonic() - started
    return {"bf16_tflops": round(20 * n**3 / max(seconds, 1e-9) / 1e12, 1)}


def base(job, name):
    """Pretrain a base model on as much fresh text as the time allows, and save it."""
    plan, size = job.settings, "tiny" if job.settings.toy else name
    goal, tokenizer = (6_000 if plan.toy else GOAL[name]), _tokenizer()
    rows = read_text(plan.work / "text", goal, job.left() / 4)
    policy = models.new_policy(size, 0).to(plan.device)
    config = pretrain.PretrainConfig(
        batch_size=4 if plan.toy else ROWS[name], lr=base_model.LEARNING_RATES[size][0],
        adamw_lr=base_model.LEARNING_RATES[size][1], bf16=is_gpu(plan.device), save_every=10**9)
    config, seconds = fastest(policy, rows, config, goal, job)
    batch = config.batch_size * rows.shape[1]
    steps = max(1, int(min(len(rows) // config.batch_size, goal / batch, 0.9 * job.left() / seconds)))
    config = replace(config, steps=steps, warmup=min(100, steps // 10 + 1))
    job.report(text_tokens=rows.size, planned_tokens=steps * batch, step_seconds=seconds, compiled=config.compile)
    curve, unseen = [], base_model.web_rows(tokenizer, 16_384, seed=base_model.HELD_OUT_SEED)

    def look(policy, step):
        curve.append([step * batch, round(pretrain.evaluate_lm(policy, unseen), 4)])
        job.report(curve=curve)  # tokens, and the loss on text it has not seen
        job.check()
        return {}

    started, stopped = time.monotonic(), False
    try:
        pretrain.train(policy, rows, config, evaluate=look, evaluate_every=max(1, int(5 / seconds)), progress=False)
    except OutOfTime:  # slower than at first: keep what it has learnt, though its learning rate has not come down
        config, stopped = replace(config, steps=curve[-1][0] // batch), True
    trained = time.monotonic() - started
    card = base_model.base_card(policy, tokenizer, size, config, rows.shape[1]) | {
        "stopped_early": stopped, "tokens_per_second": round(config.steps * batch / trained),
        "minutes": round(trained / 60, 2), "peak_gb": peak_gb(plan.device), "bf16": config.bf16,
        "device": torch.cuda.get_device_name(plan.device) if is_gpu(plan.device) else "cpu",
        "command": f"python -m rlhf_lite gpu --only base_{name}",
        "data": f"simulated web text of Pebbleford (town.web), seeds from {TEXT_SEED}; held-out text: seed 1"}
    place = plan.work if name == "175m" else plan.out
    return {"card": checkpoints.save_checkpoint(place / f"base-{name}", policy, card, torch.float16)}


def fastest(policy, rows, config, goal, job):
    """(config, seconds per step): compiled only where that is faster, and can win back the time it takes."""
    seconds = step_seconds(policy, rows, config)
    blocks = policy.config.num_hidden_layers
    price = 10 + 5 * blocks  # seconds to compile, a guess; compiled code is perhaps twice as fast
    needed = goal / (config.batch_size * rows.shape[1]) * seconds
    if config.bf16 and needed > job.left() > 2 * price:
        try:
            compiled = step_seconds(policy, rows, replace(config, compile=True))
        except Exception as error:  # no compiler, most likely
            job.report(compiling_failed=f"{type(error).__name__}: {error}"[:300])
        else:
            job.report(step_seconds_eager=seconds, step_seconds_compiled=compiled)
            if compiled < seconds:
                return replace(config, compile=True), compiled
    return config, seconds


def step_seconds(policy, rows, config, steps=5):
    """The median time of a step, with the first ones (which compile and allocate) outvoted; the weights stay."""
    before, marks = copy.deepcopy(policy.state_dict()), [time.monotonic()]
    pretrain.train(policy, rows[:config.batch_size], replace(config, steps=steps), progress=False, evaluate_every=1,
                   evaluate=lambda *_: marks.append(time.monotonic()) or {})
    policy.load_state_dict(before)
    return statistics.median(b - a for a, b in zip(marks, marks[1:], strict=False))


def answers(job):
    """The 175M base, bare and few-shot prompted, answers the mixed test prompts: the rivals of row 1."""
    plan, folder = job.settings, job.settings.work / "base-175m"
    if not (folder / checkpoints.CARD).is_file():
        raise Skip("There is no 175M base model; see base_175m.")
    policy, found, recorded = checkpoints.load_policy(folder, plan.device), {}, []
    prompts = evaluate.test_sets()["mixed"][:4 if plan.toy else None]
    for stage in evaluate.RECORDED.values():
        rows = evaluate.collect_answers(stage, policy, _tokenizer(), {"mixed": prompts}, seed=100, progress=False)
        recorded += rows
        found[stage] = evaluate.summarise(rows)
        job.report(answers=len(rows), stages=found)
    results.write_recorded(recorded, plan.out / evaluate.RECORDED_ANSWERS.name)
    return {"file": evaluate.RECORDED_ANSWERS.name}


def notebook(job):
    """Notebook 09 at full length on the model of the wheel, as a script, whose every line is kept."""
    settings = {"RLHF_LITE_FAST": str(int(job.settings.toy)), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1",
                "PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg", "TQDM_DISABLE": "1"}
    log = job.settings.work / "notebook.txt"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen([sys.executable, str(NOTEBOOK)], cwd=files.DATA.parent, stdout=output,
                                   stderr=subprocess.STDOUT, env=os.environ | settings)
    try:
        while process.poll() is None:
            time.sleep(2)
            said = log.read_text(encoding="utf-8", errors="replace").splitlines()
            if any(line.startswith("Stand-in: the town's base model") for line in said):
                raise Skip("Its model is not on this machine: " + " ".join(said[-3:]))
            job.report(printed=said[-150:])
            job.check()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise RuntimeError("The notebook failed; see the end of `printed`.")
    return {"printed": log.read_text(encoding="utf-8", errors="replace").splitlines()[-150:]}


# name, share of the time (seconds of eight minutes), function; the text is being written from the first of them on
MEASUREMENTS = (
    Measurement("doctor", 15, doctor),
    Measurement("agreement", 30, devices.agreement),
    Measurement("speed", 45, devices.speed),
    Measurement("base_175m", 170, partial(base, name="175m")),
    Measurement("answers_175m", 25, answers),
    Measurement("base_1.3m", 80, partial(base, name="1.3m")),
    Measurement("base_6m", 100, partial(base, name="6m")),
    Measurement("notebook_09", 15, notebook),
)


def start_cuda():
    """A probe for `measuring.processes`: fails in a process in which the GPU cannot be used."""
    torch.zeros(1, device="cuda").item()


def measure_gpu(device, minutes, out, shapes, toy=False, only=()):
    """Run the measurements into the folder `out`; returns the content of gpu.json there."""
    device, out, started = models.pick_device(device), Path(out).resolve(), time.monotonic()
    if not toy and not is_gpu(device):
        raise ValueError("There is no GPU here; with --toy the same measurements run on the CPU at toy size.")
    if minutes <= 0:
        raise ValueError(f"--minutes is {minutes}; it must be above 0.")
    if unknown := set(only) - {m.name for m in MEASUREMENTS}:
        raise ValueError(f"There is no measurement {min(unknown)!r}; choose from: "
                         f"{', '.join(m.name for m in MEASUREMENTS)}.")
    if files.read_json(out / "gpu.json", {"toy": toy}).get("toy") != toy:
        raise ValueError(f"{out} holds a {'real' if toy else 'toy'} run; choose another folder with --out.")
    context = measuring.processes(start_cuda if is_gpu(device) else None, [__name__])
    shards, tokens = (2, 4_000) if toy else (max(GOAL.values()) // SHARD + 1, SHARD)
    writers = 1 if toy else max(1, (os.cpu_count() or 1) - 2)
    with tempfile.TemporaryDirectory(prefix="rlhf_lite-gpu-") as work:
        plan = Plan(str(device), toy, out, Path(work), {"tiny": models.new_policy("tiny", 0).config} if toy else shapes)
        (plan.work / "text").mkdir()
        processes = [context.Process(target=write_text, args=(plan.work / "text", first, writers, shards, tokens),
                                     daemon=True) for first in range(writers)]
        try:
            for process in processes:
                process.start()
            about = {"toy": toy, "device": str(device), "command": f"python -m rlhf_lite gpu --minutes {minutes:g}"
                     + " --toy" * toy + " --only" * bool(only) + "".join(f" {name}" for name in only)}
            return measuring.measure_all(MEASUREMENTS, plan, 60 * minutes - (time.monotonic() - started),
                                         out / "gpu.json", context, about, only)
        finally:
            for process in processes:
                process.kill()
                process.join(5)
