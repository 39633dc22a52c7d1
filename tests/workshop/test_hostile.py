"""Nobody gets a mark for anything but a right answer, nobody leaves his own folder, nobody stops the others."""

import json
import os
import re
import socket
import zipfile

import psutil
import pytest
from hostile import CELLS, RETURNS, cells

from rlhf_lite.workshop import grades, grading, landlock, seccomp

HONEST = """from rlhf_lite.exercises import check
def win_rate(a_wins, ties, n):
    z, share = 1.96, (a_wins + ties / 2) / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5 / (1 + z * z / n)
    return share, centre - half, centre + half
win_rate = check("0.4", win_rate)
"""
LIMITS = grading.Limits(seconds=6, notebook_seconds=15, megabytes=400)


def notebook(*sources):
    return json.dumps({"cells": [{"cell_type": "code", "source": source} for source in sources], "nbformat": 4})


def pack(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """{name of a hand-in: (Submission, results)}, all graded together: hostile ones, and honest ones between them."""
    folder = tmp_path_factory.mktemp("submissions")
    canary = tmp_path_factory.mktemp("elsewhere") / "canary"
    canary.write_text("whole", encoding="utf-8")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.1)
    places = {"folder": folder, "canary": canary, "grader": os.getpid(), "port": listener.getsockname()[1]}
    for number, name in enumerate([*RETURNS, *CELLS]):
        pack(folder / f"{number:03d}.zip", **{"notebooks/00_x.ipynb": notebook(*cells(name, **places)),
                                             "my_progress.json": '{"0.4": {"mark": "✅", "tries": 1}}'})
    for number in ("000a", "050a", "999"):
        pack(folder / f"{number}.zip", **{"notebooks/00_x.ipynb": notebook(HONEST)})
    before, children = canary.stat(), {child.pid for child in psutil.Process().children(recursive=True)}
    found = {one.file: (one, results) for one, results in grades.grade(folder, allowed=LIMITS, jobs=2, say=lambda _: 0)}
    names = {f"{number:03d}.zip": name for number, name in enumerate([*RETURNS, *CELLS])}
    yield {"results": {names.get(file, file): pair for file, pair in found.items()}, "canary": (canary, before),
           "listener": listener, "children": children}
    listener.close()


linux = pytest.mark.skipif(not (landlock.version() and seccomp.available()), reason="the kernel keeps nothing here")


@linux
@pytest.mark.parametrize("name", [*RETURNS, *CELLS])
def test_nothing_is_forged(graded, name):
    one, results = graded["results"][name]
    said = {result.exercise: (result.state, result.sentence) for result in results.values()}
    assert grading.PASSED not in {state for state, _ in said.values()}, said
    assert "BREACH" not in re.sub("at your line `.*?` [(]line", "", str(said))  # the line that was not carried out
    assert said["0.4"][0] != grading.UNTRIED or name in ("answers for the check", "something that cannot be read",
                                                         "brackets without end", "signs without end",
                                                         "a number of a million digits"), said
    assert all(len(sentence) < 1000 for _, sentence in said.values())


@linux
def test_the_others_are_graded_all_the_same(graded):
    for name in ("000a.zip", "050a.zip", "999.zip"):
        assert graded["results"][name][1]["0.4"].state == grading.PASSED, graded["results"][name]


@linux
def test_nobody_is_beyond_the_limits(graded):
    for name, (_, results) in graded["results"].items():
        assert sum(result.seconds for result in results.values()) < LIMITS.notebook_seconds + 3, name


@linux
def test_nothing_outside_was_touched(graded):
    canary, before = graded["canary"]
    after = canary.stat()
    assert canary.read_text(encoding="utf-8") == "whole"
    assert (after.st_mode, after.st_mtime, after.st_uid) == (before.st_mode, before.st_mtime, before.st_uid)
    with pytest.raises(TimeoutError):
        graded["listener"].accept()
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= graded["children"]  # none is new


@linux
def test_what_stopped_them_is_said(graded):
    said = {name: results["0.4"] for name, (_, results) in graded["results"].items()}
    for name in ("endless loop", "endless loop that catches everything", "sleeps", "a cell that never ends",
                 "half a message"):
        assert said[name].state == grading.STOPPED and "did not finish" in said[name].sentence, said[name]
    for name in ("memory, slowly", "memory, at once", "memory, out of sight"):
        assert said[name].state == grading.STOPPED and "400 MB" in said[name].sentence, said[name]
    for name in ("os._exit", "crashes the interpreter", "ends at once"):
        assert said[name].state == grading.STOPPED and "ended itself" in said[name].sentence, said[name]
    assert said["fills the disk"].state == grading.STOPPED and "to the disk" in said["fills the disk"].sentence
    for name in ("asks the library", "hands in the library's function", "hands in a copy of its code"):
        assert "the course's own answer" in said[name].sentence, said[name]
