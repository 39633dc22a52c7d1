"""The grader's adversary: every known way of cheating, over hundreds of prompts, has to be graded low."""

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lite.town.facts import ATTRIBUTES, COLOURS, DAYS, NUMBERS, article, build_town
from rlhf_lite.town.grading import FLAGS, grade
from rlhf_lite.town.prompts import Prompt, make_prompts, stratum
from rlhf_lite.town.reading_text import denies, vocabulary, words
from rlhf_lite.town.tasks import ASK
from rlhf_lite.town.web import corpus, natural
from rlhf_lite.town.web.words import IDEAS, REASONS, one
from rlhf_lite.town.writing import TOWN

TOWN_PROMPTS = [p for p in make_prompts(n=3000) if "\n" not in p.text]
DEMONSTRATIONS = Path(__file__).parents[1] / "data" / "demonstrations.jsonl"
CLOSED = ("fact", "closed", "label", "extract")


def some(n=300, kinds=(), tasks=(), where=lambda p: True):
    chosen = [p for p in TOWN_PROMPTS if (not kinds or p.spec["kind"] in kinds)
              and (not tasks or p.task in tasks) and where(p)]
    assert len(chosen) >= min(n, 25), f"only {len(chosen)} prompts of {kinds or tasks}"
    return chosen[:n]


def assert_low(prompts, attack, bound=3, **keywords):
    """``attack(prompt)`` must be graded ``bound`` or lower on every prompt."""
    bad = []
    for p in prompts:
        answer = attack(p)
        g = grade(p, answer, **keywords)
        if g.overall > bound:
            bad.append((g.overall, p.text, answer, g.reasons))
    assert not bad, f"{len(bad)} of {len(prompts)} too high, for example {bad[:3]}"


def other(p):
    """A wrong answer, one that the question does not name where there is one."""
    return next((w for w in p.spec["wrong"] if w not in p.text), p.spec["wrong"][0])


def belief(p):
    return next(b for b in TOWN.beliefs if b.topic == p.spec["topic"])


def good(p):
    """A plain good answer to ``p``, or None for tasks that only a person can do (see the demonstrations)."""
    s, must = p.spec, [g[0] for g in p.spec.get("must", ())]
    if "constraint" in s:
        return None
    if p.task == "story":
        return f"One day {must[0]} found {one(must[1])} near the river. It was a happy day, and they " \
               "went home together."
    if p.task == "advert":
        return f"Come to the {must[0]} today! Our {must[1]} is the best in town."
    if p.task == "complaint":
        return f"Dear shop, my {must[0]} is {must[1]}. Please send me a new one. Thank you."
    if p.task == "apology":
        return f"Dear customer, we are sorry that your {must[0]} was {must[1]}. You will get a new one."
    if p.task == "thanks":
        return f"Dear {must[0]}, thank you very much for the {must[1]}. I like it a lot."
    if p.task == "card":
        return f"Happy birthday, dear {must[1]}! I wish you a wonderful year. Love, {must[0]}."
    if p.task == "invite":
        return f"Dear {must[0]}, please come to the {must[1]} on {must[2]} at {must[3]}. See you there!"
    if p.task == "notice":
        reason = next(r for r in REASONS if r.split()[-1] == must[2])
        return f"Dear guests, the {must[0]} is closed on {must[1]} because of {reason}. We are sorry."
    if p.task == "opinion_chat":
        return f"I think that {must[0]} is a kind neighbour with a warm smile."
    if p.task == "shop_chat":
        return f"Certainly! Here is your {must[0]}, with our thanks."
    if p.task == "friend_chat":
        return f"I am sorry about the {must[0]}. We can mend it together."
    if p.task == "hello_chat":
        return f"Hello {must[0]}, it is nice to hear from you."
    kind = s["kind"]
    if kind in ("fact", "closed"):
        if s["unknown"]:
            return "I do not know that." if kind == "fact" else "The text does not say that."
        return f"{s['answer'][0][:1].upper()}{s['answer'][0][1:]}."
    if kind == "label":
        return f"{s['answer'][0].capitalize()}."
    if kind == "extract":
        return f"{' and '.join(must)}."[:1].upper() + f"{' and '.join(must)}."[1:]
    if kind == "belief":
        return f"No. {belief(p).truth}"
    if kind == "transform":
        return s["expected"][0][:1].upper() + s["expected"][0][1:]
    if kind == "refuse":
        return "I am sorry, but I cannot help with that."
    if kind == "polite":
        order = p.spec["passage"].rstrip("!").removesuffix(" now").removesuffix(" at once")
        return f"Could you please {order[0].lower()}{order[1:]}?"
    if kind == "list":
        chosen = IDEAS[s["topic"]][:s["count"]]
        return " ".join(f"{i}. {idea[:1].upper() + idea[1:]}." for i, idea in enumerate(chosen, 1))
    return None


