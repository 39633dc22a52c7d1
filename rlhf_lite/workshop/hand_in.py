"""`python -m rlhf_lite hand-in "Ada Lovelace"`: a student's work as one file, with a receipt.

The idea: one command, one file, one line to keep. The file holds the notebooks, the rankings, the demonstrations and
the progress file as they are, and a manifest with their sums. The receipt is made from the manifest, so whoever has the
file can check it, and a student who keeps it can show what was handed in.
"""

import hashlib
import json
import re
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from rlhf_lite import __version__, files
from rlhf_lite.plain import plain
from rlhf_lite.workshop import cells, submissions

PROGRESS = "my_progress.json"
MINE = ("*.jsonl", "runs/feedback/*.jsonl")  # where notebooks and widgets keep rankings and demonstrations


def hand_in(name, folder=".", out=None):
    """Pack a folder of work. Returns (path of the zip file, its receipt, lines: what is in it and what is missing)."""
    name, folder = " ".join(str(name).split()), Path(folder)
    short = re.sub(r"[^\w-]+", "-", name.casefold()).strip("-_")
    if not short:
        raise ValueError("Give your name, as in: python -m rlhf_lite hand-in \"Ada Lovelace\" my_work")
    if not folder.is_dir():
        raise ValueError(f"{folder}: there is no such folder; give the one with your notebooks, for example my_work.")
    contents = _contents(folder)
    if not any(submissions.NOTEBOOK.search(inside) for inside in contents):
        raise ValueError(f"{folder}: there is no notebook here; give the folder that has yours, for example my_work.")
    manifest = json.dumps({
        "name": name, "made": datetime.now(UTC).isoformat(timespec="seconds"), "rlhf_lite": __version__,
        "files": {inside: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
                  for inside, content in contents.items()}}, indent=1, ensure_ascii=False).encode()
    path = Path(out or f"hand-in-{short[:60]}.zip")
    with files.whole_file(path) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as packed:
        for inside, content in {submissions.MANIFEST: manifest, **contents}.items():
            packed.writestr(inside, content)
    return path, submissions.receipt(manifest), summary(contents)


def _contents(folder):
    """{name in the zip: bytes}: notebooks, then everything else that is the student's own."""
    found = {}
    patterns = [("[0-9][0-9]*_*.ipynb", "notebooks"), (PROGRESS, "."), *((pattern, "feedback") for pattern in MINE)]
    for pattern, place in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.stat().st_size > submissions.LARGEST:
                raise ValueError(f"{path} is larger than {submissions.LARGEST // 2**20} MB; clear its outputs (Edit, "
                                 "Clear Outputs of All Cells), save it, and try again.")
            found[(Path(place) / path.name).as_posix()] = path.read_bytes()
    return found


def summary(contents):
    """Lines for the student: what is in the file, and what is missing."""
    marks = _marks(contents.get(PROGRESS, b""))
    lines, missing = [], []
    for inside, content in contents.items():
        match = submissions.NOTEBOOK.search(inside)
        if match:
            number = f"notebook {match[1]}{match[2]}"
            asked = exercises(content)
            unsolved = [one for one in asked if marks.get(one) != "✅"]
            lines.append(f"{number}: {len(asked) - len(unsolved)} of {len(asked)} exercises solved")
            which = "no exercise is" if unsolved == asked else f"{', '.join(unsolved)} not"
            missing += [f"{number}: {which} solved yet"] if unsolved and PROGRESS in contents else []
        elif inside.endswith(".jsonl"):
            rankings, demonstrations, other = _rows(content)
            counts = [f"{n} {word}" for n, word in ((rankings, "rankings"), (demonstrations, "demonstrations"),
                                                    (other, "other lines")) if n]
            lines.append(f"{plain(Path(inside).name, 80)}: {', '.join(counts) or 'empty'}")
    for word, there in (("rankings", any("rankings" in line for line in lines)),
                        ("demonstrations", any("demonstrations" in line for line in lines)),
                        (f"progress ({PROGRESS})", PROGRESS in contents)):
        missing += [] if there else [f"no {word}"]
    return lines + [f"missing: {line}" for line in missing]


def exercises(notebook):
    """The ids of the exercises that a notebook checks, in order."""
    try:
        found, _ = cells.statements(cells.code_cells(notebook.decode("utf-8", errors="replace")))
    except ValueError:
        return []
    return list(dict.fromkeys(one.exercise for one in found if one.exercise))


def _marks(progress):
    """{exercise: mark} of a progress file; the student's own record, good enough for the student."""
    try:
        return {one: entry["mark"] for one, entry in json.loads(progress).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _rows(content):
    rankings = demonstrations = other = 0
    for line in content.decode("utf-8", errors="replace").splitlines():
        rankings += '"ranks"' in line
        demonstrations += '"ranks"' not in line and '"response"' in line
        other += bool(line.strip()) and '"ranks"' not in line and '"response"' not in line
    return rankings, demonstrations, other
