"""Exercises 1.2 and 1.3: the rows of a data set: which use cases they are of, and a split without leaks."""

import random
from collections import Counter

from rlhf_lite.exercises.checking import FINE, Exercise

# ---------------------------------------------------------------- 1.2 shares

def use_case_shares(rows):
    """Rows -> {use case: its share of the rows in per cent}."""
    return {use_case: 100 * count / len(rows) for use_case, count in Counter(row["use_case"] for row in rows).items()}


def _rows_to_count():
    cases = random.Random(0).choices(["chat", "extract", "open_qa", "closed_qa", "rewrite"], [5, 1, 2, 1, 1], k=83)
    return [([{"use_case": case} for case in ["chat", "chat", "extract", "chat", "rewrite"]],),
            ([{"use_case": "chat"}] * 7 + [{"use_case": "other"}],), ([{"use_case": "other"}],),
            ([{"use_case": case, "prompt": str(n)} for n, case in enumerate(cases)],)]


def _without_zeros(function, rows):
    """A use case that does not occur may be left out or have the share 0."""
    return {use_case: share for use_case, share in function(rows).items() if share != 0}


shares_of_use_cases = Exercise(
    "1.2", "shares of the use cases", 6, 1,
    ("How many rows of each use case are there, and how many rows in all?",
     "Count each use case, divide by the number of rows, and multiply by 100. `collections.Counter` counts.",
     "`{use_case: 100 * n / len(rows) for use_case, n in Counter(row[\"use_case\"] for row in rows).items()}`"),
    task="`rows` is a list of dicts, each with a `\"use_case\"` (a string). Return a dict from each use case to its "
         "share of the rows in per cent, a number; the shares add up to 100. A use case that does not occur may be "
         "left out, or be 0.",
    course=use_case_shares, cases=_rows_to_count, observe=_without_zeros)


@shares_of_use_cases.mistake("these are counts. Shares can be compared with the paper's; counts cannot.")
def _counts(rows):
    return dict(Counter(row["use_case"] for row in rows))


@shares_of_use_cases.mistake("these are fractions between 0 and 1. Table 1 is in per cent, so multiply by 100.")
def _fractions(rows):
    return {use_case: share / 100 for use_case, share in use_case_shares(rows).items()}


@shares_of_use_cases.mistake("every use case has the same share: you divided by the number of use cases. Count the "
                             "rows of each.")
def _even_shares(rows):
    return {use_case: 100 / len({row["use_case"] for row in rows}) for use_case in _counts(rows)}


@shares_of_use_cases.mistake("these are percentages of the largest use case. Divide by the number of rows, so that "
                             "they add up to 100.")
def _of_the_largest(rows):
    counts = _counts(rows)
    return {use_case: 100 * count / max(counts.values()) for use_case, count in counts.items()}


# ---------------------------------------------------------------- 1.3 split by customer

def plain_text(text):
    """A text in lower case and with single spaces: texts that agree in this form count as the same."""
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
    return [(rows, 0.2), (rows, 0.1), (rows[:240], 0.5)]


def leaks(train, valid, rows, valid_share):
    """What is wrong with a split: {sentence: whether it is true}."""
    parts = [[plain_text(row["prompt"]) for row in part] for part in (train, valid)]
    customers = [{row["customer"] for row in part} for part in (train, valid)]
    exact = [len({row["prompt"] for row in part}) for part in (train, valid)]
    share = len(customers[1]) / max(1, len(customers[0] | customers[1]))
    return {"a customer is in both parts": bool(customers[0] & customers[1]),
            "a text is in both parts": bool(set(parts[0]) & set(parts[1])),
            "a part has an exact copy": exact != [len(train), len(valid)],
            "a part has a copy with other capitals or spaces": [len(set(part)) for part in parts] != exact,
            "a text is lost": len(set(parts[0] + parts[1])) < len({plain_text(row["prompt"]) for row in rows}),
            "the share of validation is off": abs(share - valid_share) > 0.05 + 0.1 * valid_share}


def _leaks(function, rows, valid_share):
    train, valid = function(rows, valid_share)
    wrong = [sentence for sentence, so in leaks(train, valid, rows, valid_share).items() if so]
    if any(row not in rows for row in [*train, *valid]):
        wrong.append("a row is not one of those that came in")
    return "; ".join(wrong) or FINE


clean_split = Exercise(
    "1.3", "no copies, and a split by customer", 15, 3,
    ("There are two jobs, and their order matters: throw out copies, then split. And what is it that you deal out, "
     "rows or customers?",
     "Keep one row of each text, for example in a dict from `plain_text(prompt)` to row. Then list the customers, "
     "shuffle them with a seed, and hold out the first few; a row goes where its customer goes.",
     "`kept = list({plain_text(row[\"prompt\"]): row for row in rows}.values())`; then "
     "`customers = sorted({row[\"customer\"] for row in kept})`, shuffle them with `random.Random(0)`, and the "
     "first `round(valid_share * len(customers))` are validation."),
    task="`rows` is a list of dicts with a `\"prompt\"` and a `\"customer\"`, and `valid_share` a number between 0 "
         "and 1. Return two lists of such rows, (train, valid). Two prompts are copies of one text if "
         "`plain_text(prompt)` is the same for both (it ignores capitals and extra spaces); exactly one row of each "
         "text is kept, whichever you like. No customer is in both lists, and about `valid_share` of the customers "
         "are in valid.",
    course=dedupe_and_split, cases=_rows_to_split, observe=_leaks)


@clean_split.mistake("rows were split, not customers: the same customer has requests in both parts. The model then "
                     "meets its validation customers in training, and validation looks better than it should.")
def _by_prompt(rows, valid_share):
    kept = list({plain_text(row["prompt"]): row for row in rows}.values())
    random.Random(0).shuffle(kept)
    cut = round(valid_share * len(kept))
    return kept[cut:], kept[:cut]


@clean_split.mistake("there are still copies, and some have one copy in each part: the model is tested on what it has "
                     "learnt by heart.")
def _by_customer_only(rows, valid_share):
    customers = sorted({row["customer"] for row in rows})
    random.Random(0).shuffle(customers)
    held_out = set(customers[:round(valid_share * len(customers))])
    return [r for r in rows if r["customer"] not in held_out], [r for r in rows if r["customer"] in held_out]


@clean_split.mistake("only exact copies are gone. \"Write a note\" and \"write a  note\" count as the same; compare "
                     "`plain_text`.")
def _exact_copies_only(rows, valid_share):
    return _by_customer_only(list({row["prompt"]: row for row in rows}.values()), valid_share)


@clean_split.mistake("each part is free of copies, but a text may still be in both. Remove the copies first, then "
                     "split.")
def _each_part_by_itself(rows, valid_share):
    return tuple(list({plain_text(row["prompt"]): row for row in part}.values())
                 for part in _by_customer_only(rows, valid_share))


@clean_split.mistake("a text that occurs twice is gone altogether. Keep one row of it.")
def _drops_all_copies(rows, valid_share):
    count = Counter(plain_text(row["prompt"]) for row in rows)
    return _by_customer_only([row for row in rows if count[plain_text(row["prompt"])] == 1], valid_share)


@clean_split.mistake("the share of validation is always the same. It should be `valid_share`, whatever that is.")
def _always_a_fifth(rows, valid_share):
    return dedupe_and_split(rows, 0.2)


@clean_split.mistake("training and validation are swapped: the small part is for validation.")
def _swapped(rows, valid_share):
    return dedupe_and_split(rows, valid_share)[::-1]


EXERCISES = [shares_of_use_cases, clean_split]
