"""The clinic of notebook 08: every planted bug is removed again, and is found by the test that is said to find it."""

import ast
from pathlib import Path

import pytest

from rlhf_lite import ppo, ppo_math
from rlhf_lite.exercises import clinic, laboratory

PITFALLS = Path(__file__).parent / "pitfalls"
FOUND_BY = {"Ada": {"ratio", "end"}, "Bruno": {"ratio", "kl"}, "Clara": {"pull"}, "Daria": {"reward", "score", "end"},
            "Dov": {"reward", "pull", "end"}, "Edda": {"score"}, "Finn": {"value"}, "Greta": {"padding"},
            "Hugo": {"end"}, "Ines": {"moved"}, "Jonas": set(), "Kim": {"sampler"}, "Lena": {"reward", "sampler"},
            "the last patient": set()}


def library():
    return [dict(vars(place)) for place in (ppo, ppo_math, ppo.Experience)]


@pytest.mark.parametrize("patient", clinic.CASES)
def test_a_bug_is_planted_and_always_removed(patient):
    before = library()
    with pytest.raises(ZeroDivisionError), clinic.planted(patient):
        assert library() != before
        raise ZeroDivisionError
    assert library() == before


def test_an_unknown_patient_names_the_others():
    with pytest.raises(KeyError, match="Ada"), clinic.planted("Zoe"):
        pass


def test_the_library_passes_every_test_of_the_laboratory():
    assert all(laboratory.examine().values()) and laboratory.returns_ignore_the_critic()


@pytest.mark.parametrize("patient", clinic.CASES)
def test_each_patient_fails_its_own_tests_and_passes_the_others(patient):
    assert {name for name, passed in laboratory.examine(patient).items() if not passed} == FOUND_BY[patient]
    assert laboratory.returns_ignore_the_critic(patient) == (patient != "the last patient")


def test_every_patient_names_a_test_that_exists():
    known = {node.name for path in PITFALLS.glob("test_*.py") for node in ast.parse(path.read_text()).body
             if isinstance(node, ast.FunctionDef)}
    assert {case.test for case in clinic.CASES.values()} <= known


def test_the_appendix_lists_all_forty_pitfalls_or_says_why_not(tmp_path):
    table = laboratory.pitfalls_table()
    assert all(f"| P{number} |" in table for number in range(1, 41))
    assert all(line.count("|") - line.count("\\|") == 4 for line in table.splitlines())
    assert "clone" in laboratory.pitfalls_table(tmp_path)
