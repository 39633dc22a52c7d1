"""Exercises of notebook 01: demonstrations."""

import random
from collections import Counter

import numpy as np

from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.town import reading_text
from rlhf_lite.town.grading import grade
from rlhf_lite.town.prompts import Prompt

LESSON = {
    "title": "Demonstrations",
    "promise": "Everything an assistant knows about manners it learns from answers that somebody wrote. You read them, "
               "write one, and check them as if the model depended on it, because it does.",
    "minutes": 45, "needs": "notebook 00, or nothing", "step": "1, demonstrations",
    "aims": ["read a demonstration data set and say what is in it and what is not",
             "write a demonstration to guidelines, and have a program fill in the paper's record of it",
             "split data so that the held-out part is really held out",
             "smell a template"],
}

# ---------------------------------------------------------------- 1.1 write one yourself

REQUEST = Prompt("mine-0001", "Write a thank-you note to Fay for the umbrella. Use exactly two sentences.",
                 "generation", "thanks", "c-me", "train",
                 {"kind": "write", "sentences": [1, 5], "constraint": {"sentences": 2},
                  "must": [["Fay"], ["umbrella"], ["thank", "thanks", "grateful"]]})
MOST_WORDS = 40


def first_problem(prompt, answer, most_words=MOST_WORDS):
    """"fine", or what is wrong with a demonstration, in words. A correct word that the grader does not know is fine."""
    if not isinstance(answer, str) or not answer.strip():
        return "it is empty"
    if reading_text.echoes(prompt.text, answer):
        return "it echoes the request"
    if len(answer.split()) > most_words:
        return f"it has more than {most_words} words"
    wanted, found = prompt.spec["constraint"]["sentences"], len(reading_text.sentences(answer))
    if found != wanted:
        return f"it has {found} sentences, not {wanted}"
    reasons = [reason for reason in grade(prompt, answer).reasons if not reason.startswith("not a word")]
    return reasons[0] if reasons else "fine"


def my_answer(request):
    """The course's own demonstration."""
    return "Dear Fay, thank you for the lovely umbrella. Now I can walk in the rain and sing."


def _verdict(function, request):
    return first_problem(REQUEST, function(request))


def _empty(request):
    return ""


def _echo(request):
    return request


def _long(request):
    return ("Dear Fay, thank you so very much for the umbrella that you gave me on my way home in the rain. I will take "
            "it with me to the market and to the river and to the mill, and I will think of you each time I open it.")


def _three_sentences(request):
    return "Dear Fay, thank you. The umbrella is lovely. I use it every day."


def _without_the_gift(request):
    return "Dear Fay, thank you so much. It was kind of you to think of me."


def _one_sentence(request):
    return "Dear Fay, thank you for the umbrella."


def _no_full_stop(request):
    return "Dear Fay, thank you for the lovely umbrella. I use it every day"


# ---------------------------------------------------------------- 1.2 shares

def use_case_shares(rows):
    """Rows -> {use case: its share of the rows in per cent}."""
    return {use_case: 100 * count / len(rows) for use_case, count in Counter(row["use_case"] for row in rows).items()}


def _rows_to_count():
    return [([{"use_case": case} for case in ["chat", "chat", "extract", "chat", "rewrite"]],),
            ([{"use_case": "chat"}] * 7 + [{"use_case": "other"}],)]


def _counts(rows):
    return dict(Counter(row["use_case"] for row in rows))


def _fractions(rows):
    return {use_case: share / 100 for use_case, share in use_case_shares(rows).items()}


def _even_shares(rows):
    return {use_case: 100 / len(set(row["use_case"] for row in rows)) for use_case in _counts(rows)}


def _of_the_largest(rows):
    counts = _counts(rows)
    return {use_case: 100 * count / max(counts.values()) for use_case, count in counts.items()}


# ---------------------------------------------------------------- 1.3 split by customer

