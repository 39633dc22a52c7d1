"""A norming round: rank blind, see where the class disagrees, talk about it, rank again.

The idea: agreement on the most disputed prompts will rise in any case, because some of the dispute was chance. So the
most disputed prompts are dealt into two hands: one is discussed, the other, the control, is only ranked again. What
the discussion did is the difference between the two changes.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from rlhf_lite import files
from rlhf_lite.stats import Interval
from rlhf_lite.workshop import class_agreement, class_folder


class Change(NamedTuple):
    """Agreement before and after on one group of prompts, among the people who ranked both times."""

    prompts: int
    people: int
    before: float
    after: float
    change: Interval  # over prompts


def choose(people, each=4):
    """The most disputed prompts in two hands -> {"discussed": ids, "control": ids}."""
    order = [key[0] for key in class_agreement.by_prompt(class_agreement.compare(people))]
    if len(order) < 4:
        raise ValueError(f"only {len(order)} prompts were ranked by two people or more; a norming round needs 4.")
    dealt = order[:2 * min(each, len(order) // 2)]
    # 1 4 5 8 ... and 2 3 6 7 ...: neither hand is the more disputed one.
    return {"discussed": [key for place, key in enumerate(dealt) if place % 4 in (0, 3)],
            "control": [key for place, key in enumerate(dealt) if place % 4 in (1, 2)]}


def write(folder, people, each=4):
    """Choose the prompts of round 2 and write them down, once; from then on people rank in round 2."""
    path = Path(folder) / class_folder.NORMING
    if path.exists():
        raise ValueError(f"{path}: the prompts of the norming round have been chosen already; delete this file to "
                         "choose again.")
    chosen = choose(people, each)
    files.write_json(path, chosen)
    return chosen


def changes(before, after, chosen):
    """{"discussed": Change, "control": Change}; before and after: {name: rankings} of the two rounds."""
    both = [name for name in before if name in after]
    found = {}
    for group, ids in chosen.items():
        one, two = ({name: [row for row in people[name] if row["prompt_id"] in ids] for name in both}
                    for people in (before, after))
        found[group] = _change(class_agreement.compare(one), class_agreement.compare(two), len(both))
    return found


def _change(one, two, people, draws=2000):
    prompts = [prompt for prompt in one.prompts if prompt in two.prompts]
    counts = []
    for found in (one, two):
        places = [found.prompts.index(prompt) for prompt in prompts]
        first, second = np.triu_indices(len(found.names), 1)
        counts += [found.same[first, second][:, places].sum(0), found.both[first, second][:, places].sum(0)]
    if not prompts or not counts[1].sum() or not counts[3].sum():
        return Change(len(prompts), people, float("nan"), float("nan"), Interval(float("nan"), -1.0, 1.0, 0))
    weights = np.random.default_rng(0).multinomial(len(prompts), np.full(len(prompts), 1 / len(prompts)), size=draws).T
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = counts[2] @ weights / (counts[3] @ weights) - counts[0] @ weights / (counts[1] @ weights)
    before, after = counts[0].sum() / counts[1].sum(), counts[2].sum() / counts[3].sum()
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Change(len(prompts), people, float(before), float(after),
                  Interval(float(after - before), float(low), float(high), len(prompts)))
