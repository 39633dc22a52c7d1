"""Real human data: the right file or one clear sentence, nothing cut, and nothing trained on that must not be.

Tests of the real files look for them in $RLHF_LITE_HUMAN_DATA and are skipped without it.
"""

import csv
import gzip
import hashlib
import http.server
import json
import os
import re
import threading

import pytest

from rlhf_lite import feedback, models, reward, sft
from rlhf_lite.experiment import data
from rlhf_lite.real import download, human_data

REAL = os.environ.get("RLHF_LITE_HUMAN_DATA")
real = pytest.mark.skipif(not REAL, reason="RLHF_LITE_HUMAN_DATA is not set")
HUMAN, ASSISTANT = "\n\nHuman: ", "\n\nAssistant: "


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Every test has a cache of its own; only those marked `real` see the real folder."""
    monkeypatch.setenv("RLHF_LITE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RLHF_LITE_HUMAN_DATA", raising=False)


@pytest.fixture
def real_folder(monkeypatch):
    monkeypatch.setenv("RLHF_LITE_HUMAN_DATA", REAL)


def a_file(content, *urls, path="set/file.jsonl"):
    return download.File(path, len(content), hashlib.sha256(content).hexdigest(), urls)


def put(monkeypatch, tmp_path, **files):
    """A folder of hand-made files, each named by the constant of human_data that it stands in for."""
    monkeypatch.setenv("RLHF_LITE_HUMAN_DATA", str(tmp_path / "folder"))
    for name, content in files.items():
        known = getattr(human_data, name)
        place = tmp_path / "folder" / known.path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        monkeypatch.setattr(human_data, name, a_file(content, path=known.path))


def lines(*rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def tokenizer():
    return models.train_tokenizer(["May I pat the goose? Only if she likes you. " * 3], vocab_size=280)


# ---------------------------------------------------------------- where a file comes from

@pytest.fixture
def server(monkeypatch):
    """A web server on this machine: serve(path, body, ...) -> its address; server.asked: what was fetched."""
    monkeypatch.delenv("RLHF_LITE_NO_NETWORK")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    pages, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, promised, body = pages.get(self.path, (404, 0, b""))
            self.send_response(status)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def serve(path, body, promised=None, status=200):
        pages[path] = (status, len(body) if promised is None else promised, body)
        return f"http://127.0.0.1:{httpd.server_port}{path}"
    serve.asked = asked
    yield serve
    httpd.shutdown()
    httpd.server_close()


def test_a_download_is_kept_and_asked_for_once(server, tmp_path):
    content = b"good\n" * 999
    file = a_file(content, server("/a", content))
    place = download.find(file)
    assert place == tmp_path / "cache" / "human_data" / "set" / "file.jsonl" and place.read_bytes() == content
    assert download.find(file) == place and server.asked == ["/a"]
    assert [p.name for p in place.parent.iterdir()] == ["file.jsonl"]


@pytest.mark.parametrize("body, promised, status, said", [
    (b"", None, 404, "answered 404"),
    (b"evil" * 100, None, 200, "sent is not the expected file"),
    (b"good" * 50, None, 200, r"sent is incomplete \(200 of 400 bytes\)"),
    (b"good" * 50, 400, 200, r"sent is incomplete \(200 of 400 bytes\)"),  # the connection broke
    (b"good" * 9999, None, 200, "sent is not the expected file")])
def test_a_bad_download_is_one_sentence_and_leaves_nothing(server, tmp_path, body, promised, status, said):
    url = server("/a", body, promised, status)
    with pytest.raises(ConnectionError, match=rf"file.jsonl could not be downloaded \(.*{said}") as caught:
        download.find(a_file(b"good" * 100, url))
    assert "RLHF_LITE_HUMAN_DATA" in str(caught.value) and "\n" not in str(caught.value)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_the_next_address_is_tried_when_one_fails(server):
    content = b"good" * 100
    urls = server("/gone", b"", status=503), server("/wrong", b"bad!" * 100), server("/copy", content)
    assert download.find(a_file(content, *urls)).read_bytes() == content
    assert server.asked == ["/gone", "/wrong", "/copy"]


def test_a_damaged_cache_and_a_half_written_file_are_fetched_again(server, tmp_path):
    content = b"good" * 100
    file = a_file(content, server("/a", content))
    place = tmp_path / "cache" / "human_data" / file.path
    place.parent.mkdir(parents=True)
    place.write_bytes(content[:150])  # written by something that does not write whole files
    (place.parent / ".file.jsonl.x1").write_bytes(content[:10])  # a download that was killed
    assert download.find(file).read_bytes() == content and len(server.asked) == 1


def test_a_full_disk_leaves_nothing_behind(server, tmp_path, monkeypatch):
    file = a_file(b"good", server("/a", b"good"))

    def full(handle):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        download.find(file)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_no_network_and_offline_mode(monkeypatch, server):
    monkeypatch.setattr(download, "TIMEOUT", 1)
    closed = a_file(b"x", "http://127.0.0.1:1/x")
    with pytest.raises(ConnectionError, match="127.0.0.1:1 cannot be reached: .*; try again later, or set"):
        download.find(closed)
    for name in ("RLHF_LITE_NO_NETWORK", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "1")
        with pytest.raises(ConnectionError, match="not in the cache and offline mode is on .*connect once, or set"):
            download.find(a_file(b"good", server("/a", b"good")))
        monkeypatch.delenv(name)
    assert server.asked == []


def test_the_folder_is_checked_too(monkeypatch, tmp_path):
    put(monkeypatch, tmp_path, SEEDS=b"{}\n")
    place = tmp_path / "folder" / human_data.SEEDS.path
    assert download.find(human_data.SEEDS) == place
    place.write_bytes(b"[]\n")
    with pytest.raises(ValueError, match="seed_tasks.jsonl is not the expected file .*fetch it again"):
        download.find(human_data.SEEDS)
    with pytest.raises(FileNotFoundError, match="davinci_predictions.jsonl is missing; put the file there, or unset"):
        human_data.recorded_answers()


def test_every_source_is_pinned():
    files = [human_data.HH, human_data.SEEDS, human_data.TRUTHFUL, *human_data.ANSWERS.values()]
    for file in files:
        assert file.urls and all(re.match(r"https://.*/[0-9a-f]{40}/", url) for url in file.urls)
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)


# ---------------------------------------------------------------- preferences

def test_dialogues_become_prompt_chosen_rejected_and_what_is_dropped_is_counted(monkeypatch, tmp_path):
    one, two = HUMAN + "May I pat the goose?", HUMAN + "Hello.\nYou!" + ASSISTANT + "Good day." + HUMAN + "And now?"
    put(monkeypatch, tmp_path, HH=gzip.compress(lines(
        {"chosen": one + ASSISTANT + "Only if she likes you.", "rejected": one + ASSISTANT + "No!"},
        {"chosen": two + ASSISTANT + "A\n\nB", "rejected": two + ASSISTANT + "C"},
        {"chosen": one + ASSISTANT + "Yes", "rejected": one + ASSISTANT + "Yes"},
        {"chosen": one + ASSISTANT + "Yes", "rejected": one + ASSISTANT + " Yes "},
        {"chosen": one + ASSISTANT + "Yes", "rejected": HUMAN + "What?" + ASSISTANT + "No"},
        {"chosen": one + ASSISTANT, "rejected": one + ASSISTANT + "No"},
        {"chosen": one + ASSISTANT + "Yes" + ASSISTANT + "No", "rejected": one + ASSISTANT + "No"},
        {"chosen": one, "rejected": one + ASSISTANT + "No"},
        {"chosen": "Psst." + one + ASSISTANT + "Yes", "rejected": one + ASSISTANT + "No"})))
    pairs, dropped = human_data.preferences()
    assert [(p.prompt, p.chosen, p.rejected) for p in pairs] == [
        ("May I pat the goose?", "Only if she likes you.", "No!"),
        ("Human: Hello.\nYou!\n\nAssistant: Good day.\n\nHuman: And now?", "A\n\nB", "C")]
    assert dropped == {"same text": 2, "different dialogues": 1, "empty answer": 1, "broken dialogue": 3}
    assert "goose" not in repr(pairs) and "not shown" in repr(pairs[0])
    table = human_data.preference_dataset(pairs)
    assert table.column_names == ["prompt", "chosen", "rejected"] and table[0]["rejected"] == "No!"
    said = human_data.preference_dataset(pairs, conversational=True)[1]
    assert [m["role"] for m in said["prompt"]] == ["user", "assistant", "user"]
    assert said["prompt"][1]["content"] == "Good day." and said["chosen"] == [{"role": "assistant",
                                                                              "content": "A\n\nB"}]


def test_bad_rows_are_named_without_their_text(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(lines({"chosen": HUMAN + "a" + ASSISTANT + "b", "rejected": HUMAN + "a" + ASSISTANT + "c"})
                     + b'{"chosen": "horrid"}\n')
    pairs, dropped = human_data.preferences(path)
    assert len(pairs) == 1 and dropped == {"not a row": 1}
    with pytest.raises(ValueError, match=r"mine.jsonl:2: this is not a JSON row with chosen, rejected") as caught:
        human_data._rows(path, {"chosen": str, "rejected": str})  # as for the files with a known checksum
    assert "horrid" not in str(caught.value)
    for name, content in (("a.jsonl.gz", b"not gzip"), ("b.jsonl.gz", gzip.compress(b"{}\n" * 99)[:-9])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read .*fetch it again"):
            human_data.preferences(tmp_path / name)


def test_long_dialogues_are_dropped_never_cut_and_a_reward_model_learns(tokenizer):
    pairs = [human_data.Preference(("May I pat the goose?",), "Only if she likes you.", "likes " * n)
             for n in (1, 2, 40)]
    ranked, dropped = human_data.ranked_prompts(tokenizer, pairs, context=60)
    assert dropped == 1 and len(ranked) == 2
    assert models.decode_response(tokenizer, ranked[0].responses[0]) == "Only if she likes you."
    assert all(response[-1] == models.END for row in ranked for response in row.responses)
    longest = max(len(r.prompt_ids) + len(x) for r in ranked for x in r.responses)
    assert human_data.ranked_prompts(tokenizer, pairs[:2], longest)[1] == 0
    assert human_data.ranked_prompts(tokenizer, pairs[:2], longest - 1)[1] >= 1
    model = models.scalar_from_policy(models.new_policy("tiny", 0, len(tokenizer)), 0)
    before = reward.evaluate_reward(model, ranked)["loss"]
    reward.train_reward(model, ranked, reward.RewardConfig(epochs=5), progress=False)
    assert reward.evaluate_reward(model, ranked)["loss"] < before

    def plain(tokenizer, text):
        return [models.BEGIN, 7, *models.encode_text(tokenizer, text)]
    assert human_data.ranked_prompts(tokenizer, pairs[:1], 99, plain)[0][0].prompt_ids[:2] == [models.BEGIN, 7]


# ---------------------------------------------------------------- demonstrations, questions, recorded answers

def test_demonstrations_are_ready_for_sft(monkeypatch, tmp_path, tokenizer):
    tasks = [{"id": f"seed_task_{i}", "name": "goose", "instruction": "Answer. ", "is_classification": False,
              "instances": [{"input": "May I?" if i % 2 else "", "output": " Only if she likes you.\n" * (1 + i // 10)}
                            ]} for i in range(11)]
    put(monkeypatch, tmp_path, SEEDS=lines(*tasks))
    rows = human_data.demonstrations()
    assert rows[1] == {"id": "seed_task_1", "name": "goose", "prompt": "Answer.\n\nMay I?", "split": "train",
                       "response": "Only if she likes you."} and rows[0]["prompt"] == "Answer."
    assert [len(human_data.demonstrations(split)) for split in ("train", "valid")] == [9, 2]
    examples, dropped = human_data.sft_examples(tokenizer, rows, context=99)
    lengths = sorted(len(example.input_ids) for example in examples)
    assert dropped == 0 and lengths[-1] > lengths[-2]  # the last answer is twice as long as the others
    assert human_data.sft_examples(tokenizer, rows, lengths[-1] - 1)[1] == 1
    learnt = [label for label in examples[1].labels if label != sft.IGNORE]
    assert models.decode_response(tokenizer, learnt) == "Only if she likes you." and learnt[-1] == models.END
    table = human_data.demonstration_dataset(rows)
    assert table.column_names == ["prompt", "completion"] and table[1]["completion"] == "Only if she likes you."


def test_questions(monkeypatch, tmp_path):
    monkeypatch.setattr(human_data, "QUESTIONS", 1)
    with open(tmp_path / "q.csv", "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers",
                         "Source"])
        writer.writerow(["Adversarial", "Geese", "Do geese, who\nhonk, fly?", "Yes", "Yes; They do;", "No; Never",
                         "me"])
    put(monkeypatch, tmp_path, TRUTHFUL=(tmp_path / "q.csv").read_bytes())
    assert human_data.questions() == [human_data.Question("Do geese, who\nhonk, fly?", "Yes", ["Yes", "They do"],
                                                          ["No", "Never"], "Geese", "me")]
    monkeypatch.setattr(human_data, "QUESTIONS", 2)
    with pytest.raises(ValueError, match="has 1 questions here, not 2"):
        human_data.questions()


def an_answer(text="Honk."):
    return human_data.ReadingOnly("reading-only-000", "May I?", "May I?\nOutput:", "davinci", text)


def test_recorded_answers_cannot_be_trained_on_by_accident(tokenizer):
    answers = [an_answer()]
    for misuse in (lambda: human_data.sft_examples(tokenizer, answers, 99), lambda: dict(answers[0]),
                   lambda: data.demonstration_examples(tokenizer, answers), lambda: [*answers[0]],
                   lambda: feedback.to_dataset(answers), lambda: human_data.demonstration_dataset(answers)):
        with pytest.raises(TypeError, match="only for reading and ranking, never for training"):
            misuse()
    with pytest.raises(ValueError):
        feedback.check_demonstration(answers[0])


def test_recorded_answers_are_untouched(monkeypatch, tmp_path):
    monkeypatch.setenv("RLHF_LITE_HUMAN_DATA", str(tmp_path))
    (tmp_path / "self-instruct").mkdir()
    row = {"prompt": "Do it.\n\nInput: x\nOutput:", "instruction": "Do it.\n", "input": "x", "target": "y"}
    files = {}
    for name, known in human_data.ANSWERS.items():
        content = lines(row | {"response": f" {name}\n\nInput: and on\nOutput:"})
        (tmp_path / known.path).write_bytes(content)
        files[name] = a_file(content, path=known.path)
    monkeypatch.setattr(human_data, "ANSWERS", files)
    found = human_data.recorded_answers()
    assert list(found) == ["davinci", "text-davinci-001", "text-davinci-002", "text-davinci-003"]
    assert found["davinci"] == [human_data.ReadingOnly("reading-only-000", "Do it.\n\nx", row["prompt"], "davinci",
                                                       " davinci\n\nInput: and on\nOutput:")]


# ---------------------------------------------------------------- the real files

@real
def test_the_real_preferences(real_folder):
    pairs, dropped = human_data.preferences()
    assert len(pairs) + sum(dropped.values()) == 2312
    assert dropped == {"broken dialogue": 9, "empty answer": 4}
    assert all(pair.chosen != pair.rejected and len(pair.turns) % 2 for pair in pairs)
    assert len(human_data.preference_dataset(pairs)) == len(pairs)


@real
def test_the_real_demonstrations_questions_and_answers(real_folder):
    rows = human_data.demonstrations()
    assert len(rows) == 175 == len({row["id"] for row in rows}) and all(row["response"] for row in rows)
    questions = human_data.questions()
    assert len(questions) == 817 and all(q.best in q.correct and q.incorrect for q in questions)
    answers = human_data.recorded_answers()
    assert {len(rows) for rows in answers.values()} == {252}
    assert len({tuple(row.request for row in rows) for rows in answers.values()}) == 1
    words = [len(row.recorded.split()) for row in answers["davinci"]]
    assert sorted(words)[126] > 600  # it runs on


# ---------------------------------------------------------------- the blind vote on recorded answers

def an_archive(n=3):
    """Recorded answers as `recorded_answers` gives them: davinci runs on, the others stop."""
    def answers(name, text):
        return [human_data.ReadingOnly(f"reading-only-{i:03d}", f"Request {i}?", f"Request {i}?\nOutput:", name,
                                       text.format(i=i)) for i in range(n)]
    return {"davinci": answers("davinci", " <b>So {i}</b>,\n\nand on\nand on and on and on " + "on " * 500),
            **{f"text-davinci-00{k}": answers(f"text-davinci-00{k}", f"\n\nAnswer {{i}}  by number {k}.")
               for k in (1, 2, 3)}}


def test_equal_length_keeps_lines_and_cuts_words():
    pytest.importorskip("ipywidgets")
    from rlhf_lite.widgets.compare import equal_length
    assert equal_length(" a b\n\nc  d e", "\nx  y\nz ") == ("a b\n\nc", "x  y\nz")
    assert equal_length("a b", "x y") == ("a b", "x y") and equal_length("a b", " ") == ("", "")


def test_the_vote_is_blind_fair_and_apart_from_all_training_data(monkeypatch, tmp_path):
    pytest.importorskip("ipywidgets")
    from rlhf_lite.widgets import labels
    from rlhf_lite.widgets.compare import CompareWidget, recorded_vote
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(human_data, "recorded_answers", an_archive)
    widget = CompareWidget(recorded_vote(annotator="Ada Smith"))
    seen = []
    for verdict in ("A", "B", "tie"):
        shown = widget.comparison.session.shown()
        assert len({len(text.split()) for text in shown}) == 1  # equally many words
        page = "".join(part.value for part in (widget.asked, *widget.texts, widget.rate))
        assert "davinci" not in page and "<b>So" not in page and "on on" not in page
        seen.append(shown[0].startswith("Answer"))
        widget.votes[verdict].click()
        widget.uncut.click()
        assert "on on on" in widget.whole[0].value and "&lt;b&gt;So" in widget.whole[0].value
    rows, problems = labels.rankings(tmp_path / "runs" / "votes" / "ada-smith.jsonl")
    assert len(rows) == 3 and not problems and not (tmp_path / "runs" / "feedback").exists()
    assert all(row["prompt_id"].startswith(human_data.READING_ONLY) for row in rows)
    assert {r["source"] for row in rows for r in row["responses"]} == {"davinci", "text-davinci-001"}
    widget.following.click()
    assert "All the prompts have been voted on." in widget.status.value and "your own" not in widget.status.value
    again = recorded_vote(annotator="Ada Smith")
    assert again.win_rate().n == 3 and again.ask_next() is None
    assert recorded_vote(annotator="Bo").prompts == again.prompts  # a class sees the same order


def test_whole_answers_are_not_shown_before_the_vote(monkeypatch, tmp_path):
    pytest.importorskip("ipywidgets")
    from rlhf_lite.widgets.compare import CompareWidget, recorded_vote
    monkeypatch.setattr(human_data, "recorded_answers", an_archive)
    widget = CompareWidget(recorded_vote("text-davinci-002", "Ada", tmp_path / "a.jsonl"))
    widget.uncut.click()
    assert "vote first" in widget.status.value and not widget.whole[0].value
    assert len(recorded_vote(path=tmp_path / "b.jsonl", most_words=5).prompts) == 3
    assert recorded_vote(path=tmp_path / "b.jsonl", most_words=2).prompts == []
    with pytest.raises(ValueError, match="choose one of text-davinci-001, text-davinci-002, text-davinci-003"):
        recorded_vote("davinci", path=tmp_path / "b.jsonl")


@real
def test_the_real_vote(real_folder, tmp_path):
    pytest.importorskip("ipywidgets")
    from rlhf_lite.widgets.compare import recorded_vote
    vote = recorded_vote(path=tmp_path / "a.jsonl")
    assert len(vote.prompts) == 252
    left, right = vote.ask_next()
    assert len(left.split()) == len(right.split()) > 0
    assert len(recorded_vote(path=tmp_path / "a.jsonl", most_words=60).prompts) > 50
