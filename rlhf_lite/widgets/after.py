"""After a block of rankings: who wrote what, how far a person agrees with themselves, and a person made of code."""

import math
from typing import NamedTuple

from rlhf_lite import records


class Source(NamedTuple):
    """How one source of answers fared."""

    answers: int
    mean_rank: float
    best: float  # share of its answers that were ranked best or tied for best
    words: float  # mean length: longer answers often rank better, whoever writes them


class Agreement(NamedTuple):
    percent: float  # of the pairs that neither side tied; chance is 50
    n: int  # such pairs
    tau: float  # mean Kendall tau-b over the prompts for which it exists
    prompts: int  # prompts that both ranked


def reveal(rankings):
    """{source: Source}, the best mean rank first. Look only when you have finished: knowing colours what follows."""
    found = {}
    for row in rankings:
        for response, rank in zip(row["responses"], row["ranks"], strict=True):
            found.setdefault(response.get("source", "unknown"), []).append(
                (rank, rank == min(row["ranks"]), len(response["text"].split())))
    table = {name: Source(len(seen), *(sum(column) / len(seen) for column in zip(*seen)))
             for name, seen in found.items()}
    return dict(sorted(table.items(), key=lambda pair: pair[1].mean_rank))


def agree(rankings_a, rankings_b):
    """Agreement of two lists of rankings: answers are matched by their text, prompts by their id."""
    first, second = ({row["prompt_id"]: row for row in rows} for rows in (rankings_a, rankings_b))
    taus = []
    common = [key for key in first if key in second]
    for key in common:
        a, b = ({r["text"]: rank for r, rank in zip(row["responses"], row["ranks"], strict=True)}
                for row in (first[key], second[key]))
        texts = [text for text in a if text in b]
        taus.append(records.kendall_tau_b([a[text] for text in texts], [b[text] for text in texts]))
    taus = [tau for tau in taus if not math.isnan(tau)]
    return Agreement(*records.agreement(rankings_a, rankings_b), sum(taus) / len(taus) if taus else math.nan,
                     len(common))


def self_consistency(rankings):
    """Agreement of a person with themselves, on the items that were shown twice (``repeats`` of the session)."""
    again = [row for row in rankings if row.get("item_id", "").endswith("#again")]
    return agree([row for row in rankings if row not in again], again)


def simulate(session, judge, limit=None):
    """Let a function stand in for the person, for tests and for notebooks that run with nobody there.

    judge(prompt, texts) -> ranks, one per text; None skips the item. Returns the number of items done.
    """
    done = 0
    while session.item is not None and (limit is None or done < limit):
        ranks = judge(session.item["prompt"], session.shown())
        if ranks is None:
            session.skip("simulated")
        else:
            for place, rank in enumerate(ranks):
                session.set_rank(place, int(rank))
            session.submit()
        done += 1
    return done
