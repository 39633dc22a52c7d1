"""Writing demonstrations, without any widgets: what a labeler does before there is a model worth ranking.

A person sees a prompt (and what the base model makes of it) and writes the answer they would have liked to read
(InstructGPT section 3.2). The text is saved as a draft at every pause in the typing, and becomes a demonstration when
it is submitted. Both are lines in the annotator's file; a submitted answer can be reopened and rewritten at any time.

Left out: spell checking, and any judgement of the content.
"""

import time

from rlhf_lite import feedback
from rlhf_lite.widgets import labels, names
from rlhf_lite.widgets.draft import Stopwatch, stamp

MAX_TOKENS = 40  # the limit for the policies too, END included


class DemonstrationSession:
    """One annotator writing answers to prompts.

    prompts: dicts {"prompt_id", "prompt", optional "use_case", "split", "attempt"}; the attempt is the base model's.
    count_tokens: a function text -> number of tokens (default: words); max_tokens: the most an answer may have.
    """

    def __init__(self, prompts, annotator=None, path=None, count_tokens=None, max_tokens=MAX_TOKENS,
                 clock=time.monotonic):
        self.annotator = str(names.my_name() if annotator is None else annotator)
        if not self.annotator.strip():
            raise ValueError("the annotator has no name; give one, to say who wrote these answers")
        self.path = path or labels.default_path(self.annotator)
        self.count_tokens, self.max_tokens = count_tokens or (lambda text: len(text.split())), max_tokens
        self.prompts = [dict(prompt) for prompt in prompts]
        if not self.prompts:
            raise ValueError("there are no prompts; give at least one")
        self._at = {prompt["prompt_id"]: i for i, prompt in enumerate(self.prompts)}
        if len(self._at) < len(self.prompts):
            raise ValueError("two prompts have the same prompt_id; give each its own")
        self.records, self._texts, self._seconds, self._watch = {}, {}, {}, Stopwatch(clock)
        rows, self.problems = labels.read_labels(self.path)
        if path is None:
            labels.check_owner(self.path, rows, self.annotator)
        for row in rows:
            key = row["prompt_id"]
            if row.get("author") == self.annotator and key in self._at:
                self._texts[key] = row["draft"] if "draft" in row else row["response"]
                self._seconds[key] = row.get("seconds", 0.0)
                if "response" in row:
                    self.records[key] = row
        self._on_disk = dict(self._texts)
        self.index = 0
        self.open_next()

    @property
    def prompt(self):
        """The open prompt."""
        return self.prompts[self.index]

    @property
    def text(self):
        """What has been written for the open prompt so far."""
        return self._texts.get(self.prompt["prompt_id"], "")

    def open(self, index):
        """Go to any prompt, written or not, after saving what was typed for the current one."""
        if not 0 <= index < len(self.prompts):
            raise ValueError(f"there is no prompt {index + 1}; they go from 1 to {len(self.prompts)}")
        self.save()
        self.index = index
        self._watch.lap()

    def open_next(self):
        """Open the next prompt without a submitted answer; if all have one, the prompt after the open one."""
        after = [*range(self.index, len(self.prompts)), *range(self.index)]
        self.open(next((i for i in after if self.prompts[i]["prompt_id"] not in self.records),
                       min(self.index + 1, len(self.prompts) - 1) if self.records else 0))

    def write(self, text):
        """Update the text. Nothing is saved yet: `save` does that at a pause, and `submit` at the end."""
        key = self.prompt["prompt_id"]
        self._seconds[key] = self._seconds.get(key, 0.0) + self._watch.lap()
        self._texts[key] = str(text)

    def save(self):
        """Save the text as a draft if it has changed since it was last saved; True if a row was written."""
        key = self.prompt["prompt_id"]
        if self._texts.get(key, "") == self._on_disk.get(key, ""):
            return False
        feedback.append_jsonl(self.path, {
            "schema": feedback.SCHEMA, "prompt_id": key, "prompt": self.prompt["prompt"], "author": self.annotator,
            "status": "draft", "draft": self.text, "seconds": round(self._seconds.get(key, 0.0), 2), **stamp()})
        self._on_disk[key] = self.text
        return True

    def check(self):
        """What is wrong with the text, one sentence per problem; an empty list if it may be submitted."""
        text, prompt = _plain(self.text), _plain(self.prompt["prompt"])
        if not text:
            return ["The answer is empty; write what you would have liked to read."]
        found, tokens = [], self.count_tokens(self.text.strip())
        # A prompt of a few words may well occur in a good answer; a longer one does not.
        if f"{text} ".startswith(f"{prompt} ") or len(prompt.split()) > 3 and prompt in text:
            found.append("The answer repeats the prompt; write only the answer.")
        if tokens > self.max_tokens:
            found.append(f"The answer has {tokens} tokens, {tokens - self.max_tokens} too many; shorten it.")
        return found

    def submit(self):
        """Save the text as a demonstration, open the next prompt, return the record; ValueError if `check` fails."""
        found = self.check()
        if found:
            raise ValueError(" ".join(found))
        key, prompt, text = self.prompt["prompt_id"], self.prompt, self.text.strip()
        row = feedback.new_demonstration(f"{self.annotator}/{key}", key, prompt["prompt"], text,
                                         prompt.get("use_case", "other"), self.annotator, prompt.get("split", "train"))
        row |= {"seconds": round(self._seconds.get(key, 0.0) + self._watch.lap(), 2), **stamp()}
        feedback.append_jsonl(self.path, row)
        self.records.pop(key, None)
        self.records[key] = row
        self._texts[key] = self._on_disk[key] = text
        self._seconds[key] = row["seconds"]
        self.open_next()
        return row

    def changed(self):
        """True if the open prompt has a submitted answer whose text has been edited since."""
        row = self.records.get(self.prompt["prompt_id"])
        return row is not None and row["response"] != self.text.strip()

    def demonstrations(self):
        """The demonstrations that count, ready for `data.demonstration_examples`."""
        return list(self.records.values())


def _plain(text):
    """A text without case and punctuation, so that an echo of the prompt is recognised."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
