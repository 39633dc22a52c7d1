"""Yes, no and "I do not know": what an answer admits, what it takes back, what it turns into its opposite."""

import re

from rlhf_lite.town import reading_text as r
from rlhf_lite.town.facts import DAYS

# "I do not know" and "it is not said", in the many wordings of people; ``silent`` needs a text that could have said it.
DOUBT = re.compile(
    r"\b(?:do not|don't|does not|cannot|can't|can not|could not|nobody|no one|none of us|not even \w+ \w+|nor) (?:\w+ "
    r"){0,2}"
    r"(?:know|knows|say|tell|told|name|answer|asked)\b(?! so\b)|"
    r"\bnot (?:sure|told|said|named|known|written|mentioned|given|say(?! so\b)|even)\b|\bhave not (?:learned|met|"
    r"heard)\b|"
    r"\b(?:no idea|no news|says nothing|nothing (?:about|written|is known|is written|is said|has been)|unknown|who "
    r"knows|never heard)\b|"
    r"\b(?:nobody|no one) (?:here )?(?:has )?(?:yet )?(?:written|met|told|heard|learned|asked|can say)\b|\bnobody "
    r"(?:here |in town )?(?:yet )?knows\b|"
    r"\bi wish i knew\b|\bonly be a guess\b|\btoo (?:early|soon) to (?:say|tell)\b|\bstill a surprise\b|\bhidden\b|"
    r"\bbe guessing\b|\bmade up\b|"
    r"\bmore than (?:i|we) know\b|\bi would like to, but\b|\b(?:yet )?to (?:tell|find out)\b.*\bnew\b|\bhas not told\b|"
    r"\bknow (?:very little|no more|nothing|as much|more|\w+ better)\b|\bget to know\b|\buntil \w+ (?:tells|\w+ us)\b|"
    r"\btell us (?:herself|himself|soon)\b|"
    r"\bonly \w+ (?:can|could) tell\b|\b(?:could|have to|let us|please go and|better|best to|can|please|just) ask\b|"
    r"\b(?:for|because|since|as|but) \w+ is (?:so |still )?new\b|\bnew (?:here|in town|in pebbleford|to (?:the|our) "
    r"town)\b|\bnew person in town\b|"
    r"\bonly a few days ago\b|\bnot long ago\b|\bjust (?:come|moved|arrived)\b|\bnot know \w+ well\b|\bsay nothing\b|"
    r"\bonly this week\b")
SILENT = re.compile(
    r"\b(?:not|never|nowhere) (?:\w+ ){0,3}(?:in (?:the|this) (?:text|story|report|passage|lines?)|there|here|find|"
    r"learn|give|mention|say|says|tell|tells)\b|"
    r"\b(?:no|not a|not one|not any|nothing|nobody|no one|none) (?:\w+ ){0,4}(?:in (?:the|this|these|it)|named|given|"
    r"mentioned|told|said|written|answers?|about)\b|"
    r"\bthere (?:is|are|was|were) no(?:t|ne|thing|body)?\b|\b(?:names?|gives?|tells?|says?|mentions?|has|have|see|"
    r"find|shows?) (?:us |me )?no(?:ne|thing|body| one)?\b|"
    r"\bbut no (?:day|price|place|name|colour|time|buyer|seller|reason|coins|shop|month)\b|"
    r"\bonly (?:\w+ )?(?:where|when|what|who|how|which)\b|"
    r"\bsays? nothing\b|\b(?:is )?silent\b|\b(?:leaves?|left) (?:it|that|this|the \w+)? ?out\b|\bwould have to "
    r"guess\b|\bnot told\b|\bkeeps (?:that|it)\b|"
    r"\bonly \w+[.!]?$|\b(?:alone|nobody else|no other|no one else)\b|\bcannot (?:tell|say|know|find)\b|\bnot even "
    r"one\b|\bbut not (?:that|where|when|who|what|how|the)\b|"
    r"^(?:none|nobody|nowhere|nothing)\b|\bwithout (?:a|any|naming|saying)\b|\bno word\b|\bno answer\b|\bunanswered\b|"
    r"\bonly (?:says|tells|names|gives|the)\b")


