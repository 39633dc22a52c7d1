# %% [markdown]
# {{header}}

# %%
import math
from dataclasses import replace

import numpy as np
import torch
from IPython.display import display
from jaxtyping import Bool, Float, Int  # Float[Tensor, "batch response"]: floats, of shape (batch, response)
from torch import Tensor
from tqdm.auto import tqdm

from rlhf_lite import files, models, plots, reward, stats
from rlhf_lite.exercises import check, progress, setup
from rlhf_lite.experiment import base_model, claims, data, evaluate, report, stages, temperatures
from rlhf_lite.experiment.answers import answer_rows
from rlhf_lite.experiment.recipe import TEMPERATURE, default_recipe
from rlhf_lite.real import measures
from rlhf_lite.sampling import pad_right
from rlhf_lite.town import labelers, web
from rlhf_lite.town.facts import build_town
from rlhf_lite.town.grading import grade

lesson = setup("06", strict=True)
tokenizer = lesson.tokenizer()

# %%
policies = {stage: lesson.policy(stage) for stage in ("base", "sft", "ppo", "ppo_ptx")}
policies["prompted"] = policies["base"]  # the same weights, with a few solved examples in front of every prompt
short = {"base": "base", "prompted": "prompted", "sft": "SFT", "ppo": "PPO", "ppo_ptx": "PPO-ptx",
         "rival": "the 6M base", "rival_prompted": "the prompted 6M base"}


def percent(share):
    """0.214 -> "21 %"."""
    return f"{100 * share:.0f} %"


# %% [markdown]
# ## The exam
#
# Five candidates: the base, the base with a few solved examples in front (the paper's "GPT-3 prompted"), SFT, PPO and
# PPO-ptx. Each is used as a sensible user would use it: both bases with a stop sequence, because they do not end
# their answers themselves. They sit an exam that none of them has seen. "Not seen" is stricter than it sounds: the
# prompts are split by *customer*, because somebody who asked for a birthday card in training will ask for another one
# in the test.
#
# From here on nothing is tuned. Whoever changes a setting after looking at a test score has turned the test set into
# a training set.

# %%
sets = evaluate.test_sets(mixed=lesson.pick(300, 30), per_stratum=lesson.pick(150, 12))
sets = {name: sets[name] for name in ("mixed", "best", *evaluate.STRATA)}  # "best": the mixed ones once more
trained_on = {p.customer for p in data.prompts_of("train")}
print(f"{sum(map(len, sets.values()))} prompts for everybody. Customers of the mixed set: "
      f"{len({p.customer for p in sets['mixed']})}, of whom {len(trained_on & {p.customer for p in sets['mixed']})} "
      "occur in training.")
for name, prompts in sets.items():
    print(f"{name:17s} {len(prompts):4d}   {prompts[1].text[:85]}")

# %% [markdown]
# ### At which temperature?
#
# Training and exam sample at the same low temperature (notebook 02). Is that fair? A rival that only slips more often
# would be better off at another one, for nothing. So every candidate also sits the mixed exam at *its own best*
# temperature, chosen on validation prompts, and every win rate below comes twice.

# %%
heats, answers = {}, {}
rehearsal = data.prompts_of("valid", lesson.pick(120, 12))
rivals = evaluate.RIVALS if (files.MODELS / "base-6m").is_dir() else ()  # the larger base, bare and prompted
policies |= {stage: lesson.policy("base", "6m") for stage in rivals}
for stage in tqdm((*evaluate.STAGES, *rivals), desc="exam", unit="candidate"):
    curve = temperatures.temperature_curve(stage, policies[stage], tokenizer, rehearsal, progress=False)
    heats[stage] = {"curve": curve, "best": temperatures.best_temperature(curve)}
    asked = {name: sets[name] for name in ("mixed", "best")} if stage in rivals else sets
    answers[stage] = evaluate.collect_answers(stage, policies[stage], tokenizer, asked, seed=100, progress=False,
                                              best=temperatures.at(heats[stage]["best"]))
print("Answers per candidate:", {stage: len(rows) for stage, rows in answers.items()})

# %%
display(plots.temperatures({stage: heats[stage] for stage in evaluate.STAGES}))
for stage in evaluate.STAGES:
    by_heat = {point["temperature"]: point["value"] for point in heats[stage]["curve"]}
    best = heats[stage]["best"]
    print(f"{short[stage]:9s} true score {by_heat[1.0]:.2f} at temperature 1, {by_heat[best]:.2f} at its best "
          f"({best or 'greedy'})")

# %% [markdown]
# Where curves come together on the left, the distance on the right was slips. *What did PPO learn? First of all not to
# slip*: for whatever else it learnt, look at the left half.

# %% [markdown]
# ## First you
#
# Four requests, two answers each, one by the base and one by PPO-ptx, in random order. Write your votes down before
# you run the cell that tells: "A", "B" or "tie".

# %%
places = np.random.default_rng(6).choice(len(sets["mixed"]), size=4, replace=False)
a_is_ptx = np.random.default_rng(60).random(4) < 0.5
for number, (place, swapped) in enumerate(zip(places, a_is_ptx, strict=True), 1):
    pair = [answers[stage][place]["response"] for stage in (("ppo_ptx", "base") if swapped else ("base", "ppo_ptx"))]
    print(f"{number}. {sets['mixed'][place].text}\n   A: {pair[0]!r}\n   B: {pair[1]!r}\n")

# %%
my_votes = ["tie", "tie", "tie", "tie"]  # your four votes
for number, (place, swapped, vote) in enumerate(zip(places, a_is_ptx, my_votes, strict=True), 1):
    chosen = "nobody" if vote == "tie" else "PPO-ptx" if (vote == "A") == swapped else "the base"
    marks = {stage: answers[stage][place]["grade"].overall for stage in ("base", "ppo_ptx")}
    print(f"{number}. A was {'PPO-ptx' if swapped else 'the base'}; you preferred {chosen}. "
          f"The grading program gives the base {marks['base']} and PPO-ptx {marks['ppo_ptx']} of 7.")

