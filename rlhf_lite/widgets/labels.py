"""One annotator's file: which rows it may contain, and which of them count when it is read again.

The file is the JSONL store of `feedback`; it only ever grows. It has four kinds of row:

* a ranking (`feedback.new_ranking`) or a demonstration (`feedback.new_demonstration`): it counts;
* ``status: skipped`` with a reason: the item is done, but there is nothing to learn from it;
* ``status: withdrawn``: an undo; the item is open again;
* ``status: draft``: the text of a demonstration that has not been submitted yet. It is in the field "draft", so that
  nothing that reads demonstrations can mistake it for one.

The last record of each item and annotator wins. Code that knows only `feedback.check_ranking` rejects the other kinds,
as it should.
"""

import re
import unicodedata
from pathlib import Path

from rlhf_lite import feedback
from rlhf_lite.plain import is_plain

# Table 3 of InstructGPT, in its order; the keys are those of `town.grading.FLAGS`.
FLAGS = {
    "fails_task": "fails to follow the instruction",
    "inappropriate": "inappropriate for a customer assistant",
    "hallucination": "makes something up (hallucination)",
    "satisfies_constraint": "satisfies the constraint given",
    "sexual": "contains sexual content",
    "violent": "contains violent content",
    "encourages_harm": "encourages, or fails to discourage, violence, abuse, terrorism or self-harm",
    "denigrates": "denigrates a protected class",
    "harmful_advice": "gives harmful advice",
    "opinion": "expresses an opinion",
    "moral_judgment": "expresses a moral judgment",
}
SHORT_FLAGS = tuple(FLAGS)[:4]  # the ones that the town's answers need; the rest are behind a button
# Our own list: the paper does not say which reasons its labelers could give.
REASONS = ("I cannot judge this one", "I do not understand the prompt", "all answers are unusable",
           "the prompt should not be here", "other (see the note)")
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}  # on Windows
NEEDED = {"skipped": "reason", "withdrawn": "prompt", "draft": "draft"}  # a status and the text it comes with


def item_id(row):
    """The item a record is about: a prompt shown twice (to measure self-consistency) has two item ids."""
    return row.get("item_id") or row["prompt_id"]


def who(row):
    """The person a row is from: the labeler of a ranking or the author of a demonstration."""
    return row.get("labeler") or row["author"]


def default_path(annotator, folder="runs/feedback"):
    """runs/feedback/NAME.jsonl, where NAME is the annotator's name as a valid file name."""
    name = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", annotator).strip().lower()).strip("-")
    if not name or len(name.encode()) > 200:
        raise ValueError(f"{annotator[:40]!r} does not make a file name; use up to {feedback.MOST_CHARACTERS} letters "
                         "or digits")
    return Path(folder) / f"{name}{'-' * (name in DEVICES)}.jsonl"


def check_owner(path, rows, annotator):
    """Raise ValueError if a file that was chosen by a person's name (`default_path`) holds somebody else's rows."""
    others = sorted({who(row) for row in rows} - {annotator})
    if others:
        raise ValueError(f"{path} already holds the work of {others[0]!r}, and you are {annotator!r}: if that is you, "
                         "write your name as there; if not, choose another name")


def check_label(row):
    """Raise ValueError("what is wrong; how to fix it") unless ``row`` belongs in an annotator's file."""
    status = row.get("status", "submitted") if isinstance(row, dict) else "submitted"
    if status not in ("submitted", *NEEDED):
        raise ValueError(f'"status" is {status!r}; use submitted, {", ".join(NEEDED)}')
    if status == "submitted":
        written = isinstance(row, dict) and "response" in row
        (feedback.check_demonstration if written else feedback.check_ranking)(row)
    else:
        feedback.check_texts(row, ("prompt_id", "prompt", "author" if status == "draft" else "labeler"))
        if not isinstance(row.get(NEEDED[status]), str):
            raise ValueError(f'a row with status {status} needs a text in "{NEEDED[status]}"; add it')
    if not isinstance(row.get("item_id", ""), str) or not is_plain(row.get("item_id", "")):
        raise ValueError('"item_id" must be text in one line; fix it or leave it out')
    feedback.check_seconds(row.get("seconds", 0))


def read_labels(path):
    """All usable rows of an annotator's file -> (rows, problems); a file that does not exist yet has none."""
    return feedback.read_jsonl(path, check_label) if Path(path).is_file() else ([], [])


def standing(rows):
    """The records that count, in the order they were made: {(item, person): row}. Drafts are left out.

    The last record of each item and person wins, and a withdrawal removes the item.
    """
    kept = {}
    for row in rows:
        if row.get("status") == "draft":
            continue
        key = (item_id(row), who(row))
        kept.pop(key, None)
        if row.get("status") != "withdrawn":
            kept[key] = row
    return kept


def rankings(path):
    """The rankings of a file that count -> (rows, problems); ready for `data.ranked_prompts`."""
    rows, problems = read_labels(path)
    return counting(rows), problems


def counting(rows):
    """The rankings among an annotator's rows that count."""
    return [row for row in standing(r for r in rows if not _is_text(r)).values() if "ranks" in row]


def demonstrations(path):
    """The demonstrations of a file that count -> (rows, problems); ready for `data.demonstration_examples`."""
    rows, problems = read_labels(path)
    return [row for row in standing(r for r in rows if _is_text(r)).values() if "response" in row], problems


def _is_text(row):
    """Whether a row is a demonstration; it does not replace the same person's ranking of the same prompt."""
    return "response" in row or "draft" in row
