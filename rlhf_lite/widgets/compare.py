"""A blind vote between two policies on your own prompts: which one do you prefer, and how sure is that?

A policy is a function prompt -> text, or a dict of recorded answers. Left and right are drawn afresh for every prompt,
the running win rate calls them X and Y, and the names are shown only when you ask. Votes are ranking records of two
answers in the annotator's file, so they can be merged and trained on like any others.

"Both bad" counts as a tie in the win rate: neither was better.

`recorded_vote` does the same with the real thing: the answers of GPT-3 and InstructGPT to 252 requests.
"""

import hashlib
import random
import re
from pathlib import Path

import ipywidgets as w

from rlhf_lite import stats
from rlhf_lite.plain import told
from rlhf_lite.widgets import labels
from rlhf_lite.widgets.keys import key_capture
from rlhf_lite.widgets.names import my_name
from rlhf_lite.widgets.parts import Panel, button, escape, row, show, text_html
from rlhf_lite.widgets.session import VERDICTS, RankingSession


class Comparison:
    """The vote without widgets. names: those of the two policies; prompts: for `ask_next`, one after another.

    id_prefix: how the prompt ids begin. note: a sentence shown above the answers. whole: {name: {prompt: text}} if the
    answers are shown shortened; the whole ones can be seen after the vote.
    """

    def __init__(self, first, second, names=("first", "second"), prompts=(), annotator=None, path=None, seed=0,
                 id_prefix="own-", note="", whole=None):
        if len(names) != 2 or names[0] == names[1]:
            raise ValueError(f"the names are {names!r}; give two different ones, because votes are counted by name")
        annotator = my_name() if annotator is None else annotator
        self.policies, self.names, self.prompts = (first, second), tuple(names), list(prompts)
        self.id_prefix, self.note, self.whole = id_prefix, note, whole
        found = labels.rankings(path or labels.default_path(str(annotator)))[0]
        saved = [row for row in found if self._mine(row, str(annotator))]
        self.session = RankingSession(saved, annotator, path, seed, pairs=True)

    def _mine(self, row, annotator):
        sources = tuple(response.get("source") for response in row["responses"])
        return sources == self.names and row["labeler"] == annotator and "both_bad" in row

    def ask(self, prompt):
        """Let both policies answer a prompt and open the vote; returns the two texts in the order on the screen."""
        prompt = str(prompt)
        if not prompt.strip():
            raise ValueError("the prompt is empty; write one first")
        texts = [self._answer(policy, name, prompt) for policy, name in zip(self.policies, self.names, strict=True)]
        # The same prompt has the same id for everybody, so that two people's votes can be compared.
        item = {"prompt_id": self.id_prefix + _digest(prompt),
                "item_id": f"compare-{_digest(prompt, *self.names, *texts)}", "prompt": prompt,
                "responses": [{"text": text, "source": name}
                              for text, name in zip(texts, self.names, strict=True)]}
        if self.session.place_of(item["item_id"]) is None:
            self.session.extend([item])
        self.session.open(self.session.place_of(item["item_id"]))
        return self.session.shown()

    def _answer(self, policy, name, prompt):
        if callable(policy):
            text = policy(prompt)
            if not isinstance(text, str):
                raise ValueError(f"{name} returned {type(text).__name__} instead of a text; is there a return at the "
                                 "end of the function?")
            return text
        if prompt not in policy:
            raise ValueError(f"there is no recorded answer from {name} to this prompt; choose one of its prompts")
        return policy[prompt]

    def ask_next(self):
        """Ask the next prompt from the list given at the start; None when all have been voted on."""
        voted = {row["prompt"] for row in self.session.rankings()}
        prompt = next((prompt for prompt in self.prompts if prompt not in voted), None)
        return None if prompt is None else self.ask(prompt)

    def vote(self, verdict):
        """Vote "A" (left), "B", "tie" or "both bad" on the open prompt, and save it at once; returns the record."""
        self.session.choose(verdict)
        return self.session.submit()

    def untouched(self):
        """(prompt, {name: whole text}) of the last prompt voted on, no longer blind; None before the first vote."""
        voted = self.session.rankings()
        if not voted or self.whole is None:
            return None
        prompt = voted[-1]["prompt"]
        return prompt, {name: self.whole[name][prompt] for name in self.names}

    def win_rate(self):
        """How often the first policy was preferred to the second, with ties as halves, as a `stats.Interval`."""
        ranks = [row["ranks"] for row in self.session.rankings()]
        return stats.win_rate(sum(a < b for a, b in ranks), sum(a == b for a, b in ranks), len(ranks))


