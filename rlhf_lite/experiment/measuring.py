"""Several measurements in one stretch of time, none of which can spoil another.

The idea: where a machine is lent by the minute, one mistake must not cost everything. So every measurement runs in a
process of its own and has a share of the time. If it crashes, hangs or runs out of memory, only its process ends.
Everything known so far is in one file, written again after every report and at least twice a minute: whoever kills
the whole program, at whatever moment, loses next to nothing. Run again, it keeps what is done and measures the rest.

Left out: several measurements at once, which would disturb each other's clocks.
"""

import multiprocessing
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from rlhf_lite import files

WRITE_EVERY = 20  # seconds
SOFT = 0.85  # of its time, after which a measurement should come to an end by itself; at 1 it is killed


class Measurement(NamedTuple):
    """measure(job) -> dict of what was measured; a function of a module, so that another process can import it."""

    name: str
    share: float  # of the time that is left, beside the shares of those that come later
    measure: Callable


class Skip(Exception):
    """A measurement that makes no sense here; says why in one sentence."""


class OutOfTime(Exception):
    """Raised by `Job.check` in a measurement that has used up its time."""


class Job:
    """What a measurement is given: its settings, a clock, and a way to report before it is finished."""

    def __init__(self, settings, seconds, connection=None):
        self.settings, self.end, self.connection = settings, time.monotonic() + seconds, connection

    def left(self):
        """The seconds that are left."""
        return self.end - time.monotonic()

    def check(self):
        """Raise OutOfTime if no time is left; call it in every long loop."""
        if self.left() <= 0:
            raise OutOfTime("The measurement has used up its time.")

    def report(self, **found):
        """What has been found so far; it is kept whatever happens next."""
        if self.connection:
            self.connection.send(("found", found))


def orphaned():
    """Whether the program that started this process is gone."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def processes(probe=None, preload=()):
    """The multiprocessing context. A fork server imports the ``preload``ed modules once, for all processes.

    A GPU driver that has been started before a fork does not work after it. ``probe``: a function to try in such a
    process; if it fails, every process starts from nothing instead (as on Windows), which takes seconds each.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    if probe:
        trial = context.Process(target=probe, daemon=True)
        trial.start()
        trial.join(60)
        if trial.exitcode != 0:
            trial.kill()
            return multiprocessing.get_context("spawn")
    return context


# ---------------------------------------------------------------- one measurement

def _work(measure, settings, seconds, connection):
    """In the process of a measurement: measure, and say how it ended."""
    try:
        connection.send(("done", measure(Job(settings, seconds, connection)) or {}))
    except Skip as why:
        connection.send(("skipped", {"why": str(why)}))
    except OutOfTime:
        connection.send(("out of time", {}))
    except BrokenPipeError:  # nobody is listening any more
        pass
    except Exception as error:
        where = traceback.format_exc().splitlines()[-12:]
        connection.send(("failed", {"why": f"{type(error).__name__}: {error}"[:1000], "where": where}))


def watch(measurement, settings, seconds, context, update):
    """Run one measurement for at most `seconds`; update(entry) is called with what is known, again and again."""
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(measurement.measure, settings, SOFT * seconds, there), daemon=True)
    started = time.monotonic()
    process.start()
    there.close()  # so that the end of the process is the end of the pipe
    entry = {"status": "running", "allowed_seconds": round(seconds, 1)}
    while entry["status"] == "running":
        entry["seconds"] = round(time.monotonic() - started, 1)
        update(entry)
        try:
            if here.poll(max(0.0, min(WRITE_EVERY, started + seconds - time.monotonic()))):
                status, found = here.recv()
                entry |= found
                entry["status"] = "running" if status == "found" else status
            elif time.monotonic() >= started + seconds:
                entry["status"] = "out of time"
        except EOFError:
            process.join(5)
            entry |= {"status": "failed", "why": f"The process ended without a word (exit code {process.exitcode}); "
                                                 "-9 usually means that memory ran out."}
    process.join(0 if entry["status"] == "out of time" else 5)
    process.kill()
    process.join(5)
    entry["seconds"] = round(time.monotonic() - started, 1)
    update(entry)


# ---------------------------------------------------------------- all of them

def measure_all(measurements, settings, seconds, path, context, about=None, only=(), say=print):
    """Run the measurements one after the other, in `seconds` altogether; returns the content of the file at `path`.

    about: a dict about the whole, which comes first in the file. only: names to measure, even if they are done already;
    by default all are measured that are not done.
    """
    end, before = time.monotonic() + seconds, files.read_json(path, {}).get("measurements", {})
    record = {"status": "running", **(about or {}), "started": _now(),
              "measurements": {m.name: before.get(m.name, {"status": "not yet run"}) for m in measurements}}
    wanted = [m for m in measurements if (m.name in only if only else before.get(m.name, {}).get("status") != "done")]

    def write():
        files.write_json(path, record | {"updated": _now()})

    for number, measurement in enumerate(wanted):
        left = end - time.monotonic()
        share = measurement.share / sum(m.share for m in wanted[number:])

        def update(entry, name=measurement.name):
            record["measurements"][name] = entry
            write()

        if left < 1:
            update({"status": "out of time", "why": "The measurements before it took all the time."})
        else:
            watch(measurement, settings, left * share, context, update)
        entry = record["measurements"][measurement.name]
        say(f"{measurement.name}: {entry['status']}, {entry.get('seconds', 0)} s. {entry.get('why', '')}".rstrip(". "))
    record["status"] = "finished"
    write()
    return record


def _now():
    return time.strftime("%Y-%m-%d %H:%M:%S %z")
