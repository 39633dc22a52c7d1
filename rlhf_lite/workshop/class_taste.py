"""Each person's taste as a reward model, the class's, and the simulated team's.

    answers = read_answers(items, shipped, tokenizer)     # every answer is read once
    ranks = rank_array(items, people)                     # (people, prompts, K)
    mine = fit(answers, ranks)                            # one reward model a person
    ours = fit(answers, ranks, shared=True)               # one for everybody

The idea: thirty reward models before the coffee is cold. All of them share the shipped reward model, which stays as it
is, and a person's taste is four numbers: how much more or less than the shipped model they like the four directions in
which the trunk tells these answers apart best. (With a whole last layer, twenty rankings predicted unseen prompts worse
than no taste at all.) The loss is the K-wise one of the course; accuracies are for prompts that were not learnt from.

Left out: training the whole model, which `exercises.my_model` does for one person in minutes.
"""

from typing import NamedTuple

import numpy as np
import torch

from rlhf_lite import models, reward, stats
from rlhf_lite.experiment import data
from rlhf_lite.models import END
from rlhf_lite.town import labelers
from rlhf_lite.town.grading import grade
from rlhf_lite.workshop.class_folder import first_time

DIRECTIONS, PULL = 4, 0.1  # ours; PULL: how strongly a taste is pulled towards the shipped model
FOLDS, STEPS, LR = 5, 80, 0.05


class Answers(NamedTuple):
    """What the shipped model makes of every answer; N = prompts, K = answers each."""

    scores: torch.Tensor  # (N, K) of the shipped reward model
    features: torch.Tensor  # (N, K, DIRECTIONS), of mean 0 in each prompt and variance 1
    directions: torch.Tensor  # (hidden, DIRECTIONS): features are the trunk's last hidden state times these


@torch.no_grad()
def read_answers(items, shipped, tokenizer):
    """Answers of the items, which must all have the same K."""
    counts = {len(item["responses"]) for item in items}
    if len(counts) != 1:
        raise ValueError(f"the items have {sorted(counts)} answers; give each the same number")
    rows = [reward.reward_input(models.encode_prompt(tokenizer, item["prompt"]),
                                r.get("token_ids") or models.encode_response(tokenizer, r["text"]))
            for item in items for r in item["responses"]]
    caught = []
    handle = shipped.trunk.register_forward_hook(lambda module, args, output: caught.append(output.last_hidden_state))
    try:
        scores = []
        for row in rows:  # one by one: no padding to think of, and the whole class has eighty answers
            ids = torch.tensor([row], device=models.device_of(shipped))
            scores.append(shipped(ids, torch.ones_like(ids))[0, -1].cpu())
    finally:
        handle.remove()
    hidden = torch.stack([one[0, -1].float().cpu() for one in caught]).double()
    hidden = hidden.view(len(items), counts.pop(), -1)
    hidden = hidden - hidden.mean(1, keepdim=True)
    directions = torch.linalg.svd(hidden.flatten(0, 1), full_matrices=False).Vh[:DIRECTIONS].T
    directions = directions / (hidden @ directions).std((0, 1)).clamp(min=1e-6)
    return Answers(torch.stack(scores).double().view(hidden.shape[:2]), hidden @ directions, directions)


def rank_array(items, people):
    """(people, prompts, K) ranks in the order of the items; a prompt that a person did not rank is all zeros: ties."""
    places = {(item["prompt_id"], item["prompt"]): place for place, item in enumerate(items)}
    found = torch.zeros(len(people), len(items), len(items[0]["responses"]))
    for person, rows in enumerate(people.values()):
        for row in first_time(rows):
            place = places.get((row["prompt_id"], row["prompt"]))
            given = dict(zip([r["text"] for r in row["responses"]], row["ranks"], strict=True))
            texts = [] if place is None else [r["text"] for r in items[place]["responses"]]
            if texts and all(text in given for text in texts):
                found[person, place] = torch.tensor([float(given[text]) for text in texts])
    return found


