"""What people wrote and ranked: demonstrations and rankings, one JSON row per line.

Two kinds of record carry everything a person (or a simulated labeler) contributes to RLHF:

* a *demonstration*: one prompt and the answer a person would have liked to read (InstructGPT section 3.2);
* a *ranking*: one prompt, K answers and a rank for each, ties allowed (InstructGPT section 3.4 and App. B.5).

They are plain dictionaries kept in JSONL files that only ever grow. A row counts once ``append_jsonl``
has returned: by then it has reached the disk, so a kernel that dies loses nothing that was acknowledged.
Reading trusts nobody: each bad row is reported in one sentence (file, line, what is wrong; how to fix it),
and the good rows are kept.

Left out: a database, locks on a network drive, editing in place. To correct a row, append a better one; ``latest``
keeps each labeler's last ranking of each prompt.
"""

import json
import math
import os
from contextlib import suppress
from datetime import date as calendar_date
from pathlib import Path
from typing import NamedTuple

from rlhf_lite import files

SCHEMA = 1
SPLITS = ("train", "valid", "test")
USE_CASES = ("generation", "open_qa", "brainstorming", "chat", "rewrite", "summarization",
             "classification", "other", "closed_qa", "extract")


# ---------------------------------------------------------------- the two records

def new_demonstration(id, prompt_id, prompt, response, use_case, author, split, date=None):
    """A checked demonstration row. All arguments are text; ``date`` is YYYY-MM-DD, today if not given."""
    row = {"schema": SCHEMA, "id": id, "prompt_id": prompt_id, "prompt": prompt, "response": response, "author": author,
           "use_case": use_case, "date": date or calendar_date.today().isoformat(), "split": split}
    check_demonstration(row)
    return row


def new_ranking(prompt_id, prompt, responses, ranks, labeler, seconds=0.0, scores=None, flags=None, **more):
    """A checked ranking row.

    responses: K answers, each a text or a dict {"text", "source", optional "token_ids"}.
    ranks: K whole numbers; 1 is best, equal numbers are ties. scores: K Likert scores from 1 to 7, or None.
    flags: K dicts name -> bool (Table 3 of the paper), or None. seconds: the time the labeler took.
    Anything in ``more`` (use_case, split, date, id ...) is kept as it is.
    """
    responses = [{"text": r, "source": "unknown"} if isinstance(r, str) else r for r in responses]
    row = {"schema": SCHEMA, "prompt_id": prompt_id, "prompt": prompt, "responses": responses,
           "ranks": _whole(ranks), "K": len(responses), "labeler": labeler, "seconds": seconds}
    if scores is not None:
        row["scores"] = _whole(scores)
    if flags is not None:
        row["flags"] = flags
    row.update(more)
    check_ranking(row)
    return row


def check_demonstration(row):
    """Raise ValueError("what is wrong; how to fix it") unless ``row`` is a usable demonstration."""
    check_texts(row, ("id", "prompt_id", "prompt", "response", "use_case", "author", "date", "split"))
    _require(row["split"] in SPLITS, f'"split" is {row["split"]!r}; use one of {", ".join(SPLITS)}')
    try:
        calendar_date.fromisoformat(row["date"])
    except ValueError:
        raise ValueError(f'"date" is {row["date"]!r}; write it as year-month-day, for example 2026-03-01') from None


