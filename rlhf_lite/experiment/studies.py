"""The studies behind the results table: what happens when one setting of a finished run is changed.

* ``kl_sweep``: PPO at several KL coefficients (the paper's Figure 36)
* ``ptx_sweep``: PPO-ptx at several coefficients (Figure 33), and what a larger KL coefficient does instead (Figure 34)
* ``pairs``: a reward model trained on whole rankings compared with one trained on shuffled pairs (section 3.5,
  footnote 5)
* ``overoptimisation``: true against proxy score, for best-of-n and for PPO without a penalty (Gao et al., 2022)
* ``sft_arms``: SFT for four times as long, SFT with and without pretraining text, and PPO with four times the KL
  coefficient: is PPO better than more SFT, and who else pays less tax? (Appendix E.11, Figures 33 and 34)
* ``one_round``: two rounds of rankings (of SFT's answers, then of a first PPO's) compared with one round of the same
  number, all of SFT's answers (section 3.1: "these steps can be iterated continuously")

Every study starts from the policies, the rankings and the reward model of the run, measures on *validation*
prompts, and writes ``runs/<name>/studies/<study>.json``.
"""

from dataclasses import replace

import numpy as np

from rlhf_lite import checkpoints, files, locks, models, pretrain, reward
from rlhf_lite.experiment import base_model, data, evaluate, ledger, results, run_files, stages
from rlhf_lite.experiment.answers import answer_rows, rank_answers
from rlhf_lite.experiment.run import ppo_start, rankings, reward_start
from rlhf_lite.experiment.temperatures import at, best_temperature, temperature_curve
from rlhf_lite.stats import gao_fit_bon, gao_fit_rl, mean_interval
from rlhf_lite.town import labelers

KL_COEFS = (0.0, 0.1, 0.3, 1.0, 4.0)
PTX_COEFS = (0.0, 0.1, 0.3, 1.0)
PROMPTS = 300
FAR = 1000.0  # nats; divergence is what these studies look at, so the limit that stops a diverging run is set higher


def trained(run, ptx=False, **changes):
    """The averaged policy of a PPO run with the start and the reward model of the run's own PPO."""
    reward_model = checkpoints.load_scalar(run.folder / "reward", run.device)
    recipe = replace(run.recipe, ptx_coef=changes.pop("ptx_coef", run.recipe.ptx_coef))  # run_ppo reads it there
    _, made = stages.run_ppo(run.policy("sft"), run.tokenizer, reward_model, recipe, ptx, ppo_start(run),
                             progress=run.progress, **changes)
    return made.ema


def point(run, policy):
    """{"score", "scores", "fresh_scores", "proxy", "kl"} of a policy on validation prompts: one point of a sweep.

    A sweep is read on the first prompts; "fresh_scores" are from others, which choose nothing.
    """
    rows, fresh = (answer_rows(policy, run.tokenizer, prompts, seed=9, progress=False) for prompts in (
        data.prompts_of("valid", PROMPTS), data.prompts_of("valid", 2 * PROMPTS)[PROMPTS:]))
    kl = evaluate.kl_to_reference(policy, run.policy("sft"), run.tokenizer, [row | {"set": "mixed"} for row in rows])
    proxy = reward.score(checkpoints.load_scalar(run.folder / "reward", run.device), [
        reward.reward_input(models.encode_prompt(run.tokenizer, row["prompt"]), row["token_ids"]) for row in rows])
    return {"score": evaluate.value(mean_interval([r["grade"].score for r in rows])),
            "scores": [round(r["grade"].score, 4) for r in rows],
            "fresh_scores": [round(r["grade"].score, 4) for r in fresh],
            "proxy": float(proxy.mean()), "kl": float(kl.mean())}


def kl_sweep(run):
    """PPO at each of ``KL_COEFS``, for as many iterations as the run: with fewer, small ones show no visible harm."""
    points = []
    for kl_coef in KL_COEFS:
        own = kl_coef == run.recipe.ppo.kl_coef  # the run itself already is this point
        policy = run.policy("ppo") if own else trained(run, kl_coef=kl_coef, max_kl=FAR)
        points.append({"kl_coef": kl_coef, "iterations": run.recipe.ppo.iterations, **point(run, policy)})
    return points


