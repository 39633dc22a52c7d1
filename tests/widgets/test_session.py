"""Sessions keep what they were given: ties, undo, skips, restarts, torn lines."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_lite import __main__ as cli
from rlhf_lite import feedback, stats
from rlhf_lite.town.grading import FLAGS
from rlhf_lite.widgets import labels, merge, simulated
from rlhf_lite.widgets.draft import IDLE
from rlhf_lite.widgets.session import DemonstrationSession, RankingSession

# Durability is proven in test_kill.py; without waiting for the disk these tests take seconds, not minutes.
pytestmark = pytest.mark.usefixtures("no_fsync")
RELAXED = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def no_fsync():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda handle: None)
        yield


def items(n=3, k=4):
    return [{"prompt_id": f"p{i}", "prompt": f"Question {i}?", "use_case": "chat", "split": "train",
             "responses": [{"text": f"answer {i}.{j}", "source": f"model{j}", "token_ids": [j, 2]} for j in range(k)]}
            for i in range(n)]


def session(path, n=3, k=4, **options):
    return RankingSession(items(n, k), options.pop("annotator", "Ada"), path, **options)


def rank_all(s, ranks=None):
    for place in range(len(s.item["responses"]) if s.item else 0):
        s.set_rank(place, ranks[place] if ranks else place + 1)


def state(s):
    """All that must survive a restart."""
    return list(s.records.items()), s.progress()


# ---- ranking

@given(ranks=st.lists(st.integers(1, 5), min_size=5, max_size=5), seed=st.integers(0, 9))
@RELAXED
def test_ranks_reach_the_record_of_the_right_answer(tmp_path, ranks, seed):
    path = tmp_path / "a.jsonl"
    path.unlink(missing_ok=True)
    s = session(path, k=5, seed=seed)
    shown = s.shown()
    rank_all(s, ranks)
    row = s.submit()
    saved = [response["text"] for response in row["responses"]]
    assert dict(zip(saved, row["ranks"], strict=True)) == dict(zip(shown, ranks, strict=True))
    assert [row["responses"][i]["text"] for i in row["shown_order"]] == shown
    feedback.check_ranking(row)
    assert feedback.read_jsonl(path, feedback.check_ranking) == ([row], [])
    assert row["responses"][0]["token_ids"] == [0, 2] and row["split"] == "train"


actions = st.lists(st.one_of(
    st.tuples(st.just("rank"), st.integers(0, 3), st.integers(0, 4)), st.tuples(st.just("tie"), st.integers(0, 3)),
    st.tuples(st.just("score"), st.integers(0, 3), st.integers(0, 7)),
    st.tuples(st.just("flag"), st.integers(0, 3), st.sampled_from(FLAGS), st.booleans()),
    st.tuples(st.just("note"), st.text(max_size=3)), st.tuples(st.just("all"), st.permutations([1, 2, 2, 4])),
    st.tuples(st.just("submit")), st.tuples(st.just("submit")), st.tuples(st.just("skip")),
    st.tuples(st.just("undo")), st.tuples(st.just("open"), st.integers(0, 2)),
    st.tuples(st.just("restart"), st.integers(0, 40))), max_size=25)


def perform(s, path, action):
    """One action; returns the session, a new one after a restart."""
    kind, *rest = action
    if kind == "restart":
        with open(path, "ab") as file:  # torn in the middle of a row that was never acknowledged
            file.write(b'{"schema": 1, "prompt_id": "p0", "labeler": "Ada", "ranks"'[:rest[0]])
        return session(path)
    {"rank": s.set_rank, "tie": s.tie, "score": s.set_score, "flag": s.set_flag, "note": s.set_note,
     "all": lambda ranks: rank_all(s, ranks), "submit": s.submit, "skip": lambda: s.skip("unclear"), "undo": s.undo,
     "open": s.open}[kind](*rest)
    return s


@given(actions=actions)
@RELAXED
def test_any_history_reads_back_as_it_is(tmp_path, actions):
    """Whatever a person does, refused or not, a session made anew from the file is in the same state."""
    path = tmp_path / "a.jsonl"
    path.unlink(missing_ok=True)
    s = session(path)
    orders = [s.order(i) for i in range(3)]
    for action in actions:
        before = state(s)
        try:
            s = perform(s, path, action)
        except ValueError as error:
            assert str(error) and state(s) == before
        fresh = session(path)
        assert state(fresh) == state(s)
        assert [fresh.order(i) for i in range(3)] == [s.order(i) for i in range(3)] == orders
        assert len({labels.item_id(row) for row in s.records.values()}) == len(s.records)
        assert labels.rankings(path)[0] == s.rankings() if path.exists() else not s.records
        assert s.item is not None or len(s.records) == 3


@given(changes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=12))
@RELAXED
def test_undo_walks_back_through_every_change(tmp_path, changes):
    s = session(tmp_path / "none.jsonl")
    seen = [list(s.draft.ranks)]
    for place, rank in changes:
        s.set_rank(place, rank)
        if s.draft.ranks != seen[-1]:
            seen.append(list(s.draft.ranks))
    while len(seen) > 1:
        assert s.draft.ranks == seen.pop()
        s.undo()
    assert s.draft.ranks == seen.pop()
    with pytest.raises(ValueError, match="nothing to undo"):
        s.undo()
    assert not (tmp_path / "none.jsonl").exists()


def test_undo_of_a_submit_withdraws_it_also_after_a_restart(tmp_path):
    path = tmp_path / "a.jsonl"
    s = session(path)
    rank_all(s, [2, 1, 1, 4])
    s.set_flag(1, "hallucination")
    s.set_note("hm")
    s.submit()
    assert s.index == 1
    s.undo()
    for t in (s, session(path)):
        assert t.index == 0 and t.draft.ranks == [2, 1, 1, 4] and t.draft.note == "hm" and t.progress().ranked == 0
        assert t.draft.flags[1] == {"hallucination"}
    assert labels.rankings(path) == ([], [])
    s.submit()
    assert session(path).progress().ranked == 1


def test_ties(tmp_path):
    s = session(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="rank that one first"):
        s.tie(1)
    with pytest.raises(ValueError, match="above"):
        s.tie(0)
    s.set_rank(0, 2)
    for place in (1, 2, 3):
        s.tie(place)
    assert feedback.pairs_from_ranking(s.submit()) == []


def test_refusals_say_what_to_do(tmp_path):
    s = session(tmp_path / "a.jsonl")
    s.set_rank(0, 1)
    with pytest.raises(ValueError, match="not ranked yet: B, C, D"):
        s.submit()
    rank_all(s)
    s.set_score(2, 7)
    with pytest.raises(ValueError, match="all the answers or none; not scored yet: A, B, D"):
        s.submit()
    for bad in (5, -1, 1.0, True, None, "1"):
        with pytest.raises(ValueError, match="whole number from 1 to 4"):
            s.set_rank(0, bad)
    with pytest.raises(ValueError, match="last one is D"):
        s.set_rank(4, 1)
    with pytest.raises(ValueError, match="no flag"):
        s.set_flag(0, "hedging")
    with pytest.raises(ValueError, match="reason"):
        s.skip(" ")
    with pytest.raises(ValueError, match="pair mode"):
        s.choose("A")
    assert s.progress().ranked == 0
    with pytest.raises(ValueError, match="two items are called 'p0'"):
        RankingSession(items(1) * 2, "Ada", tmp_path / "b.jsonl")
    with pytest.raises(ValueError, match="no responses"):
        RankingSession([{"prompt_id": "p", "prompt": "?"}], "Ada", tmp_path / "b.jsonl")
    with pytest.raises(ValueError, match="10 answers; give 2 to 9"):
        session(tmp_path / "b.jsonl", k=10)
    with pytest.raises(ValueError, match="no name"):
        session(tmp_path / "b.jsonl", annotator=" ")
    for _ in range(3):
        s.skip("unclear")
    for act in (lambda: s.set_rank(0, 1), lambda: s.set_score(0, 1), lambda: s.set_flag(0, "opinion"), s.submit,
                lambda: s.set_note("x"), lambda: s.skip("x")):
        with pytest.raises(ValueError, match="all items are done"):
            act()


def test_scores_can_be_required(tmp_path):
    s = session(tmp_path / "a.jsonl", need_scores=True)
    rank_all(s)
    with pytest.raises(ValueError, match="score all the answers; not"):
        s.submit()
    for place in range(4):
        s.set_score(place, place + 1)
    row = s.submit()
    assert [row["scores"][i] for i in row["shown_order"]] == [1, 2, 3, 4]


def test_skip_keeps_the_reason_and_teaches_nothing(tmp_path):
    path = tmp_path / "a.jsonl"
    s = session(path)
    s.skip("I cannot judge this one")
    rank_all(s)
    s.submit()
    s = session(path)
    assert s.index == 2 and s.progress()[:3] == (1, 1, 3)
    assert [row["prompt_id"] for row in labels.rankings(path)[0]] == ["p1"]
    rows, problems = feedback.read_jsonl(path, feedback.check_ranking)
    assert len(rows) == 1 and len(problems) == 1  # a reader of rankings cannot take a skip for one


def test_last_record_wins(tmp_path):
    path = tmp_path / "a.jsonl"
    s = session(path)
    for ranks in ([1, 2, 3, 4], [4, 3, 2, 1]):
        s.open(0)
        rank_all(s, ranks)
        s.submit()
    s.skip("unclear")
    s.open(1)
    rank_all(s)
    s.submit()  # a ranking replaces a skip
    assert len(path.read_bytes().splitlines()) == 4
    fresh = session(path)
    assert [row["ranks"] for row in fresh.rankings()] == [row["ranks"] for row in s.rankings()]
    fresh.open(0)
    assert fresh.draft.ranks == [4, 3, 2, 1]


def test_order_depends_on_seed_annotator_and_item_only(tmp_path):
    path = tmp_path / "a.jsonl"
    many = session(path, n=40)
    orders = [many.order(i) for i in range(40)]
    assert len({tuple(order) for order in orders}) > 10
    assert [session(path, n=40).order(i) for i in range(40)] == orders
    turned = RankingSession(items(40)[::-1], "Ada", path)
    assert [turned.order(39 - i) for i in range(40)] == orders
    assert [session(path, n=40, annotator="Bo").order(i) for i in range(40)] != orders
    assert [session(path, n=40, seed=1).order(i) for i in range(40)] != orders
    first_places = [order[0] for order in orders]
    assert all(3 <= first_places.count(j) <= 20 for j in range(4))  # no answer is always on top
    assert orders[0] == [1, 0, 3, 2]  # and the same on every machine


def test_a_saved_item_keeps_its_order_under_another_seed(tmp_path):
    path = tmp_path / "a.jsonl"
    s = session(path)
    rank_all(s)
    row = s.submit()
    for seed in range(5):
        again = session(path, seed=seed)
        again.open(0)
        assert again.order() == row["shown_order"] and again.draft.ranks == [1, 2, 3, 4]


def test_other_answers_to_the_same_prompt_are_asked_again(tmp_path):
    path = tmp_path / "a.jsonl"
    s = session(path)
    rank_all(s)
    s.submit()
    changed = items()
    changed[0]["responses"][2]["text"] = "newly sampled"
    s = RankingSession(changed, "Ada", path)
    assert s.index == 0 and s.progress().ranked == 0 and "other answers" in s.problems[0]


def test_people_in_one_file_do_not_mix(tmp_path):
    path = tmp_path / "a.jsonl"
    ada = session(path)
    rank_all(ada)
    ada.submit()
    bo = session(path, annotator="Bo")
    assert bo.index == 0 and bo.progress().ranked == 0


@pytest.mark.parametrize("verdict, ranks, both_bad", [("A", [1, 2], False), ("B", [2, 1], False),
                                                      ("tie", [1, 1], False), ("both bad", [1, 1], True)])
def test_pair_mode(tmp_path, verdict, ranks, both_bad):
    s = session(tmp_path / "a.jsonl", k=2, pairs=True)
    s.choose("B")
    s.choose(verdict)
    row = s.submit()
    assert [row["ranks"][i] for i in row["shown_order"]] == ranks and row["both_bad"] is both_bad
    s.undo()
    assert s.draft.ranks == ranks and s.draft.both_bad is both_bad
    with pytest.raises(ValueError, match="give 2 in pair mode"):
        session(tmp_path / "a.jsonl", k=3, pairs=True)


def test_seconds_count_work_and_not_lunch(tmp_path):
    now = [0.0]
    s = session(tmp_path / "a.jsonl", clock=lambda: now[0])
    now[0] = 7
    s.set_rank(0, 1)
    now[0] = 10_000  # lunch
    rank_all(s)
    now[0] += 3
    row = s.submit()
    assert row["seconds"] == 7 + IDLE + 3 == s.progress().seconds
    now[0] += 2
    s.undo()
    now[0] += 4
    assert s.submit()["seconds"] == row["seconds"] + 4


def test_full_disk_changes_nothing(tmp_path, monkeypatch):
    s = session(tmp_path / "a.jsonl")
    rank_all(s)

    def full(path, row):
        raise OSError(28, "no space left")
    with monkeypatch.context() as patch:
        patch.setattr(feedback, "append_jsonl", full)
        for act in (s.submit, lambda: s.skip("unclear")):
            with pytest.raises(OSError):
                act()
    assert s.index == 0 and s.draft.ranks == [1, 2, 3, 4] and s.progress().ranked == 0
    s.submit()


def test_repeats_measure_self_consistency(tmp_path):
    path = tmp_path / "a.jsonl"
    s = session(path, n=5, repeats=3)
    assert len(s.items) == 8
    assert simulated.simulate(s, lambda prompt, texts: [int(t[-1]) + 1 for t in texts]) == 8
    found = stats.self_consistency(labels.rankings(path)[0])
    assert found == (100.0, 3 * 6, 1.0, 3)
    shown = feedback.reveal(s.rankings())
    assert list(shown) == ["model0", "model1", "model2", "model3"]
    assert shown["model0"] == (8, 1.0, 1.0, 2.0)


def test_flags_are_those_of_table_3():
    assert tuple(labels.FLAGS) == FLAGS and set(labels.SHORT_FLAGS) < set(FLAGS)


@pytest.mark.parametrize("row", [None, 3, {"status": []}, {"status": "lost"}, {"schema": 1, "status": "skipped"},
                                 {"schema": 1, "status": "skipped", "prompt_id": "p", "prompt": "?", "labeler": "A"}])
def test_bad_rows_of_a_file_are_named(row):
    with pytest.raises(ValueError):
        labels.check_label(row)


def test_damaged_file_costs_only_the_damaged_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    s = session(path)
    rank_all(s)
    s.submit()
    good = path.read_bytes()
    junk = [{**json.loads(good), "shown_order": ["x"], "note": 3, "prompt_id": "p1", "item_id": "p1"},
            {**json.loads(good), "item_id": ["p2"]}]
    path.write_bytes(good + b"\x00\xff\n" + b"\n".join(json.dumps(row).encode() for row in junk) + b"\n")
    s = session(path)
    assert s.progress().ranked == 1 and len(s.problems) == 3  # two bad rows, and answers of p0 under the id p1
    for index in range(3):
        s.open(index)


# ---- demonstrations

PROMPTS = [{"prompt_id": f"p{i}", "prompt": f"Please tell me about thing {i}.", "use_case": "generation",
            "split": "train", "attempt": "the the the"} for i in range(3)]


def test_demonstrations_are_written_checked_and_edited(tmp_path):
    path = tmp_path / "a.jsonl"
    s = DemonstrationSession(PROMPTS, "Ada", path, max_tokens=5)
    assert "empty" in s.check()[0]
    s.write("please tell me about  thing 0!")
    assert "repeats the prompt" in " ".join(s.check())
    s.write("one two three four five six")
    assert "6 tokens, 1 too many" in s.check()[0]
    with pytest.raises(ValueError, match="too many"):
        s.submit()
    assert not path.exists()
    assert s.save() and not s.save()
    assert labels.demonstrations(path) == ([], [])  # a draft is no demonstration
    assert feedback.read_jsonl(path, feedback.check_demonstration)[0] == []
    s = DemonstrationSession(PROMPTS, "Ada", path, max_tokens=5)
    assert s.text == "one two three four five six"
    s.write("A thing.\n")
    row = s.submit()
    feedback.check_demonstration(row)
    assert s.index == 1 and row["response"] == "A thing." and row["use_case"] == "generation"
    s.open(0)
    s.write("A better thing.")
    assert s.changed()
    s.open(1)  # leaving saves the draft; the submitted answer still counts
    assert labels.demonstrations(path)[0] == [row]
    s = DemonstrationSession(PROMPTS, "Ada", path, max_tokens=5)
    s.open(0)
    assert s.text == "A better thing." and s.changed()
    better = s.submit()
    assert labels.demonstrations(path) == ([better], []) and better["id"] == row["id"]


@given(texts=st.lists(st.text(max_size=8), min_size=1, max_size=6))
@RELAXED
def test_the_last_saved_text_comes_back(tmp_path, texts):
    path = tmp_path / "a.jsonl"
    path.unlink(missing_ok=True)
    s = DemonstrationSession(PROMPTS, "Ada", path)
    for text in texts:
        s.write(text)
        s.save()
    assert DemonstrationSession(PROMPTS, "Ada", path).text == texts[-1]


def test_rankings_and_demonstrations_share_a_file(tmp_path):
    path = tmp_path / "a.jsonl"
    s = session(path)
    rank_all(s)
    s.submit()
    d = DemonstrationSession(PROMPTS, "Ada", path)
    d.write("A thing.")
    d.save()
    d.submit()
    assert len(labels.rankings(path)[0]) == len(labels.demonstrations(path)[0]) == 1
    assert session(path).index == 1 and DemonstrationSession(PROMPTS, "Ada", path).index == 1


# ---- a class

def test_merge(tmp_path, capsys):
    for name, flip in (("Ada", 1), ("Bo", 1), ("Cy", -1)):
        s = session(labels.default_path(name, tmp_path), annotator=name, repeats=1)
        simulated.simulate(s, lambda prompt, texts, flip=flip: [3 + flip * int(t[-1]) - (flip == 1) * 2 + (flip < 0)
                                                                for t in texts])
        s.undo()
    out = tmp_path / "class.jsonl"
    for _ in range(2):  # a second merge does not count its own output as an annotator
        merged = merge.merge([tmp_path / "*.jsonl"], out)
        assert len(merged.rows) == 9 and not merged.problems
        assert {(a, b): found.percent for a, b, found in merged.pairs} == {
            ("Ada", "Bo"): 100, ("Ada", "Cy"): 0, ("Bo", "Cy"): 0}
        assert merged.pairs[1][2] == (0.0, 18, -1.0, 3)
        assert feedback.read_jsonl(out, feedback.check_ranking, strict=True)[0] == merged.rows
    (tmp_path / "twin.jsonl").write_bytes((tmp_path / "ada.jsonl").read_bytes() + b'{"torn')
    assert cli.main(["rank", "merge", str(tmp_path / "*.jsonl"), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "cut off" in said and "if these are two people" in said and "100.0 %" in said and "of 3 people" in said
    with pytest.raises(FileNotFoundError):
        merge.merge([tmp_path / "no.jsonl"])
    with pytest.raises(ValueError, match="no ranking"):
        (tmp_path / "empty.jsonl").touch()
        merge.merge([tmp_path / "empty.jsonl"])
