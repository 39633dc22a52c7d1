"""The whole path, as a person walks it: the first answer of the command line, `make run`, the tests, the notebooks."""

import os
import shutil
import subprocess
import sys
import time

from benchmarks.sides import ROOT, spread
from rlhf_lite import files, schemas
from rlhf_lite.experiment.measuring import Skip


def run(words, **options):
    """Seconds that `python ...` takes in the course's folder; RuntimeError, with its last line, if it fails."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)} | options,
                          capture_output=True, text=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise RuntimeError(f"python {' '.join(words)} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return time.perf_counter() - started


def first_answer(job):
    """Seconds until --help has answered, and until the library of PPO is imported."""
    times = 2 if job.settings.toy else 9
    return {"help": spread([run(["-m", "rlhf_lite", "--help"]) for _ in range(times)]),
            "import": spread([run(["-c", "import rlhf_lite.ppo"]) for _ in range(times)])}


def pipeline(job):
    """Minutes of each stage of `make run`, by its own record."""
    if job.settings.toy:
        raise Skip("A whole run is left out at toy size.")
    folder = ROOT / "runs" / "bench-run"
    shutil.rmtree(folder, ignore_errors=True)
    seconds = run(["-m", "rlhf_lite", "run", "--name", folder.name], OMP_NUM_THREADS=str(job.settings.threads))
    minutes = schemas.read(folder / "minutes.json", dict[schemas.Name, schemas.Positive])
    shutil.rmtree(folder)
    return {"minutes": minutes, "took": seconds}


def tests(job):
    """Seconds of `make test`, with two processes."""
    if job.settings.toy:
        raise Skip("The tests are left out at toy size.")
    return {"took": run(["-m", "pytest", "-q", "-n", "2", "tests"], OMP_NUM_THREADS="1")}


def notebooks(job):
    """Minutes of each notebook, as they were last measured for the timetable (`exercises.measure`)."""
    found = schemas.read(files.DATA / "results" / "notebooks.json", schemas.Times)["notebooks"]
    return {"minutes": {number: found[number]["minutes"] for number in sorted(found)}}
