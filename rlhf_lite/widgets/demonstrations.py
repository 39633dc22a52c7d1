"""The writing page: a prompt, the base model's attempt, and room for the answer you would have liked to read.

The text is kept as a draft whenever the typing pauses, and counts once it is submitted. The logic is in `writing`.
"""

import asyncio

import ipywidgets as w

from rlhf_lite.widgets.keys import key_capture
from rlhf_lite.widgets.parts import Panel, button, escape, row, show, text_html

PAUSE = 1.0  # seconds without a keystroke after which the draft is saved


class DemonstrationWidget(Panel):
    """The page for a `DemonstrationSession`."""

    def __init__(self, session, pause=PAUSE):
        self.session, self.pause, self._timer = session, pause, None
        super().__init__("Write the answer you would have liked to read", (str(session.path), session.annotator))
        self.bar, self.prompt, self.attempt, self.count = w.HTML(), w.HTML(), w.HTML(), w.HTML()
        self.area = w.Textarea(rows=6, placeholder="Your answer", layout=w.Layout(width="95%"))
        self.save = button("Save and next", style="primary")
        self.back, self.forward = button("◀ Previous"), button("Next ▶")
        self.fold = button("Hide the model's attempt")
        self.on_value(self.area, self.do_write)
        for control, act in ((self.save, self.do_save), (self.back, lambda: self.go(-1)),
                             (self.forward, lambda: self.go(1)), (self.fold, self.do_fold)):
            self.on_click(control, act)
        self.hotkeys = key_capture([], lambda key: None, "Write a demonstration")  # only for its warning
        self.children = [self._style, *([self.hotkeys] if self.hotkeys else []), self.bar, self.prompt, self.fold,
                         self.attempt, self.area, self.count, row(self.save, self.back, self.forward), self.status]
        show(self.fold, any(prompt.get("attempt") for prompt in session.prompts))
        self.draw()
        self.say(" ".join(session.problems) or "Ready.")

    def __repr__(self):
        s = self.session
        return f"{len(s.records)} of {len(s.prompts)} written. No text box here? Rerun this cell; nothing is lost."

    def draw(self):
        s = self.session
        attempt = s.prompt.get("attempt", "")
        state = "submitted, then edited: save it again" if s.changed() else (
            "submitted" if s.prompt["prompt_id"] in s.records else "not submitted yet")
        self.load([(self.bar, f"<b>prompt {s.index + 1} of {len(s.prompts)}</b> &middot; {len(s.records)} written "
                              f"&middot; this one: {state}"),
                   (self.prompt, text_html(s.prompt["prompt"], "rlhf-prompt")), (self.area, s.text),
                   (self.attempt, f"<i>The model's attempt:</i>{text_html(attempt)}" if attempt else ""),
                   (self.count, self._count())])

    def _count(self):
        s = self.session
        count, problems = s.count_tokens(s.text.strip()) if s.text.strip() else 0, s.check() if s.text.strip() else []
        marks = "".join(f"<br>&#9888; {escape(problem)}" for problem in problems)
        return f"{count} of at most {s.max_tokens} tokens{'' if problems or not count else ' &#10003;'}{marks}"

    def do_write(self, text):
        """At every keystroke: count, check, and put off saving until the typing pauses."""
        self.session.write(text)
        self.load([(self.count, self._count())])
        self.stop_timer()
        try:
            self._timer = asyncio.get_running_loop().call_later(self.pause, self.safe(self.do_keep))
        except RuntimeError:  # no kernel, so nothing would wake us: save at once
            self.do_keep()

    def do_keep(self):
        if self.session.save():
            self.say("Draft saved.")

    def stop_timer(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self):
        """Keep what has been typed, then close the page."""
        self.stop_timer()
        self.session.save()
        super().close()

    def do_save(self):
        self.stop_timer()
        self.session.submit()
        self.draw()
        self.say(f"Saved. {len(self.session.records)} of {len(self.session.prompts)} written.")

    def go(self, step):
        self.stop_timer()
        self.session.open(min(max(self.session.index + step, 0), len(self.session.prompts) - 1))
        self.draw()
        self.say("")

    def do_fold(self):
        hidden = self.attempt.layout.display == "none"
        show(self.attempt, hidden)
        self.fold.description = "Hide the model's attempt" if hidden else "Show the model's attempt"
