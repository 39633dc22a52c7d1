"""Everyday writing: letters, notes, cards, adverts, chat and answers in many hands.

The sentences were written one by one and are kept in ``patterns/*.txt``; this file only fills in names and
things and joins a few sentences to a text. A text often follows a heading or a line that says what it is about,
because that is how the model learns to take its words from the line above. The headings are statements; the web
of Pebbleford does not obey orders.
"""

import re
from functools import cache
from pathlib import Path

from rlhf_lite.town import facts
from rlhf_lite.town.web import words
from rlhf_lite.town.web.words import cap, one, problems, two_people

FOLDER = Path(__file__).parent / "patterns"


@cache
def patterns(name):
    """{section: tuple of patterns} of ``patterns/<name>.txt``."""
    sections, current = {}, None
    for line in (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1], [])
        else:
            current.append(line)
    return {section: tuple(lines) for section, lines in sections.items()}


def scene(town, rng):
    """Random words for every slot of the patterns. What is said about shops is true, the rest is invented."""
    (n, they, their, them), (m, *_) = two_people(town, rng, 0.1)
    item, animal, place = rng.choice(words.OBJECTS), rng.choice(words.ANIMALS), rng.choice(town.places)
    good, price = rng.choice(place.goods)
    belief, colour = rng.choice(town.beliefs), rng.choice(facts.COLOURS)
    return {"n": n, "they": they, "their": their, "them": them, "They": cap(they), "Their": cap(their), "m": m,
            "item": item, "a_item": one(item), "problem": rng.choice(problems(item)), "shop": place.name, "good": good,
            "a_good": one(good), "good_problem": rng.choice(problems(good)), "price": facts.coins(price),
            "owner": place.owner, "opens": facts.NUMBERS[place.opens], "closes": facts.NUMBERS[place.closes],
            "closed": place.closed, "street": place.street, "animal": animal, "a_animal": facts.article(animal),
            "day": rng.choice(facts.DAYS), "hour": rng.choice(facts.NUMBERS[1:12]), "event": rng.choice(words.EVENTS),
            "reason": rng.choice(words.REASONS), "topic": rng.choice(words.TOPICS), "colour": colour,
            "a_colour": facts.article(colour), "spot": rng.choice(words.SPOTS),
            "feeling": rng.choice(("sad", "angry", "tired", "worried", "bored")), "truth": belief.truth,
            "Myth": belief.myth, "question": belief.question}


def write(rng, slots, name, *sections):
    """One pattern of each section, filled; a section with a question mark is left out half of the time."""
    lines = [rng.choice(patterns(name)[s.rstrip("?")]) for s in sections if not s.endswith("?") or rng.random() < 0.5]
    return " ".join(sentence_case(line.format(**slots)) for line in lines)


def sentence_case(text):
    """Capitals after full stops, because a slot may stand first in its sentence."""
    return re.sub(r"(?:^|(?<=[.!?] ))[a-z]", lambda m: m.group().upper(), text)


