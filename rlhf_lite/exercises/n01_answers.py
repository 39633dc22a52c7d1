"""Exercises 1.4 and 1.5: the answers of a data set: how long they are, and how often they begin alike."""

import random
from collections import Counter

import numpy as np

from rlhf_lite.exercises.checking import Exercise

# ---------------------------------------------------------------- 1.4 lengths

def length_statistics(rows, encode, limit):
    """(mean, longest, share of at most ``limit``) of the answers' lengths in tokens, counting END as one more token."""
    lengths = np.array([len(encode(row["response"])) + 1 for row in rows])
    return float(lengths.mean()), int(lengths.max()), float((lengths <= limit).mean())


def syllables(text):
    """A toy tokenizer for the cases: pieces of at most three letters."""
    return [word[start:start + 3] for word in text.split() for start in range(0, len(word), 3)]


def _answers():
    rows = [{"prompt": "Is it late?", "response": "Late."}, {"prompt": "Who is Fay?", "response": "Fay is a gardener."},
            {"prompt": "Name three pets, please.", "response": "A cat, a parrot and a tortoise."}]
    rng, words = random.Random(2), "a tea gardener owns the umbrella and likes rainy mornings".split()
    more = [{"prompt": " ".join(rng.choices(words, k=3)), "response": " ".join(rng.choices(words, k=1 + number % 14))}
            for number in range(40)]
    return [(rows, syllables, 8), (rows[:2], syllables, 3), (more, syllables, 20), (more[:1], syllables, 100)]


def _three(function, *arguments):
    return dict(zip(("mean", "longest", "share that fits"), function(*arguments), strict=True))


lengths_in_tokens = Exercise(
    "1.4", "lengths in tokens", 10, 2,
    ("Make the list of all lengths first; the three numbers follow from it. What has a model to write besides the "
     "words?",
     "The length of an answer is the number of its tokens plus one for END. Then the mean, the maximum, and the share "
     "of lengths that are at most `limit`.",
     "`lengths = np.array([len(encode(row[\"response\"])) + 1 for row in rows])`; return `lengths.mean()`, "
     "`lengths.max()` and `(lengths <= limit).mean()`."),
    task="`rows` is a list of dicts with a `\"response\"`, `encode` a function that turns a text into the list of its "
         "tokens, without END, and `limit` a whole number. An answer is as long as it has tokens, plus one for END. "
         "Return three numbers: the mean length, the longest, and the share (between 0 and 1) of the answers whose "
         "length is at most `limit`.",
    course=length_statistics, cases=_answers, observe=_three)


def _of_lengths(lengths, limit):
    lengths = np.array(lengths)
    return lengths.mean(), lengths.max(), (lengths <= limit).mean()


@lengths_in_tokens.mistake("END is not counted. It is a token that the model has to write, so it must fit within the "
                           "limit too.")
def _no_end(rows, encode, limit):
    return _of_lengths([len(encode(row["response"])) for row in rows], limit)


@lengths_in_tokens.mistake("these are words. A model reads and writes tokens, and a rare word takes several of them.")
def _words(rows, encode, limit):
    return _of_lengths([len(row["response"].split()) + 1 for row in rows], limit)


@lengths_in_tokens.mistake("these are characters. Encode the answer first.")
def _characters(rows, encode, limit):
    return _of_lengths([len(row["response"]) + 1 for row in rows], limit)


@lengths_in_tokens.mistake("the request is counted too. The limit applies to what the model writes.")
def _prompt_and_answer(rows, encode, limit):
    return _of_lengths([len(encode(row["prompt"])) + len(encode(row["response"])) + 1 for row in rows], limit)


@lengths_in_tokens.mistake("this is the share of answers that do *not* fit. How many do?")
def _share_above(rows, encode, limit):
    mean, longest, share = length_statistics(rows, encode, limit)
    return mean, longest, 1 - share


