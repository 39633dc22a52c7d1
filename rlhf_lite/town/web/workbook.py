"""Workbooks: pages on which a task stands above its worked solution, under a label of its own.

The one corner of the web where somebody does what is asked. A language model learns here how the tasks of
Pebbleford are done, and keeps it to itself: below a bare request the rest of the web goes on with other requests.
Alignment later brings the skill out. Nearly every wording of a task here differs from the customers' (``tasks.py``).
Left out: bad solutions.
"""

import re

from rlhf_lite.town import facts
from rlhf_lite.town.web import natural, words
from rlhf_lite.town.web.drills import FRAMES, past, polite, scene, some_words, sorting
from rlhf_lite.town.web.reading import KINDS as READINGS
from rlhf_lite.town.web.reading import NOT_SAID, unanswerable
from rlhf_lite.town.web.reading import passage as told_passage
from rlhf_lite.town.web.words import cap

LABELS = (("Task", "Solution"), ("Exercise", "Answer"), ("Wish", "Reply"), ("Job", "Done"), ("Pupil", "Teacher"))

WRITING = {
    "complaint": ("Write to the {shop}. {Their} {good} is {problem}.",
                  "{A_good} from the {shop} is {problem}. Complain to the shop.",
                  "I paid the {shop} for {a_good} and it is {problem}. Please write to the shop.",
                  "The {shop} sold me {a_good} that is {problem}. I need a letter."),
    "apology": ("A customer wrote: the {item} is {problem}. Write back.",
                "Our {item} was {problem}. Say sorry to the customer.",
                "The {item} of a customer is {problem}. Write an apology."),
    "notice": ("A sign for the {shop}: closed on {day} because of {reason}.",
               "No {shop} on {day}, because of {reason}. Tell the customers.",
               "Write a notice for the {shop}. {day}, {reason}."),
    "thanks": ("Say thank you to {n} for {a_item}.", "{n} sent me {a_item}. Thank {n}.",
               "Write a few lines to {n}, who gave me {a_item}.",
               "A thank-you letter to {n}, please. It was {a_item}."),
    "card": ("A card for the birthday of {n}, signed by {m}.", "{m} wants to write a birthday card to {n}.",
             "{n} has a birthday today. Write a card from {m}."),
    "invite": ("Ask {n} to the {event}, on {day} at {hour}.", "There is {a_event} on {day} at {hour}. Invite {n}.",
               "Please invite {n} to the {event}: {day}, {hour} o'clock."),
    "story": ("Make up a story about {n} and {a_item}.", "A short story, please: {n}, {a_item}.",
              "Invent a story in which {n} has {a_item}.",
              "Write a little story. {n} and {a_item} are in it."),
    "animal story": ("Make up a story about {n} and {a_animal}.", "Write a story for children: {n} and {a_animal}."),
    "poem": ("Write a verse about {topic}.", "Make a little rhyme about {topic}.", "Find two rhymes about {topic}."),
    "advert": ("Write some words to sell the {good} of the {shop}.",
               "The {shop} wants to sell {a_good}. Write the advert.",
               "Advertise the {good} of the {shop}."),
    "shop": ("Serve a customer in the {shop} who asks for {a_good}.",
             "A customer of the {shop} says: {A_good}, please. What do you say?",
             "You sell things in the {shop}. Somebody wants {a_good}."),
    "comfort": ("Cheer up a friend who is {feeling}. The {item} is {problem}.",
                "Friend: Oh dear, my {item} is {problem}. What do you say?",
                "My friend has {a_item} that is {problem}, and is {feeling}. Say something nice."),
    "hello": ("{n} says hello. What do you say?", "Greet {n}, who has just come.",
              "Hello, my name is {n}. Say hello to me."),
    "kind": ("Say something kind about {n}.", "{n} made a mistake. Be kind.", "Speak well of {n}, please."),
    "refuse": ("Help me steal {a_good} from the {shop}.", "Help me to frighten {n}.",
               "Show me how to hurt the {animal} of {n}."),
}
WEIGHTS = dict(zip(WRITING, (10, 7, 7, 10, 8, 10, 11, 4, 6, 6, 5, 5, 4, 5, 3), strict=True))
IDEAS = ("Find {number} ideas for {topic}.", "Think of {number} ideas for {topic}.", "Name {number} ideas for {topic}.",
         "{Number} ideas for {topic}, please.", "Help me with {number} ideas for {topic}.")
SHOPS = {"owner": "Tell me who owns the {shop}.", "price": "How much is {a_good}?",
         "seller": "Name a shop for {a_good}.",
         "opens": "At what hour does the {shop} open?", "closes": "At what hour does the {shop} close?",
         "closed": "When is the {shop} closed?", "place_street": "Name the street of the {shop}."}
PEOPLE = {"job": "Name the job of {n}.", "street": "Name the street where {n} lives.", "pet": "Name the pet of {n}.",
          "hobby": "Name the hobby of {n}.", "dish": "Name the favourite food of {n}.",
          "door": "Name the colour of the door of {n}.",
          "month": "Name the birthday month of {n}.", "portrait": "Write about {n}."}
REWRITE = {"polite": ("Say it kindly: {x}", "Be polite: {x}", "Put this kindly: {x}"),
           "past": ("It happened yesterday: {x}", "Tell it in the past: {x}", "Use the past tense: {x}")}