def unsure(text):
    return bool(DOUBT.search(text.lower()))


def not_said(text):
    """True when an answer about a passage says that the passage does not tell."""
    low = text.lower().strip()
    return bool(DOUBT.search(low) or SILENT.search(low))


NOT = r"(?:not|never|no longer|cannot|can't|won't|don't|didn't|isn't|aren't|wasn't|doesn't)"
# What turns the point of a task round. Each pattern is matched against a clause in lower case.
REVERSED = {
    "thanks": rf"\bno thanks\b|{NOT} (?:really )?(?:thank|thankful|grateful|want(?:ed)?|need(?:ed)?|like(?:d)?|happy|"
              rf"glad|pleased|use it)\b|\bnever (?:got|asked|wanted)\b|"
              r"\btake (?:it|this|the \w+|your \w+) back\b|\bthank me\b|\bi gave you\b|\bi hate\b|\bdid not (?:get|"
              r"give)\b|\bungrateful\b|\bwhy did you\b",
    "apology": rf"\b(?:we|i) (?:are|am|'re|feel)? ?{NOT} (?:at all )?(?:sorry|apologise|regret|care)\b|\b(?:do|will|"
               rf"shall|can) not (?:apologise|help|give|change|replace|take|say sorry|care)\b|"
               r"\bnever (?:apologise|sorry)\b|\bnot our (?:fault|mistake|problem)\b|\byour (?:own )?fault\b",
    "invite": rf"\b(?:do|please do|must|may|should|can|shall) {NOT[:-1]}|not) come\b|\bnot (?:invited|welcome|allowed|"
              rf"wanted)\b|\bstay (?:at home|away)\b|\bdon't come\b|\bwithout you\b(?! it)|"
              r"\bthere is no \w+ on\b|\bno (?:place|room|seat) for you\b|\bis (?:off|cancelled)\b|\b(?:do|did) not "
              r"(?:want|invite)\b|\bnot happy about\b",
    "card": r"\bno (?:happy|good)\b|\bnot (?:a )?(?:happy|wish|your birthday|celebrate)\b|\b(?:un|not )happy "
            r"birthday\b|\bhope (?:that )?(?:you|it) (?:do|does|will|are|is) not\b|\bbad (?:day|year|birthday)\b|"
            r"\bno (?:cake|wishes|party) for you\b|\bsad birthday\b",
    "complaint": r"\b(?:do|does|did) not complain\b|\bi am (?:very |so |quite )?(?:happy|pleased|glad) with\b|\b(?:is|"
                 r"was) (?:perfect|wonderful|very good)\b|\bthank you for the (?:lovely|wonderful|beautiful|perfect|"
                 r"fine)\b|"
                 r"\bnothing (?:is )?wrong\b|\bwe are sorry\b|\bdear customer\b",
    "notice": r"\bnot (?:closed|shut)\b|\b(?:is|are|stay|stays|remain|will be) open\b(?! again)|\bopen as (?:usual|"
              r"always)\b|\bnever (?:closed|shut|closes)\b|\bopen all day\b",
    "advert": r"\b(?:do|please do) not (?:come|buy|visit|try)\b|\bdon't (?:come|buy|visit)\b|\bnever (?:come|buy|"
              r"visit)\b|\b(?:the )?worst\b|\bnot (?:good|fresh|worth|nice|tasty)\b|\b(?:bad|old|rotten|ugly|stale|"
              r"broken) \w+ for\b|"
              r"\bbuy (?:it |your \w+ )?(?:somewhere|elsewhere)\b|\bstay away\b|\bdo not (?:sell|have)\b",
    "shop_chat": r"\b(?:we|i) (?:do|will|can|would) not (?:sell|have|serve|give|help)\b|\bwe have no(?:ne)?\b|\bnot "
                 r"for (?:you|sale)\b|\bno \w+ for you\b|\b(?:we|i) (?:cannot|won't|don't) (?:sell|have|serve|help)\b",
    "friend_chat": r"\bi am (?:not sorry|(?:so |very )?glad (?:that |about )?(?:your|it|the))\b|\bnot (?:at all "
                   r")?sorry\b|\bi do not care\b|\b(?:do|will|can) not (?:help|care|listen|want to help)\b|\bgood "
                   r"that (?:it|your|the)\b|"
                   r"\bplease give me (?:a|another|my) \w+\b|\bbring (?:me )?(?:a|another) new one\b|\bwe will "
                   r"(?:send|replace|give you your coins)\b",
    "hello_chat": r"\bnot (?:welcome|nice to|glad|happy to)\b|\bgo away\b|\bi (?:do|will) not (?:talk|want|like|"
                  r"greet)\b|\bnever want\b",
    "polite": r"\b(?:do|please do|could you|would you) not\b|\bnever\b|\bdon't\b",
    "opinion_chat": r"(?!)",
}
REVERSED = {task: re.compile(pattern) for task, pattern in REVERSED.items()}
KEEPS = re.compile(r"\bthank you enough\b|\bknow how to thank\b|\bcannot thank\b|\bnot only\b|\bdo not miss\b|\bnot "
                   r"wait\b|\bwould not be the same\b|\bnot have (?:chosen|found|to pay|to wait)\b|"
                   r"\bhow did you\b|\bdid not know\b|\bno need\b|\bdo not worry\b|\bcould not be (?:better|"
                   r"happier)\b|\bnot forget\b|\bno(?:thing)? (?:better|finer|nicer|more)\b|\bwhy not\b")