def plain_text(text):
    """A text without capitals and with single spaces: what "the same text" means here."""
    return " ".join(text.lower().split())


def dedupe_and_split(rows, valid_share, seed=0):
    """Keep one row of each text, then give that share of the customers to validation: (train rows, valid rows)."""
    kept = list({plain_text(row["prompt"]): row for row in reversed(rows)}.values())
    customers = sorted({row["customer"] for row in kept})
    random.Random(seed).shuffle(customers)
    held_out = set(customers[:round(valid_share * len(customers))])
    return ([row for row in kept if row["customer"] not in held_out],
            [row for row in kept if row["customer"] in held_out])


def _rows_to_split():
    rng, rows = random.Random(0), []
    for number in range(300):
        thing = f"note about thing {number % 220}."
        rows.append({"prompt": f"Write a {thing}", "customer": f"c{rng.randrange(50):02d}"})
        if number % 9 == 0:
            rows.append({"prompt": f"write a  {thing}", "customer": f"c{rng.randrange(50):02d}"})
    return [(rows, 0.2)]


def leaks(train, valid, rows, valid_share):
    """What is wrong with a split: {sentence: whether it is so}."""
    parts = [[plain_text(row["prompt"]) for row in part] for part in (train, valid)]
    customers = [{row["customer"] for row in part} for part in (train, valid)]
    exact = [len({row["prompt"] for row in part}) for part in (train, valid)]
    share = len(customers[1]) / max(1, len(customers[0] | customers[1]))
    return {"a customer is in both parts": bool(customers[0] & customers[1]),
            "a text is in both parts": bool(set(parts[0]) & set(parts[1])),
            "a part has an exact copy": exact != [len(train), len(valid)],
            "a part has a copy with other capitals or spaces": [len(set(part)) for part in parts] != exact,
            "a text is lost": len(set(parts[0] + parts[1])) < len({plain_text(row["prompt"]) for row in rows}),
            "the share of validation is off": abs(share - valid_share) > 0.06}


def _leaks(function, rows, valid_share):
    train, valid = function(rows, valid_share)
    return leaks(train, valid, rows, valid_share)


def _by_prompt(rows, valid_share):
    kept = list({plain_text(row["prompt"]): row for row in rows}.values())
    random.Random(0).shuffle(kept)
    cut = round(valid_share * len(kept))
    return kept[cut:], kept[:cut]


def _by_customer_only(rows, valid_share):
    customers = sorted({row["customer"] for row in rows})
    random.Random(0).shuffle(customers)
    held_out = set(customers[:round(valid_share * len(customers))])
    return [r for r in rows if r["customer"] not in held_out], [r for r in rows if r["customer"] in held_out]


def _exact_copies_only(rows, valid_share):
    return _by_customer_only(list({row["prompt"]: row for row in rows}.values()), valid_share)


def _each_part_by_itself(rows, valid_share):
    return tuple(list({plain_text(row["prompt"]): row for row in part}.values())
                 for part in _by_customer_only(rows, valid_share))


def _drops_all_copies(rows, valid_share):
    count = Counter(plain_text(row["prompt"]) for row in rows)
    return _by_customer_only([row for row in rows if count[plain_text(row["prompt"])] == 1], valid_share)


def _swapped(rows, valid_share):
    return dedupe_and_split(rows, valid_share)[::-1]


# ---------------------------------------------------------------- 1.4 lengths

def length_statistics(rows, encode, limit):
    """(mean, longest, share of at most ``limit``) of the answers' lengths in tokens, END counted as one more token."""
    lengths = np.array([len(encode(row["response"])) + 1 for row in rows])
    return float(lengths.mean()), int(lengths.max()), float((lengths <= limit).mean())


def syllables(text):
    """A toy tokenizer for the cases: pieces of at most three letters."""
    return [word[start:start + 3] for word in text.split() for start in range(0, len(word), 3)]


