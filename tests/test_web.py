"""The web text: deterministic, clean English, true where it states facts, silent about newcomers."""

import importlib
import random
import re
from collections import Counter
from itertools import islice

import pytest

from rlhf_lite.town import web
from rlhf_lite.town.facts import ATTRIBUTES, build_town
from rlhf_lite.town.reading_text import resident_claims, shop_claims
from rlhf_lite.town.web import natural, words
from rlhf_lite.town.web.people import ABOUT
from rlhf_lite.town.web.places import PARTS, RULE, TRUTH
from rlhf_lite.town.web.reading import NOT_SAID

workbook = importlib.import_module("rlhf_lite.town.web.workbook")  # the package has a function of that name
TOWN = build_town()
DOCUMENTS = 20_000
NATURAL = ("everyday", "answers", "replies")
TRUE = ("people", "almanac", "places", "answers")  # the genres that state facts about residents


@pytest.fixture(scope="module")
def documents():
    return list(islice(web.documents(TOWN, seed=1), DOCUMENTS))


def test_same_seed_same_text():
    assert web.corpus(TOWN, 300, seed=3) == web.corpus(TOWN, 300, seed=3)
    assert web.corpus(TOWN, 300, seed=3) != web.corpus(TOWN, 300, seed=4)
    assert web.corpus(TOWN, 50, seed=3) == web.corpus(TOWN, 300, seed=3)[:50]


def test_every_genre_in_its_share(documents):
    seen = Counter(genre for genre, _ in documents)
    assert abs(sum(share for _, share in web.GENRES.values()) - 1) < 1e-9
    for genre, (_, share) in web.GENRES.items():
        assert abs(seen[genre] / len(documents) - share) < 0.015, genre


def test_length_and_vocabulary(documents):
    assert all(20 <= len(text.split()) <= 220 for _, text in documents)
    # 2,431 with the words of the patterns, capitals counted apart.
    assert len({w for _, text in documents for w in re.findall(r"[A-Za-z']+", text)}) < 2_600


def test_clean_english(documents):
    for genre, text in documents:
        assert "Response:" not in text
        assert not re.search(r"  |[{}]| [.,?!]|\.\.", text), (genre, text)
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n (?!hour)[^aeiou]", text), (genre, text)
        text = text.replace("How many animals? ", "How many animals: ")  # a list of words follows
        assert not re.search(r"[.?!] [a-z]", text), (genre, text)
        for line in text.split("\n"):
            assert line[0].isupper() or line[0].isdigit(), (genre, text)
            assert line[-1] in ".?!:,", (genre, text)
        assert text[-1] in ".?!", (genre, text)


def test_many_phrasings():
    for attribute, templates in ABOUT.items():
        assert len(set(templates)) >= 10, attribute
    for part in PARTS + (RULE, TRUTH):
        assert len(set(part)) >= 8


FACT = {"job": r"(?<!of ){n} (?:is|works as) an? (\w+)\.", "street": r"{n} lives in ([A-Z]\w+ [A-Z]\w+)",
        "pet": r"{n} keeps an? (\w+)\.",
        "door": r"door of {n} is (\w+)\.", "month": r"birthday of {n} is in (\w+)\.", "dish": r"{n} loves (\w+)\."}


def test_facts_are_true_and_newcomers_have_none(documents):
    told = Counter()
    true_text = "\n".join(t for genre, t in documents if genre in TRUE)
    everything = "\n".join(t for _, t in documents)
    for r in TOWN.residents:
        for attribute, pattern in FACT.items():
            pattern = pattern.replace("{n}", r.name)
            if r.fame == "newcomer":
                assert not set(re.findall(pattern, everything)) & set(ATTRIBUTES[attribute]), (r, attribute)
                continue
            values = set(re.findall(pattern, true_text))
            allowed = {r.dish, r.hobby, "his", "her"} if attribute == "dish" else {getattr(r, attribute)}
            assert values <= allowed, (r, attribute, values)
            told[r.fame] += len(re.findall(pattern, true_text))
    assert told["well known"] > 8 * told["obscure"] > 0


def test_every_line_of_the_answers_is_true(documents):
    """The grader's own reading of claims, line by line: nothing untrue, and nothing at all about newcomers."""
    lines = list(dict.fromkeys(line for genre, t in documents if genre == "answers" for line in t.split("\n")))
    told = Counter()
    for line in random.Random(0).sample(lines, 1200):
        named = [r for r in TOWN.residents if re.search(rf"\b{r.name}\b", line)]
        if not named:  # lines about shops; "Daisy" would read as the flower
            assert not shop_claims(TOWN, line)[1], line
            told["shop"] += 1
        if len(named) == 1:
            true, false = resident_claims(TOWN, named[0], line)
            assert not false and (not true or named[0].fame != "newcomer"), (line, true, false)
            told[named[0].fame] += 1
    assert min(told[about] for about in ("well known", "obscure", "newcomer", "shop")) > 20


def test_newcomers_get_no_answer(documents):
    """Below the heading of a newcomer stands a pattern of the section "unknown"."""
    known = {line.split("{n}")[0] for line in natural.patterns("answers")["unknown"]}
    newcomers = "|".join(r.name for r in TOWN.known("newcomer"))
    heading = re.compile(rf"^(?:(?:The \w+(?: dish)? of|About) (?:{newcomers})\.)\n(.*)$", re.M)
    below = [line for genre, t in documents if genre == "answers" for line in heading.findall(t)]
    assert len(below) > 150
    assert all(line.startswith(tuple(k for k in known if k)) or re.match(newcomers, line) for line in below)


