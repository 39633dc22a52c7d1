"""The ranking page beyond its buttons: the order as it grows, marked words, drafts, languages, themes."""

import json
import string

import pytest

w = pytest.importorskip("ipywidgets")

from rlhf_lite import feedback  # noqa: E402
from rlhf_lite.widgets import language, marks, unsaved  # noqa: E402
from rlhf_lite.widgets.order import in_words, ladder_html, picked, steps  # noqa: E402
from rlhf_lite.widgets.ranking import RankingWidget  # noqa: E402
from rlhf_lite.widgets.session import RankingSession  # noqa: E402

ITEM = {"prompt_id": "p0", "prompt": "Where is the mill?", "responses": [
    {"text": f"The mill 🌾 is by the river, answer {j}.", "source": f"model{j}"} for j in range(4)]}


def session(tmp_path, n=2, **options):
    return RankingSession([{**ITEM, "prompt_id": f"p{i}"} for i in range(n)], "Ada", tmp_path / "a.jsonl", **options)


def test_clicks_make_an_order_and_take_answers_out_of_it():
    ranks = [0, 0, 0, 0]
    for place in (2, 0, 3):
        ranks = picked(ranks, place)
    assert ranks == [2, 0, 1, 3] and picked(ranks, 1, tie=True) == [2, 3, 1, 3]
    assert picked(ranks, 2) == [1, 0, 0, 2]  # out, and the gap is closed
    assert picked([2, 2, 1, 0], 0) == [0, 2, 1, 0]  # no gap: B stays on its step
    assert picked([1, 4, 0, 0], 2) == [1, 2, 3, 0]  # no rank beyond 4
    assert picked([0, 0], 1, tie=True) == [0, 1] and steps([2, 0, 1, 2]) == [(1, [2]), (2, [0, 3])]


def test_the_order_is_shown_and_said_with_ties_as_one_step():
    say = language.speaker("en")
    html = ladder_html([2, 0, 1, 2], say)
    assert html.count("rlhf-step") == 2 and "<b>A</b><i>=</i><b>D</b>" in html and "still to rank: B" in html
    assert in_words([2, 0, 1, 2], say) == "Order: C best, then A, D tied. Not ranked yet: B."
    assert "rlhf-step" not in ladder_html([0, 0], say)


def test_a_click_on_a_card_ranks_and_undo_takes_it_back(tmp_path):
    page = RankingWidget(session(tmp_path))
    for kind, place in (("pick", 2), ("pick", 0), ("tie", 3)):
        page.card(kind, place)
    assert page.session.draft.ranks == [2, 0, 1, 2] and "A, D tied" in page.status.value
    page.press(" ")  # the marked card is D: out again
    assert page.session.draft.ranks == [2, 0, 1, 0]
    page.undo.click()
    assert page.session.draft.ranks == [2, 0, 1, 2]
    page.safe(page.card)("pick", 7)
    assert "no answer H here" in page.status.value
    page.press("ArrowLeft")
    page.press("0")
    assert page.session.draft.ranks == [2, 0, 0, 2]


def test_nothing_is_an_answer_before_the_learner_acts(tmp_path):
    page = RankingWidget(session(tmp_path))
    assert page.session.draft.begun() is False
    page.save.click()
    page.press("s")
    page.press("s")
    assert not page.session.records and not (tmp_path / "a.jsonl").exists()
    page.press("s")
    page.press("2")  # a reason, while it is asked for; otherwise a rank
    assert page.session.records["p0"]["reason"] == "I do not understand the prompt"
    page.press("2")
    assert page.session.draft.ranks[0] == 2


def test_marked_words_are_kept_with_their_answer(tmp_path):
    page = RankingWidget(session(tmp_path))
    text = page.session.shown()[1]
    page.card("select", 1, 4, 10)
    assert page.form.words.value == text[4:10] == "mill 🌾"
    page.form.line.value = " too <vague> "
    page.form.add.click()
    assert '<mark data-number="1">mill 🌾</mark>' in page.slots[1].text.value
    assert "too &lt;vague&gt;" in page.slots[1].text.value
    page.form.answer.value, page.form.words.value, page.form.line.value = 3, "river", "true"
    page.form.add.click()
    page.form.words.value, page.form.line.value = "sea", "false"
    page.form.add.click()
    assert "not in answer D" in page.status.value
    page.form.remove.click()
    page.undo.click()
    for place in range(4):
        page.card("pick", place)
    order = page.session.order()
    page.save.click()
    row = page.session.rankings()[0]
    start = text.index("river")
    assert row["critique"] == [{"answer": order[1], "start": 4, "end": 10, "text": "too <vague>"},
                               {"answer": order[3], "start": start, "end": start + 5, "text": "true"}]
    page.undo.click()
    assert [mark["place"] for mark in page.session.draft.marks] == [1, 3]
    page.undo.click()  # nothing to undo within it: the marks stay
    assert "critique" not in feedback.new_ranking(**ITEM, ranks=[1] * 4, labeler="Ada")


def test_overlapping_marks_are_all_shown():
    html = marks.marked_html("abcdef", [{"start": 0, "end": 4}, {"start": 2, "end": 6}])
    assert html == '<mark data-number="">ab</mark><mark data-number="1">cd</mark><mark data-number="2">ef</mark>'


