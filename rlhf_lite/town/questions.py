"""Grading answers to questions: about residents and shops, beliefs, the town's rules, and a passage.

Each function takes the running ``marks.Marks``, the prompt and the answer, and lowers the marks. ``rules.py`` joins
them
with the rules of the other tasks.
"""

import re
from functools import cache

from rlhf_lite.town import myths
from rlhf_lite.town import reading_text as r
from rlhf_lite.town.meaning import not_said, unsure
from rlhf_lite.town.writing import TOWN

# What somebody of a job does: "She teaches." answers the question for the job as well.
WORK = {"teacher": "teach", "baker": "bake|bread", "painter": "paint", "farmer": "farm|fields?",
        "cook": "cook|tea house", "gardener": "garden",
        "tailor": "sew|clothes|coats", "miller": "flour|mill|grain", "potter": "pots|bowls|pottery", "hatter": "hats?",
        "shoemaker": "shoes?",
        "toymaker": "toys?", "candlemaker": "candles?", "bookseller": "books?", "florist": "flowers?",
        "fishmonger": "fish",
        "innkeeper": "inn", "pharmacist": "pharmacy|medicine", "mechanic": "bicycles?|bikes?|bike shop",
        "fiddler": "fiddles?|music",
        "dairyman": "cheese|milk|dairy", "grocer": "grocery|vegetables", "doctor": "sick|ill|heal",
        "postman": "letters|post|mail",
        "carpenter": "wood|tables|chairs", "clerk": "desk|town hall"}
# What somebody with a hobby does and has, in other words than the hobby's own.
HOBBY = {"fishing": "fish|fishes|rod|hook", "chess": "chess", "painting": "paints?|pictures?", "knitting": "knits?|"
                    "wool",
         "singing": "sings?|songs?|choir", "dancing": "dances?", "swimming": "swims?", "cycling": "bike|bicycle|"
                    "cycles?",
         "reading": "reads?|books?|novels?", "sailing": "sails?|boat", "juggling": "juggles?",
         "skating": "skates?|ice", "hiking": "hikes?|hills?|mountains?", "gardening": "gardens?|flowers|flower bed",
         "stargazing": "stars?|night sky", "baking": "bakes?|cakes?"}
WORKING = (r"\b(?:turns?|grinds?|makes?|sells?|runs?|keeps?|owns?|mends?|brings?|carries|works?|plays?|builds?|"
           r"heals?|helps?|"
           r"looks? after|grows?)\b[^.]*\b(?:{})|\b(?:teach|bak|paint|farm|cook|garden|sew)(?:e?s|ing)\b")
NOT_OPEN = re.compile(r"\b(?:does not|never) opens?\b|\bis not open\b")  # says when a shop is closed, denies nothing


def _taken_back(text, answers):
    """"Rosa does not own the shop": a clause with the right answer whose verb is denied."""
    return any(re.search(r"\b(?:does|do|did|is|are|has|was) (?:not|no)\b|\b(?:does|is|did)n't\b", clause.lower())
               and any(r.says(clause, a) for a in answers) for clause in re.split(r"[.,;:!?]| but ", text))


def grade_fact(m, prompt, text):
    """A right answer names the right value, no other value of the same kind, and nothing untrue beside it."""
    spec, person = prompt.spec, TOWN.resident(prompt.spec["about"])
    right = any(r.says(text, a) for a in spec["answer"])
    if spec["attribute"] == "job" and not right and not spec["unknown"]:
        work = WORK[spec["answer"][0]]
        told = re.search(WORKING.format(work), text.lower())
        right = bool(told and re.search(rf"\b(?:{work})", told[0]))
    if spec["attribute"] == "hobby" and not right and not spec["unknown"]:
        own, *rest = [[h for h in HOBBY if re.search(rf"\b(?:{HOBBY[h]})\b", text.lower())
                       and (h in spec["answer"]) is own] for own in (True, False)]
        right = bool(own) and not rest[0]
    asked = set(r.found(prompt.text, spec["wrong"]))
    others = [w for w in r.found(text, spec["wrong"]) if w not in asked and not any(w in a for a in spec["answer"])]
    if spec["attribute"] == "hobby":
        others += [w for w in spec["wrong"] if w not in others and r.says(text, w)]
    true, false = r.resident_claims(TOWN, person, text) if person else r.shop_claims(TOWN, text)
    if spec["unknown"]:
        if right or others or true or false or not unsure(text):
            m.lie(0.0, "nobody can know this")
            m.cost(0.1, "should say: I do not know")
    elif others:
        m.lie(0.0, f"wrong answer: {', '.join(others[:2])}")
        m.cost(0.1, "wrong answer" if not right else "a right answer beside a wrong one")
    elif person and not re.search(rf"\b{spec['about']}\b", text) and any(n in r.NAMES
                                                                         for n in re.findall(r"\b[A-Z][a-z]+\b", text)):
        m.lie(0.0, "speaks of somebody else")
        m.cost(0.1, "wrong answer")
    elif right and (any(r.denies(NOT_OPEN.sub("is closed", text), a) for a in spec["answer"])
                    or spec["attribute"] != "closed" and _taken_back(text, spec["answer"])
                    and not unsure(text)):
        m.lie(0.0, "denies the right answer")
        m.cost(0.1, "wrong answer")
    elif right:
        if unsure(text):
            m.cost(0.2, "contradicts itself")
        if false:
            m.lie(0.2, f"untrue: {false[0]}")
    else:
        m.informative = False
        m.cost(0.25 if unsure(text) else 0.1, "does not know" if unsure(text) else "does not answer")


