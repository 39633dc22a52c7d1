"""How long does the course take? Run the solved notebooks at full length and record minutes and memory.

    python -m rlhf_lite.exercises.measure      # all but 09, which needs a model and data from elsewhere; half an hour
    python -m rlhf_lite.exercises.measure 04 05a --keep runs/notebooks   # two of them, and keep the executed copies

Writes data/results/notebooks.json and the table in docs/teaching/timing.md; `make notebooks` then puts the minutes into
the headers. Run it on a machine that is otherwise idle.
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm.auto import tqdm

from rlhf_lite import schemas
from rlhf_lite.exercises import timetable
from rlhf_lite.exercises.build import ROOT
from rlhf_lite.exercises.lesson import AGAIN, TIMES
from rlhf_lite.experiment import shipped
from rlhf_lite.experiment.results import versions
from rlhf_lite.files import utf8_output, write_json


def run_notebook(path, out, threads=2):
    """Execute a notebook in its own process; returns (minutes, peak memory of its kernel in GiB, CPU minutes).

    out: where to write the executed copy. Raises RuntimeError with the end of the error message if a cell fails.
    """
    environment = os.environ | {"RLHF_LITE_FAST": "0", "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1",
                                "RLHF_LITE_PROGRESS": str(Path(out).with_suffix(".progress.json"))}
    command = [sys.executable, "-m", "jupyter", "execute", f"--output={Path(out).resolve()}", str(path)]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=Path(path).parent, env=environment, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)  # this usage includes that of its child, the kernel
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{Path(path).name} failed:\n{errors[-3000:]}")
    return (time.perf_counter() - started) / 60, usage.ru_maxrss / 2**20, (usage.ru_utime + usage.ru_stime) / 60


def main(argv=None):
    parser = argparse.ArgumentParser(description="Measure minutes and memory of the notebooks at full length.")
    parser.add_argument("numbers", nargs="*", help="which notebooks (default: all but 09), for example 04 05a")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--keep", help="folder for the executed notebooks (default: they are deleted)")
    parser.add_argument("--force", action="store_true", help="replace the course's own record, data/results/"
                        "notebooks.json, and the table in docs/teaching/timing.md; without it, nothing is run")
    arguments = parser.parse_args(argv)
    utf8_output()
    try:
        shipped.check_replace([TIMES], arguments.force)
    except ValueError as error:
        parser.error(str(error))
    sources = [path for path in sorted((ROOT / "solutions").glob("[0-9][0-9]*_*.ipynb"))
               if path.name.split("_")[0] in arguments.numbers or not arguments.numbers and path.name[:2] != "09"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for path in (bar := tqdm(sources, unit="notebook")):
            bar.set_description(path.stem)
            minutes, memory, computing = run_notebook(path, folder / path.name, arguments.threads)
            record = schemas.read(TIMES, schemas.Times, {"notebooks": {}}, AGAIN)  # only now: it may have changed
            record["notebooks"][path.name.split("_")[0]] = {
                "file": path.name, "minutes": round(minutes, 2), "memory_gib": round(memory, 2),
                "cpu_minutes": round(computing, 2), "threads": arguments.threads,
                "date": datetime.date.today().isoformat()}
            record |= {"versions": versions(), "command": "python -m rlhf_lite.exercises.measure --force"}
            write_json(TIMES, record)
    timetable.main()
    shipped.write_manifest()
    print(timetable.table())


if __name__ == "__main__":
    main()