def ptx_sweep(run):
    """PPO-ptx at each of ``PTX_COEFS``, with the loss on held-out web text next to the true score."""
    iterations = max(1, run.recipe.ppo.iterations // 2)
    rows = base_model.web_rows(run.tokenizer, 60_000, seed=base_model.HELD_OUT_SEED)
    points = []
    for coefficient in PTX_COEFS:
        policy = trained(run, ptx=True, ptx_coef=coefficient, iterations=iterations)
        points.append({"ptx_coef": coefficient, "iterations": iterations, **point(run, policy),
                       "web_loss": pretrain.evaluate_lm(policy, rows)})
    return points


def pairs(run, epochs=3, limit=1500):
    """Validation accuracy after each epoch on the first ``limit`` rankings, for whole rankings and shuffled pairs."""
    train, valid = (data.ranked_prompts(run.tokenizer, rankings(run.folder, split)[:limit])
                    for split in ("train", "valid"))
    curves = {}
    for name, shuffled in (("kwise", False), ("shuffled", True)):
        model = models.scalar_from_policy(reward_start(run), run.recipe.seed)
        config = reward.RewardConfig(lr=run.recipe.reward_lr, seed=run.recipe.seed, batch_prompts=16, epochs=epochs,
                                     shuffled_pairs=shuffled)
        history = reward.train_reward(model, train, config, valid, progress=run.progress)
        curves[name] = [entry["valid_accuracy"] for entry in history if "epoch" in entry]
        curves[f"{name}_loss"] = [entry["valid_loss"] for entry in history if "epoch" in entry]
    return curves


def overoptimisation(run):
    """Gold (true) and proxy scores by d = sqrt(KL): best-of-n from the gate, and PPO with kl_coef 0 as it trains."""
    gate = run_files.read_gate(run.folder / "gate.json")
    start = gate["rm"][0]["value"]
    bon = [{"d": kl ** 0.5, "gold": point["value"] - start, "proxy": proxy - gate["proxy"][0]}
           for kl, point, proxy in zip(gate["kl"], gate["rm"], gate["proxy"], strict=True)]
    reward_model = checkpoints.load_scalar(run.folder / "reward", run.device)
    prompts = data.prompts_of("valid", PROMPTS)

    def probe(policy, iteration):
        rows = answer_rows(policy, run.tokenizer, prompts, seed=9, progress=False)
        return {"true_score": float(np.mean([row["grade"].score for row in rows]))}

    free = replace(run.recipe, ppo=replace(run.recipe.ppo, kl_coef=0.0, max_kl=FAR))
    _, made = stages.run_ppo(run.policy("sft"), run.tokenizer, reward_model, free, evaluate=probe, evaluate_every=3,
                             progress=run.progress)
    first = made.history[0]["score"]
    rl = [{"d": max(entry["kl"], 0.0) ** 0.5, "gold": entry["true_score"] - start, "proxy": entry["score"] - first}
          for entry in made.history if "true_score" in entry]
    fits = {}
    beyond = [p for p in rl if p["d"] > 0.05]
    for name, points, fit in (("fit_bon", bon[1:], gao_fit_bon), ("fit_rl", beyond, gao_fit_rl)):
        fits[name] = fit([p["d"] for p in points], [p["gold"] for p in points])._asdict() if len(points) > 2 else None
    return {"bon": bon, "rl": rl, **fits}


def one_round(run):
    """Train a reward model on as many rankings as the run has, but all of SFT's answers, and PPO on it; compare.

    This PPO gets the iterations of both rounds together, so that neither side has trained for longer.
    """
    recipe, tokenizer, team = run.recipe, run.tokenizer, labelers.training_team()
    sft, policy, rows = run.policy("sft"), run.policy("ppo"), {}
    for split in ("train", "valid"):
        rows[split] = rankings(run.folder, split)
        done = {row["prompt_id"] for row in rows[split] if row["responses"][0]["source"] == "sft"}
        others = [p for p in data.prompts_of(split) if p.id not in done]
        others = others[:len(rows[split]) - len(done)]
        more = rank_answers(sft, tokenizer, others, team, recipe, 31, "sft", run.progress)
        rows[f"{split}, sft"] = [row for row in rows[split] if row["prompt_id"] in done] + more
    once, _ = stages.run_reward(reward_start(run), tokenizer, rows["train, sft"], rows["valid, sft"], recipe,
                                progress=run.progress)
    _, made = stages.run_ppo(sft, tokenizer, once, recipe, progress=run.progress,
                             iterations=recipe.first_iterations + recipe.ppo.iterations)
    found = {"rankings": {"one": len(rows["train, sft"]), "two": len(rows["train"])}, "one": {}, "two": {}}
    asked = data.prompts_of("valid", 2 * PROMPTS)
    answers = {name: [row | {"set": "mixed"} for row in
                      answer_rows(model, tokenizer, asked, seed=9, progress=run.progress)]
               for name, model in (("base", run.policy("base")), ("sft", sft), ("one", made.ema), ("two", policy))}
    twice = checkpoints.load_scalar(run.folder / "reward", run.device)
    for name, model, judge in (("one", made.ema, once), ("two", policy, twice)):
        found[name] = {"score": evaluate.value(mean_interval([row["grade"].score for row in answers[name]])),
                       "kl": float(evaluate.kl_to_reference(model, sft, tokenizer, answers[name]).mean())}
        for source in ("sft", "ppo"):
            ranked = [row for row in rows["valid"] if row["responses"][0]["source"] == source]
            if ranked:
                measured = results.measure_reward(judge, tokenizer, ranked)
                found[name][f"accuracy_{source}"] = measured["accuracy"]
        for rival in ("base", "sft"):
            found[name][f"win_over_{rival}"] = evaluate.compare(answers[name], answers[rival], name, rival)
    gain = [b["grade"].score - a["grade"].score for a, b in zip(answers["one"], answers["two"], strict=True)]
    return found | {"gain": evaluate.value(mean_interval(gain, method="normal"))}


def sft_arms(run):
    """Each arm's scores by temperature, its tax, and how often the run's PPO is preferred to it, both at their best."""
    prompts, arms = data.prompts_of("valid", 2 * PROMPTS)[PROMPTS:], {}
    for name, changes in (("sft, 4 times the epochs", {"sft_epochs": 4 * run.recipe.sft_epochs}),
                          ("sft, no pretraining text", {"sft_mix": 0.0}),
                          ("sft, 10 % pretraining text", {"sft_mix": 0.1})):
        policy, tokenizer = base_model.load_base(run.recipe.size, run.device, run.folder.parent)
        stages.run_sft(policy, tokenizer, replace(run.recipe, **changes), progress=run.progress)
        arms[name] = policy
    arms["sft"] = run.policy("sft")
    arms[f"ppo, kl_coef {4 * run.recipe.ppo.kl_coef:g}"] = trained(run, kl_coef=4 * run.recipe.ppo.kl_coef)
    best, found = {}, {}
    for name, policy in {"ppo": run.policy("ppo"), **arms}.items():
        curve = temperature_curve("sft", policy, run.tokenizer, data.prompts_of("valid", PROMPTS), 9, run.progress)
        heat = best_temperature(curve)
        best[name] = [row | {"set": "mixed"} for row in answer_rows(policy, run.tokenizer, prompts, seed=9,
                                                                    progress=False, **at(heat))]
        found[name] = {"temperature": {"curve": curve, "best": heat},
                       "score_at_best": evaluate.value(mean_interval([row["grade"].score for row in best[name]])),
                       "tax": evaluate.tax(policy, run.tokenizer, run.progress)}
    for name in arms:
        found[name]["ppo_preferred"] = evaluate.compare(best["ppo"], best[name], "ppo", name)
    return found


STUDIES = {"sft_arms": sft_arms, "kl_sweep": kl_sweep, "ptx_sweep": ptx_sweep, "pairs": pairs,
           "overoptimisation": overoptimisation, "one_round": one_round}


def run_study(run, name):
    """Run one study of a finished run; returns the path of its JSON file."""
    lacking = [name for name in ("reward/history.json", "gate.json", "ppo/history.json", "ppo_ptx/history.json")
               if not (run.folder / name).is_file()]
    recipe = run_files.settings(run.recipe)
    made = ledger.steps(run.recipe.first_round, ()).values()
    why = f"{run.folder} has no {lacking[0]} yet" if lacking else ledger.unfinished(run.folder, sum(made, []))
    if why:
        raise ValueError(f"{why}; finish the run first: "
                         + run_files.command("run", *run_files.dials(recipe, run.name)))
    path = run.folder / "studies" / f"{name}.json"
    files.try_writing(path.parent)  # say so now, not after the work
    with locks.alone(run.folder):
        files.write_json(path, STUDIES[name](run))
    return path
