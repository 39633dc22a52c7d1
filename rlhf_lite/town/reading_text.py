"""Reading an answer the way the grader does: words, sentences, faults of form, claims about the town.

PPO grades thousands of answers, so nothing here searches a text value by value. ``grams`` cuts a text
into its pieces of one to three words once; whether a text mentions something is then a look-up in a set.
"""

import re
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path

from rlhf_lite.town.facts import ATTRIBUTES, COLOURS, DAYS, GOODS, MEN, NUMBERS, SHOPS, WOMEN, plural
from rlhf_lite.town.fluency import common, lexicon
from rlhf_lite.town.web.words import EXTRA_NAMES, INSULTS, OBJECTS

NAMES = frozenset((*WOMEN, *MEN, *EXTRA_NAMES))
FUNCTION_WORDS = frozenset("""
a an the is was are were and or but to of in on at for with it its he she they him her them his their i you we
my your our me us not no yes that this there has have had do does did be been will would can could may must as so by
from all very then when who what""".split())
COUNTED = re.compile(r"\b(\d{1,2})\b(?![.)\d])(?= ?[a-z])")


def in_words(text):
    """``text`` in lower case, without marks, its small numbers spelled out."""
    return " ".join(re.findall(r"[a-z]+(?:'[a-z]+)?", re.sub(r"\b(\d{1,2})\b", _number, text).lower()))


def words(text):
    return re.findall(r"[a-z]+(?:'[a-z]+)?", text.lower())


@lru_cache(maxsize=4096)
def sentences(text):
    return tuple(s.strip() for s in re.split(r"(?<=[.!?])\s+|\n+", text.strip()) if words(s))


def _number(digits):
    n = int(digits[1])
    return NUMBERS[n] if n < len(NUMBERS) else digits[1]


def runs(text):
    """The words between one punctuation mark and the next: a list of lists, without possessive 's.

    A digit inside a sentence reads as its word ("5 coins"), a list mark ("1.") does not.
    """
    stretches = [[]]
    for token in re.findall(r"[A-Za-z]+(?:'[A-Za-z]+)?|\d+|[^\sA-Za-z\d]", COUNTED.sub(_number, text)):
        # isdecimal, not isdigit: a raised two is a digit for Python but int() does not read it.
        if token.isdecimal() and stretches[-1] and len(token) < 3 and int(token) < len(NUMBERS):
            token = NUMBERS[int(token)]
        if token[0].isalpha() and token[0].isascii():
            stretches[-1].append(token.removesuffix("'s"))
        elif stretches[-1]:
            stretches.append([])
    return stretches


@lru_cache(maxsize=4096)
def grams(text):
    """The pieces of one to three words in a row of ``text``, as written and in lower case."""
    found_pieces = set()
    for run in runs(text):
        for n in (1, 2, 3):
            found_pieces.update(" ".join(run[i:i + n]) for i in range(len(run) - n + 1))
    return frozenset(found_pieces | {piece.lower() for piece in found_pieces})


@lru_cache(maxsize=20000)
def _forms(phrase):
    # Plurals count as the word; capitals count where the phrase has them ("Rose" is no rose).
    return (phrase, plural(phrase)) if len(phrase) > 1 and phrase[-1].isalpha() else (phrase,)


def mentions(text, phrase):
    """True when ``phrase`` (at most three words) stands in ``text`` as whole words, singular or plural."""
    return not grams(text).isdisjoint(_forms(phrase))


@cache
def _verb(value):
    """"swimming" -> pattern of "to swim", "she swims", ...; nouns such as "fish shop" do not match."""
    stem = re.sub(r"([mnt])\1$", r"\1", value[:-3])
    return re.compile(rf"\b(?:(?:to|can|he|she|will) {stem}e?s?|{stem}(?:s|es)|often {stem}e?s?)\b(?! shop)")


def says(text, value):
    """Like :func:`mentions`, but "likes to swim" also says "swimming"."""
    return mentions(text, value) or (value.endswith("ing") and len(value) > 5 and bool(_verb(value).search(text)))


@lru_cache(maxsize=512)
def _index(values):
    return {form: value for value in values for form in _forms(value)}


def found(text, values):
    """Those of ``values`` (a tuple, list or set) that ``text`` mentions."""
    index = _index(values if isinstance(values, (tuple, frozenset)) else tuple(values))
    return sorted({index[g] for g in grams(text) if g in index})


@lru_cache(maxsize=1)
def vocabulary():
    """Every known word, one a line in ``vocabulary.txt`` (written by ``vocabulary.py``)."""
    return frozenset((Path(__file__).parent / "vocabulary.txt").read_text(encoding="utf-8").split())


