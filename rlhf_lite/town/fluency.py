"""Does a sentence read like English? Counts of short word sequences, compared with what chance would make of them.

A sentence is cut into pairs of neighbours, pairs with one word between, and runs of three, seen three ways: as
words, as classes ("noun", "past", every little word a class of its own), as parts of speech. Where two frequent words
were never seen side by side, that is evidence against the sentence; where two rare words were not, it is hardly any:
good English is full of new combinations. ``surprise`` weighs this evidence into one number per sentence, about -3 for
plain town talk, above 2 for shuffled words.

The counts come from text that no stage is made from, the web of seed 1000, and from the demonstrations and
``english.txt``; which word pairs are common English beyond the town comes from counts over a trillion words of the real
web (``common.txt.gz``). ``common_fit.py`` and ``fluency_fit.py`` make both files; the weights are fitted on sentences
spoilt on purpose. Left out: sense. "The lamp keeps a river" is English; ``sense.py`` says what does not belong.
"""

import gzip
import json
import math
import re
from collections import Counter, defaultdict
from functools import cache, lru_cache
from pathlib import Path

from rlhf_lite.town import facts
from rlhf_lite.town.web.words import EXTRA_NAMES

FOLDER = Path(__file__).parent
COUNTS, COMMON = FOLDER / "fluency.txt.gz", FOLDER / "common.txt.gz"
KINDS = ("word pair", "word gap", "class pair", "class run", "part pair", "part run")
USUAL = 0.25  # what is left of the evidence against a word pair that is common English beyond the town
SHORTEST = 3  # words; a shorter sentence ("In May.") has no order to judge
FLOWER = re.compile(r"\b(?:daisy|pearl|olive|iris)\b")
MAY = re.compile(r"\b(in|of|from|since|until|before|every|last|next|to|is|was) may\b")
TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)*|\d+|[.,!?;:]")
ENDINGS = (("'s", "possessive"), ("ing", "ing"), ("ed", "past"), ("ly", "adverb"), ("s", "nouns"))


@cache
def lexicon():
    """``{word: (class, part of speech)}`` from ``lexicon.txt``."""
    text = re.sub(r"(?m)^#.*\n", "", (FOLDER / "lexicon.txt").read_text("utf-8")).replace("\n  ", " ")
    found = {}
    for line in text.splitlines():
        kind, words = line.split(": ")
        part, name = kind.split("/")
        found |= {word: (word if name == "self" else name.upper(), part.upper()) for word in words.split()}
    return found


@lru_cache(maxsize=20000)
def classes(token):
    """``(class, part of speech)`` of a token; a word that is not in the lexicon is judged by its ending."""
    if not token[0].isalpha():
        return (token, token) if not token.isdecimal() else ("NUMBER", "NUMBER")
    known = lexicon()
    if token in known:
        return known[token]
    name = next((name for end, name in ENDINGS if token.endswith(end) and len(token) > len(end) + 2), "noun")
    return name.upper(), {"adverb": "ADV"}.get(name, name.upper())


ALIKE = {word.lower() + end: alike + end for alike, words in (
    ("anna", (*facts.WOMEN, *facts.MEN, *EXTRA_NAMES)), ("monday", facts.DAYS), ("red", facts.COLOURS),
    ("june", [month for month in facts.MONTHS if month != "May"]), ("seven", facts.NUMBERS[2:])) for word in words
    for end in ("", "'s")}


def tokens_of(sentence):
    """Words, numbers and marks in lower case, with May told from "may" and a daisy from Daisy.

    One name is as good as another, and so are days, months, colours and numbers: each stands for all of its kind.
    """
    found = TOKEN.findall(MAY.sub(r"\1 june", FLOWER.sub("tulip", sentence).lower()))
    return [ALIKE.get(token, token) for token in found]


def sentences(text):
    """The sentences of ``text``; a line of a poem that starts small goes on the sentence before it."""
    return [s for s in re.split(r"(?<=[.!?])[\"')\]]*\s+|\n+(?![a-z])", text.strip()) if re.search("[A-Za-z]", s)]


def grams(sentence):
    """``{kind: [keys]}``: every sequence of the sentence, spelled with spaces between."""
    tokens = tokens_of(sentence)
    end = ["</s>"] if tokens and tokens[-1] in ".!?" else []
    words = ["<s>", *tokens, *end]
    both = [("<s>", "<s>"), *map(classes, tokens), *[("</s>", "</s>")] * len(end)]
    names, parts = [name for name, _ in both], [part for _, part in both]
    pairs = [[f"{a} {b}" for a, b in zip(row, row[1:], strict=False)] for row in (words, names, parts)]
    gaps = [f"{a} {b}" for a, b in zip(words, words[2:], strict=False)]
    runs = [[f"{a} {b} {c}" for a, b, c in zip(row, row[1:], row[2:], strict=False)] for row in (names, parts)]
    return dict(zip(KINDS, (pairs[0], gaps, pairs[1], runs[0], pairs[2], runs[1]), strict=True))


