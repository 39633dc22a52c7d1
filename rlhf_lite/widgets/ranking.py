"""The ranking page: InstructGPT's labeling interface (App. B.5) in stock ipywidgets.

Read the prompt, look at each answer on its own (score, flags, marked words), then rank them all; ties are welcome. The
session does all the logic and all the saving; here are only the controls, a fixed number of cards whose values change
per item. Every control can be reached with Tab and pressed with Space; keys and clicks on cards are extras (`keys`).
"""

from pathlib import Path

import ipywidgets as w

from rlhf_lite import stats
from rlhf_lite.feedback import reveal
from rlhf_lite.widgets import labels, marks
from rlhf_lite.widgets.card import Card, Shared
from rlhf_lite.widgets.critique import Form
from rlhf_lite.widgets.keys import key_capture
from rlhf_lite.widgets.language import speaker
from rlhf_lite.widgets.order import in_words, ladder_html
from rlhf_lite.widgets.parts import Panel, button, escape, row, show, text_html
from rlhf_lite.widgets.session import MOST, VERDICTS

CSS = f'<style>{Path(__file__).with_name("ranking.css").read_text(encoding="utf-8")}</style>'
THEMES = ("auto", "light", "dark", "contrast")
MOVES = {"ArrowDown": 1, "ArrowRight": 1, "ArrowUp": -1, "ArrowLeft": -1}


