"""A builder's own files: prompts, demonstrations and rankings, read, split by prompt and encoded.

The idea: everything that shares a prompt stays on one side. Of the prompts, a part is held out: nobody trains on them,
and the models are compared on them. Of the ranked prompts, a part goes to a second judge, which PPO never sees.

Left out: cutting long rows (they are dropped and counted).
"""

import random
from dataclasses import dataclass, field

from rlhf_lite import models
from rlhf_lite.real import importing
from rlhf_lite.real.formats import texts
from rlhf_lite.real.formats.files import read_rows
from rlhf_lite.real.formats.pairs import prompt_of
from rlhf_lite.real.formats.texts import Drop
from rlhf_lite.reward import RankedPrompt, reward_input
from rlhf_lite.sft import build_example

RESPONSES = ("response", "completion", "answer", "output", "reply", "text")


@dataclass
class Own:
    """Everything as texts. demonstrations: (prompt, response). rankings: records. notes: what was left out, and why."""

    prompts: list
    demonstrations: list
    rankings: list
    notes: list = field(default_factory=list)


def read_prompts(path):
    """A file of prompts (rows with "prompt", or plain text with one per line) -> ([text], [note])."""
    if str(path).endswith(".txt"):
        with open(path, encoding="utf-8") as file:
            rows = [(f"line {number}", {"prompt": line.strip()}) for number, line in enumerate(file, 1) if line.strip()]
        return _read(path, rows, [], prompt_of)
    return _read(path, *read_rows(path), prompt_of)


def read_demonstrations(path):
    """A file of demonstrations (prompt and response, or messages) -> ([(prompt, response)], [note])."""
    def one(row):
        messages = row.get("messages") or row.get("conversations")
        if messages and not any(row.get(name) for name in RESPONSES):
            return texts.split_last(messages)
        given = next((row[name] for name in RESPONSES if row.get(name) is not None), None)
        return prompt_of(row), texts.as_answer(given)
    return _read(path, *read_rows(path), one)


def _read(path, rows, problems, parse):
    found, dropped = [], {}
    for where, row in rows:
        try:
            found.append(parse(row))
        except Drop as reason:
            dropped.setdefault(str(reason), []).append(where)
    notes = [f"{path}: dropped {len(places)}, {reason} ({', '.join(places[:3])})" for reason, places in dropped.items()]
    if not found:
        raise ValueError(f"{path}: there is nothing to use ({'; '.join([*notes, *problems][:3]) or 'no rows'}).")
    return list(dict.fromkeys(found)), problems + notes


def read_own(prompts=None, demonstrations=None, rankings=None, better=None):
    """Three paths -> Own. Without a file of prompts, those of the demonstrations and rankings are used."""
    shown, first = read_demonstrations(demonstrations) if demonstrations else ([], [])
    ranked = importing.read(rankings, better) if rankings else importing.Imported()
    asked, third = read_prompts(prompts) if prompts else (list(dict.fromkeys(
        [prompt for prompt, _ in shown] + [row["prompt"] for row in ranked.rows])), [])
    second = [f"{rankings}: dropped {len(places)}, {reason} ({', '.join(places[:3])})"
              for reason, places in ranked.dropped.items()]
    return Own(asked, shown, ranked.rows, [*first, *ranked.problems, *second, *third])


def hold_out(own, share, seed):
    """Own -> (training prompts, held-out prompts). Prompts without demonstration and ranking are held out first."""
    used = {prompt for prompt, _ in own.demonstrations} | {row["prompt"] for row in own.rankings}
    order = random.Random(f"held out {seed}").sample(own.prompts, len(own.prompts))
    order.sort(key=lambda prompt: prompt in used)
    count = max(2, round(share * len(order)))
    if len(order) < 4:
        raise ValueError(f"There are only {len(order)} different prompts; give at least 4, to hold some out.")
    return order[count:], order[:count]


def for_two_judges(rankings, share, seed):
    """Rankings -> (the reward model's, the second judge's), split by prompt; ValueError if either would be empty."""
    by_prompt = {}
    for row in rankings:
        by_prompt.setdefault(row["prompt"], []).append(row)
    order = random.Random(f"judge {seed}").sample(list(by_prompt), len(by_prompt))
    count = max(2, round(share * len(order)))
    if len(order) < 4:
        raise ValueError(f"The rankings are of {len(order)} different prompts; a reward model and a second judge need "
                         "at least 4.")
    judge, first = ([row for prompt in part for row in by_prompt[prompt]] for part in (order[:count], order[count:]))
    return first, judge


# ---------------------------------------------------------------- ids

def examples(tokenizer, demonstrations, context):
    """(prompt, response) texts -> (Examples, number that is too long)."""
    found = [build_example(models.encode_prompt(tokenizer, prompt), models.encode_response(tokenizer, response))
             for prompt, response in demonstrations]
    kept = [example for example in found if len(example.input_ids) <= context]
    return kept, len(found) - len(kept)


def ranked_prompts(tokenizer, rows, context):
    """Ranking records -> (RankedPrompts, [note]). Notes name those that are too long or rank the same tokens apart."""
    kept, notes = [], []
    for row in rows:
        prompt = models.encode_prompt(tokenizer, row["prompt"])
        answers = [r.get("token_ids") or models.encode_response(tokenizer, r["text"]) for r in row["responses"]]
        if max(max(answer) for answer in answers) >= len(tokenizer):  # sampled from a model with another tokenizer
            answers = [models.encode_response(tokenizer, r["text"]) for r in row["responses"]]
        same = len(set(map(tuple, answers))) < len(set(zip(map(tuple, answers), row["ranks"], strict=True)))
        if len(prompt) + max(map(len, answers)) > context:
            notes.append(f"{row['prompt_id']}: too long for the model's context of {context} tokens")
        elif same:
            notes.append(f"{row['prompt_id']}: different ranks for two answers with the same tokens")
        elif len(set(row["ranks"])) > 1:
            kept.append(RankedPrompt(prompt, answers, row["ranks"]))
    return kept, notes


def inputs(prompt_ids, answers):
    """Lists of prompt ids and answer ids -> the rows that a reward model reads."""
    return [reward_input(prompt, answer) for prompt, answer in zip(prompt_ids, answers, strict=True)]
