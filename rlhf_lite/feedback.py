"""What people wrote and ranked: demonstrations and rankings, one JSON row per line.

Two kinds of record carry everything a person (or a simulated labeler) contributes to RLHF:

* a *demonstration*: one prompt and the answer a person would have liked to read (InstructGPT section 3.2);
* a *ranking*: one prompt, K answers and a rank for each, ties allowed (InstructGPT section 3.4 and App. B.5).

They are plain dictionaries kept in files that only ever grow (see ``jsonl``). To correct a row, append a better one;
``latest`` keeps each labeler's last ranking of each prompt.
"""

import re
from datetime import date as calendar_date
from typing import NamedTuple

from rlhf_lite import files
from rlhf_lite.jsonl import append_jsonl, json_line, read_jsonl  # noqa: F401  (records and their files in one place)
from rlhf_lite.plain import is_plain

SCHEMA = 1
NAMES = ("id", "prompt_id", "labeler", "author")  # fields that appear in tables and messages
MOST_CHARACTERS, MOST_SECONDS = 200, 10_000_000  # of such a name; for one item (four months)
MOST_CRITIQUE = 500  # characters in the line about some marked words
HALF = re.compile("[\ud800-\udfff]")
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
    Anything in ``more`` (use_case, split, date, id, critique ...) is kept as it is.
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
    if row["split"] not in SPLITS:
        raise ValueError(f'"split" is {row["split"]!r}; use one of {", ".join(SPLITS)}')
    try:
        calendar_date.fromisoformat(row["date"])
    except ValueError:
        raise ValueError(f'"date" is {row["date"]!r}; write it as year-month-day, for example 2026-03-01') from None


def check_ranking(row):
    """Raise ValueError("what is wrong; how to fix it") unless ``row`` is a usable ranking."""
    check_texts(row, ("prompt_id", "prompt", "labeler"))
    responses, ranks, scores, flags = row.get("responses"), row.get("ranks"), row.get("scores"), row.get("flags")
    if not isinstance(responses, list) or len(responses) < 2:
        raise ValueError('"responses" is not a list of two or more answers; a ranking compares at least two')
    for number, response in enumerate(responses, 1):
        _check_response(number, response)
    K = len(responses)
    if not _all_ints([row.get("K")]) or row["K"] != K:
        raise ValueError(f'"K" is {row.get("K")!r} but there are {K} responses; set it to {K}')
    if not isinstance(ranks, list) or len(ranks) != K:
        raise ValueError(f'"ranks" does not hold {K} numbers; give one rank per response')
    if not _all_ints(ranks, 1, K):
        bad = next(rank for rank in ranks if not _all_ints([rank], 1, K))
        raise ValueError(f"rank {bad!r} is not a whole number from 1 to {K}; 1 is the best, equal numbers are ties")
    check_seconds(row.get("seconds"))
    if scores is not None and not (isinstance(scores, list) and len(scores) == K and _all_ints(scores, 1, 7)):
        raise ValueError(f'"scores" is not {K} whole numbers from 1 to 7; fix them or leave "scores" out')
    if flags is not None and not (isinstance(flags, list) and len(flags) == K and all(
            isinstance(f, dict) and set(map(type, f.values())) <= {bool} for f in flags)):
        raise ValueError(f'"flags" is not {K} groups of true/false answers; fix them or leave "flags" out')
    _check_critique(row.get("critique"), responses)


