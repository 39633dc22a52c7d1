"""Thirty people are thirty people: nobody is called "me" unless they say so, and a name is asked for once."""

import inspect
import re
from pathlib import Path

import pytest

from rlhf_lite import feedback
from rlhf_lite.widgets import compare, labels, names, writing
from rlhf_lite.widgets.session import RankingSession

ROOT = Path(__file__).resolve().parents[2]
ITEMS = [{"prompt_id": f"p{i}", "prompt": f"Question {i}?", "responses": ["yes", "no"]} for i in range(4)]


def nobody(question):
    raise EOFError


def rank(session):
    for place in range(2):
        session.set_rank(place, place + 1)
    return session.submit()


def test_a_name_is_asked_for_once(tmp_path):
    asked = []
    kept = tmp_path / "runs" / "my_name.txt"
    assert names.my_name(kept=kept, ask=lambda q: asked.append(q) or "  Ada   L ") == "Ada L" and len(asked) == 1
    assert names.my_name(kept=kept, ask=nobody) == "Ada L"  # a restart
    assert names.my_name("Bo", kept=kept, ask=nobody) == "Bo" == names.my_name(kept=kept, ask=nobody)


@pytest.mark.parametrize("bad", ["", "   ", "\x1b[2J", "x" * 201])
def test_a_bad_name_is_asked_for_again(tmp_path, bad, capsys):
    said = iter([bad, "Ada"])
    assert names.my_name(kept=tmp_path / "n.txt", ask=lambda q: next(said)) == "Ada"
    assert "name" in capsys.readouterr().out
    if bad.strip():
        with pytest.raises(ValueError, match="cannot be a name"):
            names.my_name(bad, kept=tmp_path / "n.txt")


@pytest.mark.parametrize("error", [EOFError, OSError, NotImplementedError])
def test_where_nobody_can_be_asked_everybody_is_a_guest_of_their_own(tmp_path, monkeypatch, error):
    def ask(question):
        raise error

    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        found += [names.my_name(ask=ask), names.my_name(ask=ask)]
    assert found[0] == found[1] != found[2] == found[3] and found[0].startswith("guest-")


def test_sessions_ask(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(names, "my_name", lambda: "Ada L")
    monkeypatch.setattr(compare, "my_name", lambda: "Ada L")
    assert RankingSession(ITEMS).annotator == "Ada L" and RankingSession(ITEMS).path == labels.default_path("Ada L")
    assert writing.DemonstrationSession(ITEMS).annotator == "Ada L"
    assert compare.Comparison(len, len).session.annotator == "Ada L"


def test_nobody_is_me_by_default():
    for made in (RankingSession, writing.DemonstrationSession, compare.Comparison, compare.recorded_vote):
        assert inspect.signature(made).parameters["annotator"].default is None
    for source in sorted((ROOT / "solutions").glob("*.py")):
        assert not re.search(r"Session\([^)]*\"me\"", source.read_text(encoding="utf-8"))


def test_a_file_that_went_away_comes_back_whole(tmp_path):
    """A learner moves or deletes the file, or changes the folder, while the page is open."""
    path = tmp_path / "runs" / "ada.jsonl"
    session = RankingSession(ITEMS, "Ada", path)
    rank(session)
    rank(session)
    (tmp_path / "runs").rename(tmp_path / "moved")
    rank(session)
    rows, problems = feedback.read_jsonl(path, feedback.check_ranking)
    assert [row["prompt_id"] for row in rows] == ["p0", "p1", "p2"] and not problems
    assert RankingSession(ITEMS, "Ada", path).progress().ranked == 3
