"""Your feedback drives your model: twenty rankings by one person, a reward model from them, and a short PPO run.

    items = to_rank(sft, tokenizer)                          # for RankingSession(items, name, path, repeats=3)
    found = drive(rankings(path), sft, shipped, tokenizer)   # reward models, PPO, before and after, agreement
    my_model_page.save(found, "runs/own/page.html")          # all of it on one page

The idea: whoever ranks decides what PPO does to a model. Twenty ranked prompts are few (InstructGPT had 33,000), so
two reward models learn from them: one from your rankings alone, and one on top of the shipped reward model, which
already knows a good answer and only has to learn what *you* like. Every pair is predicted by a model that has not
seen its prompt (cross-validation), so all the pairs count and none has been memorised.

Left out: more than one person in a reward model, and asking for the rankings that would teach it most.
"""

import functools
import math
import random
import re
import time
import warnings
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from rlhf_lite import models, reward, stats
from rlhf_lite.experiment import data
from rlhf_lite.experiment.answers import answer_rows
from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS, TEMPERATURE, Recipe
from rlhf_lite.ppo import PPOConfig, train_ppo
from rlhf_lite.real.human_data import READING_ONLY
from rlhf_lite.reward import RewardConfig
from rlhf_lite.sampling import sample_many
from rlhf_lite.stats import Agreement, agree, self_consistency
from rlhf_lite.town import labelers
from rlhf_lite.town.grading import grade
from rlhf_lite.widgets import labels


@dataclass(frozen=True)
class OwnConfig:
    """All these settings are ours; nobody in the paper had only twenty rankings."""

    alone: RewardConfig = RewardConfig(epochs=8, batch_prompts=4, lr=1e-3)
    on_top: RewardConfig = RewardConfig(epochs=8, batch_prompts=4, lr=1e-3)
    folds: int = 4
    driver: str | None = None  # the model PPO follows, "alone" or "on top"; None: the one that predicts you better
    ppo: PPOConfig = PPOConfig(iterations=20, batch_size=64, minibatch=32, max_new_tokens=MAX_NEW_TOKENS,
                               temperature=TEMPERATURE, kl_coef=0.1, lr=3e-4, warmup_iterations=3)
    looks: int = 100  # held-out prompts answered before and after
    seed: int = 0


DEFAULTS = OwnConfig()


@dataclass
class Own:
    """The results. before, after: `answers.answer_rows` for the same prompts, each with "own_score" added."""

    learner: str
    rankings: int
    accuracy: dict  # reward model -> stats.Interval over prompts: share of the held-out pairs that it orders as you did
    pairs: int  # the number of those pairs
    driver: str  # the reward model that PPO followed
    agreements: dict  # who -> stats.Agreement; "yourself" is the first
    before: list
    after: list
    reward_model: object = field(repr=False)
    policy: object = field(repr=False)
    history: list = field(repr=False)  # of PPO
    seconds: dict  # part -> wall time


# ---------------------------------------------------------------- what to rank, and who ranks

def to_rank(policy, tokenizer, n=20, answers=4, temperatures=Recipe.temperatures, seed=0, prompts=None,
            progress=True):
    """n prompts, cycling through the use cases, each with different sampled answers -> items for `RankingSession`.

    temperatures: those of the answers, in turn; a ranking needs answers that differ. prompts: the prompts to choose
    from (default: the town's training prompts). The session's `repeats` shows the first items a second time, which
    measures how far you agree with yourself.
    """
    by_case = {}
    for prompt in prompts or data.prompts_of("train"):
        by_case.setdefault(prompt.use_case, []).append(prompt)
    rng = random.Random(f"to rank {seed}")
    queues = [rng.sample(prompts, min(len(prompts), 3 * n)) for prompts in by_case.values()]
    mixed = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)][:2 * n]
    found = [{} for _ in mixed]
    for k in range(2 * answers):
        heat = temperatures[k % len(temperatures)]
        drawn = sample_many(policy, data.encoded(tokenizer, mixed), MAX_NEW_TOKENS, heat,
                            seed=seed * 1000 + k, progress=progress)
        for texts, ids in zip(found, drawn, strict=True):
            texts.setdefault(models.decode_response(tokenizer, ids), (heat, ids))
    items = [{"prompt_id": prompt.id, "prompt": prompt.text, "use_case": prompt.use_case, "split": prompt.split,
              "responses": [{"text": text, "source": f"temperature {heat:g}", "token_ids": ids}
                            for text, (heat, ids) in list(texts.items())[:answers]]}
             for prompt, texts in zip(mixed, found, strict=True) if len(texts) >= answers][:n]
    if len(items) < n:
        raise ValueError(f"only {len(items)} of {len(mixed)} prompts got {answers} different answers; ask for fewer, "
                         "or raise the temperatures")
    return items