@pytest.mark.parametrize("marks_, message", [
    ("x", "not a list"), ([1], 'no "answer"'), ([{"answer": 4, "start": 0, "end": 1, "text": "x"}], 'no "answer"'),
    ([{"answer": 0, "start": 3, "end": 3, "text": "x"}], "before"),
    ([{"answer": 0, "start": 0, "end": 999, "text": "x"}], "before"),
    ([{"answer": True, "start": 0, "end": 1, "text": "x"}], 'no "answer"'),
    ([{"answer": 0, "start": 0, "end": 1, "text": " "}], "one line"),
    ([{"answer": 0, "start": 0, "end": 1, "text": "a\nb"}], "one line"),
    ([{"answer": 0, "start": 0, "end": 1, "text": "x" * 501}], "one line"),
    ([{"answer": 0, "start": 0, "end": 1}], "one line")])
def test_a_critique_that_cannot_be_is_refused(marks_, message):
    with pytest.raises(ValueError, match=message):
        feedback.new_ranking(**ITEM, ranks=[1, 2, 3, 4], labeler="Ada", critique=marks_)


def test_what_is_not_submitted_survives_a_restart_and_is_no_ranking(tmp_path):
    first = session(tmp_path)
    first.set_rank(1, 2)
    first.set_note("half way")
    marks.add(first, 0, 0, 3, "why?")
    first.open(1)
    first.set_flag(3, "opinion")
    again = session(tmp_path)
    assert again.draft.ranks == [0, 2, 0, 0] and again.draft.note == "half way" and len(again.draft.marks) == 1
    again.open(1)
    assert again.draft.flags[3] == {"opinion"} and not again.records and not (tmp_path / "a.jsonl").exists()
    assert session(tmp_path, seed=1).order(0) == again.order(0)  # as it was on the screen
    other = RankingSession([ITEM], "Bo", tmp_path / "a.jsonl")
    assert not other.draft.begun()
    changed = {**ITEM, "responses": [*ITEM["responses"][:3], "another"]}
    assert not RankingSession([changed], "Ada", tmp_path / "a.jsonl").draft.begun()
    for index in (1, 0):
        again.open(index)
        for place in range(4):
            again.set_rank(place, 1)
        again.submit()
    assert not unsaved.place(tmp_path / "a.jsonl", "Ada").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"p0": 1}', '{"p0": {"answers": "x"}}', '{"p0": null}'])
def test_a_damaged_draft_stops_nobody(tmp_path, content):
    s = session(tmp_path)
    s.set_rank(0, 1)
    place = unsaved.place(s.path, "Ada")
    kept = json.loads(place.read_text(encoding="utf-8"))
    place.write_text(content, encoding="utf-8")
    assert not session(tmp_path).draft.begun()
    for name, value in (("ranks", [9, 0, 0, 0]), ("order", [0, 0, 0, 0]), ("flags", 3), ("marks", [{}])):
        place.write_text(json.dumps({"p0": {**kept["p0"], name: value}}), encoding="utf-8")
        assert not session(tmp_path).draft.begun()


def test_a_full_disk_does_not_stop_the_ranking(tmp_path, monkeypatch):
    s = session(tmp_path)

    def full(*_):
        raise OSError(28, "disk full")
    monkeypatch.setattr("os.replace", full)
    s.set_rank(0, 1)
    assert s.draft.ranks[0] == 1 and list(tmp_path.iterdir()) == []


def test_personal_consistency_is_shown_at_the_end(tmp_path):
    page = RankingWidget(session(tmp_path, n=1, repeats=1))
    for _ in range(2):
        assert "twice" not in page.prompt.value
        for place, text in enumerate(page.session.shown()):
            page.session.set_rank(place, int(text[-2]) + 1)
        page.save.click()
    assert "You saw 1 of these prompts twice. You put 100 % of the 6 pairs" in page.prompt.value


def fields(text):
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


@pytest.mark.parametrize("name", [name for name in language.languages() if name != "en"])
def test_a_translation_has_every_sentence_and_place(name):
    english, other = (json.loads((language.TEXTS / f"{n}.json").read_text(encoding="utf-8")) for n in ("en", name))
    assert english.keys() == other.keys() and english["flags"].keys() == other["flags"].keys()
    assert len(english["reasons"]) == len(other["reasons"])
    for key, text in english.items():
        if isinstance(text, str) and key not in ("error.number",):
            assert fields(other[key]) == fields(text), key
            assert other[key].count("<") == text.count("<"), key


def test_the_language_is_chosen_by_argument_or_environment(tmp_path, monkeypatch):
    page = RankingWidget(session(tmp_path), language="de")
    page.save.click()
    assert page.save.description == "Speichern und weiter" and "noch ohne Rang: A, B, C, D" in page.status.value
    page.press("s")
    page.press("1")
    assert page.session.records["p0"]["reason"] == "I cannot judge this one"  # the record stays in English
    monkeypatch.setenv(language.VARIABLE, "de")
    assert RankingWidget(session(tmp_path)).undo.description == "Rückgängig"
    with pytest.raises(ValueError, match="use one of de, en"):
        RankingWidget(session(tmp_path), language="xx")


def test_themes_are_changed_by_a_button(tmp_path):
    page = RankingWidget(session(tmp_path), theme="dark")
    page.look.click()
    assert "rlhf-contrast" in page._dom_classes and "rlhf-dark" not in page._dom_classes
    assert page.look.description == "Theme: high contrast"
    with pytest.raises(ValueError, match="use one of auto"):
        RankingWidget(session(tmp_path), theme="pink")
