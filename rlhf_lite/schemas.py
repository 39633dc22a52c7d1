"""One reader for every JSON file we write: what does not fit its schema gets one sentence, never a traceback.

The idea: that a file parses says nothing about what is in it. A schema is a plain type (a TypedDict, `list[Interval]`,
...) with the range of every number; msgspec holds the content against it and names the field that does not fit. The
content itself stays what JSON made of it: dicts, lists, texts and numbers.

The schemas here are those of the library; those of a run's files are in `experiment.run_files`. Left out: fields that
no schema names are kept as they are, so a file of a later version can be read.
"""

import math
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args, get_type_hints

import msgspec
from msgspec import Meta

# ---------------------------------------------------------------- the numbers

Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
Positive = Annotated[float, Meta(ge=0, le=1e15)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Whole = Annotated[int, Meta(ge=1, le=2**53)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Name = Annotated[str, Meta(pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$", max_length=200)]  # fit for one line of a terminal
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Interval(TypedDict):
    """A number with its 95 % interval, from n of whatever was counted."""

    value: Number
    low: Number
    high: Number
    n: Count


class Share(Interval):
    """An interval of a share: a number from 0 to 1."""

    value: Fraction
    low: Fraction
    high: Fraction


# ---------------------------------------------------------------- checkpoints and training states

class Card(TypedDict):
    """card.json of a checkpoint. What a person may have left out is not required."""

    kind: Literal["policy", "scalar"]
    parameters: Whole
    dtype: Literal["float64", "float32", "float16", "bfloat16"]
    sha256: Sha256
    config_sha256: NotRequired[Sha256]
    stage: NotRequired[Name]
    size: NotRequired[Name]
    seed: NotRequired[Seed]
    data: NotRequired[str]
    command: NotRequired[str]
    tokens: NotRequired[Count]
    batch_tokens: NotRequired[Count]
    iterations: NotRequired[Count]
    rankings: NotRequired[Count]
    held_out_loss: NotRequired[Positive]
    last_train_loss: NotRequired[Positive]
    valid_loss: NotRequired[Positive]
    valid_accuracy: NotRequired[Fraction]
    kl: NotRequired[Number]
    proxy: NotRequired[Number]
    learning_rates: NotRequired[dict[Name, Positive]]


# One entry per epoch, step or iteration: whatever that training measures.
History = list[dict[Name, Number | Interval | bool | str | None]]


class State(TypedDict):
    """What a training state says of itself, beside its tensors."""

    identity: dict[str, Any]
    history: History
    steps: Count
    carried: dict[Name, Number | None]


PythonRandom = tuple[Literal[3], Annotated[list[Seed], Meta(min_length=625, max_length=625)], Number | None]


# ---------------------------------------------------------------- the course

class Mark(TypedDict):
    """One exercise in my_progress.json."""

    mark: Literal["✅", "❌", "⬜"]
    tries: Count
    when: Name


Progress = dict[Name, Mark]
Date = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
Versions = dict[Name, Name]


class Time(TypedDict):
    """How long a notebook took."""

    file: Name
    minutes: Positive
    memory_gib: Positive
    cpu_minutes: NotRequired[Positive]
    threads: Whole
    date: Date


class Times(TypedDict):
    """data/results/notebooks.json."""

    notebooks: dict[Name, Time]
    versions: NotRequired[Versions]
    command: NotRequired[str]


# ---------------------------------------------------------------- settings

COUNTED = ("seed", "warmup", "warmup_iterations", "first_iterations")  # whole numbers that may be 0
SHARES = ("min_lr_share", "dropout", "pretraining_mix", "gamma", "lam", "ema_decay", "first_round")


def of_settings(kind, **others):
    """The schema of a dataclass of settings, written as JSON: every field must be there, with a sensible value.

    A whole number is at least 1 unless its name is in COUNTED, a number is not negative, and one in SHARES is at most
    1. others: {field: schema} for fields whose values are more special than that.
    """
    hints = get_type_hints(kind)
    return TypedDict(kind.__name__, {field.name: others.get(field.name) or _setting(field.name, hints[field.name])
                                     for field in fields(kind)})


def _setting(name, hint):
    if type(None) in get_args(hint):
        (inner,) = (part for part in get_args(hint) if part is not type(None))
        return _setting(name, inner) | None
    if is_dataclass(hint):
        return of_settings(hint)
    if hint is int:
        return Seed if name in COUNTED else Annotated[int, Meta(ge=1, le=2**32 - 1)]
    if hint is float:
        smallest = Meta(gt=0, le=1e3) if name.endswith("lr") or name == "temperature" else Meta(ge=0, le=1e9)
        return Fraction if name in SHARES else Annotated[float, smallest]
    return {str: Name, tuple: Annotated[list[Annotated[float, Meta(gt=0, le=1e3)]], Meta(min_length=1)]}.get(hint, hint)


# ---------------------------------------------------------------- reading and checking

MADE = "delete it and run the command that made it again."
MISSING = object()


def read(path, kind=Any, default=MISSING, fix=MADE):
    """The content of a JSON file that fits the schema `kind`; ValueError in one sentence when it does not.

    If there is no file: `default`, or FileNotFoundError without one. fix: what to do about a damaged file.
    """
    path = Path(path)
    if not path.is_file():
        if default is MISSING:
            raise FileNotFoundError(f"{path} is missing; {fix.removeprefix('delete it and ')}")
        return default
    return parse(path.read_bytes(), kind, path, fix)


def parse(text, kind, name, fix=MADE):
    """JSON (bytes or text) that fits the schema -> its content; `name` says in the error where it comes from."""
    try:
        content = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:  # broken JSON, NaN, not UTF-8, 10^5 brackets
        raise ValueError(f"{name} is damaged ({said(error)}); {fix}") from None
    return check(content, kind, name, fix)


def check(content, kind, name, fix=MADE):
    """Return the content if it fits the schema; ValueError in one sentence, with the field, if it does not."""
    wrong = misfit(content, kind)
    if wrong:
        raise ValueError(f"{name} is damaged ({wrong}); {fix}")
    return content


def misfit(content, kind):
    """Why the content does not fit the schema, as a phrase; None if it fits."""
    try:
        msgspec.convert(content, kind)
        return _upside_down(content, "")
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        return said(error)


def _upside_down(content, place):
    """An interval whose low end is above its high end, or a number that is none: no schema can say that."""
    if isinstance(content, float) and not math.isfinite(content):
        return f"{place.strip('.') or 'it'} is not a finite number"
    if isinstance(content, dict):
        low, high = content.get("low"), content.get("high")
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
            return f"low is above high, at {place.strip('.') or 'the top'}"
        parts = content.items()
    else:
        parts = enumerate(content) if isinstance(content, list) else ()
    return next(filter(None, (_upside_down(part, f"{place}.{shown(key)}") for key, part in parts)), None)


def said(error):
    """An error of a library as a short phrase on one line: a file may contain megabytes, or escape sequences."""
    return shown(str(error).replace("`", "").replace(" - at $.", ", at ").replace(" - at $", ", at "))


def shown(text, limit=160):
    """Text from elsewhere, fit for a terminal and one line of it."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(text)[:limit + 1])
    return text if len(text) <= limit else text[:limit - 1] + "…"
