"""Handing in, and reading what was handed in, by honest people and by others."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from rlhf_lite import __main__ as command_line
from rlhf_lite.workshop import cells, hand_in, submissions

NOTEBOOK = json.dumps({"cells": [{"cell_type": "code", "source": ["f = check('0.1', f)\n", "g = check('0.2', g)"]}]})


@pytest.fixture
def work(tmp_path):
    """A student's folder."""
    folder = tmp_path / "my_work"
    (folder / "runs" / "feedback").mkdir(parents=True)
    (folder / "00_meet.ipynb").write_text(NOTEBOOK, encoding="utf-8")
    (folder / "my_progress.json").write_text('{"0.1": {"mark": "✅", "tries": 2}}', encoding="utf-8")
    (folder / "runs" / "feedback" / "ada.jsonl").write_text('{"ranks": [1, 2]}\n' * 3, encoding="utf-8")
    return folder


def pack(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members:
            packed.writestr(name, content)


def test_one_file_with_everything_and_a_receipt(work, tmp_path):
    path, receipt, lines = hand_in.hand_in("  Ada   Lovelace ", work, tmp_path / "ada.zip")
    with zipfile.ZipFile(path) as packed:
        assert packed.namelist() == ["hand-in.json", "notebooks/00_meet.ipynb", "my_progress.json",
                                     "feedback/ada.jsonl"]
        assert submissions.receipt(packed.read("hand-in.json")) == receipt
    assert lines == ["notebook 00: 1 of 2 exercises solved", "ada.jsonl: 3 rankings",
                     "missing: notebook 00: 0.2 not solved yet", "missing: no demonstrations"]
    (one,) = submissions.collect(tmp_path)[:1]
    assert (one.student, one.receipt, list(one.notebooks)) == ("Ada Lovelace", receipt, ["00"])


@pytest.mark.parametrize("name, folder, words", [
    ("", ".", "Give your name"), ("///", ".", "Give your name"), ("Ada", "nowhere", "there is no such folder"),
    ("Ada", "runs", "there is no notebook here")])
def test_what_cannot_be_handed_in(work, monkeypatch, name, folder, words):
    monkeypatch.chdir(work)
    with pytest.raises(ValueError, match=words):
        hand_in.hand_in(name, folder)
    assert not list(Path(".").glob("*.zip"))


@pytest.mark.parametrize("name", ["../../up", "CON", "Zoë Ångström", "李雷", "a" * 300, "-rf", "=1+1"])
def test_every_name_makes_a_file_here(work, monkeypatch, name):
    monkeypatch.chdir(work.parent)
    path, _, _ = hand_in.hand_in(name, work)
    assert path.parent == Path(".") and path.name.startswith("hand-in-") and path.is_file()


def test_too_large_says_what_to_do(work, monkeypatch):
    monkeypatch.setattr(submissions, "LARGEST", 10)
    with pytest.raises(ValueError, match="clear its outputs"):
        hand_in.hand_in("Ada", work)


def test_by_command_without_waiting_for_torch(work, tmp_path):
    asked = ("import sys; from rlhf_lite import __main__ as cli; "
             f"cli.main(['hand-in', 'Ada', {str(work)!r}, '--out', {str(tmp_path / 'x.zip')!r}]); "
             "print('torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", asked], cwd=Path(command_line.__file__).parents[1],
                          capture_output=True, text=True, check=True, encoding="utf-8")
    assert "Your receipt, to keep: " in done.stdout and done.stdout.rstrip().endswith("False")
    assert command_line.main(["hand-in", "Ada", "nowhere"]) == 1


# ---------------------------------------------------------------- reading

def test_names_of_the_learning_platforms(tmp_path):
    moodle = tmp_path / "Ada Lovelace_12345_assignsubmission_file_"
    moodle.mkdir()
    pack(moodle / "anything.zip", [("05_x.ipynb", NOTEBOOK)])
    loose = tmp_path / "Bo Berg_777_assignsubmission_file_"
    loose.mkdir()
    (loose / "05_ppo.ipynb").write_text(NOTEBOOK, encoding="utf-8")
    pack(tmp_path / "clarke_LATE_4711_99_hand-in-clarke.zip", [("05_x.ipynb", NOTEBOOK)])
    (tmp_path / "dora_4712_98_05_ppo_with.ipynb").write_text(NOTEBOOK, encoding="utf-8")
    (tmp_path / "dora_4712_97_06_evaluation.ipynb").write_text(NOTEBOOK, encoding="utf-8")
    found = {one.student: (one.platform, one.number, sorted(one.notebooks)) for one in submissions.collect(tmp_path)}
    assert found == {"Ada Lovelace": ("moodle", "12345", ["05"]), "Bo Berg": ("moodle", "777", ["05"]),
                     "clarke": ("canvas", "4711", ["05"]), "dora": ("canvas", "4712", ["05", "06"])}


