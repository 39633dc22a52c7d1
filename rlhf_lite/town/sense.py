"""Things that make no sense where they are said: an apology over the counter, a wedding that is closed.

These are what models say who mix two tasks up. Each check returns the words that do not fit, or None. Left out: most of
what makes no sense; the more of it a text has, the more often ``fluency.py`` is surprised.
"""

import re

from rlhf_lite.town.facts import ATTRIBUTES, DAYS, MONTHS
from rlhf_lite.town.reading_text import NAMES

BIG = "thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand"
MISPLACED = {task: re.compile(pattern) for task, pattern in {
    "notice": r"\b(?:fair|wedding|parade|storm|fog|snow|rain|flood|birthday|wind|illness|repairs) (?:is|are) "
              r"(?:closed|shut)\b|"
              r"\btoo (?:small|big|heavy|salty|hard|old)\b|\b(?:scratched|bent|torn|bitter)\b|\bgive you "
              r"an?(?:other)? (?:new|another)",
    "shop_chat": r"\b(?:room|supper|\w+) is on \w+day\b|\bsorry that your\b|\bdear shop\b|\bmy \w+ (?:is|was) (?:too|"
                 r"broken|bent|wet|dirty|empty|torn)\b",
    "opinion_chat": r"\bthank you (?:very much |so much )?for (?:the|a|an|your) (?!help|kind|game|good|way|sm)\w+|"
                    r"\bhappy birthday\b|\bplease come to the\b",
    "apology": r"\bi want\b|\bgive me\b|\bsend me\b|\bfor me and i\b|\bmy (?:coins|money) back\b|\bdear shop\b",
    "friend_chat": r"\b(?:bring|send) it (?:back|to us)\b|\bwe will (?:soon|wish you)\b|\bthank you for (?:the|your) "
                   r"\w+\.|\bwe are sorry that\b.*\bshop\b|\bdear customer\b",
    "hello_chat": r"\bsorry that your\b|\bthank you (?:very much )?for the \w+\b|\bhappy birthday\b",
    "thanks": r"\byou stole\b|\bplease give me a new\b|\bsorry that\b|\bi am sorry\b",
    "card": r"\bsorry that\b|\bthank you for the \w+\b",
    "poem": r"\b(?:is|are) (?:closed|open) on\b|\bcoins\b|\bdear (?:customer|shop)\b|\bthank you for the\b|\bplease "
            r"(?:give me|bring)\b|"
            r"\bplease come to the\b",
    "story": r"\bdear (?:customer|shop|guests)\b|\bplease give me a new\b|\bwe are sorry that\b",
    "complaint": r"\bhappy birthday\b|\bplease come to\b",
}.items()}
# The voice of another task: sorting, counting, opposites.
OTHER_TASK = re.compile(r"\bopposite of\b|\bis a kind of\b|\bpast tense\b|\bdoes not belong\b|\bthe odd one\b|\bby "
                        r"the alphabet\b|"
                        r"\b(?:two|three|four|five|six) animals\b|\bthe review is\b|\bthe text (?:says|names)\b")
WRITTEN = ("poem", "story", "card", "advert", "complaint", "apology", "thanks", "invite", "notice", "hello_chat",
           "friend_chat",
           "opinion_chat", "shop_chat")
DRAMA = re.compile(rf"\b(?:has |have )?(?:died|dead|killed|stole|stolen|murder\w*|queen|hospital|prison|exploded|"
                   rf"broke (?:her|his|my) (?:arm|leg|neck))\b|\b(?:two |three )?(?:{BIG}) coins\b")
# A person is no day and no number; nobody has a Monday of his own.
CLASH = re.compile(rf"(?<!of )(?<!for )(?<!to )\b(?:{'|'.join(sorted(NAMES))}) (?:is|was) (?:an? |the |only "
                   rf")?(?:{'|'.join((*DAYS, *MONTHS))}|number|question|answer|"
                   rf"(?:of )?(?:two|three|four|five|six|seven|eight|nine|ten)(?! years)|(?:a "
                   rf")?(?:{'|'.join(ATTRIBUTES['dish'])}))\b(?! o'clock)|"
                   rf"\b(?:its|his|her|my|your|their|our) (?:{'|'.join(MONTHS)})\b|"
                   r"\b(?:my|your|his|her|its|their|our|the|a) (?:loud|quiet|early|late|soon|often|older|than|wet|"
                   r"happy)[.!?]|"
                   r"\bmade of (?:shoes|numbers|questions|days|soup|names)\b|\b(?:married to|wife of|husband of|"
                   r"customer of) (?:the )?(?:moon|sun|soup|spoon|chair|number)\b")


RELATIVES = re.compile(r"\b(?:aunt|uncle|mother|father|sister|brother|grandmother|grandfather|husband|wife|cousin|son|"
                       r"daughter|queen|king|thief)\b")


def misplaced(task, text):
    found = MISPLACED[task].search(text.lower()) if task in MISPLACED else None
    if not found and task in WRITTEN:
        found = OTHER_TASK.search(text.lower())
    return found[0] if found else None


def invented_drama(prompt_text, text):
    """Great events and sums that nobody asked to be told."""
    found = DRAMA.search(text.lower())
    return found[0] if found and found[0] not in prompt_text.lower() else None


def strangers(prompt_text, text):
    """People in an answer about a passage that has no such people."""
    return next((w for w in RELATIVES.findall(text.lower()) if w not in prompt_text.lower()), None)


def clashes(text):
    found = CLASH.search(text)
    return found[0] if found else None
