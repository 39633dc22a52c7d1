"""The studies behind the results table: what happens when one dial of a finished run is turned.

* ``kl_sweep``: PPO at several KL coefficients (the paper's Figure 36)
* ``ptx_sweep``: PPO-ptx at several coefficients (Figure 33), and what a larger KL coefficient does instead (Figure 34)
* ``pairs``: a reward model trained on whole rankings against one trained on shuffled pairs (section 3.5, footnote 5)
* ``overoptimisation``: true against proxy score, for best-of-n and for PPO without a penalty (Gao et al., 2022)
* ``second_round``: half of the rankings from PPO's own answers, a new reward model, PPO again (section 3.1: "these
  steps can be iterated continuously")

Every study starts from the SFT policy, the rankings and the reward model of the run, measures on *validation*
prompts, and writes ``runs/<name>/studies/<study>.json``.
"""

from dataclasses import replace

import numpy as np

from rlhf_lite import base, checkpoints, evaluate, models, pipeline, pretrain, results, reward
from rlhf_lite.run import rankings, reward_start
from rlhf_lite.stats import gao_fit_bon, gao_fit_rl, mean_interval
from rlhf_lite.town import labelers

KL_COEFS = (0.0, 0.02, 0.1, 0.2, 0.4, 2.0)
PTX_COEFS = (0.0, 0.1, 0.3, 1.0)
PROMPTS = 300
FAR = 1000.0  # nats; here divergence is the subject, so the alarm that stops a diverging run is set higher


def trained_point(run, ptx=False, **changes):
    """One PPO run from the run's SFT policy -> (averaged policy, last history entry, true score, KL)."""
    reward_model = checkpoints.load_scalar(run.folder / "reward", run.device)
    sft = run.policy("sft")
    recipe = replace(run.recipe, ptx_coef=changes.pop("ptx_coef", run.recipe.ptx_coef))  # run_ppo takes it from there
    _, made = pipeline.run_ppo(sft, run.tokenizer, reward_model, recipe, ptx=ptx, progress=run.progress, **changes)
    rows = pipeline.answer_rows(made.ema, run.tokenizer, pipeline.prompts_of("valid", PROMPTS), seed=9, progress=False)
    kl = evaluate.kl_to_reference(made.ema, sft, run.tokenizer, [row | {"set": "mixed"} for row in rows])
    proxy = reward.score(reward_model, [
        reward.reward_input(models.encode_prompt(run.tokenizer, row["prompt"]), row["token_ids"]) for row in rows])
    return made, {"score": evaluate.value(mean_interval([r["grade"].score for r in rows])),
                  "proxy": float(proxy.mean()), "kl": float(kl.mean())}


def kl_sweep(run):
    """PPO at each of ``KL_COEFS``, for as many iterations as the run: with fewer, no harm of a small one shows."""
    iterations = run.recipe.ppo.iterations
    return [{"kl_coef": kl_coef, "iterations": iterations,
             **trained_point(run, kl_coef=kl_coef, max_kl=FAR)[1]} for kl_coef in KL_COEFS]


