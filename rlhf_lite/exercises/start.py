"""`python -m rlhf_lite start my_work`: your own copy of the notebooks, which no `git pull` touches."""

import shutil
from pathlib import Path

from rlhf_lite import files

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def start(folder, notebooks=NOTEBOOKS):
    """Copy the notebooks that are not in `folder` yet; existing ones stay as they are. Returns (copied, kept) names.

    Raises ValueError if the folder is the course's own, and FileNotFoundError if there are no notebooks.
    """
    folder, sources = Path(folder), sorted(notebooks.glob("[0-9][0-9]*_*.ipynb"))
    if not sources:
        raise FileNotFoundError(f"There are no notebooks in {notebooks}; run this in a clone of the course.")
    if folder.resolve() == notebooks.resolve():
        raise ValueError("That is the course's own folder; choose another one, for example my_work.")
    folder.mkdir(parents=True, exist_ok=True)
    copied, kept = [], []
    for source in sources:
        target = folder / source.name
        if target.exists():
            kept.append(source.name)
            continue
        with files.whole_file(target) as new:  # never half a notebook
            shutil.copyfile(source, new)
        copied.append(source.name)
    return copied, kept
