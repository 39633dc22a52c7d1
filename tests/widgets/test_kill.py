"""kill -9 at random moments while somebody ranks: no submitted record is lost and none counts twice.

    RLHF_LITE_KILLS=1000 python -m pytest tests/widgets/test_kill.py -s     the recorded run

A small process without PyTorch forks one labeler after the other on the same file, so that every labeler resumes what
the ones before it left, and kills each after a random time. A labeler says what was acknowledged through a pipe.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from rlhf_lite.widgets import labels
from rlhf_lite.widgets.session import RankingSession

ROOT = Path(__file__).resolve().parents[2]
ITEMS = [{"prompt_id": f"p{i}", "prompt": f"Question {i}?" * 5,
          "responses": [{"text": f"answer {i}.{j} " * 20, "source": f"model{j}"} for j in range(4)]} for i in range(60)]


def label(path, say, seed):
    """A person who ranks, skips, thinks again, and never stops."""
    rng = random.Random(seed)
    session = RankingSession(ITEMS, "Ada", path)
    say({"does": "ready", "ranked": sorted(session.records)})
    while session.item is not None:
        key, chance = session.item["item_id"], rng.random()
        if chance < 0.1 and session.records:
            last = next(reversed(session.records))
            say({"does": "undoing", "item": last})
            session.undo()
            say({"does": "undone", "item": last})
            key = session.item["item_id"]
        ranks = [rng.randint(1, 4) for _ in range(4)]
        for place, rank in enumerate(ranks):
            session.set_rank(place, rank)
        order = session.order()
        say({"does": "submitting", "item": key, "ranks": [ranks[order.index(i)] for i in range(4)]})
        row = session.submit()
        say({"does": "submitted", "item": key, "ranks": row["ranks"]})


def one_kill(path, rng):
    """Fork a labeler, kill it, and return what it had said."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            label(path, lambda what: os.write(write, json.dumps(what).encode() + b"\n"), rng.random())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = [pipe.readline()]  # the session is ready; before that there is nothing to kill
        # A few submits, however slow the disk is, and then a moment that falls anywhere in the next ones.
        for _ in range(rng.randrange(4)):
            while said[-1] and b"submitted" not in said[-1]:
                said.append(pipe.readline())
            said.append(pipe.readline())
        time.sleep(rng.random() ** 2 * 0.05)
        os.kill(child, signal.SIGKILL)
        said += pipe.read().splitlines()
        said = [json.loads(line) for line in said if line.strip()]
    os.waitpid(child, 0)
    return said


def expected(known, said):
    """What must count now: `known` with everything acknowledged. The step in progress may have happened or not."""
    known, open_step = dict(known), None
    for what in said:
        open_step = what if what["does"] in ("submitting", "undoing") else None
        if what["does"] == "submitted":
            known[what["item"]] = what["ranks"]
        elif what["does"] == "undone":
            del known[what["item"]]
    return known, open_step


def drive(kills, folder, seed):
    """Returns what was seen; raises AssertionError with the round's number at the first loss or duplicate."""
    assert "torch" not in sys.modules and "ipywidgets" not in sys.modules, "the sessions must stay light"
    rng = random.Random(seed)
    path, known, files = Path(folder) / "0.jsonl", {}, 1
    totals = dict.fromkeys(("kills", "submitted", "undone", "caught in a save", "saved but not acknowledged"), 0)
    for number in range(kills):
        if len(known) > len(ITEMS) - 25:
            path, known, files = Path(folder) / f"{files}.jsonl", {}, files + 1
        said = one_kill(path, rng)
        assert said[0]["ranked"] == sorted(known), f"round {number}: resuming found {said[0]['ranked']}"
        known, step = expected(known, said)
        rows, _ = labels.rankings(path)
        found = {labels.item_id(row): row["ranks"] for row in rows}
        assert len(found) == len(rows), f"round {number}: an item counts twice"
        for item in known.keys() | found.keys():
            allowed = [known.get(item)] + ([step.get("ranks")] if step and step["item"] == item else [])
            assert found.get(item) in allowed, f"round {number}: {item} is {found.get(item)}, not one of {allowed}"
        count_rows(path, number)
        totals["kills"] += 1
        totals["submitted"] += sum(what["does"] == "submitted" for what in said)
        totals["undone"] += sum(what["does"] == "undone" for what in said)
        totals["caught in a save"] += step is not None
        totals["saved but not acknowledged"] += found != known
        known = found
        if number % 5 == 4:  # real kills hardly ever tear a line this short; a power failure does
            with open(path, "ab") as file:
                file.write(b'{"schema": 1, "prompt_id": "p7", "labeler": "Ada", "ranks": [1, 2'[:rng.randrange(1, 60)])
    return totals


def count_rows(path, number):
    """Between two withdrawals an item is written once: nobody submitted it again because a record was lost."""
    status = {}
    for row in labels.read_labels(path)[0]:
        now = row.get("status", "submitted")
        assert status.get(labels.item_id(row)) != now, f"round {number}: {labels.item_id(row)} was {now} twice in a row"
        status[labels.item_id(row)] = now


if __name__ == "__main__":
    print(json.dumps(drive(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))))
else:
    import pytest

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL, which Windows does not have")
    def test_kill_9_loses_and_duplicates_nothing(tmp_path):
        kills = int(os.environ.get("RLHF_LITE_KILLS", 40))
        done = subprocess.run([sys.executable, __file__, str(kills), str(tmp_path), "1"], capture_output=True,
                              text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120 + 3 * kills)
        assert done.returncode == 0, done.stderr
        totals = json.loads(done.stdout)
        print(totals)
        assert totals["kills"] == kills and totals["submitted"] >= kills / 2