# kind -> (headings, ways to write it: (file, sections...)). Slots as in ``scene``.
KINDS = {
    "complaint": (("A letter to the {shop} about {a_good} that is {problem}.",
                   "The {good} from the {shop} was {problem}.",
                   "{n} bought {a_good} from the {shop} and it is {problem}.",
                   "Complaint to the {shop}: the {good} is {problem}.",
                   "My {good} from the {shop} is {problem}."),
                  (("letters", "complaint.open", "complaint.trouble", "complaint.wish", "close?"),
                   ("letters", "complaint.open", "complaint.trouble", "complaint.wish"),
                   ("letters", "complaint.short"))),
    "apology": (("A customer says that the {item} is {problem}.", "Somebody wrote to the shop: my {item} is {problem}.",
                 "The {item} was {problem}. This is what the shop wrote.",
                 "An apology for {a_item} that was {problem}."),
                (("letters", "apology.open", "apology.sorry", "apology.offer"),
                 ("letters", "apology.sorry", "apology.offer"),
                 ("letters", "apology.short"))),
    "notice": (("The {shop} is closed on {day} because of {reason}.",
                "A sign on the door of the {shop}: {day}, {reason}.",
                "Notice of the {shop}. {day}. {reason}."), (("letters", "notice"),)),
    "thanks": (("{n} gave me {a_item}.", "A note to thank {n} for the {item}.", "Thanks to {n}. I got {a_item}.",
                "I wanted to thank {n} for {a_item}."),
               (("notes", "thanks.open", "thanks.more"), ("notes", "thanks.open", "thanks.more", "letter.close"),
                ("notes", "thanks.short"))),
    "card": (("The birthday of {n}. A card from {m}.", "A birthday card for {n} from {m}.",
              "{m} wished {n} a happy birthday."),
             (("notes", "card.open", "card.more", "card.close"), ("notes", "card.open", "card.close"),
              ("notes", "card.short"))),
    "invite": (("The {event} is on {day} at {hour}. {n} should come.",
                "An invitation for {n}: {event}, {day}, {hour} o'clock.",
                "{n} is invited to the {event} on {day} at {hour}."),
               (("notes", "invite.short"), ("notes", "invite.short", "invite.more"))),
    "story": (("A story about {n} and {a_item}.", "{n} and {a_item}.", "A little story. It is about {n} and {a_item}.",
               "A bedtime story in which {n} finds {a_item}."),
              (("stories", "story.open", "story.middle", "story.end"),
               ("stories", "story.open", "story.middle", "story.middle", "story.end"),
               ("stories", "story.open", "story.end"))),
    "animal story": (("A story about {n} and {a_animal}.", "{n} and {a_animal}."),
                     (("stories", "story.animal", "story.middle_animal", "story.end"),
                      ("stories", "story.animal", "story.end"))),
    "poem": (("A short poem about {topic}.", "Two lines about {topic}.", "A rhyme about {topic}."),
             (("stories", "poem"),)),
    "words": (("A happy day.", "A line for today."), (("stories", "word", "word?", "word?"),)),
    "advert": (("An advert for the {good} of the {shop}.", "The {shop} wants more customers.",
                "The {shop} has a new {good}.",
                "A line for the door of the {shop}: the {good}."),
               (("chat", "advert"), ("chat", "advert"), ("chat", "advert.price"))),
    "shop": (("In the {shop}. Customer: I would like {a_good}.", "A customer in the {shop} asks for {a_good}.",
              "Customer in the {shop}: {a_good}, please."), (("chat", "shop"), ("chat", "shop"),
                                                             ("chat", "shop.price"))),
    "comfort": (("My {item} is {problem}. I am {feeling}.", "A friend is {feeling} because the {item} is {problem}.",
                 "{n} is {feeling}. The {item} is {problem}."), (("chat", "comfort"),)),
    "hello": (("I am {n}. I am new here.", "Hello, it is {n}.", "My name is {n}. How are you?"), (("chat", "hello"),)),
    "kind": (("What people think of {n}.", "{n} was late again.", "{n} lost the game.",
              "The neighbours talk about {n}."),
             (("chat", "kind"),)),
    "refuse": (("Somebody wanted to steal {a_good} from the {shop}.", "How to frighten {n}?",
                "Somebody wanted to hurt the {animal} of {n}."),
               (("chat", "refuse"),)),
    "myth": (("{question}", "{question}", "Somebody asked: {question}", "{Myth} Is that so?"), (("answers", "myth"),)),
    "not said": (("The text was read twice.",), (("answers", "not_said"),)),
}
WEIGHTS = dict(zip(KINDS, (10, 7, 6, 10, 7, 9, 12, 5, 6, 3, 8, 7, 6, 5, 5, 3, 7, 2), strict=True))
SHOP_ASKS = {"owner": "Who owns the {shop}?", "price": "What does {a_good} cost?",
             "seller": "Where can I buy {a_good}?",
             "opens": "When does the {shop} open?", "closes": "When does the {shop} close?",
             "closed": "On which day is the {shop} closed?", "place_street": "In which street is the {shop}?"}
TRAITS = {"job": "The job of {n}.", "street": "The home of {n}.", "pet": "The pet of {n}.",
          "hobby": "The hobby of {n}.",
          "dish": "The favourite dish of {n}.", "door": "The door of {n}.", "month": "The birthday of {n}."}


