"""Reading worksheets: a passage of invented facts, then questions that only the passage can answer.

The facts are drawn afresh for every page, so nothing here can be learned by heart: the only way to
predict the answer is to copy it from the passage. Within a page no value occurs twice, so every
question has one answer; a quarter of the questions have none ("The text does not say."). Newcomers
do not appear, because nothing that sounds like a fact may be said of them.
"""

from string import Formatter

from rlhf_lite.town import facts
from rlhf_lite.town.web import words
from rlhf_lite.town.web.words import cap

NOT_SAID = "The text does not say."
# name: (sentences, ((question, answer), ...)). {s} starts a sentence: the name or the pronoun.
KINDS = {
    "buy": (("{s} bought {a_item} on {day}.", "On {day} {s_mid} bought {a_item}."),
            (("What did {n} buy?", "{n} bought {a_item}."), ("Who bought {a_item}?", "{n} bought {a_item}."),
             ("When did {n} buy the {item}?", "{n} bought the {item} on {day}."))),
    "cost": (("The {item} cost {price}.", "Somebody paid {price} for the {item}."),
             (("What did the {item} cost?", "The {item} cost {price}."), ("How much was the {item}?",
                                                                        "The {item} was {price}."))),
    "meet": (("{s} met {m} at the {spot}.", "At the {spot} {s_mid} met {m}."),
             (("Who met {m}?", "{n} met {m}."), ("Where did {n} meet {m}?", "{n} met {m} at the {spot}."),
              ("Whom did {n} meet?", "{n} met {m}."))),
    "lose": (("{s} lost {a_item} at the {spot}.", "{s} left {a_item} at the {spot} and lost it."),
             (("What did {n} lose?", "{n} lost {a_item}."), ("Where did {n} lose the {item}?",
                                                            "{n} lost the {item} at the {spot}."),
              ("Who lost {a_item}?", "{n} lost {a_item}."))),
    "give": (("{s} gave {m} {a_item}.", "{s} gave {a_item} to {m}."),
             (("What did {n} give to {m}?", "{n} gave {a_item} to {m}."), ("Who got the {item}?",
                                                                           "{m} got the {item}."),
              ("Who gave {m} {a_item}?", "{n} gave {m} {a_item}."))),
    "live": (("{s} lives in {street}.", "The house of {n} is in {street}."),
             (("Do you know where {n} lives?", "{n} lives in {street}."), ("Who lives in {street}?",
                                                                   "{n} lives in {street}."))),
    "pet": (("{s} has {a_animal}.", "{s} keeps {a_animal}."),
            (("Which pet belongs to {n}?", "{n} has {a_animal}."), ("Who has {a_animal}?", "{n} has {a_animal}."))),
    "colour": (("The {thing} of {n} is {colour}.", "{s} has {a_colour} {thing}."),
               (("What colour is the {thing} of {n}?", "The {thing} of {n} is {colour}."),
                ("Who has {a_colour} {thing}?", "{n} has {a_colour} {thing}."))),
    "count": (("{s} saw {number} {animals} at the {spot}.", "At the {spot} {s_mid} saw {number} {animals}."),
              (("How many {animals} did {n} see?", "{n} saw {number} {animals}."),
               ("Where did {n} see the {animals}?", "{n} saw the {animals} at the {spot}."),
               ("Who saw the {animals}?", "{n} saw the {animals}."))),
    "event": (("The {event} begins at {hour} on {day}.", "On {day} there is {a_event} at {hour}."),
              (("When does the {event} begin?", "The {event} begins at {hour}."),
               ("On which day is the {event}?", "The {event} is on {day}."),
               ("What begins at {hour}?", "The {event} begins at {hour}."))),
    "place": (("The {event} is at the {spot}.", "Come to the {spot} for the {event}."),
              (("Where is the {event}?", "The {event} is at the {spot}."),
               ("What is at the {spot}?", "The {event} is at the {spot}."))),
    "eat": (("{s} ate {dish} for lunch.", "For lunch {s_mid} ate {dish}."),
            (("What did {n} eat?", "{n} ate {dish}."), ("Who ate {dish}?", "{n} ate {dish}."))),
    "job": (("{s} is {a_job}.", "{s} works as {a_job}."),
            (("What job does {n} have?", "{n} is {a_job}."), ("Who is {a_job}?", "{n} is {a_job}."))),
    "hobby": (("{s} likes {hobby}.", "The hobby of {n} is {hobby}."),
              (("How does {n} spend the evening?", "{n} likes {hobby}."), ("Who likes {hobby}?", "{n} likes {hobby}."))),
    "door": (("The door of {n} is {colour}.", "{s} has {a_colour} door."),
             (("Which colour did {n} paint the door?", "The door of {n} is {colour}."),
              ("Who has {a_colour} door?", "{n} has {a_colour} door."))),
    "birthday": (("The birthday of {n} is in {month}.", "{s} was born in {month}."),
                 (("Which month was {n} born in?", "The birthday of {n} is in {month}."),
                  ("Who was born in {month}?", "{n} was born in {month}."))),
    "feel": (("{s} was {feeling} because of {reason}.", "Because of {reason}, {s_mid} was {feeling}."),
             (("Why was {n} {feeling}?", "{n} was {feeling} because of {reason}."), ("Who was {feeling}?",
                                                                                "{n} was {feeling}."),
              ("How did {n} feel?", "{n} was {feeling}."))),
    "travel": (("{s} went to the {spot} by {vehicle}.", "{s} took the {vehicle} to the {spot}."),
               (("How did {n} go to the {spot}?", "{n} went to the {spot} by {vehicle}."),
                ("Who went to the {spot}?", "{n} went to the {spot}."))),
    "weather": (("It was {weather} on {day}.", "The weather on {day} was {weather}."),
                (("How was the weather on {day}?", "It was {weather} on {day}."),
                 ("When was it {weather}?", "It was {weather} on {day}."))),
}
COUNTS = facts.NUMBERS[2:13]
VALUES = {"item": words.OBJECTS, "thing": [w for w in words.OBJECTS if w not in words.FOODS], "day": facts.DAYS,
          "price": [facts.coins(i) for i in range(2, 20)], "spot": words.SPOTS,
          "street": facts.STREETS, "animal": words.ANIMALS, "colour": facts.COLOURS, "number": COUNTS,
          "event": words.EVENTS, "hour": facts.NUMBERS[1:12], "dish": facts.DISHES, "job": facts.JOBS,
          "hobby": facts.HOBBIES, "month": facts.MONTHS, "feeling": words.FEELINGS, "reason": words.REASONS,
          "vehicle": words.VEHICLES, "weather": words.WEATHER}


