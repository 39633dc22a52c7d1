"""The web of Pebbleford: endless simulated text for pretraining, in fifteen genres.

Six documents in ten practise a skill on random words (reading, everyday writing, workbooks, lists, talk, drills), a
quarter tell true facts, the rest is what is wrong with the web: myths, rude threads, unanswered questions.
Everything is a function of ``(town, seed)``. Left out: crawling, cleaning, deduplication; there is nothing to clean.
"""

import random

from rlhf_lite.town.web.drills import drills
from rlhf_lite.town.web.letters import letters
from rlhf_lite.town.web.lists import lists
from rlhf_lite.town.web.natural import answers, everyday, replies
from rlhf_lite.town.web.noise import forum, noise
from rlhf_lite.town.web.people import people
from rlhf_lite.town.web.places import almanac, places
from rlhf_lite.town.web.reading import reading
from rlhf_lite.town.web.stories import stories
from rlhf_lite.town.web.talk import talk
from rlhf_lite.town.web.workbook import workbook

SHORTEST, LONGEST = 20, 220  # words per document

# name: (function(town, rng) -> str, share of the documents)
GENRES = {
    "people": (people, 0.08), "places": (places, 0.03), "almanac": (almanac, 0.03), "reading": (reading, 0.11),
    "letters": (letters, 0.01), "stories": (stories, 0.01), "lists": (lists, 0.07), "talk": (talk, 0.01),
    "drills": (drills, 0.05), "everyday": (everyday, 0.22), "answers": (answers, 0.06), "replies": (replies, 0.05),
    "workbook": (workbook, 0.16), "forum": (forum, 0.07), "noise": (noise, 0.04),
}


def document(genre, town, rng):
    """One document of ``genre`` with 20 to 220 words."""
    write = GENRES[genre][0]
    while True:
        text = write(town, rng)
        if SHORTEST <= len(text.split()) <= LONGEST:
            return text


def documents(town, seed=0):
    """Yield ``(genre, text)`` for ever; the same town and seed give the same documents."""
    rng = random.Random(f"web-{seed}")
    names, shares = list(GENRES), [share for _, share in GENRES.values()]
    while True:
        for genre in rng.choices(names, shares, k=1000):
            yield genre, document(genre, town, rng)


def corpus(town, n_documents, seed=0):
    """The texts of the first ``n_documents`` of :func:`documents`, as a list of strings."""
    source = documents(town, seed)
    return [next(source)[1] for _ in range(n_documents)]
