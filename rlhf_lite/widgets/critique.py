"""The form for a mark: some words of an answer, typed or selected with the mouse, and one line about them."""

import ipywidgets as w

from rlhf_lite.widgets import marks
from rlhf_lite.widgets.draft import letter
from rlhf_lite.widgets.parts import button, escape, row, show


class Form(w.VBox):
    """Where marks are made, by typing or from a selection with the mouse; folded until asked for."""

    def __init__(self, panel, most):
        say = self.say = panel.text
        self.answer = w.Dropdown(description=say("mark.answer"), options=[(letter(p), p) for p in range(most)])
        self.words = w.Text(description=say("mark.words"), placeholder=say("mark.words.hint"), continuous_update=False)
        self.line = w.Text(description=say("mark.text"), placeholder=say("mark.text.hint"), continuous_update=False)
        self.add, self.remove = button(say("mark.add")), button(say("mark.remove"))
        self.span = None  # (place, start, end, words) of a selection
        super().__init__([w.HTML(escape(say("mark.how"))), row(self.answer, self.words, self.line, self.add,
                                                               self.remove)])
        self.add_class("rlhf-pane")
        show(self, False)

    def select(self, session, place, start, end):
        """Fill in what was selected with the mouse."""
        marks.check_span(session, place, start, end)
        words = session.shown()[place][start:end]
        self.span, self.answer.value, self.words.value = (place, start, end, words), place, words

    def chosen(self, session):
        """(place, start, end): the selection, or else the first time that the typed words occur."""
        place, words = self.answer.value, self.words.value
        if self.span and (place, words) == (self.span[0], self.span[3]):
            return self.span[:3]
        texts = session.shown()
        start = texts[place].find(words) if words.strip() and place < len(texts) else -1
        if start < 0:
            raise ValueError(self.say("error.words", letter=letter(place)))
        return place, start, start + len(words)

    def clear(self):
        self.span, self.words.value, self.line.value = None, "", ""
