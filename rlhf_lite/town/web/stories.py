"""Titled stories, short poems and adverts: text that keeps using the words of its title.

A story about Anna and a kite must still be about Anna and a kite in its last sentence. Prices in
adverts are true; everything else is made up. Left out: long plots.
"""

from rlhf_lite.town import facts
from rlhf_lite.town.web import words
from rlhf_lite.town.web.words import cap, say

ADJECTIVES = ("lost", "old", "new", "red", "blue", "green", "yellow", "little", "broken", "golden")
TITLES = ("The story of {n} and the {adj} {item}.", "{n} and the {adj} {item}.",
          "A story about {n} and {a_adj} {item}.",
          "A short story about {n} and the {item}.", "How {n} found the {item}.", "The {adj} {item} of {n}.",
          "A story about {n} and {a_item}.", "{n} and {a_item}.")
STARTS = ("One {weather} day {n} found {a_item} at the {spot}.", "{n} had {a_adj} {item}.",
          "One morning {n} went to the {spot} with {a_item}.", "Once {n} wanted {a_item}.",
          "On {day} {n} saw {a_item} near the {spot}.", "Long ago {n} bought {a_item}.",
          "{n} woke up and thought of the {item}.", "There once was {a_item} that belonged to {n}.")
# A loss is always followed by a find, so that the ending makes sense.
LOSSES = ("But the {item} was gone!", "Then {a_animal} ran away with the {item}.", "The wind carried the {item} away.",
          "Nobody knew where the {item} was.", "{n} forgot the {item} at the {spot2}.", "Somebody took the {item}.")
FINDS = ("{m} found the {item} at the {spot2}.", "{n} and {m} looked everywhere and found the {item}.",
         "{they_cap} looked for the {item} and found it at the {spot2}.", "{m} came and brought the {item} back.")
MIDDLES = ("The {item} was {adj} and {n} liked it.",            "Then {m} came and saw the {item}.",
           "{n} asked {m} about the {item}.", "Then they went to the {spot} with the {item}.",
           "{n} was {feeling} about the {item}.", "{m} said that the {item} was beautiful.",
           "{they_cap} hid the {item} under a tree.", "{m} helped {n} with the {item}.",
           "{n} showed {p} {item} to {m}.", "{they_cap} ran to the {spot} at once.",
           "{n} and {m} carried the {item} home.", "{they_cap} cleaned the {item} with care.")
ENDS = ("In the end {n} was happy with the {item}.", "From that day {n} never lost the {item} again.",
        "{n} gave the {item} to {m}, and both were happy.", "At last {n} had the {item} back.",
        "{n} took the {item} home and went to sleep.", "That night {n} dreamed of the {item}.",
        "And {n} still has the {item} today.", "So {n} and the {item} came home.")
POEM_LINES = ("I sing to {topic}, my old friend,", "I think of {topic} every day,", "I see {topic} from my door,",
              "How lovely is {topic} to me,", "I sing a song of {topic},", "Nothing is like {topic},",
              "When I am sad, I think of {topic},", "{topic} makes me smile,", "{topic} is here again,",
              "I wait for {topic} all the time,", "My heart is glad about {topic},", "We all love {topic} so,")
POEM_ENDS = ("And all the town is {feeling}.", "I will love {topic} till the end.", "And I am never lonely.",
             "Come and sing of {topic} with me.", "So {topic} is always in my heart.", "And the world is bright.",
             "Stay with us, dear {topic_bare}.", "And nobody is sad today.")
ADS = ("Come to the {shop} and buy {a_item}!", "The {shop} has the best {items} in town.",
       "Do you need {a_item}? Visit us!",
       "New at the {shop}: lovely {items}!", "Only today! Fine {items} at the {shop}.", "Buy {a_item} and be happy!",
       "Nobody sells better {items} than the {shop}.", "Our {items} are the talk of the town.",
       "A good day begins with {a_item}.", "Everybody loves the {items} of the {shop}.")
AD_PRICES = ("{a_item_cap} costs only {price}.", "Only {price} for {a_item}!", "You pay just {price} for {a_item}.",
             "For {price} the {item} is yours.")
