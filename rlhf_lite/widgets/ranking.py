"""The ranking page: InstructGPT's labeling interface (App. B.5) in stock ipywidgets.

Read the prompt, look at each answer on its own (score, flags), then rank them all; ties are welcome. The session does
all the logic and all the saving; here are only the controls, in a fixed number of slots whose values change per item.
Every control can be reached with Tab and pressed with Space; number keys are an extra (see `keys`).
"""

import ipywidgets as w

from rlhf_lite.feedback import reveal
from rlhf_lite.widgets import labels
from rlhf_lite.widgets.draft import letter
from rlhf_lite.widgets.keys import key_capture
from rlhf_lite.widgets.parts import Panel, button, escape, row, show, text_html
from rlhf_lite.widgets.session import MOST, VERDICTS

GUIDELINES = """<ol><li><b>Look at each answer on its own</b> first: does it do what was asked, is what it says true,
could it do harm? "Scores and flags" opens a score from 1 (very bad) to 7 (very good) and boxes to tick.</li>
<li><b>Then rank all answers</b>: 1 is the best. Give equal ranks to answers of about the same quality; ties are
welcome.</li><li>What counts is being helpful, true and harmless, not length or fine words. You will not be told who
wrote what until the end.</li><li>If you cannot judge, skip and say why.</li></ol>"""
HELP = ("<b>Keys</b> (click on the page first): <b>1&ndash;9</b> rank the marked answer and go to the next &middot; "
        "<b>&uarr; &darr;</b> mark another &middot; <b>t</b> tie with the one above &middot; <b>f</b> scores and flags "
        "&middot; <b>Enter</b> save and next &middot; <b>s</b> skip &middot; <b>u</b> undo &middot; <b>?</b> this help")
PAIR_HELP = ("<b>Keys</b> (click on the page first): <b>1</b> A &middot; <b>2</b> B &middot; <b>t</b> tie &middot; "
             "<b>b</b> both bad &middot; <b>Enter</b> save and next &middot; <b>s</b> skip &middot; <b>u</b> undo")


def numbered(last):
    return [("none", 0), *((str(i), i) for i in range(1, last + 1))]


class Slot(w.VBox):
    """One answer on the page: its text, rank, score and flags. Flags share one layout, to keep 9 slots light."""

    def __init__(self, panel, place, most, shared):
        self.head, self.text = w.HTML(), w.HTML()
        self.rank = w.ToggleButtons(options=numbered(most), value=0, description="Rank",
                                    tooltips=["no rank", *(f"rank {i}" for i in range(1, most + 1))])
        self.score = w.ToggleButtons(options=numbered(7), value=0, description="Score",
                                     tooltips=["no score", "1: very bad", *"23456", "7: very good"])
        self.flags = {name: w.ToggleButton(description=text, **shared) for name, text in labels.FLAGS.items()}
        self.more = w.Button(description="More flags", **{**shared, "style": panel.plain})
        self.rest = row(*(self.flags[name] for name in labels.FLAGS if name not in labels.SHORT_FLAGS))
        self.few = row(*(self.flags[name] for name in labels.SHORT_FLAGS), self.more)
        show(self.rest, False)
        session = panel.session
        panel.on_value(self.rank, lambda value: panel.change(place, lambda: session.set_rank(place, value)))
        panel.on_value(self.score, lambda value: panel.change(place, lambda: session.set_score(place, value)))
        for name, flag in self.flags.items():
            panel.on_value(flag, lambda on, name=name: panel.change(place, lambda: session.set_flag(place, name, on)))
        panel.on_click(self.more, lambda: show(self.rest, self.rest.layout.display == "none"))
        self.judged = w.VBox([] if panel.brief else [self.score, self.few, self.rest])
        show(self.judged, False)
        ranked = row(self.head, self.rank)  # above the text: four short answers and their ranks fit on a small screen
        # Side by side, 20em is a width; in a column it would be a height and cut off the buttons of long answers.
        beside = {"flex": "1 1 20em", "min_width": "18em"} if session.pairs else {"flex": "0 0 auto"}
        super().__init__([ranked, self.text, self.judged], layout=w.Layout(margin="0 0 .6em 0", **beside))


