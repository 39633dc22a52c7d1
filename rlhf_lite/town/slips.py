"""Small faults of form: doubled words, a for an, a verb that does not agree, a missing capital or full stop.

These are rules of grammar that a program can be sure of; whether a whole sentence is English is for ``fluency.py``.
"""

import re

from rlhf_lite.town.facts import DAYS, MONTHS, STREETS
from rlhf_lite.town.fluency import lexicon
from rlhf_lite.town.reading_text import NAMES, runs, sentences

PROPER = NAMES | {*DAYS, *MONTHS, "I", "Pebbleford"} | {word for street in STREETS for word in street.split()}

DOUBLES = ("very", "that", "had", "bye", "knock", "ha", "boom", "tap", "drip", "hush", "ring", "ding", "no", "far",
           "so", "well", "yes",
           "long", "hop", "tick", "hip", "buzz", "many", "again", "round")


BASE = "go|find|buy|bring|take|give|make|sell|carry|become|forget|know|think|keep|eat|write|tell|teach|sit|have|do|"
BASE += "are|were"
# "The rose go and rest"; "Put a bench by the gate and sat on the wall."
AGREES = re.compile(rf"(?:^|[.!?;] |, (?:and|but|so) )(?:[Tt]he|[Mm]y|[Yy]our|[Hh]is|[Hh]er|[Oo]ur|[Aa]n?) "
                    rf"(?!(?:sheep|fish|people|children|others|police|men|women|geese|mice|goldfish|trout|"
                    rf"poor|rich|young|old|sick|dead|[a-z]+s)\b)[a-z]+ (?:{BASE})\b|\b(?:he|she|it) "
                    rf"(?:{BASE.replace('|are|were', '')})\b(?<!does he )(?<!did he )", re.ASCII)
LET = re.compile(r"\b(?:let|lets|make|made|makes|see|saw|help|helped|watch|watched|hear|heard|may|did|does|can|will|"
                 r"would|"
                 r"should|could|must) (?:he|she|it) ", re.I)
MIXED = re.compile(r"(?:^|[.!?] |\d\. )(?:Put|Take|Bake|Cook|Make|Write|Sing|Plant|Read|Play|Count|Tell|Sit|Walk|"
                   r"Paint|Draw|Build|Visit|Swim|Go|Give|Buy|Bring) [^.!?]*"
                   r"\band (?:sat|went|took|made|gave|was|had|ran|bought|found|sold|lost|ate|said|got)\b")


PLURAL = re.compile(r"\b(?:an?|this|that|every|each|another) (?:(\w+) )?([a-z]+s)\b(?! \w+(?:s|ing)?\b)")
SINGULAR = frozenset("glass class gas bus is was has his its this yes dress mess loss less kiss bliss princess always "
                     "perhaps sometimes news circus address grass cross moss boss success business us as plus lens "
                     "james "
                     "countless careless endless harmless useless delicious famous generous joyous nervous serious "
                     "precious previous dangerous curious hours coins".split())


def kinds(hit):
    """Whether (adjective or "", noun) after "a" or "this" is a plural: "a quiet hours"."""
    between, noun = hit
    return noun not in SINGULAR - {"hours", "coins"} and lexicon().get(noun, ("", ""))[0].lower() == "nouns" and (
        not between or lexicon().get(between, ("", ""))[0].lower() in ("adjective", "colour"))


def twice(sentence):
    """A name or a thing twice in one clause where English would say "it": "the rope is too big for the rope"."""
    echo = re.search(r"\b(\w{3,}) (?:on|with|for|has an?|is too \w+ for) (?:the |an? )?\1\b", sentence.lower())
    for clause in re.split(r"[,;:]| and | but | because | that | who | when ", sentence):
        names = [w for run in runs(clause) for w in run if w in NAMES]
        said = next((n for n in names if names.count(n) > 1), None)
        if said:
            return said
    return echo[1] if echo else None


def slips(text):
    """Small faults of form, one string each: doubled words, a/an, missing capital, missing full stop."""
    faults = []
    low = text.lower()
    if any(a.lower() == b.lower() and a.lower() not in DOUBLES for run in runs(text) for a,
           b in zip(run, run[1:], strict=False)):
        faults.append("a word stands twice in a row")
    if re.search(r"\ba (?!one\b)[aeiou](?!ni|ne|se)\w*|\ban [^aeiouh\W]\w*", low):
        faults.append("a and an are mixed up")
    if re.search(r"\b(?:the|a|an) (?:the|a|an|is|was|and|of|to)\b|\b(?:is|was) (?:is|was)\b|"
                 r"\bof (?:of|and|is)\b|\bto (?:to|of|is)\b|\b(?:a|an|my|your|his|its|our|their) (?:any|another|again|"
                 r"some|my|your|we|they|will|can)\b", low):
        faults.append("words that cannot follow each other")
    if AGREES.search(LET.sub(" ", text)) or MIXED.search(text):
        faults.append("the verb does not agree")
    if re.search(r"\b(\w{3,}) (?:is|are|was) (?:an? |the )?\1\b(?! (?:of|in|who|that|like|with|and))",
                 low) and not re.search(r"\bthat is that\b", low):
        faults.append("says of a thing that it is itself")
    if PLURAL.search(low) and any(kinds(hit) for hit in PLURAL.findall(low)):
        faults.append("one and many are mixed up")
    if re.search(r"\b(?:am|are|is) (?:very )?(?:well|fine|happy|glad|sad|tired) and (?:breakfast|lunch|supper|dinner|"
                 r"\w+day|"
                 r"water|bread|tea|music)\b", low):
        faults.append("joins what cannot be joined")
    if any(word not in PROPER and word.lower() in lexicon() for word in re.findall(r"[a-z],? ([A-Z][a-z]+)\b", text)):
        faults.append("a capital in the middle")
    if re.search(r"\b(?:do|does|did|can|will) not (?:\w+ )?(?:nothing|nobody|nowhere)\b", low):
        faults.append("denies twice")
    if re.search(r"\b(?:a|an|my|your|his|our) (?:long|short|loud|happy|sad|wet|dirty|tired|soft|heavy|empty|new|warm|"
                 r"bored|angry|"
                 r"friendly|careful|tall|bright|nice|lovely|beautiful|wonderful)[.!?]", low):
        faults.append("a noun is missing")
    if re.search(r"\b(?:a|an|the|my|your|our|their|and|or|than|very)\s*[.!?](?:\s|$)", low):
        faults.append("breaks off")
    if any(twice(sentence) for sentence in sentences(text)):
        faults.append("a name comes twice in a clause")
    if text[:1].islower():
        faults.append("no capital at the start")
    if text.rstrip()[-1:] not in ".!?\"')]":
        faults.append("no end")
    return faults
