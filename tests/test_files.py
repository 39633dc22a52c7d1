"""A file or folder is the old one or the new one, never half of each, and whatever else lies there stays."""

import errno
import json
import os
import shutil

import numpy as np
import pytest

from rlhf_lite import files


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith((".lock", ".owner")))


def read(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


# ---------------------------------------------------------------- files

def test_a_file_takes_its_place_when_the_block_ends(tmp_path):
    place = tmp_path / "deep" / "er" / "file.txt"
    for text in ("old", "new"):
        with files.whole_file(place) as new:
            new.write_text(text)
            assert new.parent == place.parent and place.exists() == (text == "new")
        assert place.read_text() == text and names(place.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_a_crash_in_the_block_leaves_the_old_file(tmp_path, error):
    place = tmp_path / "file.txt"
    place.write_text("old")
    with pytest.raises(error), files.whole_file(place) as new:
        new.write_text("ne")
        raise error
    assert read(tmp_path) == {"file.txt": "old"}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path, monkeypatch, call):
    place = tmp_path / "file.txt"
    place.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="Could not write to .*file.txt: .*No space left.* Free some disk") as caught:
            files.write_text(place, "new")
    assert "\n" not in str(caught.value) and read(tmp_path) == {"file.txt": "old"}


def test_what_another_library_raises_for_a_full_disk_can_be_named(tmp_path):
    class Theirs(Exception):
        pass
    with pytest.raises(Theirs), files.whole_file(tmp_path / "a"):
        raise Theirs
    with pytest.raises(OSError, match="not write to .*a: no room. Free"), files.whole_file(tmp_path / "a", Theirs):
        raise Theirs("no room")


def test_a_block_in_a_block_says_it_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught, files.whole_folder(tmp_path / "outer") as new:
        files.write_text(new / "inner.txt", "text")
    assert str(caught.value).count("Could not write to") == 1 and not names(tmp_path)


def test_a_place_that_cannot_be_one_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Could not write to .*choose another folder"):
        files.write_text(tmp_path / "file" / "inside.txt", "text")


# ---------------------------------------------------------------- folders

@pytest.fixture
def folder(tmp_path):
    """A folder that holds a model, and beside it what its owner put there."""
    place = tmp_path / "models" / "mine"
    (place / "deep").mkdir(parents=True)
    (place / "weights").write_text("old")
    (place / "extra").write_text("old")
    (place / "notes.txt").write_text("mine")
    (place / "deep" / "er.txt").write_text("mine too")
    return place


def write(folder, **options):
    with files.whole_folder(folder, replaces=("weights", "extra"), **options) as new:
        (new / "weights").write_text("new")


def test_a_folder_takes_its_place_and_other_files_survive(folder):
    write(folder)
    assert names(folder) == ["deep", "notes.txt", "weights"]  # "extra" was the old model's
    assert (folder / "weights").read_text() == "new" and (folder / "notes.txt").read_text() == "mine"
    assert (folder / "deep" / "er.txt").read_text() == "mine too"
    assert names(folder.parent) == ["mine"]


def test_a_new_folder_can_be_read_by_others(tmp_path):
    write(tmp_path / "new" / "one")
    assert names(tmp_path / "new") == ["one"] and read(tmp_path / "new" / "one") == {"weights": "new"}
    if os.name == "posix":
        assert (tmp_path / "new" / "one").stat().st_mode & 0o777 == 0o755


def test_other_files_survive_where_links_are_not_possible(folder, monkeypatch):
    monkeypatch.setattr(os, "link", full)
    write(folder)
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "weights").read_text() == "new"


def is_old(folder):
    return (names(folder) == ["deep", "extra", "notes.txt", "weights"] and (folder / "weights").read_text() == "old"
            and names(folder.parent) == ["mine"])


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_crash_in_the_block_leaves_the_old_folder(folder, error):
    with pytest.raises(error), files.whole_folder(folder, replaces=("weights",)) as new:
        (new / "weights").write_text("ne")
        raise error
    assert is_old(folder)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_folder(folder, monkeypatch, call):
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="Could not write to .*mine: .*No space left.* Free some disk space"):
            write(folder)
    assert is_old(folder)


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_death_at_any_rename_leaves_a_whole_folder(folder, monkeypatch, renames):
    """Killed, so that nothing is tidied up: what is read afterwards is the old folder or the new one."""
    replace, done = os.replace, []

    class Killed(BaseException):
        pass

    def die(*places):
        if len(done) >= renames:
            raise Killed
        done.append(places)
        replace(*places)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        patch.setattr(shutil, "rmtree", lambda *_, **__: done.append("tidied") or die())
        with pytest.raises(Killed):
            write(folder)
    files.settle(folder)
    assert (folder / "weights").read_text() == ("new" if renames == 2 else "old")
    assert (folder / "notes.txt").read_text() == "mine"
    write(folder)  # and the next one writes as ever
    assert (folder / "weights").read_text() == "new" and (folder / "notes.txt").read_text() == "mine"


# ---------------------------------------------------------------- reaching the disk

def test_files_and_folders_are_synced(tmp_path):
    (tmp_path / "file").write_text("text")
    files.fsync(tmp_path / "file")
    files.fsync(tmp_path)


def test_windows_syncs_no_folders_and_files_only_for_writing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("text")
    opened, real = [], os.open
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append(flags) or real(path, flags))
    files.fsync(tmp_path)
    assert not opened
    files.fsync(tmp_path / "file")
    assert opened == [os.O_RDWR]


# ---------------------------------------------------------------- text and JSON

def test_text_is_utf8_with_plain_newlines(tmp_path):
    files.write_text(tmp_path / "a.txt", "β\nγ\n")
    assert (tmp_path / "a.txt").read_bytes() == "β\nγ\n".encode()


def test_json_is_strict(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": [float("nan"), np.float32(0.5), np.int64(3)], "b": (float("inf"), "β", None, True)})
    assert json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail) == {
        "a": [None, 0.5, 3], "b": [None, "β", None, True]}
    assert files.read_json(path) == {"a": [None, 0.5, 3], "b": [None, "β", None, True]}


def test_json_that_is_not_there_or_damaged(tmp_path):
    assert files.read_json(tmp_path / "none.json") is None and files.read_json(tmp_path / "none.json", {}) == {}
    for content in (b'{"a": ', b"\xff\xfe{}"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(ValueError, match="a.json is damaged .*delete it and run the command that made it again"):
            files.read_json(tmp_path / "a.json")