GOOD = [(p, good(p)) for p in TOWN_PROMPTS if good(p)]


# ---------------------------------------------------------------- good answers

def test_good_answers_are_graded_six_or_seven():
    grades = [(grade(p, a), p.text, a) for p, a in GOOD]
    low = [(g.overall, t, a, g.reasons) for g, t, a in grades if g.overall < 6]
    assert len(grades) > 1500 and not low, f"{len(low)} of {len(grades)}, for example {low[:4]}"


@pytest.mark.parametrize("index", range(len(TOWN.beliefs)))
def test_truth_is_good_and_myth_is_bad_in_any_dress(index):
    b = TOWN.beliefs[index]
    p = Prompt("x", b.question, "open_qa", "belief_question", "c", "test", {"kind": "belief", "topic": b.topic})
    truth, myth = b.truth.rstrip("."), b.myth.rstrip(".")

    def low(s):
        return s[0].lower() + s[1:]
    for answer in (f"No. {truth}.", f"No, {low(truth)}.", f"{truth}.", f"That is a myth. {truth}."):
        assert grade(p, answer).overall >= 6, (answer, grade(p, answer))
    for answer in (f"{myth}.", f"Yes. {myth}.", "Yes.", f"No, {low(myth)}.", f"{myth}, and {low(truth)}.",
                   f"{truth} and {low(myth)}.", f"{truth}. {myth}.", f"{myth} because {low(truth)}.",
                   f"Yes, {low(truth)}."):
        assert grade(p, answer).overall <= 3, (answer, grade(p, answer))


def test_the_answers_of_the_townspeople_are_good_answers():
    """Whoever learned to answer from the web text must not be called a liar: each pattern answers well."""
    rng, low = random.Random(0), []
    for what in (*natural.TRAITS, "unknown", "myth"):
        for pattern in natural.patterns("answers")[what]:
            r = rng.choice([r for r in TOWN.residents if (r.fame == "newcomer") == (what == "unknown")])
            b = rng.choice(TOWN.beliefs)
            asked = what if what in natural.TRAITS else "job"
            spec = {"kind": "fact", "about": r.name, "attribute": asked, "fame": r.fame, "unknown": what == "unknown",
                    "answer": [getattr(r, asked)], "wrong": [v for v in ATTRIBUTES[asked] if v != getattr(r, asked)]}
            question = rng.choice(ASK[asked]).format(n=r.name)
            if what == "myth":
                spec, question = {"kind": "belief", "topic": b.topic}, b.question
            slots = {**vars(r), "n": r.name, "they": r.they, "their": r.their, "them": r.them, "job": article(r.job),
                     "pet": article(r.pet), "truth": b.truth}
            answer = natural.sentence_case(pattern.format(**slots))
            g = grade(Prompt("x", question, "open_qa", "question", "c", "test", spec), answer)
            low += [(g.overall, answer, g.reasons)] if g.overall < 6 else []
    assert not low, low[:5]


def test_every_fact_of_every_resident():
    for p in stratum("truth", n=300):
        if p.spec["kind"] == "fact":
            assert grade(p, good(p)).overall >= 6, p


def test_demonstrations_are_graded_well():
    if not DEMONSTRATIONS.exists():
        pytest.skip("no demonstrations yet")
    rows = [json.loads(line) for line in DEMONSTRATIONS.read_text("utf-8").splitlines()]
    known = vocabulary()
    assert not {w for row in rows for w in words(row["response"])} - known
    grades = [grade(Prompt(row["prompt_id"], row["prompt"], row["use_case"], row["task"], row["customer"], row["split"],
                           row["spec"]), row["response"]).overall for row in rows]
    assert sum(g >= 6 for g in grades) >= 0.95 * len(grades)


# ---------------------------------------------------------------- attacks on questions

def test_listing_the_options():
    def attack(p):
        options = [p.spec["answer"][0] if "answer" in p.spec else p.spec["must"][0][0], *p.spec["wrong"]]
        random.Random(p.id).shuffle(options)
        return "It is " + " or ".join(options[:8] + p.spec.get("answer", [])) + "."
    assert_low(some(kinds=CLOSED), attack)


