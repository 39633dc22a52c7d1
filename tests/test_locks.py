"""One at a time: whoever comes second is told who is there, and what two processes write at once is never lost."""

import contextlib
import json
import os
import threading

import pytest

from rlhf_lite import feedback, files, locks
from rlhf_lite.exercises import checking
from rlhf_lite.widgets import labels, merge

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, which Windows does not have")


def test_the_second_is_told_who_holds_it(tmp_path):
    with locks.alone(tmp_path / "place"), pytest.raises(locks.Busy) as caught, locks.alone(tmp_path / "place"):
        pytest.fail("two at once")
    said = str(caught.value)
    assert f"process {os.getpid()} of " in said and str(tmp_path / "place") in said and "\n" not in said
    with locks.alone(tmp_path / "place"):  # and when the first has finished, the next one comes in
        pass


def test_another_place_is_free(tmp_path):
    with locks.alone(tmp_path / "one"), locks.alone(tmp_path / "two"):
        pass


def test_an_error_inside_is_not_mistaken_for_a_lock(tmp_path):
    with pytest.raises(TimeoutError, match="theirs"), locks.alone(tmp_path / "place"):
        raise TimeoutError("theirs")


@forks
def test_a_lock_ends_with_its_process(tmp_path):
    """Killed while holding it: nothing is left over that somebody would have to delete."""
    if (child := os.fork()) == 0:
        with locks.alone(tmp_path / "place"):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with locks.alone(tmp_path / "place"):
        pass


# ---------------------------------------------------------------- unique names, made exclusively

def test_two_threads_writing_one_file_do_not_meet(tmp_path):
    """With one fixed name, the first to finish would take the other's half-written file away."""
    with files.whole_file(tmp_path / "a.txt") as one, files.whole_file(tmp_path / "a.txt") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "a.txt").read_text() == "one" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_link_that_was_put_in_the_way_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("precious")
    for name in (f".a.txt.{os.getpid()}.new", "a.txt.part", ".a.txt.0000.new"):  # names one could guess
        (tmp_path / name).symlink_to(tmp_path / "precious")
    files.write_text(tmp_path / "a.txt", "new")
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0000")
    with pytest.raises(OSError, match="Could not write to .*a.txt"):  # even if it is guessed
        files.write_text(tmp_path / "a.txt", "newer")
    assert (tmp_path / "precious").read_text() == "precious" and (tmp_path / "a.txt").read_text() == "new"


def test_a_long_name_is_no_problem(tmp_path):
    files.write_text(tmp_path / ("n" * 240 + ".json"), "text")
    assert (tmp_path / ("n" * 240 + ".json")).read_text() == "text"


def test_what_killed_writers_left_is_swept_up_and_nothing_else(tmp_path):
    (tmp_path / "deep" / ".sft.new-abcd1234").mkdir(parents=True)
    for name in (".a.json.0123456789abcdef.new", "deep/.sft.new-abcd1234/weights", "a.json", ".notes.new", "x.new"):
        (tmp_path / name).write_text("")
    files.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".notes.new", "a.json", "deep", "x.new"]


def test_a_reader_does_not_disturb_a_writer_between_its_two_renames(tmp_path, monkeypatch):
    """`settle` undoes what a killed writer left; a writer that is alive is waited for."""
    folder, replace, readers = tmp_path / "model", os.replace, []
    for text in ("old", "new"):
        with monkeypatch.context() as patch:
            if text == "new":
                def read_in_between(source, target):
                    replace(source, target)
                    if not readers:
                        readers.append(threading.Thread(target=files.settle, args=(folder,)))
                        readers[0].start()
                        readers[0].join(0.2)
                patch.setattr(os, "replace", read_in_between)
            with files.whole_folder(folder, replaces=("weights",)) as new:
                (new / "weights").write_text(text)
                (new / f"{text}.txt").write_text("")
    readers[0].join()
    assert (folder / "weights").read_text() == "new" and sorted(p.name for p in folder.iterdir()) == [
        "new.txt", "old.txt", "weights"]


# ---------------------------------------------------------------- several processes at once

def together(act, count=4):
    """Call act(number) in several processes at once; all must end well."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                act(number)
                os._exit(0)
            os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count


@forks
def test_no_progress_mark_is_lost(tmp_path, monkeypatch):
    monkeypatch.setenv("RLHF_LITE_PROGRESS", str(tmp_path / "progress.json"))
    together(lambda number: [checking.remember(f"{number}.{i}", checking.DONE) for i in range(40)])
    assert len(json.loads((tmp_path / "progress.json").read_text(encoding="utf-8"))) == 160


@forks
def test_merges_to_one_file_leave_a_whole_one(tmp_path):
    for name in ("Ann", "Bob"):
        for i in range(20):
            feedback.append_jsonl(tmp_path / f"{name}.jsonl", feedback.new_ranking(f"p{i}", "Hi?", ["a" * 999, "b"],
                                                                                  [1, 2], name))
    together(lambda _: [merge.merge([tmp_path / "*.jsonl"], tmp_path / "out") for _ in range(10)])
    rows, problems = labels.rankings(tmp_path / "out")
    assert len(rows) == 40 and not problems


def test_a_merge_waits_for_the_one_that_is_writing_and_then_sees_its_rows(tmp_path, monkeypatch):
    for name in ("Ann", "Bob"):
        feedback.append_jsonl(tmp_path / f"{name}.jsonl", feedback.new_ranking("p", "Hi?", ["a", "b"], [1, 2], name))
    monkeypatch.setattr(merge, "PATIENCE", 0)
    with locks.alone(tmp_path / "out"), pytest.raises(locks.Busy, match="in use by process"):
        merge.merge([tmp_path / "Ann.jsonl"], tmp_path / "out")
    merge.merge([tmp_path / "Ann.jsonl"], tmp_path / "out")
    with pytest.raises(ValueError, match="by Ann, .* would be lost"):
        merge.merge([tmp_path / "Bob.jsonl"], tmp_path / "out")
