"""A box to type a prediction into before a cell answers it, and at the end: how well did you predict?

A notebook does this in three steps, through its `Lesson` (`lesson = setup("04")`):

    lesson.predict("untrained", "Accuracy of a model that has learnt nothing?", unit="%", close=5)   # shows the box
    lesson.outcome("untrained", 100 * accuracy)      # in the cell that finds out: prints what you said and what it was
    lesson.predictions()                             # in the last cell: a table of all of them

A prediction is a number, or one of `choices`; the outcome is then a number, or one of the same choices. `close` says
how far off a number may be and still count as close. Everything is kept in the student's progress file
(`my_progress.json`, under "predictions") the moment it is typed, and survives a restart. Once the answer is out, a box
is closed; "Predict again" forgets both. Whoever types nothing reads the outcome and loses nothing.

The functions at the top need neither a browser nor a kernel.
"""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets as w

from rlhf_lite import files
from rlhf_lite.widgets.parts import Panel, button, escape, row, show

KEY = "predictions"  # the name under which the progress file keeps them


# ---------------------------------------------------------------- the record

def read(path):
    """{name: {"question", "unit", "close", "said", "was"}}: every prediction in a progress file; {} if none."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8")).get(KEY)
    except (OSError, ValueError, AttributeError):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)} if isinstance(found, dict) else {}


def keep(path, name, **fields):
    """Change fields of a prediction, leaving everything else in the progress file as it is; returns the prediction."""
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        saved = {}
    saved = saved if isinstance(saved, dict) else {}
    known = read(path)
    entry = {**known.get(name, {}), **fields, "when": datetime.now(UTC).isoformat(timespec="seconds")}
    files.write_json(path, saved | {KEY: known | {name: entry}})
    return entry


def number(text):
    """What a person typed, as a number: "30", "30 %", "0,3" or "-1.5"; a ValueError says what is wrong."""
    plain = text.strip().removesuffix("%").strip().replace("−", "-").replace(",", ".")
    try:
        value = float(plain)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text.strip()!r} is not a number; type one, such as 30 or 0.5")
    return value


def written(value, unit=""):
    """A number or choice as people write it: 3 of 4, 72.6 %, the end."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{text} {unit}".strip()


def hit(entry):
    """Was the prediction right (a choice) or close (a number)? None while one of the two is missing."""
    said, was = entry.get("said"), entry.get("was")
    if said is None or was is None:
        return None
    if isinstance(was, str) or isinstance(said, str):
        return said == was
    return abs(said - was) <= entry.get("close", 0) + 1e-9


def told(entry):
    """One line for the cell that has found out."""
    said, was, unit = entry.get("said"), entry["was"], entry.get("unit", "")
    if said is None:
        return f"You made no prediction; it was {written(was, unit)}."
    verdict = {True: "right." if isinstance(was, str) or said == was else "close.", False: "a surprise."}[hit(entry)]
    return f"You predicted {written(said, unit)}; it was {written(was, unit)}: {verdict}"


def summary(entries):
    """Predictions -> ([(question, you said, it was, verdict)], one sentence)."""
    rows = [(entry.get("question", name), written(entry.get("said"), entry.get("unit", "")),
             written(entry.get("was"), entry.get("unit", "")),
             {True: "✓ right or close", False: "✗ a surprise", None: ""}[hit(entry)])
            for name, entry in entries.items()]
    made = [hit(entry) for entry in entries.values() if hit(entry) is not None]
    if not made:
        return rows, "You made no predictions. They cost a few seconds, and you remember what surprised you."
    return rows, (f"{sum(made)} of {len(made)} predictions were right or close. The others are worth a second look: "
                  "what did you believe that is not so?" if not all(made) else
                  f"All {len(made)} of your predictions were right or close.")


# ---------------------------------------------------------------- the box

class PredictionBox(Panel):
    """The box for one prediction. path: the progress file; choices: possible answers, or none for a number."""

    def __init__(self, path, name, question, choices=(), unit="", close=0):
        super().__init__("Your prediction")
        self.path, self.name, self.unit = path, name, unit
        self.about = {"question": question, "unit": unit, "close": close}
        try:
            entry = keep(path, name, **self.about)  # what was asked is shown at the end, predicted or not
        except OSError:
            entry = read(path).get(name, {})
        self.asked = w.HTML(f"<div>{escape(question)}</div>")
        self.choices = w.ToggleButtons(options=list(choices), value=None) if choices else None
        self.typed = w.Text(placeholder="a number, then Enter or Tab", continuous_update=False,
                            layout=w.Layout(width="15em"))
        self.again = button("Predict again")
        self.entry = self.choices or self.typed
        self.on_value(self.entry, self.do_predict)
        self.on_click(self.again, self.do_again)
        self.children = [self._style, self.asked, row(self.entry, w.HTML(escape(unit)), self.again), self.status]
        self.draw(entry)

    def __repr__(self):
        return f"A box for a prediction: {self.about['question']}"

    def draw(self, entry):
        """Show what has been said; the box is closed when the answer is out."""
        said, was = entry.get("said"), entry.get("was")
        known = self.choices is None or said in self.choices.options
        closed = said is not None and was is not None
        self.load([(self.entry, (said if known else None) if self.choices else
                    "" if said is None else f"{said:g}" if not isinstance(said, str) else said)])
        self.entry.disabled = closed
        show(self.again, closed)
        self.say(told(entry) if closed else f"Kept: {written(said, self.unit)}. Now run the next cell."
                 if said is not None else "Type it before you run the next cell; it is kept with your progress.")

    def do_predict(self, value):
        if value in (None, ""):
            return
        said = value if self.choices else number(value)
        entry = read(self.path).get(self.name, {})
        if entry.get("was") is not None and entry.get("said") is not None:
            raise ValueError("the answer is out; press Predict again first")
        self.draw(keep(self.path, self.name, **self.about, said=said, was=None))  # an answer of an earlier run is void

    def do_again(self):
        self.draw(keep(self.path, self.name, **self.about, said=None, was=None))


def settle(path, name, was):
    """Keep the answer to a prediction and return one line about both. A read-only folder should not stop a lesson."""
    was = was if isinstance(was, str) else float(was)
    try:
        return told(keep(path, name, was=was))
    except OSError as error:
        return f"It was {written(was)}. (Not kept: {error})"