class RankingWidget(Panel):
    """The page for a `RankingSession`. After a restart, run the cell again: it continues where the file ends.

    brief: only ranks: no scores, flags or note, and the guidelines folded.
    """

    def __init__(self, session, guidelines=GUIDELINES, brief=False):
        self.session, self.cursor, self._warned, self.brief = session, 0, False, brief
        super().__init__("Which answer is better?" if session.pairs else "Rank the answers",
                         (str(session.path), session.annotator))
        self.models = w.ToggleButton(), w.Button()  # never shown: their styles are shared
        shared, self.plain = {"layout": w.Layout(width="auto"), "style": self.models[0].style}, self.models[1].style
        self.bar, self.prompt = w.HTML(), w.HTML()
        self.progress = w.IntProgress(min=0, max=max(1, len(session.items)))
        most = max((len(item["responses"]) for item in session.items), default=MOST)
        self.slots = [Slot(self, place, most, shared) for place in range(most)]
        verdicts = [("none", ""), *((f"{v} is better" if len(v) == 1 else v, v) for v in VERDICTS)]
        self.verdict = w.ToggleButtons(options=verdicts, value="", description="Verdict")
        self.note = w.Textarea(description="Note", rows=2, layout=w.Layout(width="95%"))
        self.save, self.undo = button("Save and next", style="primary"), button("Undo")
        self.back, self.forward = button("◀ Previous"), button("Next ▶")
        self.skip, self.reason = button("Skip because:"), w.Dropdown(options=labels.REASONS)
        self.fold, self.help, self.names = button("Hide guidelines"), button("Keys"), button("Who wrote what?")
        self.judge = button("Scores and flags")
        self.guidelines, self.help_text = w.HTML(guidelines), w.HTML(PAIR_HELP if session.pairs else HELP)
        self.revealed = w.HTML()
        show(self.help_text, False)
        self._connect()
        hotkeys = [*"12tb"] if session.pairs else [*"123456789tf", "ArrowUp", "ArrowDown"]
        self.hotkeys = key_capture([*hotkeys, *"su?", "Enter"], self.safe(self.press), "Ranking")
        show(self.help, self.hotkeys is not None)
        answers = row(*self.slots) if session.pairs else w.VBox(self.slots)
        self.children = [self._style, *([self.hotkeys] if self.hotkeys else []), row(self.progress, self.bar),
                         row(self.fold, self.judge, self.help), self.guidelines, self.help_text, self.prompt, answers,
                         *([self.verdict] if session.pairs else []), self.note, row(self.save, self.undo, self.back,
                         self.forward), row(self.skip, self.reason), self.status, self.names, self.revealed]
        show(self.note, not brief)
        show(self.judge, not brief)
        self.draw()
        if brief or session.progress().ranked:
            self.do_fold()
        self.say(" ".join(session.problems) or "Ready.")

    def _connect(self):
        for control, act in ((self.save, self.do_save), (self.undo, self.do_undo), (self.skip, self.do_skip),
                             (self.back, lambda: self.go(-1)), (self.forward, lambda: self.go(1)),
                             (self.names, self.do_reveal), (self.fold, self.do_fold), (self.judge, self.do_judge),
                             (self.help, lambda: show(self.help_text, self.help_text.layout.display == "none"))):
            self.on_click(control, act)
        self.on_value(self.note, self.session.set_note)
        self.on_value(self.verdict, lambda value: self.change(0, lambda: self.session.choose(value)))

    def __repr__(self):
        done = self.session.progress()
        return f"{done.ranked + done.skipped} of {done.total} done. No buttons here? Rerun this cell; nothing is lost."

    # ---------------------------------------------------------------- what is on the page

    def draw(self):
        """Set every value on the page from the session."""
        session = self.session
        item, draft = session.item, session.draft
        done = session.progress()
        finished = done.ranked + done.skipped
        where = "all done" if item is None else f"item {session.index + 1} of {done.total}"
        values = [(self.bar, f"<b>{where}</b> &middot; saved {done.ranked} of {done.total} &middot; skipped "
                             f"{done.skipped} &middot; {done.seconds / 60:.0f} min"),
                  (self.progress, min(finished, self.progress.max)),
                  (self.prompt, text_html(item["prompt"], "rlhf-prompt") if item else
                   "<p>All done, thank you. You can still go back with Undo or Previous.</p>"),
                  (self.note, draft.note if item else "")]
        texts = session.shown() if item else []
        for place, slot in enumerate(self.slots):
            show(slot, place < len(texts))
            if place < len(texts):
                values += [(slot.text, text_html(texts[place])), (slot.rank, draft.ranks[place]),
                           (slot.score, draft.scores[place]), (slot.head, self._head(place, draft)),
                           *((flag, name in draft.flags[place]) for name, flag in slot.flags.items())]
            show(slot.rank, not session.pairs)
            for name, flag in slot.flags.items():
                on = place < len(texts) and name in draft.flags[place]
                flag.description = ("☑ " if on else "☐ ") + labels.FLAGS[name]  # a sign, not only a colour
        if session.pairs:
            verdict = "both bad" if item and draft.both_bad else next(
                (v for v, ranks in VERDICTS.items() if item and tuple(draft.ranks) == ranks), "")
            values.append((self.verdict, verdict))
        self.load(values)

    def _head(self, place, draft):
        mark = "&#9654; " if place == self.cursor and not self.session.pairs else ""
        rank, score = draft.ranks[place], draft.scores[place]
        ties = [letter(p) for p, r in enumerate(draft.ranks) if r == rank and p != place] if rank else []
        said = [f"rank {rank}" + (f" (tie with {', '.join(ties)})" if ties else "")] if rank else ["not ranked"]
        said += [f"score {score}"] if score else []
        said += [f"{len(draft.flags[place])} flag{'s' * (len(draft.flags[place]) > 1)}"] if draft.flags[place] else []
        return f"{mark}<b>Answer {letter(place)}</b>" + ("" if self.session.pairs else f" &middot; {', '.join(said)}")

    # ---------------------------------------------------------------- what a person does

    def change(self, place, act):
        """Make one entry; redraw the page even if the entry is refused, so that it shows what counts."""
        self.cursor = place
        try:
            act()
            self.say("")  # an earlier error no longer applies
        finally:
            self.draw()

    def do_save(self):
        saved = self.session.submit()
        if self.session.progress().ranked == 1 and self.guidelines.layout.display != "none":
            self.do_fold()  # read once; from now on the answers have the room
        self._moved(f"Saved: {saved['K']} answers ranked.")

    def do_skip(self):
        self.session.skip(self.reason.value)
        self._moved("Skipped.")

    def do_undo(self):
        before, said = self.session.index, self.session.undo()
        self.cursor = self.cursor if self.session.index == before else 0
        self.draw()
        if self.session.index != before:
            self.to_top()
        self.say(f"Undone: {said}.")

    def go(self, step):
        """Go to the item before or after, done or not."""
        last = len(self.session.items) - 1
        start = self.session.index if self.session.index is not None else last + (step < 0)
        self.session.open(min(max(start + step, 0), last))
        self._moved("")

    def _moved(self, text):
        self.cursor = 0
        self.draw()
        self.to_top()
        done = self.session.progress()
        self.say(f"{text} {done.ranked + done.skipped} of {done.total} done.")

    def do_fold(self):
        hidden = self.guidelines.layout.display == "none"
        show(self.guidelines, hidden)
        self.fold.description = "Hide guidelines" if hidden else "Show guidelines"

    def do_judge(self):
        """Show or hide scores and flags, of all answers and for all items to come."""
        hidden = self.slots[0].judged.layout.display == "none"
        for slot in self.slots:
            show(slot.judged, hidden)

    def do_reveal(self):
        """Show the sources: at once if everything is done, otherwise on the second click."""
        done = self.session.progress()
        left = done.total - done.ranked - done.skipped
        if left and not self._warned:
            self._warned = True
            return self.say(f"{left} items are still open, and knowing who wrote what could bias your rankings. "
                            "Press again to see it anyway.")
        found = reveal(self.session.rankings())
        rows = "".join(f"<tr><td>{escape(name)}</td><td>{s.mean_rank:.2f}</td><td>{100 * s.best:.0f} %</td>"
                       f"<td>{s.words:.1f}</td><td>{s.answers}</td></tr>" for name, s in found.items())
        self.revealed.value = ("<table><tr><th>source</th><th>mean rank (1 is best)</th><th>ranked best or tied</th>"
                               f"<th>words</th><th>answers</th></tr>{rows}</table>")
        self.say("The sources are shown below.")

    def press(self, key):
        """Handle a hotkey; there is a button for everything here."""
        acts = {"Enter": self.do_save, "s": self.do_skip, "u": self.do_undo, "?": self.help.click}
        if key in acts:
            return acts[key]()
        if self.session.pairs:
            verdict = {"1": "A", "2": "B", "t": "tie", "b": "both bad"}[key]
            return self.change(0, lambda: self.session.choose(verdict))
        count = len(self.session.item["responses"]) if self.session.item else 1
        place = min(self.cursor, count - 1)
        if key == "f":
            if self.brief:
                raise ValueError("there are no flags on this page")
            return self.judge.click()
        if key.startswith("Arrow"):
            return self.change(min(max(place + (1 if key == "ArrowDown" else -1), 0), count - 1), lambda: None)
        self.change(place, lambda: self.session.tie(place) if key == "t" else self.session.set_rank(place, int(key)))
        self.cursor = min(place + 1, count - 1)
        self.draw()
