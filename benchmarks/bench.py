"""The list of all measurements, and the command that takes them, checks them, and ships them."""

import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import growth, limit, page, path, peers, record
from benchmarks.sides import ROOT, environment
from rlhf_lite import files
from rlhf_lite.experiment import machine, measuring
from rlhf_lite.experiment.measuring import Measurement

SHIPPED = files.DATA / "results" / "bench.json"
VERSIONS = ("1.12.0", "1.16.0")  # of TRL: the last with a PPO trainer, and the current one


class Plan(NamedTuple):
    """What all measurements share."""

    out: Path
    toy: bool
    threads: int
    environments: dict  # {version of TRL: folder}


def measurements(toy=False):
    """All of them; the share of each is in seconds of an ordinary laptop."""
    sizes = ("tiny",) if toy else ("1.3m", "6m", "135m")
    return [Measurement("first answer", 40, path.first_answer), *peers.measurements(sizes),
            *(Measurement(f"limit, {size}", 150, partial(limit.measure, size=size))
              for size in (("tiny",) if toy else ("1.3m", "6m"))),
            *(Measurement(f"growth, {dial}", 200, partial(growth.measure, dial=dial)) for dial in growth.DIALS),
            Measurement("notebooks", 5, path.notebooks), Measurement("make test", 1500, path.tests),
            Measurement("make run", 2400, path.pipeline)]


def find_trl(folders):
    """Folders -> {version of TRL: the folder that has it}."""
    return {version: folder for version in VERSIONS for folder in folders if environment(folder, "trl", version)}


def measure(out, minutes=None, threads=1, trl=(), only=(), toy=False, again=False):
    """Take all measurements that are not done yet -> the content of OUT/bench.json.

    Each runs in a process of its own with its share of the time, and what is known is written after every round, so
    nothing is lost when it is stopped: call it again. only: the names that are wanted, or beginnings of names.
    """
    out, known = Path(out).resolve(), measurements(toy)
    chosen = [m for m in known if not only or any(fits(m.name, name, known) for name in only)]
    if not chosen:
        raise ValueError(f"There is no measurement {only[0]!r}; choose from: {', '.join(m.name for m in known)}.")
    about = {"toy": toy, "threads": threads, "cores": os.cpu_count(), "processor": processor(),
             "versions": machine.versions(), "trl": sorted(find_trl(trl)), "command": _command(threads, trl, only, toy)}
    before = files.read_json(out / "bench.json", {})
    if before and (before.get("toy"), before.get("threads")) != (toy, threads):
        raise ValueError(f"{out} holds measurements with {before.get('threads')} threads, or of another size; choose "
                         "another folder with --out.")
    done = {name for name, entry in before.get("measurements", {}).items() if entry.get("status") == "done"}
    wanted = [m.name for m in chosen if again or m.name not in done]
    if not wanted:
        return record.read(out / "bench.json")
    seconds = 60 * minutes if minutes else sum(m.share for m in chosen if m.name in wanted)
    context = measuring.processes(preload=["benchmarks.peers"])
    measuring.measure_all(known, Plan(out, toy, threads, find_trl(trl)), seconds, out / "bench.json", context, about,
                          wanted)
    return record.read(out / "bench.json")


def fits(name, asked, known):
    """Whether a name was asked for: it is that one or, if there is none of that name, it begins like that."""
    return name == asked if any(m.name == asked for m in known) else name.startswith(asked)


def _command(threads, trl, only, toy):
    words = [f"--threads {threads}"] * (threads != 1) + ["--trl FOLDER"] * len(find_trl(trl)) + ["--toy"] * toy
    return " ".join(["python -m rlhf_lite bench", *words, *(["--only", *map(repr, only)] if only else [])])


def processor():
    """The processor's name, as well as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def check(out, arguments):
    """Measure anew what bench.json has ratios of -> exit status 1 if one of them fell by more than 20 %."""
    before = record.read(SHIPPED if arguments.against is None else Path(arguments.against))
    names = [name for name, entry in before["measurements"].items() if entry["status"] == "done" and "ratios" in entry
             and (not arguments.only or any(name.startswith(start) for start in arguments.only))]
    if not names:
        raise ValueError("There is no ratio to compare with; measure first: python -m rlhf_lite bench --ship")
    now = measure(out, arguments.minutes, arguments.threads, arguments.trl, names, arguments.toy, again=True)
    found = record.slower(before, now)
    print("\n".join(found) or f"None of {len(names)} comparisons has become slower by more than 20 %.")
    return int(bool(found))


def command(arguments):
    """`python -m rlhf_lite bench`: see `commands`."""
    if arguments.check:
        return check(arguments.out or "runs/bench-check", arguments)
    out = Path(arguments.out or "runs/bench")
    started = time.monotonic()
    made = measure(out, arguments.minutes, arguments.threads, arguments.trl, arguments.only, arguments.toy)
    print(page.tables(made))
    print(f"Done in {(time.monotonic() - started) / 60:.0f} minutes: {out / 'bench.json'}")
    if arguments.ship:
        if arguments.toy:
            raise ValueError("Measurements at toy size are not shipped; leave out --toy.")
        files.write_json(SHIPPED, made)
        page.write(made, ROOT)
        print(f"Shipped to {SHIPPED} and docs/speed.md")
    return int(any(entry["status"] == "failed" for entry in made["measurements"].values()))
