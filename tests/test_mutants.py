"""The list of mutants fits the code. Running it takes minutes: `python tests/mutants.py`."""

import re
from collections import Counter
from pathlib import Path

import mutants
from mutants import MUTANTS

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
    taught = {"models", "pretrain", "sampling", "sft", "reward", "ppo_math", "ppo", "best_of_n"}
    assert {f"{name}.py" for name in taught} <= {mutant.file for mutant in MUTANTS}


def test_the_named_tests_exist():
    named = {tuple(test.partition("::")[::2]) for mutant in MUTANTS for test in mutants.node_ids(mutant)}
    for file in {file for file, _ in named}:
        present = set(re.findall(r"^def (\w+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE))
        missing = {name for other, name in named if other == file and name} - present
        assert not missing, f"{file} no longer has {', '.join(sorted(missing))}"
