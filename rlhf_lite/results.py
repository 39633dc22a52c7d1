"""The numbers of a run: the reward model's accuracy, the best-of-n gate, results.json and the headline table.

Everything a figure or a sentence of the report says comes from here, and everything here is computed from what
the run left on disk, so it can be made again at any time.
"""

import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from rlhf_lite import checkpoints, evaluate, models, pipeline, plots, reward
from rlhf_lite.best_of_n import best_of_n_curve
from rlhf_lite.headline import headline
from rlhf_lite.report import HEAD, headline_rows
from rlhf_lite.sampling import sample_many
from rlhf_lite.stats import cluster_bootstrap, ece, mean_interval
from rlhf_lite.town import labelers
from rlhf_lite.town.grading import grade

GATE_N = (1, 2, 4, 8, 16)


def write_json(path, content):
    """Write JSON so that the file is the old one or the new one, never half of each."""
    checkpoints.write_text(path, json.dumps(_strict(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _strict(value):
    """Strict JSON has no NaN and no infinity; they become null."""
    if isinstance(value, dict):
        return {key: _strict(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def read_json(path, default=None):
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default
    except ValueError as error:  # broken JSON, or not UTF-8
        raise ValueError(f"{path} is damaged ({error}); delete it and give the command that made it again.") from None


def measure_reward(model, tokenizer, rows):
    """Pair accuracy over all and per use case, calibration, ECE, and the ceiling that the labelers' noise sets."""
    ranked = pipeline.ranked_prompts(tokenizer, rows)
    scores, ranks, mask = reward.score_rankings(model, ranked)
    share = [reward.pair_accuracy(scores[i], ranks[i], mask[i]) for i in range(len(rows))]
    table = reward.calibration(scores, ranks, mask, bins=8)
    pairs = reward.preferred_pairs(ranks, mask)
    difference = (scores[:, :, None] - scores[:, None, :])[pairs]
    use_cases = {}
    for row, accuracy in zip(rows, share, strict=True):
        if not np.isnan(accuracy):
            use_cases.setdefault(row["use_case"], []).append(accuracy)
    known = {p.id: p for p in pipeline.all_prompts()}
    grades = [[grade(known[row["prompt_id"]], r["text"], r["token_ids"][-1] == models.END) for r in row["responses"]]
              for row in rows]
    lengths = [[len(r["token_ids"]) for r in row["responses"]] for row in rows]
    ceiling = labelers.bayes_ceiling(labelers.training_team(), grades, np.random.default_rng(0), lengths)
    good = [a for a in share if not np.isnan(a)]
    others = [reward.pair_accuracy(scores[i][mask[i]], ranks)
              for i, ranks in enumerate(heldout_rankings(rows, grades, lengths))]
    # What a rule that reads nothing gets: "the longer answer is the better one" (P40 of the pitfalls).
    longer = [reward.pair_accuracy(torch.tensor(n, dtype=torch.float), ranks[i][mask[i]])
              for i, n in enumerate(lengths)]
    return {"accuracy": evaluate.value(mean_interval(good)), "pairs": int(pairs.sum()),
            "length_only": evaluate.value(mean_interval([a for a in longer if not np.isnan(a)])),
            "heldout_team": evaluate.value(mean_interval([a for a in others if not np.isnan(a)])),
            "bayes_ceiling": float(ceiling),
            "by_use_case": {u: evaluate.value(mean_interval(v)) for u, v in sorted(use_cases.items())},
            "calibration": [{"predicted": t["predicted"], "observed": t["observed"], "n": t["pairs"]} for t in table],
            "ece": ece(difference.abs().sigmoid().tolist(), (difference > 0).float().tolist())}


def heldout_rankings(rows, grades, lengths):
    """The same answers ranked by the simulated held-out team, on which no model was trained: list of (K,) ranks."""
    team, rng = labelers.heldout_team(), np.random.default_rng(5)
    return [torch.tensor(team[int(rng.integers(len(team)))].rank(g, n, rng), dtype=torch.float)
            for g, n in zip(grades, lengths, strict=True)]


def gate(policy, reward_model, tokenizer, prompts, seed=0, progress=True):
    """{"n", "kl", "proxy", "rm", "oracle", "open"}: the best-of-n curve on ``prompts`` with 16 samples each."""
    n_max = max(GATE_N)
    ids = [row for row in pipeline.encoded(tokenizer, prompts) for _ in range(n_max)]
    answers = sample_many(policy, ids, pipeline.MAX_NEW_TOKENS, seed=seed, progress=progress)
    true = torch.tensor([grade(prompts[i // n_max], models.decode_response(tokenizer, a), a[-1] == models.END).score
                         for i, a in enumerate(answers)]).view(-1, n_max)
    inputs = [reward.reward_input(p, a) for p, a in zip(ids, answers, strict=True)]
    proxy = reward.score(reward_model, inputs).view(-1, n_max)
    by_rm, by_truth = best_of_n_curve(proxy, true, GATE_N), best_of_n_curve(true, true, GATE_N)
    table = lambda curve: [evaluate.value(mean_interval(curve["true"][:, i].numpy())) for i in range(len(GATE_N))]
    gain = mean_interval((by_rm["true"][:, GATE_N.index(8)] - by_rm["true"][:, 0]).numpy())
    return {"n": list(GATE_N), "kl": by_rm["kl"], "proxy": by_rm["proxy"].mean(0).tolist(), "rm": table(by_rm),
            "oracle": table(by_truth), "gain_at_8": evaluate.value(gain), "open": bool(gain.low > 0)}


# ---------------------------------------------------------------- results.json

def stage_answers(folder, recipe):
    """{stage: graded rows} of the stages of a run that have answered."""
    sets = evaluate.test_sets(recipe["test_prompts"], recipe["stratum_prompts"], recipe["samples"])
    paths = {stage: Path(folder) / "answers" / f"{stage}.jsonl" for stage in (*evaluate.STAGES, *evaluate.RIVALS)}
    found = {stage: evaluate.load_answers(path, sets) for stage, path in paths.items() if path.is_file()}
    return found | (recorded_answers(sets) if recipe["size"] == "1.3m" else {})


def record_answers(folder, out=None):
    """Write down what the base of a run, bare and prompted, answered to the mixed test prompts; returns the path.

    The laptop's runs compare themselves with this file: nobody can run a model of 175M parameters there.
    """
    out, lines = Path(out or evaluate.RECORDED_ANSWERS), []
    for stage in evaluate.RECORDED.values():
        path = Path(folder) / "answers" / f"{stage}.jsonl"
        if not path.is_file():
            raise ValueError(f"{folder} has no answers of its base (answers/{stage}.jsonl); finish the run first.")
        lines += [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["set"] == "mixed"]
    checkpoints.write_text(out, "\n".join(lines) + "\n")
    return out


def recorded_answers(sets):
    """{stage: graded rows} of the recorded answers that cover all mixed test prompts; nothing where there are none."""
    if not evaluate.RECORDED_ANSWERS.is_file():
        return {}
    rows = evaluate.load_answers(evaluate.RECORDED_ANSWERS, {"mixed": sets["mixed"]})
    found = {stage: [row for row in rows if row["stage"] == made] for stage, made in evaluate.RECORDED.items()}
    return found if all(len(made) == len(sets["mixed"]) for made in found.values()) else {}


def versions():
    return {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
            "platform": platform.platform(terse=True)}


def load_run(folder):
    """What the headline needs of one run: {"rows", "tax", "reward", "gate", "recipe", "studies"}."""
    folder = Path(folder)
    recipe = read_json(folder / "recipe.json")
    if not isinstance(recipe, dict) or "size" not in recipe:
        raise ValueError(f"{folder} holds no run (no recipe in recipe.json); name the folder of a finished run.")
    lacking = [name for name in ("reward.json", *(f"answers/{stage}.jsonl" for stage in evaluate.STAGES))
               if not (folder / name).is_file()]
    if lacking:
        raise ValueError(f"{folder} is not finished ({lacking[0]} is missing); finish it first: "
                         f"python -m rlhf_lite run --size {recipe['size']} --seed {recipe['seed']} --name {folder.name}")
    rows = stage_answers(folder, recipe)
    measured = {stage: read_json(folder / "measured" / f"{stage}.json", {}) for stage in rows}
    return {"rows": rows, "recipe": recipe, "reward": read_json(folder / "reward.json", {}),
            "gate": read_json(folder / "gate.json", {}), "studies": load_studies(folder),
            "tax": {stage: m["tax"] for stage, m in measured.items() if "tax" in m},
            "kl": {stage: m["kl"] for stage, m in measured.items() if "kl" in m}}


def load_studies(folder):
    """The studies made for a run: {name: result}."""
    return {path.stem: read_json(path) for path in sorted((Path(folder) / "studies").glob("*.json"))}


def collect_results(run):
    """Everything measured in a run, as one dict: what results.json holds."""
    found = load_run(run.folder)
    rows, recipe = found["rows"], run.recipe
    own = {stage: r for stage, r in rows.items() if stage in evaluate.STAGES}
    order = evaluate.STAGES.index
    wins = [evaluate.compare(own[a], own[b], a, b) for a in own for b in own if order(a) > order(b)]
    rivals = {stage.replace("rival_", "").replace("rival", "base"): r for stage, r in rows.items()
              if stage in evaluate.RIVALS}
    wins += [evaluate.compare(own[a], rows[b], a, b) for a in own for b in rows if b not in own]
    return {
        "name": run.name, "command": f"python -m rlhf_lite run --size {recipe.size} --seed {recipe.seed}",
        "size": recipe.size, "seeds": [recipe.seed], "device": str(run.device), "versions": versions(),
        "created": time.strftime("%Y-%m-%d"), "minutes": read_json(run.folder / "minutes.json", {}),
        "peak_memory_gib": read_json(run.folder / "memory.json", {}),
        "stages": {stage: evaluate.summarise(r) | {"kl": found["kl"].get(stage)} for stage, r in own.items()},
        "win_rates": wins,
        "use_cases": {stage: evaluate.by_use_case(r) for stage, r in own.items()},
        "reward": found["reward"], "gate": found["gate"], "tax": found["tax"], **found["studies"],
        "by_size": {size: {stage: evaluate.compare(r, own["sft"], stage, "sft") for stage, r in made.items()}
                    for size, made in ((recipe.size, own), ("6m", rivals)) if made},
        "headline": headline([found])}


def write_headline(folders, out, readme=None):
    """Join several runs (one per seed) into ``out``: headline.json, one figure, and the runs' answers and settings.

    The table is about the size of the first run; runs of other sizes join row 4 and the figure. ``readme``: a
    Markdown file whose part between the marks "results:begin" and "results:end" is written anew. Returns the table
    as Markdown.
    """
    folders, out, by_size, made = [Path(folder) for folder in folders], Path(out), {}, {}
    if readme and Path(readme).read_text(encoding="utf-8").count("<!-- results:begin -->") != 1:
        raise ValueError(f'{readme} has no place for the table; write the line "<!-- results:begin -->" where it is to '
                         'begin and "<!-- results:end -->" where it is to end.')
    loaded = [load_run(folder) for folder in folders]
    _check_runs(folders, [run["recipe"] for run in loaded])
    for folder, run in zip(folders, loaded, strict=True):
        by_size.setdefault(run["recipe"]["size"], []).append(run)
        made.setdefault(run["recipe"]["size"], []).append(read_json(folder / "results.json", {}))
    size, runs = next(iter(by_size.items()))
    others = {other: found for other, found in by_size.items() if other != size}
    content = {"headline": headline(runs, others), "created": time.strftime("%Y-%m-%d"),
               "versions": versions(), "size": size, "seeds": [run["recipe"]["seed"] for run in runs],
               "other_sizes": {other: [run["recipe"]["seed"] for run in found] for other, found in others.items()},
               "device": made[size][0].get("device"), "minutes": [m.get("minutes") for m in made[size]],
               "peak_memory_gib": [m.get("peak_memory_gib") for m in made[size]],
               "command": "python -m rlhf_lite results " + " ".join(f"runs/{folder.name}" for folder in folders)}
    write_json(out / "headline.json", content)
    for folder in folders:
        write_json(out / f"{folder.name}.json", read_json(folder / "results.json", {}))

    def over_sft(found, stage):  # against the SFT models of the table's size, as Figure 1 has one rival for all sizes
        shares = [evaluate.preferences(run["rows"][stage], runs[i % len(runs)]["rows"]["sft"])
                  for i, run in enumerate(found)]
        return evaluate.value(cluster_bootstrap(np.array(shares)))

    figure = plots.win_rate_by_size({
        name: {stage: over_sft(found, stage) for stage in evaluate.STAGES if all(stage in run["rows"] for run in found)}
        for name, found in by_size.items()}, f"the {size.upper()} SFT model")
    figure.savefig(out / "win_rate.png", dpi=110, bbox_inches="tight")
    text = markdown(content)
    if readme:
        page = Path(readme).read_text(encoding="utf-8")
        before, rest = page.split("<!-- results:begin -->", 1)
        _, after = rest.split("<!-- results:end -->", 1)
        page = f"{before}<!-- results:begin -->\n{text}\n<!-- results:end -->{after}"
        checkpoints.write_text(readme, page)
    return text


def _check_runs(folders, settings):
    """Several runs are several seeds: nothing may be counted twice, and one table is about one recipe per size."""
    names, seeds, recipes = set(), {}, {}
    for folder, recipe in zip(folders, settings, strict=True):
        size, seed = recipe["size"], recipe["seed"]
        if (size, seed) in seeds:
            raise ValueError(f"{folder} and {seeds[size, seed]} are both of size {size} and seed {seed}; one seed counts "
                             "once, so name only one of them.")
        if folder.name in names or folder.name == "headline":
            raise ValueError(f"Two results would be called {folder.name}.json; rename the folder {folder}.")
        same = {key: value for key, value in recipe.items() if key not in ("seed", "ppo")} | {
            f"ppo.{key}": value for key, value in recipe.get("ppo", {}).items() if key != "seed"}
        changed = sorted(key for key, value in recipes.setdefault(size, same).items() if same.get(key) != value)
        if changed:
            raise ValueError(f"{folder} was made with other settings ({', '.join(changed)}) than the first run of size "
                             f"{size}; runs of one table differ in their seed only.")
        seeds[size, seed] = folder
        names.add(folder.name)


def markdown(content):
    """The headline table of ``write_headline`` as Markdown, with what it was measured on."""
    cells = [HEAD[:-1], ["---"] * (len(HEAD) - 1)] + [row[:-1] for row in headline_rows(content)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    seeds = lambda found: f"{len(found)} training seed{'s' * (len(found) > 1)} ({', '.join(map(str, found))})"
    sizes = {content["size"]: content["seeds"]} | content["other_sizes"]
    lines += ["", "Size " + ", ".join(f"{size}: {seeds(found)}" for size, found in sizes.items()) + "; "
              f"{content['device']}, torch {content['versions']['torch']}, transformers "
              f"{content['versions']['transformers']}, {content['created']}. Labelers and judges are simulated. "
              f"Regenerate: `{content['command']}`.",
              "", "![How often simulated labelers prefer each stage to SFT](data/results/win_rate.png)"]
    return "\n".join(lines)
