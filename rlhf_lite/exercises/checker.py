"""Rewards that a program can check: the clauses of a request with a wish, and a checker that forgets one of them.

The idea: "Write a note to thank Rosa for the kettle. Use at most eight words." can be checked without any reward model.
A program that checks every clause pays for what was asked. One that forgets a clause pays for an answer without it, and
a policy that is trained on it will find out.
"""

import torch

from rlhf_lite import models
from rlhf_lite.town import grading
from rlhf_lite.town import reading_text as r

CLAUSES = {"wish": "keeps the wish", "subject": "names what it is about", "end": "comes to an end"}


def checkable(prompts):
    """The prompts with an explicit wish and words that an answer has to mention."""
    return [prompt for prompt in prompts if prompt.spec.get("constraint") and prompt.spec.get("must")]


def clauses(prompt, text, finished):
    """{clause: bool}: the wish, the things the request names, and an end."""
    return {"wish": bool(text) and grading.constraint_met(prompt.spec["constraint"], text),
            "subject": all(any(r.mentions(text, word) for word in group) for group in prompt.spec["must"]),
            "end": finished and text.rstrip().endswith((".", "!", "?"))}


def passes(prompt, text, finished, checked=tuple(CLAUSES)):
    """1.0 if all clauses that are checked hold, else 0.0."""
    found = clauses(prompt, text, finished)
    return float(all(found[name] for name in checked))


def reward_of(prompts, encoded, tokenizer, checked=tuple(CLAUSES)):
    """A function rollout -> (batch,) for `train_grpo`. prompts, encoded: the same prompts, as `Prompt` and as ids."""
    known = {tuple(ids): prompt for prompt, ids in zip(prompts, encoded, strict=True)}

    def reward_fn(rollout):
        rows = zip(rollout.prompt_ids(), rollout.response_ids(), rollout.finished.tolist(), strict=True)
        return torch.tensor([passes(known[tuple(asked)], models.decode_response(tokenizer, ids), ended, checked)
                             for asked, ids, ended in rows])
    return reward_fn