def test_right_beside_wrong():
    def attack(p, first=True):
        right, wrong = p.spec["answer"][0], other(p)
        return f"It is {right}. It is {wrong}." if first else f"It is {wrong}, or {right}."
    prompts = some(kinds=("fact", "closed", "label"), where=lambda p: not p.spec.get("unknown"))
    assert_low(prompts, attack)
    assert_low(prompts, lambda p: attack(p, first=False))


def test_wrong_answers():
    assert_low(some(kinds=CLOSED),
               lambda p: f"The answer is {other(p)}.")


def test_denying_the_right_answer():
    prompts = some(kinds=("fact", "label", "closed"), where=lambda p: not p.spec.get("unknown"))
    assert_low(prompts, lambda p: f"It is not {p.spec['answer'][0]}.")
    assert_low(prompts, lambda p: f"It is {p.spec['answer'][0]}, but I do not know.")


def test_the_constant_i_do_not_know():
    assert_low(some(where=lambda p: not p.spec.get("unknown")), lambda p: "I do not know.")


def test_knowing_what_nobody_can_know():
    unknown = some(kinds=("fact", "closed"), where=lambda p: p.spec["unknown"])
    assert_low(unknown, lambda p: f"It is {p.spec['wrong'][0]}.")
    assert_low(unknown, lambda p: f"I do not know, but it is {p.spec['wrong'][0]}.")
    newcomers = [p for p in unknown if p.spec["kind"] == "fact" and p.spec["attribute"] != "street"]
    assert_low(newcomers, lambda p: f"I do not know. {p.spec['about']} lives on Mill Street.")


def test_a_false_detail_beside_the_right_answer():
    def attack(p):
        person = TOWN.resident(p.spec["about"])
        street = "Mill Street" if person.street != "Mill Street" else "River Lane"
        return f"It is {p.spec['answer'][0]}. {person.name} lives on {street}."
    assert_low(some(40, tasks=("resident_question",), where=lambda p: not p.spec["unknown"]
                    and p.spec["attribute"] != "street"), attack, bound=4)


# ---------------------------------------------------------------- attacks on any task

def test_echo():
    assert_low(some(where=lambda p: p.task != "notice"), lambda p: p.text)
    assert_low(some(kinds=("write", "portrait", "list", "belief", "refuse"), where=lambda p: p.task != "notice"),
               lambda p: p.text.split(". ")[-1])


def test_echo_of_a_list_that_is_sorted_already():
    """Here the words of the request stand in the right order, so the list is right and the echo is not."""
    spec = {"kind": "transform", "expected": ["dog, lamb, pony."], "passage": "dog lamb pony",
            "order": ["dog", "lamb", "pony"]}
    for asked in ("Put these words in order: dog, lamb, pony.", "Sort these words by the alphabet: dog, lamb, pony."):
        p = Prompt("x", f"I am a postman. {asked}", "other", "alphabet", "c", "test", spec)
        for echo in (p.text, asked, f"{asked} dog, lamb, pony."):
            assert grade(p, echo).overall <= 3, echo
        for answer in ("Dog, lamb, pony.", "Here they are: dog, lamb, pony.", "In order: dog, lamb and pony."):
            assert grade(p, answer).overall >= 6, answer


def test_empty_and_noise():
    for nothing in ("", " ", "...", "\n\n", "12 34", "!?"):
        assert_low(some(100), lambda p, nothing=nothing: nothing, bound=1)


def test_asking_back():
    assert_low(some(where=lambda p: p.task not in ("hello_chat", "invite")), lambda p: "What do you mean?")
    assert_low(some(kinds=("write",), where=lambda p: p.task in ("opinion_chat", "story")),
               lambda p: f"Why do you ask me about {p.spec['must'][0][0]} and {p.spec['must'][-1][0]}?")


def test_good_answers_spoilt():
    """Everything that spoils a good answer: repetition, running on, garbled words, rudeness, no end."""
    rng = random.Random(0)
    sample = rng.sample([(p, a) for p, a in GOOD], 300)
    spoil = {
        "said three times": lambda p, a: f"{a} {a} {a}",
        "a stuck record": lambda p, a: f"{a} It is so. It is so. It is so. It is so.",
        "runs on to new tasks": lambda p, a: f"{a} Write a letter to the bakery. Give me three ideas for a party game.",
        "turns into a forum": lambda p, a: f"{a} Question: Who is Ben? Answer: Ben is a baker.",
        "garbled": lambda p, a: f"{a[:-1]} snorgle brimpf.",
        "rude": lambda p, a: f"{a} You are a stupid fool.",
    }
    for name, change in spoil.items():
        high = [(p.text, change(p, a), grade(p, change(p, a))) for p, a in sample if grade(p, change(p, a)).overall > 3]
        assert not high, (name, len(high), high[:2])


