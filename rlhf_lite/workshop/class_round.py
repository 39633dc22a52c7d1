"""`python -m rlhf_lite class ...`: a class round, step by step, or all of it with simulated people.

    class start FOLDER      the prompts that everybody ranks, and the notebook for the projector
    class page FOLDER       one page for phones and laptops, which asks for a name
    class receipts FOLDER   who has ranked how much
    class norm FOLDER       choose what is discussed and ranked again
    class report FOLDER     everything on one page; with --ppo, the policy too
    class demo FOLDER       a class of thirty simulated people, from the first step to the last
"""

import time
from dataclasses import replace
from pathlib import Path

from rlhf_lite.plain import plain
from rlhf_lite.workshop import class_folder


def command(arguments):
    """Carry out one step."""
    return STEPS[arguments.step](arguments)


def _models():
    import torch

    from rlhf_lite.exercises.lesson import Lesson
    course = Lesson("class", torch.device("cpu"), False)
    return course.policy("sft"), course.reward_model(), course.tokenizer()


def _start(arguments):
    from rlhf_lite.exercises import my_model
    from rlhf_lite.workshop import projector
    folder = Path(arguments.folder)
    if (folder / class_folder.ITEMS).exists():
        raise ValueError(f"{folder}: a class round has been started here already; choose another folder.")
    sft, _, tokenizer = _models()
    class_folder.make(folder, my_model.to_rank(sft, tokenizer, n=arguments.prompts, seed=arguments.seed,
                                               progress=False))
    projector.write(folder)
    print(f"{folder}: {arguments.prompts} prompts with their answers, and projector.ipynb. Next:\n"
          f"   python -m rlhf_lite class page {folder}")


def _page(arguments):
    from rlhf_lite.workshop import class_door
    return class_door.page(arguments.folder, arguments.port, arguments.open_to_others)


def _receipts(arguments):
    number = class_folder.open_round(arguments.folder)
    found = class_folder.gather(class_folder.files_of(arguments.folder, number))
    for note in found.notes:
        print(f"note: {plain(note)}")
    for name, first, again, receipt in class_folder.receipts(found.people):
        print(f"{plain(name):28} {first:3} prompts, {again} shown again   {receipt}")
    print(f"Round {number}: {len(found.people)} people.")


def _norm(arguments):
    from rlhf_lite.workshop import class_norming, class_page
    class_norming.write(arguments.folder, class_page.merged(arguments.folder).people)
    chosen = class_folder.norming(arguments.folder)
    for group in ("discussed", "control"):
        print(f"{group}:")
        for item in class_folder.items(arguments.folder, 2):
            if item["prompt_id"] in chosen[group]:
                print(f"   {plain(item['prompt'])}")
    print("Discuss the first group, say nothing about the second; then everybody opens the page again and ranks.")


def _report(arguments, fast=False, simulated=False):
    from rlhf_lite.workshop import class_page, class_policy, class_taste
    folder = arguments.folder
    found = class_page.merged(folder)
    for note in found.notes:
        print(f"note: {plain(note)}")
    again = class_page.norming(folder, found.people)
    print(*class_page.agreement_lines(found.people), *class_page.norming_lines(again), sep="\n", flush=True)
    sft, shipped, tokenizer = _models()
    table, answers = class_taste.tastes(class_folder.items(folder), found.people, shipped, tokenizer)
    print(*class_page.taste_lines(table), sep="\n", flush=True)
    followed = None
    if arguments.ppo:
        config = class_policy.SMALL
        if fast:
            config = replace(config, looks=8, ppo=replace(config.ppo, iterations=1, batch_size=16, minibatch=16))
        followed = class_policy.train(table, answers, sft, shipped, tokenizer, config)
        print(*class_page.policy_lines(followed), sep="\n")
    print(f"Done: {class_page.write(folder, found.people, found.notes, table, followed, simulated)} and class.jsonl")


def _demo(arguments):
    from rlhf_lite.workshop import class_norming, class_page, class_people
    started = time.perf_counter()
    arguments.prompts, arguments.seed, arguments.ppo = 8 if arguments.fast else 20, 0, True
    _start(arguments)
    people = class_people.invent(arguments.people)
    done = class_people.rank(people, arguments.folder)
    print(f"Round 1: {done} sheets by {len(people)} simulated people.", flush=True)
    class_norming.write(arguments.folder, class_page.merged(arguments.folder).people)
    print(f"Round 2: {class_people.rank(people, arguments.folder, 2)} sheets.", flush=True)
    _report(arguments, arguments.fast, simulated=True)
    print(f"The whole round took {time.perf_counter() - started:.0f} seconds.")


STEPS = {"start": _start, "page": _page, "receipts": _receipts, "norm": _norm, "report": _report, "demo": _demo}
