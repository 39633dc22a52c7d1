"""Other words for what an answer has to say: an apology without "sorry", a notice without "closed".

``prompts`` asks for words (``must``: groups of alternatives). Good people use others: "too small" is also said by "a
bigger one", "Give me the cup!" by "May I have the cup?". ``said`` is true when a group's point is made in any of them.
"""

import re

from rlhf_lite.town import reading_text as r
from rlhf_lite.town.facts import GOODS, SHOPS, build_town
from rlhf_lite.town.web.words import OBJECTS

TOWN = build_town()

PROBLEMS = {  # what is wrong with a thing -> what an answer may speak of instead
    "too small": "bigger|larger|small|tight|grow", "too big": "smaller|big|large",
            "too heavy": "light|lighter|heavy|carry|lift|weigh",
    "too old": "fresh|new|newer|old", "too salty": "salt|salty|sweet", "wet": "dry|dries|dried|wet|water",
            "dirty": "clean|cleaned|dirt|dirty|wash|washed|spot|spots",
    "broken": "whole|mend|mended|repair|fix|fixed|broke|broken|break|crack",
            "empty": "full|fill|filled|empty|nothing in",
    "cold": "warm|hot|cold", "bitter": "sweet|bitter|sugar|honey|taste", "bent": "straight|bent|crooked",
            "torn": "mend|whole|torn|sew|hole",
    "scratched": "smooth|scratch|scratches|scratched|whole", "stale": "fresh|stale|old|hard",
            "cracked": "whole|crack|cracks|cracked", "too hard": "soft|softer|hard",
    "rotten": "fresh|rotten", "burnt": "burnt|burned|fresh", "too sweet": "sweet|sugar", "late": "late|earlier|time",
            "lost": "lost|found|find",
}
REASONS = {
    "illness": "ill|sick|unwell|illness|not well|in bed", "rain": "rain|rains|raining|rainy|wet|water",
    "snow": "snow|snows|snowy|snowing|winter",
    "storm": "storm|stormy|wind|weather", "fog": "fog|foggy|cannot see|weather", "fair": "fair",
    "wedding": "wedding|marries|married|marry|bride", "repairs": "repair|repairs|repaired|mend|mending|fix|fixing|"
                                                                 "work|works",
    "flood": "flood|flooded|water|river", "birthday": "birthday|year older|celebrat", "parade": "parade|march",
    "wind": "wind|windy|storm|blow|blows",
}
ORDERS = {  # first word of an order -> other ways to wish the same
    "give": "have|hand|like|pass|get|lend|given|giving|gave|need|borrow",
          "bring": "bring|brings|brought|bringing|fetch|carry|get|have", "show": "see|look|showing|showed|shown|let",
    "take": "taking|took|taken|carry|carried|remove|put|move|clear|away",
          "clean": "cleaning|cleaned|wash|washed|wipe|made clean", "sell": "buy|selling|sold|have|purchase",
}
# Points of the tasks by one of their words.
POINTS = {
    "sorry": r"sorry|apolog|regret|forgive|pardon|(?:our|my) (?:mistake|fault)|telling (?:us|me)|letting us know|oh "
             r"dear|sad to hear|feel bad|(?:not|never) (?:what|how|good enough|right|have happened|happen)|"
             r"excuse|(?:give|send|bring|find|get) you|(?:is|as) a gift|(?:for )?free|(?:your )?(?:coins|money) back|"
             r"(?:change|mend|dry|fix|replace|clean|repair|exchange|swap) it|new one|another|swap|exchange|on us\b|"
             r"on the house|ashamed|careless|wrong|bad morning|should (?:not|never)|keep your (?:coins|money)|"
             r"pick (?:any|one|an)|choose|come (?:by|round|back|in)|bring (?:it|the)|fresh|whole|waiting for you|"
             r"make (?:it|this) "
             r"(?:good|right|up)|put (?:it|this) right",
    "thank": r"thank|grateful|kind of you|(?:good|nice|sweet|lovely) of you|made me|just what i|how did you know|so "
             r"happy|lov(?:e|ely)|i (?:use|wear|put|read|play|like|keep|will)|what a|gift|joy|pleased|delighted|"
             r"think of you|every day",
    "closed": r"clos|shut|not open|(?:cannot|can't|will not|won't|do not|does not|not) (?:be )?open|no \w+ (?:today|"
              r"on)|nobody (?:is|will be)|away|not (?:here|there|in)\b|open again|back (?:on|again)|day off|stays? "
              r"home|rests?",
    "birthday": r"birthday|today|candle|(?:best|good|new) year|years? (?:old|young|ahead)|cake|wish(?:es)? come true|"
                r"year older|another year|(?:one|born) today|many (?:more )?(?:happy )?(?:years|returns)|big "
                r"day|your (?:special )?day",
    "comfort": r"sorry|hope|cheer|help|together|another|new|worr|pity|poor|oh (?:no|dear)|how (?:sad|strange|awful|"
               r"annoying)|let us|let's|let me|mine|(?:put|take|get|rest|leave) |nobody will|that must|shall|come|"
               r"tell|listen|fix|mend|repair|walk|talk|maybe|perhaps|you can|you "
               r"could|"
               r"(?:i|we) (?:can|will|could|would|know|see|understand|have)|never mind|do not (?:worry|be|cry|give|"
               r"let|mind)|soon|fun|try|why not|"
               r"what about|sounds|give|take|sit|ask|bring|next time|still|happens|only",
    "hello": r"hello|\bhi\b|good|welcome|nice|well|fine|glad|happy|pleas|meet|remember|new|help|thank|sorry|talk|tell",
    "please": r"please|thank|welcome|here|gladly|certainly|course|good|yes|sure|would you|shall|may i|can i|coins?|we "
              r"(?:do|have)|sorry|let me|hello|pleasure|anything else|do you|i will|enjoy|there you|for you|one moment",
    "politely": r"please|\bmay\b|could|would|so kind|kindly|kind enough|might|grateful|thankful|glad|can (?:i|you)|"
                r"if you|"
                r"possible|shall|mind",
}
FIRST = {"sorry": "sorry", "thank": "thank", "closed": "closed", "birthday": "birthday", "hello": "hello",
         "please": "politely"}


