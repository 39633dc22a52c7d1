"""The part of a notebook that an exercise needs."""

import pytest

from rlhf_lite.workshop import cells

NOTEBOOK = ["""import numpy as np
from rlhf_lite import ppo
from rlhf_lite.exercises import check""",
            "%matplotlib inline\n!ls\npolicy = ppo.train_for_an_hour()",
            "rate = 2\ntable = {}\ntable['a'] = rate\nhistory = []",
            "for n in range(3):\n    history.append(n)\nprint(history)",
            """def helper(x):
    rate = 5  # its own
    return np.sum(x) * table['a']
def unused(): return policy""",
            "ppo.train(policy)\ntable = table\ntable.update(b=1)",
            "def answer(x: np.ndarray, n=len(history)):\n    return [helper(y) for y in x]",
            "answer = check('1.1', answer)\nplot(answer)",
            "rate = 7",
            "again = check('1.2', lambda: again)"]


def sources(texts, identifier):
    found, broken = cells.statements(texts)
    place = max(number for number, one in enumerate(found) if one.exercise == identifier)
    return [cells.ast.unparse(found[number].tree).split("\n")[0] for number in cells.needed(found, place)]


def test_only_what_is_needed_runs():
    assert sources(NOTEBOOK, "1.1") == [
        "import numpy as np", "rate = 2", "table = {}", "table['a'] = rate", "history = []", "for n in range(3):",
        "def helper(x):", "table = table", "table.update(b=1)", "def answer(x: np.ndarray, n=len(history)):",
        "answer = check('1.1', answer)"]


def test_what_is_covered_up_does_not_run():
    assert sources(["def f(): return 1 / 0", "def f(): return 2", "f = check('1.1', f)"], "1.1") == [
        "def f():", "f = check('1.1', f)"]


def test_an_earlier_answer_is_needed_with_its_check():
    texts = ["def f(): return 1", "f = check('1.1', f)", "def g(): return f()", "g = check('1.2', g)"]
    assert sources(texts, "1.2") == ["def f():", "f = check('1.1', f)", "def g():", "g = check('1.2', g)"]


def test_a_broken_cell_is_named_and_left_out():
    found, broken = cells.statements(["a = 1", "def f(:", "%%bash\nls", "b = 2"])
    assert [one.binds for one in found] == [{"a"}, {"b"}] and list(broken) == [2] and "line 1" in broken[2]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"cells": 3}', '{"cells": [1]}', '{"cells": [{"cell_type": "code"}]}',
                                  "[" * 100_000], ids=range(7))
def test_what_is_no_notebook(text):
    with pytest.raises(ValueError, match="not a notebook"):
        cells.code_cells(text)


def test_a_check_is_replaced_wherever_it_is_in_its_statement():
    found, _ = cells.statements(["if True:\n    f = exercises.check(identifier='1.1', answer=f)"])
    names = {"record": lambda identifier, answer: (identifier, answer), "f": 3}
    exec(cells.recorded(found[0], "record"), names)
    assert found[0].exercise == "1.1" and names["f"] == ("1.1", 3)
