"""The instructor's guide is true: its timetable is the notebooks' own, and what it names is there."""

import importlib
import re
from pathlib import Path

import pytest

from rlhf_lite.exercises import checking, timetable

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "teaching"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(GUIDE.glob("*.md"))}
every_page = pytest.mark.parametrize("name", PAGES)


def words(text):
    return " ".join(text.split())


def rows(text):
    """The cells of a page's table rows."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def parts(number):
    """The sources of a notebook; those of both parts, where the guide speaks of a notebook that is in two."""
    found = sorted((ROOT / "solutions").glob(f"{number}*_*.py")) or sorted(
        (ROOT / "solutions").glob(f"{number[:2]}_*.py"))
    return "\n".join(path.read_text(encoding="utf-8") for path in found)


def test_the_timetable_is_made_from_the_notebooks():
    """Out of date? `python -m rlhf_lite.exercises.timetable` writes it anew."""
    page = PAGES["timing.md"]
    assert page == timetable.fill(page, timetable.table())
    listed = [e.id for source in timetable.sources().values() for e in timetable.exercises_in(source)]
    assert listed == list(checking.exercises())


@every_page
def test_headings_and_exercises_that_are_named_exist(name):
    text = words(PAGES[name])
    for number, heading in re.findall(r"\b(\d\d[ab]?) \*([^*]+)\*(?!\*)", text):
        found = re.findall(r"^# #+ (.+)$", parts(number), re.MULTILINE)
        assert heading in found, f"{number}: {heading}; there are {found}"
    named = re.findall(r"\b[Ee]xercises? (\d+\.\d+)", text)
    if name in ("plans.md", "mistakes.md"):
        named += [number for cells in rows(PAGES[name]) for number in re.findall(r"(?<![\d.])\d+\.\d+\b", cells[
            0 if name == "mistakes.md" else -1])]
    assert set(named) <= checking.exercises().keys()


def test_the_minutes_of_a_plan_add_up():
    def minutes(text):
        return sum(int(cells[0]) for cells in rows(text) if cells[0].isdigit())

    assert minutes(PAGES["ninety_minutes.md"]) == 90
    half, two, _ = re.split(r"\n## ", PAGES["plans.md"])[1:4]
    assert minutes(half) == 210
    assert [minutes(part) for part in re.split(r"\| min \| day", two)[1:]] == [420, 420]
    at = 0  # "## 0:05 A model ... (8 minutes)": each step begins where the one before it ends
    steps = re.findall(r"^## (\d):(\d\d) .*\((\d+) minutes\)", PAGES["ninety_minutes.md"], re.MULTILINE)
    for hours, start, long in steps:
        assert 60 * int(hours) + int(start) == at
        at += int(long)
    assert at == 90


def test_the_mistakes_are_what_the_checks_say():
    quoted = [cells for cells in rows(PAGES["mistakes.md"]) if re.fullmatch(r"\d+\.\d+", cells[0])]
    assert len(quoted) >= 60
    for identifier, said, asked in quoted:
        messages = checking.find(identifier).mistakes
        assert any(message.startswith(said) for message in messages), (identifier, said, list(messages))
        assert asked.rstrip("*").endswith((".", "?"))


def test_what_a_check_may_also_print_is_explained():
    def broken(*arguments):
        return 1 / 0

    for answer in (..., broken, lambda *arguments: None):
        _, said = checking.judge(checking.find("0.1"), answer)
        assert " ".join(said.rstrip(".").split()[:2]) in PAGES["mistakes.md"], said
    assert sum(len(exercise.mistakes) for exercise in checking.exercises().values()) >= 300  # "several hundred"


def test_the_map_names_functions_that_exist():
    table = [cells for cells in rows(PAGES["map.md"]) if len(cells) == 5 and "`" in cells[2]]
    assert len(table) >= 35
    for paper, what, code, notebook, exercise in table:
        assert paper and what
        for name in re.findall(r"`([\w.]+)`", code):
            module, _, last = name.rpartition(".")
            assert hasattr(importlib.import_module(f"rlhf_lite.{module}"), last), name
        assert all(parts(number) for number in re.findall(r"\d\d[ab]?", notebook)), notebook
        assert set(re.findall(r"\d+\.\d+", exercise)) <= checking.exercises().keys(), exercise


def test_every_exam_question_has_an_answer():
    asked, answered = (re.findall(r"^\*\*(\d+)\.\*\*", PAGES[name], re.MULTILINE)
                       for name in ("exam.md", "exam_answers.md"))
    assert asked == answered == [str(number) for number in range(1, len(asked) + 1)] and len(asked) >= 20
