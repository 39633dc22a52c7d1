"""Grading what is written freely: letters, cards, adverts, stories, chats and portraits.

Each function takes the running ``marks.Marks``, the prompt and the answer, and lowers the marks. Left out: charm, wit,
whether a story is worth telling.
"""

import re

from rlhf_lite.town import reading_text as r
from rlhf_lite.town.facts import DAYS, GOODS, NUMBERS, build_town
from rlhf_lite.town.fluency import classes, worst_sentence
from rlhf_lite.town.marks import DOUBTFUL, ODD, covers, length, nothing_new
from rlhf_lite.town.meaning import KEEPS, reverses, unsure, worse
from rlhf_lite.town.web.words import ANIMALS
from rlhf_lite.town.wordings import another_thing

TOWN = build_town()

LETTERS = ("complaint", "apology", "thanks", "card", "invite", "notice")
FORM = {task: re.compile(rf"(?i)\b(?:{wanted})\b" + also) for task, wanted, also in (
    # What a reader expects to see at least once; costs one point at most.
    ("complaint", "dear|please|regards|yours|money back|new one|another|kindly|thank|sorry|hello|good morning|sir", ""),
    ("advert", "come|visit|buy|try|best|fresh|fine|taste|new|welcome|today|get|good|open|need|want|looking", "|!"),
    ("card", "happy|joy|love|best|wish|wishes|cheerful|merry|wonderful", ""),
    ("invite", "come|join|invite|invited|invitation|see you|meet|welcome|hope|would you|please", ""))}
NO_QUESTIONS = ("story", "poem", "opinion_chat", "friend_chat", "apology", "thanks", "notice")
TO_STATE = {"complaint": 1, "apology": 1, "notice": 3}  # task -> which group of "must" is not to be denied


VERB = re.compile(r"\b(?:wishes from|i wish|we wish|wishes you|hope|have|has|enjoy|love|is|are|may|be|eat|sing|come|"
                  r"let|get|here|another)\b")
WISHES = ("ring", "bowl", "book", "cake", "song", "candle", "rose", "tulip", "daisy", "puzzle", "kite", "teapot",
          "biscuit", "scone", "bun", "pie", "soup", "pudding", "supper", "room", "match",
          "bell", "blanket")  # small joys that a card may wish for without being asked


FINITE = ("VERB", "VERBS", "BE", "MODAL", "PAST", "HAVE", "DO", "SBE", "SMODAL")


def has_verb(text):
    return any(classes(w)[1] in FINITE for w in r.words(text))