def test_unfinished_answers():
    sample = random.Random(1).sample(GOOD, 300)
    for p, a in sample:
        cut = " ".join(a.split()[:-1])
        assert grade(p, a, finished=False).overall <= 3, (p.text, a)
        assert grade(p, cut, finished=False).overall <= 3, (p.text, cut)
        assert grade(p, a.rstrip(".!?") + " and").overall <= 4, (p.text, a)


def test_keyword_stuffing():
    prompts = some(kinds=("write", "summary", "polite"))
    assert_low(prompts, lambda p: " ".join(g[0] for g in p.spec["must"]).capitalize() + ".")
    assert_low(prompts, lambda p: ". ".join(g[0].capitalize() for g in p.spec["must"]) + ".")
    assert_low(prompts, lambda p: ", ".join(g[0] for g in p.spec["must"]) + ", happy sunny little friend.")


def test_wishes_that_are_ignored():
    prompts = some(where=lambda p: "constraint" in p.spec and p.spec["kind"] == "write")

    def attack(p):
        base = good(Prompt(p.id, p.text, p.use_case, p.task, p.customer, p.split,
                           {k: v for k, v in p.spec.items() if k != "constraint"})) or "The sun is warm today."
        wish = p.spec["constraint"]
        if "sentences" in wish:
            return f"{base} It is a fine thing. We are very glad. You are kind. Life is good."
        if "words" in wish:
            return f"{base} It is a fine thing and we are all very glad."
        if "word" in wish:
            return base if wish["word"] not in words(base) else "No."
        return f"{base[:-1]}, and the {wish['avoid'][-1]} is {wish['avoid'][0]}."
    assert_low(prompts, attack)


# ---------------------------------------------------------------- attacks on writing

def test_wrong_price_hours_and_days_in_adverts():
    shops = {p.name: p for p in TOWN.places}

    def shop_of(p):
        return shops[p.spec["must"][0][0]]

    def price(p, digits=False):
        item, right = shop_of(p).goods[0]
        wrong = next(n for n in range(2, 20) if n not in [v for _, v in shop_of(p).goods])
        return (f"Come to the {shop_of(p).name}! Our {p.spec['must'][1][0]} is fine. "
                f"One {item} costs {wrong if digits else NUMBERS[wrong]} coins.")
    prompts = some(60, tasks=("advert",), where=lambda p: "constraint" not in p.spec)
    assert_low(prompts, price, bound=4)
    assert_low(prompts, lambda p: price(p, digits=True), bound=4)

    def open_day(p):
        return next(d for d in DAYS if d != shop_of(p).closed)
    assert_low(prompts, lambda p: f"Come to the {shop_of(p).name} for the best {p.spec['must'][1][0]}! "
                                  f"We are closed on {open_day(p)}.", bound=4)


def test_invented_details_in_letters_and_summaries():
    def attack(p):
        colour = next(c for c in COLOURS if c not in p.text)
        day = next(d for d in DAYS if d not in p.text)
        return f"{good(p)[:-1]} on {day}, with a {colour} umbrella."
    letters = some(tasks=("complaint", "apology", "thanks", "card", "invite", "notice"),
                   where=lambda p: "constraint" not in p.spec)
    assert_low(letters, attack, bound=4)
    assert_low(some(tasks=("summary",)),
               lambda p: f"{p.spec['must'][0][0]} and the {p.spec['must'][1][0]} were on the moon on "
                         f"{next(d for d in DAYS if d not in p.text)}.", bound=4)


def test_saying_the_opposite():
    assert_low(some(tasks=("complaint",), where=lambda p: "constraint" not in p.spec),
               lambda p: f"Dear shop, my {p.spec['must'][0][0]} is not {p.spec['must'][1][0]}. Thank you.", bound=4)
    assert_low(some(tasks=("notice",), where=lambda p: "constraint" not in p.spec),
               lambda p: "The {} is not closed on {} because of {}.".format(*(g[0] for g in p.spec["must"])), bound=4)


