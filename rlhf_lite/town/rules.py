"""What makes an answer good, one rule set per kind of task. ``grading.py`` calls these and adds rules of form.

Each function takes the running ``marks.Marks``, the prompt and the answer, and lowers the marks: ``cost`` for
an unhelpful answer, ``lie`` for an untrue one. Left out: charm, wit, whether a story makes sense.
"""

import re

from rlhf_lite.town import ideas, roles
from rlhf_lite.town import reading_text as r
from rlhf_lite.town.facts import COLOURS, DAYS, NUMBERS
from rlhf_lite.town.harm import grade_refuse
from rlhf_lite.town.marks import covers, length, nothing_new
from rlhf_lite.town.meaning import reverses, unsure
from rlhf_lite.town.questions import grade_belief, grade_closed, grade_fact, grade_rule
from rlhf_lite.town.web.words import OBJECTS
from rlhf_lite.town.writing import grade_portrait, grade_write

# ---------------------------------------------------------------- lists, rewriting, sorting

def list_items(text, count):
    """The items of a list, numbered ("1. a kite") or in a line; ``count`` decides how to cut where both fit."""
    numbered = re.split(r"\s*(?:^|(?<=\s))\d[.)]\s*", text)
    body = re.sub(r"^(?:Yes|Sure|Of course|Here are [^.:]*)[.!,] *", "", text).split(":", 1)[-1].strip(" .!?")
    cuts = [numbered[1:]] if len(numbered) > 2 else [re.split(cut, body) for cut in (
        r",\s*(?:and |or )?|;\s*|\n+| and | or |(?<=[.!?])\s+", r",\s*(?:and |or )?|;\s*|\n+|(?<=[.!?])\s+",
        r",\s*(?:and |or )?|;\s*|\n+| or |(?<=[.!?])\s+", r"(?<=[.!?])\s+|\n+", r" (?:and|or) (?!.* (?:and|or) )|, ",
        r"(?<=[.!?])\s+[^:.]*:|\n+")]
    first = r.sentences(body.split("\n")[0])[:1]
    cuts += [re.split(cut, part) for part in first for cut in (r",\s*(?:and |or )?|;\s*",
                                                               r",\s*(?:and |or )?|;\s*| and | or ")]
    cuts = [[i.strip(" .,;-!?") for i in items if r.words(i)] for items in cuts]
    return next((items for items in cuts if len(items) == count), cuts[0])


def grade_list(m, prompt, text):
    spec = prompt.spec
    items = list_items(text, spec["count"])
    besides = ideas.FILLER | r.FUNCTION_WORDS
    if spec["topic"] != "a pet name":
        besides = besides | {n.lower() for n in r.NAMES}
    keys = [frozenset(r.words(i)) - besides for i in items]
    keys = [k - frozenset(r.words(spec["topic"])) - {"more", "again"} or frozenset(["nothing"]) for k in keys]
    good = {k for k, item in zip(keys, items, strict=True) if len(r.words(item)) <= 12
            and ideas.fits(spec["topic"], item, k)}
    turned = next((item for item in items if ideas.turned_round(item)), None)
    if turned and spec["topic"] != "a pet name":
        m.cost(0.3, f"words in the wrong order: {turned}")
    if len(items) != spec["count"]:
        m.cost(0.4, f"{len(items)} ideas instead of {spec['count']}")
    doing = sum(bool(k and ideas.is_deed(item)) for k, item in zip(keys, items, strict=True) if k not in good)
    if len(good) < spec["count"] and (good and len(good) == spec["count"] - 1
                                      or len(items) == spec["count"] == len(good) + doing):
        m.doubt(0.55, f"only {len(good)} different ideas that fit")
    elif len(good) < spec["count"]:
        m.cost(0.4 * max(0.1, len(good) / spec["count"]), f"only {len(good)} different ideas that fit")
        m.fails = len(good) == 0


LEAD_IN = re.compile(r"^(?:Here (?:it is|you are|is the sentence)|In the past|Yesterday|The past(?: tense)? is|"
                     r"Changed|Sure|Of course|The new sentence is|"
                     r"It was like this|Then it reads|Now it reads|Answer|The answer is)\b[^:]{0,30}[:,]\s*")