class RankingWidget(Panel):
    """The page for a `RankingSession`. After a restart, run the cell again: it continues where the file ends.

    brief: only ranks: no scores, flags, marks or note, and the guidelines folded. guidelines: HTML of your own.
    language: a file in texts/, for example "de"; None means $RLHF_LITE_LANGUAGE, or English. theme: one of THEMES.
    """

    def __init__(self, session, guidelines=None, brief=False, language=None, theme="auto"):
        if theme not in THEMES:
            raise ValueError(f"there is no theme {theme!r}; use one of {', '.join(THEMES)}")
        self.session, self.cursor, self._warned, self.brief, self.theme = session, 0, False, brief, theme
        say = self.text = session.text = speaker(language)
        super().__init__(say("title.pairs" if session.pairs else "title"), (str(session.path), session.annotator))
        self._style.value += CSS
        self._make(guidelines or say("guidelines"))
        self._connect()
        hotkeys = [*"12tb"] if session.pairs else [*"0123456789tf ", *MOVES]
        self.hotkeys = key_capture([*hotkeys, *"msu?", "Enter"], self.safe(self.press), say("title"),
                                   on_card=self.safe(self.card), lost={name: say(f"lost.{name}") for name in
                                                                       ("restart", "busy")}, progress=say("progress"))
        self._arrange()
        for name in ("rlhf-ranking", f"rlhf-{theme}", *(["rlhf-clicks"] if self.hotkeys else [])):
            self.add_class(name)
        self.draw()
        if brief or session.progress().ranked:
            self.do_fold()
        self.say(" ".join(session.problems) or say("ready"))

    def _make(self, guidelines):
        say, session, shared = self.text, self.session, Shared()
        self.models = shared.models  # so that they are closed with the page
        self.bar, self.prompt, self.order = w.HTML(), w.HTML(), w.HTML()
        self.progress = w.IntProgress(min=0, max=max(1, len(session.items)))
        most = max((len(item["responses"]) for item in session.items), default=MOST)
        self.slots = [Card(self, place, most, shared) for place in range(most)]
        verdicts = [(say("verdict.none"), ""), *((say(f"verdict.{v}"), v) for v in VERDICTS)]
        self.verdict = w.ToggleButtons(options=verdicts, value="", description=say("verdict"))
        self.note = w.Textarea(description=say("note"), placeholder=say("note.hint"), rows=1,
                               layout=w.Layout(width="auto", height="auto"))
        self.save, self.undo = button(say("save"), style="primary"), button(say("undo"))
        self.back, self.forward = button(say("previous")), button(say("next"))
        self.skip, self.reasons = button(say("skip")), [button(f"{n}  {reason}")
                                                        for n, reason in enumerate(say("reasons"), 1)]
        self.why = row(w.HTML(f'<b>{escape(say("skip.why"))}</b>'), *self.reasons)
        self.fold, self.help = button(say("guidelines.hide")), button(say("keys"))
        self.judge, self.mark, self.names = button(say("judge")), button(say("mark")), button(say("names"))
        self.look = button(say("theme", theme=say(f"theme.{self.theme}")))
        self.guidelines = w.HTML(guidelines)
        self.help_text = w.HTML(say("help.pairs" if session.pairs else "help"))
        self.form, self.revealed = Form(self, most), w.HTML()

    def _arrange(self):
        answers = row(*self.slots)
        answers.add_class("rlhf-cards")
        head = row(self._style, self.progress, self.bar, row(self.back, self.forward))
        head.add_class("rlhf-header")
        tools = row(self.fold, self.judge, self.mark, self.help, self.names, self.look)
        done = row(self.verdict if self.session.pairs else self.order, row(self.save, self.undo, self.skip))
        for part, name in ((self.guidelines, "rlhf-pane"), (self.help_text, "rlhf-pane"), (self.why, "rlhf-pane"),
                           (self.order, "rlhf-ladder"), (tools, "rlhf-tools"), (done, "rlhf-done")):
            part.add_class(name)
        self.children = [*([self.hotkeys] if self.hotkeys else []), head, tools, self.guidelines, self.help_text,
                         self.prompt, answers, self.form, self.note, done, self.why, self.status, self.revealed]
        for part, visible in ((self.help_text, False), (self.why, False), (self.note, not self.brief),
                              (self.judge, not self.brief), (self.mark, not self.brief),
                              (self.help, self.hotkeys is not None)):
            show(part, visible)

    def _connect(self):
        for control, act in ((self.save, self.do_save), (self.undo, self.do_undo), (self.skip, self.do_why),
                             (self.back, lambda: self.go(-1)), (self.forward, lambda: self.go(1)),
                             (self.names, self.do_reveal), (self.fold, self.do_fold), (self.judge, self.do_judge),
                             (self.mark, self.do_form), (self.form.add, self.do_mark),
                             (self.form.remove, self.do_unmark), (self.look, self.do_look),
                             (self.help, lambda: show(self.help_text, self.help_text.layout.display == "none")),
                             *((reason, lambda n=n: self.do_skip(n)) for n, reason in enumerate(self.reasons))):
            self.on_click(control, act)
        self.on_value(self.note, self.session.set_note)
        self.on_value(self.verdict, lambda value: self.change(0, lambda: self.session.choose(value)))

    def __repr__(self):
        done = self.session.progress()
        return self.text("repr", done=done.ranked + done.skipped, total=done.total)

    # ---------------------------------------------------------------- what is on the page

    def draw(self):
        """Set every value on the page from the session."""
        session, say = self.session, self.text
        item, draft, done = session.item, session.draft, session.progress()
        where = say("where.done") if item is None else say("where", number=session.index + 1, total=done.total)
        bar = say("bar", saved=done.ranked, total=done.total, skipped=done.skipped, minutes=f"{done.seconds / 60:.0f}")
        values = [(self.bar, f"<b>{escape(where)}</b> &middot; {escape(bar)}"),
                  (self.progress, min(done.ranked + done.skipped, self.progress.max)),
                  (self.prompt, text_html(item["prompt"], "rlhf-prompt") if item else self._goodbye()),
                  (self.order, ladder_html(draft.ranks, say) if item else ""), (self.note, draft.note if item else "")]
        for place, slot in enumerate(self.slots):
            values += slot.draw(session, place == self.cursor and not session.pairs)
        if session.pairs:
            verdict = "both bad" if item and draft.both_bad else next(
                (v for v, ranks in VERDICTS.items() if item and tuple(draft.ranks) == ranks), "")
            values.append((self.verdict, verdict))
        self.load(values)

    def _goodbye(self):
        """Thanks, and how far people agree with themselves on what they saw twice."""
        found = stats.self_consistency(self.session.rankings())
        twice = self.text("consistency", prompts=found.prompts, percent=f"{found.percent:.0f}", pairs=found.n)
        return (f'<p class="rlhf-thanks">{escape(self.text("thanks"))}</p>'
                + (f'<p class="rlhf-consistency">{escape(twice)}</p>' if found.n else ""))

    # ---------------------------------------------------------------- what a person does

    def change(self, place, act):
        """Make one entry; redraw the page even if the entry is refused, so that it shows what counts."""
        self.cursor = place
        try:
            act()
            ranks = self.session.draft.ranks if self.session.draft else []
            # An earlier error no longer applies. The order can be seen; it is said for those who hear the page.
            self.say("" if self.session.pairs else in_words(ranks, self.text), seen=False)
        finally:
            self.draw()

    def card(self, kind, place, start=0, end=0):
        """A click on a card ("pick", or "tie" with Shift), or words selected in it ("select")."""
        if kind == "select":
            return self.form.select(self.session, place, start, end)
        if self.session.pairs:
            return self.change(0, lambda: self.session.choose("AB"[place]))
        return self.change(place, lambda: self.session.pick(place, tie=kind == "tie"))

    def do_save(self):
        saved = self.session.submit()
        if self.session.progress().ranked == 1 and self.guidelines.layout.display != "none":
            self.do_fold()  # read once; from now on the answers have the room
        self._moved(self.text("saved", number=saved["K"]))

    def do_why(self):
        """Ask for the reason before skipping: none is chosen in advance."""
        asking = self.why.layout.display == "none"
        show(self.why, asking)
        self.say(self.text("skip.ask" if asking else "skip.kept"))

    def do_skip(self, number):
        self.session.skip(labels.REASONS[number])
        self._moved(self.text("skipped"))

    def do_undo(self):
        before, said = self.session.index, self.session.undo()
        self.cursor = self.cursor if self.session.index == before else 0
        self.draw()
        if self.session.index != before:
            self.to_top()
        self.say(self.text("undone", what=said))

    def go(self, step):
        """Go to the item before or after, done or not."""
        last = len(self.session.items) - 1
        start = self.session.index if self.session.index is not None else last + (step < 0)
        self.session.open(min(max(start + step, 0), last))
        self._moved("")

    def _moved(self, text):
        self.cursor = 0
        show(self.why, False)
        self.form.clear()
        self.draw()
        self.to_top()
        done = self.session.progress()
        self.say(f'{text} {self.text("done", done=done.ranked + done.skipped, total=done.total)}'.strip())

    def do_fold(self):
        hidden = self.guidelines.layout.display == "none"
        show(self.guidelines, hidden)
        self.fold.description = self.text("guidelines.hide" if hidden else "guidelines.show")

    def do_judge(self):
        """Show or hide scores and flags, of all answers and for all items to come."""
        hidden = self.slots[0].judged.layout.display == "none"
        for slot in self.slots:
            show(slot.judged, hidden)

    def do_form(self):
        show(self.form, self.form.layout.display == "none")

    def do_mark(self):
        place, start, end = self.form.chosen(self.session)
        self.change(place, lambda: marks.add(self.session, place, start, end, self.form.line.value))
        self.say(self.text("mark.added", letter="ABCDEFGHI"[place], words=self.form.words.value))
        self.form.clear()

    def do_unmark(self):
        self.change(self.cursor, lambda: marks.remove(self.session))
        self.say(self.text("mark.removed"))

    def do_look(self):
        """The next theme."""
        self.remove_class(f"rlhf-{self.theme}")
        self.theme = THEMES[(THEMES.index(self.theme) + 1) % len(THEMES)]
        self.add_class(f"rlhf-{self.theme}")
        self.look.description = self.text("theme", theme=self.text(f"theme.{self.theme}"))

    def do_reveal(self):
        """Show the sources: at once if everything is done, otherwise on the second click."""
        done = self.session.progress()
        left = done.total - done.ranked - done.skipped
        if left and not self._warned:
            self._warned = True
            return self.say(self.text("names.warning", left=left))
        found = reveal(self.session.rankings())
        rows = "".join(f"<tr><td>{escape(name)}</td><td>{s.mean_rank:.2f}</td><td>{100 * s.best:.0f} %</td>"
                       f"<td>{s.words:.1f}</td><td>{s.answers}</td></tr>" for name, s in found.items())
        self.revealed.value = f"<table><tr>{self.text('names.table')}</tr>{rows}</table>"
        return self.say(self.text("names.shown"))

    def press(self, key):
        """Handle a hotkey; there is a button for everything here."""
        acts = {"Enter": self.do_save, "s": self.do_why, "u": self.do_undo, "?": self.help.click}
        if key in acts:
            return acts[key]()
        if self.why.layout.display != "none" and key in "12345":
            return self.do_skip(int(key) - 1)
        if key in "fm" and self.brief:
            raise ValueError(self.text("judge.none"))
        if key in "fm":
            return (self.judge if key == "f" else self.mark).click()
        if self.session.pairs:
            verdict = {"1": "A", "2": "B", "t": "tie", "b": "both bad"}[key]
            return self.change(0, lambda: self.session.choose(verdict))
        count = len(self.session.item["responses"]) if self.session.item else 1
        place = min(self.cursor, count - 1)
        if key in MOVES:
            return self.change(min(max(place + MOVES[key], 0), count - 1), lambda: None)
        if key == " ":
            return self.card("pick", place)
        self.change(place, lambda: self.session.tie(place) if key == "t" else self.session.set_rank(place, int(key)))
        self.cursor = min(place + 1, count - 1)
        return self.draw()
