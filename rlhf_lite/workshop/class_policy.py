"""The policy that PPO makes out of the class's rankings, with the minutes said beforehand.

The idea: the class's reward model (`class_taste`) drives the same short PPO run that one person's rankings drive in
notebook 05b (`my_model.follow`). How long it takes is measured on the spot: the answers "before" are sampled first, and
the rest is a fixed multiple of that.
"""

import time
from dataclasses import replace

from rlhf_lite import stats
from rlhf_lite.exercises import my_model
from rlhf_lite.workshop import class_taste

SMALL = replace(my_model.DEFAULTS, looks=60, ppo=replace(my_model.DEFAULTS.ppo, iterations=12))
# A PPO iteration over one answer takes about three times as long as sampling it: reading it four times, and learning.
TIMES = 3.0


def train(table, answers, sft, shipped, tokenizer, config=SMALL, say=print, **options):
    """PPO from the SFT policy with the class's reward model -> my_model.Followed. options: those of `follow`."""
    model = class_taste.reward_model(shipped, answers, table.change)
    started = time.perf_counter()
    say(f"Sampling {config.looks} answers before.")

    def lap(part):
        if part == "answers before":
            took = time.perf_counter() - started
            ppo = TIMES * took / config.looks * config.ppo.batch_size * config.ppo.iterations
            say(f"PPO: {config.ppo.iterations} steps of {config.ppo.batch_size} answers. This will take about "
                f"{minutes(ppo + took)} on this machine.")
        elif part == "PPO":
            say(f"PPO is done after {minutes(time.perf_counter() - started)}.")
    return my_model.follow(model, sft, tokenizer, config, progress=False, lap=lap, **options)


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
