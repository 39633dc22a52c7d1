"""What others wrote is shown, never obeyed, and no message is longer than a reader."""

import pytest

from rlhf_lite.plain import is_plain, plain, told


@pytest.mark.parametrize("text", ["Ada", "Zoë", "José-María O'Neill", "李雷", "می‌خواهم", "👩‍🚀", "a b", "$x$"])
def test_names_of_people_stay_as_they_are(text):
    assert is_plain(text) and plain(text) == text


@pytest.mark.parametrize("text", ["a\x1b[2K", "a\nb", "a\rb", "\x07", "\x9b2J", "\u202eb", "a\u2028b", "\ud800", "\0"])
def test_what_a_terminal_would_obey_is_spelled_out(text):
    assert not is_plain(text) and is_plain(plain(text)) and "\\" in plain(text)
    plain(text).encode()


def test_long_texts_are_cut_and_say_so():
    assert plain("x" * 10**6) == "x" * 1000 + " ... (1,000,000 characters)" and plain("x" * 1000) == "x" * 1000


class Silent(Exception):
    def __str__(self):
        raise SystemExit(3)


def test_an_error_always_says_something():
    assert told(ValueError("a\nb")) == "a\\nb" and told(KeyError()) == "KeyError" and told(Silent()) == "Silent"
    assert len(told(ValueError("x" * 10**6))) < 400
