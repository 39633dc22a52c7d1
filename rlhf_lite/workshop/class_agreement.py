"""How far a class agrees: every two people, every prompt, every person, and with themselves.

The idea: for each prompt, what a person thinks of a pair of answers is 1 (the first is better), -1 or 0 (a tie, or not
ranked). Two people agree on the pairs where the product is 1 and disagree where it is -1; pairs that either of them
tied are left out, as in the paper (72.6 +- 1.5 %, section 3.4). All counts are products of small matrices, so thirty
people and twenty prompts take less than a second. Chance is one half.

The intervals say what would change with other prompts (and, for the class as a whole, with other people): whole prompts
are drawn again, because the pairs of one prompt hang together.
"""

from typing import NamedTuple

import numpy as np

from rlhf_lite.stats import Interval, kendall_tau_b, self_consistency
from rlhf_lite.workshop.class_folder import first_time

DRAWS = 1000


class Class(NamedTuple):
    """Who agreed where. same, both: (people, people, prompts) counts of pairs of answers."""

    names: list
    prompts: list  # (prompt_id, prompt)
    same: np.ndarray
    both: np.ndarray


def compare(people):
    """{name: rankings} -> Class. Answers are matched by their text, prompts by their id and text."""
    names, by_prompt = list(people), {}
    for person, rows in enumerate(people.values()):
        for row in first_time(rows):
            texts = {}
            for response, rank in zip(row["responses"], row["ranks"], strict=True):
                texts.setdefault(response["text"], rank)
            by_prompt.setdefault((row["prompt_id"], row["prompt"]), {})[person] = texts
    shape = (len(names), len(names), len(by_prompt))
    same, both = np.zeros(shape), np.zeros(shape)
    for place, ranked in enumerate(by_prompt.values()):
        signs = _signs(ranked, len(names))                       # (people, pairs of answers)
        product, untied = signs @ signs.T, np.abs(signs) @ np.abs(signs).T
        same[:, :, place], both[:, :, place] = (untied + product) / 2, untied
    return Class(names, list(by_prompt), same, both)


def _signs(ranked, count):
    texts = list(dict.fromkeys(text for one in ranked.values() for text in one))
    ranks = np.full((count, len(texts)), np.nan)
    for person, one in ranked.items():
        ranks[person, [texts.index(text) for text in one]] = list(one.values())
    first, second = np.triu_indices(len(texts), 1)
    return np.nan_to_num(np.sign(ranks[:, second] - ranks[:, first]))  # a lower rank is better


def pairs(found, draws=DRAWS, seed=0):
    """{(name, name): Interval} of every two people, over prompts; n counts pairs of answers."""
    first, second = np.triu_indices(len(found.names), 1)
    same, both = found.same[first, second], found.both[first, second]        # (pairs of people, prompts)
    weights = _weights(len(found.prompts), draws, seed)
    intervals = _intervals(same.sum(1), both.sum(1), same @ weights, both @ weights)
    return {(found.names[a], found.names[b]): one for a, b, one in zip(first, second, intervals, strict=True)}


def everybody(found, draws=DRAWS, seed=0):
    """The agreement of the class: an Interval over prompts and over people, drawn independently."""
    first, second = np.triu_indices(len(found.names), 1)
    same, both = found.same[first, second], found.both[first, second]
    prompts, people = _weights(len(found.prompts), draws, seed), _weights(len(found.names), draws, seed + 1)
    of_pair = people[first] * people[second]                                  # (pairs of people, draws)
    return _intervals(same.sum(keepdims=True)[0], both.sum(keepdims=True)[0],
                      ((same @ prompts) * of_pair).sum(0)[None], ((both @ prompts) * of_pair).sum(0)[None])[0]


def by_prompt(found, draws=DRAWS, seed=0):
    """{(prompt_id, prompt): Interval} over people; the most disputed prompt first."""
    first, second = np.triu_indices(len(found.names), 1)
    people = _weights(len(found.names), draws, seed)
    of_pair = people[first] * people[second]
    same, both = found.same[first, second].T, found.both[first, second].T    # (prompts, pairs of people)
    intervals = _intervals(same.sum(1), both.sum(1), same @ of_pair, both @ of_pair)
    named = [(key, one) for key, one in zip(found.prompts, intervals, strict=True) if one.n]
    return dict(sorted(named, key=lambda pair: pair[1].value))


