"""One source per notebook: `solutions/NN_name.py` -> `notebooks/NN_name.ipynb` (blanks) and `solutions/NN_name.ipynb`.

    python -m rlhf_lite.exercises.build          # write all notebooks
    python -m rlhf_lite.exercises.build --check  # change nothing; exit 1 and name the files that are out of date

The source is a py:percent script. Besides code and markdown, it may contain:

- `### BEGIN SOLUTION` ... `### END SOLUTION` in a code cell: the lines between become a blank.
- a markdown line `{{header}}`: title, promise, times and aims, from the module's LESSON.
- a markdown line `{{exercise 4.2}}`: heading, minutes, difficulty, task and folded hints of that exercise.
- the tag `solution-only` on a cell (`# %% [markdown] tags=["solution-only"]`): instructors see it, learners do not.

Every notebook also gets links that open it on Colab or Kaggle, and a first code cell that fetches the course there.
Their addresses are made from `Repository` in pyproject.toml.

Needs jupytext, which only people who change the course have to install. Learners need none of this.
"""

import argparse
import hashlib
import importlib
import json
import re
import sys
import tomllib
from pathlib import Path

from rlhf_lite import files
from rlhf_lite.exercises.checking import find
from rlhf_lite.exercises.lesson import cores, recorded

ROOT = Path(__file__).resolve().parents[2]
DIFFICULTY = {1: "●○○ easy", 2: "●●○ medium", 3: "●●● hard"}
BLANK = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?### END SOLUTION\n?", re.DOTALL | re.MULTILINE)


CLOUD = """\
# On Colab and Kaggle this cell fetches the course and leaves their PyTorch as it is; elsewhere it does nothing.
import os

if {{"COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"}} & set(os.environ):
    import subprocess
    import sys

    if not os.path.isdir("rlhf_lite"):
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", "{repository}"], check=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "-e", "./rlhf_lite"], check=True)
        subprocess.run([*pip, "jaxtyping", "pooch"], check=True)  # the two that Colab and Kaggle may lack
    sys.path.insert(0, os.path.abspath("rlhf_lite"))"""


def repository():
    """The address of the repository, from pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def badges(place):
    """Links that open the notebook at `place` in the repository elsewhere. (Pictures would have to be fetched.)"""
    home = repository()
    name = home.removeprefix("https://github.com/")
    return (f"Open in [Colab](https://colab.research.google.com/github/{name}/blob/main/{place}) · "
            f"[Kaggle](https://kaggle.com/kernels/welcome?src={home}/blob/main/{place}) · "
            f"[Codespaces](https://codespaces.new/{name})")


def header(number):
    """The Markdown of the first cell. number: "04", or "05a" for a part of a notebook's exercises."""
    module = importlib.import_module(f"rlhf_lite.exercises.n{number[:2]}")
    lesson = module.LESSON if number.isdigit() else module.PARTS[number]
    took = recorded(number)
    minutes = f"{took['minutes']:.1f} min on {cores(took)}" if took else "not yet measured"
    aims = "\n".join(f"- {aim}" for aim in lesson["aims"])
    return (f"# {number} · {lesson['title']}\n\n{lesson['promise']}\n\n"
            f"| reading and exercises | computing | you need | step of InstructGPT |\n"
            f"|---|---|---|---|\n"
            f"| {lesson['minutes']} min | {minutes} | "
            f"{lesson['needs']} | {lesson['step']} |\n\nAfter this notebook you can\n\n{aims}")


def exercise_text(identifier):
    """The Markdown above an exercise."""
    exercise = find(identifier)
    names = ("a nudge", "the idea", "nearly the code") if len(exercise.hints) == 3 else ("the idea", "nearly the code")
    hints = [f"<details><summary>Hint {i}: {name}</summary>\n\n{text}\n\n</details>"
             for i, (name, text) in enumerate(zip(names, exercise.hints, strict=True), 1)]
    parts = [f"### Exercise {exercise.id}: {exercise.title}",
             f"*{exercise.minutes} minutes, {DIFFICULTY[exercise.difficulty]}*", exercise.task, *hints]
    return "\n\n".join(part for part in parts if part)


def fill(text, number):
    """Replace the placeholders of a markdown cell."""
    text = text.replace("{{header}}", header(number)) if "{{header}}" in text else text
    return re.sub(r"\{\{exercise ([\d.]+)\}\}", lambda match: exercise_text(match.group(1)), text)


def blank(code):
    """A learner's version of a code cell: solutions become a blank, checks are not strict."""
    code = re.sub(r'(setup\("\d\d[a-z]?"), strict=True\)', r"\1)", code)
    asked = re.search(r"check\(\"([\d.]+)\"", code)

    def stub(match):
        indent = match.group(1)
        if indent:
            return (f"{indent}# Write your code here.\n"
                    f"{indent}raise NotImplementedError(\"Exercise {asked.group(1) if asked else ''}\")\n")
        names = re.findall(r"^(\w+) =", match.group(0), re.MULTILINE)
        return "".join(f"{name} = ...  # Write your answer here.\n" for name in dict.fromkeys(names))

    return BLANK.sub(stub, code).rstrip("\n")


def notebook(path, learner):
    """The notebook made from a source, as text. The same source gives the same bytes: no outputs, ids from content."""
    import jupytext  # only here: learners do not need it

    number = path.name.split("_")[0]
    cells, seen = [], {}
    for cell in jupytext.read(path).cells:
        tags = cell.metadata.get("tags", [])
        if learner and "solution-only" in tags:
            continue
        source = fill(cell.source, number) if cell.cell_type == "markdown" else cell.source
        if cell.cell_type == "code":
            source = blank(source) if learner else re.sub(r"^[ \t]*### (BEGIN|END) SOLUTION\n?", "", source,
                                                          flags=re.MULTILINE).rstrip("\n")
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        entry = {"cell_type": cell.cell_type, "id": f"{digest}-{seen[digest]}",
                 "metadata": {"tags": tags} if tags else {}, "source": source.splitlines(keepends=True)}
        if cell.cell_type == "code":
            entry |= {"execution_count": None, "outputs": []}
        cells.append(entry)
    folder = "notebooks" if learner else "solutions"
    title, _, rest = "".join(cells[0]["source"]).partition("\n")
    cells[0]["source"] = f"{title}\n\n{badges(f'{folder}/{path.stem}.ipynb')}\n{rest}".splitlines(keepends=True)
    cells.insert(1, {"cell_type": "code", "id": "cloud", "metadata": {}, "execution_count": None, "outputs": [],
                     "source": CLOUD.format(repository=repository()).splitlines(keepends=True)})
    document = {"cells": cells, "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def targets(root=ROOT):
    """[(file, text)] for every notebook built from the sources."""
    made = []
    for source in sorted((root / "solutions").glob("[0-9][0-9]*_*.py")):
        name = source.with_suffix(".ipynb").name
        made += [(root / "notebooks" / name, notebook(source, learner=True)),
                 (root / "solutions" / name, notebook(source, learner=False))]
    return made


def main(argv=None):
    parser = argparse.ArgumentParser(description="Build the notebooks from solutions/NN_name.py.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a notebook is out of date")
    arguments = parser.parse_args(argv)
    files.utf8_output()
    stale = [(path, text) for path, text in targets() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path, text in stale:
        print(("out of date: " if arguments.check else "wrote ") + str(path.relative_to(ROOT)))
        if not arguments.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
