"""A domain of your own in one file: a flower shop, whose rules for a good answer are a program.

    python -m rlhf_lite run --domain docs/own_domain.py --size tiny --fast

A request names a flower and asks for its colour, its price or its month. docs/own_domain.md explains each part.
"""

import itertools
import random

import numpy as np

from rlhf_lite.experiment.domain import Domain, Mark, Request
from rlhf_lite.feedback import new_demonstration

COLOURS = {"rose": "red", "tulip": "yellow", "lily": "white", "iris": "blue", "daisy": "white", "poppy": "red",
           "violet": "purple", "aster": "blue", "crocus": "purple", "peony": "pink", "dahlia": "orange",
           "lilac": "pink"}
PRICES = {flower: number for number, flower in enumerate(COLOURS, 2)}
MONTHS = dict(zip(COLOURS, ["June", "April", "July", "May", "June", "May", "March", "September", "March", "May",
                            "August", "May"], strict=True))
FACTS = {"colour": COLOURS, "price": PRICES, "month": MONTHS}
ASKED = {"colour": ["What colour is the {}?", "Which colour does the {} have?", "I want a {}. What colour is it?"],
         "price": ["What does a {} cost?", "How much is one {}?", "Tell me the price of the {}."],
         "month": ["When does the {} bloom?", "In which month does the {} open?", "Tell me the month of the {}."]}
ANSWERS = {"colour": "The {} is {}.", "price": "One {} costs {} coins.", "month": "The {} blooms in {}."}


# ---------------------------------------------------------------- requests and demonstrations

def all_requests():
    """Every flower, question and wording. The flowers are split, so that no test flower was ever asked about."""
    found = []
    for number, flower in enumerate(COLOURS):
        split = "test" if number % 4 == 3 else "valid" if number % 4 == 2 else "train"
        for about, wordings in ASKED.items():
            found += [Request(f"{flower}-{about}-{place}", wording.format(flower), about, split)
                      for place, wording in enumerate(wordings)]
    random.Random(0).shuffle(found)
    return found


REQUESTS = all_requests()


def prompts(split):
    return [request for request in REQUESTS if request.split == split]


def parts(request):
    """The flower, and the fact that is asked for."""
    flower, about, _ = request.id.split("-")
    return flower, about, str(FACTS[about][flower])


def demonstrations(split):
    """A good answer to every second request."""
    rows = []
    for request in prompts(split)[::2]:
        flower, about, fact = parts(request)
        rows.append(new_demonstration(f"d-{request.id}", request.id, request.text, ANSWERS[about].format(flower, fact),
                                      about, "the florist", split, "2026-11-28"))
    return rows


# ---------------------------------------------------------------- text to read

def texts(seed):
    """What the web says about flowers, for ever: the truth, in no format that answers a request."""
    rng = random.Random(f"flowers-{seed}")
    while True:
        flowers = rng.sample(list(COLOURS), 4)
        yield " ".join(f"In {MONTHS[f]} the {COLOURS[f]} {f} opens; the shop sells it for {PRICES[f]} coins. "
                       f"{ANSWERS[about].format(f, FACTS[about][f])}"
                       for f, about in zip(flowers, itertools.cycle(ASKED), strict=False))


# ---------------------------------------------------------------- the truth

def grade(request, text, finished):
    """The fact counts most; then the flower's name, an end, and no more than a sentence."""
    flower, about, fact = parts(request)
    words = text.replace(".", " ").replace(",", " ").split()
    others = {str(value) for value in FACTS[about].values()} - {fact}
    faults = {f"does not say {fact}": (fact not in words, 0.2),
              f"does not name the {flower}": (flower not in words, 0.6),
              "says something else as well": (bool(others & {*words}), 0.5),
              "does not end": (not finished or not text.endswith("."), 0.6),
              "rambles": (len(words) > 10, 0.5)}
    score = 1.0
    for there, factor in faults.values():
        score *= factor if there else 1.0
    return Mark(score, tuple(reason for reason, (there, _) in faults.items() if there))


# ---------------------------------------------------------------- people who rank

class Customer:
    """Likes what is right, and short answers a little; is never quite sure."""

    def __init__(self, name, brevity, noise):
        self.name, self.brevity, self.noise = name, brevity, noise

    def feels(self, marks, lengths):
        return np.array([mark.score - self.brevity * length / 40 for mark, length in zip(marks, lengths, strict=True)])

    def judge(self, marks, lengths, rng):
        """(ranks, scores): no ties, because moods differ."""
        felt = self.feels(marks, lengths) + self.noise * rng.standard_normal(len(marks))
        ranks = [1 + int(sum(other > one for other in felt)) for one in felt]
        return ranks, [int(np.clip(1 + round(6 * one), 1, 7)) for one in felt]

    def preference(self, marks, lengths):
        """How often the first is preferred: a logistic curve of the difference."""
        first, second = self.feels(marks, lengths)
        return float(1 / (1 + np.exp((second - first) / self.noise)))


def customers():
    return [Customer("Fern", 0.1, 0.15), Customer("Basil", 0.0, 0.2), Customer("Olive", 0.2, 0.25)]


domain = Domain("flowers", prompts, demonstrations, texts, team=customers, judges=customers, grade=grade)
