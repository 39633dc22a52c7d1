"""One notebook of one student: ask a process of its own exercise by exercise, within limits, and judge what it says.

The idea: the grader talks, a second thread watches. Whatever happens to the student's process (an endless loop, a bomb,
an exit), the watch ends it, the grader reads the end of the line, marks that exercise as stopped, and goes on with the
next one in a new process.
"""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass

import psutil

from rlhf_lite.exercises import checking
from rlhf_lite.plain import plain
from rlhf_lite.workshop import judging, messages, server, withheld

PASSED, FAILED, UNTRIED, STOPPED = "passed", "wrong", "not tried", "stopped"


@dataclass(frozen=True)
class Limits:
    """What a student's notebook may use."""

    seconds: float = 30  # for one exercise
    notebook_seconds: float = 150  # for all of a notebook
    megabytes: int = 1500  # on top of what the library itself takes
    disk: int = 64  # megabytes in its temporary folder


@dataclass(frozen=True)
class Result:
    """How one exercise of one student went."""

    exercise: str
    state: str
    sentence: str = ""
    misconception: bool = False  # whether the sentence is one that the course knows for this exercise
    seconds: float = 0.0


STARTING = 300  # seconds that a new interpreter may take, where processes cannot be forked


class Watch:
    """Ends a process that takes too long or too much; `reason` says why."""

    def __init__(self, process, folder, limits, until):
        self.process, self.folder, self.limits, self.until = process, folder, limits, until
        self.deadline, self.reason, self.done = time.monotonic() + STARTING, "", threading.Event()
        self.first, self.ready = self._megabytes(), False
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def started(self, until):
        """The library is there; from now on it is the student's time."""
        self.until, self.first, self.ready = until, self._megabytes(), True
        self.again()

    def again(self):
        """The next exercise begins."""
        self.deadline = time.monotonic() + self.limits.seconds

    def _look(self):
        while not self.done.wait(0.1):
            now = time.monotonic()
            if not self.ready:
                if now > self.deadline:
                    self._end(f"a process for it did not start within {STARTING} seconds, which is not the student's "
                              "fault: grade it again when the machine has less to do.")
            elif now > self.until:
                self._end(f"the whole notebook took more than {self.limits.notebook_seconds:g} seconds.")
            elif now > self.deadline:
                self._end(f"it did not finish within {self.limits.seconds:g} seconds. Is there a loop that never ends?")
            elif self._megabytes() - self.first > self.limits.megabytes:
                self._end(f"it took more than {self.limits.megabytes} MB of memory.")
            elif _size(self.folder) > self.limits.disk * 2**20:
                self._end(f"it wrote more than {self.limits.disk} MB to the disk.")

    def _megabytes(self):
        try:
            return self.process.memory_info().rss / 2**20
        except psutil.Error:
            return 0

    def _end(self, reason):
        self.reason = self.reason or reason
        server.kill(self.process)

    def close(self):
        self.done.set()
        self.thread.join()
        server.kill(self.process)


