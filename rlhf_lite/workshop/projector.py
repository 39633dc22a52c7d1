"""The notebook for the projector: the class round, cell by cell, in the order in which the room sees it.

`class start` writes it into the folder of the round. It is not one of the course's numbered notebooks: it has no
exercises, and every cell may be run again while files are still coming in.
"""

import json
from pathlib import Path

from rlhf_lite import files

CELLS = [
    ("markdown", "# What do we like?\n\nEverybody ranks the same prompts, blind. Then we look at how far we agree, "
                 "talk, and rank again; and PPO makes a policy out of us."),
    ("code", """\
from pathlib import Path

import torch
from IPython.display import Image, display

from rlhf_lite import files
from rlhf_lite.exercises.lesson import Lesson
from rlhf_lite.experiment import pages
from rlhf_lite.workshop import class_folder, class_norming, class_page, class_policy, class_taste

FOLDER = Path(".")"""),
    ("markdown", "## Who is here\n\nRun this cell again as the rankings come in. Your receipt must be in the table."),
    ("code", """\
people = class_folder.gather(class_folder.files_of(FOLDER)).people
for name, first, again, receipt in class_folder.receipts(people):
    print(f"{name:24} {first:3} prompts, {again} again   {receipt}")"""),
    ("markdown", "## How far do we agree?\n\n*Predict first, by show of hands: of ten pairs of answers, on how many do "
                 "two of us agree? Chance is five.*"),
    ("code", """\
found = class_page.merged(FOLDER)
people = found.people
print(*found.notes, *class_page.agreement_lines(people), sep="\\n")"""),
    ("code", "display(Image(pages.png(class_page.picture(class_page.class_agreement.compare(people)), dpi=110)))"),
    ("markdown", "## What do we not agree about?\n\nWho put what first, and why? Ask the two who are furthest apart."),
    ("code", 'print(*class_page.disputed_lines(people), sep="\\n")'),
    ("markdown", "## The norming round\n\nHalf of the most disputed prompts are discussed, half are not: the control. "
                 "Discuss, then everybody opens the page again and ranks."),
    ("code", """\
if class_folder.open_round(FOLDER) == 1:
    class_norming.write(FOLDER, people)
chosen = class_folder.norming(FOLDER)
for item in class_folder.items(FOLDER, round=2):
    if item["prompt_id"] in chosen["discussed"]:
        print(item["prompt"], *(f"   {one['text']}" for one in item["responses"]), sep="\\n")"""),
    ("markdown", "When everybody has ranked again:"),
    ("code", 'print(*class_page.norming_lines(class_page.norming(FOLDER, people)) or ["Nobody has ranked again yet."],'
             ' sep="\\n")'),
    ("markdown", "## Everybody's taste as a reward model\n\nOne a person, one for the class, one for the simulated "
                 "team that trained the shipped models."),
    ("code", """\
course = Lesson("class", torch.device("cpu"), fast=False)
sft, shipped, tokenizer = course.policy("sft"), course.reward_model(), course.tokenizer()
table, answers = class_taste.tastes(class_folder.items(FOLDER), people, shipped, tokenizer)
print(*class_page.taste_lines(table), sep="\\n")"""),
    ("markdown", "## The policy that follows us\n\nThe first line says how long it takes. *Predict: what will it do "
                 "more of?*"),
    ("code", """\
followed = class_policy.train(table, answers, sft, shipped, tokenizer)
print(*class_page.policy_lines(followed), sep="\\n")
for before, after in list(zip(followed.before, followed.after, strict=True))[:6]:
    print(f"\\n{before['prompt']}\\n   before: {before['response']}\\n   after:  {after['response']}")"""),
    ("code", "class_page.write(FOLDER, people, found.notes, table, followed)"),
]


def write(folder):
    """Write projector.ipynb, unless it is there already: somebody may have written in it."""
    path = Path(folder) / "projector.ipynb"
    if not path.exists():
        files.write_text(path, json.dumps(notebook(), indent=1, ensure_ascii=False) + "\n")
    return path


def notebook():
    """The notebook as JSON content."""
    cells = []
    for place, (kind, source) in enumerate(CELLS):
        entry = {"cell_type": kind, "id": f"projector-{place}", "metadata": {},
                 "source": source.splitlines(keepends=True)}
        cells.append(entry | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    return {"nbformat": 4, "nbformat_minor": 5, "cells": cells, "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}}
