"""The folder of a class round: what everybody ranks, and what everybody ranked.

    class_folder/
      items.jsonl     the prompts and their answers, the same for everybody
      round1/         one file a person: ada-l.jsonl, bo.jsonl ...
      norming.json    which prompts are discussed after round 1, and which are not (the control)
      round2/         one file a person again, for the norming round

The idea: the files that people bring are never changed, only read, and what counts is worked out anew each time. The
same row twice (a copy, a file sent again) counts once. The same name in two files that contradict each other is two
people, told apart by the file's name; so thirty people called "me" stay thirty.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from rlhf_lite import feedback, files
from rlhf_lite.jsonl import json_line, many_objects
from rlhf_lite.plain import plain
from rlhf_lite.widgets import labels
from rlhf_lite.workshop import submissions

ITEMS, NORMING = "items.jsonl", "norming.json"
AGAIN = "#again"  # how the session marks an item that is shown a second time
REPEATS = 3


class Gathered(NamedTuple):
    people: dict  # name -> the rankings that count
    notes: list  # one sentence each


def make(folder, items):
    """Write the items of a new class round; ValueError if the folder already has other ones."""
    path, text = Path(folder) / ITEMS, b"".join(map(json_line, items)).decode("utf-8")
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{path}: other prompts are already there, and people may have ranked them; choose another "
                         "folder.")
    files.write_text(path, text)
    return path


def items(folder, round=1):
    """What is ranked in a round: all items, or in round 2 those that were chosen for it (`class_norming`)."""
    rows, problems = feedback.read_jsonl(Path(folder) / ITEMS)
    if problems or not rows:
        raise ValueError("\n".join(problems) or f"{Path(folder) / ITEMS}: there are no items in this file.")
    if round == 1:
        return rows
    chosen = norming(folder)
    return [row for row in rows if row["prompt_id"] in {*chosen["discussed"], *chosen["control"]}]


def norming(folder):
    """{"discussed": prompt ids, "control": prompt ids} of the norming round."""
    path = Path(folder) / NORMING
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no norming round yet; run: python -m rlhf_lite class norm {folder}")
    return json.loads(path.read_text(encoding="utf-8"))


def open_round(folder):
    """The number of the round that people rank in now: 2 once prompts for norming have been chosen."""
    return 2 if (Path(folder) / NORMING).is_file() else 1


def files_of(folder, round=1):
    """Everybody's files of one round."""
    return sorted((Path(folder) / f"round{round}").glob("*.jsonl"))


def gather(paths):
    """Everybody's rankings that count, from files that are only read -> Gathered."""
    read, notes = {}, []
    with many_objects():
        for path in map(Path, paths):
            rows, problems = labels.read_labels(path)
            notes += problems
            for row in rows:
                if "response" not in row and "draft" not in row:
                    read.setdefault(row["labeler"], {}).setdefault(path, []).append(row)
        people = {}
        for name, by_file in read.items():
            for person, rows in _people(name, by_file, notes):
                if found := labels.counting(rows):
                    people[person] = [{**row, "labeler": person} for row in found]
    return Gathered(dict(sorted(people.items())), notes)


def _people(name, by_file, notes):
    """[(name, rows)]: one person, or several if the files contradict each other."""
    groups = []  # [(file, {line: row})]: the same line in two files is one
    for path, rows in sorted(by_file.items(), key=lambda pair: -len(pair[1])):
        lines = _lines(rows)
        for _, known in groups:
            if lines.keys() <= known.keys():
                break  # a copy, or an earlier state of the same file
            if not _contradict(lines, known):
                both = {**known, **lines}
                known.clear()
                known.update(sorted(both.items(), key=lambda pair: str(pair[1].get("saved", ""))))
                break
        else:
            groups.append((path, lines))
    if len(groups) == 1:
        return [(name, list(groups[0][1].values()))]
    named = [(f"{name} ({path.parent.name}/{path.stem})", list(lines.values())) for path, lines in sorted(groups)]
    notes.append(plain(f"{name} ranked the same items differently in {len(groups)} files, so these are "
                       f"{len(groups)} people: {', '.join(person for person, _ in named)}; if it is one person, "
                       "remove the file that does not count"))
    return named


def _lines(rows):
    """{(line, how often it came before in this file): row}: after an undo, a person may save the very same row."""
    found, seen = {}, {}
    for row in rows:
        line = json_line(row)
        seen[line] = seen.get(line, -1) + 1
        found[line, seen[line]] = row
    return found


def _contradict(one, two):
    """Whether each of two files has rows of the same item that the other does not have."""
    only = [{labels.item_id(row) for line, row in lines.items() if line not in other}
            for lines, other in ((one, two), (two, one))]
    return bool(only[0] & only[1])


def first_time(rows):
    """The rows without items that were shown again: an item shown twice measures one person, not two."""
    return [row for row in rows if not labels.item_id(row).endswith(AGAIN)]


def receipt(rows):
    """A short code made from what counts; the same rankings give the same code, in whatever order and file."""
    kept = sorted(json.dumps([labels.item_id(row), row["ranks"], [r["text"] for r in row["responses"]]])
                  for row in rows)
    return submissions.receipt(hashlib.sha256("\n".join(kept).encode()).digest())


def receipts(people):
    """[(name, rankings without repeats, repeats, receipt)]."""
    return [(name, len(first_time(rows)), len(rows) - len(first_time(rows)), receipt(rows))
            for name, rows in people.items()]
