"""Rankings from whatever tool they were made with.

    python -m rlhf_lite import their_export.json --out r.jsonl

The idea: every row is recognised by its own fields (the forms are in `formats.pairs` and `formats.lists`), becomes one
of our ranking records with all its K answers, or is dropped for a reason that is counted. Nothing is guessed: where a
file does not say whether a higher or a lower number is better, or what "1" chooses, it asks. A file from which nothing
can be learnt is an error.

Left out: demonstrations (`demonstrations.jsonl` needs only prompt and response), images, and answers nobody compared.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from rlhf_lite import feedback, files
from rlhf_lite.real.formats import lists, pairs
from rlhf_lite.real.formats.files import read_rows
from rlhf_lite.real.formats.texts import Drop

# In this order: the first that knows a row's form reads it.
FORMS = {"our own rankings": lists.ours, "Argilla ranking": lists.argilla, "Label Studio": lists.label_studio,
         "OpenAssistant tree": lists.open_assistant, "NeMo-RL preference": lists.nemo,
         "chosen and rejected (TRL, HH)": pairs.preference, "arena votes": pairs.arena,
         "AlpacaEval annotations": pairs.alpaca_eval, "summaries with a choice": pairs.summaries,
         "two answers with a choice": pairs.choice, "two answers with scores": lists.two_scores,
         "answers with scores or ranks": lists.scored}
SHOWN = 5  # where a reason occurred: the first few places


class Unclear(ValueError):
    """The file can be read in two ways; the sentence says which option decides."""


@dataclass
class Hints:
    """What a row alone does not say: which way scores go, and what the number of a choice counts from."""

    better: str | None = None  # "higher" or "lower"
    first: str | None = None  # the number that chooses the first answer, "0" or "1"

    def higher_is_better(self, name, known=False):
        if self.better is None and not known:
            raise Unclear(f'the file has "{name}" but does not say which way it goes; add --better higher (or lower)')
        return self.better != "lower"

    def needs_base(self, said, side):
        if self.first is None and side == ("1", "2"):
            self.first = "1"
        if self.first is None:
            raise Unclear(f'the choice "{said}" counts the answers {side[0]} and {side[1]} from 0 or from 1; add '
                          "--first 0 (or 1)")
        if said not in (self.first, str(int(self.first) + 1)):
            raise Drop(f"the choice {said}, where the first answer is {self.first}")


@dataclass
class Imported:
    """rows: ranking records. forms: {form: rows read}. dropped: {reason: places}. problems: unreadable rows."""

    rows: list = field(default_factory=list)
    forms: Counter = field(default_factory=Counter)
    dropped: dict = field(default_factory=dict)
    problems: list = field(default_factory=list)

    def __str__(self):
        pairs_in = sum(len(feedback.pairs_from_ranking(row)) for row in self.rows)
        answers = Counter(row["K"] for row in self.rows)
        lines = [f"{form}: {count:,} rows" for form, count in self.forms.items()]
        lines += [f"kept: {len(self.rows):,} rankings of " + ", ".join(f"{k} answers ({n:,})" for k, n in sorted(
            answers.items())) + f"; {pairs_in:,} pairs, {sum(len(set(r['ranks'])) == 1 for r in self.rows):,} all tied"]
        lines += [f"dropped: {len(places):,}, {reason} ({', '.join(places[:SHOWN])}"
                  f"{', ...' if len(places) > SHOWN else ''})" for reason, places in self.dropped.items()]
        return "\n".join([*lines, *self.problems[:SHOWN], *(
            [f"and {len(self.problems) - SHOWN} more rows that cannot be read"] if len(self.problems) > SHOWN else [])])


def read(path, better=None, first=None):
    """Rankings in any known form -> Imported.

    better: "higher" or "lower", for scores; ranks need nothing (1 is the best). first: 0 or 1, the number that chooses
    the first of two answers. Raises ValueError when the file is unclear, or has nothing to learn from.
    """
    if better not in (None, "higher", "lower") or first not in (None, 0, 1, "0", "1"):
        raise ValueError(f'better is {better!r} and first {first!r}; use "higher" or "lower", and 0 or 1.')
    rows, problems = read_rows(path)
    hints, found = Hints(better, None if first is None else str(first)), Imported(problems=problems)
    hints.first = hints.first or _base(rows)
    for where, row in _together(rows):
        try:
            form, records = _recognise(row, hints)
            found.forms[form] += 1
            checked = [_checked(one, len(found.rows) + place) for place, one in enumerate(records)]
            found.rows += checked
        except Unclear as error:
            raise ValueError(f"{path}, {where}: {error}.") from None
        except Drop as reason:
            found.dropped.setdefault(str(reason), []).append(where)
    if not any(feedback.pairs_from_ranking(row) for row in found.rows):
        why = "; ".join(f"{len(places)}: {reason}" for reason, places in list(found.dropped.items())[:SHOWN])
        raise ValueError(f"{path}: no row prefers one answer to another ({len(rows)} rows read"
                         f"{', dropped ' + why if why else ''}{', only ties' if found.rows else ''}).")
    return found


def _recognise(row, hints):
    for form, parse in FORMS.items():
        records = parse(row, hints)
        if records is not None:
            return form, records
    raise Drop(f"no known form (its fields are {', '.join(list(map(str, row))[:6]) or 'none'})")


def _checked(one, number):
    if "schema" in one:
        return one
    responses, ranks = one.pop("responses"), one.pop("ranks")
    try:
        return feedback.new_ranking(f"imported-{number:06d}", one.pop("prompt"), responses, ranks, one.pop("labeler"),
                                    **one)
    except ValueError as error:
        raise Drop(str(error)) from None


def _base(rows):
    """"0" or "1" if the choices of a file show what they count from: a 0 means 0, a 2 means 1."""
    said = {str(row[name]) for _, row in rows for name in pairs.CHOICES if name in row
            and isinstance(row[name], (int, float, str)) and not isinstance(row[name], bool)}
    said = {re.sub(r"\.0$", "", value) for value in said}
    return "0" if "0" in said and "2" not in said else "1" if "2" in said and "0" not in said else None


def _together(rows):
    """Long tables have one answer per row: rows with the same prompt and one answer each become one row."""
    grouped = {}
    for where, row in rows:
        answers = [row[name] for name in ("response", "answer", "completion", "output", "text")
                   if isinstance(row.get(name), str)]
        prompt = next((row[name] for name in pairs.PROMPTS if isinstance(row.get(name), str)), None)
        graded = any(name in row and not isinstance(row[name], list) for name in (*lists.RANKS, *lists.SCORES))
        if len(answers) != 1 or prompt is None or not graded:
            grouped[where] = where, row
            continue
        key = prompt, *(str(row.get(name)) for name in ("prompt_id", "labeler", "annotator"))
        one = grouped.setdefault(key, (where, {"prompt": prompt, "responses": []}))[1]
        one["responses"].append({**row, "text": answers[0]})
    return list(grouped.values())


def from_dataset(dataset):
    """The rows of a `datasets.Dataset` as `feedback.to_dataset` made it, with the fields that each row had."""
    from rlhf_lite.real.formats.files import without_none

    return [without_none(row) for row in dataset]


def write(found, out):
    """Write the rankings to a JSONL file, whole or not at all."""
    with files.whole_file(out) as new:
        new.write_bytes(b"".join(map(feedback.json_line, found.rows)))


def command(path, out, better=None, first=None):
    """`python -m rlhf_lite import`: read, write, and print what was kept and dropped."""
    found = read(path, better, first)
    write(found, out)
    print(found)
    print(f"Done: {out}")
