"""`python -m rlhf_lite start my_work`: a copy of the notebooks that is yours, and that no `git pull` touches."""

import shutil
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def start(folder, notebooks=NOTEBOOKS):
    """Copy the notebooks that `folder` does not hold yet; what is there stays as it is. Returns (copied, kept) names.

    Raises ValueError when the folder is the course's own, and FileNotFoundError when there are no notebooks.
    """
    folder, sources = Path(folder), sorted(notebooks.glob("[0-9][0-9]_*.ipynb"))
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
        temporary = target.with_name(target.name + ".new")  # never half a notebook
        shutil.copyfile(source, temporary)
        temporary.replace(target)
        copied.append(source.name)
    return copied, kept
