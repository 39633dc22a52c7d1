"""Exercise 7.7: several reward models as one judge."""

import torch

from rlhf_lite.exercises.cases import draws
from rlhf_lite.exercises.checking import Exercise


def ensemble_score(members, rule, price=1.0):
    """(models, prompts, answers) scores -> (prompts, answers): "mean", "worst", or "unsure" (mean − price · deviation).

    Each model's scores first get mean 0 and (population) standard deviation 1 over all prompts and answers.
    """
    members = members - members.mean(dim=(1, 2), keepdim=True)
    members = members / members.std(dim=(1, 2), correction=0, keepdim=True)
    if rule == "worst":
        return members.min(dim=0).values
    doubt = price * members.std(dim=0, correction=0) if rule == "unsure" else 0.0
    return members.mean(dim=0) - doubt


def _opinions():
    members = torch.tensor([1.0, 5.0, 0.2])[:, None, None] * draws(3, 2, 4, seed=40) + draws(3, 1, 1, seed=41)
    return [(members, "mean"), (members, "worst"), (members, "unsure"), (members, "unsure", 0.5),
            (members[:2, :1], "worst"), (members[:1], "unsure", 2.0)]


several_judges = Exercise(
    "7.7", "several judges, one score", 12, 2,
    ("One judge counts in hundreds, another in tenths. Who decides if you just take the mean?",
     "First the scale: take each model's own mean away and divide by its own standard deviation. Then look along the "
     "first dimension, at the judges' opinions of one answer.",
     "`members - members.mean(dim=(1, 2), keepdim=True)`, divided by `.std(dim=(1, 2), correction=0, keepdim=True)`. "
     "Then `.mean(dim=0)`, `.min(dim=0).values`, or the mean minus `price * members.std(dim=0, correction=0)`."),
    task="`members` (models, prompts, answers) are the judges' scores; `rule` is \"mean\", \"worst\" or \"unsure\"; "
         "`price` is a number. First give each model's scores mean 0 and standard deviation 1, over all its prompts "
         "and answers. Return a tensor (prompts, answers): the mean over the models, the lowest, or the mean minus "
         "`price` times the standard deviation between the models. All standard deviations are those of a population "
         "(`correction=0`).",
    course=ensemble_score, cases=_opinions)


def _scaled(members):
    return (members - members.mean((1, 2), keepdim=True)) / members.std((1, 2), correction=0, keepdim=True)


def _combined(members, rule, price):
    if rule == "worst":
        return members.min(dim=0).values
    return members.mean(dim=0) - (price * members.std(dim=0, correction=0) if rule == "unsure" else 0.0)


@several_judges.mistake("the judges are on different scales: one that counts in hundreds would decide alone. Give each "
                        "mean 0 and standard deviation 1 first.")
def _not_scaled(members, rule, price=1.0):
    return _combined(members, rule, price)


@several_judges.mistake("the scale is taken per prompt. That throws away that a judge finds *all* answers to one "
                        "prompt good; take mean and deviation over all of a model's scores.")
def _scaled_per_prompt(members, rule, price=1.0):
    scaled = (members - members.mean(2, keepdim=True)) / members.std(2, correction=0, keepdim=True)
    return _combined(scaled, rule, price)


@several_judges.mistake("all judges share one mean and one deviation here, so the loudest still decides. Each "
                        "model has its own: `dim=(1, 2)`.")
def _scaled_together(members, rule, price=1.0):
    return _combined((members - members.mean()) / members.std(correction=0), rule, price)


@several_judges.mistake("disagreement is added. An answer about which the judges disagree should score *less*: "
                        "subtract it.")
def _likes_disagreement(members, rule, price=1.0):
    return _combined(_scaled(members), rule, -price)


@several_judges.mistake("this is the best opinion, not the worst: a loophole in a single judge is then enough.")
def _best_opinion(members, rule, price=1.0):
    members = _scaled(members)
    return members.max(dim=0).values if rule == "worst" else _combined(members, rule, price)


@several_judges.mistake("the price is ignored: it multiplies the standard deviation.")
def _no_price(members, rule, price=1.0):
    return _combined(_scaled(members), rule, 1.0)


@several_judges.mistake("these are the deviations of a sample (n − 1). The task asks for those of a population: "
                        "`correction=0`. With a single judge, yours is not a number.")
def _sample_deviation(members, rule, price=1.0):
    members = (members - members.mean((1, 2), keepdim=True)) / members.std((1, 2), keepdim=True)
    if rule == "worst":
        return members.min(dim=0).values
    spread = members.std(dim=0) if len(members) > 1 else torch.full_like(members[0], float("nan"))
    return members.mean(dim=0) - (price * spread if rule == "unsure" else 0.0)


EXERCISES = [several_judges]
