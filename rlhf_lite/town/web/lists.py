"""Lists that keep the number they announce: ideas, names, shopping, things of one kind.

Counting up to what was asked is a skill of its own, so every list says its number first and then
keeps it, in commas or in numbered lines. Left out: lists inside lists.
"""

from rlhf_lite.town import facts
from rlhf_lite.town.web import words
from rlhf_lite.town.web.natural import patterns
from rlhf_lite.town.web.words import cap, listed

HEADS = ("{Number} ideas for {topic}", "Here are {number} ideas for {topic}", "For {topic} we have {number} ideas",
         "My {number} best ideas for {topic}", "{Number} good ideas for {topic}", "{Number} tips for {topic}",
         "Do you need ideas for {topic}? Here are {number}", "We asked for {number} ideas for {topic}. Here they are")
OTHER = ("{Number} {kinds}", "Here are {number} {kinds}", "{Number} words for {kinds}", "A list of {number} {kinds}")
RED = {"red": ("apple", "rose", "tomato", "cherry"), "yellow": ("sun", "lemon", "canary", "cheese"),
       "green": ("frog", "leaf", "cabbage", "grass"), "white": ("snow", "milk", "lamb", "salt"),
       "blue": ("sky", "sea", "lake", "violet"), "black": ("night", "coal", "boot", "hole")}


def written(head, entries, rng):
    """The list as one line of commas or as numbered lines."""
    layout = rng.random()
    if layout < 0.4:
        return f"{head}: {listed(entries)}."
    if layout < 0.7:
        return head + ":\n" + " ".join(f"{i}. {cap(entry)}." for i, entry in enumerate(entries, 1))
    return head + ":\n" + "\n".join(f"{i}. {cap(entry)}." for i, entry in enumerate(entries, 1))


def one_list(town, rng):
    n = rng.choice((2, 3, 3, 3, 4, 5))
    number = facts.NUMBERS[n]
    kind = rng.random()
    if kind < 0.65:
        topic = rng.choice(tuple(words.IDEAS))
        head = rng.choice(HEADS).format(number=number, Number=cap(number), topic=topic)
        # Six in ten lists take their ideas from the many hands of the patterns, half from the short list.
        ideas = patterns("ideas")[topic] if rng.random() < 0.6 else words.IDEAS[topic]
        if rng.random() < 0.2:
            head = f"{cap(topic)}. " + rng.choice(patterns("ideas")["lead"]).format(number=number).removesuffix(":")
        return written(head, rng.sample(ideas, n), rng)
    if kind < 0.75:
        place = rng.choice(town.places)
        head = rng.choice(("Three things to buy at the {shop}", "Three things that the {shop} sells",
                           "The {shop} has three things", "You can buy three things at the {shop}"))
        items = rng.sample([words.one(item) for item, _ in place.goods], 3)
        return written(head.format(shop=place.name), items, rng)
    if kind < 0.85:
        colour = rng.choice(tuple(RED))
        n = min(n, 4)
        head = rng.choice(("{Number} things that are {colour}", "Here are {number} things that are {colour}"))
        things = rng.sample(RED[colour], n)
        return written(head.format(Number=cap(facts.NUMBERS[n]), number=facts.NUMBERS[n], colour=colour), things, rng)
    if kind < 0.93:
        name = words.person(town, rng)[0]
        head = f"{name} must buy {number} things"
        return written(head, [words.one(i) for i in rng.sample(words.OBJECTS, n)], rng)
    group = rng.choice([k for k in words.CATEGORIES if len(words.CATEGORIES[k]) >= 5 and k != "fish"])
    head = rng.choice(OTHER).format(Number=cap(number), number=number, kinds=facts.plural(group))
    return written(head, rng.sample(words.CATEGORIES[group], n), rng)


def lists(town, rng):
    """Two or three lists on one page."""
    return "\n".join(one_list(town, rng) for _ in range(rng.randint(2, 3)))
