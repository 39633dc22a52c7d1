"""Language drills: the small rewrites, sortings and extractions that alignment will ask for.

Each drill shows a marker, the words, a second marker and the result ("Rude: ... Polite: ..."). The
words are random, so the result must be worked out from them. Left out: grammar terms.
"""

from rlhf_lite.town import facts
from rlhf_lite.town.web import words
from rlhf_lite.town.web.words import cap, many, one, person, two_people

ORDERS = (("Give me the {i}!", "give me the {i}"), ("Bring me the {i}!", "bring me the {i}"),
          ("Show me the {i}!", "show me the {i}"), ("Take the {i} away!", "take the {i} away"),
          ("Clean the {i} at once!", "clean the {i}"), ("Sell me the {i} now!", "sell me the {i}"),
          ("Carry my {i}!", "carry my {i}"), ("Mend the {i}!", "mend the {i}"))
POLITELY = ("Could you please {order}?", "Would you please {order}?", "Please would you kindly {order}?",
            "Would you be so kind and {order}?")
# No homes, pets or hobbies here: the name may be a newcomer's.
FRAMES = ("{n} has {a_item}.", "On {day} {n} lost {a_item}.", "{n} bought {a_item} on {day}.",
          "{n} went to the {spot}.", "{n} gave {m} {a_item}.", "The {item} of {n} is {colour}.")
NEWS = (("{n} found {a_item} at the {spot}.", "It was {weather} on that day.", "{m} was surprised.",
         "{n} found {a_item}."), ("On {day} {n} lost {a_colour} {item}.", "{m} looked for it.",
                                  "It was near the {spot}.",
                                  "{n} lost {a_colour} {item}."),
        ("{n} sold {a_colour} {item} to {m}.", "The price was {price}.", "They met at the {spot}.",
         "{n} sold {a_item} to {m}."),
        ("{n} won the {event} on {day}.", "The prize was {a_item}.", "Many people came to the {spot}.",
         "{n} won the {event} and got {a_item}."),
        ("{n} bought {a_colour} {item} on {day}.", "The price was {price}.", "It was a present for {m}.",
         "{n} bought {a_item} for {m}."),
        ("The {spot} is closed on {day}.", "The reason is {reason}.", "{n} put a sign on the door.",
         "The {spot} is closed because of {reason}."))
SHORT = ("In short", "In short", "Summary", "The main point", "Headline")


def scene(town, rng):
    (n, *_), (m, *_) = two_people(town, rng)
    item, colour = rng.choice(words.OBJECTS), rng.choice(facts.COLOURS)
    animal = rng.choice(words.ANIMALS)
    return {"n": n, "m": m, "item": item, "a_item": one(item), "colour": colour, "a_colour": facts.article(colour),
            "animal": animal,
                "a_animal": facts.article(animal), "day": rng.choice(facts.DAYS), "spot": rng.choice(words.SPOTS),
                "weather": rng.choice(words.WEATHER), "event": rng.choice(words.EVENTS),
                "price": facts.coins(rng.randint(2, 19)), "dish": rng.choice(facts.DISHES),
                "reason": rng.choice(words.REASONS)}


def polite(town, rng):
    rude, order = rng.choice(ORDERS)
    item = rng.choice(words.OBJECTS)
    kind = rng.choice(POLITELY).format(order=order.format(i=item))
    if rude.startswith("Give") and rng.random() < 0.4:
        kind = f"Please may I have the {item}?"
    return f"Rude: {rude.format(i=item)} Polite: {kind}"


def past(town, rng):
    _, now, then, rest = rng.choice(words.VERBS)
    s = scene(town, rng)
    rest = rest.format(**s)
    a, b = rng.choice((("Today", "Yesterday"), ("Present", "Past"), ("Now", "Before")))
    return f"{a}: {s['n']} {now} {rest}. {b}: {s['n']} {then} {rest}."