def _size(folder):
    """Bytes in a folder, as far as one can look."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.lstat(os.path.join(place, name)).st_size + 4096  # a name takes space, too
    return found


class Student:
    """The line to one student's process, with a watch beside it and a folder that vanishes at the end."""

    def __init__(self, processes, text, number, limits, until, hidden):
        self.folder = tempfile.mkdtemp(prefix="student-")
        self.channel, process = processes.new()
        self.watch = Watch(process, self.folder, limits, until)
        answers = [pair for identifier in checking.exercises(number) for pair in withheld.answers(identifier)]
        try:
            self.channel.send(notebook=text, folder=self.folder, megabytes=limits.megabytes, answers=answers,
                              seconds=limits.notebook_seconds, hidden=[*hidden])
            began = time.monotonic()
            self.channel.receive()
            self.until = until + time.monotonic() - began
            self.watch.started(self.until)
            self.ready = self.channel.receive()
        except BaseException:
            self.close()
            raise

    def settle(self, identifier, passed):
        """Tell the process how an exercise went, so that later ones can build on it."""
        course = checking.find(identifier).course
        code = withheld.code_of(identifier)
        self.channel.send(settle=identifier, passed=passed, code=code, value=None if code else messages.encode(course))

    def ask(self, identifier, found, order, shift=0):
        self.watch.again()
        self.channel.send(exercise=identifier, how=found.how, order=order, shift=shift, patterns=found.kinds(order))
        return self.channel.receive()

    def close(self):
        self.watch.close()
        self.channel.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def grade_notebook(processes, text, number, limits=None, hidden=()):
    """{exercise: Result} of the notebook `number` ("05") whose file has that text."""
    limits = limits or Limits()
    results, student, until = {}, None, time.monotonic() + limits.notebook_seconds
    try:
        for identifier in checking.exercises(number):
            if time.monotonic() > until:
                results[identifier] = Result(identifier, STOPPED, "no time was left for it in this notebook.")
                continue
            began, reason = time.monotonic(), ""
            try:
                if student is None:
                    student = Student(processes, text, number, limits, until, hidden)
                    until = student.until
                    for earlier, result in results.items():
                        student.settle(earlier, result.state == PASSED)
                results[identifier] = _one(student, identifier)
                student.settle(identifier, results[identifier].state == PASSED)
            except (EOFError, OSError, messages.Unreadable, ValueError, KeyError, TypeError) as problem:
                if student is not None:
                    reason = student.watch.reason
                    with contextlib.suppress(OSError):
                        student.close()
                student = None
                results[identifier] = Result(identifier, STOPPED, reason or _why(problem),
                                             seconds=time.monotonic() - began)
    finally:
        if student is not None:
            student.close()
    return results


def _why(problem):
    if isinstance(problem, (EOFError, OSError)):
        return "its process ended itself, or ran out of memory."
    return f"its process sent {plain(problem, 100)}."


def _one(student, identifier):
    """Ask for one exercise and judge the reply."""
    began = time.monotonic()
    if not student.ready.get("ready"):
        return Result(identifier, UNTRIED, plain(student.ready.get("text", ""), 200))
    found = judging.prepared(identifier)
    order = found.order()
    reply = student.ask(identifier, found, order)
    seconds, state = time.monotonic() - began, reply.get("state")
    if state == "missing":
        broken = student.ready.get("broken")
        where = f" (cell {broken[0][0]:d} cannot be read: {plain(broken[0][1], 80)})" if broken else ""
        return Result(identifier, UNTRIED, f"the notebook does not check it{where}.", seconds=seconds)
    if reply.get("type") == "MemoryError" or "allocate memory" in str(reply.get("sentence")):
        return Result(identifier, STOPPED, f"it took more than {student.watch.limits.megabytes} MB of memory.",
                      seconds=seconds)
    if state == "broken":
        return Result(identifier, FAILED, f"a cell that it needs stops with {plain(reply.get('type'), 80)}: "
                      f"{plain(reply.get('text'), 200)}", seconds=seconds)
    if state not in ("answered", "raised"):
        raise messages.Unreadable("a reply of no known kind")
    mark, sentence = judging.verdict(found, reply, order)
    if mark == checking.DONE and judging.secret_shift(identifier) and not _again(student, identifier):
        mark, sentence = checking.WRONG, judging.DRAWN
    state = {checking.DONE: PASSED, checking.BLANK: UNTRIED}.get(mark, FAILED)
    return Result(identifier, state, sentence, sentence in found.exercise.mistakes, seconds)


def _again(student, identifier):
    """Whether an answer that is right is right for other random numbers, too."""
    shift = judging.secret_shift(identifier)
    found = judging.prepared(identifier, shift)
    order = found.order()
    reply = student.ask(identifier, found, order, shift)
    return (reply.get("state") in ("answered", "raised")
            and judging.verdict(found, reply, order)[0] == checking.DONE)
