"""Tasks with one right answer: rewriting, reading a passage, sorting and counting words.

Six of the ten use cases live here: rewrite, summarization, closed question answering, extraction,
classification and other. The passage of a task is invented on the spot, so nothing but reading helps.
Functions have the shape that ``tasks.py`` explains: ``f(town, rng) -> (text, spec)``.
"""

from rlhf_lite.town.facts import COLOURS, DAYS, GOODS, NUMBERS, article, coins
from rlhf_lite.town.web.words import ANIMALS, CATEGORIES, EXTRA_NAMES, OBJECTS, OPPOSITES, REVIEWS, one, problems


def someone(town, rng, *besides):
    return rng.choice([r for r in town.residents if r.name not in besides])


# ---------------------------------------------------------------- rewrite

PAST = {"buys": "bought", "finds": "found", "sells": "sold", "brings": "brought", "loses": "lost", "paints": "painted",
        "carries": "carried", "takes": "took", "washes": "washed", "hides": "hid"}
ORDERS = ["Give me the {i}!", "Bring me the {i}!", "Show me the {i}!", "Take the {i} away!", "Clean the {i} at once!",
          "Sell me the {i} now!"]


def polite(town, rng):
    item = rng.choice(OBJECTS)
    order = rng.choice(ORDERS).format(i=item)
    text = rng.choice(["Make this polite: {o}", "Say this in a polite way: {o}",
                       "This sounds rude. Make it kinder: {o}"])
    must = [[item], ["please", "may", "could", "would", "kind"], [order.split()[0].lower()]]
    return text.format(o=order), {"kind": "polite", "must": must, "passage": order, "sentences": [1, 2]}


def past(town, rng):
    name, verb, thing = someone(town, rng).name, rng.choice(list(PAST)), rng.choice(OBJECTS)
    now, then = (f"{name} {v} {one(thing)}." for v in (verb, PAST[verb]))
    text = rng.choice(["Put this into the past: {s}", "Write this sentence in the past tense: {s}",
                       "Change today to yesterday: {s}"])
    return text.format(s=now), {"kind": "transform", "expected": [then], "passage": now}


def rename(town, rng):
    a = someone(town, rng)
    b = someone(town, rng, a.name)
    thing, day = rng.choice(OBJECTS), rng.choice(DAYS)
    old = rng.choice(["{n} has {t}.", "On {d} {n} lost {t}.", "{n} bought {t} on {d}."])
    before, after = (old.format(n=n, t=one(thing), d=day) for n in (a.name, b.name))
    text = rng.choice(["Put {b} in place of {a}: {s}", "Write {b} instead of {a}: {s}"])
    return (text.format(a=a.name, b=b.name, s=before),
            {"kind": "transform", "expected": [after], "passage": before})


# ---------------------------------------------------------------- tasks over a passage

def passage_facts(town, rng):
    """A little report of invented facts: ``(text, {slot: value}, [slots that the text tells])``."""
    name = rng.choice([r.name for r in town.residents] + list(EXTRA_NAMES))
    other = rng.choice([r.name for r in town.residents if r.name != name])
    slots = {"who": name, "item": rng.choice(OBJECTS), "colour": rng.choice(COLOURS), "day": rng.choice(DAYS),
             "price": rng.randint(2, 19), "whom": other, "place": rng.choice(town.places).name}
    open_, rest = rng.choice([
        ("{who} bought {a_colour} {item} on {day}.",
         ["{who} paid {coins}.", "It was a present for {whom}.", "It came from the {place}."]),
        ("On {day} {who} lost {a_colour} {item}.",
         ["{whom} found it near the {place}.", "{who} gave {whom} {coins} as a reward."]),
        ("{who} sold {a_colour} {item} to {whom}.",
         ["The price was {coins}.", "They met at the {place}.", "It was a sunny {day}."]),
    ])
    rest = rng.sample(rest, rng.randint(1, len(rest)))
    text = " ".join([open_] + rest)
    marks = {"price": "{coins}", "colour": "{a_colour}"}
    used = [slot for slot in slots if marks.get(slot, "{" + slot + "}") in text]  # a list: its order is fixed
    text = text.format(**slots, a_colour=article(slots["colour"]), coins=coins(slots["price"]))
    return text, slots, used


READ = {  # slot -> phrasings
    "colour": ["What colour was the {item}?"],
    "day": ["On which day was it?", "Which day is named?"],
    "price": ["How many coins were paid?", "How much was paid?"],
    "whom": ["Who is the other person in the text?"],
    "place": ["Which place is named in the text?", "Where was it?"],
}


def reading_question(town, rng):
    text, slots, used = passage_facts(town, rng)
    slot = rng.choice(list(READ))
    options = {"colour": COLOURS, "day": DAYS, "price": NUMBERS[1:], "whom": [r.name for r in town.residents],
               "place": [p.name for p in town.places]}[slot]
    right = NUMBERS[slots["price"]] if slot == "price" else slots[slot]
    question = rng.choice(READ[slot]).format(item=slots["item"])
    form = rng.choice(["Read this text. {p} {q}", "{p} {q}", "Answer from the text only. {p} {q}",
                       "Text: {p} Question: {q}"])
    allowed = {slots["who"], slots["whom"]}
    return form.format(p=text, q=question), {
        "kind": "closed", "passage": text, "unknown": slot not in used, "answer": [right],
        "wrong": [o for o in options if o != right and not (slot == "whom" and o in allowed)]}