def rename(town, rng):
    s = scene(town, rng)
    frame = rng.choice(FRAMES)
    x = person(town, rng)[0]
    while x in (s["n"], s["m"]):
        x = person(town, rng)[0]
    before, after = frame.format(**s), frame.format(**dict(s, n=x))
    return rng.choice((f"Text: {before} Write {x} instead of {s['n']}: {after}",
                       f"{s['n']} becomes {x}: {before} {after}", f"Old: {before} New name: {x}. New: {after}",
                       f"Put {x} in place of {s['n']}: {before} Now it reads: {after}"))


def opposite(town, rng):
    pairs = rng.sample(tuple(words.OPPOSITES.items()), 2)
    if rng.random() < 0.5:
        pairs = [(b, a) for a, b in pairs]
    form = rng.choice(("The opposite of {a} is {b}.", "Word: {a}. Opposite: {b}.",
                       "What is the opposite of {a}? It is {b}."))
    return " ".join(form.format(a=a, b=b) for a, b in pairs)


def some_words(rng, n):
    return rng.sample(rng.choice((words.ANIMALS, words.ANIMALS, words.OBJECTS)), n)


def alphabet(town, rng):
    some = some_words(rng, rng.choice((3, 3, 4)))
    return f"Words: {', '.join(some)}. In order: {', '.join(sorted(some))}."


def odd(town, rng):
    mixed, other, kind = stranger(rng)
    return f"Words: {', '.join(mixed)}. Odd one out: {other}." + rng.choice(("", f" The others are {kinds(kind)}."))


def stranger(rng):
    """Three words of one kind and one of another -> (the four in random order, the odd one, the kind of the three)."""
    a, b = rng.sample(list(words.CATEGORIES), 2)
    if len(words.CATEGORIES[a]) < 3:
        a, b = b, a
    other = rng.choice([w for w in words.CATEGORIES[b] if w not in words.CATEGORIES[a]])
    mixed = [*rng.sample([w for w in words.CATEGORIES[a] if w not in words.CATEGORIES[b]], 3), other]
    rng.shuffle(mixed)
    return mixed, other, a


def kinds(kind):
    """The plural of a kind: "flowers", but "fish" and "food"."""
    return kind if kind in ("fish", "food") else facts.plural(kind)


def is_a(word, kind):
    """Such as "An owl is a kind of bird." and "March is a month." (a day, month, colour or job is no kind)."""
    what = facts.article(kind) if kind in ("day", "month", "colour", "job") else f"a kind of {kind}"
    return f"{cap(named(word))} is {what}."


def named(word):
    """A word as the subject of a sentence: "an owl", but "March"."""
    return word if word[0].isupper() or word in facts.COLOURS else facts.article(word)


def count(town, rng):
    n = rng.randint(2, 6)
    return f"Words: {', '.join(some_words(rng, n))}. Count: {facts.NUMBERS[n]}."


def review(town, rng):
    pattern, verdict = rng.choice(words.REVIEWS)
    item = rng.choice(words.OBJECTS)
    text = pattern.format(item=item, one=one(item), problem=rng.choice(words.problems(item)))
    return f"Review: {text} Verdict: {verdict}."


def kind_of(town, rng):
    kind = rng.choice(list(words.CATEGORIES))
    pair = rng.sample(words.CATEGORIES[kind], 2)
    text = [is_a(word, kind) for word in pair]
    a, b = map(named, pair)
    return rng.choice((" ".join(text), f"What is {a}? {text[0]}", f"Word: {pair[0]}. Kind: {kind}.",
                       f"{cap(a)} and {b} are {kinds(kind)}."))