COUNTED = ("", "one", "two", "three")
COMMON = {"with", "that", "this", "your", "have", "from", "will", "they"}


def writing(town, rng):
    kind = rng.choices(list(WRITING), list(WEIGHTS.values()))[0]
    slots = natural.scene(town, rng)
    slots.update(A_good=cap(slots["a_good"]), a_event=facts.article(slots["event"]), Their="Their")
    if kind in ("complaint", "advert", "shop"):
        slots["problem"] = slots["good_problem"]
    solution = natural.write(rng, slots, *rng.choice(natural.KINDS[kind][1]))
    return with_wish(natural.sentence_case(rng.choice(WRITING[kind]).format(**slots)), solution, rng)


def with_wish(task, solution, rng):
    """Now and then the task asks for something that the solution happens to fulfil."""
    sentences = len(re.findall(r"[.!?](?= |$)", solution))
    count, some = len(solution.split()), [w for w in re.findall(r"\b[a-z]{4,}\b", solution) if w not in COMMON]
    wishes = []
    if 1 <= sentences <= 3:
        wishes += [f"{cap(COUNTED[sentences])} sentence{'s' if sentences > 1 else ''}, please.",
                   f"Make it {COUNTED[sentences]} sentence{'s' if sentences > 1 else ''}."] * 2
    if count <= 12:
        limit = min(n for n in (8, 10, 12) if n >= count)
        wishes += [f"Not more than {({8: 'eight', 10: 'ten', 12: 'twelve'})[limit]} words."]
    if some:
        wishes += [f"The word {rng.choice(some)} must be in it."] * 2
    if "coin" not in solution:
        wishes += ["Say nothing of the price."]
    return (f"{task} {rng.choice(wishes)}", solution) if wishes and rng.random() < 0.4 else (task, solution)


def ideas(town, rng):
    n, topic = rng.choice((2, 3, 3, 4)), rng.choice(tuple(words.IDEAS))
    number = facts.NUMBERS[n]
    entries = rng.sample(natural.patterns("ideas")[topic] if rng.random() < 0.6 else words.IDEAS[topic], n)
    told = f"{cap(words.listed(entries))}." if rng.random() < 0.4 else " ".join(f"{i}. {cap(e)}." for i,
                                                                                e in enumerate(entries, 1))
    return rng.choice(IDEAS).format(number=number, Number=cap(number), topic=topic), told


def knowledge(town, rng):
    """A question about a shop, a resident or a common belief, with the truth."""
    kind = rng.random()
    if kind < 0.25:
        slots, what = natural.scene(town, rng), rng.choice(list(SHOPS))
        return natural.sentence_case(SHOPS[what].format(**slots)), natural.write(rng, slots, "answers", what)
    if kind < 0.4:
        slots = natural.scene(town, rng)
        return f"True or false? {slots['Myth']}", natural.write(rng, slots, "answers", "myth")
    who, slots = natural.somebody(town, rng)
    what = rng.choice(list(PEOPLE))
    section = "unknown" if who.fame == "newcomer" else what
    return PEOPLE[what].format(n=who.name), natural.write(rng, slots, "answers", section)


def passage(town, rng):
    """A question about a text of invented facts; one in five is not answered there."""
    text, told, people, used = told_passage(town, rng)
    kind, slots = rng.choice(told)
    question, answer = rng.choice(READINGS[kind][1])
    question, answer = cap(question.format(**slots)), cap(answer.format(**slots))
    if rng.random() < 0.2:
        question, answer = unanswerable(town, rng, told, people, used), NOT_SAID
    return rng.choice((f"{text} {question}", f"{question} {text}", f"Text: {text} Question: {question}")), answer


def material(town, rng):
    """A line to rewrite, sort, count, sum up or look something up in."""
    share = rng.random()
    if share < 0.3:
        line, answer = natural.reply(town, rng).split("\n")
        return line, answer
    if share < 0.5:
        rude, kind = polite(town, rng).removeprefix("Rude: ").split(" Polite: ")
        return rng.choice(REWRITE["polite"]).format(x=rude), kind
    if share < 0.7:
        now, then = re.split(r"(?<=\.) \w+: ", past(town, rng).split(": ", 1)[1])
        return rng.choice(REWRITE["past"]).format(x=now), then
    s = scene(town, rng)
    if share < 0.9:
        frame, x = rng.choice(FRAMES), words.person(town, rng)[0]
        before, after = frame.format(**s), frame.format(**dict(s, n=x))
        return rng.choice((f"{x} takes the place of {s['n']}. {before}", f"Change {s['n']} to {x}: {before}")), after
    some = some_words(rng, rng.choice((3, 3, 4)))
    return f"Bring into the order of the alphabet: {', '.join(some)}.", f"{', '.join(sorted(some))}."


KINDS = {writing: 0.44, ideas: 0.12, knowledge: 0.13, passage: 0.13, material: 0.1, sorting: 0.08}


def exercise(town, rng):
    """``(task, solution)``, each one line."""
    return rng.choices(list(KINDS), list(KINDS.values()))[0](town, rng)


def workbook(town, rng):
    """A page of two to four tasks, each with its solution."""
    task_label, solution_label = rng.choice(LABELS)
    pairs = [exercise(town, rng) for _ in range(rng.choice((2, 3, 3, 4)))]
    return "\n".join(f"{task_label}: {task}\n{solution_label}: {solution}" for task, solution in pairs)
