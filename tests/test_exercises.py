"""Every exercise: the stub is "not yet", the solution passes, each plausible mistake gets a sentence of its own."""

import ast
import importlib
import inspect
import json
import re
from pathlib import Path

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype

from rlhf_lite.exercises import build, check, hint, progress
from rlhf_lite.exercises.checking import BLANK, DONE, WRONG, exercises, find, judge

ALL = list(exercises().values())
MISTAKES = [pytest.param(e, sentence, id=f"{e.id}-{i}") for e in ALL for i, sentence in enumerate(e.mistakes)]

SOURCES = sorted((Path(__file__).resolve().parents[1] / "solutions").glob("[0-9][0-9]*_*.py"))
shapes_checked = jaxtyping.jaxtyped(typechecker=beartype(conf=BeartypeConf(is_pep484_tower=True)))  # an int is a float


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_LITE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("RLHF_LITE_STRICT", raising=False)


def stub(*arguments):
    raise NotImplementedError("Exercise")


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)
def test_an_exercise_is_complete(exercise):
    assert len(exercise.hints) in (2, 3) and all(len(text) > 15 for text in exercise.hints)
    assert len(exercise.mistakes) >= 3 and 1 <= exercise.difficulty <= 3 and exercise.minutes > 0
    assert judge(exercise, exercise.course)[0] == DONE
    assert judge(exercise, ... if exercise.cases is None else stub)[0] == BLANK


@pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)
def test_an_exercise_says_what_comes_in_and_what_goes_out(exercise):
    """Whoever reads no hint still knows the task; the hints give away more and more."""
    assert ("Return" if exercise.cases else "Write") in exercise.task and exercise.task.endswith(".")
    assert len(exercise.hints) == 3
    names = [name for name, p in inspect.signature(exercise.course).parameters.items() if p.default is p.empty] if (
        exercise.cases) else []
    assert all(f"`{name}`" in exercise.task or f"`{name}[" in exercise.task for name in names), names
    shown = build.exercise_text(exercise.id)
    assert shown.index(exercise.task) < shown.index("<details>") and shown.count("<details>") == 3


@pytest.mark.parametrize("number", ["00", "01", "02", "03", "04", "06", "07", "08", "09", "10"])
def test_the_minutes_of_a_notebook_hold_its_exercises_and_time_to_read(number):
    lesson = importlib.import_module(f"rlhf_lite.exercises.n{number}")
    assert lesson.LESSON["minutes"] >= 1.5 * sum(exercise.minutes for exercise in lesson.EXERCISES)


@pytest.mark.parametrize(("exercise", "sentence"), MISTAKES)
def test_each_mistake_is_told_its_own_reason(exercise, sentence):
    assert judge(exercise, exercise.mistakes[sentence]) == (WRONG, sentence)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_stub_states_its_task_and_its_signature_is_right(source):
    """Every solved function of a notebook passes its check, while types and shapes of its signature are checked."""
    text, names = source.read_text(encoding="utf-8"), {"__name__": source.stem}
    for node in ast.parse(text).body:
        code = ast.get_source_segment(text, node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(code, names)
        elif isinstance(node, ast.FunctionDef) and "### BEGIN SOLUTION" in code:
            task = ast.get_docstring(node).splitlines()[0]
            assert re.match(r"[A-Z].*[^ ]\.( |$)", task) and "->" not in task, task
            exec(code, names)
            names[node.name] = shapes_checked(names[node.name])
    asked = re.findall(r'check\("([\d.]+)", (\w+)\)', text)
    answers = {identifier: names[name] for identifier, name in asked if name in names}
    assert len(answers) >= len(asked) - 2  # 5.6, 8.3 and 8.9 ask for a value
    for identifier, answer in answers.items():
        assert judge(find(identifier), answer)[0] == DONE, judge(find(identifier), answer)


def test_a_wrong_answer_is_replaced_by_the_course_s_and_a_right_one_kept(capsys):
    exercise = find("2.3")
    assert check("2.3", stub) is exercise.course
    mine = lambda logits, labels: exercise.course(logits, labels)  # noqa: E731
    assert check("2.3", mine) is mine
    said = capsys.readouterr().out
    assert BLANK in said and DONE in said


def test_an_answer_that_raises_or_returns_nothing_is_explained():
    assert "ZeroDivisionError" in judge(find("2.3"), lambda *a: 1 / 0)[1]
    assert "return" in judge(find("2.3"), lambda *a: None)[1]
    assert "shape" in judge(find("2.3"), lambda logits, labels: logits)[1]
    assert "expected" in judge(find("2.3"), lambda logits, labels: logits.sum() * 0 + 17)[1]


def test_strict_raises_with_the_reason(monkeypatch):
    with pytest.raises(AssertionError, match="2.3"):
        check("2.3", stub, strict=True)
    monkeypatch.setenv("RLHF_LITE_STRICT", "1")
    with pytest.raises(AssertionError):
        check("2.3", stub)


def test_progress_counts_tries_and_never_takes_a_solution_away(tmp_path, capsys):
    check("2.3", lambda *a: None)
    check("2.3", find("2.3").course)
    check("2.3", stub)
    saved = json.loads((tmp_path / "progress.json").read_text())
    assert saved["2.3"]["mark"] == DONE and saved["2.3"]["tries"] == 2
    capsys.readouterr()
    assert progress("02") is None  # it ends every notebook, where a value would be shown as well
    said = capsys.readouterr().out
    assert f"{DONE} 2.3" in said and f"{DONE} 2.2" not in said and "1 of" in said


def test_hints_come_one_at_a_time(capsys):
    hint("2.1")
    assert "Hint 2" not in capsys.readouterr().out
    hint("2.1")
    assert "Hint 2" in capsys.readouterr().out


def test_an_unknown_exercise_names_its_neighbours():
    with pytest.raises(KeyError, match="2.1"):
        check("2.9", stub)


@pytest.mark.parametrize(("identifier", "answer", "reason"), [
    ("0.1", lambda text, stops: text[:min([i for i in map(text.find, stops) if i > 0], default=len(text))].strip(),
     "at the very beginning"),
    ("0.3", lambda *a: find("0.3").course(*a).tolist(), "a tensor was expected"),
    ("0.4", lambda wins, ties, n: find("0.4").course(wins + ties // 2, 0, n), "rounds down"),
    ("2.1", lambda prompt, response: tuple(find("2.1").course(prompt, response)), "return Example"),
    ("2.2", lambda examples: [part.float() for part in find("2.2").course(examples)], "should be integers"),
    ("5.7", lambda *a: [part.numpy() for part in find("5.7").course(*a)], "a tensor was expected")])
def test_what_the_next_cells_could_not_use_is_not_accepted(identifier, answer, reason):
    mark, sentence = judge(find(identifier), answer)
    assert mark == WRONG and reason in sentence, sentence


def test_an_answer_that_changes_its_arguments_is_told_so():
    def extends(prompt_ids, response_ids):
        made = find("2.1").course(prompt_ids, response_ids)
        prompt_ids += response_ids
        return made
    assert "changes `prompt_ids`" in judge(find("2.1"), extends)[1]