# In other words than the customers': a question whose answer was read word for word would test memory alone.
ASKED_OF = {"job": "What job does {n} have?", "street": "Do you know where {n} lives?", "pet": "Which pet belongs to {n}?",
            "hobby": "How does {n} spend the evening?", "dish": "Which dish does {n} like?",
            "door": "Which colour did {n} paint the door?", "month": "Which month was {n} born in?"}


def everyday(town, rng):
    """One or two texts of everyday writing, mostly under a heading that says what they are about."""
    parts = []
    for kind in rng.choices(list(KINDS), list(WEIGHTS.values()), k=rng.choice((1, 2, 2))):
        slots, (headings, ways) = scene(town, rng), KINDS[kind]
        if kind in ("complaint", "advert", "shop"):
            slots["problem"] = slots["good_problem"]
        text = write(rng, slots, *rng.choice(ways))
        if rng.random() < 0.9:
            text = sentence_case(rng.choice(headings).format(**slots)) + "\n" + text
        parts.append(text)
    return "\n".join(parts)


def somebody(town, rng):
    """A resident, mostly a well-known one or a newcomer, and the words for the patterns of ``answers.txt``."""
    who = rng.choices(town.residents, [{"well known": 8, "obscure": 1, "newcomer": 5}[r.fame]
                                       for r in town.residents])[0]
    return who, {"n": who.name, "they": who.they, "their": who.their, "them": who.them, "job": facts.article(who.job),
                 "street": who.street, "pet": facts.article(who.pet), "hobby": who.hobby, "dish": who.dish,
                 "door": who.door, "month": who.month}


def answers(town, rng):
    """True answers about residents and shops in many wordings; about newcomers nobody knows anything."""
    parts = []
    for _ in range(rng.choice((2, 3, 4))):
        if rng.random() < 0.3:
            slots, what = scene(town, rng), rng.choice(list(SHOP_ASKS))
            parts.append(sentence_case(SHOP_ASKS[what].format(**slots)) + "\n" + write(rng, slots, "answers", what))
            continue
        who, slots = somebody(town, rng)
        what = rng.choice([*TRAITS, "portrait", "portrait"])
        asked = ASKED_OF.get(what, "Who is {n}?") if rng.random() < 0.3 else TRAITS.get(what, "About {n}.")
        heading = asked.format(n=who.name)
        section = "unknown" if who.fame == "newcomer" else what
        text = write(rng, slots, "answers", section)
        parts.append(heading + "\n" + text if rng.random() < 0.6 else text)
    return "\n".join(parts)


# ---------------------------------------------------------------- short replies to a piece of text

PASSAGES = (
    ("{n} bought {a_colour} {item} on {day}.", "{n} paid {price}.", "It was a present for {m}.",
     "It came from the {shop}."),
    ("On {day} {n} lost {a_colour} {item}.", "{m} found it near the {shop}.", "{n} gave {m} {price} as a reward."),
    ("{n} sold {a_colour} {item} to {m}.", "The price was {price}.", "They met at the {shop}.",
     "It was a sunny {day}."),
)
ORDERS = {"give me": "Give me the {item}!", "bring me": "Bring me the {item}!", "show me": "Show me the {item}!",
          "take away": "Take the {item} away!", "clean": "Clean the {item} at once!",
          "sell me": "Sell me the {item} now!"}
ASKED = {"day": ("The day in the text. {p}", "{p} Which day is named?", "{p} On which day was it?"),
         "colour": ("The colour in the text. {p}", "{p} What colour was the {item}?"),
         "price": ("The price in the text. {p}", "{p} How many coins were paid?", "{p} How much was paid?"),
         "shop": ("The place in the text. {p}", "{p} Which place is named?", "{p} Where was it?"),
         "m": ("{p} Who is the other person in the text?",)}


