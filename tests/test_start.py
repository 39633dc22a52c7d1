"""A student's copy of the notebooks: complete, and never overwritten."""

import pytest

from rlhf_lite import __main__ as cli
from rlhf_lite.exercises.start import NOTEBOOKS, start


def test_a_second_start_brings_what_is_new_and_keeps_what_is_mine(tmp_path):
    copied, kept = start(tmp_path / "mine")
    assert copied == sorted(p.name for p in NOTEBOOKS.glob("*.ipynb")) and not kept
    (tmp_path / "mine" / copied[0]).write_text("my work")
    (tmp_path / "mine" / copied[-1]).unlink()
    assert start(tmp_path / "mine") == ([copied[-1]], copied[:-1])
    assert (tmp_path / "mine" / copied[0]).read_text() == "my work"


def test_the_course_s_own_folder_is_refused_and_an_empty_one_explained(tmp_path):
    with pytest.raises(ValueError, match="my_work"):
        start(NOTEBOOKS)
    with pytest.raises(FileNotFoundError, match="clone"):
        start(tmp_path / "mine", notebooks=tmp_path)


def test_the_command_says_what_it_did(tmp_path, capsys):
    assert cli.main(["start", str(tmp_path / "work")]) == 0
    assert "copied" in capsys.readouterr().out
    cli.main(["start", str(tmp_path / "work")])
    assert "left as they were" in capsys.readouterr().out