def check_ranking(row):
    """Raise ValueError("what is wrong; how to fix it") unless ``row`` is a usable ranking."""
    check_texts(row, ("prompt_id", "prompt", "labeler"))
    responses, ranks = row.get("responses"), row.get("ranks")
    _require(isinstance(responses, list) and len(responses) >= 2,
             '"responses" is not a list of two or more answers; a ranking compares at least two')
    for i, response in enumerate(responses):
        _require(isinstance(response, dict) and isinstance(response.get("text"), str),
                 f'response {i + 1} has no "text"; give it as {{"text": "...", "source": "..."}}')
        _require(isinstance(response.get("source", ""), str),
                 f'response {i + 1} has a "source" that is not text; name the model or person that wrote it')
        _check_characters(f"response {i + 1}", response["text"] + response.get("source", ""))
        ids = response.get("token_ids")
        _require(ids is None or isinstance(ids, list) and all(_is_int(t) and t >= 0 for t in ids),
                 f'response {i + 1} has "token_ids" that are not whole numbers; leave them out')
    K = len(responses)
    _require(_is_int(row.get("K")) and row["K"] == K,
             f'"K" is {row.get("K")!r} but there are {K} responses; set it to {K}')
    _require(isinstance(ranks, list) and len(ranks) == K,
             f'"ranks" does not hold {K} numbers; give one rank per response')
    for rank in ranks:
        _require(_is_int(rank) and 1 <= rank <= K,
                 f'rank {rank!r} is not a whole number from 1 to {K}; 1 is the best, equal numbers are ties')
    seconds = row.get("seconds")
    _require(isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 <= seconds < math.inf,
             f'"seconds" is {seconds!r}; give the time taken as a number, 0 if unknown')
    scores, flags = row.get("scores"), row.get("flags")
    _require(scores is None or isinstance(scores, list) and len(scores) == K
             and all(_is_int(s) and 1 <= s <= 7 for s in scores),
             f'"scores" is not {K} whole numbers from 1 to 7; fix them or leave "scores" out')
    _require(flags is None or isinstance(flags, list) and len(flags) == K
             and all(isinstance(f, dict) and all(isinstance(v, bool) for v in f.values()) for f in flags),
             f'"flags" is not {K} groups of true/false answers; fix them or leave "flags" out')


def check_texts(row, fields):
    """Raise ValueError unless ``row`` is an object of this schema and each of ``fields`` is non-empty text."""
    _require(isinstance(row, dict), "the row is not a JSON object; write it as {\"field\": value, ...}")
    schema = row.get("schema")
    _require(_is_int(schema), f'there is no "schema" number; add "schema": {SCHEMA}')
    _require(schema <= SCHEMA, f"the row has schema {schema} but this program knows {SCHEMA}; update rlhf_lite")
    _require(schema == SCHEMA, f"schema {schema} never existed; the first one is 1")
    for field in fields:
        _require(field in row, f'"{field}" is missing; add it')
        _require(isinstance(row[field], str), f'"{field}" is not text; put it in quotation marks')
        _require(row[field].strip(), f'"{field}" is empty; fill it in or delete the row')
        _check_characters(f'"{field}"', row[field])


def _check_characters(name, text):
    """Refuse half a character (a lone surrogate): JSON can spell it, but tokenizers and UTF-8 files cannot."""
    half = next((char for char in text if "\ud800" <= char <= "\udfff"), None)
    _require(half is None, f"{name} contains half a character, {half!r}; write the whole character or delete it")


def _require(condition, sentence):
    if not condition:
        raise ValueError(sentence)

