"""`python -m rlhf_lite grade submissions --out grades.csv`: everybody's exercises, judged and put into tables.

The idea: two notebooks at a time, each in processes of its own; one table with a line for every student and exercise,
one page that shows which exercise stopped whom, and the columns that Moodle and Canvas read.
"""

import csv
import io
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rlhf_lite import files
from rlhf_lite.exercises import checking
from rlhf_lite.experiment import pages
from rlhf_lite.plain import plain
from rlhf_lite.workshop import grading, limits, server, submissions

TEMPLATE = Path(__file__).parent / "templates" / "grades.html"
SIGNS = {grading.PASSED: "✅", grading.FAILED: "❌", grading.UNTRIED: "⬜", grading.STOPPED: "⏱"}


def grade(folder, notebooks=None, allowed=None, jobs=None, say=print, fork=server.FORK):
    """[(Submission, {exercise: Result})] of all hand-ins in a folder, for the notebooks that are asked for, or all."""
    found = submissions.collect(folder)
    known = set(checking.numbers())
    wanted = sorted(f"{int(number):02d}" for number in notebooks) if notebooks else sorted(
        {number for one in found for number in one.notebooks} & known)
    if not set(wanted) <= known:
        raise ValueError(f"There is no notebook {', '.join(sorted(set(wanted) - known))} with exercises; there are "
                         f"{', '.join(sorted(known))}.")
    jobs = jobs or max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2))
    hidden = [str(Path(folder).resolve())]
    with server.Processes(fork) as processes, ThreadPoolExecutor(jobs) as pool:
        work = {(place, number): pool.submit(
            grading.grade_notebook, processes, one.notebooks[number], number, allowed, hidden)
            for place, one in enumerate(found) for number in wanted if number in one.notebooks}
        graded = []
        for place, one in enumerate(found):
            results = {}
            for number in wanted:
                results |= work[place, number].result() if (place, number) in work else _not_there(number)
            counts = Counter(result.state for result in results.values())
            say(f"{one.student}: " + ", ".join(f"{counts[state]} {state}" for state in SIGNS if counts[state]))
            graded.append((one, results))
    return graded


def _not_there(number):
    return {identifier: grading.Result(identifier, grading.UNTRIED, f"notebook {number} was not handed in.")
            for identifier in checking.exercises(number)}


# ---------------------------------------------------------------- tables

def safe(text):
    """A cell that no spreadsheet takes for a formula."""
    text = plain(text, 4000)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def table(rows):
    """Rows as the text of a CSV file."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [[safe(cell) if isinstance(cell, str) else cell for cell in row] for row in rows])
    return stream.getvalue()


def long_table(graded):
    """A line for every student and exercise."""
    rows = [["student", "file", "receipt", "notebook", "exercise", "title", "result", "misconception", "message",
             "seconds", "notes"]]
    for one, results in graded:
        for identifier, result in results.items():
            rows.append([one.student, one.file, one.receipt, f"{int(identifier.split('.')[0]):02d}", identifier,
                         checking.find(identifier).title, result.state,
                         result.sentence if result.misconception else "", result.sentence, round(result.seconds, 2),
                         "; ".join(one.notes)])
    return table(rows)


def passed(results):
    return sum(result.state == grading.PASSED for result in results.values())


def moodle_table(graded):
    """A grading worksheet for Moodle's assignment: the grade is the per cent of the exercises that are solved."""
    rows = [["Identifier", "Full name", "Grade", "Last modified (grade)", "Feedback comments"]]
    for one, results in graded:
        said = [f"{SIGNS[one.state]} {one.exercise}: {one.sentence}" for one in results.values()
                if one.state in (grading.FAILED, grading.STOPPED)]
        untried = [one.exercise for one in results.values() if one.state == grading.UNTRIED]
        said += [f"Not tried: {', '.join(untried)}."] if untried else []
        rows.append([f"Participant {one.number}" if one.platform == "moodle" else "", one.student,
                     round(100 * passed(results) / max(1, len(results)), 1), "",
                     f"{passed(results)} of {len(results)} exercises. {' '.join(said)}"])
    return table(rows)


def canvas_table(graded):
    """A gradebook for Canvas: one column a notebook, in exercises solved."""
    numbers = list(dict.fromkeys(identifier.split(".")[0] for _, results in graded for identifier in results))
    counts = {number: len(checking.exercises(int(number))) for number in numbers}
    rows = [["Student", "ID", "SIS User ID", "SIS Login ID", "Section",
             *(f"rlhf_lite {int(number):02d}" for number in numbers)],
            ["    Points Possible", "", "", "", "", *counts.values()]]
    for one, results in graded:
        rows.append([one.student, one.number if one.platform == "canvas" else "", "", "", "", *(
            passed({key: value for key, value in results.items() if key.split(".")[0] == number})
            for number in numbers)])
    return table(rows)


def page(graded):
    """The overview as an HTML page."""
    identifiers = list(graded[0][1])
    columns = []
    for identifier in identifiers:
        found = [results[identifier] for _, results in graded]
        why = Counter(one.sentence for one in found if one.state in (grading.FAILED, grading.STOPPED)).most_common(3)
        columns.append({"id": identifier, "title": checking.find(identifier).title, "why": why,
                        "counts": Counter(one.state for one in found)})
    people = [{"student": one.student, "receipt": one.receipt, "notes": one.notes, "passed": passed(results),
               "cells": [{"sign": SIGNS[result.state], "state": result.state, "sentence": result.sentence,
                          "exercise": result.exercise} for result in results.values()]} for one, results in graded]
    return pages.render(TEMPLATE, columns=columns, people=people, held=limits.held(), n=len(graded), signs=SIGNS)


def write(graded, out):
    """Write grades.csv and, beside it, grades-moodle.csv, grades-canvas.csv and grades.html; returns their paths."""
    out = Path(out)
    made = {out: long_table(graded), out.with_name(f"{out.stem}-moodle.csv"): moodle_table(graded),
            out.with_name(f"{out.stem}-canvas.csv"): canvas_table(graded), out.with_suffix(".html"): page(graded)}
    for path, text in made.items():
        files.write_text(path, text)
    return list(made)
