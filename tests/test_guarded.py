"""`check` survives whatever a learner's function does, and leaves everything as it was."""

import os
import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlhf_lite.exercises import check, checking
from rlhf_lite.exercises.checking import BLANK, DONE, WRONG, Exercise, find, judge
from rlhf_lite.exercises.guarded import TooSlow, at_most, undisturbed

DOUBLE = Exercise("0.0", "double", 1, 1, ("hint", "hint"), course=lambda x: 2 * x, cases=lambda: [(1,), (2,)])


@pytest.fixture(autouse=True)
def own_progress(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_LITE_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.delenv("RLHF_LITE_STRICT", raising=False)


class Raises(Exception):
    def __str__(self):
        raise ValueError


class Odd:
    """Raises whatever is asked of it."""
    def __getattribute__(self, name):
        raise SystemExit(name)

    def __repr__(self):
        raise RuntimeError

    def __eq__(self, other):
        raise RuntimeError

    def __len__(self):
        raise RuntimeError


def raising(error):
    def answer(*_):
        raise error
    return answer


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("bye"), GeneratorExit(), Raises(), ValueError("x" * 10**6),
                                   RecursionError(), MemoryError(), BaseException("odd"), KeyError("a\x1b[2Jb\n")])
def test_whatever_it_raises_is_one_short_line(error):
    mark, said = judge(DOUBLE, raising(error))
    assert mark == WRONG and said.startswith("it raised ") and len(said) < 500 and said.isprintable()


RETURNED = [lambda: Odd(), lambda: [Odd()], lambda: {"a": Odd()}, lambda: "x" * 10**6, lambda: [["y"] * 10**5],
            lambda: "\x1b[2J", lambda: type, lambda: open]


@pytest.mark.parametrize("value", RETURNED)
def test_whatever_it_returns_is_judged(value):
    mark, said = judge(DOUBLE, lambda x: value())
    assert mark == WRONG and len(said) < 1000 and "\x1b" not in said


def test_stopping_the_cell_still_stops_it():
    with pytest.raises(KeyboardInterrupt):
        judge(DOUBLE, raising(KeyboardInterrupt()))


def test_good_and_blank_answers_are_still_told_apart():
    assert judge(DOUBLE, lambda x: x + x)[0] == DONE and judge(DOUBLE, raising(NotImplementedError()))[0] == BLANK


def state():
    return (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), os.getcwd(),
            torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), np.geterr(),
            dict(os.environ), torch.get_num_threads())


def test_nothing_it_changes_stays_changed(tmp_path):
    def meddles(x):
        random.seed(1), np.random.seed(1), torch.manual_seed(1), os.chdir(tmp_path)
        torch.set_default_dtype(torch.float64), torch.set_grad_enabled(False), np.seterr(all="ignore")
        torch.set_default_device("meta"), torch.set_num_threads(torch.get_num_threads() + 1)
        os.environ["RLHF_LITE_STRICT"] = "0"
        os.environ.pop("PATH", None)
        return 2 * x
    before = state()
    assert judge(DOUBLE, meddles)[0] == DONE and state() == before


@pytest.mark.parametrize("identifier", ["5.11", "8.6"])
def test_the_courses_own_answer_changes_nothing_either(identifier):
    before = state()
    assert judge(find(identifier), find(identifier).course)[0] == DONE and state() == before


def endless(_):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            continue


@pytest.mark.parametrize("answer", [endless, lambda _: time.sleep(600)],
                         ids=["a loop that swallows exceptions", "a sleep"])
def test_an_endless_answer_ends(answer, monkeypatch):
    monkeypatch.setenv("RLHF_LITE_CHECK_SECONDS", "0.2")
    started = time.monotonic()
    mark, said = judge(DOUBLE, answer)
    assert mark == WRONG and "within 0.2 seconds" in said and time.monotonic() - started < 10


def test_it_ends_in_another_thread_too(monkeypatch):
    """As in a second shell of a kernel, and as on Windows: there are no signals."""
    monkeypatch.setenv("RLHF_LITE_CHECK_SECONDS", "0.2")
    found = []
    thread = threading.Thread(target=lambda: found.append(judge(DOUBLE, endless)))
    thread.start()
    thread.join(20)
    assert found and found[0][0] == WRONG and "within 0.2 seconds" in found[0][1]


def test_a_quick_block_is_never_interrupted_afterwards():
    with at_most(0.05):
        pass
    time.sleep(0.1)
    with pytest.raises(TooSlow), at_most(0.05), undisturbed():
        time.sleep(5)


def test_check_goes_on_with_the_courses_version(monkeypatch, capsys):
    monkeypatch.setattr(checking, "find", lambda _: replace(DOUBLE))
    assert check("0.0", raising(SystemExit(1)))(3) == 6
    assert "❌ 0.0 double: it raised SystemExit: 1" in capsys.readouterr().out