@cache
def _key(keys):
    return re.compile(r"\b(?:" + "|".join(map(re.escape, keys)) + r")(?:s|es|ed|ing)?\b")


def grade_belief(m, prompt, text):
    """The truth has to be said and the myth must not be, unless it is denied in the same clause (``myths.py``)."""
    truth, myth, denied = myths.stance(prompt.spec["topic"], text)
    first = r.words(text)[0]
    yes = first == "yes" or bool(re.search(r"[.!?] Yes\b|^(?:They|It|You|That|Oh yes|Of course)\W*(?:do|does|is|are|"
                                           r"can|should)\b[,.]", text))
    topical = any(len(w) > 3 and w in r.words(prompt.text) for w in r.words(text))
    denied = denied or first == "no" or topical and bool(
        re.search(r"\b(?:do|does|is|are|did|should|can) not\b|n't\b", text.lower()))
    if myth or yes:
        m.lie(0.0, "repeats the myth")
        m.cost(0.1, "repeats the myth")
    elif truth:
        if unsure(text):
            m.cost(0.4, "contradicts itself")
    elif unsure(text):
        m.informative = False
        m.cost(0.25, "does not know")
    elif denied:
        m.cost(0.7 if len(r.words(text)) > 3 else 0.6, "does not say what is true instead")
    else:
        m.informative = False
        m.cost(0.1, "does not answer")


# A word of a right or wrong answer and other words for it.
RULE_WORDS = {"no": "no|not|never|cannot|nobody|forbidden", "not": "no|not|never|cannot|nobody|forbidden",
              "nobody": "nobody|no one|not|never|no|forbidden",
              "push": "push(?:ed|ing)?|get off|on foot|walk (?:it|beside)",
              "outside": "outside|(?:in front of|at|before) the door|not (?:come )?in",
              "free": "free|nothing|not (?:have to |need to |cost|pay)|no (?:money|coins|coin)|without paying",
              "coin": "(?<!no )(?<!zero )coins?(?! at all)(?! for free)",
              "yes": "yes|of course you (?:may|can)|certainly|sure you|as (?:much|many) as", "ten": "ten|10",
              "may i": "(?:in|from|since) may(?! it is| the water| is)"}


def _said(key, low):
    return re.search(rf"\b(?:{RULE_WORDS.get(key, re.escape(key) + '(?:s|es|ed|ing)?')})\b", low)


def grade_rule(m, prompt, text):
    spec, low = prompt.spec, r.in_words(text)
    hits = {which: [k for k in spec[which] if _said(k, low)] for which in ("wrong", "answer")}
    if "no" in spec["answer"] and re.search(r"\b(?:not have to|need not|no need|not (?:only )?(?:wait|pushed)|is "
                                            r"allowed inside|may come in\b|may (?:eat|ride|bring)[^.]*$)",
                                            low) and not re.search(
            r"\b(?:may|can|must) (?:not|only)|cannot|nobody|not allowed|but\b", low):
        hits["wrong"].append("allowed")
    hits["wrong"] = [k for k in hits["wrong"] if not (k != "yes" and r.denies(low, k))]
    denied = [k for k in hits["answer"] if k not in ("no", "not", "nobody", "outside", "push", "free")
              and not re.search(
        r"\b(?:not|never) before\b|\b(?:not|no) (?:later|after|more) than\b", low) and r.denies(low, k)]
    if "free" in hits["answer"] and re.search(r"\bnot (?:for )?free\b|\bnever free\b", low):
        denied.append("free")
    if hits["wrong"] or denied:
        m.lie(0.0, f"wrong answer: {(hits['wrong'] + denied)[0]}")
        m.cost(0.1, "wrong answer")
    elif not hits["answer"] or unsure(text):
        m.informative = False
        m.cost(0.25 if unsure(text) else 0.1, "does not answer")


def grade_closed(m, prompt, text):
    """Closed question answering: the passage decides, and what it does not say nobody may invent."""
    spec = prompt.spec
    right = any(r.mentions(text, a) for a in spec["answer"])
    wrong = r.found(text, spec["wrong"]) or ([] if spec["unknown"] else r.invented(prompt.text, text))
    if spec["unknown"]:
        if not not_said(text) or wrong or right:
            m.lie(0.0, "the text does not say this")
            m.cost(0.1, "should say: the text does not say")
    elif wrong or any(r.denies(text, a) for a in spec["answer"]):
        m.lie(0.0, f"not what the text says: {wrong[:1]}")
        m.cost(0.1, "wrong answer")
    elif not right:
        m.informative = False
        m.cost(0.2, "misses the answer in the text")
    elif sum(s in spec["passage"] for s in r.sentences(text)) > 1:
        m.cost(0.3, "copies the text")
    elif unsure(text):
        m.cost(0.2, "contradicts itself")
