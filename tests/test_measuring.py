"""Measurements cannot spoil one another, and the file is whole at every moment."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from rlhf_lite.experiment import measuring
from rlhf_lite.experiment.measuring import Measurement


def good(job):
    return {"number": job.settings}


def raises(job):
    job.report(half=1)
    raise RuntimeError("out of luck")


def dies(job):
    job.report(half=2)
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(job):
    job.report(half=3)
    time.sleep(600)


def counts(job):
    for number in range(10**6):
        job.check()
        job.report(number=number)
        time.sleep(0.05)


def makes_no_sense(job):
    raise measuring.Skip("There is no model.")


def no_probe():
    sys.exit(3)


@pytest.fixture(scope="module")
def context():
    return measuring.processes()


def test_a_crash_a_kill_and_a_hang_cost_only_themselves(context, tmp_path):
    names = [good, raises, dies, hangs, counts, makes_no_sense, good]
    every = [Measurement(f"{number} {measure.__name__}", {hangs: 8, counts: 6}.get(measure, 20), measure)
             for number, measure in enumerate(names)]
    said = []
    made = measuring.measure_all(every, 7, 50, tmp_path / "all.json", context, {"what": "a test"}, say=said.append)
    assert made == {k: v for k, v in json.loads((tmp_path / "all.json").read_text()).items() if k != "updated"}
    entries = list(made["measurements"].values())
    assert [entry["status"] for entry in entries] == [
        "done", "failed", "failed", "out of time", "out of time", "skipped", "done"]
    assert [entry.get("half") for entry in entries[1:4]] == [1, 2, 3]
    assert entries[1]["why"] == "RuntimeError: out of luck" and "raises" in " ".join(entries[1]["where"])
    assert "exit code -9" in entries[2]["why"] and entries[4]["number"] > 0
    assert entries[5]["why"] == "There is no model." and entries[6]["number"] == 7
    assert made["status"] == "finished" and made["what"] == "a test" and len(said) == 7
    assert all(entry["seconds"] <= entry["allowed_seconds"] + 5 for entry in entries)


def test_run_again_it_keeps_what_is_done(context, tmp_path):
    path = tmp_path / "all.json"
    both = [Measurement("one", 1, good), Measurement("two", 1, raises)]
    measuring.measure_all(both, 1, 30, path, context, say=str)
    both[1] = Measurement("two", 1, good)
    again = measuring.measure_all(both, 2, 30, path, context, say=str)["measurements"]
    assert again["one"]["number"] == 1 and again["two"]["number"] == 2 and "why" not in again["two"]
    again = measuring.measure_all(both, 3, 30, path, context, only=["one"], say=str)["measurements"]
    assert again["one"]["number"] == 3 and again["two"]["number"] == 2


def test_without_time_nothing_starts(context, tmp_path):
    made = measuring.measure_all([Measurement("one", 1, good)], 1, 0, tmp_path / "all.json", context, say=str)
    assert made["measurements"]["one"]["status"] == "out of time"


def test_where_a_fork_server_is_no_good_processes_start_from_nothing():
    assert measuring.processes(no_probe).get_start_method() == "spawn"


def test_killed_at_any_moment_it_leaves_a_whole_file_and_no_process(tmp_path):
    script = ("import sys; sys.path.insert(0, 'tests'); import test_measuring as t; m = t.measuring; "
              "m.measure_all([t.Measurement('one', 1, t.good), t.Measurement('two', 1, t.counts)], 1, 300, "
              f"{str(tmp_path / 'all.json')!r}, m.processes())")
    root = measuring.files.DATA.parent
    process = subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    found = {}
    while time.monotonic() < deadline and not found.get("measurements", {}).get("two", {}).get("number"):
        time.sleep(0.05)
        found = measuring.files.read_json(tmp_path / "all.json", {})
    process.kill()
    process.wait()
    found = json.loads((tmp_path / "all.json").read_text())
    assert found["status"] == "running" and found["measurements"]["one"]["status"] == "done"
    assert found["measurements"]["two"]["number"] > 0
    assert process.stdout.read()  # ends only when no process is left that could print
