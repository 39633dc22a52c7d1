"""The rankings of a whole class in one file, and how far each two people agree.

    python -m rlhf_lite rank merge runs/feedback/*.jsonl --out class.jsonl

Only rankings that count are taken: the last one of each item and person, nothing skipped or withdrawn. What is
written can be read by everything that reads rankings. Bad rows are named, never silently dropped. An earlier
result is replaced, but no file is that holds a row which stands nowhere else.
"""

import json
import os
from glob import glob
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from rlhf_lite import records
from rlhf_lite.widgets import labels
from rlhf_lite.widgets.after import agree


class Merged(NamedTuple):
    rows: list  # the rankings
    pairs: list  # (person, person, Agreement)
    problems: list  # one sentence each


def merge(files, out=None):
    """Merge annotators' files (names or patterns) -> Merged; with ``out`` the rankings are written there as well.

    Raises ValueError when ``out`` is no file's name or holds rows that are in none of the other files.
    """
    target = None if out is None else _target(out)
    # Shells of Windows do not expand patterns. The output may lie in the same folder: it is no input.
    names = [name for pattern in files for name in (sorted(glob(str(pattern))) or [str(pattern)])]
    paths = [path for path in dict.fromkeys(map(Path, names)) if path.resolve() != target]
    rows, problems, home = [], [], {}
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(f"{path}: this is a folder, not a file; give the JSONL files in it")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file; give the annotators' JSONL files")
        found, wrong = labels.rankings(path)
        problems += wrong
        for name in dict.fromkeys(row["labeler"] for row in found):
            if name in home:
                problems.append(f"{name} has rankings in {home[name]} and in {path}; if these are two people, give "
                                "one another name, for the later file counts where both ranked the same item")
            home.setdefault(name, path)
        rows += found
    if target is not None and target.is_file():
        _check_nothing_is_lost(out, paths)
    if not rows:
        raise ValueError("there is no ranking in these files; nothing was written")
    rows = list(labels.standing(rows).values())
    people = {}
    for row in rows:
        people.setdefault(row["labeler"], []).append(row)
    # An item shown twice is one person's business; between people the first time counts.
    first = {name: [row for row in mine if not labels.item_id(row).endswith("#again")]
             for name, mine in people.items()}
    pairs = [(a, b, agree(first[a], first[b])) for a, b in combinations(sorted(people), 2)]
    if target is not None:
        _write(Path(out), rows)
    return Merged(rows, pairs, problems)


def _target(out):
    """The file to write, as a whole path; ValueError if there can be none of that name."""
    if not str(out).strip():
        raise ValueError("the name of the file to write is empty; give one, for example --out class.jsonl")
    path = Path(out)
    if path.is_dir():
        raise ValueError(f"{out}: this is a folder, not a file; choose --out {path / 'class.jsonl'}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{out}: this is a device, not a file; choose another --out")
    return path.resolve()


def _check_nothing_is_lost(out, paths):
    """An earlier result holds only rows of the annotators' files, which never shrink; any other file is kept."""
    known = {_text(row) for path in paths for row in labels.read_labels(path)[0]}
    rows, problems = labels.read_labels(out)
    own = sorted({labels.who(row) for row in rows if _text(row) not in known})
    if own or problems:
        whose = f"rankings or texts of {', '.join(own)}" if own else "lines that are no rankings"
        raise ValueError(f"{out}: this file holds {whose} that none of the other files hold and that would be lost; "
                         "choose another --out")


def _text(row):
    return json.dumps(row, sort_keys=True)


def _write(path, rows):
    """All rows or none: the file is made beside its place and then moved there."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)  # there is one only if something failed
    except OSError as error:
        raise OSError(error.errno, f"{path}: the rankings were not written ({error.strerror}); free some space or "
                                   "choose another --out") from error


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


def add_command(commands):
    """Add `rank merge` to the command line's list of commands."""
    rank = commands.add_parser("rank", help="work with rankings made by people",
                               description="Work with rankings made by people.")
    merging = rank.add_subparsers(dest="what", required=True, metavar="WHAT").add_parser(
        "merge", help="put the rankings of a class into one file and show how far each two people agree",
        description="Put the rankings of a class into one file and show how far each two people agree.")
    merging.add_argument("files", nargs="+", metavar="FILES", help="annotators' files, e.g. runs/feedback/*.jsonl")
    merging.add_argument("--out", required=True, help="the file to write; an earlier result is replaced")


def command(arguments):
    """Run `rank merge`."""
    merged = merge(arguments.files, arguments.out)
    for problem in merged.problems:
        print(f"note: {problem}")
    print(table(merged))
    people = len({row["labeler"] for row in merged.rows})
    print(f"{len(merged.rows)} rankings of {people} {'person' if people == 1 else 'people'}: {arguments.out}")
