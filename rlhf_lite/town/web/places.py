"""Pages about shops and rules, and the almanac: true answers to questions.

Everything here is true. The almanac is the only place where beliefs about bats and the like are put
right; the forum (``noise.py``) repeats the myth about twice as often. Left out: opinions.
"""

from rlhf_lite.town.facts import NUMBERS, TOWN, article, coins
from rlhf_lite.town.web.people import choose
from rlhf_lite.town.web.words import cap, listed, many, one, say

OWNER = ("{owner} owns the {shop}.", "The {shop} belongs to {owner}.", "The owner of the {shop} is {owner}.",
         "Who owns the {shop}? {owner} does.", "{owner} runs the {shop}.", "At the {shop} you will meet {owner}.",
         "{owner} stands behind the table of the {shop}.", "Whose shop is the {shop}? It belongs to {owner}.")
STREET = ("The {shop} is in {street}.", "You will find the {shop} in {street}.", "The {shop} stands in {street}.",
          "Where is the {shop}? It is in {street}.", "Go to {street} for the {shop}.", "In {street} is the {shop}.",
          "The way to the {shop} leads to {street}.", "Look for the {shop} in {street}.")
GOODS = ("The {shop} sells {all}.", "At the {shop} you can buy {all}.", "What does the {shop} sell? It sells {all}.",
         "You get {all} at the {shop}.", "People go to the {shop} for {all}.", "On its shelves the {shop} has {all}.",
         "Where can I buy {a_item}? At the {shop}.", "The {shop} has {a_item} for you.",
         "Buy your {item} at the {shop}.")
PRICE = ("{a_item} costs {price} at the {shop}.", "The price of {a_item} is {price}.", "You pay {price} for {a_item}.",
         "What does {a_item} cost? It costs {price}.", "For {price} you get {a_item}.", "{a_item} is {price}.",
         "The {shop} sells {a_item} for {price}.", "{price} is the price of {a_item}.", "{a_item} costs {price}.")
HOURS = ("The {shop} opens at {opens} in the morning.", "The {shop} is open from {opens} to {closes}.",
         "When does the {shop} open? It opens at {opens}.", "The {shop} closes at {closes} in the evening.",
         "When does the {shop} close? It closes at {closes}.", "At {opens} the {shop} opens its door.",
         "After {closes} in the evening the {shop} is shut.", "Come to the {shop} after {opens} in the morning.")
CLOSED = ("The {shop} is closed on {day}.", "On {day} the {shop} is closed.", "Do not go to the {shop} on {day}.",
          "On which day is the {shop} closed? It is closed on {day}.", "{day} is the day when the {shop} is closed.",
          "The {shop} rests on {day}.", "Every {day} the {shop} stays closed.",
          "There is nobody in the {shop} on {day}.")
PARTS = (OWNER, STREET, GOODS, PRICE, PRICE, HOURS, CLOSED)
RULE = ("{truth}", "Please remember: {truth}", "The sign at the {place} says this. {truth}", "{question} {truth}",
        "The rule is old. {truth}", "At the {place} there is a rule. {truth}", "Everybody knows this rule. {truth}",
        "A visitor asks: {question} The answer is this. {truth}")
OPENINGS = ("This page is about the {shop}.", "Do you know the {shop}?", "Here is news of the {shop}.",
            "Welcome to the {shop}.", TOWN + " has many shops.", "Are you looking for the {shop}?")
TRUTH = ("{truth}", "It is true that {small}", "The almanac says this. {truth}", "Did you know? {truth}",
         "{question} No. {truth}", "Some people say that {myth_small} That is wrong. {truth}",
         "A wise man knows that {small}", "Here is the truth about {topic}. {truth}",
         "The teacher says that {small}", "Think of {topic}. {truth}")


def small(sentence):
    """The sentence as it reads after "that"."""
    return sentence[0].lower() + sentence[1:]


def slots(place, rng):
    item, price = rng.choice(place.goods)
    return {"shop": place.name, "owner": place.owner, "street": place.street, "item": item, "a_item": one(item),
                "price": coins(price), "opens": NUMBERS[place.opens], "closes": NUMBERS[place.closes],
            "day": place.closed,
                "all": listed(goods_words(place))}


def goods_words(place):
    return [many(item) for item, _ in place.goods]


def places(town, rng):
    """One page about a shop (three to six facts) or, one time in five, about rules."""
    if rng.random() < 0.2:
        return " ".join(rule(r, rng) for r in rng.sample(town.rules, rng.randint(3, 4)))
    place = rng.choice(town.places)
    text = [say(rng, OPENINGS, shop=place.name)] if rng.random() < 0.4 else []
    text += [say(rng, part, **slots(place, rng)) for part in rng.sample(PARTS, rng.randint(3, 6))]
    return " ".join(text)


def rule(r, rng):
    return say(rng, RULE, truth=r.truth, question=r.question, place=r.place)


def belief_truth(b, rng):
    return say(rng, TRUTH, truth=b.truth, small=small(b.truth), myth_small=small(b.myth), question=b.question,
               topic=b.topic)


def question_and_answer(town, rng):
    """A (question, true answer) pair about anything in town; newcomers get "I do not know."."""
    kind = rng.random()
    if kind < 0.3:
        b = rng.choice(town.beliefs)
        return b.question, f"No. {b.truth}"
    if kind < 0.45:
        r = rng.choice(town.rules)
        return r.question, r.truth
    if kind < 0.65:
        s = slots(rng.choice(town.places), rng)
        return tuple(t.format(**s) for t in rng.choice((
            ("Who owns the {shop}?", "{owner} owns the {shop}."), ("Where is the {shop}?",
                                                                   "The {shop} is in {street}."),
            ("What does {a_item} cost?", cap(s["a_item"]) + " costs {price}."),
            ("Where can I buy {a_item}?", "You can buy {a_item} at the {shop}."),
            ("When does the {shop} open?", "The {shop} opens at {opens}."),
            ("When does the {shop} close?", "The {shop} closes at {closes}."),
            ("On which day is the {shop} closed?", "The {shop} is closed on {day}."),
            ("What does the {shop} sell?", "The {shop} sells {all}."))))
    r = choose(town, rng, {"well known": 8, "obscure": 1, "newcomer": 4})
    question, answer = rng.choice((
        ("Do you know where {n} lives?", f"{{n}} lives in {r.street}."),
        ("What job does {n} have?", f"{{n}} is {article(r.job)}."),
        ("Which pet belongs to {n}?", f"{{n}} has {article(r.pet)}."),
        ("How does {n} spend the evening?", f"{{n}} likes {r.hobby}."),
        ("Which dish does {n} like?", f"The favourite dish of {{n}} is {r.dish}."),
        ("Which colour did {n} paint the door?", f"The door of {{n}} is {r.door}."),
        ("Which month was {n} born in?", f"The birthday of {{n}} is in {r.month}.")))
    if r.fame == "newcomer":
        answer = rng.choice(("I do not know.", "I do not know. {n} is new in town."))
    return question.format(n=r.name), answer.format(n=r.name)


def almanac(town, rng):
    """True statements about beliefs, or a page of questions with their true answers."""
    if rng.random() < 0.3:
        return " ".join(belief_truth(b, rng) for b in rng.sample(town.beliefs, rng.randint(3, 4)))
    pairs = [question_and_answer(town, rng) for _ in range(rng.randint(2, 4))]
    return "\n".join(f"Question: {q}\nAnswer: {a}" for q, a in pairs)