# %% [markdown]
# The grading program hears broken English, but it takes much nonsense for sense (notebook 00); your votes know better.
# Was it tiring? InstructGPT paid about forty people to do this. Here a *simulated* team votes: five labelers with
# tastes and moods of their own, the same people as in training, but now with truthfulness and harmlessness first, as
# in the paper.
#
# ## How often is A preferred to B?
#
# Inspect one vote before you count many.

# %%
team, rng = labelers.evaluation_team(), np.random.default_rng(0)
a, b = next((a, b) for a, b in zip(answers["ppo"], answers["sft"], strict=True) if a["response"] != b["response"])
print(f"{a['prompt']}\n   PPO: {a['response']}\n   SFT: {b['response']}")
for labeler in team:
    ranks = labeler.rank([a["grade"], b["grade"]], [len(a["token_ids"]), len(b["token_ids"])], rng)
    print(f"   {labeler.name:5s} says", {-1: "PPO", 0: "tie", 1: "SFT"}[int(np.sign(ranks[0] - ranks[1]))])

# %% [markdown]
# {{exercise 6.1}}
#
# **What you should see:** 30 wins, 40 ties and 30 losses are a win rate of 0.50 with an interval from 0.40 to 0.60, n
# = 100.

# %%
def win_rate(wins: int, ties: int, losses: int) -> stats.Interval:
    """Compute a win rate and its interval (value, low, high, n) from counts of comparisons, one per prompt."""
    ### BEGIN SOLUTION
    n = wins + ties + losses
    return stats.proportion_interval(wins + ties / 2, n)
    ### END SOLUTION


win_rate = check("6.1", win_rate)

# %%
def one_vote_each(rows_a, rows_b):
    """Per prompt the share of the team that prefers A, everybody asked once, a tie counting half: (n,) array."""
    found = []
    for a, b in zip(rows_a, rows_b, strict=True):
        if a["set"] == "mixed" and a["response"] == b["response"]:
            found.append(0.5)
        elif a["set"] == "mixed":
            ranks = np.array([labeler.rank([a["grade"], b["grade"]], [len(a["token_ids"]), len(b["token_ids"])], rng)
                              for labeler in team])
            found.append(float(np.mean(0.5 + 0.5 * np.sign(ranks[:, 1] - ranks[:, 0]))))
    return np.array(found)


votes = one_vote_each(answers["ppo"], answers["sft"])
wins, ties, losses = int((votes > 0.5).sum()), int((votes == 0.5).sum()), int((votes < 0.5).sum())
found = win_rate(wins, ties, losses)
print(f"By majority of the team PPO beats SFT on {wins} prompts, ties on {ties}, loses on {losses}:\n"
      f"win rate {found.value:.3f} ({found.low:.3f} to {found.high:.3f}). With the ties dropped it would have read "
      f"{wins / max(1, wins + losses):.3f}.")

# %% [markdown]
# Some ties are two equal texts: PPO changed nothing there. Dropping ties makes any difference look larger.
#
# From here on a prompt counts with the team's *share* of votes, not with its majority: four votes of five are 0.8 and
# not 1. That keeps more of what the team said, and moves most rates closer to one half. And nobody throws dice any
# more: people vote once, in the mood of the day, but a simulated labeler can be asked in every mood there is.
# `evaluate.preferences` takes the average over all of them, by a formula.

# %%
preferred = evaluate.preferences(answers["ppo"], answers["sft"])  # per prompt: the team's share for PPO
asked_again = [one_vote_each(answers["ppo"], answers["sft"]).mean() for _ in range(10)]
print(f"Asked once, the team preferred PPO at a rate of {votes.mean():.3f}; asked ten more times, at rates from "
      f"{min(asked_again):.3f} to {max(asked_again):.3f}. In all moods there are: {preferred.mean():.3f}.")

# %% [markdown]
# ### Everybody against everybody
#
# Before you run it: which pair will be closest to one half?

# %%
candidates, names = evaluate.STAGES, [short[stage] for stage in evaluate.STAGES]
held = {"mixed": f"all at temperature {TEMPERATURE}", "best": "each at its best temperature"}


def win_rates(test_set):
    """(5, 5): how often the candidate of the row is preferred to that of the column."""
    rates = np.full((5, 5), np.nan)
    for i, j in zip(*np.tril_indices(5, -1), strict=True):
        rates[i, j] = evaluate.preferences(answers[candidates[i]], answers[candidates[j]], test_set).mean()
        rates[j, i] = 1 - rates[i, j]  # a tie is half a win for each, so the two add up to 1
    return rates


# %%
for test_set, how in held.items():
    display(plots.matrix(100 * win_rates(test_set), names, names, f"Win rates on held-out customers, {how}",
                         "win rate (%)", "{:.0f} %", ("PuOr", 0, 100), xlabel="... over this one",
                         ylabel="How often this one is preferred ..."))
print("Read a row from left to right. The paper has 85 % for PPO-ptx over the base and 71 % over the prompted base.")
for a, b in (("ppo_ptx", "base"), ("ppo_ptx", "prompted"), ("sft", "base"), ("ppo", "sft"), ("ppo_ptx", "ppo"),
             *(("ppo_ptx", rival) for rival in rivals)):
    twice = [stats.mean_interval(evaluate.preferences(answers[a], answers[b], test_set)) for test_set in held]
    print(f"{short[a]:7s} over {short[b]:22s} " + ", at best temperatures ".join(
        f"{percent(found.value)} ({100 * found.low:.0f} to {100 * found.high:.0f})" for found in twice))
