# ruff: noqa: E501 (the tables of forms are easier to read with one row per line)
"""Preferences from other tools: every form with good files and bad ones; nothing is guessed, nothing is lost unseen."""

import gzip
import json

import pytest

from rlhf_lite import __main__ as cli
from rlhf_lite import feedback
from rlhf_lite.real import human_data, importing

U, A, S = "user", "assistant", "system"


def m(role, text):
    return {"role": role, "content": text}


def node(role, text, rank=None, *replies):
    return {"role": role, "text": text, "rank": rank, "replies": list(replies), "message_id": text}


def argilla(value, **fields):
    return {"id": "1", "status": "completed", "fields": {"instruction": "Q", "response-1": "x", "response-2": "y", **fields},
            "responses": {"ranking": [{"user_id": "u", "status": "submitted", "value": value}]}}


def task(result, cancelled=False, **data):
    return {"id": 1, "data": {"prompt": "Q", "answer1": "x", "answer2": "y",
                              "items": [{"id": "i", "body": "x"}, {"id": "j", "body": "y"}, {"id": "k", "body": "z"}],
                              **data},
            "annotations": [{"completed_by": 3, "was_cancelled": cancelled, "result": result}]}


def ranker(**buckets):
    return [{"type": "ranker", "from_name": "rank", "to_name": "list", "value": {"ranker": buckets}}]


def pairwise(side):
    return [{"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": side}}]


def vote(winner, one="x", two="y", asked="Q"):
    return {"question_id": "1", "model_a": "alpha", "model_b": "beta", "winner": winner, "judge": "Ada",
            "conversation_a": [m(U, "Q"), m(A, one)], "conversation_b": [m(U, asked), m(A, two)]}


def uf(*scores):
    return {"instruction": "Q", "completions": [{"model": f"m{i}", "response": text, "overall_score": score}
                                                for i, (text, score) in enumerate(zip("xyz", scores, strict=False))]}


def eval_(preference, two="y"):
    return {"instruction": "Q", "output_1": "x", "output_2": two, "generator_1": "g", "preference": preference}


