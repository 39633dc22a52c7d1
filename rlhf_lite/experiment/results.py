"""The numbers of a run: the reward model's accuracy, the best-of-n gate, results.json and the headline table.

Every number in the report's figures and sentences comes from here, and everything here is computed from the files
that the run left on disk, so it can be computed again at any time.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import torch

from rlhf_lite import files, models, plots, reward
from rlhf_lite.best_of_n import best_of_n_curve
from rlhf_lite.experiment import data, evaluate, findings, formats, pebbleford, report, run_files, shipped
from rlhf_lite.experiment.claims import headline
from rlhf_lite.experiment.machine import versions
from rlhf_lite.experiment.pebbleford import TOWN
from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS, TEMPERATURE
from rlhf_lite.sampling import sample_many
from rlhf_lite.stats import cluster_bootstrap, ece, mean_interval
from rlhf_lite.town import labelers

GATE_N = (1, 2, 4, 8, 16)
RECORDED_SIZES = ("175m",)


def measure_reward(model, tokenizer, rows, world=TOWN):
    """A dict with pair accuracy (overall and by use case), calibration and ECE.

    In the town, also the ceiling set by the labelers' noise, and the accuracy on a team that trained no model.
    """
    ranked = data.ranked_prompts(tokenizer, rows)
    scores, ranks, mask = reward.score_rankings(model, ranked)
    share = [reward.pair_accuracy(scores[i], ranks[i], mask[i]) for i in range(len(rows))]
    table = reward.calibration(scores, ranks, mask, bins=8)
    pairs = reward.preferred_pairs(ranks, mask)
    difference = (scores[:, :, None] - scores[:, None, :])[pairs]
    use_cases = {}
    for row, accuracy in zip(rows, share, strict=True):
        if not np.isnan(accuracy):
            use_cases.setdefault(row["use_case"], []).append(accuracy)
    lengths = [[len(r["token_ids"]) for r in row["responses"]] for row in rows]
    good = [a for a in share if not np.isnan(a)]
    town = of_the_town(scores, mask, rows, lengths) if world is TOWN else {}
    # The accuracy of a rule that reads nothing: "the longer answer is the better one" (P40 in the pitfalls).
    longer = [reward.pair_accuracy(torch.tensor(n, dtype=torch.float), ranks[i][mask[i]])
              for i, n in enumerate(lengths)]
    ids = [row["prompt_id"] for row in rows]
    return {"accuracy": evaluate.value(mean_interval(good)), "pairs": int(pairs.sum()),
            "accuracy_by_prompt": {i: round(a, 4) for i, a in zip(ids, share, strict=True) if not np.isnan(a)},
            "length_only": evaluate.value(mean_interval([a for a in longer if not np.isnan(a)])),
            "by_use_case": {u: evaluate.value(mean_interval(v)) for u, v in sorted(use_cases.items())},
            "calibration": [{"predicted": t["predicted"], "observed": t["observed"], "n": t["pairs"]} for t in table],
            "ece": ece(difference.abs().sigmoid().tolist(), (difference > 0).float().tolist()), **town}


def of_the_town(scores, mask, rows, lengths):
    """What is known of simulated labelers only: the ceiling, and the accuracy on the held-out team's rankings."""
    known = {p.id: p for p in data.all_prompts()}
    grades = [[TOWN.grade(known[row["prompt_id"]], r["text"], r["token_ids"][-1] == models.END)
               for r in row["responses"]] for row in rows]
    ceiling = labelers.bayes_ceiling(labelers.training_team(), grades, np.random.default_rng(0), lengths)
    others = [(row["prompt_id"], reward.pair_accuracy(scores[i][mask[i]], ranks))
              for i, (row, ranks) in enumerate(zip(rows, heldout_rankings(rows, grades, lengths), strict=True))]
    others = [(prompt, accuracy) for prompt, accuracy in others if not np.isnan(accuracy)]
    return {"bayes_ceiling": float(ceiling), "heldout_team": evaluate.value(mean_interval([a for _, a in others])),
            "heldout_by_prompt": {prompt: round(accuracy, 4) for prompt, accuracy in others}}


def heldout_rankings(rows, grades, lengths):
    """The same answers, ranked by the simulated held-out team, which trained no model: a list of (K,) ranks."""
    team, rng = labelers.heldout_team(), np.random.default_rng(5)
    return [torch.tensor(team[int(rng.integers(len(team)))].rank(g, n, rng), dtype=torch.float)
            for g, n in zip(grades, lengths, strict=True)]


