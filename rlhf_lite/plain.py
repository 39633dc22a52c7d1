"""Text by people, models and other programs in one harmless line: for messages, tables and the terminal.

A name may hold characters that move the cursor, erase a line or turn the direction of writing, and the text of an error
may be a megabyte long or an error itself. Nothing here changes what is saved.
"""

import re

# Control characters, line ends, changes of direction, halves of characters.
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def is_plain(text):
    """Whether the text has nothing that a terminal would obey instead of showing it."""
    return OBEYED.search(text) is None


def plain(text, most=1000):
    """The text in one line of at most `most` characters; what a terminal would obey becomes its escape, as in \\x1b."""
    text = str(text)
    short = text if len(text) <= most else f"{text[:most]} ... ({len(text):,} characters)"
    return OBEYED.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), short)


def told(error, most=300):
    """What an error says, in one line; its type if it says nothing, or cannot."""
    try:
        said = str(error)
    except BaseException:  # an error's own __str__ may be wrong, too
        said = ""
    return plain(said, most).strip() or type(error).__name__
