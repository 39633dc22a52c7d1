"""The list of mutants fits the code. Running it takes minutes: `python tests/mutants.py`."""

import inspect
import re
import types
from collections import Counter
from pathlib import Path

import mutants
import pytest
from mutants import MUTANTS

from rlhf_lite.exercises.checking import WRONG, exercises, judge

ROOT = Path(__file__).resolve().parent.parent


def test_every_mutant_fits_the_code():
    outdated = [f"{m.name}: {m.old!r} occurs {mutants.occurrences(m)} times in {m.file}" for m in MUTANTS
                if mutants.occurrences(m) != 1]
    assert not outdated, "change these mutants along with the code:\n" + "\n".join(outdated)
    for mutant in MUTANTS:
        assert mutant.new != mutant.old and mutant.wrong and mutant.tests, mutant.name
        assert mutant.pitfall == "" or 1 <= int(mutant.pitfall.removeprefix("P")) <= 40, mutant.name


def test_the_list_is_long_and_covers_every_taught_module():
    assert len(MUTANTS) >= 70
    for key in (lambda m: m.name, lambda m: (m.file, m.old, m.new)):
        assert [name for name, count in Counter(map(key, MUTANTS)).items() if count > 1] == []
    taught = {"models", "pretrain", "sampling", "training", "sft", "reward", "ppo_math", "ppo", "best_of_n", "dpo",
              "rloo"}
    assert {f"{name}.py" for name in taught} <= {mutant.file for mutant in MUTANTS}


def test_the_named_tests_exist():
    named = {tuple(test.partition("::")[::2]) for mutant in MUTANTS for test in mutants.node_ids(mutant)}
    for file in {file for file, _ in named}:
        present = set(re.findall(r"^def (\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))
        missing = {name for other, name in named if other == file and name} - present
        assert not missing, f"{file} no longer has {', '.join(sorted(missing))}"


# ---------------------------------------------------------------- would the course's exercises notice?

# What an exercise does not ask for, so a mistake there is none in the learner's answer.
NOT_ASKED = {
    ("5.4", "entropy_with_the_wrong_sign"): "asks for log-probabilities, not for the entropy",
    ("5.7", "gradient_through_the_advantages"): "hands plain numbers; 5.5 asks for rewards without gradient",
    ("7.2", "tied_samples_all_win"): "has no tied samples", ("7.2", "ties_share_nothing"): "has no tied samples",
    ("7.3", "best_of_n_kl_is_log_n"): "asks for the exact KL, not for the formula",
}


def mutants_of_exercises():
    """(exercise, mutant) wherever the function that an exercise asks for is the one a mutant spoils."""
    pairs = []
    for exercise in exercises().values():
        function = exercise.course
        module = getattr(function, "__module__", "")
        if inspect.isfunction(function) and re.fullmatch(r"rlhf_lite\.\w+", module):
            source = inspect.getsource(function)
            pairs += [(exercise, mutant) for mutant in MUTANTS if mutant.file == f"{module.split('.')[1]}.py"
                      and mutant.old.rstrip("\n") in source]
    return pairs


PAIRS = mutants_of_exercises()


@pytest.mark.parametrize(("exercise", "mutant"), PAIRS, ids=[f"{e.id}-{m.name}" for e, m in PAIRS])
def test_an_exercise_refuses_the_mutants_of_its_function(exercise, mutant):
    """A learner's answer that is the course's function with a one-line mistake must not pass."""
    module = types.ModuleType(exercise.course.__module__)  # never registered: the library stays as it is
    text = (ROOT / "rlhf_lite" / mutant.file).read_text(encoding="utf-8").replace(mutant.old, mutant.new)
    exec(compile(text, mutant.name, "exec"), vars(module))
    mark, sentence = judge(exercise, getattr(module, exercise.course.__name__))
    assert (mark != WRONG) == ((exercise.id, mutant.name) in NOT_ASKED), sentence
    assert mark != WRONG or "raised" not in sentence, sentence


def test_many_exercises_meet_mutants():
    assert len(PAIRS) >= 50 and len({exercise.id for exercise, _ in PAIRS}) >= 15
    assert set(NOT_ASKED) <= {(exercise.id, mutant.name) for exercise, mutant in PAIRS}
