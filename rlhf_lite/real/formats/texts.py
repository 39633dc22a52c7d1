"""Prompt and answers, however a tool wrote them down: plain text, lists of messages, or "Human: ... Assistant: ...".

A dialogue becomes one prompt: a single turn as it is; several, or one with a system message, as a transcript with
"System:", "Human:" and "Assistant:" (HH-RLHF's names). Nothing is ever turned into text by `str`.
"""

import math
import re

NAMES = {"system": "System", "developer": "System", "user": "Human", "human": "Human", "prompter": "Human",
         "assistant": "Assistant", "gpt": "Assistant", "model": "Assistant", "bot": "Assistant"}
MISSING = ("", "none", "null", "nan", "n/a", "na")


class Drop(ValueError):
    """Why a row is left out, in a few words; rows with the same reason are counted together."""


def plain(value, what):
    """A non-empty text, or Drop."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = message(value[0])[1]
    if value is None:
        raise Drop(f"no {what}")
    if not isinstance(value, str):
        raise Drop(f"{what} that is not text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise Drop(f"half a character in the {what}")
    if not value.strip():
        raise Drop(f"empty {what}")
    return value.strip()


def message(part):
    """A message -> ("Human", "Assistant" or "System", text); both spellings (role, content) and (from, value)."""
    role, said = part.get("role", part.get("from")), part.get("content", part.get("value", part.get("text")))
    if isinstance(said, list):  # typed parts: [{"type": "text", "text": ...}]
        if any(not isinstance(piece, dict) or piece.get("type") != "text" for piece in said):
            raise Drop("messages with pictures or other parts than text")
        said = "".join(piece.get("text") or "" for piece in said)
    if not isinstance(role, str) or role.lower() not in NAMES:
        raise Drop(f"a message whose role is {str(role)[:20]!r}")
    return NAMES[role.lower()], plain(said, "message")


def turns(value):
    """Messages or an HH transcript -> [(name, text)], which must end in a text; None for any other text."""
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        return [message(part) for part in value]
    if isinstance(value, str) and re.match(r"\s*(Human|Assistant):", value):
        parts = re.split(r"(?:^|\n\n)\s*(Human|Assistant):", value.strip())
        found = list(zip(parts[1::2], (text.strip() for text in parts[2::2]), strict=True))
        if parts[0].strip() or any(one[0] == two[0] for one, two in zip(found, found[1:], strict=False)):
            raise Drop("a broken dialogue")
        return found
    return None


def as_prompt(value):
    """A text, messages or a transcript that ends with a person's turn -> the prompt as text."""
    found = turns(value)
    if found is None:
        return plain(value, "prompt")
    if found[-1][0] == "Assistant" and not found[-1][1]:
        found = found[:-1]  # "... Assistant:", the place of the answer
    if not found or found[-1][0] != "Human":
        raise Drop("a prompt that does not end with a person's turn")
    if len(found) == 1:
        return plain(found[0][1], "prompt")
    return "\n\n".join(f"{name}: {plain(text, 'turn')}" for name, text in found)


def as_answer(value):
    """A text or one message by the assistant -> the answer as text."""
    found = turns(value) if isinstance(value, list) else None
    if found is None:
        return plain(value, "answer")
    if found[-1][0] != "Assistant":
        raise Drop("an answer that is not the assistant's")
    return plain(found[-1][1], "answer")


def split_last(value):
    """A whole dialogue -> (prompt, answer), or None if it is no dialogue."""
    found = turns(value)
    if found is None:
        return None
    if len(found) < 2 or found[-1][0] != "Assistant":
        raise Drop("a dialogue without an answer at its end")
    *before, last = found
    return as_prompt([{"role": name.lower(), "content": text} for name, text in before]), plain(last[1], "answer")


def number(value):
    """A finite number, also from a text; None if it is missing, and Drop if it is something else."""
    if value is None or isinstance(value, str) and value.strip().lower() in MISSING:
        return None
    if isinstance(value, bool):
        raise Drop("a score that is no number")
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise Drop("a score that is no number") from None
    return found if math.isfinite(found) else None


def record(prompt, answers, ranks, **more):
    """One comparison, checked: prompt, K answers as (text, source), K numbers of which the lower is better.

    Answers without a number (None) are left out. Ranks come out dense: 1, 2, 2, 3. Equal answers of equal rank become
    one; of different ranks, they contradict each other.
    """
    kept = {}
    for (text, source), rank in zip(answers, ranks, strict=True):
        if rank is None:
            continue
        if kept.setdefault(text, (rank, source))[0] != rank:
            raise Drop("two equal answers with different ranks")
    if len(kept) < 2:
        raise Drop("fewer than two different answers with a rank or score")
    order = sorted({rank for rank, _ in kept.values()})
    return {"prompt": prompt, "ranks": [order.index(rank) + 1 for rank, _ in kept.values()],
            "responses": [{"text": text, "source": source} for text, (_, source) in kept.items()], **more}