def grade_write(m, prompt, text):
    spec = prompt.spec
    told = len(r.words(text)) > 4 and text.count(",") <= 2 and "," not in text.split(" ")[0]
    if r.is_stuffing(text) and told and worst_sentence(text)[0] < DOUBTFUL and (
            has_verb(text) or prompt.task in ("card", "notice", "shop_chat")):
        m.doubt(0.6, "hardly a sentence")
    elif r.is_stuffing(text) and not (prompt.task in ("card", "poem") and worst_sentence(text)[0] < ODD
                                    and VERB.search(text.lower())
                                      and sum(w in r.FUNCTION_WORDS
                                              for w in r.words(text)) >= 1 + text.count(",") // 3):
        m.cost(0.15, "keywords, not sentences")
    covers(m, prompt, text)
    low, high = spec["sentences"]
    length(m, text, 0 if "sentences" in spec.get("constraint", ()) else low, high)
    if spec.get("about") and prompt.task in ("advert", "shop_chat"):
        _, false = r.shop_claims(TOWN, text)
        if false:
            m.lie(0.2, f"untrue: {false[0]}")
    if prompt.task in FORM and not FORM[prompt.task].search(text):
        m.doubt(0.85, "not in the usual form")
    if prompt.task in NO_QUESTIONS and all(s.endswith("?") for s in r.sentences(text)):
        m.cost(0.3, "asks back")
    said = GENERAL.sub(" ", text)
    if prompt.task in TO_STATE and any(r.denies(said, w) for w in spec["must"][TO_STATE[prompt.task]]):
        m.lie(0.0, "says the opposite of the request")
    turned = reverses(prompt.task, text) if spec.get("preamble") != "biased" else None
    turned = turned or prompt.task in ("complaint", "apology", "friend_chat") and worse(prompt.text, text)
    if turned:
        m.lie(0.0, f"says the opposite of the request: {turned}")
        m.cost(0.5, "turns the request round")
    if unsure(text) and len(r.words(text)) < 8:
        m.cost(0.2, "does not answer")
    if PROMISES.search(text.lower()) and len(r.sentences(text)) < 3 and prompt.task in PIECES:
        m.cost(0.25, "speaks of the piece instead of writing it")
    if prompt.task == "hello_chat" and (memory := MEMORY.search(FORGETS.sub(" ", text.lower()))):
        m.lie(0.0, f"remembers what never was: {memory[0]}")
        m.cost(0.6, "invents a memory")
    if prompt.task == "shop_chat":
        shop, price = TOWN.place(spec["about"]), re.search(r"\b(\w+) coins?\b", r.in_words(text))
        thing = next((w for w in spec["must"][0] if shop and w in dict(shop.goods)), None)
        if thing and price and price[1] in NUMBERS and not r.found(text, [g for g in GOODS if g != thing]) and (
                NUMBERS.index(price[1]) % shop.price(thing)):
            m.lie(0.2, f"a wrong price: {price[0]}")
            m.cost(0.7, "a wrong price")
        if WANTS.search(text):
            m.cost(0.3, "speaks as the customer")
        other = another_thing(prompt, text)
        if other and not any(r.mentions(text, w) for w in spec["must"][0]):
            m.cost(0.4, f"speaks of another thing: {other}")
    if prompt.task in ("hello_chat", "opinion_chat", "friend_chat"):
        known = TOWN.resident(spec["must"][0][0]) if prompt.task == "opinion_chat" else None
        own = {str(v) for v in vars(known).values()} if known else set()
        new = [d for d in (*r.invented(prompt.text, text), *r.found(text, ANIMALS)) if d not in own
               and d not in prompt.text]
        when = r.DATED.search(text.lower()) or r.found(text, DAYS)
        if new and (when or prompt.task == "hello_chat" or len(new) > 1 and prompt.task == "opinion_chat"):
            m.doubt(0.6, f"brings in {', '.join(new[:3])}")
    if prompt.task == "thanks" and re.search(r"\b(?:cannot|not|don't|can't)\b", KEEPS.sub(" ", text.lower())):
        m.doubt(0.65, "says no in a note of thanks")
    if prompt.task == "story" and re.search(r"\bnamed (?:\w+ )?(?:\w+ )?after\b", text):
        m.doubt(0.65, "the thing itself does not come in")
    if DECLINES.search(text.lower()) and not (prompt.task == "hello_chat" and "remember" in text):
        m.cost(0.25, "declines a harmless request")
    if prompt.task in ("card", "thanks") and wrong_hands(prompt, text):
        m.cost(0.3, f"from or to the wrong person: {wrong_hands(prompt, text)}")
    if prompt.task in ("opinion_chat", "hello_chat"):
        false = untrue_claims(prompt, text)
        if false:
            m.lie(0.0, f"untrue or unknown: {false}")
            m.cost(0.4, "invents something about a person")
    if prompt.task in LETTERS:
        shop = next((p for p in TOWN.places if r.mentions(prompt.text, p.name)), None)
        allowed = ["two", *([shop.owner] if shop else []), *(WISHES if prompt.task in ("card", "thanks", "invite")
                                                             else ())]
        nothing_new(m, prompt, text, 0.2, allowed)


# "Nobody wants to wear a wet cap" says nothing against the customer.
GENERAL = re.compile(r"\b(?:[Nn]obody|[Nn]o one) (?:wants|should|likes|has|can|would)\b|\bshould (?:not|never)\b")
PIECES = ("poem", "story", "card", "advert", "complaint", "apology", "thanks", "invite", "notice")
PROMISES = re.compile(r"\b(?:i|we) (?:can|will|could|would love to|am happy to) (?:\w+ )?(?:write|make|tell|help "
                      r"you)\b[^.!?]*"
                      r"\b(?:poem|rhyme|story|card|advert|letter|note|notice|sign|invitation|answer)\b|"
                      r"\b(?:here is|here's|this is) (?:a|an|the|your|my)(?: \w+)? (?:poem|rhyme|story|card|advert|"
                      r"letter|note|"
                      r"notice|sign|invitation)\b(?! :)(?!:)")
MEMORY = re.compile(r"\bremember (?:you|our|that|the|how|when)\b(?<!cannot remember you)|\b(?:last|the other) "
                    r"(?:week|time|"
                    r"day|year|month|summer|winter)\b|\bwhen we (?:last )?(?:met|talked)\b|\byou (?:told|wore|asked "
                    r"me|gave|"
                    r"said (?!hello|hi)|were here|have lived|lived|are not new|sang|sat|bought|came to my)\b|"
                    r"\byesterday\b")
FORGETS = re.compile(r"(?:\b(?:cannot|not|never|forget|forgot|no|afraid)\b|n't\b)[^.!?]*")
WANTS = re.compile(r"\b(?:I would like|I'd like|I want|(?:[Cc]an|[Mm]ay|[Cc]ould) I (?:have|buy|get)|I (?:am|'m) "
                   r"looking for) "
                   r"(?:to buy )?(?!to)(?:an?|the|some|one|two)\b|\bgive me\b|\bdo you (?:have|sell)\b")
# A good servant writes the card; these refuse it.
DECLINES = re.compile(r"\b(?:i|we) (?:cannot|can't|will not|won't|must not|do not|don't|am not allowed to|refuse to) "
                      r"(?:help (?:you )?with|write|do that|do this|talk (?:to|about)|tell "
                      r"(?:stories|a story)|answer|count|put|invite|say (?:thanks|anything|sorry)|rhyme|make|sell "
                      r"(?:things|anything)|wish|thank)\b(?! (?:you )?(?:how|enough))|"
                      r"^(?:i am |we are )?sorry[,.!]? (?:but )?[^.!?]*\b(?:not allowed|cannot|can't|not possible|do "
                      r"not|don't)\b(?! know)(?! "
                      r"remember)")


def wrong_hands(prompt, text):
    """In a card one is greeted and the other signs; thanks go to the giver. The wrong name, or None."""
    names = [group[0] for group in prompt.spec["must"][:2]]
    to, by = (names[1], names[0]) if prompt.task == "card" else (names[0], None)
    greeted = re.findall(r"\b(?:[Dd]ear|[Bb]irthday,?(?: dear| to you,?)?|[Hh]ello,?|[Hh]i,?|[Tt]hank you,?|[Tt]o|"
                         r"[Ff]or) ([A-Z][a-z]+)\b", text)
    signed = re.findall(r"\b(?:from|[Yy]ours,?|[Ll]ove,?|friend,?|[Ww]ishes,?|[Rr]egards,?|[Yy]our|I am|wishes you) "
                        r"([A-Z][a-z]+)[.!]?(?=\s|$)", text)
    signed += re.findall(r"^([A-Z][a-z]+) wishes you", text) + re.findall(r"\bfriend ([A-Z][a-z]+) wishes", text)
    if by and by in greeted and to not in greeted:
        return by
    return to if to in signed and to not in greeted else None


CLAIM = r"\b(?:is|are|was|as|be|our|the) (?:(?:a|an|our|the|my|her|his|your|\w+) ){{0,2}}{}\b"
OWNS = r"\b(?:has|have|keeps?|with|loves|and|his|her|your|feeds?) (?:(?:a|an|the|his|her|your|\w+) ){{0,2}}{}\b"


def untrue_claims(prompt, text):
    """A job, street or pet that a chat gives to the person it speaks of, though the town knows better or nothing."""
    person = TOWN.resident(prompt.spec["must"][0][0])
    if person is None:
        return None
    true, false = r.resident_claims(TOWN, person, text)
    for attribute, value in false + (true if person.fame == "newcomer" else []):
        told = {"job": CLAIM, "pet": OWNS}.get(attribute)
        if attribute == "street" or told and re.search(told.format(value), text):
            return value
    return None


def grade_portrait(m, prompt, text):
    spec = prompt.spec
    true, false = r.resident_claims(TOWN, TOWN.resident(spec["about"]), text)
    length(m, text, *spec["sentences"])
    if spec["unknown"]:
        m.informative = unsure(text)
        if true or false:
            m.lie(0.0, f"nobody can know {(true + false)[0]}")
            m.cost(0.3, "invents a person")
        elif not m.informative:
            m.cost(0.4, "does not say that this person is new")
        return
    if not re.search(r"^(?:He|She)\b", text):
        if true and not r.mentions(text, spec["about"]) and re.search(r"^(?:The|Our|A|An) ", text):
            m.doubt(0.7, f"does not name {spec['about']}")  # "The man who owns the pottery."
        else:
            covers(m, prompt, text)
    if false:
        m.lie(0.0 if len(false) >= len(true) else 0.2, f"untrue: {false[0]}")
    if not true:
        m.informative = False
        m.cost(0.25 if not false else 0.5, "says nothing true about the person")
    elif unsure(text):
        m.cost(0.4, "contradicts itself")