def test_a_changed_file_and_a_borrowed_name_are_noticed(work, tmp_path):
    folder = tmp_path / "all"
    folder.mkdir()
    path, _, _ = hand_in.hand_in("Ada", work, folder / "ada.zip")
    with zipfile.ZipFile(path) as packed:
        manifest = packed.read("hand-in.json")
    pack(folder / "bo.zip", [("hand-in.json", manifest), ("notebooks/00_meet.ipynb", NOTEBOOK + " ")])
    first, second = submissions.collect(folder)
    assert first.student == second.student == "Ada"
    assert any("another hand-in has the name" in note for note in first.notes)
    assert any("is not the file that was handed in" in note for note in second.notes)


@pytest.mark.parametrize("name", ["../00_x.ipynb", "/tmp/00_x.ipynb", "a/../../00_x.ipynb", "..\\00_x.ipynb",
                                  "C:/00_x.ipynb", "C:00_x.ipynb"])
def test_a_name_that_leads_elsewhere(tmp_path, name):
    pack(tmp_path / "a.zip", [(name, NOTEBOOK)])
    (one,) = submissions.collect(tmp_path)
    assert not one.notebooks and "leads out" in one.notes[0]
    assert [path.name for path in tmp_path.rglob("*")] == ["a.zip"] and not (tmp_path.parent / "00_x.ipynb").exists()


def test_bombs(tmp_path):
    pack(tmp_path / "a.zip", [("00_x.ipynb", b"0" * (submissions.LARGEST + 1))])
    pack(tmp_path / "b.zip", [(f"{number:02d}_x.ipynb", b"0" * submissions.LARGEST) for number in range(8)])
    pack(tmp_path / "c.zip", [(f"{number}", b"") for number in range(submissions.MOST_MEMBERS + 1)])
    first, second, third = submissions.collect(tmp_path)
    assert not first.notebooks and "larger than a notebook" in first.notes[0]
    assert len(second.notebooks) == 5 and "larger than a notebook" in second.notes[0]
    assert not third.notebooks and "5,001 files" in third.notes[0]


def test_what_cannot_be_read_is_a_note(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    pack(tmp_path / "b.zip", [("00_x.ipynb", NOTEBOOK)])
    whole = (tmp_path / "b.zip").read_bytes()
    (tmp_path / "c.zip").write_bytes(whole[:60] + b"spoiled" + whole[67:])
    (tmp_path / "d.zip").write_bytes(whole[:-30])
    pack(tmp_path / "e.zip", [("hand-in.json", "[" * 100_000), ("00_x.ipynb", NOTEBOOK)])
    pack(tmp_path / "f.zip", [("hand-in.json", '{"name": {"a": 1}, "files": 3}'), ("00_x.ipynb", b"\xff\xfe")])
    found = submissions.collect(tmp_path)
    assert len(found) == 6 and all(one.notes for one in found if one.file != "b.zip")


def test_links_are_not_followed(tmp_path):
    folder = tmp_path / "all"
    folder.mkdir()
    (tmp_path / "00_secret.ipynb").write_text(NOTEBOOK, encoding="utf-8")
    link = zipfile.ZipInfo("00_x.ipynb")
    link.external_attr = 0o120777 << 16
    pack(folder / "a.zip", [(link, "/etc/passwd")])
    if hasattr(os, "symlink") and os.name == "posix":
        os.symlink(tmp_path / "00_secret.ipynb", folder / "00_x.ipynb")
    (one,) = submissions.collect(folder)
    assert not one.notebooks and "is a link" in one.notes[0]


def test_an_empty_folder_is_one_sentence(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="there is no"):
            submissions.collect(folder)


def test_the_two_parts_of_a_notebook_are_one(tmp_path):
    """Whatever their order in the file; a damaged part leaves the other."""
    first, second = (json.dumps({"cells": [{"cell_type": "code", "source": text}]}) for text in ("a = 1", "b = a"))
    for name, packed in (("ada", [("05b_two.ipynb", second), ("05a_one.ipynb", first)]),
                         ("bo", [("05a_one.ipynb", "{"), ("05b_two.ipynb", second)])):
        pack(tmp_path / f"{name}.zip", packed)
    ada, bo = submissions.collect(tmp_path)
    assert cells.code_cells(ada.notebooks["05"]) == ["a = 1", "b = a"] and ada.notes == []
    assert cells.code_cells(bo.notebooks["05"]) == ["b = a"]