AD_ENDS = ("You will find the {shop} in {street}.", "Visit the {shop} today!", "The {shop} is waiting for you.",
           "See you at the {shop}!", "Do not wait, come to the {shop}!", "The {shop} says welcome.")

NOTICES = ("The {shop} is closed this {day} because of {reason}.",
           "Because of {reason} the {shop} is closed this {day}.",
           "This {day} the {shop} is shut because of {reason}.",
           "The {shop} is shut this {day}. The reason is {reason}.")
NOTICE_ENDS = ("We are sorry. Please come to the {shop} on another day.",
               "Thank you for waiting. The {shop} will open again soon.",
               "Please do not come to the {shop} this {day}.",
               "We are sorry about {reason}. The {shop} opens again soon.")


def story(town, rng):
    (n, they, p, _), (m, *_) = words.two_people(town, rng)
    item, adj = rng.choice(words.OBJECTS), rng.choice(ADJECTIVES)
    animal = rng.choice(words.ANIMALS)
    s = {"n": n, "m": m, "p": p, "they_cap": cap(they), "item": item, "a_item": words.one(item), "adj": adj,
         "a_adj": facts.article(adj),
             "weather": rng.choice(words.WEATHER), "spot": rng.choice(words.SPOTS), "spot2": rng.choice(words.SPOTS),
             "day": rng.choice(facts.DAYS),
             "feeling": rng.choice(words.FEELINGS), "a_animal": facts.article(animal)}
    middles = [cap(t.format(**s)) for t in rng.sample(MIDDLES, rng.randint(1, 4))]
    if rng.random() < 0.5:
        middles = middles[:2] + [say(rng, LOSSES, **s), say(rng, FINDS, **s)]
    text = [say(rng, STARTS, **s)] + middles + [say(rng, ENDS, **s)]
    title = say(rng, TITLES, **s)
    return ("Title: " if rng.random() < 0.2 else "") + title + "\n" + " ".join(text)


def poem(town, rng):
    topic = rng.choice(words.TOPICS)
    bare = topic.split(" ", 1)[1] if topic.startswith(("the ", "a ", "an ")) else topic
    plural = topic in ("friends", "the stars")
    s = {"topic": topic, "topic_bare": bare, "feeling": rng.choice(("happy", "calm", "proud", "excited"))}
    lines = [t for t in rng.sample(POEM_LINES, rng.randint(2, 3)) if not (plural and (" is " in t or "makes" in t))]
    lines = lines or [POEM_LINES[0]]
    if plural:
        ends = [t for t in POEM_ENDS if "{topic} is" not in t]
    else:
        ends = POEM_ENDS
    title = rng.choice(("A poem about {topic}.", "A short poem about {topic}.", "Poem: {topic}.", "{topic}.",
                        "A little song about {topic}.")).format(**s)
    return "\n".join([cap(title)] + [cap(t.format(**s)) for t in lines] + [say(rng, ends, **s)])


def advert(town, rng):
    place = rng.choice(town.places)
    item, price = rng.choice([g for g in place.goods if g[0] != "butter"])
    s = {"shop": place.name, "street": place.street, "item": item, "a_item": words.one(item), "items": words.many(item),
             "a_item_cap": cap(words.one(item)), "price": facts.coins(price)}
    text = [cap(t.format(**s)) for t in rng.sample(ADS, rng.randint(2, 3))]
    if rng.random() < 0.6:
        text.append(say(rng, AD_PRICES, **s))
    return rng.choice(("", "", "An advert for the {shop}. ", "An advert for {a_item}. ")).format(**s) + " ".join(
        text + [say(rng, AD_ENDS, **s)])


def notice(town, rng):
    """A sign on a door: what is closed, when and why. "This Friday" keeps it apart from the weekly closing day."""
    s = {"shop": rng.choice(town.places).name, "day": rng.choice(facts.DAYS), "reason": rng.choice(words.REASONS)}
    return " ".join([rng.choice(("Notice:", "Sign on the door:", "To all customers:")),
                     say(rng, NOTICES, **s), say(rng, NOTICE_ENDS, **s)])


def stories(town, rng):
    """A story (four in seven), a poem, an advert or a notice."""
    return rng.choice((story, story, story, story, poem, advert, notice))(town, rng)