def _answers():
    rows = [{"prompt": "Is it late?", "response": "Late."}, {"prompt": "Who is Fay?", "response": "Fay is a gardener."},
            {"prompt": "Name three pets, please.", "response": "A cat, a parrot and a tortoise."}]
    return [(rows, syllables, 8), (rows[:2], syllables, 3)]


def _three(function, *arguments):
    return [float(part) for part in function(*arguments)]


def _of_lengths(lengths, limit):
    lengths = np.array(lengths)
    return lengths.mean(), lengths.max(), (lengths <= limit).mean()


def _no_end(rows, encode, limit):
    return _of_lengths([len(encode(row["response"])) for row in rows], limit)


def _words(rows, encode, limit):
    return _of_lengths([len(row["response"].split()) + 1 for row in rows], limit)


def _characters(rows, encode, limit):
    return _of_lengths([len(row["response"]) + 1 for row in rows], limit)


def _prompt_and_answer(rows, encode, limit):
    return _of_lengths([len(encode(row["prompt"])) + len(encode(row["response"])) + 1 for row in rows], limit)


def _share_above(rows, encode, limit):
    mean, longest, share = length_statistics(rows, encode, limit)
    return mean, longest, 1 - share


def _below_the_limit(rows, encode, limit):
    return length_statistics(rows, encode, limit)[:2] + length_statistics(rows, encode, limit - 1)[2:]


# ---------------------------------------------------------------- 1.5 template smell

def repeated_openings(texts, n):
    """Share of the texts whose first ``n`` words, in lower case, also begin another text."""
    openings = [tuple(text.lower().split()[:n]) for text in texts]
    count = Counter(openings)
    return sum(count[opening] > 1 for opening in openings) / len(openings)


def _texts():
    letters = ["Dear Ann, thank you for the cap.", "Dear Ann, Thank you for the jug.", "Dear Bo, the cap is torn.",
               "Dear Ann, I am sorry.", "Thank you, Bo.", "dear ann, thank you so much.", "Dear Ann, the jug leaks.",
               "Thank you, Bo. It fits.", "What a fine cap!", "What a fine jug!"]
    return [(letters, 3), (letters, 2)]


def _capitals_matter(texts, n):
    openings = [tuple(text.split()[:n]) for text in texts]
    return sum(Counter(openings)[opening] > 1 for opening in openings) / len(openings)


def _first_one_is_free(texts, n):
    openings = [tuple(text.lower().split()[:n]) for text in texts]
    return 1 - len(set(openings)) / len(openings)


def _of_the_openings(texts, n):
    count = Counter(tuple(text.lower().split()[:n]) for text in texts)
    return sum(found > 1 for found in count.values()) / len(count)


def _first_letters(texts, n):
    openings = [text.lower()[:n] for text in texts]
    return sum(Counter(openings)[opening] > 1 for opening in openings) / len(openings)


def _most_common_only(texts, n):
    return Counter(tuple(text.lower().split()[:n]) for text in texts).most_common(1)[0][1] / len(texts)