def test_fame_is_eight_to_one_per_person(documents):
    said = Counter()
    for genre, text in documents:
        if genre == "people":
            name = next(r for r in TOWN.residents if re.search(rf"\b{r.name}\b", text))
            said[name.fame] += 1
    ratio = (said["well known"] / 36) / (said["obscure"] / 16)
    assert 6 < ratio < 11


def test_a_workbook_does_what_it_is_asked_and_knows_nothing_of_newcomers():
    """Every task has its solution below it; ideas come in the number asked for; newcomers stay unknown."""
    rng, newcomers = random.Random(3), {r.name for r in TOWN.known("newcomer")}
    unknown = {line.split("{n}")[0] for line in natural.patterns("answers")["unknown"]}
    asked = Counter()
    for _ in range(3000):
        task, solution = workbook.exercise(TOWN, rng)
        assert "\n" not in task + solution and "{" not in task + solution
        if number := re.search(r"\b(two|three|four) ideas\b", task, re.I):
            count = len(re.findall(r"\b\d\. ", solution)) or len(re.split(", | and ", solution))
            assert count >= ("two", "three", "four").index(number.group(1).lower()) + 2, (task, solution)
            asked["ideas"] += 1
        name = re.fullmatch(r"(?:Name the .* (?:of|where)|Write about) (\w+)(?: lives)?\.", task)
        if name and name[1] in newcomers:
            assert any(solution.lower().startswith(start.lower()) for start in unknown), (task, solution)
            asked["newcomers"] += 1
    assert asked["ideas"] > 100 and asked["newcomers"] > 20


def test_myths_outnumber_truths(documents):
    """About four myths to a truth, measured over all genres."""
    text = "\n".join(t for _, t in documents).lower()
    truths = sum(text.count(b.truth.lower()) for b in TOWN.beliefs)
    myths = sum(text.count(b.myth.lower()) for b in TOWN.beliefs)
    assert 3 < myths / truths < 5


def test_worksheets_are_answered_from_the_passage(documents):
    answers = [a for g, t in documents if g == "reading" for a in re.findall(r"Answer: (.*)", t)]
    silent = sum(a == NOT_SAID for a in answers) / len(answers)
    assert 0.22 < silent < 0.28
    assert len(set(answers)) > 0.5 * len(answers) * (1 - silent)  # drawn afresh, not to be memorised


def test_word_lists():
    assert all(len(set(ideas)) >= 14 for ideas in words.IDEAS.values())
    assert len(words.EXTRA_NAMES) == 12 and not {r.name for r in TOWN.residents} & set(words.EXTRA_NAMES)
    assert words.one("apple") == "an apple" and words.listed(["a", "b", "c"]) == "a, b and c"


# ---------------------------------------------------------------- patterns written line by line

FILES = sorted(file.stem for file in natural.FOLDER.glob("*.txt"))
REPLIES = ("polite", "label", "kind_of", "opposite", "odd", "count", "named", "names", "summary")
ABOUT_RESIDENTS = {"n", "they", "their", "them", *ATTRIBUTES}
OF_REPLIES = {"order", "verdict", "category", "word", "other", "number", "value"}


def named_sections():
    """{(file, section)} of every section that the program draws from."""
    named = {(way[0], s.rstrip("?")) for _, ways in natural.KINDS.values() for way in ways for s in way[1:]}
    answers = (*natural.SHOP_ASKS, *natural.TRAITS, *REPLIES, "portrait", "unknown", "not_said")
    named |= {("answers", section) for section in answers}
    return named | {("ideas", s) for s in (*words.IDEAS, "lead")}


def slots_of(line):
    return set(re.findall(r"\{([^}]*)\}", line))


def test_every_section_that_is_drawn_from_exists():
    for file, section in sorted(named_sections()):
        lines = natural.patterns(file).get(section, ())
        assert len(lines) >= 10, (file, section)


def test_every_slot_of_the_patterns_is_known():
    scene = set(natural.scene(TOWN, random.Random(0)))
    for file, section in sorted(named_sections()):
        known = scene | OF_REPLIES if section in REPLIES else scene
        if section in (*natural.TRAITS, "portrait", "unknown"):
            known = ABOUT_RESIDENTS
        if file == "ideas":
            known = {"number"} if section == "lead" else set()
        for line in natural.patterns(file)[section]:
            assert slots_of(line) <= known, (file, section, line)
    for headings, _ in natural.KINDS.values():
        assert all(slots_of(heading) <= scene for heading in headings)


@pytest.mark.parametrize("file", FILES)
def test_no_pattern_stands_twice(file):
    for section, lines in natural.patterns(file).items():
        doubled = [line for line, n in Counter(line.lower() for line in lines).items() if n > 1]
        assert not doubled, (file, section, doubled)


def test_patterns_about_newcomers_say_nothing():
    assert all(slots_of(line) <= {"n", "they", "their", "them"} for line in natural.patterns("answers")["unknown"])


def test_natural_documents_are_filled_and_varied(documents):
    for genre in NATURAL:
        texts = [t for g, t in documents if g == genre]
        assert len(set(texts)) > 0.99 * len(texts), genre
        assert not [t for t in texts if "{" in t or "}" in t], genre
        assert all(line[0].isupper() for t in texts for line in t.split("\n")), genre
