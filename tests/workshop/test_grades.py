"""Grading as an instructor does it, and where the operating system helps less."""

import csv
import io
import json
import sys
import zipfile
from pathlib import Path

import pytest

from rlhf_lite import __main__ as command_line
from rlhf_lite.exercises import checking
from rlhf_lite.workshop import cells, grades, grading, landlock, limits, server, withheld

ROOT = Path(command_line.__file__).parents[1]
RIGHT = """def win_rate(a_wins, ties, n):
    z, share = 1.96, (a_wins + ties / 2) / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return share, centre - half, centre + half
"""
AS_WINS = RIGHT.replace("(a_wins + ties / 2) / n", "(a_wins + ties) / n")
END = "\nwin_rate = check('0.4', win_rate)\n"
WITHOUT_KERNEL = """
import os
from rlhf_lite.workshop import landlock, limits, seccomp, worker
landlock.version = lambda: 0
seccomp.available = lambda: False
read, write = os.dup(0), os.dup(1)
worker.prepare()
worker.serve(read, write)
"""


def notebook(*sources):
    return json.dumps({"cells": [{"cell_type": "code", "source": source} for source in sources]})


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_tables_of_a_class(tmp_path):
    people = {"=cmd|' /C calc'!A0": RIGHT, "<script>alert(1)</script>": AS_WINS,
              "Bo": "def win_rate(*_): return 1 / 0\n"}
    for number, (name, body) in enumerate(people.items()):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as packed:
            packed.writestr("00_x.ipynb", notebook("from rlhf_lite.exercises import check", body + END))
            packed.writestr("hand-in.json", json.dumps({"name": name, "files": {}}))
    out = str(tmp_path / "out" / "grades.csv")
    assert command_line.main(["grade", str(tmp_path), "--out", out, "--jobs", "1"]) == 0
    made = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()}
    assert set(made) == {"grades.csv", "grades-moodle.csv", "grades-canvas.csv", "grades.html"}
    found = {(row["student"], row["exercise"]): row for row in rows(made["grades.csv"])}
    assert len(found) == 3 * len(checking.exercises("00"))
    assert found["'=cmd|' /C calc'!A0", "0.4"]["result"] == "passed"
    assert found["<script>alert(1)</script>", "0.4"]["misconception"].startswith("a tie counts as a whole win")
    assert found["Bo", "0.4"]["message"] == (
        "it raised ZeroDivisionError: division by zero, at your line `def win_rate(*_): return 1 / 0` (line 1)")
    assert found["Bo", "0.1"]["result"] == "not tried"
    assert [row["Grade"] for row in rows(made["grades-moodle.csv"])] == ["0.0", "25.0", "0.0"]
    canvas = rows(made["grades-canvas.csv"])
    assert canvas[0]["Student"].strip() == "Points Possible" and [row["rlhf_lite 00"] for row in canvas] == [
        "4", "0", "1", "0"]
    assert "<script>" not in made["grades.html"] and "&lt;script&gt;" in made["grades.html"]


@pytest.fixture(scope="module")
def processes():
    with server.Processes() as made:
        yield made


def whole(folder, number):
    """A notebook's text; the parts of 05 as one."""
    paths = sorted((ROOT / folder).glob(f"{number}*_*.ipynb"))
    return cells.joined([path.read_text(encoding="utf-8") for path in paths])


@pytest.mark.parametrize("number", checking.numbers())
def test_the_solutions_pass_and_the_blanks_are_not_tried(processes, number):
    for folder, state in (("solutions", grading.PASSED), ("notebooks", grading.UNTRIED)):
        results = grading.grade_notebook(processes, whole(folder, number), number)
        assert {identifier: result.state for identifier, result in results.items()} == dict.fromkeys(
            checking.exercises(number), state), results


def test_after_a_mistake_the_course_s_version_is_used(processes):
    """5.9 and 5.12 are right although 5.7 is wrong and 5.8, 5.10 and 5.11 stop: as in the notebook."""
    found = json.loads(whole("solutions", "05"))["cells"]
    source = ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]
    bad = {"gae": "return rewards, values", "masked_whiten": "import os; os._exit(0)",
           "policy_loss": "raise NotImplementedError", "value_loss": "return 1"}
    for name, body in bad.items():
        source = [text.replace(f"{name} = check(", f"def {name}(*_, **__): {body}\n{name} = check(", 1)
                  if f"def {name}(" in text else text for text in source]
    states = {one: result.state for one, result in grading.grade_notebook(processes, notebook(*source), "05").items()}
    wrong = {"5.7": grading.FAILED, "5.8": grading.STOPPED, "5.10": grading.UNTRIED, "5.11": grading.FAILED}
    assert states == dict.fromkeys(checking.exercises("05"), grading.PASSED) | wrong


@pytest.mark.parametrize("number", checking.numbers())
def test_no_answer_is_left_in_a_students_process(processes, number):
    """Whatever is imported, under whatever name: before the judging, none of the answers can be called."""
    calls = "\n".join(f"    found.append(reached({module!r}, {name!r}))" for identifier in checking.exercises(number)
                      for module, name in withheld.answers(identifier))
    body = f"""
import importlib, inspect
def reached(module, name):
    code = inspect.unwrap(getattr(importlib.import_module(module), name)).__code__
    return name if code.co_name != '_sentence' else None
def answer(*_, **__):
    found = []
{calls or '    pass'}
    raise ValueError('LEFT ' + repr([one for one in found if one]))
"""
    first = next(iter(checking.exercises(number)))
    results = grading.grade_notebook(processes, notebook(body, f"answer = check({first!r}, answer)"), number)
    assert "LEFT []" in results[first].sentence


@pytest.mark.parametrize("command", [None, [sys.executable, "-c", WITHOUT_KERNEL]], ids=["new process", "no kernel"])
def test_without_fork_and_without_the_kernel_s_help(command):
    """Windows and macOS: fewer guarantees, the same grades."""
    made = server.Processes(fork=False)
    made.command = command or made.command
    hostile = """
import os
def win_rate(*_):
    import socket, subprocess
    for attempt in (lambda: open('/etc/passwd').read(), lambda: open('../elsewhere', 'w'), lambda: os.listdir('..'),
                    lambda: subprocess.run(['true']), lambda: socket.create_server(('', 0)), lambda: os.fork()):
        try:
            attempt()
        except OSError:
            continue
        raise ValueError('BREACH')
    open('mine', 'w').write('x')
    while True: pass
"""
    with made as processes:
        for body, state in ((RIGHT, grading.PASSED), (hostile, grading.STOPPED)):
            result = grading.grade_notebook(processes, notebook(body + END), "00", grading.Limits(4, 60))["0.4"]
            assert result.state == state, result


def test_what_holds_is_said():
    assert len(limits.held()) == 5 and all(who for _, who in limits.held())
    assert ("Landlock" in limits.held()[0][1]) == bool(landlock.version())


def test_an_unknown_notebook_is_one_sentence(tmp_path, capsys):
    (tmp_path / "00_x.ipynb").write_text(notebook(), encoding="utf-8")
    assert command_line.main(["grade", str(tmp_path), "--notebooks", "77"]) == 1
    assert "There is no notebook 77" in capsys.readouterr().err
    assert grades.safe("@x") == "'@x" and grades.safe("ok") == "ok"