def gate(policy, reward_model, tokenizer, prompts, seed=0, progress=True, world=TOWN):
    """The best-of-n curve on ``prompts``, from 16 samples each: {"n", "kl", "proxy", "rm", "oracle", "open", ...}."""
    n_max = max(GATE_N)
    ids = [row for row in data.encoded(tokenizer, prompts) for _ in range(n_max)]
    answers = sample_many(policy, ids, MAX_NEW_TOKENS, TEMPERATURE, seed=seed, progress=progress)
    true = torch.tensor([world.grade(prompts[i // n_max], models.decode_response(tokenizer, a),
                                     a[-1] == models.END).score for i, a in enumerate(answers)]).view(-1, n_max)
    inputs = [reward.reward_input(p, a) for p, a in zip(ids, answers, strict=True)]
    proxy = reward.score(reward_model, inputs).view(-1, n_max)
    by_rm, by_truth = best_of_n_curve(proxy, true, GATE_N), best_of_n_curve(true, true, GATE_N)
    chosen, ideal = ([evaluate.value(mean_interval(curve["true"][:, i].numpy())) for i in range(len(GATE_N))]
                     for curve in (by_rm, by_truth))
    gain = mean_interval((by_rm["true"][:, GATE_N.index(8)] - by_rm["true"][:, 0]).numpy())
    return {"n": list(GATE_N), "kl": by_rm["kl"], "proxy": by_rm["proxy"].mean(0).tolist(), "rm": chosen,
            "oracle": ideal, "true": [[round(x, 4) for x in column] for column in by_rm["true"].T.tolist()],
            "gain_at_8": evaluate.value(gain), "open": bool(gain.low > 0)}


# ---------------------------------------------------------------- results.json

def stage_answers(folder, recipe, world=TOWN):
    """{stage: graded rows} for the stages of a run that have answers."""
    sets = evaluate.sets_of(recipe, world)
    paths = {stage: Path(folder) / "answers" / f"{stage}.jsonl" for stage in (*evaluate.STAGES, *evaluate.RIVALS)}
    found = {stage: evaluate.load_answers(path, sets, stage, world) for stage, path in paths.items() if path.is_file()}
    return found | (recorded_answers(sets) if recipe["size"] == "1.3m" and world is TOWN else {})


def record_answers(folder, out=None, force=False):
    """Record the answers of a run's base model, bare and prompted, to the mixed test prompts; returns the path.

    Runs on a laptop are compared with this file, because a laptop cannot run a model of 175M parameters.
    """
    out = Path(out or evaluate.RECORDED_ANSWERS)
    paths = {stage: Path(folder) / "answers" / f"{stage}.jsonl" for stage in evaluate.RECORDED.values()}
    if not all(path.is_file() for path in paths.values()):
        raise ValueError(f"{folder} has no answers from its base model (answers/base.jsonl and prompted.jsonl); finish "
                         "the run first.")
    shipped.check_replace([out], force, [folder], RECORDED_SIZES)
    recipe = run_files.read_recipe(folder)
    run_files.only_town(folder)
    sets = evaluate.sets_of(recipe)
    return write_recorded([row for stage, path in paths.items() for row in evaluate.load_answers(path, sets, stage)],
                          out)


def write_recorded(rows, out):
    """Write the answers to the mixed test prompts, one a line; returns the path."""
    files.write_text(out, "".join(json.dumps(evaluate.plain(row), ensure_ascii=False) + "\n"
                                  for row in rows if row["set"] == "mixed"))
    return out


def recorded_answers(sets):
    """{stage: graded rows} of the recorded answers; empty if there are none."""
    path, mixed = evaluate.RECORDED_ANSWERS, {"mixed": sets["mixed"]}
    if not path.is_file():
        return {}
    rows = evaluate.load_answers(path, mixed)
    found = {stage: [row for row in rows if row["stage"] == made] for stage, made in evaluate.RECORDED.items()}
    for stage, made in evaluate.RECORDED.items():
        run_files.check_complete(found[stage], mixed, made, path, f"Restore it with: git checkout -- {path}")
    return found


def load_run(folder, *also, world=TOWN):
    """What the headline needs from one run: {"rows", "tax", "reward", "gate", "recipe", "studies", ...}.

    also: further files that a finished run must have.
    """
    folder = Path(folder)
    recipe = run_files.read_recipe(folder)
    if world is TOWN:
        run_files.only_town(folder)
    gate = ["gate.json"] if world.grade else []
    lacking = [name for name in ("reward.json", *gate, *also, *(path for stage in evaluate.STAGES for path in (
        f"answers/{stage}.jsonl", f"measured/{stage}.json")))
               if not (folder / name).is_file()]
    if lacking:
        raise ValueError(f"{folder} is not finished ({lacking[0]} is missing); finish it first: "
                         + run_files.command("run", *run_files.dials(recipe, folder.name)))
    rows = stage_answers(folder, recipe, world)
    measured = {stage: run_files.read(folder / "measured" / f"{stage}.json") for stage in evaluate.STAGES}
    return {"rows": rows, "recipe": recipe, "reward": run_files.read(folder / "reward.json"),
            "gate": run_files.read(folder / "gate.json") if world.grade else None, "studies": load_studies(folder),
            "tax": {stage: m["tax"] for stage, m in measured.items() if "tax" in m},
            "kl": {stage: m["kl"] for stage, m in measured.items() if "kl" in m},
            "temperatures": {stage: m["temperature"] for stage, m in measured.items() if "temperature" in m}}


def load_studies(folder):
    """The finished studies of a run: {name: result}."""
    return {path.stem: run_files.read(path) for path in sorted((Path(folder) / "studies").glob("*.json"))
            if path.stem in formats.STUDIES}


def collect_results(run):
    """Everything measured in a run, as one dict: the content of results.json."""
    world, recipe = run.world, run.recipe
    found = load_run(run.folder, world=world)
    rows = found["rows"]
    own = {stage: r for stage, r in rows.items() if stage in evaluate.STAGES}
    order = evaluate.STAGES.index
    wins = [evaluate.compare(own[a], own[b], a, b, world=world) for a in own for b in own if order(a) > order(b)]
    at_best = [evaluate.compare(own[a], own[b], a, b, "best", world) for a in own for b in own if order(a) > order(b)
               and all(stage in found["temperatures"] for stage in (a, b))]
    rivals = {stage.replace("rival_", "").replace("rival", "base"): r for stage, r in rows.items()
              if stage in evaluate.RIVALS}
    wins += [evaluate.compare(own[a], rows[b], a, b) for a in own for b in rows if b not in own]
    return {
        "name": run.name, "command": run.command(), **pebbleford.left_out(world),
        "size": recipe.size, "seeds": [recipe.seed], "device": str(run.device), "versions": versions(),
        "created": time.strftime("%Y-%m-%d"), "minutes": run.kept("minutes.json"),
        "peak_memory_gib": run.kept("memory.json"),
        "stages": {stage: evaluate.summarise(r, world) | {"kl": found["kl"].get(stage)} for stage, r in own.items()},
        "win_rates": wins, "win_rates_at_best": at_best, "temperatures": found["temperatures"],
        "use_cases": {stage: evaluate.by_use_case(r) for stage, r in own.items()} if world.grade else {},
        "reward": found["reward"], **({"gate": found["gate"]} if world.grade else {}), "tax": found["tax"],
        **found["studies"],
        "by_size": {size: {stage: evaluate.compare(r, own["sft"], stage, "sft", world=world)
                           for stage, r in made.items()}
                    for size, made in ((recipe.size, own), ("6m", rivals)) if made},
        "headline": headline([found]) if world is TOWN else []}


def write_headline(folders, out, page=None, force=False):
    """Combine several runs (one per seed) in the folder ``out``: headline.json, one figure, and each run's results.

    The table is about the size of the first run; runs of other sizes only join row 4 and the figure. ``page``: a
    Markdown file in which the part between the marks "results:begin" and "results:end" is replaced. Returns the
    table as Markdown.
    """
    folders, out, by_size, made = [Path(folder) for folder in folders], Path(out), {}, {}
    shipped.check_replace([out / "headline.json", *([page] if page else [])], force, folders, ("1.3m",))
    if page and Path(page).read_text(encoding="utf-8").count("<!-- results:begin -->") != 1:
        raise ValueError(f'{page} has no place for the table; write the line "<!-- results:begin -->" where it should '
                         'begin and "<!-- results:end -->" where it should end.')
    loaded = [load_run(folder, "results.json") for folder in folders]
    _check_runs(folders, [run["recipe"] for run in loaded])
    saved = [run_files.read(folder / "results.json") for folder in folders]
    for run, found in zip(loaded, saved, strict=True):
        by_size.setdefault(run["recipe"]["size"], []).append(run)
        made.setdefault(run["recipe"]["size"], []).append(found)
    size, runs = next(iter(by_size.items()))
    others = {other: found for other, found in by_size.items() if other != size}
    stages = [stage for stage in evaluate.STAGES if findings.has(runs, stage)]
    content = {"headline": headline(runs, others), "created": time.strftime("%Y-%m-%d"),
               "versions": versions(), "size": size, "seeds": [run["recipe"]["seed"] for run in runs],
               "other_sizes": {other: [run["recipe"]["seed"] for run in found] for other, found in others.items()},
               "device": made[size][0].get("device"), "minutes": [m.get("minutes") for m in made[size]],
               "peak_memory_gib": [m.get("peak_memory_gib") for m in made[size]],
               "stages": {stage: measured_stage(runs, stage) for stage in stages},
               "command": run_files.command("results", *(f"runs/{folder.name}" for folder in folders))}
    files.write_json(out / "headline.json", content)
    for folder, found in zip(folders, saved, strict=True):
        files.write_json(out / f"{folder.name}.json", found)

    def over_sft(found, stage):  # against the SFT models of the table's size: Figure 1 has one rival for all sizes
        shares = [evaluate.preferences(run["rows"][stage], runs[i % len(runs)]["rows"]["sft"])
                  for i, run in enumerate(found)]
        return evaluate.value(cluster_bootstrap(np.array(shares)))

    figure = plots.win_rate_by_size({
        name: {stage: over_sft(found, stage) for stage in evaluate.STAGES if all(stage in run["rows"] for run in found)}
        for name, found in by_size.items()}, f"the {size.upper()} SFT model")
    with files.whole_file(out / "win_rate.png") as new:
        figure.savefig(new, dpi=110, bbox_inches="tight", format="png")
    figure_path = Path(os.path.relpath(out / "win_rate.png", Path(page).parent)).as_posix() if page else "win_rate.png"
    text = markdown(content, figure_path)
    if page:
        whole = Path(page).read_text(encoding="utf-8")
        before, rest = whole.split("<!-- results:begin -->", 1)
        _, after = rest.split("<!-- results:end -->", 1)
        files.write_text(page, f"{before}<!-- results:begin -->\n{text}\n<!-- results:end -->{after}")
    return text


def measured_stage(runs, stage):
    """{measure: {"value", "low", "high", "n"}} of a stage, over prompts and seeds."""
    found = {measure: findings.values(runs, stage, measure) for measure in evaluate.MEASURES}
    return {measure: dict(zip(("value", "low", "high", "n"), findings.interval(values), strict=True))
            for measure, values in found.items() if len(values[0])}


def _check_runs(folders, settings):
    """Raise ValueError unless the runs differ only in their seed: no run counts twice, and each size has one recipe."""
    names, seeds, recipes = set(), {}, {}
    for folder, recipe in zip(folders, settings, strict=True):
        size, seed = recipe["size"], recipe["seed"]
        if (size, seed) in seeds:
            raise ValueError(f"{folder} and {seeds[size, seed]} both have size {size} and seed {seed}; a seed "
                             "counts only once, so give only one of them.")
        if folder.name in names or folder.name == "headline":
            raise ValueError(f"Two results would be called {folder.name}.json; rename the folder {folder}.")
        same = {key: value for key, value in recipe.items() if key not in ("seed", "ppo")} | {
            f"ppo.{key}": value for key, value in recipe.get("ppo", {}).items() if key != "seed"}
        changed = sorted(key for key, value in recipes.setdefault(size, same).items() if same.get(key) != value)
        if changed:
            raise ValueError(f"{folder} and the first run of size {size} have different settings "
                             f"({', '.join(changed)}); the runs in one table may differ only in their seed.")
        seeds[size, seed] = folder
        names.add(folder.name)


def markdown(content, figure):
    """The headline table, what stands behind it, every part and measure, as Markdown; figure: the path to link to."""
    lines = [report.table(report.HEAD[:-1], [row[:-1] for row in report.headline_rows(content)])]
    sizes = {content["size"]: content["seeds"]} | content["other_sizes"]
    said = (f"{size}: {len(seeds)} training seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))})"
            for size, seeds in sizes.items())
    lines += ["", "Size " + ", ".join(said) + "; "
              f"{content['device']}, torch {content['versions']['torch']}, transformers "
              f"{content['versions']['transformers']}, {content['created']}. Labelers and judges are simulated. "
              f"Regenerate: `{content['command']}`.",
              "", f"![How often simulated labelers prefer each stage to SFT]({figure})",
              "", "What the rows are made of:", "", report.parts_table(content),
              "", "Every measure, over prompts and seeds:", "", report.stages_table(content)]
    return "\n".join(lines)
