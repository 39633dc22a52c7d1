"""The whole pipeline, one step after another: what `make run` does.

demonstrations -> SFT -> rankings of its answers -> first reward model -> first PPO -> rankings of its answers -> reward
model -> gate (best-of-n) -> PPO and PPO-ptx -> evaluation -> report. Every step writes its result to ``runs/<name>/``
and is skipped if all of it is there and whole (see `ledger`), so an interrupted run resumes where it stopped; within a
step, the learning code resumes from its own training state.
"""

import json
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

from rlhf_lite import checkpoints, feedback, files, locks, models, schemas
from rlhf_lite.experiment import base_model, domain, evaluate, ledger, machine, results, run_files, shipped, stages
from rlhf_lite.experiment.answers import answer_rows, rank_answers
from rlhf_lite.experiment.pebbleford import TOWN
from rlhf_lite.experiment.recipe import Recipe
from rlhf_lite.experiment.report import write_report
from rlhf_lite.experiment.temperatures import at, best_temperature, temperature_curve
from rlhf_lite.files import write_json
from rlhf_lite.stats import mean_interval

RUNS = Path("runs")


class Run:
    """A folder of results, the recipe that made them, and the minutes each step took."""

    def __init__(self, recipe, name, device="auto", runs=RUNS, progress=True, new=True, world=TOWN):
        """With ``new=False`` the run must already exist, so that a mistyped name does not make a folder."""
        self.recipe, self.name, self.folder, self.progress = recipe, name, Path(runs) / name, progress
        self.device, self.world = models.pick_device(device), world
        wanted, known = run_files.settings(recipe), (self.folder / "recipe.json").is_file()
        if not new and not known:
            raise ValueError(f"There is no run in {self.folder.resolve()}; start it with: "
                             + run_files.command("run", *run_files.dials(wanted, name)))
        self.folder.mkdir(parents=True, exist_ok=True)
        found = run_files.read_recipe(self.folder) if known else wanted
        if found != wanted:
            changed = sorted(k for k in wanted if found.get(k) != wanted[k])
            raise ValueError(f"{self.folder} contains a run with other settings ({', '.join(changed)}); choose another "
                             "NAME or delete that folder.")
        of_domain = None if world is TOWN else domain.record(world)
        run_files.check_domain(self.folder, known, of_domain)
        if not known:
            ledger.begin(self.folder, wanted)
            if of_domain:
                write_json(self.folder / "domain.json", of_domain)
        self.tokenizer = models.load_tokenizer(files.MODELS / "tokenizer")

    def command(self):
        """The command that makes this run."""
        if self.world is TOWN:
            return run_files.command("run", *run_files.dials(run_files.settings(self.recipe)))
        recipe = replace(self.recipe, reward_size=Recipe.reward_size)  # every model has one size, whatever --size
        return run_files.command("run", *run_files.dials(run_files.settings(recipe)), "--domain", self.world.source)

    def prompts(self, split, n=None):
        return self.world.prompts(split)[:n]

    def step(self, name, outputs, make):
        """Call ``make()`` unless all ``outputs`` are there and whole; record them, the minutes and the peak memory.

        Returns whether a file that was made before has become another one, so that later steps must be done again.
        """
        why = ledger.unfinished(self.folder, outputs)
        if why is None:
            ledger.adopt(self.folder, outputs)
            return False
        minutes, before = self.kept("minutes.json"), self.kept("memory.json")
        if self.progress:
            begun = any((self.folder / output).exists() for output in outputs)
            print(f"[{self.name}] {name}" + (f" again: {why}" if begun else ""), flush=True)
        ledger.set_aside(self.folder, outputs)
        started = time.perf_counter()
        make()
        changed = ledger.record(self.folder, outputs)
        name = name.split()[0]  # both rounds of rankings, and the answers of all stages, are counted together
        minutes[name] = round(minutes.get(name, 0) + (time.perf_counter() - started) / 60, 3)
        write_json(self.folder / "minutes.json", minutes)
        # The peak of this process so far; if a run was interrupted, the largest of its processes counts.
        peak = {"cpu_gib": machine.peak_memory() / 2**30}
        if self.device.type == "cuda":
            peak["gpu_gib"] = torch.cuda.max_memory_allocated() / 2**30
        write_json(self.folder / "memory.json", {k: round(max(v, before.get(k, 0)), 2) for k, v in peak.items()})
        return changed

    def kept(self, name):
        """minutes.json or memory.json; empty if there is none yet."""
        return run_files.read(self.folder / name) if (self.folder / name).is_file() else {}

    def save_model(self, stage, model, history, **card):
        """Save the checkpoint, card and history of a stage; delete its training state, which is no longer needed."""
        checkpoints.save_checkpoint(self.folder / stage, model, {
            "stage": stage, "size": self.recipe.size, "seed": self.recipe.seed, "command": self.command(),
            "data": "Pebbleford (simulated town)" if self.world is TOWN else self.world.name, **card})
        write_json(self.folder / stage / "history.json", history)
        shutil.rmtree(self.folder / "state" / stage, ignore_errors=True)

    def policy(self, stage):
        """The policy of a stage; "base" and "prompted" are the base model of this size, the rivals the 6M one."""
        own = self.recipe.size
        size = {"base": own, "prompted": own, "rival": "6m", "rival_prompted": "6m"}.get(stage)
        folder = base_model.base_folder(size, self.folder.parent, self.world) if size else self.folder / stage
        return checkpoints.load_policy(folder, self.device)