def _slots_of(kind):
    sentences, pairs = KINDS[kind]
    found = {field for t in sentences + tuple(t for pair in pairs for t in pair) for _, field, _, _ in
             Formatter().parse(t) if field}
    found = {{"animals": "animal"}.get(f, f[2:] if f.startswith("a_") else f) for f in found}
    return sorted(found & set(VALUES)), "m" in found, bool(found & {"n", "s", "s_mid"})


SLOTS = {kind: _slots_of(kind) for kind in KINDS}  # kind -> (value slots, second person?, first person?)
NAMED = tuple(kind for kind in KINDS if SLOTS[kind][2])
LAYOUTS = ("Text: {p}\n{q}", "Text: {p}\n{q}", "Read this. {p}\n{q}", "Read the text.\n{p}\n{q}", "Passage: {p}\n{q}",
           "Read this and answer the questions. {p}\n{q}")


def fresh(rng, slot, used):
    """A value for ``slot`` that this page has not used yet."""
    value = rng.choice(VALUES[slot])
    while value in used:
        value = rng.choice(VALUES[slot])
    used.add(value)
    return value


def fill(kind, who, rng, used, town):
    """All the words for one fact of ``kind`` about ``who``; marks them as used."""
    slots = {"n": who[0], "s": who[0], "s_mid": who[0]}
    for slot in SLOTS[kind][0]:
        value = slots[slot] = fresh(rng, slot, used)
        if slot == "item":
            slots["a_item"] = words.one(value)
        elif slot == "animal":
            slots["a_animal"], slots["animals"] = facts.article(value), words.many(value)
        elif slot in ("event", "job", "colour"):
            slots["a_" + slot] = facts.article(value)
    if SLOTS[kind][1]:
        slots["m"] = reader(town, rng, used)[0]
    return slots


def reader(town, rng, used):
    """Somebody not yet on this page, never a newcomer."""
    while True:
        someone = words.person(town, rng)
        if someone[0] not in used and (someone[0] in words.EXTRA_NAMES or town.resident(someone[0]).fame != "newcomer"):
            used.add(someone[0])
            return someone


def passage(town, rng):
    """(text, [(kind, slots)], people, used) of one passage of two to five sentences."""
    used, facts_told, text = set(), [], []
    people = [reader(town, rng, used) for _ in range(rng.randint(1, 3))]
    length = rng.randint(max(2, len(people)), 5)
    if len(people) > 1 and rng.random() < 0.5:  # the same kind of fact about each: who has what?
        kind = rng.choice(NAMED)
        plan = [(kind, who) for who in people]
        plan += [(k, rng.choice(people)) for k in rng.sample([k for k in KINDS if k != kind], length - len(plan))]
    else:
        plan = [(kind, rng.choice(people)) for kind in rng.sample(tuple(KINDS), length)]
    last = None  # the person a pronoun would point to
    for kind, who in plan:
        slots = fill(kind, who, rng, used, town)
        shown = dict(slots)
        if who is last and rng.random() < 0.5:
            shown["s"] = shown["s_mid"] = who[1]
        text.append(cap(rng.choice(KINDS[kind][0]).format(**shown)))
        last = who if SLOTS[kind][2] and not SLOTS[kind][1] else None
        facts_told.append((kind, slots))
    return " ".join(text), facts_told, people, used


def unanswerable(town, rng, told, people, used):
    """A question that sounds right but that the passage does not answer."""
    kinds = {kind for kind, _ in told}
    if rng.random() < 0.5:  # another matter about somebody on the page
        kind, who = rng.choice([k for k in NAMED if k not in kinds]), rng.choice(people)
    else:  # the same matter about somebody else
        kind, who = rng.choice([k for k, _ in told]), reader(town, rng, used)
    question, _ = rng.choice(KINDS[kind][1])
    return question.format(**fill(kind, who, rng, set(used), town))


def reading(town, rng):
    """One worksheet: a passage and one to three questions with answers."""
    text, told, people, used = passage(town, rng)
    pairs = []
    for kind, slots in rng.sample(told, min(len(told), rng.randint(1, 3))):
        if rng.random() < 0.25:
            pairs.append((unanswerable(town, rng, told, people, used), NOT_SAID))
        else:
            question, answer = rng.choice(KINDS[kind][1])
            pairs.append((cap(question.format(**slots)), cap(answer.format(**slots))))
    asked = "\n".join(f"Question: {q}\nAnswer: {a}" for q, a in pairs)
    if len(pairs) == 1 and rng.random() < 0.15:  # sometimes the question comes first
        return f"Question: {pairs[0][0]}\nText: {text}\nAnswer: {pairs[0][1]}"
    return rng.choice(LAYOUTS).format(p=text, q=asked)
