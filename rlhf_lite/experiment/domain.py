"""What a world offers the pipeline: requests, demonstrations, text to read, people who rank, perhaps a grading program.

The pipeline touches the world in these few places and nowhere else. The town is one world (`pebbleford.TOWN`); another
is a Python file that defines `domain`, and `run --domain FILE.py` takes it through all stages. docs/own_domain.md shows
one. Such a file is run as it is, like any program of yours.

Left out: a list of known domains, and settings of the recipe that belong to one domain.
"""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rlhf_lite import checkpoints, feedback, models, schemas

SHOTS = 4  # demonstrations in front of a request to the prompted base model


class Request(NamedTuple):
    """What somebody asks for. split: "train", "valid" or "test"."""

    id: str
    text: str
    use_case: str
    split: str


class Mark(NamedTuple):
    """What a grading program says of an answer: a score in [0, 1], and what cost points."""

    score: float
    reasons: tuple = ()

    @property
    def overall(self):
        """From 1 to 7, for the report."""
        return 1 + round(6 * self.score)


class Seen(NamedTuple):
    """What labelers see of an answer where no program grades it."""

    request: Request
    text: str
    finished: bool


class Domain(NamedTuple):
    """A world. Its labelers have what the town's have (`town.labelers.Labeler`), for lists of marks, or of `Seen`:

    labeler.name
    labeler.judge(seen, lengths, rng) -> (ranks, scores from 1 to 7 or None): K of each, rank 1 is best, equal ones tie
    labeler.preference(seen, lengths) -> how often the first of two answers is preferred, in [0, 1]
    """

    name: str
    prompts: Callable  # (split) -> list of Request
    demonstrations: Callable  # (split) -> list of rows: see feedback.new_demonstration
    texts: Callable  # (seed) -> an endless iterator of texts, for pretraining and PPO-ptx; other seeds, other texts
    team: Callable  # () -> labelers, who rank for training
    judges: Callable  # () -> labelers, who compare the stages at the end
    grade: Callable | None = None  # (request, text, finished) -> Mark: the truth, which no training sees
    source: str = ""  # the file or module it was loaded from


# ---------------------------------------------------------------- what follows from it

def seen(domain, request, text, finished):
    """What labelers and measures see of an answer: its mark, or the answer itself."""
    if not domain.grade:
        return Seen(request, text, finished)
    mark = domain.grade(request, text, finished)
    score = getattr(mark, "score", None)
    if not isinstance(score, (int, float)) or not 0 <= score <= 1:
        raise ValueError(f"The grading program of {domain.name} says {schemas.shown(mark, 60)} of an answer to "
                         f"{request.id}; let it give a Mark with a score from 0 to 1.")
    return mark


def few_shot(domain):
    """A few demonstrations as the text in front of a request to the base model."""
    return "".join(f"{models.format_prompt(row['prompt'])}{row['response']}\n\n"
                   for row in domain.demonstrations("train")[:SHOTS])


def test_sets(domain, mixed, per_use_case):
    """{"mixed": the first test prompts, "samples": more of each use case to read, "best": mixed again}."""
    prompts = domain.prompts("test")
    sets, count = {"mixed": prompts[:mixed], "samples": []}, {}
    for number, prompt in enumerate(prompts):
        count[prompt.use_case] = count.get(prompt.use_case, 0) + 1
        if number >= mixed and count[prompt.use_case] <= per_use_case:
            sets["samples"].append(prompt)
    return sets | ({"best": sets["mixed"]} if domain.grade else {})  # the best temperature takes a true score


def record(domain):
    """What a run's domain.json says of its domain, so that it goes on with no other."""
    return {"name": domain.name, "source": domain.source, "sha256": _sum(domain.source)}


def _sum(source):
    found = source if source.endswith(".py") else source and importlib.util.find_spec(source).origin
    return checkpoints.sha256(found) if found else ""


# ---------------------------------------------------------------- loading

def load(source):
    """The `domain` that a Python file (or a module) defines, checked. This runs the file."""
    if source.endswith(".py") and not Path(source).is_file():
        raise ValueError(f"There is no file {source}; give a Python file that defines a domain.")
    try:
        module = _from_file(source) if source.endswith(".py") else importlib.import_module(source)
    except (Exception, SystemExit) as error:  # whatever that program may raise
        raise ValueError(f"{source} does not run ({type(error).__name__}: {schemas.said(error)}); fix it and start "
                         "again.") from error
    found = getattr(module, "domain", None)
    if not isinstance(found, Domain):
        raise ValueError(f"{source} defines no domain; let it end with: domain = Domain(...), from "
                         "rlhf_lite.experiment.domain.")
    return checked(found._replace(source=source))


def _from_file(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(domain):
    """The domain; ValueError in one sentence if a run could not be made of it."""
    where = domain.source or "The domain"
    if not domain.name.isidentifier():
        raise ValueError(f"{where}: the name {schemas.shown(domain.name, 40)!r} becomes part of a folder's; use "
                         "letters, digits and underscores.")
    first = {}
    for split in feedback.SPLITS:
        prompts = domain.prompts(split)
        if len(prompts) < 2:
            raise ValueError(f"{where} has {len(prompts)} prompts for {split}; it needs at least two.")
        for prompt in prompts:
            if prompt.split != split or not prompt.text.strip():
                raise ValueError(f"{where}: the prompt {prompt.id!r} is empty or does not belong to {split}; fix it.")
            for key in (prompt.id, prompt.text):
                if key in first:
                    raise ValueError(f"{where}: {schemas.shown(key, 60)!r} comes twice ({first[key]} and {split}); "
                                     "every prompt needs an id and a text of its own, or the test is no test.")
            first |= {prompt.id: split, prompt.text: split}
    for split in ("train", "valid"):
        rows = domain.demonstrations(split)
        if not rows:
            raise ValueError(f"{where} has no demonstrations for {split}; write at least one.")
        for number, row in enumerate(rows, 1):
            try:
                feedback.check_demonstration(row)
            except ValueError as error:
                raise ValueError(f"{where}: demonstration {number} for {split}: {error}.") from None
            if first.get(row["prompt"]) == "test":
                raise ValueError(f"{where}: demonstration {number} for {split} answers a test prompt; take another.")
    return domain
