"""Rankings and demonstrations survive crashes, bad rows and round trips."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_lite import feedback, stats

ROOT = Path(__file__).resolve().parents[1]


def ranking(ranks=(1, 2, 2, 4), prompt_id="p1", labeler="Ada", texts="abcdefghi", **more):
    return feedback.new_ranking(prompt_id, "Say a letter.", list(texts[:len(ranks)]), list(ranks), labeler, **more)


def demonstration(**changes):
    row = feedback.new_demonstration("d1", "p1", "Say hello.", "Hello!", "chat", "Ada", "train", "2026-03-01")
    return {**row, **changes}


# ---- checks

def test_good_rows_pass():
    feedback.check_demonstration(demonstration())
    feedback.check_ranking(ranking(scores=[7, 5, 5, 1], flags=[{"hallucination": False}] * 4, use_case="chat"))


@pytest.mark.parametrize("changes, words", [
    ({"response": "  "}, '"response" is empty'), ({"use_case": " "}, '"use_case" is empty'), ({"split": "dev"}, "dev"),
    ({"date": "1 March"}, "year-month-day"), ({"prompt": 3}, "not text"), ({"schema": 99}, "update rlhf_lite"),
    ({"schema": None}, "schema")])
def test_bad_demonstrations_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        feedback.check_demonstration(demonstration(**changes))


@pytest.mark.parametrize("changes, words", [
    ({"ranks": [1, 2]}, "4 numbers"), ({"ranks": [0, 1, 2, 3]}, "from 1 to 4"), ({"ranks": [1, 2, 3, True]}, "True"),
    ({"ranks": [1, 2, 3, 5]}, "5"), ({"K": 5}, "set it to 4"), ({"responses": []}, "at least two"),
    ({"responses": ["a", "b", "c", "d"]}, "text"), ({"scores": [8, 1, 1, 1]}, "1 to 7"), ({"seconds": -1}, "seconds"),
    ({"flags": [{}]}, "flags"), ({"labeler": " "}, "labeler"),
    ({"responses": [{"text": "x", "token_ids": [1.5]}] * 4}, "token_ids")])
def test_bad_rankings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        feedback.check_ranking({**ranking(), **changes})


@pytest.mark.parametrize("row", [None, 3, [], "text", {}])
def test_rows_that_are_no_records(row):
    for check in (feedback.check_demonstration, feedback.check_ranking):
        with pytest.raises(ValueError):
            check(row)


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                           lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
                           max_leaves=8)


@given(field=st.sampled_from(sorted(ranking(scores=[1] * 4, flags=[{}] * 4))), value=json_values)
@settings(deadline=None)
def test_checks_raise_only_value_errors(field, value):
    for row, check in ((ranking(), feedback.check_ranking), (demonstration(), feedback.check_demonstration)):
        try:
            check({**row, field: value})
        except ValueError as error:
            assert "\n" not in str(error) or "\n" in repr(value)


# ---- the store

@given(texts=st.lists(st.text(st.characters(), min_size=1), max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip_of_any_text(tmp_path, texts):
    path = tmp_path / "rows.jsonl"
    path.unlink(missing_ok=True)
    rows = [{"text": text} for text in texts + ["line\nbreak \u2028 \ud800 é"]]
    for row in rows:
        feedback.append_jsonl(path, row)
    assert feedback.read_jsonl(path) == (rows, [])


def test_torn_at_every_byte(tmp_path):
    """Cut the last row anywhere: the rows before it are kept, and so is whatever is appended afterwards."""
    path = tmp_path / "rows.jsonl"
    first, last, after = ranking(), ranking(labeler="Zoë"), ranking(prompt_id="p2")
    feedback.append_jsonl(path, first)
    start = path.stat().st_size
    feedback.append_jsonl(path, last)
    whole = path.read_bytes()
    for cut in range(start, len(whole) + 1):
        path.write_bytes(whole[:cut])
        rows, problems = feedback.read_jsonl(path, feedback.check_ranking)
        complete = cut >= len(whole) - 1                      # only the newline may be missing
        torn = start < cut < len(whole) - 1
        assert rows == ([first, last] if complete else [first])
        assert len(problems) == torn
        if torn:
            assert f"{path}:2: " in problems[0] and "cut off" in problems[0]
            with pytest.raises(ValueError, match="cut off"):
                feedback.read_jsonl(path, feedback.check_ranking, strict=True)
        feedback.append_jsonl(path, after)
        rows, problems = feedback.read_jsonl(path, feedback.check_ranking)
        assert rows == ([first, last, after] if complete else [first, after])
        assert len(problems) == torn


def test_bad_rows_are_reported_and_good_ones_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = json.dumps(ranking())
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(
        [good, "{oops", "", '{"schema": NaN}', "[" * 100_000, json.dumps({**ranking(), "K": 9}), good]).encode()
        + b"\r\n\xff\xfe\n")
    rows, problems = feedback.read_jsonl(path, feedback.check_ranking)
    assert rows == [ranking(), ranking()]
    assert [p[len(f"{path}:"):].split(":")[0] for p in problems] == ["2", "4", "5", "6", "8"]
    with pytest.raises(ValueError, match="set it to 4"):
        feedback.read_jsonl(path, feedback.check_ranking, strict=True)


def test_missing_file_and_unwritable_row(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        feedback.read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(IsADirectoryError, match="is a folder, not a file"):
        feedback.read_jsonl(tmp_path)
    for value in (math.nan, object()):
        with pytest.raises(ValueError, match="JSON"):
            feedback.append_jsonl(tmp_path / "rows.jsonl", {"x": value})
    assert not (tmp_path / "rows.jsonl").exists()


def test_full_disk_is_one_sentence_and_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    feedback.append_jsonl(path, {"n": 1})
    real_write = os.write

    def half_then_full(handle, data):
        if len(data) > 6:
            return real_write(handle, data[:5])
        raise OSError(28, "No space left on device")

    def refuse(handle):
        raise OSError(28, "No space left on device")

    for before in (path.read_bytes(), path.read_bytes() + b'{"torn'):
        path.write_bytes(before)
        for name, broken in (("write", half_then_full), ("fsync", refuse)):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, broken)
                with pytest.raises(OSError, match="not saved .*free some space"):
                    feedback.append_jsonl(path, {"n": 2})
            assert path.read_bytes() == before                         # no half row, and no row that was not saved
    feedback.append_jsonl(path, {"n": 3})
    rows, problems = feedback.read_jsonl(path)
    assert rows == [{"n": 1}, {"n": 3}] and len(problems) == 1         # the row torn before


def test_a_failed_append_keeps_the_row_of_another_writer(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    feedback.append_jsonl(path, {"n": 1})

    def meanwhile(handle):
        with open(path, "ab") as other:
            other.write(b'{"n": 2}\n')
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(OSError, match="not saved"):
        feedback.append_jsonl(path, {"n": 3})
    assert {"n": 2} in feedback.read_jsonl(path)[0]


@pytest.mark.parametrize("code", ["latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_file_in_another_encoding_is_named(tmp_path, code, end):
    path = tmp_path / "rows.jsonl"
    line = json.dumps(ranking(labeler="Zoë"), ensure_ascii=False)
    path.write_bytes(f"{line}\r\n{line}{end}".encode(code))
    rows, problems = feedback.read_jsonl(path, feedback.check_ranking)
    assert rows == [] and problems == [f"{path}:{n}: the line is not UTF-8; save the file as UTF-8" for n in (1, 2)]


def test_zeros_left_by_a_power_cut_are_a_torn_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    for data in (b"\0" * 9, b'{"n": 1}\n{"n\0\0\0\0'):
        path.write_bytes(data)
        assert "cut off" in feedback.read_jsonl(path)[1][0]


@pytest.mark.parametrize("field", ["prompt", "labeler", "text", "source"])
def test_half_a_character_is_refused(tmp_path, field):
    row = ranking()
    (row["responses"][1] if field in ("text", "source") else row)[field] = "a \ud800"
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    rows, problems = feedback.read_jsonl(tmp_path / "rows.jsonl", feedback.check_ranking)
    assert rows == [] and "contains half a character, '\\ud800'; write the whole" in problems[0]


WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from rlhf_lite import feedback
n = int(sys.argv[2])
while True:
    feedback.append_jsonl(sys.argv[1], {"n": n, "text": "x" * 3000})
    sys.stdout.write(f"{n}\\n")
    sys.stdout.flush()
    n += 1
"""


