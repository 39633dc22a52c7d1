"""One answer on the ranking page: a card with its rank, its text with marks, and, when asked for, score and flags."""

import ipywidgets as w

from rlhf_lite.widgets import labels, marks
from rlhf_lite.widgets.draft import letter
from rlhf_lite.widgets.parts import escape, row, show, text_html


class Shared:
    """One layout and one style for all flags of a page: with 9 cards, 99 of each would make it slow."""

    def __init__(self):
        self.models = w.ToggleButton(), w.Button()  # never shown
        layout = w.Layout(width="auto")
        self.flag = {"layout": layout, "style": self.models[0].style}
        self.button = {"layout": layout, "style": self.models[1].style}


class Card(w.VBox):
    """The controls of the answer at a place. They are made once; `draw` sets their values for the open item."""

    def __init__(self, panel, place, most, shared):
        say, session = panel.text, panel.session
        self.place, self.say = place, say
        self.head, self.text = w.HTML(), w.HTML()
        self.rank = w.ToggleButtons(options=[("–", 0), *((str(i), i) for i in range(1, most + 1))], value=0,
                                    tooltips=[say("rank.no"), *(say("rank", rank=i) for i in range(1, most + 1))])
        self.score = w.ToggleButtons(
            options=[("–", 0), *((str(i), i) for i in range(1, 8))], value=0, description=say("score"),
            tooltips=[say("score.no"), say("score.worst"), *(say("score.one", score=i) for i in range(2, 7)),
                      say("score.best")])
        self.flags = {name: w.ToggleButton(description=text, **shared.flag) for name, text in say("flags").items()}
        self.more = w.Button(description=say("flags.button"), **shared.button)
        self.rest = row(*(self.flags[name] for name in labels.FLAGS if name not in labels.SHORT_FLAGS))
        self.few = row(*(self.flags[name] for name in labels.SHORT_FLAGS), self.more)
        self.judged = w.VBox([] if panel.brief else [self.score, self.few, self.rest])
        show(self.rest, False)
        show(self.judged, False)
        panel.on_value(self.rank, lambda value: panel.change(place, lambda: session.set_rank(place, value)))
        panel.on_value(self.score, lambda value: panel.change(place, lambda: session.set_score(place, value)))
        for name, flag in self.flags.items():
            panel.on_value(flag, lambda on, name=name: panel.change(place, lambda: session.set_flag(place, name, on)))
        panel.on_click(self.more, lambda: show(self.rest, self.rest.layout.display == "none"))
        top = row(self.head, self.rank)  # above the text: short answers and their ranks fit on a small screen
        top.add_class("rlhf-top")
        super().__init__([top, self.text, self.judged])
        for name in ("rlhf-card", f"rlhf-place-{place}"):  # the number tells keys.js which card was clicked
            self.add_class(name)

    def draw(self, session, here):
        """Show the card if the open item has such an answer; returns the (widget, value) pairs to load.

        here: whether the keys act on this card.
        """
        texts = session.shown() if session.item else []
        used, draft = self.place < len(texts), session.draft
        show(self, used)
        show(self.rank, not session.pairs)
        for name, flag in self.flags.items():
            on = used and name in draft.flags[self.place]
            flag.description = ("☑ " if on else "☐ ") + self.say("flags")[name]  # a sign, not only a colour
        if not used:
            return []
        ranked = session.pairs and draft.ranks[self.place] == 1 or not session.pairs and draft.ranks[self.place] > 0
        for name, on in (("rlhf-here", here), ("rlhf-ranked", ranked)):
            (self.add_class if on else self.remove_class)(name)
        mine = [mark for mark in draft.marks if mark["place"] == self.place]
        body = text_html(texts[self.place], body=marks.marked_html(texts[self.place], mine)) + marks.lines_html(mine)
        return [(self.text, body), (self.rank, draft.ranks[self.place]), (self.score, draft.scores[self.place]),
                (self.head, self._head(draft, session.pairs)),
                *((flag, name in draft.flags[self.place]) for name, flag in self.flags.items())]

    def _head(self, draft, pairs):
        say, rank, score, flags = (self.say, *(values[self.place] for values in
                                               (draft.ranks, draft.scores, draft.flags)))
        name = f'<b>{escape(say("answer", letter=letter(self.place)))}</b>'
        ties = [letter(p) for p, r in enumerate(draft.ranks) if r == rank and p != self.place] if rank else []
        said = [] if pairs else [say("rank", rank=rank) if rank else say("rank.not")]
        if ties and not pairs:
            said[0] += f' ({say("tie", letters=", ".join(ties))})'
        said += [say("score.one", score=score)] if score else []
        said += [say("flags.one") if len(flags) == 1 else say("flags.more", number=len(flags))] if flags else []
        return f'<span class="rlhf-head">{" &middot; ".join([name, *map(escape, said)])}</span>'
