"""The course's own data: the list of what must be there, and who may replace it.

`data/manifest.json` has the sha256 of every file that the course ships and reads: models, tokenizer, demonstrations,
labelers, results, and the text files beside the code. `python -m rlhf_lite doctor` holds what is there against it. The
commands that replace these files (ship, results, record, calibrate) take full, finished runs only, and ask for --force.
"""

import hashlib
import shlex
from pathlib import Path

from rlhf_lite import files, schemas
from rlhf_lite.experiment import evaluate, ledger, run_files

TEXT = (".json", ".jsonl", ".txt", ".css", ".html", ".js")  # git may change their line ends on another system
PACKAGE = Path(__file__).resolve().parents[1]


# ---------------------------------------------------------------- the manifest

def manifest_path():
    return files.DATA / "manifest.json"


def roots():
    """{first part of a name in the manifest: the folder it stands for}."""
    return {"data": files.DATA, PACKAGE.name: PACKAGE}


def listed():
    """Names of all that the manifest should list: the data, and what is no Python beside the code."""
    found = []
    for root, folder in roots().items():
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            hidden = any(part.startswith((".", "__")) for part in Path(name).parts)
            if path.is_file() and not hidden and path.suffix not in (".py", ".pyc", ".md") and path != manifest_path():
                found.append(f"{root}/{name}")
    return found


def sha256(name):
    """Of a file in the manifest; text has the same one whatever its line ends are."""
    root, _, rest = name.partition("/")
    content = (roots()[root] / rest).read_bytes()
    return hashlib.sha256(content.replace(b"\r\n", b"\n") if name.endswith(TEXT) else content).hexdigest()


def write_manifest():
    """Write data/manifest.json from what is there; returns its path."""
    files.write_json(manifest_path(), {name: sha256(name) for name in listed()})
    return manifest_path()


def check_manifest():
    """One sentence for each shipped file that is missing or has changed."""
    try:
        kept = schemas.read(manifest_path(), dict[str, schemas.Sha256], fix="git checkout -- data/manifest.json")
    except (ValueError, OSError) as error:
        return [str(error)]
    wrong = []
    for name, wanted in kept.items():
        root, _, rest = name.partition("/")
        there = root in roots() and (roots()[root] / rest).is_file()
        if not there or sha256(name) != wanted:
            wrong.append(f"{schemas.shown(name)} {'has changed' if there else 'is missing'}; restore it with: "
                         f"git checkout -- {shlex.quote(name)}")
    return wrong


# ---------------------------------------------------------------- who may replace it

def is_ours(path):
    """Whether a path lies in the course's own data or docs."""
    path = Path(path).resolve()
    return any(path.is_relative_to(Path(place).resolve())
               for place in (files.DATA, files.MODELS, files.DATA.parent / "docs"))


def check_replace(targets, force=False, folders=(), sizes=()):
    """Raise ValueError unless these files or folders may be written with what the runs in `folders` have made.

    Anything outside the course's own data may be. Inside, the runs must be full ones and finished, the first of them
    of one of the `sizes`, and what exists is replaced only with `force`.
    """
    ours = [Path(target) for target in targets if is_ours(target)]
    if not ours:
        return
    elsewhere = f"so it cannot become {ours[0]}, which is the course's own; choose another place with --out."
    for number, folder in enumerate(folders):
        recipe = run_files.read_recipe(folder)
        if not run_files.is_default(recipe):
            kind = "a fast run" if run_files.is_default(recipe, fast=True) else "a run with settings of its own"
            raise ValueError(f"{folder} is {kind}, {elsewhere}")
        if number == 0 and sizes and recipe["size"] not in sizes:
            raise ValueError(f"{folder} is a run of size {recipe['size']}, not {' or '.join(sizes)}, {elsewhere}")
        outputs = [name for names in ledger.steps(recipe["first_round"], evaluate.STAGES).values() for name in names]
        why = ledger.unfinished(folder, [*outputs, "results.json"])
        if why:
            raise ValueError(f"{folder} is not finished ({why}), {elsewhere}")
    if any(target.exists() for target in ours) and not force:
        raise ValueError(f"{ours[0]} is the course's own; add --force to replace it, or choose another place with "
                         "--out.")