def point(task, group):
    """The pattern of other words for one group of ``must``, or None where only the words themselves will do."""
    first = group[0]
    if task == "friend_chat" and first == "sorry":
        return POINTS["comfort"]
    if task == "shop_chat" and first == "please":
        return POINTS["please"]
    if first in FIRST:
        return POINTS[FIRST[first]]
    if task in ("complaint", "apology") and first in PROBLEMS:
        return rf"\b(?:{PROBLEMS[first]})\b"
    if task == "notice" and first in REASONS:
        return rf"\b(?:{REASONS[first]})"
    if task == "polite" and first in ORDERS:
        return rf"\b(?:{ORDERS[first]})\b"
    return None


def said(prompt, text, group):
    """Whether ``text`` makes the point of one group of ``must``."""
    low, task = text.lower(), prompt.task
    group = [word for word in group if task != "polite" or word != "kind"]  # "a kind man" asks for nothing
    if any(r.mentions(text, word) for word in group):
        return True
    if task == "advert" and group[0] in SHOPS:  # "Anna sells trout" and "trout, only in Hill Street" say which shop
        place = TOWN.place(group[0])
        return r.mentions(text, place.owner) or r.mentions(text, place.street)
    pattern = point(task, group)
    if pattern:
        return bool(re.search(pattern, low))
    thing = len(group) == 1 and group[0][:1].islower()
    if thing and task == "friend_chat":  # a friend who is comforted knows what it is about
        return bool(re.search(POINTS["comfort"], low))
    # Where it is clear what is wrong, the thing may be an "it".
    return thing and task in ("apology", "shop_chat") and bool(IT.search(low)) and not another_thing(prompt, text)


def another_thing(prompt, text):
    """A thing of the shops that the request does not speak of: an answer about a lamp where a cup was broken."""
    asked = prompt.text.lower()
    return next((thing for thing in r.found(text, (*OBJECTS, *GOODS)) if thing not in asked), None)


IT = re.compile(r"\b(?:it|one|ones|this|that|them|these|those|shop|some|we do|here you (?:are|go)|coins|mine)\b")
PICTURES = {  # what speaks of a poem's topic without its name
    "rain": "drop|drops|wet|puddle|puddles|umbrella|clouds?", "moon": "night|silver|sky", "sun": "warm|light|shine|"
                    "sky|day",
    "snow": "white|flakes?|cold|winter", "wind": "blow|blows|leaves|sails?", "lake": "water|swim|boat|shore",
    "spring": "flowers?|lambs?|green|birds?", "autumn": "leaf|leaves|golden|brown|apples", "winter": "snow|cold|ice|"
                    "white",
    "summer": "sun|warm|hot|swim", "sea": "waves?|ship|ships|water|sail", "cat": "purr|purrs|paws?|mouse|mice|"
                    "whiskers|fur",
    "dog": "bark|barks|tail|bone|paws?", "rose": "red|petals?|thorns?|garden|flower", "bread": "oven|loaf|flour|bake|"
                    "baker|crust",
    "night": "dark|stars?|moon|sleep|dream", "morning": "sun|dawn|wake|day|birds?", "friend": "together|you|hand|laugh",
    "home": "house|door|fire|chair|bed|kitchen|window", "star": "night|sky|bright|shine", "bird": "sing|sings|wings?|"
                    "fly|flies|nest",
    "apple": "tree|red|round|sweet|bite", "river": "water|flows?|runs|stream|boat", "candle": "flame|light|wax|"
                    "burns?|glow",
}


def may_be_said(prompt, text, group):
    """Whether a point that ``said`` does not find may be made all the same, in words that this file does not know."""
    low, task, first = text.lower(), prompt.task, group[0]
    if task == "poem":
        return bool(re.search(rf"\b(?:{PICTURES.get(first, '(?!)')})\b", low))
    if task == "advert":  # "fresh bread" for a loaf, where the shop may choose what to praise
        return len(group) > 1 and any(said(prompt, text, g) for g in prompt.spec["must"] if g is not group)
    if task == "summary":  # "A crab changed hands"
        return first in r.NAMES and all(said(prompt, text, g) for g in prompt.spec["must"] if g is not group)
    if point(task, group):  # a point that is made in many words, in a text that keeps to the matter
        things = [g for g in prompt.spec["must"] if not point(task, g)]
        return task != "polite" and all(said(prompt, text, g) for g in things)
    small = task in ("thanks", "complaint") and first[:1].islower()
    return small and bool(IT.search(low)) and not another_thing(prompt, text)