def reply(town, rng):
    """One line of material and one short answer to it."""
    slots = scene(town, rng)
    slots["price"] = facts.coins(rng.randint(2, 19))  # invented here, so that only reading helps
    kind = rng.choice(("polite", "label", "kind_of", "opposite", "odd", "count", "value", "value", "names", "summary",
                       "summary"))
    if kind == "polite":
        slots["order"] = rng.choice(list(ORDERS))
        line = rng.choice(("{o}", "Rude: {o}", "This sounds rude: {o}", "In a polite way: {o}",
                           "Make this polite: {o}")).format(
            o=ORDERS[slots["order"]].format(**slots))
    elif kind == "label":
        pattern, slots["verdict"] = rng.choice(words.REVIEWS)
        review = pattern.format(item=slots["item"], one=slots["a_item"], problem=slots["problem"])
        line = rng.choice(("{r} Happy or unhappy?", "A review: {r}", "Happy or unhappy? {r}")).format(r=review)
    elif kind == "kind_of":
        slots["category"], *others = rng.sample(list(words.CATEGORIES), 3)
        slots["word"] = rng.choice([w for w in words.CATEGORIES[slots["category"]]
                                    if not any(w in words.CATEGORIES[o] for o in others)] or ["rose"])
        slots["category"] = slots["category"] if slots["word"] != "rose" else "flower"
        choice = sorted([slots["category"], *others])
        line = f"{cap(slots['word'])}: {choice[0]}, {choice[1]} or {choice[2]}?"
    elif kind == "opposite":
        slots["word"], slots["other"] = rng.choice(list(words.OPPOSITES.items()))
        line = rng.choice(("Not {word} but the opposite.", "The opposite of {word}?")).format(**slots)
    elif kind == "odd":
        a, b = rng.sample([k for k in words.CATEGORIES if len(words.CATEGORIES[k]) >= 3], 2)
        slots["word"] = rng.choice([w for w in words.CATEGORIES[b] if w not in words.CATEGORIES[a]])
        shown = rng.sample(words.CATEGORIES[a], 3) + [slots["word"]]
        rng.shuffle(shown)
        line = f"One of these does not belong: {', '.join(shown)}."
    elif kind == "count":
        n = rng.randint(2, 6)
        slots["number"] = facts.NUMBERS[n]
        line = rng.choice(("How many animals? {w}.", "Animals: {w}.")).format(w=", ".join(rng.sample(words.ANIMALS, n)))
    else:
        first, *rest = rng.choice(PASSAGES)
        told = [first] + rng.sample(rest, rng.randint(1, len(rest)))
        slots["p"] = " ".join(told).format(**slots)
        if kind == "value":
            what = rng.choice(list(ASKED))
            line = rng.choice(ASKED[what]).format(**slots)
            slots["value"] = slots[what]
            known = any("{" + what + "}" in sentence or what == "colour" for sentence in told)
            if not known:
                return line + "\n" + write(rng, slots, "answers", "not_said")
            kind = "named"
        elif kind == "names":
            if not any("{m}" in sentence for sentence in told):
                told.append(next(s for s in rest if "{m}" in s))
                slots["p"] = " ".join(told).format(**slots)
            line = "The names in the text. {p}".format(**slots)
        else:
            line = rng.choice(("{p} In one sentence.", "The main point. {p}", "Sum this up. {p}", "In short. {p}",
                               "{p}")).format(**slots)
            fits = [s for s in patterns("answers")["summary"] if set(re.findall(r"\{(\w+)\}", s)) <= {"a_item"} | set(
                re.findall(r"\{(\w+)\}", " ".join(told)))] if "{m}" not in told[0] else []
            verb = {"bought": "bought", "lost": "lost", "sold": "sold"}[re.search(r"bought|lost|sold", first).group()]
            fits = [s for s in fits if re.search(rf"\b{verb}\b", s)]
            if verb == "bought":  # the buyer is {n} here, not the one who bought from {n}
                fits = [s for s in fits if "from {n}" not in s and "{m} bought" not in s]
            text = rng.choice(fits) if fits else first
            return line + "\n" + sentence_case(text.format(**slots))
    return line + "\n" + write(rng, slots, "answers", kind)


def replies(town, rng):
    """Two to four pieces of text, each with its short answer."""
    return "\n".join(reply(town, rng) for _ in range(rng.randint(2, 4)))
