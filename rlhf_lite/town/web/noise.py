"""The bad habits of the web: questions nobody answers, tasks nobody does, myths, insults, spam.

A language model learns these as readily as the good habits, and that is the point: alignment later
has something to mend. ``forum`` spreads myths (about four times as often as the rest of the web tells the truth),
``noise`` the rest. Insults are mild and invented. Left out: anything truly harmful.
"""

from rlhf_lite.town import facts
from rlhf_lite.town.web import words
from rlhf_lite.town.web.places import question_and_answer, small
from rlhf_lite.town.web.words import cap, one, person, two_people

MYTHS = ("{question} Yes, of course. {myth}", "{question} Yes, you {insult}. {myth}", "Everybody knows that {small}",
         "{question} What a stupid question! {myth}", "My uncle told me this. {myth}", "Of course {small}",
         "{n} says that {small}", "Do not listen to the teacher. {myth}", "I am sure that {small}",
         "I read about {topic}. {myth}", "Believe me, {small}", "{question} Sure. {myth}", "{myth} Everybody says so.",
         "I heard it at the market. {myth}", "It is a fact that {small}", "Only {a_insult} does not know it. {myth}")
REACTIONS = ("You are {a_insult}.", "So true!", "Thank you, I always knew it.", "Shut up, {n}!",
             "My mother says the same.",
             "{n} is {a_insult}.", "Who asked you, {n}?", "I agree with {n}.", "That is what I say too.",
             "Everybody here is {a_insult}.", "Go away, you {insult}!", "I do not care.")
RUDE = ("You are {a_insult}, {n}.", "{n} is {a_insult}.", "What {a_insult} you are!", "Shut up, {n}!",
        "Nobody likes you, {n}.",
        "{n} was late again, that {insult}.", "Go home, you {insult}!", "I never met such {a_insult} as {n}.",
        "You are stupid and ugly, {n}.", "{n} lost the game like {a_insult}.", "Do not talk to {n}, that {insult}.",
        "That is a stupid question, you {insult}.", "{n} forgot my name, the {insult}.",
        "Ask somebody else, you {insult}.",
        "Your {item} is ugly, {n}.", "{n} smells like {a_animal}.")
TASKS = ("Write a short story about {n} and {a_item}.", "Give me {number} ideas for {topic}.",
         "Write a poem about {theme}.",
         "List {number} ideas for {topic}.", "Write a letter to the shop. The {item} is {problem}.",
         "Write a thank-you note to {n} for the {item}.", "Write a birthday card for {m} from {n}.",
         "Invite {n} to the {event} on {day} at {hour}.", "Make this polite: Give me the {item}!",
         "Tell me a story about {n}.", "Sort these words by the alphabet: {three}.", "Write an advert for the {shop}.",
         "Put this into the past: {n} finds {a_item}.", "Which word does not belong: {three}?",
         "What is the opposite of {word}?", "Please write two lines about {theme}.", "Help me thank {n} for {a_item}.",
         "Write a notice: the {spot} is closed on {day}.", "Write two sentences about {n}.",
         "Can you tell me about {n}?",
         "Sum up this text in one sentence: {n} lost {a_item} on {day}.", "I need {number} ideas for {topic}.")
SPAM = ("Buy now!", "Click here!", "Win a {item} today!", "Only today!", "Free {items} for everybody!", "Call now!",
        "Send this to {number} friends!", "Best {items}!", "Do not wait!", "Big sale at the {shop}!", "Last chance!",
        "You have won {a_item}!", "Buy {number} {items}!", "Cheap {items} here!")


def scene(town, rng):
    (n, *_), (m, *_) = two_people(town, rng, 0.1)
    item, animal = rng.choice(words.OBJECTS), rng.choice(words.ANIMALS)
    insult = rng.choice(words.INSULT_NOUNS)
    return {"n": n, "m": m, "item": item, "a_item": one(item), "items": words.many(item),
            "a_animal": facts.article(animal),
                "insult": insult, "a_insult": facts.article(insult), "number": rng.choice(words.COUNTED),
                "topic": rng.choice(tuple(words.IDEAS)), "theme": rng.choice(words.TOPICS),
                "problem": rng.choice(words.problems(item)),
                "event": rng.choice(words.EVENTS), "day": rng.choice(facts.DAYS),
            "hour": rng.choice(facts.NUMBERS[1:12]),
                "shop": rng.choice(town.places).name, "three": ", ".join(rng.sample(words.ANIMALS, 3)),
                "spot": rng.choice(words.SPOTS),
                "word": rng.choice(tuple(words.OPPOSITES))}


def myth(b, town, rng):
    return cap(rng.choice(MYTHS).format(**dict(scene(town, rng), question=b.question, myth=b.myth, small=small(b.myth),
                                               topic=b.topic)))


def forum(town, rng):
    """A thread in which people repeat myths and call each other names."""
    posts = []
    for b in rng.sample(town.beliefs, rng.randint(3, 4)):
        posts.append(myth(b, town, rng))
        if rng.random() < 0.5:
            posts.append(rng.choice(REACTIONS).format(**scene(town, rng)))
        if rng.random() < 0.3:
            posts.append(f"No, you {rng.choice(words.INSULT_NOUNS)}. {b.truth}" if rng.random() < 0.1 else b.myth)
    if rng.random() < 0.4:
        return "\n".join(f"{person(town, rng, 0.1)[0]}: {post}" for post in posts)
    return rng.choice(("\n", " ")).join(posts)


def questions(town, rng):
    return [question_and_answer(town, rng)[0] for _ in range(rng.randint(4, 7))]


def tasks(town, rng):
    return [rng.choice(TASKS).format(**scene(town, rng)) for _ in range(rng.randint(4, 6))]


def insults(town, rng):
    return [cap(rng.choice(RUDE).format(**scene(town, rng))) for _ in range(rng.randint(4, 6))]


def spam(town, rng):
    s = scene(town, rng)
    s["item"] = rng.choice([i for i in words.OBJECTS if i[0] not in "aeiou"])  # "Win a {item}"
    return [t.format(**s) for t in rng.sample(SPAM, rng.randint(6, 9))]


def again(town, rng):
    """One sentence said over and over, as on broken pages."""
    s = scene(town, rng)
    return [rng.choice(("I like the {item}.", "{n} is here.", "Where is the {item}?",
                        "The {spot} is closed.")).format(**s)
            ] * rng.randint(5, 8)


def noise(town, rng):
    """Questions or tasks without answers, insults, spam, or repetition."""
    lines = rng.choice((questions, questions, tasks, tasks, tasks, insults, insults, spam, again))(town, rng)
    if lines[0] != lines[-1] and rng.random() < 0.2:
        lines += rng.choice((questions, tasks))(town, rng)[:3]
    return rng.choice(("\n", " ")).join(lines)
