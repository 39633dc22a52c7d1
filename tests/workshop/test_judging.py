"""What the grader says through messages is what `check` says in the notebook, for every exercise and every mistake."""

import copy
import json

import numpy as np
import pytest
import torch

from rlhf_lite import sft
from rlhf_lite.exercises import checking
from rlhf_lite.workshop import judging, messages, withheld, worker

WITH_OBSERVERS = {"4.2", "4.3", "5.3", "5.10", "5.11", "5.12", "6.8", "10.2", "10.5", "10.7"}


def reply(identifier, answer, found, order):
    """What a student's process would send, through JSON and back."""
    asked = json.loads(json.dumps(found.kinds(order)))
    return json.loads(json.dumps(worker.reply(identifier, answer, found.how, order, 0, asked)))


@pytest.mark.parametrize("identifier", checking.exercises())
def test_the_same_verdict_as_in_the_notebook(identifier):
    exercise, found = checking.find(identifier), judging.prepared(identifier)
    order = found.order()

    def spoils(*arguments):
        result = copy.deepcopy(exercise.course(*arguments))
        for one in arguments if found.how == "call" else ():
            if isinstance(one, list):
                one.extend(one[:1] or [0])
        return result
    for answer in (exercise.course, spoils, *exercise.mistakes.values(), lambda *_: None, lambda *_: 1 / 0):
        if exercise.cases is not None or not callable(answer):
            said = judging.verdict(found, reply(identifier, answer, found, order), order)
            assert said == checking.judge(exercise, answer), answer


@pytest.mark.parametrize("identifier", checking.exercises())
def test_a_list_of_right_results_is_not_an_answer(identifier):
    exercise, shift, found = checking.find(identifier), judging.secret_shift(identifier), judging.prepared(identifier)
    if not shift or found.how == "observe":
        return
    known = [json.dumps(messages.encode(case)) for case in found.cases]

    def listed(*arguments):
        return exercise.course(*arguments) if json.dumps(messages.encode(arguments)) in known else None
    for number, answer, mark in ((0, listed, checking.DONE), (shift, listed, checking.WRONG),
                                 (shift, exercise.course, checking.DONE)):
        found = judging.prepared(identifier, number)
        order = found.order()
        sent = [messages.encode(one) for one in worker.outcomes(identifier, answer, found.how, order, number)]
        said = judging.verdict(found, {"state": "answered", "outcomes": sent}, order)
        assert said[0] == mark, said


def test_a_third_of_the_exercises_is_asked_with_other_numbers():
    assert sum(judging.secret_shift(one) > 0 for one in checking.exercises()) >= 23


def test_changing_the_question_does_not_help():
    """A split of two rows would be right, if there were only two."""
    def clever(rows, share):
        rows[:] = [{"prompt": f"text {number}", "customer": f"c{number}"} for number in range(5)]
        return rows[1:], rows[:1]
    found = judging.prepared("1.3")
    assert judging.verdict(found, reply("1.3", clever, found, [0]), [0])[0] == checking.WRONG


def test_what_is_observed_in_the_students_process():
    """Only what needs gradients or objects that change; and never a verdict, which could be made up: numbers."""
    assert {one for one in checking.exercises() if judging.prepared(one).how == "observe"} == WITH_OBSERVERS
    for identifier in WITH_OBSERVERS:
        sums = []
        for wanted in judging.prepared(identifier).wanted:
            parts = wanted.values() if isinstance(wanted, dict) else wanted if isinstance(wanted, list) else [wanted]
            floats = [part for part in parts if isinstance(part, torch.Tensor) and part.is_floating_point()]
            assert floats, identifier
            sums.append(sum(part.abs().sum() for part in floats))
        assert any(sums), identifier


def test_no_answer_is_reached_from_cases_or_observers():
    for identifier, exercise in checking.exercises().items():
        if exercise.cases is not None:
            reached = withheld.reachable(exercise.cases) | withheld.reachable(exercise.observe)
            assert not reached & {exercise.course, *exercise.mistakes.values()}, identifier


def test_answers_of_one_notebook_do_not_share_functions():
    for number in checking.numbers():
        pairs = [pair for identifier in checking.exercises(number) for pair in withheld.answers(identifier)]
        assert len(pairs) == len(set(pairs)), number


def test_yes_or_no_is_asked_twice_in_a_secret_order():
    found = judging.prepared("8.4")
    assert sorted(found.order()) == sorted(2 * list(range(len(found.cases))))
    assert len({tuple(found.order()) for _ in range(20)}) > 1
    order, guesses = found.order(), iter([True, False] * 50)
    sent = {"state": "answered", "outcomes": [next(guesses) for _ in order]}
    assert judging.verdict(found, sent, order)[0] == checking.WRONG


@pytest.mark.parametrize("value", [
    None, True, 3, -1.5, "text", float("inf"), [1, "a", None], (1, (2.0,)), {"a": [1], 2: (3,)}, {1, 2}, ...,
    sft.Example([1, 2], [3, 4])], ids=str)
def test_values_travel(value):
    back = messages.decode(json.loads(json.dumps(messages.encode(value))))
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize("dtype", messages.DTYPES)
def test_tensors_travel(dtype):
    value = torch.ones(2, 3, dtype=messages.DTYPES[dtype])
    back = messages.decode(json.loads(json.dumps(messages.encode(value))))
    assert back.dtype == value.dtype and torch.equal(back, value)
    if dtype != "bfloat16":
        array = messages.decode(json.loads(json.dumps(messages.encode(value.numpy()))))
        assert array.dtype == value.numpy().dtype and np.array_equal(array, value.numpy())


def test_a_gradient_is_told():
    assert messages.decode(messages.encode(torch.ones(2, requires_grad=True) * 2)).requires_grad


@pytest.mark.parametrize("said", [
    [1], {"a": 1, "b": 2}, {}, {"list": 3}, {"array": ["object", [1], ""]}, {"array": ["float64", [2**40], ""]},
    {"array": ["float64", [-1], ""]}, {"array": ["float64", [1], "@"]}, {"tensor": ["float64", True, 3]},
    {"tensor": ["quint8", True, ["float64", [0], ""]]}, {"named": ["os", "stat_result", [1]]},
    {"named": ["rlhf_lite.nowhere", "Example", []]}, {"named": ["rlhf_lite.sft", "train_sft", []]},
    {"named": ["rlhf_lite.sft", "Example", [1, 2, 3]]}, {"dict": [[{"list": []}, 1]]}, {"set": [{"dict": []}]}],
    ids=str)
def test_what_is_no_value_is_refused(said):
    with pytest.raises(messages.Unreadable):
        messages.decode(said)


def test_other_objects_stay_behind():
    back = messages.decode(messages.encode(torch.nn.Linear(1, 1)))
    assert isinstance(back, messages.Odd) and repr(back) == "<Linear>" and back != 1
    assert not checking.same(back, 1.0, 1e9)