NOTE = ("Both answers are cut after the same number of words, even in mid-sentence: GPT-3 does not stop by itself, so "
        "its whole answers would give it away. After your vote you can see both in full. These answers are for "
        "reading and ranking only; nothing is ever trained on them.")


def recorded_vote(model="text-davinci-001", annotator=None, path=None, seed=0, most_words=None):
    """A blind vote between GPT-3 (davinci) and an InstructGPT model on up to 252 recorded requests -> Comparison.

    model: according to OpenAI's model index for researchers, "text-davinci-001" was tuned on demonstrations and on
    answers that labelers gave 7 of 7; so was "-002", and "-003" by PPO, as in the paper, but both of these started
    from a newer base model that had read more, so not all of their lead is alignment. most_words: leaves out longer
    requests and longer cut answers. The order depends only on the seed, so that a class can compare.

    The votes go to their own folder, runs/votes, and their prompt ids begin with "reading-only-", which `my_model`
    refuses to train on. If the data is not available, this raises the errors of `download.find`.
    """
    from rlhf_lite.real import human_data  # imports PyTorch, which the other votes here do not need

    answers = human_data.recorded_answers()
    if model not in answers or model == "davinci":
        raise ValueError(f"there are no answers from {model!r}; choose one of {', '.join(list(answers)[1:])}")
    whole = {name: {row.request: row.recorded for row in answers[name]} for name in ("davinci", model)}
    cut = {prompt: equal_length(text, whole[model][prompt]) for prompt, text in whole["davinci"].items()}
    prompts = [prompt for prompt, texts in cut.items() if most_words is None
               or max(len(text.split()) for text in (prompt, *texts)) <= most_words]
    random.Random(f"{seed}").shuffle(prompts)
    annotator = my_name() if annotator is None else annotator
    path = path or Path("runs/votes") / labels.default_path(str(annotator)).name
    return Comparison(*({prompt: texts[i] for prompt, texts in cut.items()} for i in (0, 1)), ("davinci", model),
                      prompts, annotator, path, seed, human_data.READING_ONLY, NOTE, whole)


def equal_length(first, second):
    """Two texts, both cut to the number of words of the shorter one and stripped, so that neither can win by length.

    Line breaks stay. Words are whatever is separated by white space.
    """
    words = min(len(first.split()), len(second.split()))
    return tuple(re.match(rf"\s*(?:\S+\s*){{{words}}}", text).group().strip() for text in (first, second))