def summary(town, rng):
    text, slots, used = passage_facts(town, rng)
    form = rng.choice(["Sum this up in one sentence: {p}", "Say this in one short sentence: {p}",
                       "What is the main point? {p}", "Make a headline from this: {p}"])
    return form.format(p=text), {"kind": "summary", "passage": text, "must": [[slots["who"]], [slots["item"]]],
                                 "sentences": [1, 1], "words_at_most": max(6, int(0.75 * len(text.split())))}


def extract(town, rng):
    text, slots, used = passage_facts(town, rng)
    slot = rng.choice([s for s in used if s in ("day", "colour", "price", "place")] + ["names"])
    ask = {"names": "List the names in this text: {p}", "day": "Which day is named in this text? {p}",
           "colour": "Find the colour in this text: {p}", "price": "Find the price in this text: {p}",
           "place": "Which place is named in this text? {p}"}[slot]
    if slot == "names":
        names = [n for n in (slots["who"], slots["whom"]) if n in text]
        others = [r.name for r in town.residents if r.name not in names]
        spec = {"kind": "extract", "passage": text, "must": [[n] for n in names], "wrong": others}
        return ask.format(p=text), spec
    right = NUMBERS[slots["price"]] if slot == "price" else slots[slot]
    options = {"day": DAYS, "colour": COLOURS, "price": NUMBERS[1:], "place": [p.name for p in town.places]}[slot]
    return ask.format(p=text), {"kind": "extract", "passage": text, "must": [[right]],
                                "wrong": [o for o in options if o != right]}


# ---------------------------------------------------------------- classification and other

def review(town, rng):
    pattern, mood = rng.choice(REVIEWS)
    item = rng.choice(GOODS)
    text = pattern.format(item=item, one=one(item), problem=rng.choice(problems(item)))
    form = rng.choice(["Is this review happy or unhappy? {r}", "Happy or unhappy? {r}",
                       "Sort this review as happy or unhappy: {r}"])
    return form.format(r=text), {"kind": "label", "answer": [mood], "passage": text,
                                 "wrong": ["unhappy" if mood == "happy" else "happy"]}


def kind_of(town, rng):
    a, b, c = rng.sample(list(CATEGORIES), 3)
    word = rng.choice([w for w in CATEGORIES[a] if w not in CATEGORIES[b] + CATEGORIES[c]])
    options = sorted([a, b, c])
    ask = rng.choice(["What kind of thing is", "Choose a kind for"])
    return (f"{ask} {word}: {options[0]}, {options[1]} or {options[2]}?",
            {"kind": "label", "answer": [a], "wrong": [b, c], "passage": word})


def opposite(town, rng):
    word = rng.choice(list(OPPOSITES))
    text = rng.choice(["What is the opposite of {w}?", "Give me the opposite of {w}.", "Not {w} but what?"])
    wrong = [o for o in dict.fromkeys(OPPOSITES.values()) if o not in (OPPOSITES[word], word)]
    return text.format(w=word), {"kind": "label", "answer": [OPPOSITES[word]], "wrong": wrong, "passage": word}


def alphabet(town, rng):
    words = rng.sample(ANIMALS, 3)
    text = rng.choice(["Sort these words by the alphabet: {w}.", "Put these words in order: {w}."])
    return text.format(w=", ".join(words)), {"kind": "transform", "expected": [", ".join(sorted(words)) + "."],
                                             "passage": " ".join(words), "order": sorted(words)}


def odd_one(town, rng):
    a, b = rng.sample(list(CATEGORIES), 2)
    a, b = (a, b) if len(CATEGORIES[a]) >= 3 else (b, a)
    words = rng.sample(CATEGORIES[a], 3) if len(CATEGORIES[a]) >= 3 else rng.sample(ANIMALS, 3)
    odd = rng.choice([w for w in CATEGORIES[b] if w not in CATEGORIES[a]])
    words = words + [odd]
    rng.shuffle(words)
    text = rng.choice(["Which word does not belong: {w}?", "Find the odd one: {w}."])
    return text.format(w=", ".join(words)), {"kind": "label", "answer": [odd], "wrong": [w for w in words if w != odd],
                                             "passage": " ".join(words)}


def count(town, rng):
    n = rng.randint(2, 6)
    words = rng.sample(ANIMALS, n)
    text = rng.choice(["How many animals are here: {w}?", "Count the animals: {w}."])
    return text.format(w=", ".join(words)), {"kind": "label", "answer": [NUMBERS[n]], "passage": " ".join(words),
                                             "wrong": [m for m in NUMBERS if m != NUMBERS[n]]}
