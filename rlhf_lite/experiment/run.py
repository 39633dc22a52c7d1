"""The whole pipeline, one step after another: what `make run` does.

demonstrations -> SFT -> rankings of its answers -> first reward model -> first PPO -> rankings of its answers -> reward
model -> gate (best-of-n) -> PPO and PPO-ptx -> evaluation -> report. Every step writes its result to ``runs/<name>/``
and is skipped if the result is already there, so an interrupted run resumes where it stopped; within a step, the
learning code resumes from its own training state.
"""

import json
import shutil
import time
from pathlib import Path

import torch

from rlhf_lite import checkpoints, feedback, files, models
from rlhf_lite.experiment import base_model, data, evaluate, machine, results, stages
from rlhf_lite.experiment.answers import answer_rows, rank_answers
from rlhf_lite.experiment.recipe import recipe_settings
from rlhf_lite.experiment.report import write_report
from rlhf_lite.experiment.temperatures import at, best_temperature, temperature_curve
from rlhf_lite.files import read_json, write_json
from rlhf_lite.stats import mean_interval
from rlhf_lite.town import labelers

RUNS = Path("runs")


class Run:
    """A folder of results, the recipe that made them, and the minutes each step took."""

    def __init__(self, recipe, name, device="auto", runs=RUNS, progress=True, new=True):
        """With ``new=False`` the run must already exist, so that a mistyped name does not make a folder."""
        self.recipe, self.name, self.folder, self.progress = recipe, name, Path(runs) / name, progress
        self.device = models.pick_device(device)
        if not new and not (self.folder / "recipe.json").is_file():
            raise ValueError(f"There is no run in {self.folder.resolve()}; start it with: python -m rlhf_lite run "
                             f"--name {name}")
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted, found = recipe_settings(recipe), read_json(self.folder / "recipe.json")
        wanted = json.loads(json.dumps(wanted))
        if found is not None and found != wanted:
            changed = sorted(k for k in wanted if found.get(k) != wanted[k])
            raise ValueError(f"{self.folder} contains a run with other settings ({', '.join(changed)}); choose another "
                             "NAME or delete that folder.")
        write_json(self.folder / "recipe.json", wanted)
        self.tokenizer = models.load_tokenizer(files.MODELS / "tokenizer")

    def step(self, name, output, make):
        """Call ``make()`` unless ``output`` already exists; record the minutes it took and the peak memory."""
        if (self.folder / output).exists():
            return
        if self.progress:
            print(f"[{self.name}] {name}", flush=True)
        started = time.perf_counter()
        make()
        minutes = read_json(self.folder / "minutes.json", {})
        minutes[name] = round(minutes.get(name, 0) + (time.perf_counter() - started) / 60, 3)
        write_json(self.folder / "minutes.json", minutes)
        # The peak of this process so far; if a run was interrupted, the largest of its processes counts.
        peak = {"cpu_gib": machine.peak_memory() / 2**30}
        if self.device.type == "cuda":
            peak["gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        before = read_json(self.folder / "memory.json", {})
        write_json(self.folder / "memory.json", {k: round(max(v, before.get(k, 0)), 2) for k, v in peak.items()})

    def save_model(self, stage, model, history, **card):
        """Save the checkpoint, card and history of a stage; delete its training state, which is no longer needed."""
        checkpoints.save_checkpoint(self.folder / stage, model, {
            "stage": stage, "size": self.recipe.size, "seed": self.recipe.seed, "data": "Pebbleford (simulated town)",
            "command": f"python -m rlhf_lite run --size {self.recipe.size} --seed {self.recipe.seed}", **card})
        write_json(self.folder / stage / "history.json", history)
        shutil.rmtree(self.folder / "state" / stage, ignore_errors=True)

    def policy(self, stage):
        """The policy of a stage; "base" and "prompted" are the base model of this size, the rivals the 6M one."""
        own = self.recipe.size
        size = {"base": own, "prompted": own, "rival": "6m", "rival_prompted": "6m"}.get(stage)
        folder = base_model.base_folder(size, self.folder.parent) if size else self.folder / stage
        return checkpoints.load_policy(folder, self.device)


# ---------------------------------------------------------------- the steps

def make_base(run, folder):
    """Pretrain a base model that is neither shipped nor made yet; all runs of this size will use it."""
    size, gpu = run.recipe.size, run.device.type == "cuda"
    base_model.make_base(size, device=run.device, folder=folder, state=folder.with_name(f".{folder.name}-state"),
                         compile=gpu, bf16=gpu, progress=run.progress)


def make_sft(run):
    policy, tokenizer = base_model.load_base(run.recipe.size, run.device, run.folder.parent)
    history = stages.run_sft(policy, tokenizer, run.recipe, run.folder / "state" / "sft", run.progress)
    run.save_model("sft", policy, history, valid_loss=history[-1]["valid_loss"])


def make_rankings(run, stage, round):
    """Let the simulated training team rank a stage's answers: SFT's in round 1, the first PPO's in round 2.

    Round 1 uses the first prompts and round 2 the others ("more comparison data is collected on the current best
    policy", section 3.1).
    """
    recipe, team, policy = run.recipe, labelers.training_team(), run.policy(stage)
    for split, n, seed in (("valid", max(100, recipe.rankings // 12), 2), ("train", recipe.rankings, 1)):
        prompts, first = data.prompts_of(split, n), int(n * recipe.first_round)
        rows = rank_answers(policy, run.tokenizer, prompts[:first] if round == 1 else prompts[first:], team,
                            recipe, seed + 20 * (round - 1), stage.removeprefix("first_"), run.progress)
        files.write_text(run.folder / f"rankings-{round}-{split}.jsonl",
                         "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def rankings(folder, split):
    """The rankings in a run's folder: of both rounds, or only of the first if there is no second."""
    paths = [Path(folder) / f"rankings-{round}-{split}.jsonl" for round in (1, 2)]
    if not paths[0].is_file():
        raise ValueError(f"{paths[0]} is missing; finish the run first, with the command that started it.")
    return [row for path in paths if path.is_file()
            for row in feedback.read_jsonl(path, feedback.check_ranking, strict=True)[0]]


def reward_start(run):
    """The policy that the reward model starts from: the SFT model (section 3.5) of the reward model's size."""
    if run.recipe.reward_size == run.recipe.size:
        return run.policy("sft")
    policy, tokenizer = base_model.load_base(run.recipe.reward_size, run.device, run.folder.parent)
    stages.run_sft(policy, tokenizer, run.recipe, run.folder / "state" / "reward_sft", run.progress)
    return policy


def make_reward(run, stage="reward"):
    """Train a reward model on all rankings so far; the "first_reward" knows only round 1."""
    train, valid = rankings(run.folder, "train"), rankings(run.folder, "valid")
    model, history = stages.run_reward(reward_start(run), run.tokenizer, train, valid, run.recipe,
                                       run.folder / "state" / stage, run.progress)
    write_json(run.folder / f"{stage}.json", results.measure_reward(model, run.tokenizer, valid))
    run.save_model(stage, model, history, size=run.recipe.reward_size, rankings=len(train),
                   valid_accuracy=history[-1]["valid_accuracy"])


def make_gate(run):
    """Measure the true score of best-of-n under the reward model: PPO is worth running only if it rises with n."""
    policy = run.policy("sft")
    model = checkpoints.load_scalar(run.folder / "reward", run.device)
    prompts = data.prompts_of("valid", run.recipe.gate_prompts)
    curve = results.gate(policy, model, run.tokenizer, prompts, run.recipe.seed, run.progress)
    write_json(run.folder / "gate.json", curve)


def true_score_probe(tokenizer, prompts, seed=7):
    """A function for PPO's ``evaluate``: the true score on validation prompts, with its interval."""
    def probe(policy, iteration):
        rows = answer_rows(policy, tokenizer, prompts, seed=seed, progress=False)
        return {"true_score": evaluate.value(mean_interval([r["grade"].score for r in rows]))}
    return probe


def ppo_start(run):
    """The policy that PPO starts from: the first round's, if there was one (our choice; the paper does not say)."""
    return run.policy("first_ppo" if run.recipe.first_round < 1 else "sft")


def make_ppo(run, stage):
    """Train the first PPO, PPO or PPO-ptx, and keep the averaged weights (EMA 0.992, as in the paper)."""
    first = stage == "first_ppo"
    reward_model = checkpoints.load_scalar(run.folder / ("first_reward" if first else "reward"), run.device)
    probe = true_score_probe(run.tokenizer, data.prompts_of("valid", 40 if run.recipe.gate_prompts < 100 else 120))
    _, result = stages.run_ppo(
        run.policy("sft"), run.tokenizer, reward_model, run.recipe, ptx=stage == "ppo_ptx",
        start=None if first else ppo_start(run), folder=run.folder / "state" / stage, evaluate=probe,
        progress=run.progress, iterations=run.recipe.first_iterations if first else run.recipe.ppo.iterations)
    last = result.history[-1]
    run.save_model(stage, result.ema, result.history, iterations=len(result.history), kl=last["kl"],
                   proxy=last["score"])


def make_answers(run, stage):
    sets = evaluate.test_sets(run.recipe.test_prompts, run.recipe.stratum_prompts,
                              run.recipe.samples)
    policy = run.policy(stage)
    curve = temperature_curve(stage, policy, run.tokenizer, data.prompts_of("valid", run.recipe.gate_prompts),
                              seed=200 + run.recipe.seed, progress=run.progress)
    best = best_temperature(curve)
    rows = evaluate.collect_answers(stage, policy, run.tokenizer, sets, seed=100 + run.recipe.seed, best=at(best),
                                    progress=run.progress)
    extra = {"temperature": {"curve": curve, "best": best}}
    if stage not in ("prompted", "rival", "rival_prompted"):
        extra["tax"] = evaluate.tax(policy, run.tokenizer, progress=run.progress)
    if stage in ("sft", "ppo", "ppo_ptx"):
        kl = evaluate.kl_to_reference(policy, run.policy("sft"), run.tokenizer, rows)
        extra["kl"] = evaluate.value(mean_interval(kl))
    write_json(run.folder / "measured" / f"{stage}.json", extra)
    evaluate.save_answers(run.folder / "answers" / f"{stage}.jsonl", rows)


def ship(run, destination=None):
    """Copy a finished run's models to data/models in half precision, the form in which the repository ships them."""
    destination = Path(destination or files.MODELS)
    for stage in ("sft", "reward", "ppo", "ppo_ptx"):
        card = checkpoints.load_card(run.folder / stage)
        if card["size"] != run.recipe.size:  # a reward model of another size comes from its own run
            continue
        load = checkpoints.load_scalar if card["kind"] == "scalar" else checkpoints.load_policy
        for key in ("kind", "parameters", "dtype", "sha256", "config_sha256"):
            card.pop(key)
        folder = destination / f"{stage}-{card['size']}"
        checkpoints.save_checkpoint(folder, load(run.folder / stage), card, torch.float16)
    return destination


def run_pipeline(recipe, name, device="auto", runs=RUNS, progress=True, until=None):
    """Run every step, or those up to stage ``until``; returns the folder with results.json and report.html."""
    run = Run(recipe, name, device, runs, progress)
    folder = base_model.base_folder(recipe.size, runs)
    steps = [("base", folder.resolve() / checkpoints.CARD, lambda: make_base(run, folder)),
             ("sft", "sft/history.json", lambda: make_sft(run)),
             ("rankings", "rankings-1-train.jsonl", lambda: make_rankings(run, "sft", 1))]
    if recipe.first_round < 1:
        steps += [("first_reward", "first_reward/history.json", lambda: make_reward(run, "first_reward")),
                  ("first_ppo", "first_ppo/history.json", lambda: make_ppo(run, "first_ppo")),
                  ("rankings", "rankings-2-train.jsonl", lambda: make_rankings(run, "first_ppo", 2))]
    steps += [("reward", "reward/history.json", lambda: make_reward(run)),
              ("gate", "gate.json", lambda: make_gate(run)),
              ("ppo", "ppo/history.json", lambda: make_ppo(run, "ppo")),
              ("ppo_ptx", "ppo_ptx/history.json", lambda: make_ppo(run, "ppo_ptx"))]
    for name, output, make in steps:
        run.step(name, output, make)
        if name == until:
            return run.folder
    larger = recipe.size == "1.3m" and (base_model.shipped("base", "6m") / checkpoints.CARD).is_file()
    rivals = evaluate.RIVALS if larger else ()
    for stage in (*evaluate.STAGES, *rivals):
        run.step("answers", f"answers/{stage}.jsonl", lambda stage=stage: make_answers(run, stage))
    write_json(run.folder / "results.json", results.collect_results(run))
    write_report(run.folder)
    return run.folder
