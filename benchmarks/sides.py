"""The sides of a comparison: each a process, asked in turn, and only one of them works at any one time."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from rlhf_lite.experiment.measuring import OutOfTime

ROOT = Path(__file__).resolve().parent.parent
QUIET = {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONIOENCODING": "utf-8",
         "TRL_EXPERIMENTAL_SILENCE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
FEWEST = 3  # rounds, without which there is no spread to speak of


class Side:
    """A worker process; environment: see `environment`, threads: of PyTorch. Use it in a `with` block."""

    def __init__(self, module, arguments, log, threads=1, environment=None):
        python, paths = environment or (sys.executable, [])
        variables = os.environ | QUIET | {"OMP_NUM_THREADS": str(threads),
                                          "PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, paths)])}
        self.log = Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as output:
            self.process = subprocess.Popen([python, "-m", "benchmarks.worker", module, json.dumps(arguments)],
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, cwd=ROOT,
                                            env=variables, text=True, encoding="utf-8")

    def __enter__(self):
        self.answer()  # "ready"
        return self

    def __exit__(self, *error):
        self.process.stdin.close()  # for the worker, this is the end
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def answer(self):
        line = self.process.stdout.readline()
        found = json.loads(line) if line else {"error": "the process ended without a word"}
        if "error" in found:
            raise RuntimeError(f"{found['error']}; see {self.log.name}")
        return found

    def once(self):
        """Do the work once -> {"wall", "cpu", ...}."""
        self.process.stdin.write("once\n")
        self.process.stdin.flush()
        return self.answer()


def environment(path, package, version):
    """A folder -> (its interpreter, what to put on its path); None if it does not have that version of the package.

    The folder is a virtual environment, or what `pip install --target` makes, which is then used with our interpreter.
    """
    folder = Path(path).expanduser().resolve()
    pythons = [place for place in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if place.exists()]
    if not list(folder.rglob(f"{package}-{version}.dist-info")):
        return None
    return (str(pythons[0]), []) if pythons else (sys.executable, [folder])


def by_turns(sides, rounds, job):
    """Let the sides work in turn, A B, B A, ... -> {name: [times of each round]}; the first turn warms up.

    After three rounds it ends early rather than run out of time.
    """
    found = {name: [] for name in sides}
    longest = sum(side.once()["wall"] for side in sides.values())
    for number in range(rounds):
        if job.left() < 1.2 * longest and number >= FEWEST:
            break
        if job.left() < 0:
            raise OutOfTime
        for name in (list(sides) if number % 2 == 0 else reversed(sides)):
            found[name].append(sides[name].once())
        longest = max(longest, sum(times[-1]["wall"] for times in found.values()))
        job.report(rounds=number + 1, times=found)
    return found


def spread(values):
    """Numbers -> their median and the smallest and largest of them, as an interval."""
    return {"value": statistics.median(values), "low": min(values), "high": max(values), "n": len(values)}


def ratio(times, slower, faster, clock):
    """How many times as long `slower` took as `faster`, round by round."""
    return spread([a[clock] / b[clock] for a, b in zip(times[slower], times[faster], strict=True)])