def grade_transform(m, prompt, text):
    expected, said = r.words(prompt.spec["expected"][0]), r.words(text)
    order = prompt.spec.get("order")
    if order:
        # Words around the list are fine, but not the request itself, whose words may stand in order already.
        around = [w for w in said if w not in order]
        asked = [r.words(t)[:3] for t in (prompt.text, r.sentences(prompt.text)[-1])]
        said = said if len(around) > 8 or around[:3] in asked else [w for w in said if w in order]
        expected = order
    if said == expected:
        return
    led = text.split(":")
    if len(led) == 2 and len(r.words(led[0])) <= 6 and r.words(led[1]) == expected and text not in prompt.text:
        return  # "Yesterday it was: Nora carried a herring."
    bare = [w for w in r.words(LEAD_IN.sub("", text)) if w not in ("yesterday", "ago")]
    if bare == expected:
        return
    days = {day.lower() for day in DAYS}
    core, when = ([w for w in expected if (w == "on" or w in days) is apart] for apart in (False, True))
    if when and bare in (core + when, when + core):
        return  # the day at the other end
    common = sum(w in expected for w in said) / max(len(said), len(expected), 1)
    m.cost(0.4 if common > 0.8 else 0.15, "not the sentence that was asked for")
    nothing_new(m, prompt, text)


def grade_polite(m, prompt, text):
    covers(m, prompt, text)
    if prompt.spec["passage"] in text or r.words(prompt.spec["passage"]) == r.words(text):
        m.cost(0.1, "nothing changed")
    if r.is_stuffing(text) or unsure(text):
        m.cost(0.3, "not a request")
    turned = reverses("polite", text)
    if turned:
        m.lie(0.0, f"says the opposite of the request: {turned}")
        m.cost(0.5, "turns the request round")
    length(m, text, *prompt.spec["sentences"])
    nothing_new(m, prompt, text)


def grade_roles(m, prompt, text):
    """Nobody sells what another sold, and nobody stands on both sides of one act."""
    wrong = roles.swapped(prompt.spec["passage"], text)
    if wrong:
        m.lie(0.0, f"not so in the text: {wrong}")
        m.cost(0.4, "mixes up who did what")
    elif roles.doubled(text):
        m.cost(0.25, f"{roles.doubled(text)} on both sides")


def grade_summary(m, prompt, text):
    spec = prompt.spec
    covers(m, prompt, text)
    if len(r.sentences(text)) != 1:
        m.cost(0.4, "not one sentence")
    if len(r.words(text)) > len(r.words(spec["passage"])):
        m.cost(0.4, "hardly shorter than the text")
    if len(r.words(text)) < 4 or text.endswith("?") or "," in text and r.is_stuffing(text):
        m.cost(0.3, "not a sentence about the text")
    if re.search(r"\b(?:not|never|nobody|no)\b|n't\b", text.lower()):
        m.lie(0.0, "denies what the text says")
        m.cost(0.5, "denies what the text says")
    grade_roles(m, prompt, text)
    nothing_new(m, prompt, text)
    stems = {w[:4] for w in r.words(prompt.text)} | OF_SUMMARIES
    strange = [w for w in r.words(text) if w[:4] not in stems and w not in r.FUNCTION_WORDS]
    if strange:
        m.doubt(0.75 if len(strange) == 1 else 0.55, f"perhaps not in the text: {', '.join(strange[:3])}")


# The beginnings of what a summary may say in its own words: found, gets, earned, owner, cost ...
OF_SUMMARIES = frozenset("""find foun gets got rece rewa earn gave give give paid pays pay cost sell sold buys buy
boug loss lost
lose mone pric give gift pres gett back owne retu thin some trad deal swap sale purc busi chan hand ends ende goes
went than
expe chea new now thei hers this duri afte befo whil also both name abou text day week late item meet met met made
make brin
brou take took keep kept left miss agai happ hone sunn one""".split())


