"""The notebooks are what their sources say, clean, and complete."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from rlhf_lite.exercises.checking import exercises

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "solutions").glob("[0-9][0-9]*_*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb")) + sorted((ROOT / "solutions").glob("*.ipynb"))


def test_the_notebooks_are_up_to_date():
    pytest.importorskip("jupytext")
    from rlhf_lite.exercises import build
    assert build.main(["--check"]) == 0, "run: python -m rlhf_lite.exercises.build"
    assert [t[0] for t in build.targets()] and sorted(t[0] for t in build.targets()) == sorted(NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_notebook_is_clean(path):
    document = json.loads(path.read_text(encoding="utf-8"))
    cells = document["cells"]
    assert "widgets" not in document["metadata"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    coded = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in coded)
    text = "\n".join("".join(cell["source"]) for cell in cells)
    assert "{{" not in text and "SOLUTION" not in text
    titles = [len(m) for cell in cells if cell["cell_type"] == "markdown"
              for m in re.findall(r"^(#+) ", "".join(cell["source"]), re.MULTILINE)]
    assert titles[0] == 1 and titles.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(titles))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_no_line_becomes_a_list_by_accident(path):
    """A sentence that is broken before "1. " or "- " is shown as a list."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        lines = re.sub(r"```.*?```", "", "".join(cell["source"]), flags=re.DOTALL).split("\n")
        for before, line in pairwise(lines):
            if re.match(r"(\d+[.)]|[-+*]) ", line):
                assert not before.strip() or re.match(r"\s*(\d+[.)]|[-+*]) |\s{2,}", before), (before, line)


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.name.startswith("05")],
                         ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_cell_of_code_fits_on_a_screen(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert cell["cell_type"] == "markdown" or len(cell["source"]) <= 25, "".join(cell["source"])


def test_each_exercise_is_in_one_notebook_only():
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert all(text.count(f"{{{{exercise {identifier}}}}}") == 1 for identifier in exercises())


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_every_exercise_has_a_heading_a_blank_and_a_check(source):
    number = source.name.split("_")[0]  # "04", or "05a" for the first part of notebook 05
    text = source.read_text(encoding="utf-8")
    parts = "".join(path.read_text(encoding="utf-8") for path in SOURCES if path.name[:2] == number[:2])
    mine = [e for e in exercises(number[:2]) if f"{{{{exercise {e}}}}}" in text or f"{{{{exercise {e}}}}}" not in parts]
    assert len(mine) >= 3
    for identifier in mine:
        assert f"{{{{exercise {identifier}}}}}" in text and f'check("{identifier}"' in text
    learner = (ROOT / "notebooks" / f"{source.stem}.ipynb").read_text(encoding="utf-8")
    assert f'setup(\\"{number}\\")' in learner and learner.count("Write your") >= len(mine)
