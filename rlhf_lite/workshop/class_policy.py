"""The policy that PPO makes out of the class's rankings, with the minutes said beforehand.

The idea: the class's reward model (`class_taste`) drives the same short PPO run that one person's rankings drive in
notebook 05b (`my_model.follow`). How long it takes is measured on the spot: one step is taken and thrown
away before the run starts.
"""

import time
from dataclasses import replace

from rlhf_lite import models, stats
from rlhf_lite.exercises import my_model
from rlhf_lite.workshop import class_taste

SMALL = replace(my_model.DEFAULTS, looks=60, ppo=replace(my_model.DEFAULTS.ppo, iterations=12))


def train(table, answers, sft, shipped, tokenizer, config=SMALL, say=print, **options):
    """PPO from the SFT policy with the class's reward model -> my_model.Followed. options: those of `follow`."""
    model, batch = class_taste.reward_model(shipped, answers, table.change), config.ppo.batch_size
    one_step = replace(config, looks=4, ppo=replace(config.ppo, iterations=1))
    started = time.perf_counter()
    my_model.follow(models.copy_model(model), sft, tokenizer, one_step, progress=False, **options)
    expected = (time.perf_counter() - started) * (config.ppo.iterations + 1)
    say(f"PPO: {config.ppo.iterations} steps of {batch} answers. This will take about {minutes(expected)} on this "
        "machine.")
    started = time.perf_counter()
    found = my_model.follow(model, sft, tokenizer, config, progress=False, **options)
    say(f"It took {minutes(time.perf_counter() - started)}.")
    return found


def minutes(seconds):
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def changes(found):
    """[(what, before, after, Interval of the change over prompts)]."""
    measures = {"the class's score": lambda row: row["own_score"], "words": lambda row: len(row["response"].split()),
                **{name: lambda row, name=name: getattr(row["grade"], name) for name in class_taste.MEASURES[1:]}}
    rows = []
    for name, measure in measures.items():
        one, two = ([float(measure(row)) for row in part] for part in (found.before, found.after))
        change = stats.mean_interval([b - a for a, b in zip(one, two, strict=True)])
        rows.append((name, sum(one) / len(one), sum(two) / len(two), change))
    return rows
