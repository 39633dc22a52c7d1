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
from rlhf_lite.widgets.language import texts as texts_in

# Table 3 of InstructGPT, in its order; the keys are those of `town.grading.FLAGS`.
FLAGS = texts_in("en")["flags"]
SHORT_FLAGS = tuple(FLAGS)[:4]  # the ones that the town's answers need; the rest are behind a button
# Our own list: the paper does not say which reasons its labelers could give.
# Records give a reason in English, whatever language it was shown in.
REASONS = tuple(texts_in("en")["reasons"])
KEPT = ("item_id", "use_case", "split")  # fields that an item passes on to its record
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


def checked_item(item, annotator, most):
    """An item as a session keeps it; ValueError says what is wrong with it. most: answers that it may have."""
    missing = [name for name in ("prompt_id", "prompt", "responses") if name not in item]
    if missing:
        raise ValueError(f"an item has no {' and no '.join(missing)}; it needs prompt_id, prompt and responses")
    item = {name: item[name] for name in ("prompt_id", "prompt", "responses", *KEPT) if name in item}
    row = feedback.new_ranking(**item, ranks=[1] * len(item["responses"]), labeler=annotator)
    if row["K"] > most:
        raise ValueError(f"{item['prompt_id']}: there are {row['K']} answers; give "
                         f"{'2 in pair mode' if most == 2 else f'2 to {most}'}")
    return {**item, "responses": row["responses"], "item_id": item_id(item)}


def texts(row):
    """The texts of an item's or a ranking's answers."""
    return [response["text"] for response in row["responses"]]


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


def replay(rows, answers):
    """One person's rows again, for the items in answers, {item_id: texts} -> (records, withdrawn, others).

    records: {item_id: the row that counts}, the latest last; withdrawn: {item_id: the row as it was before}; others:
    the items with rankings of other answers, which do not count.
    """
    records, withdrawn, others = {}, {}, set()
    for row in rows:
        key = item_id(row)
        if key not in answers:
            continue
        before = records.pop(key, None)
        if "ranks" in row and texts(row) != answers[key]:
            others.add(key)
        elif row.get("status") != "withdrawn":
            records[key] = row
        elif before is not None:
            withdrawn[key] = before
    return records, {key: row for key, row in withdrawn.items() if key not in records}, others


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