def test_kill_nine_loses_no_acknowledged_row(tmp_path):
    path, acknowledged, n = tmp_path / "rows.jsonl", [], 0
    for attempt in range(10):
        child = subprocess.Popen([sys.executable, "-c", WRITER, path, str(n), ROOT], stdout=subprocess.PIPE)
        first = child.stdout.readline()
        assert first, "the writer did not start"
        time.sleep(0.003 * attempt)
        child.send_signal(signal.SIGKILL)
        lines = (first + child.communicate()[0]).split(b"\n")[:-1]     # whole lines only
        acknowledged += [int(line) for line in lines]
        n = acknowledged[-1] + 100                                     # numbers of one life never recur in the next
    rows, problems = feedback.read_jsonl(path)
    numbers = [row["n"] for row in rows]
    assert len(numbers) == len(set(numbers)) and numbers == sorted(numbers)
    assert set(acknowledged) <= set(numbers)
    assert len(numbers) - len(acknowledged) <= 10 and len(problems) <= 10   # at most one unacknowledged a life


def test_latest_keeps_the_last_word():
    old, other, new = ranking([1, 2]), ranking([1, 2], labeler="Ben"), ranking([2, 1])
    assert feedback.latest([old, other, new]) == [other, new]


# ---- pairs, agreement, export

ranks_lists = st.integers(2, 9).flatmap(lambda K: st.lists(st.integers(1, K), min_size=K, max_size=K))


@given(ranks_lists)
def test_pairs_are_all_untied_pairs(ranks):
    pairs = feedback.pairs_from_ranking({"ranks": ranks})
    K = len(ranks)
    ties = sum(ranks[i] == ranks[j] for i in range(K) for j in range(i))
    assert len(set(pairs)) == len(pairs) == K * (K - 1) // 2 - ties
    assert all(ranks[winner] < ranks[loser] for winner, loser in pairs)


