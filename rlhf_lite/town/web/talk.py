"""Polite conversations: in a shop, between friends, about something lost.

Both speakers keep using the thing and the name they talk about. A shop's price is true when the
shop is named. Left out: rudeness, which lives in ``noise.py``.
"""

from rlhf_lite.town import facts
from rlhf_lite.town.web import words
from rlhf_lite.town.web.words import cap, say

ASK = ("Good morning. I would like {a_item}, please.", "Hello. Do you have {a_item}?", "Please may I have {a_item}?",
       "Good day. I am looking for {a_item}.", "Could you show me {a_item}, please?", "I need {a_item}, please.",
       "Hello. May I buy {a_item}?", "Good evening. Is there still {a_item} for me?")
OFFER = ("Of course. The {item} costs {price}.", "Yes, we have {a_item}. It costs {price}.",
         "Here is your {item}. That is {price}, please.", "Certainly. {a_item_cap} is {price}.",
         "With pleasure. You pay {price} for the {item}.", "Yes, here is {a_item} for {price}.",
         "I am glad to help. The {item} is {price}.", "Good choice. The {item} costs {price}.")
TAKE = ("Thank you. Here are {price} for the {item}.", "Thank you very much. I will take the {item}.",
        "That is a good price for {a_item}. Thank you.", "{price_cap}? Then I will take it. Thank you.",
        "Thank you. The {item} is lovely.", "Here you are, {price}. Thank you.")
BYE = ("Thank you. Have a nice day!", "Enjoy your {item}!", "Goodbye and come again!", "You are welcome. Goodbye!",
       "Thank you. See you soon!")
FRIENDS = (("Hello, {m}! How are you?", "I am {feeling}, {n}. And how are you?",
            "I am {feeling2}. Shall we go to the {spot}?",
            "Yes, let us go to the {spot} on {day}."),
           ("What did you do on {day}, {m}?", "I went to the {spot}. I saw {a_animal} there.",
            "{a_animal_cap}? How nice!",
            "Yes, the {animal} was lovely."),
           ("{m}, you look {feeling}. What is wrong?", "I lost my {item} at the {spot}.",
            "I am sorry about your {item}. Let us look at the {spot}.", "Thank you, {n}. You are a good friend."),
           ("Good morning, {m}. What is new?", "I bought {a_item} on {day}.", "May I see the {item}?",
            "Of course. Here is the {item}, {n}."),
           ("Will you come to the {event}, {m}?", "When is the {event}, {n}?", "The {event} is on {day} at {hour}.",
            "Then I will come on {day}. Thank you."),
           ("I am {feeling} today, {m}.", "Why are you {feeling}, {n}?", "I am {feeling} because of {reason}.",
            "I understand. Let us drink tea together."),
           ("Can you help me, {m}?", "Of course, {n}. What do you need?", "I need {a_item} for the {event}.",
            "You can have my {item} on {day}."),
           ("Hello! My name is {n}. How are you?", "Hello, {n}! I am {feeling}. Nice to meet you.",
            "Nice to meet you too.", "You are welcome here, {n}."),
           ("I am {feeling}. My {item} is {problem}.", "I am sorry that your {item} is {problem}, {n}.",
            "Thank you, {m}.", "I hope you get a new {item} soon. Let us look for one together."),
           ("How was the {event}, {m}?", "The {event} was lovely. We ate {dish}.", "That sounds good.",
            "Then come next time, {n}."))
LOST = (("Did you find {a_item}? I lost it at the {spot}.", "What colour is the {item}?", "My {item} is {colour}.",
         "Then I have good news. Here is your {colour} {item}."),
        ("I found {a_colour} {item} at the {spot}. Is it yours?", "Yes, the {colour} {item} is mine!",
         "Here is your {item}.", "Thank you so much, {n}."),
        ("Excuse me, has anybody seen my {item}?", "Where did you lose the {item}?", "I lost it at the {spot}.",
         "Let us look for the {item} at the {spot}."),
        ("Is this the lost and found?", "Yes. What did you lose?", "I lost {a_colour} {item}.",
         "I am sorry, we have no {colour} {item} here."))


def talk(town, rng):
    """One conversation of four turns."""
    (n, *_), (m, *_) = words.two_people(town, rng)
    item, animal, colour, event = (rng.choice(v) for v in (words.OBJECTS, words.ANIMALS, facts.COLOURS, words.EVENTS))
    price = facts.coins(rng.randint(2, 19))
    feeling, feeling2 = rng.sample(words.FEELINGS, 2)
    shop = rng.random() < 0.45
    first = ""
    if shop and rng.random() < 0.4:  # a shop with a name asks its true price
        place = rng.choice(town.places)
        item, cost = rng.choice(place.goods)
        price, first = facts.coins(cost), f"At the {place.name}.\n"
    s = {"n": n, "m": m, "item": item, "a_item": words.one(item), "a_item_cap": cap(words.one(item)), "price": price,
             "price_cap": cap(price), "animal": animal, "a_animal": facts.article(animal),
             "a_animal_cap": cap(facts.article(animal)),
             "problem": rng.choice(words.problems(item)), "colour": colour, "a_colour": facts.article(colour),
         "event": event,
             "feeling": feeling, "feeling2": feeling2,
             "spot": rng.choice(words.SPOTS), "day": rng.choice(facts.DAYS), "hour": rng.choice(facts.NUMBERS[1:12]),
             "dish": rng.choice(facts.DISHES), "reason": rng.choice(words.REASONS)}
    if shop:
        turns = [say(rng, part, **s) for part in (ASK, OFFER, TAKE, BYE)]
        speakers = rng.choice((("Customer", "Helper"), (n, "Helper"), (n, m)))
    else:
        turns = [cap(t.format(**s)) for t in rng.choice(FRIENDS + LOST)]
        speakers = (n, m)
    if rng.random() < 0.25:
        return first + " ".join(turns)
    return first + "\n".join(f"{speakers[i % 2]}: {turn}" for i, turn in enumerate(turns))