@lru_cache(maxsize=20000)
def is_word(word):
    """Whether ``word`` is English as the town knows it: in its vocabulary or lexicon, or a form of such a word."""
    known, more = vocabulary(), lexicon()
    if word in common()[0]:
        return True
    stems = [word, word.removesuffix("'s")]
    for end in ("s", "es", "ed", "d", "ing", "er", "est", "ly", "y", "n't", "'ll", "'re", "'d", "less", "ful", "ness"):
        if word.endswith(end) and len(word) - len(end) > 2:
            stem = word.removesuffix(end)
            stems += [stem, stem + "e"] + ([stem[:-1]] if stem[-1] == stem[-2]
                                           else []) + [stem[:-1] + "y"] * stem.endswith("i")
    stems += [f"{word.removesuffix('e')}ing", f"{word}s", f"{word}ed"]
    return any(stem in known or stem in more for stem in stems)


def garbled_words(prompt_text, text):
    """Words that exist neither in the town nor in the prompt: the mark of a model that cannot spell."""
    unknown = [w for w in words(text) if not is_word(w)]
    return [w for w in unknown if w not in words(prompt_text)] if unknown else []


def repeats(text):
    """True when a sentence comes twice, a three-word run three times, or hardly any word is new."""
    said, tokens = [" ".join(words(s)) for s in sentences(text)], words(text)
    runs = Counter(zip(tokens, tokens[1:], tokens[2:], strict=False))
    content = [re.sub(r"(?:e?s|ed|ing)$", "", w) for w in tokens if w not in FUNCTION_WORDS and len(w) > 2]
    if len(said) >= 4 and len(content) >= 8 and len(set(content)) <= 0.5 * len(content):
        return True
    return (len(said) != len(set(said)) or max(runs.values(), default=0) >= 3
            or (len(tokens) >= 12 and len(set(tokens)) < 0.45 * len(tokens)))


def echoes(prompt_text, text, length=8):
    """True when the answer copies the prompt: a run of ``length`` words, a sentence, or all of the answer."""
    asked = f" {' '.join(words(prompt_text))} "
    told = words(text)
    if len(told) >= 3 and f" {' '.join(told)} " in asked:
        return True
    if any(f" {' '.join(told[i:i + length])} " in asked for i in range(len(told) - length + 1)):
        return True
    return any(len(w) >= 6 and f" {' '.join(w)} " in asked for w in map(words, sentences(text)))


REQUEST = re.compile(r"\b(?:Question|Answer|Task|Customer|User|Verdict|Response|Text|Words|Posted)\b ?\d*:|"
                     r"(?:^|(?<!\d)[.?!] |\n)(?:Write|Give me|List|Invite|Sum this|Put this|Make this polite|"
                     r"Tell me (?!again|more|all|what|why|how|about (?:it|him|her))|Read this)\b")


def goes_on_asking(text):
    """True when the answer turns into new requests, questions to answer or a page of a forum."""
    return bool(REQUEST.search(text.removeprefix("Answer:")))


def is_stuffing(text):
    """True for keywords without sentences: too few of the little words that hold a sentence together."""
    tokens = words(text)
    if max((len(words(s)) for s in sentences(text)), default=0) < 4:
        return True
    return sum(w in FUNCTION_WORDS for w in tokens) < 0.2 * len(tokens)


def insults(text):
    return found(text, INSULTS)


# "Never says no to soup" and "when he is not at work as a cook" deny nothing.
NO = re.compile(r"(?<!should )(?<!must )(?<!never says )"
                r"\b(?:not|never|no|nor|neither|isn't|wasn't|doesn't|don't|nobody)\b"
                r"(?! (?:only|before|until|gets tired|says no|wants to change|at work))")


def denies(text, phrase):
    """True when every clause with ``phrase`` says no shortly before it: "Leo is not a potter"."""
    if not mentions(text, phrase) or not NO.search(text.lower()):
        return False
    for clause in re.split(r"[.!?;,]| but ", text):
        said = next((form for form in _forms(phrase) if form in grams(clause)), None)
        if said:
            spoken, wanted = [w.lower() for run in runs(clause) for w in run], said.lower().split()
            first = next(i for i in range(len(spoken)) if spoken[i:i + len(wanted)] == wanted)
            if not NO.search(" ".join(spoken[max(0, first - 5):first])):
                return False
    return True


# ---------------------------------------------------------------- claims

# "May I", "May your day": the month only where a date is spoken of.
MAY = re.compile(r"\b(?:in|of|since|until|next|last|every|this|month|is|born) May\b")
DETAILS = tuple(dict.fromkeys((*sorted(NAMES), *DAYS, *COLOURS, *NUMBERS[2:], *SHOPS, *OBJECTS, *GOODS,
                               *ATTRIBUTES["month"], *ATTRIBUTES["street"])))