def fit(answers, ranks, shared=False, kept=None):
    """(people, DIRECTIONS) tastes, or (1, DIRECTIONS) if everybody shares one. kept: (N,) bool, the prompts to use."""
    people, prompts, _ = ranks.shape
    kept = torch.ones(prompts, dtype=torch.bool) if kept is None else kept
    change = torch.zeros(1 if shared else people, answers.features.shape[-1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=LR)
    for _ in range(STEPS):
        scores = score(answers, change).expand(people, -1, -1)[:, kept]               # (people, kept, K)
        losses = reward.kwise_losses(scores.flatten(0, 1), ranks[:, kept].flatten(0, 1))
        per_person = losses.view(people, -1).mean(1)
        loss = (per_person.mean() if shared else per_person.sum()) + PULL * (change ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return change.detach()


def score(answers, change):
    """(people, N, K) scores of the answers for these tastes."""
    return answers.scores + torch.einsum("nkh,ph->pnk", answers.features, change)


def held_out(answers, ranks, shared=False, folds=FOLDS):
    """(people or 1, N, K) scores, each by a model that has not seen that prompt."""
    prompts = ranks.shape[1]
    folds, found = min(folds, prompts), None
    for fold in range(folds):
        out = torch.arange(prompts) % folds == fold
        scores = score(answers, fit(answers, ranks, shared, ~out))
        found = torch.zeros_like(scores) if found is None else found
        found[:, out] = scores[:, out]
    return found


def accuracy(scores, ranks):
    """How often scores (people or 1, N, K) order a pair as these people did -> Interval over prompts."""
    scores = scores.expand(ranks.shape[0], -1, -1)
    shares = []
    for place in range(ranks.shape[1]):
        right, pairs = reward.pair_counts(scores[:, place], ranks[:, place]).values()
        shares += [right / pairs] if pairs else []
    return stats.mean_interval(shares) if shares else stats.Interval(float("nan"), 0.0, 1.0, 0)


def reward_model(shipped, answers, change):
    """A copy of the shipped reward model with one taste, a row of `fit`."""
    model = models.copy_model(shipped)
    with torch.no_grad():
        model.score.weight += (answers.directions @ change)[None].to(model.score.weight)
    return model


# ---------------------------------------------------------------- what the models like

MEASURES = ("words", "helpful", "truthful", "harmless")


def measures(items):
    """{measure: (N, K) array}: what a program can say about every answer."""
    known = {prompt.id: prompt for prompt in data.all_prompts()}
    found = {name: [] for name in MEASURES}
    for item in items:
        prompt = known.get(item["prompt_id"])
        for response in item["responses"]:
            ids = response.get("token_ids")
            graded = grade(prompt, response["text"], ids is None or ids[-1] == END) if prompt else None
            found["words"].append(len(response["text"].split()))
            for name in MEASURES[1:]:
                found[name].append(getattr(graded, name) if graded else 0.0)
    return {name: np.array(values, float).reshape(len(items), -1) for name, values in found.items()}


def likes(scores, measured):
    """{measure: correlation, within prompts, of the scores (N, K) with it}; what does not vary is left out."""
    found, centred = {}, _centred(scores)
    for name, values in measured.items():
        other = _centred(values)
        size = np.sqrt((centred ** 2).sum() * (other ** 2).sum())
        if size > 1e-9:
            found[name] = float((centred * other).sum() / size)
    return found


def alike(one, other):
    """The correlation, within prompts, of two models' scores (N, K)."""
    return likes(one, {"": other}).get("", float("nan"))


def _centred(values):
    values = np.asarray(values, float)
    return values - values.mean(1, keepdims=True)


# ---------------------------------------------------------------- the class against the simulated team

class Table(NamedTuple):
    """accuracy: {model: {whose rankings: Interval}} on unseen prompts; people: {name: {model: Interval}}."""

    accuracy: dict
    people: dict
    likes: dict  # name or "the class" or "the simulated team" -> {measure: correlation}
    like_team: float  # how far the class's scores go with the team's
    change: torch.Tensor  # the class's taste
    apart: list  # (prompt, the class's favourite, the team's favourite) where they differ most


def team_ranks(items, moods, seed=0):
    """(5 x moods, N, K): the simulated training team ranks the items, each of them `moods` times."""
    known, rng = {prompt.id: prompt for prompt in data.all_prompts()}, np.random.default_rng(seed)
    found = []
    for labeler in labelers.training_team() * moods:
        rows = []
        for item in items:
            prompt, responses = known.get(item["prompt_id"]), item["responses"]
            ids = [r.get("token_ids") for r in responses]
            rows.append([0] * len(responses) if prompt is None or None in ids else labeler.rank(
                [grade(prompt, r["text"], i[-1] == END) for r, i in zip(responses, ids, strict=True)],
                [len(i) for i in ids], rng))
        found.append(rows)
    return torch.tensor(found, dtype=torch.float)


def tastes(items, people, shipped, tokenizer):
    """Everybody's reward model, the class's and the simulated team's -> (Table, Answers)."""
    answers, ranks = read_answers(items, shipped, tokenizer), rank_array(items, people)
    team = team_ranks(items, max(1, round(len(people) / 5)))
    unseen = {"the class's": held_out(answers, ranks, shared=True), "shipped": answers.scores[None],
              "the simulated team's": held_out(answers, team, shared=True)}
    table = {name: {"the class": accuracy(scores, ranks), "the simulated team": accuracy(scores, team)}
             for name, scores in unseen.items()}
    own, alone = fit(answers, ranks), held_out(answers, ranks)
    each = {name: {"own": accuracy(alone[[i]], ranks[[i]]),
                   "the class's": accuracy(unseen["the class's"], ranks[[i]]),
                   "shipped": accuracy(unseen["shipped"], ranks[[i]])} for i, name in enumerate(people)}
    ours, theirs = fit(answers, ranks, shared=True), fit(answers, team, shared=True)
    class_scores, team_scores, measured = score(answers, ours)[0], score(answers, theirs)[0], measures(items)
    liked = {name: likes(scores, measured) for name, scores in zip(people, score(answers, own), strict=True)}
    liked |= {"the class": likes(class_scores, measured), "the simulated team": likes(team_scores, measured)}
    return Table(table, each, liked, alike(class_scores, team_scores), ours[0],
                 apart(items, class_scores, team_scores)), answers


def apart(items, ours, theirs, most=3):
    """[(prompt, the class's favourite, the team's favourite)] where both would mind most what the other prefers."""
    found = []
    for item, one, two in zip(items, ours, theirs, strict=True):
        mine, their = int(one.argmax()), int(two.argmax())
        if mine != their:
            texts = [r["text"] for r in item["responses"]]
            found.append((float(one[mine] - one[their] + two[their] - two[mine]), item["prompt"], texts[mine],
                          texts[their]))
    return [row[1:] for row in sorted(found, key=lambda row: -row[0])[:most]]