def test_agreement_by_hand():
    # pairs ab, ac, bc: Ada says a>b, a>c, b=c; Ben says a>b, c>a, c>b. Untied by both: ab (same), ac (not).
    ada, ben = ranking([1, 2, 2]), ranking([2, 3, 1], labeler="Ben")
    assert stats.agreement([ada], [ben]) == (50.0, 2)
    shuffled = feedback.new_ranking("p1", "Say a letter.", ["c", "a", "b"], [1, 2, 3], "Ben")
    assert stats.agreement([ada], [shuffled]) == (50.0, 2)
    assert stats.agreement([ada], [ada]) == (100.0, 2)
    percent, n = stats.agreement([ada], [ranking(prompt_id="p2")])
    assert math.isnan(percent) and n == 0


def test_kendall_by_hand():
    assert stats.kendall_tau_b([1, 2, 3], [1, 2, 3]) == 1
    assert stats.kendall_tau_b([1, 2, 3], [3, 2, 1]) == -1
    # concordant 2, discordant 1, tied in a only: (12); a unties 5 of 6 pairs, b all 6.
    assert stats.kendall_tau_b([1, 1, 2, 3], [1, 2, 4, 3]) == pytest.approx(3 / math.sqrt(30))
    assert math.isnan(stats.kendall_tau_b([1, 1], [1, 2]))
    with pytest.raises(ValueError):
        stats.kendall_tau_b([1], [1, 2])


def test_export_to_pairs_and_datasets(tmp_path):
    rows = [ranking([1, 2, 2]), ranking([1, 2], texts="aa", scores=[3, 4], seconds=1.5)]
    pairs = feedback.preference_pairs(rows)
    assert pairs == [{"prompt": "Say a letter.", "chosen": "a", "rejected": r} for r in "bc"]
    assert feedback.to_dataset(pairs).column_names == ["prompt", "chosen", "rejected"]
    table = feedback.to_dataset(rows)
    assert table[0]["scores"] is None and table[1]["scores"] == [3, 4] and table[0]["responses"][2]["text"] == "c"
    assert len(feedback.to_dataset([])) == 0


def test_the_network_is_closed():
    with pytest.raises(OSError, match="tests must work offline"):
        socket.create_connection(("example.org", 80), timeout=1)
    with pytest.raises(OSError, match="tests must work offline"):
        socket.socket().connect(("93.184.216.34", 80))


# ---- ranges

@pytest.mark.parametrize("seconds", ["1e999", "-1", "-0.001", "1e300", "1" + "0" * 400, '"5"', "true", "null", "[]"])
def test_a_time_that_cannot_be_blocks_nothing(tmp_path, seconds):
    """The row is named and its item is asked again; a skipped item too, which needs no time."""
    from rlhf_lite.widgets.session import RankingSession
    items = [{"prompt_id": "p1", "prompt": "Say a letter.", "responses": ["a", "b"]}]
    path = tmp_path / "ada.jsonl"
    row = json.dumps({"schema": 1, "prompt_id": "p1", "prompt": "Say a letter.", "labeler": "Ada", "status": "skipped",
                      "reason": "r", "seconds": 99}).replace("99", seconds)
    path.write_text(row + "\n")
    session = RankingSession(items, "Ada", path)
    assert len(session.problems) == 1 and len(session.problems[0]) < 400 and session.item is not None
    session.set_rank(0, 1)
    session.set_rank(1, 2)
    session.submit()
    assert len(RankingSession(items, "Ada", path).rankings()) == 1


@pytest.mark.parametrize("name", ["", " ", "a\x1b[2K", "a\nb", "x" * 201, "\u202eada"])
def test_names_are_one_visible_line(name):
    for field in ("labeler", "prompt_id"):
        with pytest.raises(ValueError, match=f'"{field}" is ') as caught:
            feedback.check_ranking(ranking() | {field: name})
        assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_names_that_make_the_same_file_name_are_told_apart(tmp_path, monkeypatch):
    from rlhf_lite.widgets import labels
    from rlhf_lite.widgets.session import DemonstrationSession, RankingSession
    monkeypatch.chdir(tmp_path)
    items = [{"prompt_id": "p1", "prompt": "Say a letter.", "responses": ["a", "b"]}]
    first = RankingSession(items, "Ada")
    first.set_rank(0, 1)
    first.set_rank(1, 1)
    first.submit()
    RankingSession(items, "Ada")
    for name in ("ada", "Ada!", " ada"):
        with pytest.raises(ValueError, match="already holds the work of 'Ada', and you are .* choose another name"):
            RankingSession(items, name)
        with pytest.raises(ValueError, match="already holds the work of 'Ada'"):
            DemonstrationSession(items, name)
    assert labels.default_path("Jose\u0301") == labels.default_path("José") != labels.default_path("Jos")
    assert labels.default_path("CON").name == "con-.jsonl"
    with pytest.raises(ValueError, match="does not make a file name"):
        labels.default_path("李" * 100)