# ---------------------------------------------------------------- the steps

def make_base(run, folder):
    """Pretrain a base model that is neither shipped nor made yet; all runs of this size will use it."""
    size, gpu = run.recipe.size, run.device.type == "cuda"
    base_model.make_base(size, device=run.device, folder=folder, state=folder.with_name(f".{folder.name}-state"),
                         compile=gpu, bf16=gpu, progress=run.progress, world=run.world)


def make_sft(run):
    policy, tokenizer = base_model.load_base(run.recipe.size, run.device, run.folder.parent, run.world)
    history = stages.run_sft(policy, tokenizer, run.recipe, run.folder / "state" / "sft", run.progress, run.world)
    run.save_model("sft", policy, history, valid_loss=history[-1]["valid_loss"])


def make_rankings(run, stage, round):
    """Let the training team rank a stage's answers: SFT's in round 1, the first PPO's in round 2.

    Round 1 uses the first prompts and round 2 the others ("more comparison data is collected on the current best
    policy", section 3.1).
    """
    recipe, team, policy = run.recipe, run.world.team(), run.policy(stage)
    for split, n, seed in (("valid", max(100, recipe.rankings // 12), 2), ("train", recipe.rankings, 1)):
        prompts = run.prompts(split, n)
        first = int(len(prompts) * recipe.first_round)
        rows = rank_answers(policy, run.tokenizer, prompts[:first] if round == 1 else prompts[first:], team,
                            recipe, seed + 20 * (round - 1), stage.removeprefix("first_"), run.progress, run.world)
        files.write_text(run.folder / f"rankings-{round}-{split}.jsonl",
                         "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def rankings(folder, split):
    """The rankings in a run's folder: of both rounds, or only of the first if there is no second."""
    first, second = (f"rankings-{round}-{split}.jsonl" for round in (1, 2))
    names = [first, second] if (Path(folder) / second).is_file() or second in ledger.sums(folder) else [first]
    why = ledger.unfinished(folder, names)
    if why:
        raise ValueError(f"{why}; run the command that started the run again.")
    rows = [row for name in names
            for row in feedback.read_jsonl(Path(folder) / name, run_files.check_ranking, strict=True)[0]]
    twice = [prompt for prompt, count in Counter(row["prompt_id"] for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{Path(folder) / first} and its second round rank the prompt {schemas.shown(twice[0])} "
                         "twice; delete both files and run the command that started the run again.")
    return rows


def check_prompts(folder, rows, split, world=TOWN):
    """Raise ValueError unless all rankings are of the domain's prompts of that split, and are of their texts."""
    known = {prompt.id: prompt.text for prompt in world.prompts(split)}
    for row in rows:
        if known.get(row["prompt_id"]) != row["prompt"]:
            raise ValueError(f"The rankings in {folder} include {schemas.shown(row['prompt_id'])}, which is not one of "
                             f"the prompts for {split}; delete rankings-*.jsonl there and run the command that started "
                             "the run again.")


def reward_start(run):
    """The policy that the reward model starts from: the SFT model (section 3.5) of the reward model's size."""
    if run.recipe.reward_size == run.recipe.size:
        return run.policy("sft")
    policy, tokenizer = base_model.load_base(run.recipe.reward_size, run.device, run.folder.parent, run.world)
    stages.run_sft(policy, tokenizer, run.recipe, run.folder / "state" / "reward_sft", run.progress, run.world)
    return policy


def make_reward(run, stage="reward"):
    """Train a reward model on all rankings so far; the "first_reward" knows only round 1."""
    train, valid = rankings(run.folder, "train"), rankings(run.folder, "valid")
    check_prompts(run.folder, train, "train", run.world)
    check_prompts(run.folder, valid, "valid", run.world)
    model, history = stages.run_reward(reward_start(run), run.tokenizer, train, valid, run.recipe,
                                       run.folder / "state" / stage, run.progress, run.world)
    write_json(run.folder / f"{stage}.json", results.measure_reward(model, run.tokenizer, valid, run.world))
    run.save_model(stage, model, history, size=run.recipe.reward_size, rankings=len(train),
                   valid_accuracy=history[-1]["valid_accuracy"])


def make_gate(run):
    """Measure the true score of best-of-n under the reward model: PPO is worth running only if it rises with n."""
    policy = run.policy("sft")
    model = checkpoints.load_scalar(run.folder / "reward", run.device)
    prompts = run.prompts("valid", run.recipe.gate_prompts)
    curve = results.gate(policy, model, run.tokenizer, prompts, run.recipe.seed, run.progress, run.world)
    write_json(run.folder / "gate.json", curve)


def true_score_probe(tokenizer, prompts, seed=7, world=TOWN):
    """A function for PPO's ``evaluate``: the true score on validation prompts, with its interval."""
    def probe(policy, iteration):
        rows = answer_rows(policy, tokenizer, prompts, seed=seed, progress=False, world=world)
        return {"true_score": evaluate.value(mean_interval([r["grade"].score for r in rows]))}
    return probe


def ppo_start(run):
    """The policy that PPO starts from: the first round's, if there was one (our choice; the paper does not say)."""
    return run.policy("first_ppo" if run.recipe.first_round < 1 else "sft")


def make_ppo(run, stage):
    """Train the first PPO, PPO or PPO-ptx, and keep the averaged weights (EMA 0.992, as in the paper)."""
    first = stage == "first_ppo"
    reward_model = checkpoints.load_scalar(run.folder / ("first_reward" if first else "reward"), run.device)
    probe = true_score_probe(run.tokenizer, run.prompts("valid", 40 if run.recipe.gate_prompts < 100 else 120),
                             world=run.world) if run.world.grade else None
    _, result = stages.run_ppo(
        run.policy("sft"), run.tokenizer, reward_model, run.recipe, ptx=stage == "ppo_ptx",
        start=None if first else ppo_start(run), folder=run.folder / "state" / stage, evaluate=probe,
        progress=run.progress, world=run.world,
        iterations=run.recipe.first_iterations if first else run.recipe.ppo.iterations)
    last = result.history[-1]
    run.save_model(stage, result.ema, result.history, iterations=len(result.history), kl=last["kl"],
                   proxy=last["score"])


def make_answers(run, stage):
    sets, policy = evaluate.sets_of(run_files.settings(run.recipe), run.world), run.policy(stage)
    best, extra = None, {}
    if run.world.grade:
        curve = temperature_curve(stage, policy, run.tokenizer, run.prompts("valid", run.recipe.gate_prompts),
                                  200 + run.recipe.seed, run.progress, run.world)
        extra = {"temperature": {"curve": curve, "best": best_temperature(curve)}}
        best = at(best_temperature(curve))
    rows = evaluate.collect_answers(stage, policy, run.tokenizer, sets, 100 + run.recipe.seed, best, run.progress,
                                    run.world)
    if stage not in ("prompted", "rival", "rival_prompted"):
        extra["tax"] = evaluate.tax(policy, run.tokenizer, run.progress, run.world)
    if stage in ("sft", "ppo", "ppo_ptx"):
        kl = evaluate.kl_to_reference(policy, run.policy("sft"), run.tokenizer, rows)
        extra["kl"] = evaluate.value(mean_interval(kl))
    write_json(run.folder / "measured" / f"{stage}.json", extra)
    evaluate.save_answers(run.folder / "answers" / f"{stage}.jsonl", rows)


def ship(run, destination=None, force=False):
    """Copy a finished run's models to data/models in half precision, the form in which the repository ships them.

    Models of the course are replaced only with ``force``, and only by those of a full run (see `shipped`).
    """
    destination = Path(destination or files.MODELS)
    sizes = [folder.name.removeprefix("base-") for folder in files.MODELS.glob("base-*")]
    shipped.check_replace([destination / f"{stage}-{run.recipe.size}" for stage in ("sft", "reward", "ppo", "ppo_ptx")],
                          force, [run.folder], sizes)
    for stage in ("sft", "reward", "ppo", "ppo_ptx"):
        card = checkpoints.check(run.folder / stage)
        if card.get("size") != run.recipe.size:  # a reward model of another size comes from its own run
            continue
        load = checkpoints.load_scalar if card["kind"] == "scalar" else checkpoints.load_policy
        for key in ("kind", "parameters", "dtype", "sha256", "config_sha256"):
            card.pop(key)
        folder = destination / f"{stage}-{card['size']}"
        checkpoints.save_checkpoint(folder, load(run.folder / stage), card, torch.float16)
    return destination


def run_pipeline(recipe, name, device="auto", runs=RUNS, progress=True, until=None, world=TOWN):
    """Run every step, or those up to stage ``until``; returns the folder with results.json and report.html."""
    with locks.alone(Path(runs) / name):
        files.sweep(Path(runs) / name)
        return _run_steps(Run(recipe, name, device, runs, progress, world=world), until)


def _run_steps(run, until):
    """Every step of a run that nobody else is working on."""
    recipe, base = run.recipe, base_model.base_folder(run.recipe.size, run.folder.parent, run.world)
    if base == base_model.shipped("base", recipe.size):
        checkpoints.check(base)  # a damaged one is fetched again, not pretrained
    larger = recipe.size == "1.3m" and (base_model.shipped("base", "6m") / checkpoints.CARD).is_file()
    answering = (*evaluate.STAGES, *(evaluate.RIVALS if larger and run.world is TOWN else ()))
    make = {"base": lambda: make_base(run, base), "sft": lambda: make_sft(run),
            "rankings 1": lambda: make_rankings(run, "sft", 1),
            "first_reward": lambda: make_reward(run, "first_reward"),
            "first_ppo": lambda: make_ppo(run, "first_ppo"), "rankings 2": lambda: make_rankings(run, "first_ppo", 2),
            "reward": lambda: make_reward(run), "gate": lambda: make_gate(run), "ppo": lambda: make_ppo(run, "ppo"),
            "ppo_ptx": lambda: make_ppo(run, "ppo_ptx"),
            **{f"answers {stage}": lambda stage=stage: make_answers(run, stage) for stage in answering}}
    steps = {"base": [base.resolve() / checkpoints.CARD],
             **ledger.steps(recipe.first_round, answering, gate=run.world.grade is not None)}
    for number, (step, outputs) in enumerate(steps.items(), 1):
        if run.step(step, outputs, make[step]):
            ledger.mark_stale(run.folder, [name for later in list(steps.values())[number:] for name in later])
        if step == until:
            return run.folder
    write_json(run.folder / "results.json", results.collect_results(run))
    write_report(run.folder)
    return run.folder
