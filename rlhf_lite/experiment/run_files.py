"""Reading what a run keeps on disk, and saying in one sentence what is wrong with it; `formats` has the schemas."""

import json
import shlex
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from rlhf_lite import checkpoints, feedback, schemas
from rlhf_lite.experiment import formats
from rlhf_lite.experiment.recipe import default_recipe, recipe_settings
from rlhf_lite.schemas import History

AGAIN = "delete it and run the command that started this run again."


# ---------------------------------------------------------------- reading

def settings(recipe):
    """A Recipe as what recipe.json says of it."""
    return json.loads(json.dumps(recipe_settings(recipe)))


def read_recipe(folder):
    """recipe.json of a run, as a dict; ValueError or FileNotFoundError if the folder has none that fits."""
    path = Path(folder) / "recipe.json"
    if not path.is_file():
        raise ValueError(f"{folder} does not contain a run (there is no recipe.json); give the folder of a run.")
    return schemas.read(path, formats.recipe_schema(), fix=AGAIN)


def read_domain(folder):
    """domain.json of a run, as a dict; None for a run of the town, which has no such file."""
    return schemas.read(Path(folder) / "domain.json", formats.Source, None, AGAIN)


def check_domain(folder, known, wanted):
    """Raise ValueError unless a run that is known began with this domain (a dict, or None for the town)."""
    found = read_domain(folder) if known else wanted
    if found != wanted:
        of = [f"the domain {one['name']}" if one else "the town" for one in (found, wanted)]
        why = f"{of[0]}, not of {of[1]}" if of[0] != of[1] else f"{of[0]}, whose file has changed or moved since"
        raise ValueError(f"{folder} contains a run of {why}; give the --domain that it began with (run, "
                         "train and evaluate take one), or choose another NAME.")


def only_town(folder):
    """Raise ValueError for the run of another domain."""
    found = read_domain(folder)
    if found:
        raise ValueError(f"{folder} is a run of the domain {found['name']}, and this is for runs of the town; see "
                         "its report.html.")


def read_gate(path):
    """gate.json; its lists belong together, so they must be equally long."""
    found = schemas.read(path, formats.Gate, fix=AGAIN)
    if {len(found[name]) for name in ("kl", "proxy", "rm", "oracle", "true")} != {len(found["n"])}:
        raise ValueError(f"{path} is damaged (its lists have different lengths); {AGAIN}")
    return found


def read(path):
    """One of the JSON files of a run, each with its schema."""
    path = Path(path)
    if path.name == "gate.json":
        return read_gate(path)
    town = not any((folder / "domain.json").is_file() for folder in (path.parent, path.parent.parent))
    reward = formats.Reward if town else formats.OtherReward
    kinds = {"history.json": Annotated[History, Meta(min_length=1)], "reward.json": reward,
             "first_reward.json": reward, "minutes.json": formats.Amounts, "memory.json": formats.Amounts,
             "results.json": formats.Results}
    if path.parent.name == "studies":
        return schemas.read(path, formats.STUDIES[path.stem], fix="delete it, and run that study again if you need it.")
    return schemas.read(path, kinds.get(path.name) or formats.measured_schema(path.stem, town), fix=AGAIN)


def check_output(path):
    """Raise ValueError or OSError unless a file that a step wrote is whole, as far as the file itself can tell."""
    path = Path(path)
    if path.name in (checkpoints.WEIGHTS, checkpoints.CONFIG, checkpoints.CARD):
        checkpoints.check(path.parent)
    elif path.suffix == ".json":
        read(path)
    elif path.suffix == ".jsonl":
        check = check_answer if path.parent.name == "answers" else check_ranking
        if not feedback.read_jsonl(path, check, strict=True)[0]:
            raise ValueError(f"{path} is empty")


# ---------------------------------------------------------------- answers

def check_answer(row):
    """Raise ValueError unless a row of answers has everything that evaluation reads."""
    wrong = schemas.misfit(row, formats.Answer)
    if wrong:
        raise ValueError(wrong)


def check_ranking(row):
    """Raise ValueError unless a row is a usable ranking of answers that a model sampled."""
    feedback.check_ranking(row)
    wrong = schemas.misfit(row, formats.Ranking)
    if wrong:
        raise ValueError(wrong)


def check_complete(rows, sets, stage, path, again=None):
    """Raise ValueError unless the rows are one stage's answers to the prompts of all test sets, in their order.

    Fewer, doubled or another stage's answers would go through every mean and make its interval wrong without a word.
    """
    others = {row["stage"] for row in rows} - {stage}
    again = again or f"Delete {Path(path).parent} and run the same command again."
    if others:
        raise ValueError(f"{path} has answers of {schemas.shown(min(others))}, not of {stage}. {again}")
    for name, prompts in sets.items():
        found, wanted = ([row["prompt_id"] for row in rows if row["set"] == name], [p.id for p in prompts])
        if found != wanted:
            raise ValueError(f"{path} is not complete: it has {len(found)} answers to the {len(wanted)} prompts of the "
                             f'test set "{name}"' + (", in another order" if sorted(found) == sorted(wanted) else
                                                     ", or answers to other prompts" if len(found) == len(wanted) else
                                                     "") + f". {again}")


# ---------------------------------------------------------------- which command made it

def is_default(recipe, fast=False):
    """Whether a recipe (a dict) is that of `make run`, or of `make run FAST=1`."""
    return recipe == settings(default_recipe(recipe["size"], recipe["seed"], fast))


def command(*words):
    """A command to paste into a shell; a name with spaces or worse is one quoted word in it."""
    return shlex.join(["python", "-m", "rlhf_lite", *map(str, words)])


def dials(recipe, name=None):
    """The words after a command that choose this run, from its recipe (a dict)."""
    return ["--size", recipe["size"], "--seed", recipe["seed"], *(["--fast"] if is_default(recipe, True) else []),
            *(["--name", name] if name else [])]