class Counts:
    """How often every sequence was seen, and how often chance would put its pieces together."""

    def __init__(self, tables, common=frozenset()):
        self.tables = tables  # {kind: {key: count}}
        self.common = common  # word pairs that are good English wherever they come from
        self.left, self.right, self.middle = ({kind: defaultdict(int) for kind in KINDS} for _ in range(3))
        for kind, table in tables.items():
            left, right, middle = self.left[kind], self.right[kind], self.middle[kind]
            for key, n in table.items():
                first, last = key.rsplit(" ", 1)[0], key.split(" ", 1)[1]
                left[first] += n
                right[last] += n
                middle[first.split(" ", 1)[1] if " " in first else ""] += n

    def expected(self, kind, key):
        """The count that ``key`` would have if its first and its last piece knew nothing of each other."""
        first, last = key.rsplit(" ", 1)[0], key.split(" ", 1)[1]
        middle = self.middle[kind].get(first.split(" ", 1)[1] if " " in first else "", 0)
        return self.left[kind].get(first, 0) * self.right[kind].get(last, 0) / middle if middle else 0.0


@cache
def common():
    """``(words, word pairs)`` of plain English, two frozensets, from ``common.txt.gz``."""
    words, pairs = gzip.decompress(COMMON.read_bytes()).decode().split("\n\n")
    return frozenset(words.split()), frozenset(f"{first} {second}" for line in pairs.splitlines()
                                               for first, *rest in [line.split()] for second in rest)


@cache
def load():
    """``(Counts, weights)`` from the files, once: a third of a second or so."""
    with gzip.open(COUNTS, "rt", encoding="utf-8") as lines:
        head = json.loads(next(lines))
        tables = {kind: {} for kind in KINDS}
        for line in lines:
            kind, count, key = line.rstrip("\n").split("\t")
            tables[KINDS[int(kind)]][key] = int(count)
    return Counts(tables, common()[1]), tuple(head["weights"])


@lru_cache(maxsize=200_000)
def weigh(counts, kind, key, less=0):
    """``(evidence against a sequence, whether it was never seen)``; the evidence is the log of expected over seen."""
    seen = counts.tables[kind].get(key, 0) - less
    against = max(0.0, math.log((counts.expected(kind, key) + 1) / (max(seen, 0) + 1)))
    usual = kind == "word pair" and key in counts.common
    return against * (USUAL if usual else 1), seen <= 0 and not usual


def evidence(sentence, counts, without=None):
    """``{kind: [evidence against each sequence]}`` and ``{kind: number of sequences never seen}``.

    ``without``: ``{kind: Counter}`` to take off the counts, so that a demonstration is not judged by itself.
    """
    against, unseen = {}, {}
    for kind, keys in grams(sentence).items():
        weighed = [weigh(counts, kind, key, without[kind][key] if without else 0) for key in keys]
        against[kind] = [evidence for evidence, _ in weighed]
        unseen[kind] = sum(never for _, never in weighed)
    return against, unseen


def features(sentence, counts, without=None):
    """What the weights weigh: sum, worst and unseen of each kind, the first and last also a word; a list of floats."""
    against, unseen = evidence(sentence, counts, without)
    n = max(1, len(against["word pair"]) - 1)
    totals, missing = [sum(against[kind]) for kind in KINDS], [unseen[kind] for kind in KINDS]
    worst = [max(against[kind], default=0.0) for kind in KINDS]
    return [*totals, *worst, *missing, *(t / n for t in totals), *(u / n for u in missing), 1.0, math.log(n)]


@lru_cache(maxsize=20000)
def surprise(sentence):
    """How unlike English ``sentence`` is, about -5 to 15; above 0 it looks rather spoilt than whole."""
    if len(re.findall(r"[A-Za-z]+|\d+", sentence)) < SHORTEST:
        return -5.0
    counts, weights = load()
    return sum(w * x for w, x in zip(weights, features(sentence, counts), strict=True))


def worst_place(sentence):
    """The words around the least likely place of ``sentence``, for the reader of a grade."""
    against, _ = evidence(sentence, load()[0])
    tokens = tokens_of(sentence)
    costs = [a + b for a, b in zip(against["word pair"], against["class pair"], strict=True)]
    place = max(range(len(costs)), key=costs.__getitem__)
    return " ".join(tokens[max(0, place - 2):place + 2])


def worst_sentence(text):
    """``(surprise, sentence)`` of the sentence that reads least like English."""
    return max(((surprise(s), s) for s in sentences(text)), default=(-5.0, ""))


def count(texts):
    """``{kind: Counter}`` over all sentences of ``texts``."""
    tables = {kind: Counter() for kind in KINDS}
    for text in texts:
        for sentence in sentences(text):
            for kind, keys in grams(sentence).items():
                tables[kind].update(keys)
    return tables
