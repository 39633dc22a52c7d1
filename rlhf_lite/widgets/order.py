"""The order of the answers as it grows: from clicks to ranks, and from ranks to what is shown and said.

Ranks are a list with one number per place on the screen; 1 is the best, equal numbers are a tie, 0 is "not yet".
"""

from html import escape

from rlhf_lite.widgets.draft import letter


def steps(ranks):
    """[(rank, places)] from the best to the worst; the places of a tie are one step."""
    return [(rank, [place for place, r in enumerate(ranks) if r == rank]) for rank in sorted(set(ranks) - {0})]


def picked(ranks, place, tie=False):
    """The ranks after a click on the answer at a place: it comes next in the order, or out of it if it was in.

    tie: it joins the last step instead of making a new one.
    """
    ranks = list(ranks)
    rank = ranks[place]
    if rank:
        ranks[place] = 0
        return ranks if rank in ranks else [r - (r > rank) for r in ranks]  # close the gap
    last = max(ranks)
    if last == len(ranks) and not tie:  # after ranks like 1, 4: count the steps instead
        number = {r: n for n, (r, _) in enumerate(steps(ranks), 1)}
        ranks = [number.get(r, 0) for r in ranks]
        last = max(ranks)
    ranks[place] = max(last, 1) if tie else last + 1
    return ranks


def ladder_html(ranks, say):
    """The order as a row of steps, best first, and what is still to rank."""
    parts = [f'<li class="rlhf-step"><span class="rlhf-number">{rank}</span>'
             f'{"<i>=</i>".join(f"<b>{letter(place)}</b>" for place in places)}</li>' for rank, places in steps(ranks)]
    left = [letter(place) for place, rank in enumerate(ranks) if not rank]
    if left:
        hint = f'{say("order.left")}: {", ".join(left)}' if parts else say("order.empty")
        parts.append(f'<li class="rlhf-left">{escape(hint)}</li>')
    return f'<span>{escape(say("order"))}</span><ol class="rlhf-order">{"".join(parts)}</ol>'


def in_words(ranks, say):
    """The order as a sentence, for people who hear the page: "Order: B best, then A and C tied." """
    parts = []
    for _, places in steps(ranks):
        letters = ", ".join(letter(place) for place in places)
        letters = letters if len(places) == 1 else say("order.tied", letters=letters)
        parts.append(say("order.then" if parts else "order.first", letters=letters))
    left = ", ".join(letter(place) for place, rank in enumerate(ranks) if not rank)
    said = say("order.said", order=", ".join(parts)) if parts else ""
    return f'{said} {say("order.missing", letters=left)}'.strip() if left else said
