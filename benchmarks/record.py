"""What bench.json contains, and whether a later one is slower."""

from typing import Literal, NotRequired, TypedDict

from rlhf_lite import schemas
from rlhf_lite.schemas import Count, Interval, Name, Number, Positive, Versions, Whole

AGAIN = "restore it with: git checkout -- data/results/bench.json"
ALLOWED = 0.2  # a ratio may fall by this share before `--check` fails
Spread = Interval  # low and high are the slowest and the fastest round, not 95 %


class Time(TypedDict):
    """One round of one side."""

    wall: Positive
    cpu: Positive
    tokens: NotRequired[Positive]


class Point(TypedDict):
    """One position of a dial of `growth`."""

    at: Positive
    wall: Spread
    cpu: Spread
    bytes: Number


class Entry(TypedDict):
    """One measurement. Which of these it has depends on its kind; one that is not done says why."""

    status: Literal["done", "skipped", "failed", "out of time", "running", "not yet run"]
    seconds: NotRequired[Positive]
    why: NotRequired[str]
    times: NotRequired[dict[Name, list[Time]]]  # peers: the rounds of each side
    ratios: NotRequired[dict[Name, Spread]]  # the higher, the better for us
    rate: NotRequired[Spread]  # limit: operations per second of a matrix product
    seconds_of: NotRequired[dict[Name, Spread]]  # the phases
    floors: NotRequired[dict[Name, Positive]]
    operations: NotRequired[dict[Name, Positive]]
    calls: NotRequired[dict[Name, Number]]
    points: NotRequired[list[Point]]  # growth
    exponents: NotRequired[dict[Name, Number]]
    minutes: NotRequired[dict[Name, Positive]]  # path
    took: NotRequired[Positive]
    help: NotRequired[Spread]


class Bench(TypedDict):
    """bench.json."""

    status: Literal["running", "finished"]
    toy: bool
    threads: Whole
    cores: Count
    processor: str
    versions: Versions
    trl: list[Name]
    command: str
    started: Name
    updated: Name
    measurements: dict[Name, Entry]


def read(path, default=schemas.MISSING):
    return schemas.read(path, Bench, default, AGAIN)


def slower(before, now, clock="cpu"):
    """One sentence for each ratio that fell by more than 20 %. Seconds of the processor decide: they disturb least."""
    found = []
    for name, old in before["measurements"].items():
        new = now["measurements"].get(name, {})
        if not (old["status"] == new.get("status") == "done"):
            continue
        for key in old.get("ratios", {}).keys() & new.get("ratios", {}).keys():
            one, other = (entry["ratios"][key]["value"] for entry in (old, new))
            if (key == clock or key not in ("wall", "cpu")) and other < (1 - ALLOWED) * one:
                found.append(f"{name}: the ratio fell from {one:.2f} to {other:.2f} ({key}).")
    return sorted(found)
