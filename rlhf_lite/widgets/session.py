"""Ranking by hand, without any widgets: what is asked, what has been answered, what is on the disk.

It follows InstructGPT's labelers (App. B.5): every answer may get a score from 1 to 7 and the flags of Table 3, then
all answers are ranked, and ties are encouraged. The answers of an item are shown in a blind order that depends only on
the seed, the annotator and the item, so it is the same after a restart but different for a neighbour.

Every submit, skip and undo is one line in the annotator's file, on the disk before the call returns. The state is
exactly what reading that file again would give, so to resume, simply make the session again.

"Place" means the place on the screen, from 0. Records list the answers in the order in which they were given.

Left out: two kernels writing as the same annotator at once (all rows are kept, and the last one for an item counts).
"""

import copy
import itertools
import random
import time
from pathlib import Path
from typing import NamedTuple

from rlhf_lite import feedback
from rlhf_lite.files import whole_file
from rlhf_lite.jsonl import json_line, many_objects
from rlhf_lite.widgets import labels, names, unsaved
from rlhf_lite.widgets.draft import Draft, Stopwatch, letter, saved_order, stamp
from rlhf_lite.widgets.language import speaker
from rlhf_lite.widgets.order import picked
from rlhf_lite.widgets.writing import DemonstrationSession  # noqa: F401  (both sessions under one name)

MOST = 9  # answers per item: the most in the paper, and as many as there are number keys
VERDICTS = {"A": (1, 2), "B": (2, 1), "tie": (1, 1), "both bad": (1, 1)}


class Progress(NamedTuple):
    ranked: int
    skipped: int
    total: int
    seconds: float  # spent on the items that are done


