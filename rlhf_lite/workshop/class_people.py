"""A class of simulated people, to try the round before the room is full. Nothing here is human data.

The idea: each has a taste of their own (what helpfulness, truth, harmlessness and brevity are worth to them) and a
mood; they rank through the same session, into the same files, as people do. In the norming round we *assume* that
talking about a prompt moves everybody halfway to the class's mean taste and halves their moods, so the demonstration
shows what the report looks like, not that norming works.
"""

import random
from pathlib import Path

import numpy as np

from rlhf_lite.experiment import data
from rlhf_lite.models import END
from rlhf_lite.town import labelers
from rlhf_lite.town.grading import grade
from rlhf_lite.widgets import labels
from rlhf_lite.widgets.session import RankingSession
from rlhf_lite.workshop import class_folder

NAMES = ("Ada Bo Chen Dina Emil Fay Gus Hana Ivan Jo Kim Leo Maya Nils Ona Pia Quin Rosa Sam Tess Uma Vera Wim Xia "
         "Yara Zoe Abel Bea Cleo Dov").split()


def invent(count, seed=0):
    """`count` people -> {name: labelers.Labeler}."""
    rng = np.random.default_rng(seed)
    names = [NAMES[i % len(NAMES)] + (f" {i // len(NAMES) + 1}" if i >= len(NAMES) else "") for i in range(count)]
    return {f"{name} (simulated)": labelers.Labeler(
        name, tuple(rng.dirichlet((6, 3, 2))), brevity=float(rng.normal(0, 0.4)), noise=float(rng.uniform(0.05, 0.2)))
        for name in names}


def rank(people, folder, round=1, seed=0):
    """Everybody ranks this round's items into a file of their own; returns the number of rankings."""
    known, items = {prompt.id: prompt for prompt in data.all_prompts()}, class_folder.items(folder, round)
    discussed = class_folder.norming(folder)["discussed"] if round == 2 else ()
    done = 0
    for number, (name, labeler) in enumerate(people.items()):
        rng = np.random.default_rng((seed, round, number))
        path = labels.default_path(name, Path(folder) / f"round{round}")
        session = RankingSession(items, name, path, repeats=class_folder.REPEATS if round == 1 else 0)
        while session.item is not None:
            prompt = known[session.item["prompt_id"]]
            _submit(session, moved(labeler, people) if prompt.id in discussed else labeler, prompt, rng)
            done += 1
    return done


def moved(labeler, people):
    """What a person is like about a prompt that the class has talked about: halfway to the mean, and half as moody."""
    mean = np.mean([[*one.weights, one.brevity] for one in people.values()], axis=0)
    weights, brevity = (np.array(labeler.weights) + mean[:3]) / 2, (labeler.brevity + mean[3]) / 2
    return labelers.Labeler(labeler.name, tuple(weights), float(brevity), labeler.noise / 2)


def _submit(session, labeler, prompt, rng):
    answers = [session.item["responses"][i] for i in session.order()]
    grades = [grade(prompt, one["text"], one["token_ids"][-1] == END) for one in answers]
    ranks = labeler.rank(grades, [len(one["token_ids"]) for one in answers], rng)
    for place, one in enumerate(ranks):
        session.set_rank(place, one)
    session.set_note(_note(answers, grades, ranks, labeler, random.Random(int(rng.integers(1 << 30)))))
    session.draft.seconds = float(rng.lognormal(3.2, 0.4))  # about 25 seconds
    session.submit()


def _note(answers, grades, ranks, labeler, rng):
    """Every third time, a few words about the answer ranked last."""
    if rng.random() > 1 / 3:
        return ""
    last = max(range(len(ranks)), key=lambda place: ranks[place])
    first = min(range(len(ranks)), key=lambda place: ranks[place])
    if grades[last].reasons:
        return f"last: {grades[last].reasons[0]}"
    shorter = len(answers[first]["token_ids"]) < len(answers[last]["token_ids"])
    if shorter and labeler.brevity > 0:
        return "the shorter one says all of it"
    return "the longer one helps more" if not shorter and labeler.brevity < 0 else "a matter of taste"
