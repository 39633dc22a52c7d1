"""Answers written cold as students would: no wrong one is accepted, right ones are, and no message misleads."""

import functools
import re
from collections import Counter

import answers.first_steps
import answers.rankings_and_rewards  # noqa: F401  importing them fills the lists
from answers import RIGHT
from answers import WRONG as WRONG_ANSWERS

from rlhf_lite.exercises.checking import DONE, WRONG, exercises, find, judge


@functools.cache
def verdicts():
    """({(id, text) of right answers: verdict}, the same of wrong ones with what should be said)."""
    right = [(identifier, *judge(find(identifier), answer)) for identifier, answer in RIGHT]
    wrong = [(identifier, said, *judge(find(identifier), answer)) for identifier, answer, said in WRONG_ANSWERS]
    return right, wrong


def test_there_are_enough_answers_to_every_exercise():
    counts = Counter(identifier for identifier, *_ in RIGHT), Counter(identifier for identifier, *_ in WRONG_ANSWERS)
    asked = [identifier for identifier in exercises() if float(identifier) < 5]
    assert len(RIGHT) + len(WRONG_ANSWERS) >= 250
    assert all(counts[0][identifier] >= 3 and counts[1][identifier] >= 5 for identifier in asked), counts


def test_no_wrong_answer_is_accepted():
    assert not [(identifier, said) for identifier, said, mark, _ in verdicts()[1] if mark != WRONG]


def test_right_answers_are_accepted():
    rejected = [(identifier, sentence) for identifier, mark, sentence in verdicts()[0] if mark != DONE]
    assert len(rejected) <= 0.01 * len(RIGHT), rejected


def test_messages_do_not_mislead():
    misleading = [(identifier, sentence) for identifier, said, _, sentence in verdicts()[1]
                  if not re.search(said, sentence)]
    assert len(misleading) <= 0.03 * len(WRONG_ANSWERS), misleading