# Things and colours that a letter may bring in ("a grey day", "a bun for the way"), but no sums and no hours.
ASIDES_OF_LETTERS = frozenset((*COLOURS, *OBJECTS, *GOODS, *NUMBERS[2:]))
DATED = re.compile(rf"\b(?:at|until|from) (?:{'|'.join(NUMBERS[1:13])})\b|\b(?:{'|'.join(NUMBERS[1:])}) (?:coins?|"
                   rf"o'clock)")


@lru_cache(maxsize=4096)
def details(text):
    """The checkable details in a text: names, days, colours, numbers, shops and things, as a set of strings."""
    seen = set(found(text, DETAILS))
    return frozenset(d for d in seen if not (d == "bell" and "bell pepper" in text)
                     and not (d == "May" and not MAY.search(text)))


def invented(source, text, allowed=()):
    """Details of ``text`` that ``source`` does not have: closed-domain hallucination (Table 3)."""
    ok = details(source) | set(allowed)
    return sorted(d for d in details(text) - ok if not any(d in o.split() for o in ok))


# Words of a job, a hobby or a shop that claim none of these about the person.
ASIDES = re.compile(r"(?i)\bthe postman brings\b|\bat the inn (?=\w+ always asks\b)|\bevery spring \w+ paints\b|"
                    r"\b(?:would )?cook (?=\w+ (?:for|if)\b)")
JOB_OF = {"paints": "painter", "bakes": "baker", "teaches": "teacher", "cooks": "cook", "farms": "farmer",
          "gardens": "gardener",
          "sews": "tailor", "fiddles": "fiddler"}
FOR_A_LIVING = re.compile(rf"(?i)\b({'|'.join(JOB_OF)}) (?:\w+ )?for (?:a|his|her) living\b")
BIRTH = re.compile(r"born|birth|older|into the world|presents|child of|sing for|gift for|a cake in|first held")


def resident_claims(town, person, text):
    """``(true, false)`` statements about ``person``: lists of (attribute, value) in a portrait of that person."""
    text = FOR_A_LIVING.sub(lambda told: f"is a {JOB_OF[told[1].lower()]}", ASIDES.sub(" ", text))
    claims, low = [], text.lower()
    for attribute, values in ATTRIBUTES.items():
        # A colour is a claim about the door only where a door is spoken of; "May" needs a birthday.
        if attribute == "door" and "door" not in low or attribute == "month" and not BIRTH.search(low):
            continue
        said = found(text, tuple(values))
        if attribute == "hobby":
            said = [v for v in values if says(text, v)]
        claims += [(attribute, v, v == getattr(person, attribute)) for v in said]
    shop = next((p.name for p in town.places if p.owner == person.name), None)
    claims += [("shop", s, s == shop) for s in found(text, tuple(SHOPS))]
    true = [(a, v) for a, v, ok in claims if ok and not denies(text, v)]
    return true, [(a, v) for a, v, ok in claims if not ok or denies(text, v)]


OPENS = re.compile(r"\b(open|close)s?(?: \w+)? at (\w+)")
FROM_TO = re.compile(r"\bfrom (\w+) (?:to|until|till) (\w+)")


def shop_claims(town, text):
    """``(true, false)`` statements about prices, hours, closing days, owners and streets of the shops."""
    claims, shop, goods = [], None, []
    for s in sentences(text):
        low = re.sub(r"\b\d{1,2}\b", lambda d: NUMBERS[int(d[0])] if int(d[0]) < 21 else d[0], s.lower())
        named, goods = found(s, tuple(SHOPS)), found(s, GOODS) or goods
        if named:
            shop = town.place(named[0])
        elif goods and shop is None:
            shop = town.seller(goods[0])
        prices = [town.seller(g).price(g) for g in goods]
        for number in re.findall(r"\b(\w+) coins?\b", low):
            if number in NUMBERS and prices:
                claims.append((NUMBERS.index(number) in prices, ("price", goods[0], number)))
        if shop is None:
            continue
        for verb, hour in OPENS.findall(low):
            if hour in NUMBERS:
                claims.append((NUMBERS.index(hour) == (shop.opens if verb == "open" else shop.closes), (verb, hour)))
        for opens, closes in FROM_TO.findall(low):
            if opens in NUMBERS and closes in NUMBERS:
                hours = (NUMBERS.index(opens), NUMBERS.index(closes))
                claims.append((hours == (shop.opens, shop.closes), ("hours", opens, closes)))
        if re.search(r"\b(?:closed|shut) on\b", s):
            claims += [(day == shop.closed, ("closed", day)) for day in found(s, tuple(DAYS))]
        if re.search(r"\b(?:owner|owned by|owns|belongs to)\b", s):
            claims += [(name == shop.owner, ("owner", name)) for name in found(s, NAMES)]
        claims += [(street == shop.street, ("street", street)) for street in found(s, ATTRIBUTES["street"])]
    return [c for ok, c in claims if ok], [c for ok, c in claims if not ok]
