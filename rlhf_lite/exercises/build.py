"""One source per notebook: `solutions/NN_name.py` -> `notebooks/NN_name.ipynb` (blanks) and `solutions/NN_name.ipynb`.

    python -m rlhf_lite.exercises.build          # write all notebooks
    python -m rlhf_lite.exercises.build --check  # change nothing; exit 1 and name the files that are out of date

The source is a py:percent script. Besides code and markdown, it may contain:

- `### BEGIN SOLUTION` ... `### END SOLUTION` in a code cell: the lines between become a blank.
- a markdown line `{{header}}`: title, promise, times and aims, from the module's LESSON.
- a markdown line `{{exercise 4.2}}`: heading, minutes, difficulty, task and folded hints of that exercise.
- the tag `solution-only` on a cell (`# %% [markdown] tags=["solution-only"]`): instructors see it, learners do not.

Needs jupytext, which only people who change the course have to install. Learners need none of this.
"""

import argparse
import hashlib
import importlib
import json
import re
import sys
from pathlib import Path

from rlhf_lite.exercises.checking import find
from rlhf_lite.exercises.lesson import cores, recorded

ROOT = Path(__file__).resolve().parents[2]
DIFFICULTY = {1: "●○○ easy", 2: "●●○ medium", 3: "●●● hard"}
BLANK = re.compile(r"^([ \t]*)### BEGIN SOLUTION\n.*?### END SOLUTION\n?", re.DOTALL | re.MULTILINE)


def header(number):
    """The Markdown of the first cell."""
    lesson = importlib.import_module(f"rlhf_lite.exercises.n{number}").LESSON
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
    code = re.sub(r'(setup\("\d\d"), strict=True\)', r"\1)", code)
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

    number = path.name[:2]
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
    document = {"cells": cells, "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def targets(root=ROOT):
    """[(file, text)] for every notebook built from the sources."""
    made = []
    for source in sorted((root / "solutions").glob("[0-9][0-9]_*.py")):
        name = source.with_suffix(".ipynb").name
        made += [(root / "notebooks" / name, notebook(source, learner=True)),
                 (root / "solutions" / name, notebook(source, learner=False))]
    return made


def main(argv=None):
    parser = argparse.ArgumentParser(description="Build the notebooks from solutions/NN_name.py.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a notebook is out of date")
    arguments = parser.parse_args(argv)
    stale = [(path, text) for path, text in targets() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path, text in stale:
        print(("out of date: " if arguments.check else "wrote ") + str(path.relative_to(ROOT)))
        if not arguments.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