class CompareWidget(Panel):
    """The page for a `Comparison`: write a prompt, read both answers, vote."""

    def __init__(self, comparison):
        self.comparison = comparison
        super().__init__("Which answer is better?", (str(comparison.session.path), *comparison.names))
        self.prompt = w.Textarea(placeholder="Write a prompt", rows=3, layout=w.Layout(width="95%"))
        self.ask, self.following = button("Ask both", style="primary"), button("Next prompt")
        self.asked, self.rate = w.HTML(), w.HTML()
        self.texts = [w.HTML(layout=w.Layout(flex="1 1 18em", min_width="16em")) for _ in "AB"]
        self.votes = {v: button(f"{v} is better" if len(v) == 1 else v.capitalize()) for v in VERDICTS}
        self.undo, self.names, self.uncut = button("Undo"), button("Show names"), button("Show the last two in full")
        self.whole = [w.HTML(layout=w.Layout(flex="1 1 18em", min_width="16em")) for _ in "AB"]
        show(self.uncut, comparison.whole is not None)
        self.revealed = False
        show(self.following, bool(comparison.prompts))
        self.on_click(self.ask, lambda: self._show(lambda: comparison.ask(self.prompt.value)))
        self.on_click(self.following, lambda: self._show(comparison.ask_next))
        self.on_click(self.undo, self.do_undo)
        self.on_click(self.names, self.do_names)
        self.on_click(self.uncut, self.do_uncut)
        for verdict, vote in self.votes.items():
            self.on_click(vote, lambda verdict=verdict: self.do_vote(verdict))
        self.hotkeys = key_capture([*"12tbu"], self.safe(self.press), "Blind comparison")
        show(self.prompt, comparison.whole is None)  # recorded models cannot be asked anything new
        show(self.ask, comparison.whole is None)
        self.children = [self._style, *([self.hotkeys] if self.hotkeys else []), w.HTML(escape(comparison.note)),
                         self.prompt, row(self.ask, self.following), self.asked, row(*self.texts),
                         row(*self.votes.values(), self.undo, self.names, self.uncut), self.rate, self.status,
                         row(*self.whole)]
        self.draw()
        asked = True
        if comparison.prompts and comparison.session.item is None:
            asked = self.safe(lambda: self._show(comparison.ask_next) or True)()  # None if it went wrong, and says so
        keys = " Keys: 1 A, 2 B, t tie, b both bad, u undo." if self.hotkeys else ""
        if asked:
            self.say(" ".join(comparison.session.problems) or f"Ready.{keys}")

    def _show(self, act):
        self.say("Both are writing ...")
        found = act()
        self.draw()
        own = "" if self.comparison.whole else " You can write your own."
        self.say(f"All the prompts have been voted on.{own}" if found is None else "Read and vote."
                 if found[0] != found[1] else "Both wrote the same: vote a tie.")

    def draw(self):
        session = self.comparison.session
        item = session.item
        shown = session.shown() if item else ("", "")
        self.load([(self.asked, text_html(item["prompt"], "rlhf-prompt") if item else ""),
                   *((part, f"<b>{letter}</b>{text_html(text)}" if item else "")
                     for part, text, letter in zip(self.texts, shown, "AB", strict=True)), (self.rate, self._rate())])
        for vote in self.votes.values():
            vote.disabled = item is None

    def _rate(self):
        rate = self.comparison.win_rate()
        x, y = self.comparison.names if self.revealed else ("X", "Y")
        if not rate.n:
            return "No votes yet."
        return (f"<b>{escape(x)}</b> is preferred to <b>{escape(y)}</b> in {100 * rate.value:.0f} % of {rate.n} votes, "
                f"95 % interval {100 * rate.low:.0f} to {100 * rate.high:.0f} % (ties and both bad count one half)")

    def do_vote(self, verdict):
        row = self.comparison.vote(verdict)
        try:
            if self.comparison.prompts and self.comparison.session.item is None:
                self.comparison.ask_next()
        except Exception as error:
            raise RuntimeError(f"the vote was saved, but the next prompt got no answers: {told(error)}") from error
        finally:
            self.draw()
        who = ""
        if self.revealed:
            who = " A was {}, B was {}.".format(*(row["responses"][i]["source"] for i in row["shown_order"]))
        self.say(f"Saved: {verdict}.{who}")

    def do_undo(self):
        said = self.comparison.session.undo()
        self.draw()
        self.say(f"Undone: {said}.")

    def do_names(self):
        self.revealed = not self.revealed
        self.names.description = "Hide names" if self.revealed else "Show names"
        self.draw()

    def do_uncut(self):
        found = self.comparison.untouched()
        if found is None:
            raise ValueError("vote first; whole answers would tell you who wrote which")
        for part, (name, text) in zip(self.whole, found[1].items(), strict=True):
            part.value = f"<b>{escape(name)}</b>, in full, {len(text.split())} words{text_html(text)}"
        self.say("The answers to the prompt you voted on last are shown below, with their names.")

    def press(self, key):
        self.do_undo() if key == "u" else self.do_vote({"1": "A", "2": "B", "t": "tie", "b": "both bad"}[key])


def _digest(*texts):
    return hashlib.sha256("\0".join(texts).encode("utf-8", "backslashreplace")).hexdigest()[:12]
