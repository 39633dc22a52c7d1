"""The instructor's timetable, made from what the notebooks themselves say: their headers, exercises and measured times.

    python -m rlhf_lite.exercises.timetable    # write the table in docs/teaching/timing.md anew

`rlhf_lite.exercises.measure` measures the times and then calls this.
"""

import importlib
import re

from rlhf_lite.exercises.build import ROOT
from rlhf_lite.exercises.checking import find
from rlhf_lite.exercises.lesson import TIMES, cores, recorded
from rlhf_lite.files import read_json, write_text

PAGE = ROOT / "docs" / "teaching" / "timing.md"
MARKS = "<!-- timetable:begin -->", "<!-- timetable:end -->"


def sources(root=ROOT):
    """{number: source} of every notebook: "04", or "05a" where one is in two parts."""
    return {path.stem.split("_")[0]: path for path in sorted((root / "solutions").glob("[0-9][0-9]*_*.py"))}


def front_matter(number):
    """What the header of a notebook is made from: title, promise, minutes, needs, aims."""
    module = importlib.import_module(f"rlhf_lite.exercises.n{number[:2]}")
    return getattr(module, "PARTS", {}).get(number) or module.LESSON


def exercises_in(source):
    """The exercises of a notebook, in the order in which they come."""
    return [find(name) for name in re.findall(r"\{\{exercise ([\d.]+)\}\}", source.read_text(encoding="utf-8"))]


def table(root=ROOT):
    """The timetable as Markdown. A hard exercise is set in bold."""
    rows, minutes, computing, at_least = [], 0, 0, ""
    for number, source in sources(root).items():
        lesson, exercises, took = front_matter(number), exercises_in(source), recorded(number)
        listed = ", ".join(f"**{e.id}** {e.minutes}" if e.difficulty == 3 else f"{e.id} {e.minutes}" for e in exercises)
        spent = f"{took['minutes']:.1f} on {cores(took)} | {took['memory_gib']:.1f}" if took else "not yet measured | "
        rows.append(f"| {number} {lesson['title']} | {lesson['minutes']} | {sum(e.minutes for e in exercises)} | "
                    f"{listed} | {spent} |")
        if number != "09":
            minutes, computing = minutes + lesson["minutes"], computing + (took["minutes"] if took else 0)
            at_least = at_least if took else "at least "
    record = read_json(TIMES, {"notebooks": {}})
    days = sorted({entry["date"] for entry in record["notebooks"].values()})
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    return "\n".join([
        "| notebook | at the desk (min) | of which exercises | each exercise (min) | computing (min) | memory (GiB) |",
        "|---|--:|--:|---|---|--:|", *rows,
        f"| all together, without 09 | {minutes} | | | {at_least}{computing:.1f} | |", "",
        f"Computing: the solved notebooks at full length, measured {when} with torch "
        f"{record['versions']['torch']}. Measure again: `{record['command']}`."])


def fill(page, made):
    """A page's text with what stands between its marks made anew."""
    before, rest = page.split(MARKS[0], 1)
    return f"{before}{MARKS[0]}\n{made}\n{MARKS[1]}{rest.split(MARKS[1], 1)[1]}"


def main():
    write_text(PAGE, fill(PAGE.read_text(encoding="utf-8"), table()))


if __name__ == "__main__":
    main()