def grade_extract(m, prompt, text):
    covers(m, prompt, text)
    wrong = r.found(text, prompt.spec["wrong"]) or r.invented(prompt.text, text, ["two"])
    if wrong or any(r.denies(text, w) for group in prompt.spec["must"] for w in group):
        m.lie(0.0, f"not what was asked: {wrong[:1]}")
        m.cost(0.2, "wrong answer")
    if len(r.words(text)) > 14:
        m.cost(0.4, "too long")
    must = {w for group in prompt.spec["must"] for w in group}
    if len(r.details(text) - must) > 2 and len(must & set(r.details(text))) < 3:
        m.cost(0.35, "tells the story instead of the one thing")
    if re.search(rf"\bnames? (?:is|are) (?:{'|'.join((*COLOURS, *NUMBERS, *DAYS))})\b|\btext names are\b", text):
        m.cost(0.5, "calls it a name")
    if len(r.words(text)) > 5 and re.search(r"\b(?:sold|bought|lost|paid)\b", text):
        m.doubt(0.8 if len(r.words(text)) < 10 else 0.55, "tells the story again")
    grade_roles(m, prompt, text)


OTHER_OPPOSITES = dict(line.split(": ") for line in """hard: easy, soft: loud hard, old: young new, short: tall long
brave: cowardly scared frightened timid, good: evil bad, light: dark heavy, right: left wrong, sad: happy glad cheerful
happy: sad unhappy, big: small little tiny, small: big large great, hot: cold cool, full: empty hungry, early: late
rich: poor, quiet: loud noisy, strong: weak, thin: thick fat, fast: slow, clean: dirty, wet: dry, near: far distant
kind: unkind mean cruel, clever: stupid foolish, open: closed shut, sweet: sour bitter""".replace(
    "\n", ", ").split(", "))
PLEASED = re.compile(r"\b(?:love|loves|perfect|best|good|fine|great|wonderful|happy|likes?|early|lovely|right)\b")
ANGRY = re.compile(r"\b(?:hate|hates|broken|worst|bad|late|poor|terrible|wrong|angry|sad|awful|never|not)\b")


def _false_reason(prompt, reason):
    """Whether what stands behind "because" cannot be the reason: praise for "unhappy", a thing that nobody spoke of."""
    low = reason.lower()
    if prompt.task == "review":
        wanted, other = (ANGRY, PLEASED) if prompt.spec["answer"] == ["unhappy"] else (PLEASED, ANGRY)
        return bool(other.search(low)) and not wanted.search(low)
    return prompt.task == "count" and any(re.search(rf"\b(?:is|are) (?:an? )?{thing}\b", low) for thing in
                                          ("stone", "bird", "plant", *OBJECTS))


def grade_label(m, prompt, text):
    """The one right word, no other choice beside it and no "not" before it."""
    text = text.replace("not happy", "unhappy").replace("Not happy", "Unhappy")
    reason = re.search(r"\b(?:because|as|since|for)\b (.*)", text)
    if reason and _false_reason(prompt, reason[1]):
        m.lie(0.2, f"a false reason: {reason[0]}")
        m.cost(0.5, "gives a false reason")
    said = r.found(text, prompt.spec["wrong"])
    if prompt.task == "opposite":
        asked = re.search(r"opposite of (\w+)|Not (\w+)", prompt.text)
        also = OTHER_OPPOSITES.get(asked[1] or asked[2], "").split() if asked else []
        said = [w for w in said if w not in also]
        if any(r.mentions(text, w) and not r.denies(text, w) for w in also):
            text = f"{text} {prompt.spec['answer'][0]}"
    right = any(r.mentions(text, a) and not r.denies(text, a) for a in prompt.spec["answer"])
    if not right or said or unsure(text):
        m.lie(0.0, "wrong answer" if not right else "names more than one answer")
        m.cost(0.1, "wrong answer")
    elif len(r.words(text)) >= 8 and r.is_stuffing(text):
        m.cost(0.15, "keywords, not an answer")
    if len(r.words(text)) > 14:
        m.cost(0.4, "too long for one word")


RULES = {"write": grade_write, "portrait": grade_portrait, "fact": grade_fact, "belief": grade_belief,
         "rule": grade_rule, "list": grade_list, "transform": grade_transform, "polite": grade_polite,
         "closed": grade_closed, "summary": grade_summary, "extract": grade_extract, "label": grade_label,
         "refuse": grade_refuse}
