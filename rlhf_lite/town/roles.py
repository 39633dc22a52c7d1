"""Who gave what to whom: the roles in a passage, compared with the roles that an answer hands out.

A passage is a sale, a purchase or a loss (``passages.passage_facts``). From an answer every statement with a verb of
giving is read as (role, name); a name in a role that the passage gives to somebody else is an untruth. Left out: roles
told without such a verb ("a reward for Ben").
"""

import re

from rlhf_lite.town import reading_text as r

SOLD = re.compile(r"(\w+) sold an? \w+ (?:[\w ]+?) to (\w+)\.")
BOUGHT = re.compile(r"(\w+) bought an? ")
LOST = re.compile(r"(\w+) lost an? ")
# verb -> (role of its subject, role of the name after "to", "for", "from", "by" or of a name right behind it)
VERBS = {
    "sold": ("seller", {"to": "buyer", "": "buyer"}), "sells": ("seller", {"to": "buyer", "": "buyer"}),
    "selling": ("seller", {"to": "buyer", "": "buyer"}),
    "bought": ("buyer", {"from": "seller", "for": "receiver"}),
    "buys": ("buyer", {"from": "seller", "for": "receiver"}),
    "paid": ("buyer", {"": "seller", "to": "seller"}), "pays": ("buyer", {"": "seller", "to": "seller"}),
    "lost": ("loser", {}), "loses": ("loser", {}), "found": ("finder", {}), "finds": ("finder", {}),
    "gave": ("giver", {"": "taker", "to": "taker"}), "gives": ("giver", {"": "taker", "to": "taker"}),
    "got": ("taker", {"from": "giver"}), "received": ("taker", {"from": "giver"}),
    "earned": ("taker", {"from": "giver"}),
    "gets": ("taker", {"from": "giver"}), "rewarded": ("giver", {"": "taker"}), "thanked": ("giver", {"": "taker"}),
    "returned": ("finder", {"to": "loser"}),
}
PASSIVE = {"sold": ("seller", "buyer"), "found": ("finder", None), "bought": ("buyer", None), "lost": ("loser", None)}
TOKEN = re.compile(r"[A-Za-z]+(?:'s)?|[.,;!?]")
ARTICLES = ("the", "a", "an", "her", "his", "their")
LINKS = ("to", "for", "from", "by")


def roles_in(passage):
    """``{role: name}`` of a passage, or None where it is of no known shape."""
    names = [n for n in re.findall(r"\b[A-Z][a-z]+\b", passage) if n in r.NAMES]
    other = next((n for n in names if n != names[0]), None) if names else None
    if sale := SOLD.search(passage):
        who, whom = sale.groups()
        return {"seller": who, "buyer": whom, "giver": who, "taker": whom, "receiver": whom}
    if bought := BOUGHT.search(passage):
        return {"buyer": bought[1], "receiver": other, "giver": bought[1], "taker": other, "seller": None}
    if lost := LOST.search(passage):
        return {"loser": lost[1], "finder": other if "found" in passage else None, "giver": lost[1], "taker": other}
    return None


def stated(text):
    """Every ``(role, name, verb)`` that ``text`` states, sentence by sentence."""
    for sentence in r.sentences(text):
        tokens = TOKEN.findall(sentence)
        subject = inner = verb = None  # ``inner``: whose act a clause with "that" tells, for one verb
        passive = False
        for i, token in enumerate(tokens):
            low, before = token.lower(), tokens[i - 1].lower() if i else ""
            after = tokens[i + 1].lower() if i + 1 < len(tokens) else ""
            if low in VERBS and not (low in ("lost", "found") and (before in ARTICLES or before.endswith("'s"))):
                passive, verb = before in ("was", "is", "were", "been") or after == "by", low
                if not passive and (inner or subject):
                    yield VERBS[verb][0], inner or subject, verb
                inner = None
            elif token in r.NAMES:
                by_link = VERBS[verb][1] if verb else {}
                if passive and before in ("by", "to") and verb in PASSIVE:
                    yield PASSIVE[verb][before == "to"], token, verb
                elif before in by_link or (before == verb and "" in by_link):
                    yield by_link["" if before == verb else before], token, verb
                elif before in ("that", "which", "whom", "because", "when"):
                    inner = token
                elif before not in ("of", *LINKS) and (subject is None or verb is None or after in VERBS):
                    subject = token
            elif low == "." or low in (",", ";", "and", "so", "but") and after.capitalize() in r.NAMES:
                verb = None


def swapped(passage, text):
    """The first statement in ``text`` that gives a role to the wrong name, in words, or None."""
    known = roles_in(passage)
    if known is None:
        return None
    for role, name, verb in stated(text):
        if "loser" in known and verb in ("paid", "pays"):
            role = {"buyer": "giver", "seller": "taker"}[role]
        elif "buyer" in known and role in ("taker", "giver") and (name == known["buyer"]
                                                                  or re.search(r"\bcoins?\b", text)):
            continue  # in a sale things go one way and coins the other, so "got" and "gave" are right both ways
        if role is not None and known.get(role) != name and (role in known
                                                             or role in ("loser", "finder", "buyer", "seller")):
            return f"{name} {verb}"
    return None


def doubled(text):
    """A name on both ends of one act: "Bella sold Hilda a book to Hilda"."""
    for sentence in r.sentences(text):
        for clause in re.split(r",| and | because | but | who | when | that ", sentence):
            names = [n for n in re.findall(r"\b[A-Z][a-z]+\b(?!')", clause) if n in r.NAMES]
            said = next((n for n in names if names.count(n) > 1), None)
            if said and re.search(r"\b(?:sold|bought|gave|lost|found|paid|got|for|to|from)\b", clause):
                return said
        tail = re.search(r"\b(\w+)\b.*\band (\w+)[.!]?$", sentence)
        if tail and tail[1] == tail[2] and tail[2] in r.NAMES:
            return tail[2]
    return None