def _check_critique(marks, responses):
    """Optional: [{"answer", "start", "end", "text"}], a line about characters start to end of an answer (from 0)."""
    if marks is None:
        return
    if not isinstance(marks, list):
        raise ValueError('"critique" is not a list of marks; fix it or leave "critique" out')
    for number, mark in enumerate(marks, 1):
        if not isinstance(mark, dict) or not _all_ints([mark.get("answer")], 0, len(responses) - 1):
            raise ValueError(f'mark {number} of "critique" has no "answer" from 0 to {len(responses) - 1}; fix it')
        length = len(responses[mark["answer"]]["text"])
        if not _all_ints([mark.get("start"), mark.get("end")], 0, length) or mark["start"] >= mark["end"]:
            raise ValueError(f'mark {number} of "critique" has no "start" before an "end" within the {length} '
                             "characters of its answer; fix it")
        if not is_critique(mark.get("text")):
            raise ValueError(f'mark {number} of "critique" has a "text" that is not one line of at most '
                             f"{MOST_CRITIQUE} characters; fix it")
        _check_characters(f'mark {number} of "critique"', mark["text"])


def is_critique(text):
    """Whether a text can be the line about some marked words."""
    return isinstance(text, str) and bool(text.strip()) and len(text) <= MOST_CRITIQUE and is_plain(text)


def _check_response(number, response):
    if not isinstance(response, dict) or not isinstance(response.get("text"), str):
        raise ValueError(f'response {number} has no "text"; give it as {{"text": "...", "source": "..."}}')
    if not isinstance(response.get("source", ""), str):
        raise ValueError(f'response {number} has a "source" that is not text; name the model or person that wrote it')
    _check_characters(f"response {number}", response["text"])
    _check_characters(f"response {number}", response.get("source", ""))
    ids = response.get("token_ids")
    if ids is not None and not (isinstance(ids, list) and _all_ints(ids) and min(ids, default=0) >= 0):
        raise ValueError(f'response {number} has "token_ids" that are not whole numbers; leave them out')


def check_seconds(seconds):
    """Raise ValueError unless this can be the time that a person took for one item."""
    if type(seconds) not in (int, float) or not 0 <= seconds <= MOST_SECONDS:
        raise ValueError(f'"seconds" is {str(seconds)[:40]}; give the time taken as a number from 0 to {MOST_SECONDS}, '
                         "0 if unknown")


def check_texts(row, fields):
    """Raise ValueError unless ``row`` is an object of this schema and each of ``fields`` is non-empty text.

    What names something (a person, a prompt) may not contain control characters, which could forge lines in a terminal.
    """
    if not isinstance(row, dict):
        raise ValueError('the row is not a JSON object; write it as {"field": value, ...}')
    schema = row.get("schema")
    if not _all_ints([schema]):
        raise ValueError(f'there is no "schema" number; add "schema": {SCHEMA}')
    if schema > SCHEMA:
        raise ValueError(f"the row has schema {schema} but this program knows {SCHEMA}; update rlhf_lite")
    if schema != SCHEMA:
        raise ValueError(f"schema {schema} never existed; the first one is 1")
    for field in fields:
        if field not in row:
            raise ValueError(f'"{field}" is missing; add it')
        text = row[field]
        if not isinstance(text, str):
            raise ValueError(f'"{field}" is not text; put it in quotation marks')
        if not text or text.isspace():
            raise ValueError(f'"{field}" is empty; fill it in or delete the row')
        _check_characters(f'"{field}"', text)
        if field in NAMES and not (is_plain(text) and len(text) <= MOST_CHARACTERS):
            raise ValueError(f'"{field}" is {text[:40]!r}; use at most {MOST_CHARACTERS} letters, digits and other '
                             "visible characters")


def _check_characters(name, text):
    """Refuse half a character (a lone surrogate): JSON can spell it, but tokenizers and UTF-8 files cannot."""
    if not text.isascii() and (half := HALF.search(text)):
        raise ValueError(f"{name} contains half a character, {half.group()!r}; write the whole character or delete it")


def _all_ints(values, low=None, high=None):
    """Whether these are whole numbers (true and false are not) from low to high."""
    if not set(map(type, values)) <= {int}:
        return False
    return low is None or not values or low <= min(values) and max(values) <= high



def _whole(values):
    return [int(value) if value in range(99) else value for value in values]  # 1.0 is 1; NaN and 1.5 are refused


# ---------------------------------------------------------------- which rankings count

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
