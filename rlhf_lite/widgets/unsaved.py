"""Entries that are not submitted yet, kept beside the annotator's file so that a restart loses none of them.

They are not answers: nothing that reads rankings looks here. The file is small, and written anew at each entry.
"""

import dataclasses
import hashlib
import json
import os
import secrets
from pathlib import Path

from rlhf_lite.widgets.draft import Draft, saved_order


def place(path, annotator):
    """runs/feedback/.ada.1f3c9a2b.draft for runs/feedback/ada.jsonl: one file a person, also where files are shared."""
    path = Path(path)
    return path.with_name(f".{path.stem[:100]}.{_digest([annotator])[:8]}.draft")


def save(path, annotator, drafts):
    """Keep drafts, {item_id: (texts of its answers, Draft)}; without any, the file goes."""
    target = place(path, annotator)
    rows = {key: {"answers": _digest(texts), **dataclasses.asdict(draft), "flags": [sorted(f) for f in draft.flags]}
            for key, (texts, draft) in drafts.items()}
    new = target.with_name(f"{target.name}-{secrets.token_hex(4)}")
    try:
        if not rows:
            return target.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(rows), encoding="utf-8")
        os.replace(new, target)
    except OSError:  # a full or read-only disk: the submit will say so, and that is what counts
        new.unlink(missing_ok=True)
    return None


def load(path, annotator, texts):
    """{item_id: Draft} of what was kept; texts: {item_id: texts of its answers}, for others do not count."""
    try:
        rows = json.loads(place(path, annotator).read_text(encoding="utf-8"))
        return {key: _draft(rows[key]) for key, answers in texts.items()
                if key in rows and rows[key]["answers"] == _digest(answers) and _fits(rows[key], answers)}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none, or damaged: start afresh
        return {}


def _fits(row, answers):
    count = len(answers)
    return saved_order(row["order"] and {"shown_order": row["order"]}, count) is not None and all(
        len(row[name]) == count for name in ("ranks", "scores", "flags")) and all(
        type(r) is int and 0 <= r <= count for r in row["ranks"]) and all(
        type(s) is int and 0 <= s <= 7 for s in row["scores"]) and isinstance(row["note"], str) and all(
        0 <= m["place"] < count and 0 <= m["start"] < m["end"] <= len(answers[row["order"][m["place"]]])
        and isinstance(m["text"], str) for m in row["marks"])


def _draft(row):
    names = [field.name for field in dataclasses.fields(Draft)]
    return Draft(**{name: row[name] for name in names} | {"flags": [set(flags) for flags in row["flags"]]})


def _digest(texts):
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