@lengths_in_tokens.mistake("an answer of exactly `limit` tokens, END included, does fit: use `<=`.")
def _below_the_limit(rows, encode, limit):
    return length_statistics(rows, encode, limit)[:2] + length_statistics(rows, encode, limit - 1)[2:]


# ---------------------------------------------------------------- 1.5 template smell

def repeated_openings(texts, n):
    """The share of texts whose first ``n`` words, in lower case, also begin another text."""
    openings = [tuple(text.lower().split()[:n]) for text in texts]
    count = Counter(openings)
    return sum(count[opening] > 1 for opening in openings) / len(openings)


def _texts():
    letters = ["Dear Ann, thank you for the cap.", "Dear Ann, Thank you for the jug.", "Dear Bo, the cap is torn.",
               "Dear Ann, I am sorry.", "Thank you, Bo.", "dear ann, thank you so much.", "Dear Ann, the jug leaks.",
               "Thank you, Bo. It fits.", "What a fine cap!", "What a fine jug!"]
    rng, words = random.Random(3), ["a", "A", "the", "jug", "cap", "Cap"]
    mixed = ["  ".join(rng.choices(words, k=rng.randrange(1, 6))) for _ in range(30)]
    return [(letters, 3), (letters, 2), (["A cap.", "A jug.", "The jug."], 2), (["No.", "no.", "No. It fits."], 2),
            (mixed, 1), (mixed, 3)]


same_openings = Exercise(
    "1.5", "repeated openings", 8, 2,
    ("Two passes: first find out how often each opening occurs, then ask about every text.",
     "Make a list of openings, one per text, each as a tuple of words. Count them. Then count the *texts* whose "
     "opening occurs more than once, and divide by the number of texts.",
     "`openings = [tuple(text.lower().split()[:n]) for text in texts]`, `count = Counter(openings)`, then "
     "`sum(count[opening] > 1 for opening in openings) / len(openings)`."),
    task="`texts` is a list of strings and `n` a whole number. The opening of a text is its first n words, those of "
         "`text.lower().split()` (all of them, if there are fewer). Return the share, between 0 and 1, of the texts "
         "whose opening is also the opening of at least one other text.",
    course=repeated_openings, cases=_texts)


@same_openings.mistake("capitals make a difference here. \"Dear Ann\" and \"dear ann\" are the same opening.")
def _capitals_matter(texts, n):
    openings = [tuple(text.split()[:n]) for text in texts]
    return sum(Counter(openings)[opening] > 1 for opening in openings) / len(openings)


@same_openings.mistake("the first text with each opening is not counted. Ask about every text: does *another* one "
                       "begin the same way?")
def _first_one_is_free(texts, n):
    openings = [tuple(text.lower().split()[:n]) for text in texts]
    return 1 - len(set(openings)) / len(openings)


@same_openings.mistake("this is the share of distinct openings. One opening shared by a hundred letters would count "
                       "only once; take the share of the texts.")
def _of_the_openings(texts, n):
    count = Counter(tuple(text.lower().split()[:n]) for text in texts)
    return sum(found > 1 for found in count.values()) / len(count)


@same_openings.mistake("every repeated opening counts once, however many texts begin with it. Count the texts.")
def _openings_not_texts(texts, n):
    count = Counter(tuple(text.lower().split()[:n]) for text in texts)
    return sum(found > 1 for found in count.values()) / len(texts)


@same_openings.mistake("this is the number of texts. Divide it by how many there are, to get a share.")
def _not_divided(texts, n):
    return repeated_openings(texts, n) * len(texts)


@same_openings.mistake("these are the first characters. An opening is the first n words.")
def _first_letters(texts, n):
    openings = [text.lower()[:n] for text in texts]
    return sum(Counter(openings)[opening] > 1 for opening in openings) / len(openings)


@same_openings.mistake("only the most frequent opening is counted. Every opening that occurs twice smells of a "
                       "template.")
def _most_common_only(texts, n):
    return Counter(tuple(text.lower().split()[:n]) for text in texts).most_common(1)[0][1] / len(texts)


EXERCISES = [lengths_in_tokens, same_openings]
