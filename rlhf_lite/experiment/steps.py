"""When is a step of a run done? When everything it wrote is there and still as it was written.

The idea: after each step the sha256 of its files are noted in `steps.json`. A file that is missing, cut off or changed
makes its step start again, so "run the same command again" mends a damaged run. A run without such notes (an older one,
or one stopped just before they were written) is judged by its content: weights by their card, JSON by being complete.
"""

import json
from pathlib import Path

import msgspec

from rlhf_lite import checkpoints, files
from rlhf_lite.checkpoints import sha256

NOTES = "steps.json"
MODEL = (checkpoints.WEIGHTS, checkpoints.CONFIG, checkpoints.CARD, "history.json")


def model(stage):
    """The files of a stage that trains a model."""
    return tuple(f"{stage}/{name}" for name in MODEL)


def damaged(folder, outputs):
    """The first of a step's outputs (paths in the run's folder) that is not whole; None if the step is done."""
    folder = Path(folder)
    noted = _noted(folder)
    for output in outputs:
        path = folder / output
        if not path.is_file() or not (noted[output] == sha256(path) if output in noted else _whole(path)):
            return output
    return None


def note(folder, outputs):
    """Note what a step has written; -> those outputs that came out different from an earlier time, text and weights."""
    folder, before = Path(folder), _noted(Path(folder))
    now = {output: sha256(folder / output) for output in outputs if not output.startswith("..")}
    if any(before.get(output) != value for output, value in now.items()):
        files.write_json(folder / NOTES, before | now)
    # JSON files also hold times, which differ each time.
    return [output for output, value in now.items()
            if not output.endswith(".json") and before.get(output, value) != value]


def _noted(folder):
    try:
        found = json.loads((folder / NOTES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # the content decides, and the notes are written again
        return {}
    return found if isinstance(found, dict) else {}


def _whole(path):
    """Whether a file's content is complete, as far as it can tell by itself."""
    try:
        if path.name == checkpoints.WEIGHTS:
            return checkpoints.load_card(path.parent).get("sha256") == sha256(path)
        content = path.read_bytes()
        rows = content.splitlines() if path.suffix == ".jsonl" else [content]
        return bool(rows) and all(msgspec.json.decode(row) is not None for row in rows)
    except (OSError, ValueError, RecursionError):  # msgspec's DecodeError is a ValueError
        return False
