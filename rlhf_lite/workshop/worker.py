"""A student's process: runs the part of a notebook that each exercise needs, and says what came out.

The idea: nothing is decided here. The process is told a notebook and the names of its exercises; it holds no right
answers, and what it sends are the plain values that the student's functions return. Whoever takes over this process,
and every student could, can send wrong values or stop; to send right ones, they have to compute them.
"""

import contextlib
import copy
import linecache
import os
import sys

from rlhf_lite.exercises import checking, contract, guarded
from rlhf_lite.workshop import cells, limits, messages, redraw, withheld

RECORD = "_the_answer_of_exercise"


class Notebook:
    """A notebook in the making: which statements have run, and the names they have made."""

    def __init__(self, text):
        sources = cells.code_cells(text)
        self.statements, self.broken = cells.statements(sources)
        for number, source in enumerate(sources, 1):  # so that an error can name the line
            name = cells.name(number)
            linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
        self.names = {"__name__": "__main__", RECORD: self.record}
        self.done, self.answers, self.failed = set(), {}, {}

    def record(self, identifier, answer=None, *_, **__):
        """What `check` does here: keep the answer and hand it back."""
        self.answers[identifier] = answer
        return answer

    def place(self, identifier):
        """Where the exercise is checked, for the last time; None if it is not."""
        found = [place for place, one in enumerate(self.statements) if one.exercise == identifier]
        return found[-1] if found else None

    def answer(self, identifier):
        """Run what the exercise needs, and return its answer."""
        for place in cells.needed(self.statements, self.place(identifier)):
            if place not in self.done:
                self.done.add(place)
                statement = self.statements[place]
                exec(cells.recorded(statement, RECORD), self.names)
                self.fall_back(statement)
        return self.answers[identifier]

    def fall_back(self, statement):
        """After a check that failed the notebook goes on with the course's version, here as in the lesson."""
        if statement.exercise in self.failed:
            self.names |= dict.fromkeys(cells.targets(statement), self.failed[statement.exercise])

    def settle(self, identifier, fallback):
        """The exercise was not solved: its name gets the course's answer."""
        self.failed[identifier] = fallback
        place = self.place(identifier)
        if place in self.done:
            self.fall_back(self.statements[place])


def outcomes(identifier, answer, how, order, shift=0, changes=None, patterns=None):
    """What the answer returns on the cases, in that order; how "observe": what the exercise makes of it here.

    The list `changes` gets [case, [[place of an argument that was changed, its new value]]], encoded. patterns: for
    each case, of which kind its results must be, where that can only be seen here; Unfit says what does not fit.
    """
    exercise = checking.exercises()[identifier]  # `find` would look into a folder that is closed
    if exercise.cases is None:
        return [answer]
    cases, found = redraw.cases(exercise, shift), []
    for turn, number in enumerate(order):
        function = contract.watched(answer, [], patterns[turn] if patterns else None)
        arguments, before = copy.deepcopy(cases[number]), [messages.encode(one) for one in cases[number]]
        found.append(exercise.observe(function, *arguments) if how == "observe" else function(*arguments))
        after = [messages.encode(one) for one in arguments] if how == "call" else before
        changed = [[place, one] for place, one in enumerate(after) if one != before[place]]
        if changed and changes is not None:
            changes.append([number, changed])
    return found


def attempt(notebook, identifier, how, order, shift, patterns=()):
    """The message about one exercise."""
    place = notebook.place(identifier)
    if place is None:
        return {"state": "missing"}
    try:
        answer = notebook.answer(identifier)
    except BaseException as error:  # whatever a student's code may raise, SystemExit among it
        try:
            said = str(error)[:2000]
        except BaseException:
            said = ""
        return {"state": "broken", "type": str(type(error).__name__)[:80], "text": said}
    return reply(identifier, answer, how, order, shift, patterns)


def reply(identifier, answer, how, order, shift=0, patterns=()):
    """The message about an answer. What it says besides outcomes can only make a wrong answer's sentence better."""
    exercise, changes, ear = checking.exercises()[identifier], [], contract.Ear()
    if (exercise.cases is None) == callable(answer):
        return {"state": "answered", "outcomes": [], "changes": [], "kind": contract.kind(answer)}
    facts = {"stub": guarded.is_stub(answer), "names": contract.names_of(answer)} if callable(answer) else {}
    patterns = messages.decode(patterns) if patterns else ()
    try:
        with contextlib.redirect_stdout(ear):
            found = outcomes(identifier, answer, how, order, shift, changes, patterns)
        return {"state": "answered", "outcomes": [messages.encode(one) for one in found], "changes": changes,
                "printed": ear.heard, **facts}
    except MemoryError:  # what follows would need some
        return {"state": "raised", "type": "MemoryError", "sentence": "it raised MemoryError.", "blank": False}
    except BaseException as error:
        verdict = checking.explain(error, answer, ear.heard)
        said = {"state": "raised", "type": str(type(error).__name__)[:80], "sentence": verdict.sentence[:2000],
                "blank": verdict.mark == checking.BLANK}
        if isinstance(error, contract.Unfit) and not isinstance(error, contract.Nothing):
            with contextlib.suppress(BaseException):  # to see whether it is a known mistake
                found = outcomes(identifier, answer, how, order, shift)
                said |= {"outcomes": [messages.encode(one) for one in found], **facts}
        return said


def converse(channel):
    """Answer the grader's messages until it hangs up."""
    start = channel.receive()
    limits.enter(start["folder"], start["megabytes"], start["seconds"], start["hidden"])
    withheld.withhold_answers(start["answers"])
    channel.send(started=True)
    try:
        notebook = Notebook(start["notebook"])
    except ValueError as error:
        return channel.send(ready=False, text=str(error))
    channel.send(ready=True, broken=sorted(notebook.broken.items()))
    while True:
        asked = channel.receive()
        if "settle" in asked:
            withheld.give_back(asked["code"])
            if not asked["passed"]:
                notebook.settle(asked["settle"], _fallback(asked))
        else:
            channel.send(**attempt(notebook, asked["exercise"], asked["how"], asked["order"], asked["shift"],
                                   asked["patterns"]))


def _fallback(asked):
    if not asked["code"]:
        return messages.decode(asked["value"])
    module, name, _ = asked["code"][0]
    return vars(sys.modules[module])[name]


def serve(reader, writer):
    """Talk over these two file numbers; what the student's code prints or reads goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    sys.stdin, sys.stdout, sys.stderr = (open(place, mode, encoding="utf-8", closefd=False)
                                         for place, mode in ((0, "r"), (1, "w"), (2, "w")))
    try:
        converse(messages.Channel(os.fdopen(reader, "rb", 0), os.fdopen(writer, "wb")))
    except EOFError:  # the grader has hung up
        pass


def prepare():
    """Import everything that an exercise may need, and take the answers out: once, before any student's code."""
    os.environ.update(OMP_NUM_THREADS="1", MPLBACKEND="Agg")
    import torch
    torch.set_num_threads(1)
    import matplotlib.pyplot  # noqa: F401
    withheld.all_modules()
    withheld.strip_exercises()


if __name__ == "__main__":  # where processes cannot be forked: one interpreter for one notebook
    _in, _out = os.dup(0), os.dup(1)
    prepare()
    serve(_in, _out)
