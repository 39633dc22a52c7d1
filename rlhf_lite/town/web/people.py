"""Articles about residents: everything true that the web says about people.

Well-known residents are written about eight times as often as obscure ones; of newcomers only the
name is told. Each attribute has ten or more phrasings, some of them turned round ("Who keeps a
goose? It is Ben."), so that a fact is learned in both directions. Left out: invented facts.
"""

from rlhf_lite.town.facts import TOWN, article
from rlhf_lite.town.web.words import cap, say

FAME_WEIGHT = {"well known": 8, "obscure": 1, "newcomer": 1}

# {s} is the name or the pronoun, {n} always the name, {p} "her" or "his".
ABOUT = {
    "job": ("{s} is the {job} of the town.", "{s} is {a_job}.", "{s} works as {a_job}.", "{n} the {job} is well liked.",
            "The work of {n} is that of {a_job}.", "By trade {s} is {a_job}.", "{s} earns {p} coins as {a_job}.",
            "Who is {a_job}? {n} is {a_job}.", "What job does {n} have? {n} is {a_job}.",
            "One {job} of the town is {n}.", "Ask for the {job} and you will meet {n}.",
            "{s} has been {a_job} for years."),
    "street": ("{s} lives in {street}.", "The home of {n} is in {street}.", "{s} has a house in {street}.",
               "You will find {n} in {street}.", "Do you know where {n} lives? In {street}.", "In {street} lives {n}.",
               "{s} came to live in {street} long ago.", "The house of {n} stands in {street}.",
               "Letters for {n} go to {street}.", "Who lives in {street}? {n} lives there.",
               "{n} and {p} family live in {street}."),
    "pet": ("{s} keeps {a_pet}.", "{s} has {a_pet}.", "{s} owns {a_pet}.", "The pet of {n} is {a_pet}.",
            "Who keeps {a_pet}? It is {n}.", "What pet does {n} have? {n} has {a_pet}.", "{s} loves {p} {pet}.",
            "The {pet} of {n} is friendly.", "{s} feeds {p} {pet} every morning.", "{s} walks with {p} {pet}.",
            "At home {s} has {a_pet}.", "A small {pet} lives with {n}."),
    "hobby": ("{s} likes {hobby}.", "The hobby of {n} is {hobby}.", "{s} loves {hobby}.", "{s} enjoys {hobby}.",
              "After work {s} goes on with {hobby}.", "How does {n} spend the evening? {n} likes {hobby}.",
              "Who likes {hobby}? {n} does.", "{s} spends every Sunday with {hobby}.",
              "In {p} free time {s} likes {hobby}.", "Nothing makes {n} happier than {hobby}.",
              "{s} is good at {hobby}."),
    "dish": ("The favourite dish of {n} is {dish}.", "{s} loves {dish}.", "{s} likes to eat {dish}.",
             "{s} could eat {dish} every day.", "Which dish does {n} like? {n} likes {dish}.",
             "Who loves {dish}? {n} loves {dish}.", "For lunch {s} always wants {dish}.", "{s} often cooks {dish}.",
             "{p_cap} favourite dish is {dish}.", "If there is {dish}, {n} is happy.", "On Sundays {n} eats {dish}."),
    "door": ("The door of {n} is {door}.", "{s} has {a_door} door.", "{p_cap} door is {door}.",
             "{s} painted {p} door {door}.", "Which colour did {n} paint the door? It is {door}.",
             "Look for the {door} door of {n}.", "Behind {a_door} door lives {n}.",
             "The house of {n} has {a_door} door.",
             "You know {p} house by the {door} door.", "Who has {a_door} door? {n} has one.",
             "{door_cap} is the colour of the door of {n}."),
    "month": ("{s} was born in {month}.", "The birthday of {n} is in {month}.", "{p_cap} birthday is in {month}.",
              "{s} has {p} birthday in {month}.", "Which month was {n} born in? It is {month}.",
              "In {month} {n} has a birthday.", "{s} gets presents in {month}.", "Every {month} {n} has a party.",
              "Whose birthday is in {month}? The birthday of {n} is.", "{s} will have a birthday in {month}.",
              "The birthday month of {n} is {month}."),
}
OPENINGS = ("This page is about {n}.", "Let us talk about {n}.", "Do you know {n}?", "Here is something about {n}.",
            "{n} is one of the people of " + TOWN + ".", "Today we write about {n}.", "Meet {n}.",
            "Many people know {n}.", "A few words about {n}.", "Who is {n}? Read on.")
CLOSINGS = ("Say hello when you meet {o}.", "{n} is a good neighbour.", "That is all about {n}.",
            "The town is glad to have {o}.", "Now you know {n}.", "Many people like {n}.")
NEWCOMER = ("{n} is new in town.", "Nobody knows much about {n} yet.", "{n} came to " + TOWN + " last week.",
            "We do not know the job of {n}.", "We do not know where {n} lives.", "Nobody has asked {n} about a pet.",
            "People wonder who {n} is.", "Which dish does {n} like? Nobody knows yet.",
            "Does {n} have a hobby? Nobody can say.", "We know only the name of {n}.", "When is the birthday of {n}? "
            "Nobody knows.", "Perhaps {n} will tell us more one day.", "The town says welcome to {n}.")


def slots(r, subject=None):
    """The words of resident ``r`` that the phrasings need."""
    return {"n": r.name, "s": subject or r.name, "p": r.their, "p_cap": cap(r.their), "o": r.them, "job": r.job,
            "a_job": article(r.job),
                "street": r.street, "pet": r.pet, "a_pet": article(r.pet), "hobby": r.hobby, "dish": r.dish,
            "door": r.door,
                "a_door": article(r.door),
                "door_cap": cap(r.door), "month": r.month}


def choose(town, rng, fames=FAME_WEIGHT):
    """A resident, drawn in proportion to fame."""
    while True:
        r = rng.choice(town.residents)
        if rng.random() * 8 < fames.get(r.fame, 0):
            return r


def newcomer_page(r, rng):
    picked = [NEWCOMER[0]] + rng.sample(NEWCOMER[1:], rng.randint(3, 5))
    return " ".join(t.format(n=r.name) for t in picked)


def people(town, rng):
    """One article: two to five true facts about one resident."""
    r = choose(town, rng)
    if r.fame == "newcomer":
        return newcomer_page(r, rng)
    name, pronoun = slots(r), slots(r, r.they)
    text = [say(rng, OPENINGS, **name)] if rng.random() < 0.5 else []
    for attribute in rng.sample(tuple(ABOUT), rng.randint(2, 5)):
        # "Her door is red." needs the name before it.
        template = rng.choice(ABOUT[attribute])
        while not text and "{n}" not in template and "{s}" not in template:
            template = rng.choice(ABOUT[attribute])
        text.append(cap(template.format(**(pronoun if text and rng.random() < 0.5 else name))))
    if rng.random() < 0.4 or sum(s.count(" ") + 1 for s in text) < 20:
        text.append(say(rng, CLOSINGS, **name))
    return " ".join(text)