def ptx_sweep(run):
    """PPO-ptx at each of ``PTX_COEFS`` with the loss on held-out web text beside the true score."""
    iterations = max(1, run.recipe.ppo.iterations // 2)
    rows = base.web_rows(run.tokenizer, 60_000, seed=base.HELD_OUT_SEED)
    points = []
    for coefficient in PTX_COEFS:
        made, point = trained_point(run, ptx=True, ptx_coef=coefficient, iterations=iterations)
        points.append({"ptx_coef": coefficient, "iterations": iterations, **point,
                       "web_loss": pretrain.evaluate_lm(made.ema, rows)})
    return points


def pairs(run, epochs=3, limit=1500):
    """Validation accuracy after each epoch over the first ``limit`` rankings, for whole rankings and shuffled pairs."""
    train, valid = (pipeline.ranked_prompts(run.tokenizer, rankings(run, split)[:limit])
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
    """Gold (true) and proxy score against d = sqrt(KL): best-of-n from the gate, PPO with kl_coef 0 as it trains."""
    gate = results.read_json(run.folder / "gate.json")
    start = gate["rm"][0]["value"]
    bon = [{"d": kl ** 0.5, "gold": point["value"] - start, "proxy": proxy - gate["proxy"][0]}
           for kl, point, proxy in zip(gate["kl"], gate["rm"], gate["proxy"], strict=True)]
    reward_model = checkpoints.load_scalar(run.folder / "reward", run.device)
    prompts = pipeline.prompts_of("valid", PROMPTS)

    def probe(policy, iteration):
        rows = pipeline.answer_rows(policy, run.tokenizer, prompts, seed=9, progress=False)
        return {"true_score": float(np.mean([row["grade"].score for row in rows]))}

    free = replace(run.recipe, ppo=replace(run.recipe.ppo, kl_coef=0.0, max_kl=FAR))
    _, made = pipeline.run_ppo(run.policy("sft"), run.tokenizer, reward_model, free, evaluate=probe, evaluate_every=3,
                               progress=run.progress)
    first = made.history[0]["score"]
    rl = [{"d": max(entry["kl"], 0.0) ** 0.5, "gold": entry["true_score"] - start, "proxy": entry["score"] - first}
          for entry in made.history if "true_score" in entry]
    fits = {}
    beyond = [p for p in rl if p["d"] > 0.05]
    for name, points, fit in (("fit_bon", bon[1:], gao_fit_bon), ("fit_rl", beyond, gao_fit_rl)):
        fits[name] = fit([p["d"] for p in points], [p["gold"] for p in points])._asdict() if len(points) > 2 else None
    return {"bon": bon, "rl": rl, **fits}


def second_round(run):
    """Rank PPO's answers to half of the training prompts, train the reward model anew on as many rankings as before
    (half of each kind), and run PPO again from SFT: what both reward models and both policies are worth."""
    recipe, tokenizer, team = run.recipe, run.tokenizer, labelers.training_team()
    sft, policy = run.policy("sft"), run.policy("ppo")
    prompts = pipeline.prompts_of("train", recipe.rankings)
    half = {p.id for p in prompts[:len(prompts) // 2]}
    train, valid = (pipeline.rank_answers(policy, tokenizer, chosen, team, recipe, seed, "ppo", run.progress)
                    for chosen, seed in ((prompts[len(prompts) // 2:], 21),
                                         (pipeline.prompts_of("valid", max(100, recipe.rankings // 16)), 22)))
    mixed = [row for row in rankings(run, "train") if row["prompt_id"] in half] + train
    np.random.default_rng(recipe.seed).shuffle(mixed)
    before = checkpoints.load_scalar(run.folder / "reward", run.device)
    after, _ = pipeline.run_reward(sft, tokenizer, mixed, valid, recipe, progress=run.progress)
    found = {"rankings": {"sft": len(mixed) - len(train), "ppo": len(train)}, "reward": {}}
    for name, model in (("first", before), ("second", after)):
        found["reward"][name] = {source: {key: measured[key] for key in ("accuracy", "bayes_ceiling")}
                                 for source, rows in (("sft", rankings(run, "valid")), ("ppo", valid))
                                 for measured in [results.measure_reward(model, tokenizer, rows)]}
    _, made = pipeline.run_ppo(sft, tokenizer, after, recipe, progress=run.progress)
    asked = pipeline.prompts_of("valid", 2 * PROMPTS)
    answers = {name: [row | {"set": "mixed"} for row in
                      pipeline.answer_rows(model, tokenizer, asked, seed=9, progress=run.progress)]
               for name, model in (("base", run.policy("base")), ("sft", sft), ("first", policy), ("second", made.ema))}
    for name, model in (("first", policy), ("second", made.ema)):
        found[name] = {"score": evaluate.value(mean_interval([row["grade"].score for row in answers[name]])),
                       "kl": float(evaluate.kl_to_reference(model, sft, tokenizer, answers[name]).mean())}
        for rival in ("base", "sft"):
            found[name][f"win_over_{rival}"] = evaluate.compare(answers[name], answers[rival], name, rival)
    gain = [b["grade"].score - a["grade"].score for a, b in zip(answers["first"], answers["second"], strict=True)]
    return found | {"gain": evaluate.value(mean_interval(gain, method="normal"))}


STUDIES = {"kl_sweep": kl_sweep, "ptx_sweep": ptx_sweep, "pairs": pairs, "overoptimisation": overoptimisation,
           "second_round": second_round}


def run_study(run, name):
    """Make one study of a finished run and return the path of its JSON file."""
    if not (run.folder / "reward" / "history.json").is_file():
        raise ValueError(f"{run.folder} has no reward model yet; finish the run first: "
                         f"python -m rlhf_lite run --name {run.name}")
    path = run.folder / "studies" / f"{name}.json"
    results.write_json(path, STUDIES[name](run))
    return path
