"""Marked words: what exactly is good or bad in an answer, and one line about it. Here without widgets.

A mark is {"place", "start", "end", "text"} while the item is open: characters start to end of the answer shown at a
place. In the record the place becomes the answer's number (`feedback.check_ranking`, field "critique").
"""

from html import escape

from rlhf_lite import feedback
from rlhf_lite.widgets.draft import letter


def check_span(session, place, start, end):
    """Raise ValueError unless characters start to end are words of the answer at a place."""
    texts = session.shown() if session.item else []
    if not (type(place) is int and 0 <= place < len(texts)):
        raise ValueError(session.text("error.unmark"))
    if not (type(start) is type(end) is int and 0 <= start < end <= len(texts[place])
            and texts[place][start:end].strip()):
        raise ValueError(session.text("error.words", letter=letter(place)))


def add(session, place, start, end, text):
    """Mark characters start to end of the answer at a place, with one line about them."""
    check_span(session, place, start, end)
    if not feedback.is_critique(text):
        raise ValueError(session.text("error.critique", most=feedback.MOST_CRITIQUE))
    session.enter(marks=[*session.draft.marks, {"place": place, "start": start, "end": end, "text": text.strip()}])


def remove(session):
    """Remove the mark made last."""
    if session.draft is None or not session.draft.marks:
        raise ValueError(session.text("error.unmark"))
    session.enter(marks=session.draft.marks[:-1])


def marked_html(text, marks):
    """A text as HTML with its marks, which may overlap; each is numbered, and its line is below the text."""
    edges = sorted({0, len(text), *(edge for mark in marks for edge in (mark["start"], mark["end"]))})
    pieces = []
    for start, end in zip(edges, edges[1:], strict=False):
        inside = [n for n, mark in enumerate(marks, 1) if mark["start"] <= start < mark["end"]]
        ends = ",".join(str(n) for n in inside if marks[n - 1]["end"] == end)
        piece = escape(text[start:end])
        pieces.append(f'<mark data-number="{ends}">{piece}</mark>' if inside else piece)
    return "".join(pieces)


def lines_html(marks):
    """The lines about the marks of one answer."""
    lines = "".join(f"<li>{escape(mark['text'])}</li>" for mark in marks)
    return f'<ol class="rlhf-critique">{lines}</ol>' if marks else ""