# Twenty rankings teach the 1.3M model to be short. They did not teach it to be polite: only 11 of the 20 prompts had
# answers that differed in politeness at all. For such a taste, rank more.
POLITE = re.compile(r"\b(please|thanks?|thank you|kind(?:ly)?|dear|sorry|glad|welcome|best wishes|happy to)\b", re.I)
TASTES = {"short": lambda text: -len(text.split()), "polite": lambda text: len(POLITE.findall(text))}


def taste(measure, mood=0.0, tie=0.5, seed=0):
    """A simulated learner with one taste, for `simulated.simulate`: judge(prompt, texts) -> ranks.

    measure: a function of an answer's text (more is better), or a name in TASTES. mood: the standard deviation of the
    noise added each time. tie: differences up to this are ties. Both are in the measure's unit.
    """
    measure, rng = TASTES.get(measure, measure), random.Random(f"taste {seed}")

    def judge(prompt, texts):
        return labelers.ranks_from_utilities([measure(text) + rng.gauss(0, mood) for text in texts], tie)
    return judge


def rankings(path):
    """The rankings that count in one person's file. Warns about bad rows and keeps the good ones.

    Raises ValueError if there are none, or if they are from more than one person.
    """
    rows, problems = labels.rankings(path)
    if problems:
        warnings.warn("\n".join(problems), stacklevel=2)
    names = sorted({row["labeler"] for row in rows})
    if len(names) != 1:
        raise ValueError(f"{path} has rankings by {len(names)} people ({', '.join(names) or 'nobody'}); give the "
                         "file of one person")
    return rows


def first_time(rows):
    """The rows without items that were shown again; ValueError if any of them must not be trained on."""
    if any(row["prompt_id"].startswith(READING_ONLY) for row in rows):
        raise ValueError("some of these rankings are of recorded answers that are for reading and ranking only; leave "
                         f"out the rows whose prompt_id begins with {READING_ONLY!r}")
    return [row for row in rows if not labels.item_id(row).endswith("#again")]


# ---------------------------------------------------------------- reward models

def train_own(start, ranked, config, seed=0):
    """A reward model for these RankedPrompts, started from a policy (they are all it learns) or from a reward model."""
    fresh = not isinstance(start, models.ScalarModel)
    model = models.scalar_from_policy(start, seed) if fresh else models.copy_model(start)
    reward.train_reward(model, ranked, config, progress=False)
    return model


def held_out_accuracy(make, ranked, folds):
    """Cross-validation over prompts -> (Interval over prompts, number of pairs).

    make: RankedPrompts -> reward model. Each prompt's pairs are judged by the model that was trained without that
    prompt; a prompt counts once, however many pairs it has.
    """
    shares, pairs = [], 0
    for fold in range(folds):
        model = make([r for i, r in enumerate(ranked) if i % folds != fold])
        for one in ranked[fold::folds]:
            found = reward.evaluate_reward(model, [one])
            pairs += found["pairs"]
            shares += [found["accuracy"]] if found["pairs"] else []
    return stats.mean_interval(shares), pairs


def reward_models(rows, sft, shipped, tokenizer, config=DEFAULTS):
    """Train on all rows -> ({"alone": model, "on top": model}, {name: accuracy}, pairs); `rows` without repeats.

    The accuracies are held out, by prompt; "shipped" is the shipped reward model, which never saw your rankings.
    """
    ranked = [r for r in data.ranked_prompts(tokenizer, rows) if len(set(r.ranks)) > 1]
    if len(ranked) < 2 * config.folds:
        raise ValueError(f"only {len(ranked)} rankings prefer one answer to another; rank at least {2 * config.folds} "
                         "prompts, so that some can be held out")
    found, accuracy = {}, {"shipped": held_out_accuracy(lambda _: shipped, ranked, config.folds)[0]}
    for name, start, how in (("alone", sft, config.alone), ("on top", shipped, config.on_top)):
        make = functools.partial(train_own, start, config=how, seed=config.seed)
        accuracy[name], pairs = held_out_accuracy(make, ranked, config.folds)
        found[name] = make(ranked)
    return found, accuracy, pairs


# ---------------------------------------------------------------- agreement

def simulated_rankings(rows, labeler, seed=0):
    """A simulated labeler's rankings of the same answers: ranking rows, for the prompts of the town."""
    known, rng = {prompt.id: prompt for prompt in data.all_prompts()}, np.random.default_rng(seed)
    out = []
    for row in rows:
        if (prompt := known.get(row["prompt_id"])) is not None:
            ids = [r.get("token_ids") for r in row["responses"]]
            grades = [grade(prompt, r["text"], i is None or i[-1] == models.END)
                      for r, i in zip(row["responses"], ids, strict=True)]
            lengths = None if None in ids else [len(i) for i in ids]
            out.append({**row, "ranks": labeler.rank(grades, lengths, rng), "labeler": f"simulated:{labeler.name}"})
    return out