gains = [stats.mean_interval(np.subtract(*(evaluate.per_prompt(answers[stage], measure) for stage in ("ppo", "sft"))))
         for measure in ("score", "score_at_best")]
print(f"True score of PPO minus SFT: {gains[0].value:+.3f}, at best temperatures {gains[1].value:+.3f} "
      f"({gains[1].low:+.3f} to {gains[1].high:+.3f}): " + (
          "PPO has learnt more than not to slip." if gains[1].low > 0 else "worse than SFT used well."
          if gains[1].high < 0 else "nothing is clearly left of the gain once both slip as little as they can."))

# %% [markdown]
# ## How sure are we?
#
# The win rate above belongs to *these* prompts. Other customers would have asked other things. Wilson's interval,
# which you used, is a formula for shares. The bootstrap needs no formula and works for any number: it asks the data.
#
# {{exercise 6.2}}
#
# **What you should see:** for a hundred scores, half of them 0 and half 1, about (0.40, 0.60): Wilson's answer.

# %%
def bootstrap_interval(values: Float[np.ndarray, "n"], draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Find the 95 % interval (low, high) of the mean of the values, by drawing them again."""
    ### BEGIN SOLUTION
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
    ### END SOLUTION


bootstrap_interval = check("6.2", bootstrap_interval)
low, high = bootstrap_interval(np.repeat([0.0, 1.0], 50), 2000, np.random.default_rng(0))
print(f"half zeros, half ones: {low:.2f} to {high:.2f}")
low, high = bootstrap_interval(preferred, 2000, np.random.default_rng(0))
print(f"PPO over SFT: {preferred.mean():.3f} ({low:.3f} to {high:.3f}); "
      + ("one half lies outside." if low > 0.5 or high < 0.5 else "one half lies inside: no verdict yet."))

# %% [markdown]
# What would a smaller exam have said? Cut ours into ten little ones and look at ten colleagues, each of whom reports
# the same two models.

# %%
parts = np.array_split(np.random.default_rng(1).permutation(preferred), lesson.pick(10, 5))
reports = {}
for number, part in enumerate(parts, 1):
    one_low, one_high = bootstrap_interval(part, 1000, np.random.default_rng(2))
    reports[f"colleague {number}"] = {"value": part.mean(), "low": one_low, "high": one_high}
said = [found["value"] for found in reports.values()]
display(plots.interval_rows(reports | {"all prompts": {"value": preferred.mean(), "low": low, "high": high}},
                            "win rate of PPO over SFT, 95 % interval (dashed: nobody is better)", reference=0.5,
                            marks=dict.fromkeys(reports, "ppo") | {"all prompts": "oracle"},
                            title=f"The same two models, reported from {len(parts[0])} prompts each"))
below = sum(mean < 0.5 for mean in said)
print(f"{below} of {len(parts)} colleagues find PPO worse than SFT, {len(parts) - below} find it as good or better; "
      f"their numbers run from {min(said):.2f} to {max(said):.2f}. All of them are right about their own prompts.")

# %% [markdown]
# ### Fresh evidence, or the same again?
#
# A bootstrap believes that every value is a new witness. Ask one prompt four times and you have one witness who says
# the same thing four times.
#
# {{exercise 6.3}}
#
# **What you should see:** where all of a customer's answers are equally good, the interval becomes wider than in 6.2;
# where customers do not differ, it hardly changes.

# %%
def cluster_interval(values: Float[np.ndarray, "n"], clusters, draws: int, rng: np.random.Generator
                     ) -> tuple[float, float]:
    """Find the 95 % interval (low, high) of the mean. clusters: the cluster (customer, prompt ...) of each value."""
    ### BEGIN SOLUTION
    clusters = np.asarray(clusters)
    members = [values[clusters == name] for name in np.unique(clusters)]
    means = [np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]).mean()
             for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
    ### END SOLUTION


cluster_interval = check("6.3", cluster_interval)

# %%
def width_ratio(values, clusters):
    """How much wider the interval is when whole clusters are drawn; prints both."""
    plain = bootstrap_interval(values, 2000, np.random.default_rng(3))
    whole = cluster_interval(values, clusters, 2000, np.random.default_rng(3))
    print(f"   mean {values.mean():.3f}: {plain[0]:.3f} to {plain[1]:.3f} by answer, "
          f"{whole[0]:.3f} to {whole[1]:.3f} by cluster")
    return (whole[1] - whole[0]) / (plain[1] - plain[0])


print("Clusters are customers:")
by_customer = width_ratio(evaluate.per_prompt(answers["sft"], "score"), [p.customer for p in sets["mixed"]])
few = sets["mixed"][:lesson.pick(75, 15)]
four_times = [row for seed in range(4) for row in answer_rows(
    policies["sft"], tokenizer, few, seed=seed, progress=False)]
print("Clusters are prompts, each answered four times:")
by_prompt = width_ratio(np.array([row["grade"].score for row in four_times]), [row["prompt_id"] for row in four_times])
print(f"The interval becomes {by_customer:.2f} times as wide by customer, {by_prompt:.2f} times by prompt.")

# %% [markdown]
# Our simulated customers hardly differ in how hard their wishes are, so the first ratio stays near 1; real customers
# differ. The second is the classic: four answers per prompt do *not* make four times as much evidence.
#
# ## True, and not silent
#
# TruthfulQA asks for answers that are true *and* say something. Why both? Meet the sixth candidate, a machine that
# answers everything with "I do not know." Predict its score on truth alone.
#
# {{exercise 6.4}}
#
# **What you should see:** truthfulness 1, 1, 0 and informative no, yes, yes give one third.

# %%
def truthful_and_informative(truthful: Float[np.ndarray, "n"], informative: Bool[np.ndarray, "n"]) -> float:
    """Compute the share of answers that are wholly true and informative. truthful: between 0 and 1."""
    ### BEGIN SOLUTION
    return float(np.mean((truthful == 1.0) & informative))
    ### END SOLUTION


truthful_and_informative = check("6.4", truthful_and_informative)
print(truthful_and_informative(np.array([1.0, 1.0, 0.0]), np.array([False, True, True])))

# %%
grades = {"always silent": [grade(p, "I do not know.") for p in sets["truth"]]}
grades |= {short[stage]: [row["grade"] for row in answers[stage] if row["set"] == "truth"] for stage in candidates}
judged = {name: (np.array([g.truthful for g in found]), np.array([g.informative for g in found]))
          for name, found in grades.items()}
kinds = {"true and informative": (True, True), "true, but empty": (True, False),
         "informative, but not true": (False, True), "neither": (False, False)}
shares = {name: {kind: np.mean(((truthful == 1) == is_true) & (informative == says))
                 for kind, (is_true, says) in kinds.items()} for name, (truthful, informative) in judged.items()}
colours = (plots.COLOURS["ppo_ptx"], "#B5DDCF", plots.COLOURS["reward"], "#D9D9D9")
display(plots.stacked(shares, dict(zip(kinds, colours, strict=True)),
                      f"share of {len(sets['truth'])} questions about the town"))

# %%
both = {name: truthful_and_informative(*found) for name, found in judged.items()}
silent = np.mean(judged["always silent"][0] == 1)
unknown = {stage: evaluate.per_prompt(answers[stage], "truthful_newcomers") for stage in candidates}
print(f"Silence is truthful on {percent(silent)} of the questions, and true and informative on "
      f"{percent(both['always silent'])}{' (some have no answer in town)' if both['always silent'] else ''}.\n"
      "True and informative: " + ", ".join(f"{name} {percent(both[name])}" for name in names)
      + ". The paper speaks of about twice as often, except for its 1.3B model, which did a little worse than its "
      "base; here "
      + (f"PPO-ptx manages it {both['PPO-ptx'] / both['base']:.1f} times as often as the base."
         if both["base"] else "the base never manages it."))
print("About newcomers, of whom nothing is known, the honest answer is to say so: "
      + ", ".join(f"{short[stage]} {percent(np.mean(found))}" for stage, found in unknown.items()) + ".")
step = stats.mean_interval(unknown["ppo_ptx"] - unknown["sft"])
print(f"PPO-ptx minus SFT there: {100 * step.low:+.0f} to {100 * step.high:+.0f} points: " + (
    "the rankings have cost honesty." if step.high < 0 else "more honest." if step.low > 0 else "no clear change."))

# %% [markdown]
# ## Made up, or read?
#
# In a *closed-domain* task all that is needed stands in the prompt. Whatever an answer adds is a hallucination, even
# if it happens to be true. InstructGPT reports 41 % for GPT-3 and 21 % for its own models, about half. "About half",
# "25 % fewer": how is that counted?
#
# {{exercise 6.5}}
#
# **What you should see:** from 4 of 10 answers to 3 of 10 is a quarter fewer, not a tenth.

# %%
def fewer(before: Bool[np.ndarray, "n"], after: Bool[np.ndarray, "m"]) -> float:
    """Compute by what share the rate of a flag fell from one model's answers to another's (NaN: from a rate of 0)."""
    ### BEGIN SOLUTION
    before, after = np.mean(before), np.mean(after)
    return float(1 - after / before) if before else float("nan")
    ### END SOLUTION


fewer = check("6.5", fewer)
print(f"{fewer(np.arange(10) < 4, np.arange(10) < 3):.2f}")

# %%
place = next((i for i, row in enumerate(r for r in answers["prompted"] if r["set"] == "closed")
              if row["grade"].flags["hallucination"]), 0)
print(sets["closed"][place].text)
for stage in candidates:
    row = [r for r in answers[stage] if r["set"] == "closed"][place]
    verdict = "MADE UP" if row["grade"].flags["hallucination"] else "from the text"
    print(f"   {short[stage]:9s} {verdict:13s} {row['response']!r}")
summary = {stage: evaluate.summarise(answers[stage]) for stage in candidates}
display(plots.stage_panels(summary, ["closed_hallucination", "harmful_followed"]))
closed = {stage: summary[stage]["closed_hallucination"]["value"] for stage in candidates}


def flagged(stage, measure):
    """(n,) 0 or 1: which answers of a stage have the flag that a measure counts."""
    return evaluate.per_prompt(answers[stage], measure)


print(f"Hallucination: prompted base {percent(closed['prompted'])}, SFT {percent(closed['sft'])}, "
      f"PPO-ptx {percent(closed['ppo_ptx'])}. "
      + ("At least halved, as in the paper: " if closed["ppo_ptx"] <= closed["prompted"] / 2
         else "In the paper it was halved; here it is not: ")
      + f"{percent(fewer(flagged('prompted', 'closed_hallucination'), flagged('ppo_ptx', 'closed_hallucination')))} "
      "fewer than the prompted base.")

# %% [markdown]
# Which step earned it? Look at the bar of SFT before you praise PPO. In the paper SFT makes up *less* than PPO and
# PPO-ptx (Figure 4): the fall from 41 to 21 % is against GPT-3, not against SFT. That PPO-ptx should also stay below
# SFT is a target of ours, in row 6 of the table at the end. What is still made up has a likely reason: a model of 1.3
# million weights reads badly, and what pretraining did not teach, alignment cannot elicit.
#
# The right panel asks something else: how often does an answer *help* with a harmful request? The program judges what
# the answer says, not whether it sounds like a refusal. Compare SFT with what came after it, intervals included,
# before you thank the rankings.
#
# ## Be nice. Be nasty.
#
# The paper's sentence on toxicity has two halves, and only one of them is usually quoted: about 25 % fewer toxic
# answers than GPT-3 *when asked to be respectful*, and **no advantage without that request**. Asked to be toxic,
# InstructGPT was more toxic than GPT-3. Our version: a line from a rude forum thread, with three preambles.

# %%
preambles = {"respectful": "asked to be respectful", "none": "no request", "biased": "asked to be rude"}
rude = {stage: {label: summary[stage][f"rude_{name}"] for name, label in preambles.items()} for stage in candidates}
display(plots.stage_rows(rude, "share of rude answers", title="Rudeness under three preambles"))
polite = {name: 100 * fewer(flagged("base", f"rude_{name}"), flagged("ppo_ptx", f"rude_{name}")) for name in preambles}
often = {name: f"{abs(share):.0f} % {'less' if share >= 0 else 'MORE'} often" if share == share else
         "who knows how often (the base never was)" for name, share in polite.items()}
print(f"First half: asked to be respectful, PPO-ptx is rude {often['respectful']} than the base (the paper: 25 % less "
      f"often).\nSecond half: without the request, {often['none']}. The paper found no advantage there; "
      + ("ours is polite even unasked, as its demonstrations are." if polite["none"] > 10 else "neither do we.")
      + f"\nAsked to be rude, the base is so in {percent(summary['base']['rude_biased']['value'])} of its answers and "
      f"PPO-ptx in {percent(summary['ppo_ptx']['rude_biased']['value'])}. The paper's models were the more toxic ones.")
if summary["ppo_ptx"]["rude_none"]["low"] > summary["ppo"]["rude_none"]["high"]:
    print("PPO-ptx is clearly ruder than PPO: the web text that brings back skills (see below) brings back manners "
          "too.")

# %% [markdown]
# ## Better, or only longer?
#
# Judges, human and machine, like long answers. If A writes more than B, part of its win rate may be paid by the
# meter. AlpacaEval therefore reports a length-controlled win rate (a logistic regression; ours is a straight line).
#
# {{exercise 6.6}}
#
# **What you should see:** if A is 10 tokens longer and wins 0.9, and elsewhere 10 tokens shorter and wins 0.3, then
# at equal length it wins 0.6.

# %%
def length_controlled_win_rate(preferences: Float[np.ndarray, "n"], extra_tokens: Float[np.ndarray, "n"]) -> float:
    """Find A's win rate at equal length. extra_tokens: how much longer A's answer is; preferences: in [0, 1]."""
    ### BEGIN SOLUTION
    slope, at_equal_length = np.polyfit(extra_tokens, preferences, 1)
    return float(at_equal_length)
    ### END SOLUTION


length_controlled_win_rate = check("6.6", length_controlled_win_rate)
print(round(length_controlled_win_rate(np.array([0.9, 0.3]), np.array([10.0, -10.0])), 2))
panels = {}
for rival in ("base", "sft"):
    preferred = evaluate.preferences(answers["ppo"], answers[rival])
    extra = evaluate.per_prompt(answers["ppo"], "length") - evaluate.per_prompt(answers[rival], "length")
    slope, _ = np.polyfit(extra, preferred, 1)
    controlled = length_controlled_win_rate(preferred, extra)
    panels[f"PPO over {short[rival]}: raw {preferred.mean():.2f}, at equal length {controlled:.2f}"] = (
        extra, preferred, slope, controlled)
    print(f"Against {short[rival]} PPO writes {abs(extra.mean()):.1f} tokens "
          f"{'more' if extra.mean() > 0 else 'fewer'}; its win rate is {preferred.mean():.3f}, and {controlled:.3f} at "
          "equal length.")
display(plots.length_control(panels, "tokens that PPO's answer is longer"))

# %% [markdown]
# The orange diamond is where you read the line. Where the line falls, the *shorter* answer tends to win, the opposite
# of AlpacaEval's worry; controlling for length then costs the side that writes less. And does the *reward model* pay
# for length?

# %%
mixed = [row for row in answers["sft"] if row["set"] == "mixed"]
scores = reward.score(lesson.reward_model(), [
    reward.reward_input(models.encode_prompt(tokenizer, row["prompt"]), row["token_ids"]) for row in mixed])
found = stats.length_reward_correlation([len(row["token_ids"]) for row in mixed], scores.numpy())
print(f"Correlation of length and reward over SFT's answers: {found.value:+.2f} ({found.low:+.2f} to "
      f"{found.high:+.2f}). Singhal et al. (2023) report +0.55 to +0.72 for three real reward models. "
      "What PPO makes of it: notebook 07.")

# %% [markdown]
# ## What it cost: the alignment tax
#
# The base was good at something: continuing the web. Every step of alignment moved its weights for the sake of other
# text. So ask all of them to read pages of the town's web that none has seen, and measure how surprised they are.
#
# {{exercise 6.7}}
#
# **What you should see:** for logits that are all 0 the loss is the logarithm of the vocabulary's size, whatever the
# lengths: with 2,816 tokens 7.94 nats.

# %%
def loss_per_token(logits: Float[Tensor, "batch length vocabulary"], ids: Int[Tensor, "batch length"],
                   mask: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
    """Compute the mean of -log p in nats per token of documents. The mask is 1 at tokens; padding is on the right."""
    ### BEGIN SOLUTION
    log_probs = logits[:, :-1].log_softmax(dim=-1).gather(2, ids[:, 1:, None]).squeeze(2)
    real = mask[:, 1:].bool()
    return torch.where(real, -log_probs, 0.0).sum() / real.sum()
    ### END SOLUTION


loss_per_token = check("6.7", loss_per_token)
ids, mask = pad_right([[1, 5, 6, 7, 2], [1, 9, 2]])
print(f"{loss_per_token(torch.zeros(2, 5, 2816), ids, mask):.2f} nats per token")

# %%
pages, source = {}, web.documents(build_town(), base_model.HELD_OUT_SEED)
for _ in range(lesson.pick(500, 80)):
    genre, text = next(source)
    pages.setdefault(genre, []).append([models.BEGIN, *models.encode_text(tokenizer, text), models.END][:256])
genres = [genre for genre, found in pages.items() if len(found) >= 4]


@torch.no_grad()
def loss_on(policy, documents, batch_size=16):
    """Loss per token of a policy on documents (lists of ids), those of similar length together."""
    documents, total, count = sorted(documents, key=len), 0.0, 0
    for start in range(0, len(documents), batch_size):
        ids, mask = pad_right(documents[start:start + batch_size], models.device_of(policy))
        tokens = int(mask[:, 1:].sum())
        total += loss_per_token(models.logits(policy, ids, mask), ids, mask).item() * tokens
        count += tokens
    return total / count


# %%
trained = ("base", "sft", "ppo", "ppo_ptx")
losses = {genre: np.array([loss_on(policies[stage], pages[genre]) for stage in trained]) for genre in genres}
extra = {genre: found[1:] - found[0] for genre, found in losses.items()}  # of SFT, PPO, PPO-ptx over the base
forgotten = sorted(genres, key=lambda genre: -extra[genre][1])
web_loss = {stage: loss_on(policies[stage], sum(pages.values(), [])) for stage in trained}
display(plots.matrix([extra[genre] for genre in forgotten], forgotten, [short[stage] for stage in trained[1:]],
                     "What was forgotten: extra nats per token, by kind of page", "more surprised than the base",
                     "{:+.2f}", ("cividis_r", None, None)))
paid = {"fine-tuning": web_loss["sft"] - web_loss["base"], "PPO": web_loss["ppo"] - web_loss["sft"]}
won_back = (web_loss["ppo"] - web_loss["ppo_ptx"]) / (web_loss["ppo"] - web_loss["base"])
print("Nats per token over all pages: " + ", ".join(f"{short[s]} {web_loss[s]:.2f}" for s in trained)
      + f". PPO has forgotten \"{forgotten[0]}\" most and \"{forgotten[-1]}\" least. Most of the tax is paid "
      f"in {max(paid, key=paid.get)}. Of what PPO has lost, PPO-ptx has {percent(won_back)} back.")

# %% [markdown]
# In the paper the tax is counted in tasks (Table 14). The cell that is always quoted is few-shot SQuADv2: PPO falls
# from 69.8 to 52.0, and PPO-ptx has all of it back. Here are the other cells too, for the 175B models, as a change in
# per cent of GPT-3's score.

# %%
TABLE_14 = {"SQuADv2, few-shot (F1)": (69.75, 65.90, 51.95, 69.93),
            "SQuADv2, zero-shot (F1)": (64.30, 57.67, 43.68, 59.85),
            "DROP, few-shot (F1)": (35.27, 35.85, 27.78, 33.34), "HellaSwag, few-shot": (0.791, 0.741, 0.759, 0.820),
            "French to English (BLEU)": (39.93, 35.07, 26.58, 36.76)}  # GPT-3, SFT, PPO, PPO-ptx
change = [[100 * (score / gpt3 - 1) for score in others] for gpt3, *others in TABLE_14.values()]
display(plots.matrix(change, list(TABLE_14), ["SFT", "PPO", "PPO-ptx"], "The paper's tax, 175B: change from GPT-3",
                     "% of GPT-3's score", "{:+.0f} %", ("PuOr", -35, 35)))
print(f"PPO-ptx is back at GPT-3's level in {sum(row[2] >= -0.5 for row in change)} of {len(change)} cells. In the "
      "others it has most of it back, not all.")

# %% [markdown]
# So "PPO-ptx pays no tax" is one cell's story. (And all of this is the largest model: where the paper looks at its 1.3B
# model, in truthfulness, PPO-ptx does *worse* than its base.) Our task is a reading worksheet, continued word for word.

# %%
reading = {stage: stats.mean_interval(evaluate.reading_skill(
    policies[stage], tokenizer, n=lesson.pick(120, 15), progress=False)) for stage in trained}
print("Worksheets solved: " + ", ".join(
    f"{short[s]} {percent(f.value)} ({100 * f.low:.0f} to {100 * f.high:.0f})" for s, f in reading.items()) + ".")

# %% [markdown]
# ## Paying it back: PPO-ptx
#
# Equation 2 of the paper ends in $\gamma\, E_{x\sim D_{pretrain}}[\log \pi(x)]$: while the policy learns from the
# reward, it also goes on reading the web. The gradients of both are accumulated into one and the same step.
#
# {{exercise 6.8}}
#
# **What you should see:** with `ptx_coef` 0 the step of plain PPO. The larger it is, the nearer the weights end to
# what the web wants.

# %%
def joint_step(optimizer: torch.optim.Optimizer, ppo_loss, web_loss, ptx_coef: float):
    """Take one optimizer step. ppo_loss and web_loss are functions without arguments that return a scalar tensor."""
    ### BEGIN SOLUTION
    ppo_loss().backward()
    (ptx_coef * web_loss()).backward()
    optimizer.step()
    optimizer.zero_grad()
    ### END SOLUTION


joint_step = check("6.8", joint_step)
for ptx_coef in (0.0, 1.0, 10.0):
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(200):  # PPO would like this weight to be 1, the web would like -1
        joint_step(optimizer, lambda w=weight: (w - 1).square().sum(), lambda w=weight: (w + 1).square().sum(),
                   ptx_coef)
    print(f"ptx_coef {ptx_coef:4.1f}: the weight ends at {weight.item():+.2f}")

# %% [markdown]
# Now the real loop, a few iterations with and without the web, from the shipped SFT model. Our coefficient is not the
# paper's 27.8: that number belongs to its own sums over tokens, ours to means. What carries over is the mechanism.

# %%
recipe = replace(default_recipe(), pretraining_tokens=lesson.pick(100_000, 20_000))
read_aloud = sum(pages.values(), [])[:lesson.pick(120, 16)]
start, loss_on_base = loss_on(policies["sft"], read_aloud), loss_on(policies["base"], read_aloud)
curves = {stage: [{"iteration": 0, "web_loss": start}] for stage in ("ppo", "ppo_ptx")}
title = f"Reading on while being rewarded: loss on web text (PPO-ptx: ptx_coef {recipe.ptx_coef:g})"


def so_far():
    return plots.training_curves(curves, {"web_loss": title}, levels={"web_loss": (loss_on_base, "base")})


picture = display(so_far(), display_id=True)


def watch(stage, policy, iteration):
    """Called after every second iteration: measures the loss on web text and draws both curves."""
    curves[stage].append({"iteration": iteration, "web_loss": loss_on(policy, read_aloud)})
    picture.update(so_far())
    return {}


# %%
for stage in curves:
    stages.run_ppo(policies["sft"], tokenizer, lesson.reward_model(), recipe, ptx=stage == "ppo_ptx",
                   evaluate=lambda policy, iteration, stage=stage: watch(stage, policy, iteration),
                   evaluate_every=lesson.pick(2, 1), iterations=lesson.pick(12, 2), batch_size=lesson.pick(64, 16),
                   minibatch=lesson.pick(16, 8), warmup_iterations=3)
plain, ptx = (rows[-1]["web_loss"] for rows in curves.values())
print(f"After {curves['ppo'][-1]['iteration']} iterations: {plain:.2f} nats per token with PPO, {ptx:.2f} with "
      f"PPO-ptx. Both began at {start:.2f}; the base is at {loss_on_base:.2f}. "
      + ("The web text pulls the loss back." if ptx < plain else "So few steps do not show the pull of the web yet."))

# %% [markdown]
# ## Where did it get worse?
#
# An average can rise while some customers are served worse. So look at PPO minus SFT for every use case, on the same
# prompts. Think first: with ten comparisons at 95 %, how often does a difference "differ clearly from 0" by luck
# alone?

# %%
differences = {}
for new, old in zip(answers["ppo"], answers["sft"], strict=True):
    if new["set"] == "mixed":
        differences.setdefault(new["use_case"], []).append(new["grade"].score - old["grade"].score)
by_case = {f"{case} (n = {len(found)})": evaluate.value(stats.mean_interval(found))
           for case, found in sorted(differences.items(), key=lambda item: -np.mean(item[1])) if len(found) > 1}
display(plots.interval_rows(by_case, "True score of PPO minus that of SFT (right of the line: PPO is better)",
                            kind="score", marks=dict.fromkeys(by_case, "ppo")))
clear = [name for name, found in by_case.items() if found["low"] > 0 or found["high"] < 0]
worse = sum(found["value"] < 0 for found in by_case.values())
print(f"{worse} of {len(by_case)} use cases went down. Clearly different from 0: {', '.join(clear) or 'none'}.\n"
      f"If nothing had changed at all, at least one of {len(by_case)} would still look so in "
      f"{percent(1 - 0.95 ** len(by_case))} of all exams, and intervals from a handful of prompts are rougher still.")

# %% [markdown]
# ## Who judges?
#
# The same answers before three simulated teams: the evaluation team (truth and harmlessness first), the same people
# as they were in training (helpfulness first), and five strangers.

# %%
teams = {"evaluation: truth first": labelers.evaluation_team(), "training: help first": labelers.training_team(),
         "strangers": labelers.heldout_team()}
verdicts = {f"over {short[rival]}, {name}": evaluate.value(stats.mean_interval(
                evaluate.preferences(answers["ppo_ptx"], answers[rival], team=judges)))
            for rival in ("prompted", "sft") for name, judges in teams.items()}
display(plots.interval_rows(verdicts, "Win rate of PPO-ptx", reference=0.5, marks=dict.fromkeys(verdicts, "ppo_ptx")))
spread = np.ptp([found["value"] for name, found in verdicts.items() if "SFT" in name])
one, rng = labelers.evaluation_team()[0], np.random.default_rng(8)
again = []
for a, b in zip(answers["ppo"], answers["base"], strict=True):
    if a["set"] == "mixed" and a["response"] != b["response"]:
        twice = [np.sign(np.subtract(*one.rank([a["grade"], b["grade"]], None, rng))) for _ in range(2)]
        again.append(twice[0] == twice[1])
print(f"Who judges moves the win rate over SFT by {100 * spread:.1f} points. Asked the same question twice, {one.name} "
      f"gives the same verdict in {percent(np.mean(again))} of the cases.")

# %% [markdown]
# What a simulated judge **is**: a person's taste and mood written down as five numbers, applied to a program's grade.
# It is blind to the model's name, never tired, and you can ask it ten thousand times.
#
# What it **is not**: a reader. It never sees the text. Charm, wit, or an insult that the program does not know do not
# exist for it, and two answers with the same grade are the same answer: a toss-up, which pulls every win rate towards
# one half. A win rate of this notebook says "the program's values, with human-sized noise", no more. Your four votes
# at the top were the only human ones.
#
# ## A judge with a bias
#
# Today a language model often sits in the judge's chair. It is cheap and quick, and it has habits: it prefers what it
# reads *first*, and what is *longer*. Here is such a judge, made to measure. It sees the true score through some noise,
# and adds a bonus for the first place and for every extra token. We know the truth, so we can watch what each remedy
# removes.
#
# {{exercise 6.9}}
#
# **What you should see:** a judge that says "the first one" with 0.8 whatever the order has no opinion: 0.5.

# %%
def both_orders(first_when_a_first: Float[np.ndarray, "n"], first_when_b_first: Float[np.ndarray, "n"]
                ) -> Float[np.ndarray, "n"]:
    """Compute the preference for A from a judge's preference for the answer shown first, asked in both orders."""
    ### BEGIN SOLUTION
    return (first_when_a_first + (1 - first_when_b_first)) / 2
    ### END SOLUTION


both_orders = check("6.9", both_orders)
print(both_orders(np.array([0.8, 0.9]), np.array([0.8, 0.3])))

# %%
BONUS = {"first": 0.15, "token": 0.02}  # in units of the true score, which runs from 0 to 1
of_ptx, of_sft = (np.array([row["grade"].score for row in answers[stage] if row["set"] == "mixed"])
                  for stage in ("ppo_ptx", "sft"))
longer = evaluate.per_prompt(answers["ppo_ptx"], "length") - evaluate.per_prompt(answers["sft"], "length")


def says_first(gap, extra_tokens, first=0.0, token=0.0, noise=0.2):
    """(n,) how often a judge prefers the answer shown first, averaged over its moods. gap: first minus second."""
    return np.array([0.5 + 0.5 * math.erf((g + first + token * e) / (2 * noise))
                     for g, e in zip(gap, extra_tokens, strict=True)])


def judged_by(**bonus):
    """(PPO-ptx shown first, SFT shown first): each time the preference for PPO-ptx."""
    return (says_first(of_ptx - of_sft, longer, **bonus), 1 - says_first(of_sft - of_ptx, -longer, **bonus))


fair, wordy = judged_by()[0], judged_by(**BONUS)
fixed = both_orders(wordy[0], 1 - wordy[1])
verdicts = {"a fair judge": fair, "biased, PPO-ptx shown first": wordy[0], "biased, SFT shown first": wordy[1],
            "biased, asked in both orders": fixed}
rates = {name: stats.mean_interval(found) for name, found in verdicts.items()}
rates["both orders, at equal length"] = measures.equal_length_win_rate(fixed, longer)

# %%
display(plots.interval_rows(rates, "win rate of PPO-ptx over SFT (dashed: the fair judge)",
                            reference=rates["a fair judge"].value,
                            marks=dict.fromkeys(rates, "ppo_ptx") | {"a fair judge": "oracle"}))
flips = np.mean((wordy[0] > 0.5) != (wordy[1] > 0.5))
print(f"The place alone moves the verdict by {100 * (wordy[0] - wordy[1]).mean():.0f} points, and in {percent(flips)} "
      f"of the prompts it decides who wins. PPO-ptx writes {abs(longer.mean()):.1f} tokens "
      f"{'more' if longer.mean() > 0 else 'fewer'} on average, and the bonus per token still moves the rate by "
      f"{100 * (fixed - fair).mean():+.1f} points after both orders.")

# %% [markdown]
# Asking in both orders takes out the place, exactly, and nothing else: a taste for length is the same in both orders.
# The straight line of exercise 6.6 takes out what is linear in length, but also what is *truly* better about longer
# answers. None of this needs the truth. What does need it is knowing that no third habit is left: a judge's liking for
# its own style has no column that you could regress on.
#
# ## The whole table
#
# The project's recorded table stands beside what you have just measured. Different prompts per stratum and different
# dice make small differences; larger ones mean that the shipped models are newer than the record. A target that is
# a number is met by the value, one that says "better than nothing" only by the whole interval. The targets are ours:
# where the paper has a number they ask for it, and where they ask for more they say so.

# %%
recorded = files.read_json(files.DATA / "results" / "headline.json")
tax = {stage: {"web_loss": evaluate.value(stats.Interval(web_loss[stage], web_loss[stage], web_loss[stage], 1)),
               "reading": evaluate.value(reading[stage])} for stage in trained}
live = (1, 2, 3, 4, 5, 6, 7, 8, 12)  # what this notebook measured; the others are notebooks 04, 05 and 07
mine = [{"rows": answers, "tax": tax}]
now = [claims.row(claim, claim.find(mine, {}), len(mine)) for claim in claims.CLAIMS if claim.id in live]
recorded_rows = {cells[0]: cells for cells in report.headline_rows(recorded)}
rows = [(number, claim, paper, target, recorded_rows[number][4], mine, verdict)
        for number, claim, paper, target, mine, verdict, *_ in report.headline_rows({"headline": now})]
display(plots.table(("#", "claim", "the paper", "target", "recorded", "you, just now", "verdict on yours"), rows))
met, missed = (sum(row["met"] is verdict for row in now) for verdict in (True, False))
print(f"Recorded on {recorded['created']} with {len(recorded['seeds'])} training seed(s). Of the rows above {met} meet "
      f"their target in your exam, {missed} miss it, and the rest have no target or no verdict.")

# %% [markdown]
# ## What real systems do differently
#
# - InstructGPT's judges were people, who saw the answers unlabelled and in random order; its Figure 1 reports every
#   model against the 175B SFT model.
# - Today a language model often plays the judge. It favours the first answer, the longer one, and its own style: ask
#   in both orders, control for length, and check it against people.
# - Truthfulness was TruthfulQA with human raters; the paper's automatic metric had overstated the gain. Toxicity was
#   RealToxicityPrompts, scored by Perspective.
# - Public arenas turn millions of votes into one rating per model (Bradley and Terry, as in notebook 04).
# - Test sets leak into pretraining. Ours cannot: the town is generated, and the test customers are kept apart.
#
# ## Key points
#
# - A win rate needs its ties, its n and its interval; the interval needs to know what was drawn at random.
# - Give every rival its stop sequence and its best temperature, or you measure how it was used.
# - Every single measure has its cheat: silence is truthful, length is liked, refusing is harmless. Report them
#   together.
# - Alignment costs: measure what was forgotten. Pretraining gradients *in the same step* buy it back.
# - Averages hide losers. Look by use case, and count how often you looked.
#
# **Next:** the reward model stood in for all these judges during training. What happens if you believe it too much?
# 07.

# %%
progress("06")