HH = "\n\nHuman: Q\n\nAssistant: "
LONE = "half \ud83d"
# {form: (good rows -> answers from best to worst, ties joined by "="; bad rows -> the reason; options)}
FORMS = {
    "trl explicit": ([({"prompt": "Q", "chosen": "x", "rejected": "y"}, "x>y"),
                      ({"prompt": "Q", "chosen": "Q x", "rejected": "Q y"}, "x>y"),
                      ({"prompt": "Q", "chosen": "x", "rejected": "y", "score_chosen": 1.0, "score_rejected": 2.0},
                       "x>y")],
                     [({"prompt": "Q", "chosen": "x", "rejected": "x"}, "two equal answers"),
                      ({"prompt": "Q", "chosen": None, "rejected": "x"}, "no answer"),
                      ({"prompt": "Q", "chosen": "", "rejected": "x"}, "empty answer"),
                      ({"prompt": "Q", "chosen": 3, "rejected": "x"}, "answer that is not text"),
                      ({"prompt": "Q", "chosen": LONE, "rejected": "x"}, "half a character"),
                      ({"prompt": " ", "chosen": "x", "rejected": "y"}, "empty prompt")], {}),
    "trl implicit": ([({"chosen": "Q\nx", "rejected": "Q\ny"}, "x>y"),
                      ({"chosen": "Q\n\nx", "rejected": "Q\n\ny"}, "x>y"),
                      ({"chosen": "Q\nx\nz", "rejected": "Q\ny"}, "x\nz>y")],
                     [({"chosen": "x", "rejected": "y"}, "no prompt"), ({"chosen": "Q\nx", "rejected": "Q\nx"}, "equal"),
                      ({"chosen": "Q\n", "rejected": "Q\ny"}, "no prompt"), ({"chosen": "Q\nx"}, "no known form"),
                      ({"chosen": ["Q\nx"], "rejected": "Q\ny"}, "not text")], {}),
    "trl conversational": ([({"prompt": [m(U, "Q")], "chosen": [m(A, "x")], "rejected": [m(A, "y")]}, "x>y"),
                            ({"chosen": [m(U, "Q"), m(A, "x")], "rejected": [m(U, "Q"), m(A, "y")]}, "x>y"),
                            ({"prompt": "Q", "chosen": [m(U, "Q"), m(A, "x")], "rejected": [m(U, "Q"), m(A, "y")]},
                             "x>y"),
                            ({"chosen": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "x"}],
                              "rejected": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "y"}]}, "x>y")],
                           [({"chosen": [m(U, "Q"), m(A, "x")], "rejected": [m(U, "P"), m(A, "y")]}, "different prompts"),
                            ({"chosen": [m(U, "Q"), m(U, "x")], "rejected": [m(U, "Q"), m(A, "y")]}, "without an answer"),
                            ({"prompt": [m(A, "Q")], "chosen": [m(A, "x")], "rejected": [m(A, "y")]}, "person's turn"),
                            ({"prompt": [m("tool", "Q")], "chosen": [m(A, "x")], "rejected": [m(A, "y")]}, "whose role"),
                            ({"prompt": [m(U, [{"type": "image"}])], "chosen": [m(A, "x")], "rejected": [m(A, "y")]},
                             "pictures")], {}),
    "hh": ([({"chosen": HH + "x", "rejected": HH + "y"}, "x>y"),
            ({"chosen": HH + "x\n\nx2", "rejected": HH + "y"}, "x\n\nx2>y"),
            ({"chosen": "Human: Q\n\nAssistant: x", "rejected": "Human: Q\n\nAssistant: y"}, "x>y")],
           [({"chosen": HH + "x", "rejected": HH + "x"}, "two equal answers"),
            ({"chosen": HH + "x", "rejected": HH.replace("Q", "P") + "y"}, "different prompts"),
            ({"chosen": "\n\nHuman: Q\n\nHuman: P\n\nAssistant: x", "rejected": HH + "y"}, "broken dialogue"),
            ({"chosen": HH + "x", "rejected": HH + ""}, "empty"),
            ({"chosen": HH + "x\n\nHuman: thanks", "rejected": HH + "y"}, "without an answer")], {}),
    "argilla": ([(argilla([{"value": "response-2", "rank": 1}, {"value": "response-1", "rank": 2}]), "y>x"),
                 (argilla(["response-2", "response-1"]), "y>x"),
                 ({"instruction": "Q", "response-1": "x", "response-2": "y", "ranking": [
                     {"user_id": "u", "status": "submitted", "value": {"rank": [1, 1],
                                                                      "value": ["response-1", "response-2"]}}]}, "x=y"),
                 ({"instruction": "Q", "a": "x", "b": "y", "ranking.responses": [["b", "a"]],
                   "ranking.responses.users": ["u"], "ranking.responses.status": ["submitted"]}, "y>x"),
                 ({"fields": {"prompt": "Q", "a": "x", "b": "y"}, "responses": [{"user_id": "u", "values": {"ranking": {
                     "value": [{"value": "a", "rank": 2}, {"value": "b", "rank": 1}]}}}]}, "y>x")],
                [(argilla(["response-2"]), "without names or ranks"), (argilla(["response-2", "response-9"]), "no field"),
                 (argilla("good"), "no submitted ranking"), ({**argilla([]), "responses": {}}, "no submitted ranking"),
                 (argilla([{"value": "response-1", "rank": None}, {"value": "response-2", "rank": 1}]), "fewer than two"),
                 (argilla(["response-1", "response-2"], **{"response-2": "x"}), "equal answers with different ranks")],
                {}),
    "label studio ranker": ([(task(ranker(rank=["j", "i"])), "y>x"), (task(ranker(rank=["k", "i", "j"])), "z>x>y"),
                             (task(ranker(best=["j", "k"], _=["i"])), "y>z"),
                             ({"id": 1, "prompt": "Q", "items": [{"id": "i", "body": "x"}, {"id": "j", "body": "y"}],
                               "rank": {"ranker": {"rank": ["j", "i"]}}}, "y>x")],
                            [(task(ranker(good=["i"], bad=["j"])), "several buckets"), (task([]), "no Ranker"),
                             (task(ranker(rank=["i", "nobody"])), "not in the list"),
                             (task(ranker(rank=["i"])), "fewer than two"),
                             (task(ranker(rank=["i", "j"]), cancelled=True), "no Ranker"),
                             (task(ranker(rank=["i", "j"]), items=[]), "no list of items")], {}),
    "label studio pairwise": ([(task(pairwise("left")), "x>y"), (task(pairwise("right")), "y>x"),
                               ({"id": 2, "prompt": "Q", "text1": "x", "text2": "y", "pw": {"selected": "right"}},
                                "y>x")],
                              [(task(pairwise("up")), "no Ranker or Pairwise"), (task(pairwise(None)), "no Ranker"),
                               (task(pairwise("left"), answer2="x"), "equal answers"),
                               (task(pairwise("left"), answer2=None), "no answer"),
                               (task(pairwise("left"), prompt=None), "no prompt")], {}),
    "ultrafeedback": ([(uf(1, 3.5, 2), "y>z>x"), (uf(1, None, 2), "z>x"), (uf("4", "nan", "2"), "x>z"),
                       (uf(2, 2, 1), "x=y>z")],
                      [(uf(1), "fewer than two"), (uf(float("nan"), 1), "fewer than two"), (uf(True, 1), "no number"),
                       (uf("good", 1), "no number"), ({**uf(1, 2), "instruction": None}, "no prompt"),
                       ({"instruction": "Q", "completions": [{"overall_score": 1}, {"overall_score": 2}]}, "no answer")],
                      {}),
    "scores": ([({"prompt": "Q", "responses": ["x", "y", "z"], "scores": [0.1, None, 0.9]}, "z>x"),
                ({"prompt": "Q", "responses": [{"text": "x", "score": 1}, {"text": "y", "score": 2}]}, "y>x"),
                ({"question": {"full_text": "Q"}, "answer_0": "x", "answer_1": "y", "score_0": -1, "score_1": 1}, "y>x")],
               [({"prompt": "Q", "responses": ["x", "y"], "scores": [1]}, "not as many"),
                ({"prompt": "Q", "responses": ["x", "y"], "scores": [float("nan"), 1]}, "fewer than two"),
                ({"prompt": "Q", "responses": ["x", 4], "scores": [1, 2]}, "not text"),
                ({"prompt": "Q", "responses": ["x", "x"], "scores": [1, 2]}, "equal answers with different"),
                ({"responses": ["x", "y"], "scores": [1, 2]}, "no prompt")], {"better": "higher"}),
    "open assistant": ([({"prompt": node("prompter", "Q", None, node(A, "x", 1), node(A, "y", 0), node(A, "z"))}, "y>x"),
                        ({"message_tree_id": "t", "prompt": node("prompter", "Q", None, node(A, "x", 0), node(A, "y", 2),
                                                                 node(A, "z", 1))}, "x>z>y"),
                        ({"prompt": node("prompter", "Q", None, node(A, "x", 0), node(A, "y", 1, node("prompter", "R")))},
                         "x>y")],
                       [({"prompt": node("prompter", "Q")}, "without two ranked"),
                        ({"prompt": node("prompter", "Q", None, node(A, "x", 0))}, "without two ranked"),
                        ({"prompt": node("prompter", "Q", None, node(A, "x"), node(A, "y"))}, "without two ranked"),
                        ({"prompt": node("prompter", "Q", None, node(A, "x", 0), node(A, None, 1))}, "no answer"),
                        ({"prompt": node("nobody", "Q", None, node(A, "x", 0), node(A, "y", 1))}, "whose role")], {}),
    "choice": ([({"prompt": "Q", "answer_a": "x", "answer_b": "y", "choice": "b"}, "y>x"),
                ({"prompt": "Q", "response_0": "x", "response_1": "y", "preference": 1}, "y>x"),
                ({"prompt": "Q", "output_1": "x", "output_2": "y", "winner": 1}, "x>y"),
                ({"history": "Q", "human_ref_A": "x", "human_ref_B": "y", "labels": 1}, "x>y"),
                ({"info": {"post": "Q"}, "summaries": [{"text": "x"}, {"text": "y"}], "choice": 1}, "y>x"),
                ({"prompt": "Q", "answer_a": "x", "answer_b": "y", "winner": "tie"}, "x=y"),
                ({"prompt": "Q", "response A": "x", "response B": "y", "better": "y"}, "y>x")],
               [({"prompt": "Q", "answer_a": "x", "answer_b": "y", "choice": None}, "no choice"),
                ({"prompt": "Q", "answer_a": "x", "answer_b": "y", "choice": "c"}, "names neither"),
                ({"prompt": "Q", "response_0": "x", "response_1": "y", "choice": 2}, "names neither|choice 2"),
                ({"prompt": "Q", "answer_a": "x", "answer_b": "y", "choice": ["a"]}, "neither text nor"),
                ({"answer_a": "x", "answer_b": "y", "choice": "a"}, "no prompt"),
                ({"info": {}, "summaries": [{"text": "x"}], "choice": 0}, "not a post")], {}),
    "alpaca eval": ([(eval_(1), "x>y"), (eval_(1.98), "y>x"), (eval_(1.5), "x=y")],
                    [(eval_(None), "no preference"), (eval_(float("nan")), "no preference"), (eval_(3), "outside 1 to 2"),
                     (eval_("best"), "no number"), (eval_(1, "x"), "two equal answers")], {}),
    "arena": ([(vote("model_a"), "x>y"), (vote("model_b"), "y>x"), (vote("tie"), "x=y"), (vote("tie (bothbad)"), "x=y"),
               (vote("both_bad"), "x=y")],
              [(vote("model_c"), "names neither"), (vote(None), "no choice"), (vote("model_a", "x", "x"), "two equal"),
               (vote("model_a", asked="P"), "differ before"), ({**vote("model_a"), "conversation_a": "x"}, "not a list"),
               (vote("model_a", one=""), "empty")], {}),
    "nemo": ([({"context": [m(U, "Q")], "completions": [{"rank": 1, "completion": [m(A, "x")]},
                                                       {"rank": 0, "completion": [m(A, "y")]}]}, "y>x"),
              ({"context": "Q", "completions": [{"rank": 0, "completion": "x"}, {"rank": 0, "completion": "y"}]}, "x=y"),
              ({"context": "Q", "completions": [{"rank": r, "completion": t} for r, t in enumerate("xyz")]}, "x>y>z")],
             [({"context": "Q", "completions": [{"rank": 0}]}, "without text"),
              ({"context": "Q", "completions": [{"rank": 0, "completion": "x"}]}, "fewer than two"),
              ({"context": "Q", "completions": [{"rank": None, "completion": t} for t in "xy"]}, "fewer than two"),
              ({"context": "", "completions": [{"rank": i, "completion": t} for i, t in enumerate("xy")]}, "empty prompt"),
              ({"context": "Q", "completions": [{"rank": i, "completion": t} for i, t in enumerate(["x", {}])]},
               "not text")], {}),
}
GOOD = [(form, place) for form, (good, _, _) in FORMS.items() for place in range(len(good))]
BAD = [(form, place) for form, (_, bad, _) in FORMS.items() for place in range(len(bad))]
PREFERRED = {"prompt": "Q", "chosen": "x", "rejected": "y"}  # a row that keeps a file of ties from being refused


