"""Kill it a thousand times: nothing that was acknowledged is lost, and what is finished has the same bits.

    OMP_NUM_THREADS=1 python tests/soak.py            about 1,100 kills, half an hour on a quiet core
    OMP_NUM_THREADS=1 python tests/soak.py 700 200 200 0     how many of each: labelers, marks, files, runs

Not a test of the suite: pytest does not collect it. It needs fork and SIGKILL, so Linux or macOS. Every child works
until it is killed, at a random moment of its own computing time, and says through a pipe what has been acknowledged.

* *labelers*: somebody ranks, skips and undoes in one file (`tests/widgets/test_kill.py`)
* *class*: a class ranks into one folder, everybody in two kernels on one file, and kernels are killed
* *marks*: `check` records solved exercises in one progress file
* *files*: a file and a folder are replaced by newer ones, again and again
* *runs*: the whole pipeline on a tiny model, killed and started again until it is finished; then its weights, rankings
  and answers are compared with those of a run that nobody disturbed
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = {"labelers": 700, "class": 1000, "marks": 150, "files": 150, "runs": 100}
COMPARED = ("model.safetensors", ".jsonl")  # the bits that must be equal; JSON files also hold times


def kill_once(act, most_seconds, rng):
    """Fork act(say), kill it within so many seconds of computing -> (numbers it said, whether it was killed)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            act(lambda number: os.write(write, b"%d\n" % number))
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    process, limit = psutil.Process(child), rng.random() * most_seconds
    killed = False
    while not killed and os.waitpid(child, os.WNOHANG)[0] == 0:
        spent = sum(process.cpu_times()[:2])
        if spent >= limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            killed = True
        else:
            time.sleep(0.002)
    with os.fdopen(read, "rb") as pipe:
        return [int(line) for line in pipe.read().split()], killed


def marks(kills, folder, rng):
    """-> marks acknowledged, all of which must be in the file."""
    from rlhf_lite.exercises import checking

    os.environ["RLHF_LITE_PROGRESS"] = str(folder / "progress.json")
    known, start = set(), 0

    def solve(say):
        for number in range(start, start + 10_000):
            checking.remember(f"soak.{number}", checking.DONE)
            say(number)

    for number in range(kills):
        said, _ = kill_once(solve, 0.03, rng)
        known |= set(said)
        start = max(known, default=-1) + 1
        if (folder / "progress.json").exists():
            found = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
            lost = [mark for mark in known if f"soak.{mark}" not in found]
            assert not lost, f"kill {number}: {len(lost)} marks are lost"
        if len(known) > 300:  # a new file, so that each stays as small as a student's
            (folder / "progress.json").unlink()
            known = set()
            start += 1
    return start


def a_class(kills, folder, rng):
    """-> rankings acknowledged, each of which must count exactly once when the class's files are gathered."""
    from workshop.class_appends import append, items

    from rlhf_lite.workshop import class_folder

    class_folder.make(folder, items())
    known = {}  # (person, item) -> ranks said to be saved
    for number in range(kills):
        person = f"Person {number % 30}"
        said, _ = kill_once(lambda say, person=person, number=number: append(folder, person, number, say), 0.03, rng)
        known |= {(person, item): number for item in said}
        if number % 50 == 49 or number == kills - 1:
            found = class_folder.gather(class_folder.files_of(folder)).people
            counted = [(name, row["item_id"]) for name, rows in found.items() for row in rows]
            assert len(counted) == len(set(counted)), f"kill {number}: a ranking counts twice"
            lost = {(name, f"p{item}") for name, item in known} - set(counted)
            assert not lost, f"kill {number}: {len(lost)} rankings are lost"
    return len(known)


def replaced(kills, folder, rng):
    """-> how often a file and a folder were replaced; each must always be one whole version, never an older one."""
    from rlhf_lite import files

    start, least = 0, -1

    def write(say):
        for number in range(start, start + 10_000):
            files.write_json(folder / "a.json", {"number": number, "text": "x" * 20_000})
            with files.whole_folder(folder / "model", replaces=("weights", "card")) as new:
                (new / "weights").write_text(f"{number} " + "w" * 20_000)
                (new / "card").write_text(str(number))
            say(number)

    for kill in range(kills):
        said, _ = kill_once(write, 0.03, rng)
        files.settle(folder / "model")
        least = max([least, *said])
        if not (folder / "model").exists():
            assert least < 0, f"kill {kill}: the folder is gone"
            continue
        card, weights = ((folder / "model" / name).read_text() for name in ("card", "weights"))
        content = json.loads((folder / "a.json").read_text(encoding="utf-8"))
        assert weights == f"{card} " + "w" * 20_000 and len(content["text"]) == 20_000, f"kill {kill}: half of each"
        assert content["number"] >= int(card) >= least, f"kill {kill}: {card} instead of {least}"
        (folder / "model" / "notes.txt").write_text("mine")  # and the owner's own files stay
        start, least = content["number"] + 1, int(card)
    assert (folder / "model" / "notes.txt").read_text() == "mine"
    return start


def runs(kills, folder, rng):
    """-> how many runs were finished in spite of the kills; all of them must have the same bits."""
    import torch

    from rlhf_lite.experiment import base_model, run
    from rlhf_lite.experiment.recipe import MAX_NEW_TOKENS, Recipe
    from rlhf_lite.ppo import PPOConfig

    torch.set_num_threads(1)
    ppo = PPOConfig(iterations=3, batch_size=8, minibatch=4, max_new_tokens=MAX_NEW_TOKENS, lr=1e-4)
    recipe = Recipe(size="tiny", reward_size="tiny", demonstrations=24, rankings=24, gate_prompts=4, ppo=ppo,
                    first_iterations=2, pretraining_tokens=4096, test_prompts=12, stratum_prompts=6, samples=1)
    base_model.TOKENS["tiny"] = 20_000

    def work(name):
        run.run_pipeline(recipe, name, "cpu", folder, progress=False)

    def bits(name):
        return {str(path.relative_to(folder / name)): path.read_bytes() for path in sorted((folder / name).rglob("*"))
                if path.name.endswith(COMPARED)}

    work("undisturbed")
    expected, finished, done, name = bits("undisturbed"), 0, 0, "killed"
    while done < kills:
        _, killed = kill_once(lambda say: work(name), 6.0, rng)
        done += killed
        if not killed:
            assert bits(name) == expected, f"after {done} kills, the finished run has other bits"
            shutil.rmtree(folder / name)
            finished += 1
    return finished


def main(counts):
    print("kills, what they met, seconds; 0 lost unless an AssertionError says otherwise", flush=True)
    for (part, default), count in zip(DEFAULT.items(), [*counts, *list(DEFAULT.values())[len(counts):]], strict=True):
        del default
        started = time.time()
        with tempfile.TemporaryDirectory() as folder:
            if not count:
                continue
            if part == "labelers":  # in a process without PyTorch, which forks faster
                script = ROOT / "tests" / "widgets" / "test_kill.py"
                done = subprocess.run([sys.executable, script, str(count), folder, "1"], capture_output=True, text=True,
                                      env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
                assert done.returncode == 0, done.stderr
                found = done.stdout.strip()
            else:
                met = {"class": (a_class, "rankings acknowledged"), "marks": (marks, "marks acknowledged"),
                       "files": (replaced, "versions written"),
                       "runs": (runs, "runs finished with the same bits")}[part]
                found = f"{met[0](count, Path(folder), random.Random(count))} {met[1]}"
        print(f"{part}: {count} kills, {found}, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]])
