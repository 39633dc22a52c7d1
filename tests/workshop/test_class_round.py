"""A class round: thirty people stay thirty, nothing is lost or counted twice, and the numbers are right."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rlhf_lite import commands, feedback, stats
from rlhf_lite.widgets import labels
from rlhf_lite.widgets.session import RankingSession
from rlhf_lite.workshop import class_agreement, class_door, class_folder, class_norming, class_page, projector

ITEMS = [{"prompt_id": f"p{i}", "prompt": f"Question {i}?", "responses": [
    {"text": f"answer {i}.{j}", "source": "model"} for j in range(4)]} for i in range(20)]


def rank(folder, name, seed=0, items=ITEMS, round=1, repeats=3, note=""):
    rng = np.random.default_rng(seed)
    path = labels.default_path(name, Path(folder) / f"round{round}")
    session = RankingSession(items, name, path, repeats=repeats)
    while session.item is not None:
        order = session.order()
        for place in range(4):
            session.set_rank(place, int(rng.integers(1, 5)) if seed else order[place] + 1)
        session.set_note(note)
        session.submit()
    return path


@pytest.fixture
def folder(tmp_path):
    class_folder.make(tmp_path, ITEMS)
    return tmp_path


def gathered(folder):
    return class_folder.gather(class_folder.files_of(folder))


# ---------------------------------------------------------------- files

def test_thirty_people_called_me_stay_thirty(folder):
    for number in range(30):
        (folder / "round1").mkdir(exist_ok=True)
        rank(folder / str(number), "me", seed=number + 1, items=ITEMS[:2], repeats=0)
        shutil.copy(folder / str(number) / "round1" / "me.jsonl", folder / "round1" / f"student{number}.jsonl")
    found = gathered(folder)
    assert len(found.people) == 30 and sum(map(len, found.people.values())) == 60
    assert "me (round1/student7)" in found.people and "30 people" in found.notes[0]


def test_copies_and_earlier_states_count_once(folder):
    path = rank(folder, "Ada")
    lines = path.read_bytes().splitlines(keepends=True)
    (folder / "round1" / "ada (1).jsonl").write_bytes(b"".join(lines))
    (folder / "round1" / "ada-early.jsonl").write_bytes(b"".join(lines[:5]))
    (folder / "round1" / "ada-torn.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:20])
    found = gathered(folder)
    assert list(found.people) == ["Ada"] and len(found.people["Ada"]) == 23
    assert "cut off" in found.notes[0] and len(found.notes) == 1


def test_one_person_on_two_machines_is_one_person(folder):
    rank(folder, "Ada", items=ITEMS[:8], repeats=0)
    rank(folder / "laptop", "Ada", items=ITEMS[8:], repeats=0)
    shutil.copy(folder / "laptop" / "round1" / "ada.jsonl", folder / "round1" / "ada-laptop.jsonl")
    found = gathered(folder)
    assert {name: len(rows) for name, rows in found.people.items()} == {"Ada": 20} and not found.notes


def test_the_same_row_after_an_undo_is_not_lost(folder):
    session = RankingSession(ITEMS[:1], "Ada", folder / "round1" / "ada.jsonl", clock=lambda: 0.0)
    for _ in range(2):
        for place in range(4):
            session.set_rank(place, 1)
        session.submit()
        session.undo()
    session.submit()
    assert len(gathered(folder).people["Ada"]) == 1


def test_items_are_not_replaced_under_people_who_rank_them(folder):
    with pytest.raises(ValueError, match="choose another folder"):
        class_folder.make(folder, ITEMS[:3])
    class_folder.make(folder, ITEMS)


def test_a_receipt_is_what_counts_and_nothing_else(folder):
    path = rank(folder, "Ada", seed=3)
    rows = gathered(folder).people["Ada"]
    assert class_folder.receipt(rows) == class_folder.receipt(list(reversed(rows)))
    session = class_door.enter(folder, "Ada")
    assert class_folder.receipt(session.rankings()) == class_folder.receipt(rows)
    changed = [{**rows[0], "ranks": rows[0]["ranks"][::-1]}, *rows[1:]]
    assert class_folder.receipt(changed) != class_folder.receipt(rows) != class_folder.receipt(rows[1:])
    path.rename(folder / "round1" / "other.jsonl")
    assert class_folder.receipts(gathered(folder).people) == [("Ada", 20, 3, class_folder.receipt(rows))]


def test_two_tabs_of_one_person_lose_and_double_nothing(folder):
    one, two = (class_door.enter(folder, "Ada") for _ in range(2))
    for number in range(23):
        session = (one, two)[number % 2]
        session.open(number)
        for place in range(4):
            session.set_rank(place, 1 + place)
        session.submit()
    rows = gathered(folder).people["Ada"]
    assert len(rows) == 23 == class_door.enter(folder, "Ada").progress().ranked


def test_a_full_disk_loses_and_doubles_nothing(folder, monkeypatch):
    session = class_door.enter(folder, "Ada")
    real, full = os.write, [True]

    def write(handle, data):
        if full[0] and len(data) > 200:
            return real(handle, bytes(data)[:100]) if full.append(1) or len(full) % 2 == 0 else no_space()
        return real(handle, data)

    def no_space():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", write)
    for place in range(4):
        session.set_rank(place, place + 1)
    for _ in range(3):
        with pytest.raises(OSError, match="was not saved"):
            session.submit()
    assert not gathered(folder).people and not gathered(folder).notes  # not even half a row
    full[0] = False
    session.submit()
    assert len(gathered(folder).people["Ada"]) == 1 and session.progress().ranked == 1


# ---------------------------------------------------------------- agreement

def test_agreement_is_that_of_stats(folder):
    for number, name in enumerate(("Ada", "Bo", "Cy")):
        rank(folder, name, seed=number + 1)
    people = gathered(folder).people
    found = class_agreement.compare(people)
    for (a, b), one in class_agreement.pairs(found).items():
        percent, n = stats.agreement(*(class_folder.first_time(people[name]) for name in (a, b)))
        assert one.n == n and 100 * one.value == pytest.approx(percent) and one.low <= one.value <= one.high
    total = class_agreement.everybody(found)
    assert total.n == sum(one.n for one in class_agreement.pairs(found).values())
    assert sum(one.n for one in class_agreement.by_prompt(found).values()) == total.n
    assert sum(one.n for one in class_agreement.by_person(found).values()) == 2 * total.n
    assert class_agreement.consistency(people)["Ada"].prompts == 3


def test_who_disputes_what_and_why(folder):
    rank(folder, "Ada", note="")
    rank(folder, "Bo", note="too long")
    path = rank(folder, "Cy", items=ITEMS[1:])
    rows = [{**ITEMS[0], "ranks": [4, 3, 2, 1], "K": 4, "schema": 1, "labeler": "Cy", "seconds": 1, "note": "rude",
             "critique": [{"answer": 3, "start": 0, "end": 6, "text": "ends too soon"}]}]
    feedback.append_jsonl(path, rows[0])
    worst = class_agreement.disputed(gathered(folder).people)[0]
    assert worst.prompt_id == "p0" and worst.agreement.value == pytest.approx(1 / 3)
    assert ("Cy", "rude") in worst.why and ("Cy", "on “answer”: ends too soon") in worst.why
    assert worst.camps == ("Ada", "Cy", -1.0)
    assert worst.answers[0][0] == "answer 0.0" and worst.answers[0][2] == ["Ada", "Bo"]


def test_the_merge_of_thirty_files_is_quick(folder):
    for number in range(30):
        rank(folder, f"Person {number}", seed=number + 1, repeats=0)
    started = time.process_time()
    people = class_page.merged(folder).people
    class_page.agreement_lines(people)
    class_agreement.disputed(people)
    assert time.process_time() - started < 10 and len(people) == 30
    assert len(feedback.read_jsonl(folder / "class.jsonl", feedback.check_ranking)[0]) == 600


# ---------------------------------------------------------------- the norming round

def test_a_norming_round_is_held_against_a_control(folder):
    for number in range(5):
        rank(folder, f"P{number}", seed=number + 1)
    people = gathered(folder).people
    chosen = class_norming.write(folder, people)
    assert len(chosen["discussed"]) == len(chosen["control"]) == 4 and not {*chosen["discussed"]} & {*chosen["control"]}
    with pytest.raises(ValueError, match="already"):
        class_norming.write(folder, people)
    again = class_folder.items(folder, 2)
    assert class_folder.open_round(folder) == 2 and len(again) == 8
    session = class_door.enter(folder, "P0")
    assert len(session.items) == 8 and session.path.parent.name == "round2"
    for number in range(4):  # one has gone home; the others agree on what was discussed, and nothing else changed
        path = labels.default_path(f"P{number}", folder / "round2")
        for row in class_folder.first_time(people[f"P{number}"]):
            if row["prompt_id"] in chosen["discussed"] + chosen["control"]:
                ranks = [1, 2, 3, 4] if row["prompt_id"] in chosen["discussed"] else row["ranks"]
                feedback.append_jsonl(path, {**row, "ranks": ranks})
    found = class_page.norming(folder, people)
    assert found["discussed"].after == 1 and found["discussed"].change.low > 0 and found["discussed"].people == 4
    assert found["control"].change[:3] == (0, 0, 0)
    page = class_page.write(folder, people).read_text(encoding="utf-8")
    assert "The norming round" in page


def test_a_norming_round_needs_disputes(folder):
    rank(folder, "Ada")
    with pytest.raises(ValueError, match="two people"):
        class_norming.choose(gathered(folder).people)


# ---------------------------------------------------------------- pages

def test_what_people_write_cannot_run_in_the_page(folder):
    rank(folder, "<script>alert(1)</script>", note="<img src=x onerror=alert(1)>")
    rank(folder, "Bo", seed=1)
    page = class_page.write(folder, gathered(folder).people).read_text(encoding="utf-8")
    assert "<script>" not in page and "<img src=x" not in page and "&lt;img" in page


def test_the_door_asks_for_a_name_and_asks_again_if_it_is_taken(folder):
    rank(folder, "Ada", items=ITEMS[:5], repeats=0)
    door = class_door.Door(folder)
    door.enter.click()
    assert "name is empty" in door.status.value
    door.name.value = "Ada"
    door.enter.click()
    assert "has ranked 5 here already" in door.status.value and len(door.children) == 3
    door.enter.click()
    assert door.session.progress().ranked == 5 and len(door.children) == 4
    door.receipt.click()
    assert class_folder.receipt(door.session.rankings()) in door.status.value
    other = class_door.Door(folder)
    other.name.value = "ADA"  # the same file name, another person
    other.enter.click()
    assert "choose another name" in other.status.value


def test_the_page_is_for_this_machine_and_behind_a_token(folder, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(class_door.serve.subprocess, "run", lambda command, **_: seen.append(command) or type(
        "Done", (), {"returncode": 0}))
    monkeypatch.setattr(class_door.serve.importlib.util, "find_spec", lambda name: True)
    assert class_door.page(folder) == 0 and class_door.page(folder, 9000, others=True) == 0
    tokens = [part.split("=")[1] for command in seen for part in command if part.startswith("--Voila.token=")]
    assert len({*tokens}) == 2 and all(len(token) == 14 for token in tokens)
    assert "--Voila.ip=127.0.0.1" in seen[0] and "--Voila.ip=0.0.0.0" in seen[1]
    assert tokens[0] in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        class_door.page(folder / "nowhere")


def test_the_projector_notebook_is_valid_and_kept(folder):
    path = projector.write(folder)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            compile("".join(cell["source"]), "cell", "exec")
            assert len(cell["source"]) <= 25
    path.write_text("mine", encoding="utf-8")
    assert projector.write(folder).read_text(encoding="utf-8") == "mine"


def test_every_step_has_its_options():
    from rlhf_lite.workshop import class_round
    for step in class_round.STEPS:
        assert commands.parser().parse_args(["class", step, "folder"]).step == step


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL, which Windows does not have")
def test_kernels_killed_while_a_class_ranks_lose_and_double_nothing():
    """Everybody in two kernels on one file. The recorded run: python tests/soak.py 0 1000 0 0 0"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, root / "tests" / "soak.py", "0", "30", "0", "0", "0"], capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(root)}, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "class: 30 kills" in done.stdout