def agreements(rows, neighbour=None, team=None, seed=0):
    """{"yourself": Agreement, neighbour's name: ..., "Tess (simulated)": ...}: how far they agree with `rows`.

    neighbour: another person's rows. Pairs that either person tied are left out, as in the paper.
    """
    once = first_time(rows)
    found = {"yourself": self_consistency(rows)}
    if neighbour:
        found[neighbour[0]["labeler"]] = agree(once, first_time(neighbour))
    for labeler in labelers.training_team() if team is None else team:
        found[f"{labeler.name} (simulated)"] = agree(once, simulated_rankings(once, labeler, seed))
    return found


# ---------------------------------------------------------------- all of it

def drive(rows, sft, shipped, tokenizer, config=DEFAULTS, neighbour=None, prompts=None, look_at=None, progress=True):
    """Reward models, agreement, PPO from the SFT policy, and its answers before and after -> Own.

    rows: one person's rankings (`rankings`). shipped: the shipped reward model. neighbour: another person's rows.
    prompts: the town's prompts for PPO; look_at: held-out prompts. Neither `sft` nor `shipped` is changed.
    """
    once, seconds, started = first_time(rows), {}, time.perf_counter()

    def lap(part):
        nonlocal started
        seconds[part], started = time.perf_counter() - started, time.perf_counter()
    trained, accuracy, pairs = reward_models(once, sft, shipped, tokenizer, config)
    lap("reward models")
    driver = config.driver or max(trained, key=lambda name: accuracy[name].value)
    model = trained[driver]
    before, after, policy, history = follow(model, sft, tokenizer, config, prompts, look_at, progress, lap)
    found = agreements(rows, neighbour, seed=config.seed)
    lap("answers after")
    return Own(rows[0]["labeler"], len(once), accuracy, pairs, driver, found, before, after, model, policy,
               history, seconds)


class Followed(NamedTuple):
    """Answers before and after (`answers.answer_rows`, each with "own_score"), the policy, and PPO's history."""

    before: list
    after: list
    policy: object
    history: list


def follow(model, sft, tokenizer, config=DEFAULTS, prompts=None, look_at=None, progress=True, lap=lambda part: None):
    """PPO from the SFT policy with this reward model, normalised first -> Followed. lap(part) hears what is done."""
    prompts, look_at = prompts or data.prompts_of("train"), look_at or data.prompts_of("valid", config.looks)
    before = answers(sft, tokenizer, look_at, config, progress)
    demonstrations = data.demonstration_rows(tokenizer, data.demonstrations(split="train")[:200])
    # Set the zero and the unit of the scores before PPO starts, so that kl_coef means the same whoever ranked.
    reward.normalise(model, demonstrations, _inputs(tokenizer, before))
    lap("answers before")
    policy = models.copy_model(sft)
    run = train_ppo(policy, models.copy_model(sft, trainable=False), models.copy_model(model),
                    data.encoded(tokenizer, prompts), replace(config.ppo, seed=config.seed), reward_fn=model,
                    progress=progress)
    lap("PPO")
    after = answers(policy, tokenizer, look_at, config, progress)
    for part in (before, after):
        for row, value in zip(part, reward.score(model, _inputs(tokenizer, part)).tolist(), strict=True):
            row["own_score"] = value
    return Followed(before, after, policy, run.history)


def answers(policy, tokenizer, prompts, config, progress=False):
    """One answer per prompt at the course's temperature, with the same seed for every policy: `answers.answer_rows`."""
    return answer_rows(policy, tokenizer, prompts, seed=config.seed + 1, progress=progress)


def _inputs(tokenizer, rows):
    return [reward.reward_input(models.encode_prompt(tokenizer, row["prompt"]), row["token_ids"]) for row in rows]


def changes(found, measures=None):
    """{what: (mean before, mean after, Interval of the change, over prompts)} for the answers of `drive`.

    measures: {name: function of an answer row}, in addition to the reward model's score, words and the true score.
    """
    all_measures = {"your reward model's score": lambda row: row["own_score"],
                    "words": lambda row: len(row["response"].split()),
                    "true score": lambda row: row["grade"].score, **(measures or {})}
    table = {}
    for name, measure in all_measures.items():
        one, two = ([float(measure(row)) for row in rows] for rows in (found.before, found.after))
        change = stats.mean_interval([b - a for a, b in zip(one, two, strict=True)])
        table[name] = (sum(one) / len(one), sum(two) / len(two), change)
    return table


def percent(agreement):
    """An `Agreement` as text: share of pairs, n and tau-b."""
    if not isinstance(agreement, Agreement) or not agreement.n:
        return "no pair without ties that both ranked"
    tau = "" if math.isnan(agreement.tau) else f", Kendall tau-b {agreement.tau:.2f}"
    return f"{agreement.percent:.0f} % of {agreement.n} pairs{tau}, {agreement.prompts} prompts"
