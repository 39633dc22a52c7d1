"""`rank merge` never takes the only copy of a row away, and a write that fails leaves nothing behind."""

import pytest

from rlhf_lite import feedback, files
from rlhf_lite.widgets import merge


def add(path, labeler, prompt_id="p1", ranks=(1, 2), **more):
    row = feedback.new_ranking(prompt_id, "Say a letter.", ["a", "b"], ranks, labeler, **more)
    feedback.append_jsonl(path, row)
    return row


@pytest.fixture
def folder(tmp_path):
    add(tmp_path / "ann.jsonl", "Ann")
    add(tmp_path / "bob.jsonl", "Bob")
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith((".lock", ".owner")))


@pytest.mark.parametrize("files", [["ann.jsonl", "bob.jsonl"], ["bob.jsonl"], ["ann.jsonl"], ["*.jsonl"]])
def test_a_target_with_rows_of_its_own_is_kept(folder, files):
    out = folder / "ann.jsonl"
    before = out.read_bytes()
    with pytest.raises(ValueError, match="ann.jsonl: .* by Ann, in none .* would be lost; choose another --out"):
        merge.merge([folder / file for file in files], out)
    assert out.read_bytes() == before and names(folder) == ["ann.jsonl", "bob.jsonl"]


def test_newer_rows_unsent_texts_and_foreign_lines_are_kept_too(folder):
    out = folder / "class.jsonl"
    (folder / "old.jsonl").write_bytes((folder / "ann.jsonl").read_bytes())
    add(folder / "ann.jsonl", "Ann", ranks=(2, 1))
    with pytest.raises(ValueError, match="by Ann"):
        merge.merge([folder / "old.jsonl"], folder / "ann.jsonl")
    feedback.append_jsonl(out, {"schema": 1, "status": "draft", "prompt_id": "p", "prompt": "Hello?",
                                "author": "Cy", "draft": "Hi"})
    with pytest.raises(ValueError, match="by Cy"):
        merge.merge([folder / "ann.jsonl"], out)
    out.write_text("my notes\n")
    with pytest.raises(ValueError, match="lines that are not rankings"):
        merge.merge([folder / "ann.jsonl"], out)
    assert out.read_text() == "my notes\n"


def test_the_same_command_may_be_repeated(folder):
    out = folder / "class.jsonl"
    merge.merge([folder / "*.jsonl"], out)
    new = add(folder / "ann.jsonl", "Ann", ranks=(2, 1))           # a second thought
    feedback.append_jsonl(folder / "bob.jsonl", {"schema": 1, "status": "withdrawn", "prompt_id": "p1",
                                                 "prompt": "Say a letter.", "labeler": "Bob"})
    for _ in range(2):
        assert merge.merge([folder / "*.jsonl"], out).rows == [new] == feedback.read_jsonl(out)[0]


def test_a_target_that_can_be_no_file(folder):
    (folder / "adir").mkdir()
    for out, words in (("", "is empty"), (" ", "is empty"), (folder / "adir", "is a folder, not a file")):
        with pytest.raises(ValueError, match=words):
            merge.merge([folder / "ann.jsonl"], out)
    with pytest.raises(OSError, match="Could not write to .*bob.jsonl/class.jsonl"):
        merge.merge([folder / "ann.jsonl"], folder / "bob.jsonl" / "class.jsonl")
    with pytest.raises(IsADirectoryError, match="is a folder, not a file"):
        merge.merge([folder / "adir"], folder / "class.jsonl")
    assert names(folder) == ["adir", "ann.jsonl", "bob.jsonl"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_result_and_nothing_else(folder, monkeypatch, call):
    out = folder / "class.jsonl"
    merge.merge([folder / "ann.jsonl"], out)
    before = out.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, full)
        with pytest.raises(OSError, match=r"Could not write to .*class.jsonl: .*No space .* choose another"):
            merge.merge([folder / "*.jsonl"], out)
    assert out.read_bytes() == before and names(folder) == ["ann.jsonl", "bob.jsonl", "class.jsonl"]


def test_two_prompts_under_one_id_are_named_and_not_compared(folder):
    row = feedback.new_ranking("p1", "Say another letter.", ["a", "b"], (2, 1), "Cy")
    feedback.append_jsonl(folder / "cy.jsonl", row)
    found = merge.merge([folder / "*.jsonl"])
    assert [p for p in found.problems if "prompt_id p1 stands for different prompts (Ann, Cy ranked them)" in p]
    agreements = {(a, b): agreement.n for a, b, agreement in found.pairs}
    assert agreements == {("Ann", "Bob"): 1, ("Ann", "Cy"): 0, ("Bob", "Cy"): 0}


def test_no_name_can_forge_a_line_in_the_terminal(folder, capsys):
    forged = "Ann\x1b[2K\r1000 rankings of 50 people: class.jsonl"
    with pytest.raises(ValueError, match='"labeler" is .*visible characters'):
        add(folder / "ann.jsonl", forged)
    row = feedback.new_ranking("p1", "Say a letter.", ["a", "b"], (1, 2), "Cy") | {"labeler": forged}
    feedback.append_jsonl(folder / "\x1b[2Kforged.jsonl", row)

    class Arguments:
        files, out = [folder / "*.jsonl"], folder / "class"
    merge.command(Arguments)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\r" not in printed and "2 rankings of 2 people" in printed


def test_ten_times_the_rows_take_ten_times_as_long(tmp_path):
    """And not a hundred: reading, opening, merging, and merging again (measured: 100,000 rows, a few seconds each)."""
    import time

    from rlhf_lite.widgets.session import RankingSession

    def seconds(count):
        items = [{"prompt_id": f"p{i}", "prompt": "Say a letter.", "responses": ["a", "b"]} for i in range(count)]
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "ann.jsonl").write_bytes(b"".join(
            feedback.json_line(feedback.new_ranking(**item, ranks=[1, 2], labeler="Ann")) for item in items))
        started = time.process_time()
        assert len(RankingSession(items, "Ann", folder / "ann.jsonl").rankings()) == count
        for _ in range(2):
            merge.merge([folder / "ann.jsonl"], folder / "out")
        return time.process_time() - started
    assert seconds(20_000) < 40 * seconds(2_000)