class RankingSession:
    """One annotator at work on a list of items; see the module for the idea and `RankingWidget` for the buttons.

    items: dicts {"prompt_id", "prompt", "responses", optional "item_id", "use_case", "split"}; responses are texts or
    dicts {"text", "source", "token_ids"}. Ranking records work too; their ranks are ignored.
    annotator: a name; if none is given, it is asked for, once per folder (`names`).
    path: the annotator's file, runs/feedback/NAME.jsonl if not given. pairs: two answers each, A / B / tie / both bad.
    need_scores: no submit before every answer has a score. repeats: how many items come again at the end, in another
    order, to measure how far a person agrees with themselves.
    """

    def __init__(self, items, annotator=None, path=None, seed=0, pairs=False, need_scores=False, repeats=0,
                 clock=time.monotonic):
        self.annotator = str(names.my_name() if annotator is None else annotator)
        self.seed, self.pairs, self.need_scores = seed, pairs, need_scores
        if not self.annotator.strip():
            raise ValueError("the annotator has no name; give one, to say whose rankings these are")
        self.text = speaker()  # the words of its messages; the page puts in those of another language
        self.path = path or labels.default_path(self.annotator)
        rows, self.problems = labels.read_labels(self.path)
        if path is None:
            labels.check_owner(self.path, rows, self.annotator)
        self._saved = [row for row in rows if row.get("labeler") == self.annotator]
        self.items, self.index = [], None
        self.records = {}  # item_id -> the record that counts, the latest one last
        self._at, self._drafts, self._history, self._watch = {}, {}, [], Stopwatch(clock)
        if repeats < 0:
            raise ValueError(f"{repeats} items cannot come again; give a number from 0 up")
        items = list(items)
        self.extend(items + [{**item, "item_id": f"{labels.item_id(item)}#again"} for item in items[:repeats]])

    def extend(self, items):
        """Add items at the end. Anything already saved about them is restored, and the first open item is opened."""
        new = set()
        with many_objects():
            for item in items:
                item = labels.checked_item(item, self.annotator, 2 if self.pairs else MOST)
                key = item["item_id"]
                if key in self._at:
                    raise ValueError(f"two items are called {key!r}; give each its own prompt_id or item_id")
                self._at[key] = len(self.items)
                self.items.append(item)
                new.add(key)
            self._read_back(new)
        if self.index is None:
            self.open_next()

    def _read_back(self, new):
        """Replay the file for the new items. Records of other answers to the same prompt do not count."""
        texts = {key: labels.texts(self.items[self._at[key]]) for key in new}
        found, withdrawn, others = labels.replay(self._saved, texts)
        self.records.update(found)
        for key, row in withdrawn.items():
            self._drafts[key] = Draft.from_record(row, self._shuffled(self._at[key]))
        open_ones = {key: answers for key, answers in texts.items() if key not in found}
        self._drafts.update(unsaved.load(self.path, self.annotator, open_ones))
        if others:
            self.problems.append(f"{self.path}: {len(others)} saved rankings are of other answers to the same prompts; "
                                 "they stay in the file, and these items are asked again")

    # ---------------------------------------------------------------- where we are

    @property
    def item(self):
        """The open item; None when all are done."""
        return None if self.index is None else self.items[self.index]

    def place_of(self, item_id):
        """The index of an item; None if there is none of that name."""
        return self._at.get(item_id)

    @property
    def draft(self):
        """What has been entered for the open item."""
        return None if self.index is None else self._drafts.get(self.item["item_id"])

    def _shuffled(self, index):
        """order[place] is the number of the answer shown there."""
        key, count = self.items[index]["item_id"], len(self.items[index]["responses"])
        # Python seeds a text through SHA-512: the same in every process, unlike hash().
        return random.Random(f"{self.seed}/{self.annotator}/{key}").sample(range(count), count)

    def order(self, index=None):
        """The blind order of an item (default: the open one). A saved item keeps the order it was ranked in."""
        index = self.index if index is None else index
        key = self.items[index]["item_id"]
        if key in self._drafts:
            return self._drafts[key].order
        return saved_order(self.records.get(key, {}), len(self.items[index]["responses"])) or self._shuffled(index)

    def shown(self):
        """The texts of the open item, in the order on the screen."""
        return [self.item["responses"][i]["text"] for i in self.order()]

    def progress(self):
        done = self.records.values()
        skipped = sum("ranks" not in row for row in done)
        return Progress(len(done) - skipped, skipped, len(self.items), sum(row.get("seconds", 0) for row in done))

    def rankings(self):
        """The rankings that count, in the order in which they were made."""
        return [row for row in self.records.values() if "ranks" in row]

    def open(self, index):
        """Go to an item, done or not, with its earlier entries filled in. Submitting it again replaces the record."""
        if not 0 <= index < len(self.items):
            raise ValueError(f"there is no item {index + 1}; they go from 1 to {len(self.items)}")
        self._spend()
        self.index, self._history = index, []
        key = self.item["item_id"]
        if key not in self._drafts:
            self._drafts[key] = Draft.from_record(self.records.get(key, {}), self._shuffled(index))

    def open_next(self):
        """Open the next item that is not done, after the open one and then from the start; none if all are done."""
        start = 0 if self.index is None else self.index + 1
        for index in itertools.chain(range(start, len(self.items)), range(start)):
            if self.items[index]["item_id"] not in self.records:
                return self.open(index)
        self._spend()
        self.index, self._history = None, []

    # ---------------------------------------------------------------- entering

    def set_rank(self, place, rank):
        """Rank the answer at a place; 1 is the best, equal ranks are a tie, 0 clears it."""
        self._set("ranks", place, rank, len(self._open()["responses"]))

    def tie(self, place):
        """Give the answer at a place the rank of the one before it."""
        if self._place(place) == 0 or not self.draft.ranks[place - 1]:
            raise ValueError(self.text("error.tie"))
        self.set_rank(place, self.draft.ranks[place - 1])

    def pick(self, place, tie=False):
        """Put the answer at a place next in the order (tie: level with the last one), or take it out of the order."""
        self.enter(ranks=picked(self.draft.ranks, self._place(place), tie) if self._open() else [], both_bad=False)

    def set_score(self, place, score):
        """Score one answer on its own, from 1 (very bad) to 7 (very good); 0 clears it."""
        self._set("scores", place, score, 7)

    def _set(self, what, place, value, top):
        values = getattr(self.draft, what) if self._open() else None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= top:
            raise ValueError(self.text("error.number", what=what[:-1], value=repr(value), top=top))
        if values[self._place(place)] != value:
            self.enter(**{what: [*values[:place], value, *values[place + 1:]]}, both_bad=False)

    def set_flag(self, place, name, on=True):
        """Set or clear one of Table 3's flags (`labels.FLAGS`)."""
        if name not in labels.FLAGS:
            raise ValueError(f"there is no flag {name!r}; use one of {', '.join(labels.FLAGS)}")
        flags = self.draft.flags if self._open() else []
        if on != (name in flags[self._place(place)]):
            self.enter(flags=[*flags[:place], flags[place] ^ {name}, *flags[place + 1:]])

    def set_note(self, text):
        """Replace the note. A stretch of typing counts as one step for `undo`."""
        if self._open() and text != self.draft.note:
            self.enter("note", note=text)

    def choose(self, verdict):
        """Pair mode: "A" (the left one), "B", "tie" or "both bad"."""
        if not self.pairs or verdict not in VERDICTS:
            raise ValueError(f"the verdict is {verdict!r}; use {', '.join(VERDICTS)}, and only in pair mode")
        self._open()
        self.enter(ranks=list(VERDICTS[verdict]), both_bad=verdict == "both bad")

    def enter(self, kind="change", **values):
        """Change the open item's draft: one step for `undo`, and so is a stretch of the same kind but "change"."""
        self._spend()
        if kind == "change" or not self._history or self._history[-1][0] != kind:
            self._history.append((kind, copy.deepcopy(self.draft)))
        vars(self.draft).update(values)
        self._keep()

    def _open(self):
        if self.index is None:
            raise ValueError(self.text("error.done"))
        return self.item

    def _place(self, place):
        count = len(self._open()["responses"])
        if not 0 <= place < count:
            raise ValueError(self.text("error.place", letter=letter(place), last=letter(count - 1)))
        return place

    def _keep(self):
        """Put what is entered but not submitted beside the file, in case the kernel dies."""
        begun = {key: (labels.texts(self.items[self._at[key]]), draft) for key, draft in self._drafts.items()
                 if key not in self.records and draft.begun()}
        unsaved.save(self.path, self.annotator, begun)

    def _spend(self):
        seconds = self._watch.lap()
        if self.draft is not None:
            self.draft.seconds += seconds

    # ---------------------------------------------------------------- saving

    def submit(self):
        """Save the open item's ranking, open the next one, and return the record."""
        item = self._open()
        self._spend()
        return self._save(self.draft.record(item, self.annotator, self.need_scores, self.pairs, self.text))

    def skip(self, reason):
        """Leave the open item without a ranking, save the reason, and open the next one."""
        item = self._open()
        if not str(reason or "").strip():
            raise ValueError(self.text("error.reason"))
        self._spend()
        return self._save({**self._about(item), "status": "skipped", "reason": str(reason), "note": self.draft.note,
                           "seconds": round(self.draft.seconds, 2), **stamp()})

    def undo(self):
        """Undo the last change; if there is none, withdraw the item saved last and open it again, as it was."""
        if self._history:
            draft, seconds = self._history.pop()[1], self.draft.seconds
            draft.seconds = seconds  # time cannot be undone
            self._drafts[self.item["item_id"]] = draft
            self._keep()
            return self.text("undone.change")
        if not self.records:
            raise ValueError(self.text("error.undo"))
        key, row = next(reversed(self.records.items()))
        index = self._at[key]
        self._append({**self._about(self.items[index]), "status": "withdrawn", **stamp()})
        del self.records[key]
        self._drafts[key] = Draft.from_record(row, self._shuffled(index))
        self.open(index)
        return self.text("undone.item", number=index + 1)

    def _about(self, item):
        return {"schema": feedback.SCHEMA, "prompt_id": item["prompt_id"], "item_id": item["item_id"],
                "prompt": item["prompt"], "labeler": self.annotator}

    def _save(self, row):
        self._append(row)
        key = row["item_id"]
        self.records.pop(key, None)
        self.records[key] = row
        del self._drafts[key]
        self._keep()
        self.open_next()
        return row

    def _append(self, row):
        if self._saved and not Path(self.path).exists():  # moved or deleted meanwhile, and this page still knows it
            with whole_file(self.path) as new:
                new.write_bytes(b"".join(map(json_line, self._saved)))
        feedback.append_jsonl(self.path, row)  # first the disk: if it refuses, everything stays as it was
        self._saved.append(row)