def by_person(found, draws=DRAWS, seed=0):
    """{name: Interval} with all the others together, over prompts; the most usual taste first."""
    others = 1 - np.eye(len(found.names))[:, :, None]
    same, both = (found.same * others).sum(1), (found.both * others).sum(1)  # (people, prompts)
    weights = _weights(len(found.prompts), draws, seed)
    intervals = _intervals(same.sum(1), both.sum(1), same @ weights, both @ weights)
    return dict(sorted(zip(found.names, intervals, strict=True), key=lambda pair: -np.nan_to_num(pair[1].value)))


def consistency(people):
    """{name: stats.Agreement with themselves} on the items that were shown twice."""
    return {name: self_consistency(rows) for name, rows in people.items()}


def habits(rows):
    """(seconds a sheet: the median, share of pairs tied) of one person: a hurry shows in both."""
    seconds = sorted(row.get("seconds", 0) for row in rows)
    tied = total = 0
    for row in rows:
        ranks = np.array(row["ranks"])
        first, second = np.triu_indices(len(ranks), 1)
        tied, total = tied + int((ranks[first] == ranks[second]).sum()), total + len(first)
    return (seconds[len(seconds) // 2] if seconds else 0.0), tied / max(1, total)


class Disputed(NamedTuple):
    """One prompt side by side."""

    prompt_id: str
    prompt: str
    agreement: Interval
    answers: list  # (text, mean rank, who put it first), best mean rank first
    why: list  # (name, what they wrote)
    camps: tuple  # the two people furthest apart: (name, name, Kendall's tau-b)


def disputed(people, most=5):
    """The prompts on which people agree least, with who chose what, and why, where somebody said why."""
    return [_disputed(people, key, one) for key, one in list(by_prompt(compare(people)).items())[:most]]


def _disputed(people, key, agreement):
    rows = {name: row for name, mine in people.items() for row in first_time(mine)
            if (row["prompt_id"], row["prompt"]) == key}
    texts = list(dict.fromkeys(r["text"] for row in rows.values() for r in row["responses"]))
    ranks = {name: {r["text"]: rank for r, rank in zip(row["responses"], row["ranks"], strict=True)}
             for name, row in rows.items()}
    answers = []
    for text in texts:
        given = [one[text] for one in ranks.values() if text in one]
        firsts = [name for name, one in ranks.items() if one.get(text) == min(one.values())]
        answers.append((text, sum(given) / len(given), firsts))
    why = [(name, said) for name, row in rows.items() for said in words(row)]
    apart = [(kendall_tau_b([ranks[a][t] for t in texts], [ranks[b][t] for t in texts]), a, b)
             for i, a in enumerate(ranks) for b in list(ranks)[i + 1:] if set(ranks[a]) == set(ranks[b]) == set(texts)]
    tau, a, b = min((one for one in apart if one[0] == one[0]), default=(float("nan"), "", ""))
    return Disputed(*key, agreement, sorted(answers, key=lambda answer: answer[1]), why, (a, b, tau))


def words(row):
    """What a person wrote about an item: the note, and what was said of marked words."""
    marks = [(row["responses"][mark["answer"]]["text"][mark["start"]:mark["end"]], mark["text"])
             for mark in row.get("critique") or []]
    found = [str(row.get("note") or ""), *(f"on “{marked[:40]}”: {said}" for marked, said in marks)]
    return [one for one in found if one.strip()]


def _weights(count, draws, seed):
    """(count, draws): how often each one is drawn."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).T.astype(float)


def _intervals(same, both, drawn_same, drawn_both):
    """Shares (things,) and their redrawn counts (things, draws) -> [Interval]."""
    found = []
    for s, b, ds, db in zip(same, both, drawn_same, drawn_both, strict=True):
        kept = ds[db > 0] / db[db > 0]
        ends = np.quantile(kept, [0.025, 0.975]) if len(kept) else (0.0, 1.0)
        found.append(Interval(float(s / b) if b else float("nan"), float(ends[0]), float(ends[1]), int(b)))
    return found