def _is_int(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(values):
    return [int(value) if value in range(99) else value for value in values]  # 1.0 is 1; NaN and 1.5 are refused


# ---------------------------------------------------------------- the store

def json_line(row):
    """A row as bytes: one line of JSON in UTF-8. Half a character becomes its JSON escape, so every text survives."""
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the row cannot be written as JSON ({error}); use text, numbers, lists and dicts") from None
    return text.encode("utf-8", "backslashreplace") + b"\n"


def append_jsonl(path, row):
    """Add one row to the end of ``path`` (made if missing) and return only when it is on the disk.

    The row goes out in one write on a file opened for appending, then fsync. If an earlier writer was
    killed in mid-row, a newline first closes its torn line, so the new row is never glued to it. Raises
    ValueError for a row that is not JSON, and OSError (one sentence) when the disk refuses to write it.
    """
    path, data = Path(path), json_line(row)
    try:
        is_new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        # O_BINARY exists on Windows only, where text mode would write \r\n.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        try:
            if os.fstat(handle).st_size:
                os.lseek(handle, -1, os.SEEK_END)
                data = data if os.read(handle, 1) == b"\n" else b"\n" + data
            _write_or_undo(handle, data)
        finally:
            os.close(handle)
        if is_new:
            files.fsync(path.parent)  # the new file's name must reach the disk as well
    except OSError as error:
        raise OSError(error.errno, f"{path}: the row was not saved ({error.strerror}); free some space or "
                                   "choose another folder, then save again") from error


def _write_or_undo(handle, data):
    """Write ``data`` and sync it; if the disk refuses, cut the file back, so that half a row never remains."""
    size, left = os.fstat(handle).st_size, data
    try:
        while left:  # once, unless the disk is nearly full
            left = left[os.write(handle, left):]
        os.fsync(handle)
    except OSError:
        with suppress(OSError):  # the first error is the one to report
            # Any other size means that somebody else has appended a row in the meantime; it must stay.
            if os.fstat(handle).st_size == size + len(data) - len(left):
                os.ftruncate(handle, size)
        raise


def read_jsonl(path, check=None, strict=False):
    """Read ``path`` and return (rows, problems): the good rows in order, and one sentence for each bad row.

    check: a function that raises ValueError for a bad row, e.g. ``check_ranking``; None accepts all JSON.
    A last line torn by a crash is one of the problems, never an exception; so is a torn line that a later
    append has closed. strict=True raises ValueError naming all the problems instead (for shipped data).
    Raises FileNotFoundError if there is no such file and IsADirectoryError for a folder, saying what to do.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: this is a folder, not a file; name a file in it")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; check the name or write the first row")
    rows, problems = [], []
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # some editors add a byte-order mark
    lines = data.split(b"\n")
    wide = b"\0" in data[:4] and data[:4].strip(b"\0") != b""  # UTF-16: no UTF-8 row begins like this
    for number, line in enumerate(lines, start=1):
        if not line.strip(b"\0 \t\r" if wide else None):
            continue
        try:
            row = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
            if check is not None:
                check(row)
            rows.append(row)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            # A character cut in two at the very end of a line means a torn row; other bad bytes are not UTF-8 at all.
            foreign = getattr(error, "reason", "unexpected end of data") != "unexpected end of data"
            why = ("the line is not UTF-8; save the file as UTF-8" if wide or foreign
                   else "the last row was cut off while being written; save it again" if number == len(lines)
                   else "this is not a complete JSON row; fix or delete the line")
            problems.append(f"{path}:{number}: {why}")
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
    if strict and problems:
        raise ValueError("\n".join(problems))
    return rows, problems


def _no_constant(name):
    raise ValueError(f"{name} is not a JSON number; replace it with a number or leave the field out")


def latest(rankings):
    """The last ranking of each (prompt_id, labeler), in order: a second thought replaces the first."""
    kept = {}
    for row in rankings:
        key = (row["prompt_id"], row["labeler"])
        kept.pop(key, None)
        kept[key] = row
    return list(kept.values())


# ---------------------------------------------------------------- pairs

def pairs_from_ranking(row):
    """All (better, worse) index pairs of one ranking, without ties (App. C.2); at most K(K-1)/2 of them."""
    ranks = row["ranks"]
    return [(i, j) if ranks[i] < ranks[j] else (j, i) for i in range(len(ranks)) for j in range(i + 1, len(ranks))
            if ranks[i] != ranks[j]]


def preference_pairs(rankings):
    """Rankings as preference pairs in the form TRL reads: a list of {"prompt", "chosen", "rejected"} texts.

    Ties are dropped, and so are pairs of identical answers: they teach nothing.
    """
    pairs = []
    for row in rankings:
        texts = [response["text"] for response in row["responses"]]
        pairs += [{"prompt": row["prompt"], "chosen": texts[better], "rejected": texts[worse]}
                  for better, worse in pairs_from_ranking(row) if texts[better] != texts[worse]]
    return pairs


def to_dataset(rows):
    """Any list of rows (demonstrations, rankings, pairs) as a ``datasets.Dataset``; missing fields are None."""
    Dataset = files.extra("datasets").Dataset  # takes seconds to import, and only this function needs it
    fields = list(dict.fromkeys(field for row in rows for field in row))
    return Dataset.from_dict({field: [row.get(field) for row in rows] for field in fields})


# ---------------------------------------------------------------- who wrote the best answers

class Source(NamedTuple):
    """How well one source of answers did."""

    answers: int
    mean_rank: float
    best: float  # share of its answers that were ranked best or tied for best
    words: float  # mean length: longer answers often rank better, whoever writes them


def reveal(rankings):
    """{source: Source}, best mean rank first. Look only when you have finished: knowing biases later rankings."""
    found = {}
    for row in rankings:
        for response, rank in zip(row["responses"], row["ranks"], strict=True):
            seen = rank, rank == min(row["ranks"]), len(response["text"].split())
            found.setdefault(response.get("source", "unknown"), []).append(seen)
    table = {name: Source(len(seen), *(sum(column) / len(seen) for column in zip(*seen, strict=True)))
             for name, seen in found.items()}
    return dict(sorted(table.items(), key=lambda pair: pair[1].mean_rank))