EXERCISES = [
    Exercise(
        "1.1", "write a demonstration", 8, 1,
        ("Read the request twice: who, for what, and how long. Then write what you would be glad to get, in plain "
         "words: the grading program knows about 2,300 of them.",
         "For example: return \"Dear Fay, thank you for the lovely umbrella. Now I can walk in the rain and sing.\""),
        my_answer, lambda: [(REQUEST.text,)],
        {"it is empty. A row without an answer would teach the model to stop at once.": _empty,
         "it echoes the request. A model that learns from such rows repeats its customers; say it in other words.":
             _echo,
         f"it has more than {MOST_WORDS} words. Long answers are dear to write, to read and to train on, and this "
         "customer asked for a note.": _long,
         "it has three sentences and the customer asked for exactly two. Explicit wishes are checked first.":
             _three_sentences,
         "it has one sentence and the customer asked for exactly two. Short is not the same as right.": _one_sentence,
         "it does not mention the umbrella. A demonstration that would fit any request teaches the model to ignore the "
         "request.": _without_the_gift,
         "its last sentence has no end. The model copies that, too; close it with a full stop.": _no_full_stop},
        observe=_verdict),
    Exercise(
        "1.2", "shares of the use cases", 6, 1,
        ("Count each use case, divide by the number of rows, times 100.",
         "`Counter(row[\"use_case\"] for row in rows)` counts; a dict comprehension over its `.items()` divides."),
        use_case_shares, _rows_to_count,
        {"these are counts. Shares can be compared with the paper's, counts cannot.": _counts,
         "these are fractions between 0 and 1. Table 1 is in per cent, so multiply by 100.": _fractions,
         "every use case has the same share: you divided by the number of use cases. Count the rows of each.":
             _even_shares,
         "these are per cent of the largest use case. Divide by the number of rows, so that they add up to 100.":
             _of_the_largest}),
    Exercise(
        "1.3", "no copies, and a split by customer", 15, 3,
        ("First keep one row of each text (`plain_text` says what counts as the same), then choose customers, not "
         "rows, for validation.",
         "`kept = list({plain_text(row[\"prompt\"]): row for row in rows}.values())`; then "
         "`customers = sorted({row[\"customer\"] for row in kept})`, shuffle them with `random.Random(0)`, and the "
         "first `round(valid_share * len(customers))` are validation."),
        dedupe_and_split, _rows_to_split,
        {"rows were split, not customers: the same customer sends requests to both parts. The model then meets its "
         "validation customers in training, and validation looks better than the truth.": _by_prompt,
         "copies are left, and some have one copy in each part: the model is asked what it has learnt by heart.":
             _by_customer_only,
         "only exact copies are gone. \"Write a note\" and \"write a  note\" are the same; compare `plain_text`.":
             _exact_copies_only,
         "each part is free of copies, but a text may still stand in both. Remove the copies first, then split.":
             _each_part_by_itself,
         "a text that occurs twice is gone altogether. Keep one row of it.": _drops_all_copies,
         "training and validation are swapped: the small part is for validation.": _swapped},
        observe=_leaks),
    Exercise(
        "1.4", "lengths in tokens", 10, 2,
        ("`len(encode(row[\"response\"])) + 1` is the length of an answer: its tokens and END.",
         "`lengths = np.array([...])`; return `lengths.mean()`, `lengths.max()` and `(lengths <= limit).mean()`."),
        length_statistics, _answers,
        {"END is not counted. It is a token the model has to write, and it needs a place within the limit.": _no_end,
         "these are words. A model reads and pays by tokens, and a rare word is several of them.": _words,
         "these are characters. Encode the answer first.": _characters,
         "the request is counted, too. The limit is on what the model writes.": _prompt_and_answer,
         "the share is of those that do *not* fit. How many fit?": _share_above,
         "an answer of exactly `limit` tokens, END included, does fit: use `<=`.": _below_the_limit},
        observe=_three),
    Exercise(
        "1.5", "repeated openings", 8, 2,
        ("Make a list of openings, one per text: the first n of `text.lower().split()`, as a tuple. Then count the "
         "texts whose opening occurs more than once.",
         "`count = Counter(openings)`, then `sum(count[opening] > 1 for opening in openings) / len(openings)`."),
        repeated_openings, _texts,
        {"capitals make a difference here. \"Dear Ann\" and \"dear ann\" are the same opening.": _capitals_matter,
         "the first text of each opening is not counted. Ask of every text: does *another* one begin like it?":
             _first_one_is_free,
         "this is a share of the different openings. One opening that a hundred letters share would count once; take "
         "the share of the texts.": _of_the_openings,
         "these are the first characters. An opening is the first n words.": _first_letters,
         "only the most frequent opening is counted. Every opening that comes twice smells.": _most_common_only}),
]
