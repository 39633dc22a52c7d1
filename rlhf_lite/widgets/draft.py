"""What has been entered for one item but is not on the disk yet, and how long that took."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rlhf_lite import __version__, feedback
from rlhf_lite.widgets import labels

IDLE = 300.0  # seconds without any action after which we assume that nobody is working


@dataclass
class Draft:
    """The entries for one item. Lists follow the places on the screen (from 0); 0 in them means "not set"."""

    order: list  # order[place] is the number of the answer shown there
    ranks: list
    scores: list
    flags: list  # a set of names per place
    note: str = ""
    both_bad: bool = False
    seconds: float = 0.0
    marks: list = field(default_factory=list)  # see `critique`

    @classmethod
    def from_record(cls, row, order):
        """The entries of a saved row ({} for a fresh item); `order` is used if the row does not give its own."""
        order = saved_order(row, len(order)) or order
        flags = row.get("flags") or [{}] * len(order)
        ranks, scores = (row.get(name) or [0] * len(order) for name in ("ranks", "scores"))
        return cls(order, [ranks[i] for i in order], [scores[i] for i in order],
                   [{name for name, on in flags[i].items() if on} for i in order],
                   str(row.get("note") or ""), bool(row.get("both_bad")), row.get("seconds", 0.0),
                   [{"place": order.index(mark["answer"]), **{name: mark[name] for name in ("start", "end", "text")}}
                    for mark in row.get("critique") or []])

    def begun(self):
        """Whether a person has entered anything."""
        return any([*self.ranks, *self.scores, *self.flags, self.note, self.marks])

    def record(self, item, annotator, need_scores, pairs, say):
        """The ranking record of these entries; a ValueError says what is still missing."""
        missing = [letter(place) for place, rank in enumerate(self.ranks) if not rank]
        if missing:
            raise ValueError(say("error.missing", letters=", ".join(missing)))
        unscored = [letter(place) for place, score in enumerate(self.scores) if not score]
        if unscored and (need_scores or len(unscored) < len(self.scores)):
            some = "" if need_scores else say("error.scores.some")
            raise ValueError(say("error.scores", some=some, letters=", ".join(unscored)))
        places = [self.order.index(i) for i in range(len(self.order))]  # back to the order the answers came in
        marks = [{"answer": self.order[mark["place"]], **{name: mark[name] for name in ("start", "end", "text")}}
                 for mark in self.marks]
        return feedback.new_ranking(
            **item, ranks=[self.ranks[p] for p in places], labeler=annotator, seconds=round(self.seconds, 2),
            scores=None if unscored else [self.scores[p] for p in places],
            flags=[{name: name in self.flags[p] for name in labels.FLAGS} for p in places],
            shown_order=self.order, note=self.note, **({"both_bad": self.both_bad} if pairs else {}),
            **({"critique": marks} if marks else {}), **stamp())


@dataclass
class Stopwatch:
    """Adds up working time: the gaps between actions, none of which counts for more than IDLE seconds."""

    clock: object = time.monotonic
    last: float | None = None

    def lap(self):
        now = self.clock()
        gap, self.last = (0.0 if self.last is None else now - self.last), now
        return min(max(gap, 0.0), IDLE)


def saved_order(row, count):
    """The blind order a row was made in, or None if it does not say."""
    order = row.get("shown_order")
    known = isinstance(order, list) and all(type(i) is int for i in order) and sorted(order) == list(range(count))
    return list(order) if known else None


def stamp():
    """The time and the version with which a row was written."""
    return {"saved": datetime.now(UTC).isoformat(timespec="seconds"), "app": f"rlhf_lite {__version__}"}


def letter(place):
    """A, B, C ... for places 0, 1, 2 ..."""
    return chr(ord("A") + place)
