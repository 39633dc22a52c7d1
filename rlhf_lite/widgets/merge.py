"""The rankings of a whole class in one file, and how far every two people agree.

    python -m rlhf_lite rank merge runs/feedback/*.jsonl --out class.jsonl

Only rankings that count are merged: the last one of each item and person, and nothing skipped or withdrawn. The
result can be read by everything that reads rankings. Bad rows are reported, never silently dropped. An earlier
result is replaced, but never a file with a row that exists nowhere else.
"""

import json
from glob import glob
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import msgspec

from rlhf_lite import locks
from rlhf_lite.files import PATIENCE, whole_file, writing
from rlhf_lite.jsonl import json_line, many_objects
from rlhf_lite.plain import plain
from rlhf_lite.stats import agree
from rlhf_lite.widgets import labels


class Merged(NamedTuple):
    rows: list  # the rankings
    pairs: list  # (person, person, Agreement)
    problems: list  # one sentence each


def merge(files, out=None):
    """Merge annotators' files (names or patterns) -> Merged; with ``out``, the rankings are also written there.

    Raises ValueError if ``out`` cannot be a file, or has rows that are in none of the other files.
    """
    target = None if out is None else _target(out)
    # Windows shells do not expand patterns. The output may be in the same folder, but it is not an input.
    names = [name for pattern in files for name in (sorted(glob(str(pattern))) or [str(pattern)])]
    paths = [path for path in dict.fromkeys(map(Path, names)) if path.resolve() != target]
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(f"{path}: this is a folder, not a file; give the JSONL files in it")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file; give the annotators' JSONL files")
    if target is None:
        return _merge(paths)
    with writing(out), locks.alone(target, PATIENCE):  # another merge may be writing there: read after it has finished
        return _merge(paths, out if target.exists() else None, out)


def _merge(paths, earlier=None, out=None):
    """Merge these files; `earlier`: the result that will be replaced."""
    rows, problems, home, read = [], [], {}, []
    with many_objects():
        for path in paths:
            mine, wrong = labels.read_labels(path)
            read += mine
            problems += wrong
            found = labels.counting(mine)
            for name in dict.fromkeys(row["labeler"] for row in found):
                if name in home:
                    problems.append(plain(
                        f"{name} has rankings in {home[name]} and in {path}; if these are two people, rename one of "
                        "them, because if both ranked the same item, only the later file counts"))
                home.setdefault(name, path)
            rows += found
        if earlier is not None:
            _check_nothing_is_lost(earlier, read)
        if not rows:
            raise ValueError("there are no rankings in these files; nothing was written")
        rows = list(labels.standing(rows).values())
        people, problems = {}, problems + _check_prompts(rows)
        for row in rows:
            people.setdefault(row["labeler"], []).append(row)
        # An item shown twice measures one person; between people, only the first time counts.
        first = {name: [row for row in mine if not labels.item_id(row).endswith("#again")]
                 for name, mine in people.items()}
        pairs = [(a, b, agree(first[a], first[b])) for a, b in combinations(sorted(people), 2)]
        if out is not None:
            with whole_file(out) as new:
                new.write_bytes(b"".join(_line(row) + b"\n" for row in rows))
    return Merged(rows, pairs, problems)


def _target(out):
    """The full path of the file to write; ValueError if no file can have that name."""
    if not str(out).strip():
        raise ValueError("the name of the file to write is empty; give one, for example --out class.jsonl")
    path = Path(out)
    if path.is_dir():
        raise ValueError(f"{out}: this is a folder, not a file; choose --out {path / 'class.jsonl'}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{out}: this is a device, not a file; choose another --out")
    return path.resolve()


def _check_prompts(rows):
    """One sentence for each prompt_id that stands for several prompts: nobody can agree about them."""
    texts = {}
    for row in rows:
        texts.setdefault(row["prompt_id"], {}).setdefault(row["prompt"], row["labeler"])
    return [plain(f"the prompt_id {key} stands for different prompts ({', '.join(sorted(set(found.values())))} ranked "
                  "them), which are not compared with each other; give each prompt an id of its own")
            for key, found in texts.items() if len(found) > 1]


def _check_nothing_is_lost(out, read):
    """Refuse to replace ``out`` unless all its rows are among those just read, as those of an earlier result are."""
    lines = set(map(_line, read))
    if all(line in lines for line in Path(out).read_bytes().splitlines()):
        return
    known, (rows, problems) = set(map(_text, read)), labels.read_labels(out)
    own = sorted({labels.who(row) for row in rows if _text(row) not in known})
    if own or problems:
        whose = f"rankings or texts by {', '.join(own)}" if own else "lines that are not rankings"
        raise ValueError(f"{out}: this file has {whose}, in none of the other files, which would be lost; "
                         "choose another --out")


def _line(row):
    try:
        return msgspec.json.encode(row)
    except UnicodeEncodeError:  # half a character, which JSON can spell
        return json_line(row).rstrip(b"\n")


def _text(row):
    return json.dumps(row, sort_keys=True)


def table(merged):
    """The agreements as lines of text."""
    width = max([len(f"{a} - {b}") for a, b, _ in merged.pairs], default=10)
    lines = [f"{'':{width}}  agreement  pairs  Kendall tau-b  prompts"]
    for a, b, found in merged.pairs:
        percent = f"{found.percent:.1f} %" if found.n else "-"
        tau = "-" if found.tau != found.tau else f"{found.tau:.2f}"
        lines.append(f"{f'{a} - {b}':{width}}  {percent:>9}  {found.n:>5}  {tau:>13}  {found.prompts:>7}")
    if not merged.pairs:
        lines = ["There is only one person in these files, so there is no agreement to measure."]
    return "\n".join(lines)


def command(arguments):
    """Run `rank merge`."""
    merged = merge(arguments.files, arguments.out)
    for problem in merged.problems:
        print(f"note: {plain(problem)}")
    print(table(merged))
    people = len({row["labeler"] for row in merged.rows})
    print(f"{len(merged.rows)} rankings of {people} {'person' if people == 1 else 'people'}: {arguments.out}")