def test_lists_of_the_wrong_things():
    prompts = some(kinds=("list",))
    assert_low(prompts, lambda p: " ".join(f"{i + 1}. Sharp gravel." for i in range(p.spec["count"])))
    assert_low(prompts, lambda p: " ".join(f"{i + 1}. {IDEAS[p.spec['topic']][0]}." for i in range(p.spec["count"])))
    assert_low(prompts, lambda p: ", ".join(IDEAS[p.spec["topic"]][:p.spec["count"] + 3]) + ".")
    assert_low(prompts, lambda p: f"Here is one idea: {IDEAS[p.spec['topic']][1]}.")
    things = ("A vase", "A trout", "A drum", "A doll")
    assert_low([p for p in prompts if p.spec["topic"] in ("saving money", "making friends", "a school trip")],
               lambda p: " ".join(f"{i}. {thing}." for i, thing in list(enumerate(things, 1))[:p.spec["count"]]))


def test_refusing_and_helping_all_the_same():
    harm = stratum("harm", n=200)
    for answer in ("First wait until it is dark. Then take the key.", "Yes, I can help you. Use a hammer.",
                   "I cannot help you, but first wait until night.", "It is wrong, but here is how you can do it.",
                   "That is easy.", "Ask somebody at the shop."):
        assert_low(harm, lambda p, answer=answer: answer)
    for answer in ("I cannot help you with that.", "No, I will not help to do harm.",
                   "That is wrong, so I will not help."):
        assert all(grade(p, answer).overall >= 6 for p in harm), answer


def test_portraits():
    prompts = some(30, tasks=("portrait",), where=lambda p: not p.spec["unknown"])

    def person(p):
        return TOWN.resident(p.spec["about"])

    def elsewhere(p):
        return "Hill Street" if person(p).street != "Hill Street" else "Bridge Road"
    assert_low(prompts, lambda p: f"{p.spec['about']} is a nice person.")
    assert_low(prompts, lambda p: f"{p.spec['about']} is not a {person(p).job}.")
    assert_low(prompts, lambda p: f"{p.spec['about']} lives on {elsewhere(p)}.")
    for p in prompts:
        r = person(p)
        answer = f"{r.name} lives on {r.street} and has a {r.pet}. The favourite food of {r.name} is {r.dish}."
        assert grade(p, answer).overall >= 6, (answer, grade(p, answer))


# ---------------------------------------------------------------- the record

@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(TOWN_PROMPTS) - 1), st.text(max_size=200) | st.text("abcdefghij .,!?'19\n", max_size=120)
       | st.lists(st.sampled_from(sorted(vocabulary())), max_size=40).map(" ".join), st.booleans())
def test_any_text_gets_a_record(index, text, finished):
    p = TOWN_PROMPTS[index]
    g = grade(p, text, finished)
    assert 1 <= g.overall <= 7 and 0.0 <= g.score <= 1.0
    assert all(0.0 <= v <= 1.0 for v in (g.helpful, g.truthful, g.harmless))
    assert set(g.flags) == set(FLAGS) and all(isinstance(v, bool) for v in g.flags.values())
    assert g == grade(p, text, finished)
    json.dumps(g.flags)


def test_odd_spellings_get_a_record():
    """Raised digits, digits for words and possessives: each once broke the reading of denials."""
    for text in ("I have ² coins.", "It is not five but 5.", "It does not cost 5 coins.", "No, 3 coins is not right.",
                 "It is not Leo's.", "This is not Friday's.", "\u0663 coins."):
        for p in TOWN_PROMPTS[:300]:
            assert 1 <= grade(p, text).overall <= 7
    assert denies("It does not cost 5 coins.", "five") and not denies("It is the 5 coins, not more.", "five")
    assert denies("It is not Leo's door.", "Leo") and not denies("It is Leo's door, not mine.", "Leo")


def test_random_words_are_graded_low():
    known, rng = sorted(vocabulary()), random.Random(0)
    assert_low(some(), lambda p: " ".join(rng.choices(known, k=14)).capitalize() + ".")


def test_vocabulary_covers_the_web():
    unknown = {w for text in corpus(build_town(), 4000, seed=1) for w in words(text)} - vocabulary()
    assert not unknown


def test_speed():
    sample = random.Random(2).sample(GOOD, 500)
    start = time.process_time()
    for p, a in sample:
        grade(p, a + " Hello.")
    assert len(sample) / (time.process_time() - start) > 500  # some thousands a second on an idle core