def extract(town, rng):
    s = scene(town, rng)
    text, found = rng.choice((
        ("{n} met {m} on {day}.", ("Names: {n}, {m}.", "Day: {day}.")),
        ("{n} bought {a_colour} {item} for {price}.", ("Name: {n}.", "Colour: {colour}.", "Price: {price}.",
                                                       "Thing: {item}.")),
        ("On {day} {n} saw {a_animal} at the {spot}.", ("Name: {n}.", "Day: {day}.", "Animal: {animal}.",
                                                        "Place: {spot}.")),
        ("{n} sold {a_item} to {m} at the {spot}.", ("Names: {n}, {m}.", "Thing: {item}.", "Place: {spot}.")),
        ("The {event} on {day} costs {price}.", ("Event: {event}.", "Day: {day}.", "Price: {price}.")),
        ("{n} and {m} ate {dish} on {day}.", ("Names: {n}, {m}.", "Dish: {dish}.", "Day: {day}."))))
    picked = rng.sample(found, min(len(found), rng.randint(1, 2)))
    return f"Text: {text.format(**s)} {' '.join(picked).format(**s)}"


def summary(town, rng):
    s = scene(town, rng)
    news = rng.choice(NEWS)
    middle = list(news[1:3])
    if rng.random() < 0.5:
        middle.reverse()
    told = [cap(t.format(**s)) for t in [news[0]] + middle]
    return f"{rng.choice(('News: ', 'Text: ', ''))}{' '.join(told)} {rng.choice(SHORT)}: {cap(news[3].format(**s))}"


def sums(town, rng):
    (n, they, _, _), (m, *_) = two_people(town, rng)
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    total, item = facts.NUMBERS[a + b], many(rng.choice([i for i in words.OBJECTS if i != "soap"]))
    return rng.choice((f"Sum: {facts.NUMBERS[a]} and {facts.NUMBERS[b]} make {total}.",
                       f"{n} had {facts.NUMBERS[a + 1]} {item}. {m} gave {facts.NUMBERS[b + 1]} more. "
                       f"Now there are {facts.NUMBERS[a + b + 2]}."))


def sorting(town, rng):
    """A task about kinds of words, with its solution: for the workbooks."""
    task = rng.random()
    if task < 0.35:
        kind, *others = rng.sample(list(words.CATEGORIES), 3)
        word = rng.choice([w for w in words.CATEGORIES[kind] if not any(w in words.CATEGORIES[o] for o in others)])
        a, b, c = sorted((kind, *others))
        ask = rng.choice(("Which kind fits {w}: {o}?", "Name the kind of {w}: {o}.", "Sort {w} as {o}."))
        return (ask.format(w=named(word), o=f"{a}, {b} or {c}"),
                rng.choice((is_a(word, kind), f"The kind is {kind}.")))
    if task < 0.65:
        mixed, other, kind = stranger(rng)
        ask = rng.choice(("Three of these go together. Name the other one: {w}.", "Which one is different: {w}?",
                          "Leave out the word that does not fit: {w}."))
        return (ask.format(w=", ".join(mixed)),
                rng.choice(("{o} does not belong.", "It is {o}. The others are {k}.")).format(
                    o=cap(named(other)) if task < 0.5 else other, k=kinds(kind)))
    if task < 0.85:
        n = rng.randint(2, 6)
        ask = rng.choice(("What is the number of animals: {w}?", "Say how many animals you see: {w}."))
        return (ask.format(w=", ".join(rng.sample(words.ANIMALS, n))),
                rng.choice(("There are {n} animals.", "{N}.")).format(n=facts.NUMBERS[n], N=cap(facts.NUMBERS[n])))
    a, b = rng.choice(list(words.OPPOSITES.items()))
    return rng.choice(("Find the opposite: {a}.", "Turn it round: {a}.")).format(a=a), f"The opposite of {a} is {b}."


DRILLS = (polite, past, rename, opposite, opposite, alphabet, alphabet, odd, odd, odd, odd, count, count, review,
          kind_of, kind_of, kind_of, kind_of, extract, extract, summary, summary, summary, sums)


def drills(town, rng):
    """A page of three or four drills: of one kind, or mixed."""
    n = rng.randint(3, 4)
    if rng.random() < 0.6:
        chosen = [rng.choice(DRILLS)] * n
    else:
        chosen = [rng.choice(DRILLS) for _ in range(n)]
    return "\n".join(drill(town, rng) for drill in chosen)
