"""Answers to the exercises, written cold as students would: right ones in many styles, and wrong ones.

`right(id, function)` must be accepted. `wrong(id, function, said)` must not, and its message must match `said`; by
default any message that only shows where the results part, which misleads nobody.
"""

SHOWS_WHERE = "expected|the shape should|should be a single number|is missing|should not be there|differ"
RIGHT, WRONG = [], []


def right(identifier, answer):
    RIGHT.append((identifier, answer))


def wrong(identifier, answer, said=SHOWS_WHERE):
    WRONG.append((identifier, answer, said))
