"""Letters: complaints and the shop's answer, thanks, invitations, birthday cards.

Every letter repeats names and things from its own first lines, because quoting the reader's words
is what a good answer does later. Items and troubles are drawn at random. Left out: real addresses.
"""

from rlhf_lite.town import facts
from rlhf_lite.town.web import words
from rlhf_lite.town.web.words import cap, say

COMPLAINTS = ("I bought {a_item} from you on {day}. It is {problem}.", "The {item} from your shop is {problem}.",
              "On {day} I got {a_item} from your shop. The {item} is {problem}.", "My new {item} is {problem}.",
              "I am sorry to say that the {item} is {problem}.", "You sold me {a_item} that is {problem}.",
              "I am not happy with the {item}. It is {problem}.", "Something is wrong with my {item}. It is {problem}.")
WISHES = ("Please give me a new one.", "I want my coins back.", "What can you do?", "Please help me.",
          "May I have a new one?", "I hope for your answer.")
SORRY = ("We are sorry that the {item} is {problem}.", "We are very sorry that your {item} is {problem}.",
         "Thank you for your letter. We are sorry about the {problem} {item}.",
         "We are sorry. No {item} should be {problem}.",
         "It is our fault that the {item} is {problem}.", "Please excuse us. Your {item} should not be {problem}.",
         "I am sorry to hear that the {item} is {problem}.", "Your {item} is {problem} and we are sorry.")
OFFERS = ("You will get a new {item} on {day}.", "We will bring you a new {item}.",
          "Please come and take a new {item}.",
          "We will give you your coins back for the {item}.", "A new {item} is on its way to you.",
          "You may have a new {item} for nothing.", "We will send a better {item} on {day}.")
THANKS = ("Thank you for the {item}.", "Thank you so much for the lovely {item}.", "What a nice {item} you gave me!",
          "I was so happy about the {item}.", "Many thanks for the {item} that you sent.",
          "The {item} came today. Thank you!",
          "How kind of you to give me {a_item}!", "You gave me {a_item} and I love it.")
THANKS_MORE = ("The {item} is just what I needed.", "I use the {item} every day.",
               "I will think of you when I see the {item}.",
               "Everybody likes the {item}.", "The {item} has a place of honour in my house.", "Please visit me soon.",
               "I showed the {item} to {x}.", "You are a good friend, {m}.")
INVITES = ("Please come to our {event} on {day} at {hour}.", "You are invited to {a_event}. It is on {day} at {hour}.",
           "We will have {a_event} on {day} at {hour}.", "Will you come to the {event} on {day} at {hour}?",
           "On {day} there is {a_event}. It begins at {hour}.",
           "I would like to see you at the {event} on {day} at {hour}.",
           "Our {event} is on {day}. Please be there at {hour}.", "Come and join the {event} on {day} at {hour}.")
INVITES_MORE = ("The {event} is at the {spot}.", "Please bring {a_item}.", "{x} will be there too.",
                "I hope you can come.",
                "We meet at the {spot} at {hour}.", "The {event} will be fun.", "Do not be late on {day}.",
                "Tell me soon if you can come.")
REPLIES = ("Thank you for asking me to the {event}. I will come on {day} at {hour}.",
           "I will be happy to come to the {event} on {day}.", "I am sorry, but I am busy on {day}. Enjoy the {event}.",
           "Yes, I will be at the {event} at {hour} on {day}.", "Thank you, I like {event_s}. See you on {day}.")
WISH = ("Happy birthday, {m}!", "All good wishes for your birthday, {m}!", "A very happy birthday to you, {m}!",
        "Dear {m}, have a lovely birthday!", "Today is your day, {m}!", "Best wishes for a happy birthday, {m}!",
        "{m}, I wish you a happy birthday!", "Happy birthday to my friend {m}!")
WISH_MORE = ("I hope you get {a_item}.", "May your year be happy and warm.", "I will bring you {a_item}.",
             "We will eat {dish} together.", "Enjoy your cake and your presents.", "Let us dance on {day}.",
             "The {item} in the box is for you.", "See you at your party on {day}.")
ENDINGS = ("Your friend {n}", "Love from {n}", "Yours, {n}", "Best wishes, {n}", "From {n}", "Kind regards, {n}")


def scene(town, rng):
    """Random words that every kind of letter may quote."""
    (n, *_), (m, *_) = words.two_people(town, rng)
    x = words.person(town, rng)[0]
    item, event = rng.choice(words.OBJECTS), rng.choice(words.EVENTS)
    while x in (n, m):
        x = words.person(town, rng)[0]
    return {"n": n, "m": m, "x": x, "item": item, "a_item": words.one(item),
            "problem": rng.choice(words.problems(item)),
                "day": rng.choice(facts.DAYS), "event": event, "a_event": facts.article(event),
            "event_s": facts.plural(event),
                "hour": rng.choice(facts.NUMBERS[1:12]), "spot": rng.choice(words.SPOTS),
            "dish": rng.choice(facts.DISHES)}


def complaint(s, rng):
    later = rng.choice(facts.DAYS)
    greeting = rng.choice(("Dear shop,", "Dear sir,", "To the shop,", "Hello,"))
    letter = f"{greeting} {uncap(say(rng, COMPLAINTS, **s))} {rng.choice(WISHES)}"
    answer = f"{say(rng, SORRY, **s)} {say(rng, OFFERS, **dict(s, day=later))}"
    if rng.random() < 0.3:
        return f"Letter: {letter} {s['n']}.\nAnswer: {answer}"
    return f"{letter} {say(rng, ENDINGS, **s)}.\nDear {s['n']}, {uncap(answer)} Your shop."


def uncap(sentence):
    """After a comma: small letter, except for "I", days, months and names, which keep theirs."""
    first = sentence.split()[0].rstrip(",.!?")
    keep = first == "I" or first in KEEP
    return sentence if keep else sentence[0].lower() + sentence[1:]


KEEP = set(facts.WOMEN + facts.MEN) | set(words.EXTRA_NAMES)


def letters(town, rng):
    """One letter of a random kind, often with its answer."""
    s, kind = scene(town, rng), rng.random()
    if kind < 0.4:
        return complaint(s, rng)
    end = say(rng, ENDINGS, **s) + "."
    if kind < 0.6:
        body = [say(rng, THANKS, **s)] + [t.format(**s) for t in rng.sample(THANKS_MORE, 2)]
    elif kind < 0.85:
        body = [say(rng, INVITES, **s)] + [cap(t.format(**s)) for t in rng.sample(INVITES_MORE, rng.randint(1, 2))]
        if rng.random() < 0.4:
            end += f"\nDear {s['n']}, {uncap(say(rng, REPLIES, **s))} {say(rng, ENDINGS, **dict(s, n=s['m']))}."
    else:
        body = [say(rng, WISH, **s)] + [t.format(**s) for t in rng.sample(WISH_MORE, 3)]
        return " ".join(body) + " " + end
    return f"Dear {s['m']}, {uncap(body[0])} {' '.join(body[1:])} {end}"