WORSE = {"too small": "smaller", "too big": "bigger|larger", "too heavy": "heavier", "too old": "older",
         "too hard": "harder", "too salty": "saltier|more salt", "too sweet": "sweeter", "wet": "wetter",
         "dirty": "dirtier", "cold": "colder", "bitter": "bitterer|more bitter"}


def worse(prompt_text, text):
    """A wish for more of what is wrong: a smaller one where it was too small."""
    return next((found[0] for problem, more in WORSE.items() if problem in prompt_text
                 and (found := re.search(rf"\b(?:a|another|some|the|something) (?:{more})(?: ones?\b|[.!?,])",
                                         text.lower()))), None)


def reverses(task, text):
    """The words that turn the point of ``task`` round ("do not come to the fair"), or None."""
    if task not in REVERSED:
        return None
    for sentence in r.sentences(text):
        low = KEEPS.sub(" ", sentence.lower())
        found = REVERSED[task].search(low)
        if found:
            return found[0].strip()
    return None


NEGATIVE = re.compile(r"\b(?:not|never|no|none|nothing|nobody|cannot|neither)\b|n't\b")
GRAMMAR = frozenset("also just very too really quite so it he she they we you i his her their its my your our him "
                    "them us me there here that this "
                    "have has had be been being any at all ever some one".split())

NAMED = frozenset(w.lower() for w in (*r.NAMES, *DAYS)) | {"yes", "never", "cannot", "none"}


def contradiction(text):
    """Two sentences or clauses of which one takes back the other: "We have a flute. We have no flute." The second."""
    said = []
    for clause in re.split(r"[.!?;]+\s*|,? (?:but|and|so) |, (?=no\b|not\b)", text.lower()):
        content = frozenset(w.removesuffix("s") for w in r.words(clause)) - r.FUNCTION_WORDS - GRAMMAR - NAMED
        content = frozenset(w for w in content if w not in ("wa", "doe", "ha", "i", "thi", "it", "sorry", "please",
                                                            "dear"))
        negative = bool(NEGATIVE.search(clause))
        for other, was_negative, before in said:
            small, large = sorted((content, other), key=len)
            enough = len(small) >= 2 or len(large) <= 3
            shared = len(small & large) >= max(1, 0.75 * len(small))
            if negative != was_negative and enough and shared and before != clause:
                return clause.strip()
        if content:
            said.append((content, negative, clause))
    low = text.lower()
    if re.search(r"^yes\b.*[.!?,] no\b|^no\b.*[.!?] yes\b", low):
        return "yes and no"
    return None