def lines(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def order(row):
    """A record as text, best answer first: "x>y=z"."""
    by_rank = {}
    for response, rank in zip(row["responses"], row["ranks"], strict=True):
        by_rank.setdefault(rank, []).append(response["text"])
    return ">".join("=".join(by_rank[rank]) for rank in sorted(by_rank))


def read(folder, text, name="a.jsonl", **options):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return importing.read(path, **options)


def test_every_form_has_enough_files():
    assert all(len(good) >= 3 and len(bad) >= 5 for good, bad, _ in FORMS.values())


@pytest.mark.parametrize("form, place", GOOD)
def test_good_files(form, place, tmp_path):
    good, _, options = FORMS[form]
    row, expected = good[place]
    found = read(tmp_path, lines(row, *([PREFERRED] if ">" not in expected else [])), **options)
    assert order(found.rows[0]) == expected and found.rows[0]["prompt"] == "Q" and not found.dropped
    importing.write(found, tmp_path / "r.jsonl")
    again, problems = feedback.read_jsonl(tmp_path / "r.jsonl", feedback.check_ranking)
    assert again == found.rows and not problems and importing.read(tmp_path / "r.jsonl").rows == again


@pytest.mark.parametrize("form, place", BAD)
def test_bad_files(form, place, tmp_path):
    """Alone, such a row is an error that says why; beside a good one, it is counted under the same reason."""
    good, bad, options = FORMS[form]
    row, why = bad[place]
    with pytest.raises(ValueError, match=f"a.jsonl.*(no row prefers.*)?({why})"):
        read(tmp_path, lines(row), **options)
    found = read(tmp_path, lines(good[0][0], row, PREFERRED), **options)
    assert len(found.rows) == 2 and list(found.dropped.values()) == [["line 2"]]
    assert "dropped: 1, " in str(found) and "(line 2)" in str(found)


# ---------------------------------------------------------------- CSV and other kinds of file

CSV = {"prompt,chosen,rejected\nQ,x,y\n": "x>y", "prompt,response_a,response_b,winner\nQ,x,y,b\n": "y>x",
       "prompt,response,rank\nQ,x,2\nQ,y,1\nQ,z,3\n": "y>x>z", 'prompt,chosen,rejected\n"Q","x,\n1","y"\n': "x,\n1>y",
       'prompt,responses,ranks\nQ,"[""x"", ""y""]","[2, 1]"\n': "y>x", "prompt,answer,position\nQ,x,1\nQ,y,1\nP,a,1\nP,b,2\n": "x=y"}
BAD_CSV = {"Q\nx\n": "at least two columns", "prompt,prompt\na,b\n": "each name once",
           "prompt,chosen,rejected\nQ,x\n": "no row prefers", "prompt,chosen,rejected\n": "no row prefers",
           "prompt,text,number\nQ,x,1\n": "no known form", "prompt,response,rank\nQ,x,1\n": "fewer than two",
           "prompt,response_a,response_b,winner\nQ,x,y,\n": "no choice", "prompt,response,score\nQ,x,1\nQ,y,2\n": "--better"}


@pytest.mark.parametrize("text", CSV)
def test_tables(text, tmp_path):
    assert order(read(tmp_path, text, "a.csv").rows[0]) == CSV[text]
    if '"' not in text:
        assert order(read(tmp_path, b"\xef\xbb\xbf" + text.replace(",", "\t").encode(), "a.tsv").rows[0]) == CSV[text]


@pytest.mark.parametrize("text", BAD_CSV)
def test_bad_tables(text, tmp_path):
    with pytest.raises(ValueError, match=BAD_CSV[text]):
        read(tmp_path, text, "a.csv")


def test_any_kind_of_file(tmp_path):
    rows = [PREFERRED, {**PREFERRED, "chosen": "z"}]
    table = feedback.to_dataset(rows)
    table.to_parquet(str(tmp_path / "a.parquet"))
    kinds = {"a.json": json.dumps(rows, indent=1).encode(), "b.json": json.dumps({"data": rows}).encode(),
             "a.jsonl.gz": gzip.compress(lines(*rows).encode()), "c.json": lines(*rows).encode("utf-16"),
             "b.parquet": (tmp_path / "a.parquet").read_bytes(), "without-ending": lines(*rows).encode()}
    for name, data in kinds.items():
        assert [order(row) for row in read(tmp_path, data, name).rows] == ["x>y", "z>y"], name


@pytest.mark.parametrize("data, why", [(b"", "is empty"), (b"\xff\xfe\x00", "neither text"), (b"\x80\x81", "neither text"),
                                       (b"hello", "not JSON"), (b"PAR1xx", "Parquet file is damaged"), (b"[1, 2]", "no row"),
                                       (b"\x1f\x8bxx", "compressed file is damaged"), (b"{}", "no known form")])
def test_what_is_no_file_of_rows(data, why, tmp_path):
    with pytest.raises(ValueError, match=why):
        read(tmp_path, data)
    with pytest.raises(FileNotFoundError, match="no such file"):
        importing.read(tmp_path / "none")
    with pytest.raises(IsADirectoryError, match="a folder"):
        importing.read(tmp_path)


# ---------------------------------------------------------------- nothing is guessed

def test_scores_need_a_direction_and_ranks_do_not(tmp_path):
    row = {"prompt": "Q", "responses": ["x", "y"], "scores": [1, 2]}
    with pytest.raises(ValueError, match='a.jsonl, row 1: the file has "scores" .* add --better higher'):
        read(tmp_path, lines(row))
    assert order(read(tmp_path, lines(row), better="higher").rows[0]) == "y>x"
    assert order(read(tmp_path, lines(row), better="lower").rows[0]) == "x>y"
    ranks = {"prompt": "Q", "responses": ["x", "y"], "ranks": [1, 2]}
    for better in (None, "higher", "lower"):
        assert order(read(tmp_path, lines(ranks), better=better).rows[0]) == "x>y"
    with pytest.raises(ValueError, match="better is 'up'"):
        read(tmp_path, lines(row), better="up")


def test_what_a_one_chooses(tmp_path):
    one = {"prompt": "Q", "answer_a": "x", "answer_b": "y", "choice": 1}
    with pytest.raises(ValueError, match="counts the answers a and b from 0 or from 1; add --first"):
        read(tmp_path, lines(one))
    assert order(read(tmp_path, lines(one), first=0).rows[0]) == "y>x"
    assert order(read(tmp_path, lines(one), first=1).rows[0]) == "x>y"
    assert order(read(tmp_path, lines(one, {**one, "choice": 0})).rows[0]) == "y>x"  # the file itself shows it
    assert order(read(tmp_path, lines(one, {**one, "choice": 2})).rows[0]) == "x>y"


def test_only_ties_are_an_error_and_both_bad_is_kept(tmp_path):
    with pytest.raises(ValueError, match="no row prefers one answer .*only ties"):
        read(tmp_path, lines(vote("tie")))
    rows = read(tmp_path, lines(vote("tie (bothbad)"), vote("tie"), PREFERRED)).rows
    assert [row.get("both_bad", False) for row in rows] == [True, False, False] and rows[0]["labeler"] == "Ada"


def test_a_system_turn_shifts_no_roles(tmp_path):
    before = [m(S, "Be kind."), m(U, "Q"), m(A, "w"), m(U, "R")]
    rows = [{"prompt": before, "chosen": [m(A, "x")], "rejected": [m(A, "y")]},
            {"chosen": [*before, m(A, "x")], "rejected": [*before, m(A, "y")]}]
    for row in read(tmp_path, lines(*rows)).rows:
        assert row["prompt"] == "System: Be kind.\n\nHuman: Q\n\nAssistant: w\n\nHuman: R" and order(row) == "x>y"


@pytest.mark.parametrize("conversational", [True, False])
def test_our_own_preference_data_set_can_be_read_back(conversational, tmp_path):
    pairs = [human_data.Preference(("Q",), "x", "y"), human_data.Preference(("Q", "w", "R"), "x", "y")]
    human_data.preference_dataset(pairs, conversational).to_json(str(tmp_path / "p.jsonl"))
    human_data.preference_dataset(pairs, conversational).to_parquet(str(tmp_path / "p.parquet"))
    for name in ("p.jsonl", "p.parquet"):
        assert [(row["prompt"], order(row)) for row in importing.read(tmp_path / name).rows] == [
            (pair.prompt, "x>y") for pair in pairs]


def test_rankings_survive_a_data_set(tmp_path):
    rows = [feedback.new_ranking("1", "Q", ["x", "y"], [1, 2], "Ada", flags=[{"opinion": True}, {}], scores=[7, 1]),
            feedback.new_ranking("2", "Q", ["x", "y", "z"], [2, 1, 2], "Bo", flags=[{}, {"violent": False}, {}])]
    assert importing.from_dataset(feedback.to_dataset(rows)) == rows
    feedback.to_dataset(rows).to_parquet(str(tmp_path / "r.parquet"))
    assert importing.read(tmp_path / "r.parquet").rows == rows


def test_the_command(tmp_path, capsys):
    path, out = tmp_path / "a.jsonl", tmp_path / "r.jsonl"
    path.write_text(lines(PREFERRED, {**PREFERRED, "rejected": None}) + "{broken\n")
    assert cli.main(["import", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "chosen and rejected (TRL, HH): 1 rows" in said and "kept: 1 rankings of 2 answers (1); 1 pairs" in said
    assert "dropped: 1, no answer (line 2)" in said and "line 3: this is not a whole JSON row" in said
    path.write_text(lines({"prompt": "Q", "text": "x"}))
    assert cli.main(["import", str(path), "--out", str(out)]) == 1
    assert "no known form (its fields are prompt, text)" in capsys.readouterr().err
    assert len(out.read_text(encoding="utf-8").splitlines()) == 1  # the earlier result is still there
