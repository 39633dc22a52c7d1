"""Predictions: kept at once, closed by the answer, counted at the end, and never in the way of the exercises."""

import json

import pytest

w = pytest.importorskip("ipywidgets")

from rlhf_lite.exercises import checking, setup  # noqa: E402
from rlhf_lite.widgets import predict  # noqa: E402
from rlhf_lite.widgets.predict import PredictionBox  # noqa: E402


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)
    monkeypatch.setenv("RLHF_LITE_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def box(path, **options):
    return PredictionBox(path, "00 notes", "How many?", **options)


@pytest.mark.parametrize("text, value", [("3", 3), (" 30 % ", 30), ("0,25", 0.25), ("-1.5", -1.5), ("−2", -2)])
def test_numbers_as_people_type_them(text, value):
    assert predict.number(text) == value


@pytest.mark.parametrize("text", ["many", "", "nan", "inf", "1.000.000", "3 of 4"])
def test_what_is_not_a_number_is_said_so_and_not_kept(path, text):
    with pytest.raises(ValueError, match="not a number"):
        predict.number(text)
    widget = box(path)
    widget.typed.value = text
    assert "said" not in predict.read(path)["00 notes"] and ("Not done" in widget.status.value) == bool(text)


def test_it_is_on_the_disk_as_soon_as_it_is_typed_and_comes_back(path):
    box(path, unit="of 4").typed.value = "3"
    assert predict.read(path)["00 notes"]["said"] == 3
    again = box(path, unit="of 4")
    assert again.typed.value == "3" and "3 of 4" in again.status.value and not again.typed.disabled
    again.typed.value = "2"
    assert predict.read(path)["00 notes"]["said"] == 2


def test_the_answer_closes_the_box_until_one_predicts_again(path):
    widget = box(path, close=1)
    widget.typed.value = "3"
    assert predict.settle(path, "00 notes", 0) == "You predicted 3; it was 0: a surprise."
    widget.typed.value = "0"  # after the answer
    assert "the answer is out" in widget.status.value and predict.read(path)["00 notes"]["said"] == 3
    later = box(path, close=1)
    assert later.typed.disabled and later.again.layout.display is None and "a surprise" in later.status.value
    later.again.click()
    assert not later.typed.disabled and later.typed.value == "" and predict.read(path)["00 notes"]["was"] is None


def test_nobody_has_to_predict_and_one_may_in_a_second_run(path):
    assert predict.settle(path, "00 notes", 2) == "You made no prediction; it was 2."
    widget = box(path)
    assert not widget.typed.disabled
    widget.typed.value = "2"
    assert predict.read(path)["00 notes"]["was"] is None  # the answer of the earlier run does not count
    assert predict.settle(path, "00 notes", 2).endswith("right.")


@pytest.mark.parametrize("said, was, close, right", [
    (70, 72.6, 5, True), (70, 76, 5, False), (0, 0, 0, True), ("yes", "yes", 0, True), ("yes", "no", 0, False),
    (None, 3, 1, None), (3, None, 1, None)])
def test_right_close_or_a_surprise(said, was, close, right):
    assert predict.hit({"said": said, "was": was, "close": close}) is right


def test_choices_are_buttons_and_a_choice_that_is_gone_is_not_shown(path):
    widget = box(path, choices=("letters", "facts"))
    assert widget.choices.value is None
    widget.choices.value = "facts"
    assert predict.read(path)["00 notes"]["said"] == "facts"
    assert box(path, choices=("letters", "lists")).choices.value is None


def test_a_lesson_asks_answers_and_sums_up(path, capsys):
    lesson = setup("00")
    lesson.predict("notes", "How many <b>notes</b>?", unit="of 4", close=1).typed.value = "1"
    lesson.predict("why", "Why?", choices=("a", "b")).choices.value = "a"
    setup("01").predict("other", "Something else?").typed.value = "1"
    capsys.readouterr()
    lesson.outcome("notes", 0)
    lesson.outcome("why", "b")
    lesson.predict("silent", "Who said nothing?")
    lesson.outcome("silent", 1)
    assert "You predicted 1 of 4; it was 0 of 4: close." in capsys.readouterr().out
    table = lesson.predictions().data
    assert "1 of 2 predictions were right or close" in capsys.readouterr().out
    assert "How many &lt;b&gt;notes&lt;/b&gt;?" in table and "Who said nothing?" in table
    assert "Something else" not in table


def test_exercises_and_predictions_share_the_file(path):
    checking.remember("0.1", checking.DONE)
    box(path).typed.value = "3"
    checking.remember("0.2", checking.WRONG)
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved["0.1"]["mark"] == checking.DONE and "0.2" in saved and saved["predictions"]["00 notes"]["said"] == 3
    checking.progress("00")  # reads the same file


@pytest.mark.parametrize("content", ["", "[]", "{", '{"predictions": 3}', '{"predictions": {"00 notes": 3}}'])
def test_a_spoilt_file_stops_nobody(path, content):
    path.write_text(content, encoding="utf-8")
    assert predict.read(path) == {}
    box(path).typed.value = "3"
    assert predict.read(path)["00 notes"]["said"] == 3


def test_a_folder_that_cannot_be_written_stops_nobody(path, monkeypatch):
    monkeypatch.setattr("rlhf_lite.files.write_json", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    widget = box(path)
    widget.typed.value = "3"
    assert "no space" in widget.status.value
    assert predict.settle(path, "00 notes", 2).startswith("It was 2.")


def test_no_predictions_no_reproach(path, capsys):
    setup("00").predictions()
    assert "You made no predictions" in capsys.readouterr().out
