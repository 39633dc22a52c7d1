"""What a verb can be done to: bread is baked, letters are read, nobody swims in a spoon.

A sentence can be good English and still be nonsense ("Bake the boat", "Sam is a polite afternoon"). Linguists speak of
selectional restrictions: a verb selects what may be its object. Only things that the town knows are judged; a word that
stands in none of the lists may be anything. Left out: metaphors, which are welcome in poems, and most verbs.
"""

import re

from rlhf_lite.town.facts import ATTRIBUTES, DAYS, MONTHS, SHOPS, plural
from rlhf_lite.town.fluency import classes
from rlhf_lite.town.reading_text import NAMES
from rlhf_lite.town.web.words import ANIMALS, EVENTS, FOODS, OBJECTS


def both(words):
    """Words and their plurals."""
    return frozenset(w for word in words for w in (word, plural(word)))


FOOD = both((*FOODS, *ATTRIBUTES["dish"], *"""bread egg roll lunch dinner breakfast meal pear plum nut berry grape
    cherry carrot bean potato tomato banana strawberry tart pizza sausage toast jam honey sweet biscuit cookie bowl
    oats chicken ham fruit vegetable sandwich cucumber lettuce slice piece plate porridge yogurt meat fish herb
    """.split()))
DRINK = both("water tea milk juice coffee lemonade soup cocoa wine cider syrup cup glass bottle pot mug jug".split())
TEXT = both("""book novel letter map diary story poem gazette newspaper page word note card sign notice text paper star
    clock line recipe rhyme tale legend music lesson name list song music message lips joke riddle""".split())
WORN = both("hat cap bonnet coat scarf boot sandal slipper ring shoe sock glove shirt dress apron bandage crown mask "
            "smile jacket colour ribbon clothes bell flower rose daisy".split())
PLANT = both("""rose tulip daisy apple onion turnip flower tree seed herb vegetable carrot bean bush hedge berry cabbage
    tomato potato garden plant lettuce sunflower strawberry bulb mushroom clover oak fruit""".split())
SOUNDS = both("song lullaby tune carol hymn round melody praise chorus duet".split())
GAMES = both("""drum flute fiddle ball puzzle doll bell game card chess music song tune trick part piano cup box rope
    ring hide bag spoon word hat""".split())
WATER = both("lake river sea pool pond water stream bath rain moonlight sun summer".split())
CLOTH = both("scarf hat glove sock blanket bonnet cap sweater coat slipper bag shirt jumper shawl square toy".split())
SKY = both("moon sun star rain snow wind cloud".split())
BUILT = both("window door roof wall road street bridge tower church house river hill floor table chair bed stone"
             .split())
WHEN = frozenset(w.lower() for w in (*DAYS, *MONTHS)) | both("afternoon evening morning night hour".split())
IDEA = both("question song story number visit walk talk name".split())
THINGS = both(OBJECTS)
CONCRETE = (THINGS | FOOD | both(ANIMALS) | both(EVENTS) | SKY | BUILT | WHEN | IDEA | DRINK | TEXT | WORN
            | frozenset("feet foot ear ears nose hand hands hair grass soap wood gold".split()))

# verb forms -> what they may be done to
OBJECTS_OF = {
    "bake|bakes|baked|baking": FOOD, "eat|eats|ate|eating|cook|cooks|cooked|cooking|fry|boil": FOOD | DRINK,
    "drink|drinks|drank|drinking": DRINK, "read|reads|reading": TEXT, "wear|wears|wore|wearing": WORN,
    "write|writes|wrote|writing": TEXT | SOUNDS, "sing|sings|sang|singing": SOUNDS | TEXT,
    "sow|sows|sowed|planted|plant|planting": PLANT, "knit|knits|knitted|knitting": CLOTH,
    "play|plays|played|playing": GAMES | both(EVENTS), "swim in|swims in|swam in|swimming in": WATER,
}
# verbs done to people and animals alone
TO_PEOPLE = re.compile(r"\b(?:thank|thanks|help|helps|helped|ask|asks|asked|invite|invites|invited|marry|marries|"
                       r"married|teach|teaches|taught|feed|"
                       r"feeds|greet|greets|married to|brother of|sister of|wife of|husband of|aunt of|uncle of)$")
DONE_TO = [(re.compile(rf"\b(?:{verbs})$"), fits) for verbs, fits in OBJECTS_OF.items()]
ARTICLES = frozenset("a an the my your his her its our their some this that these those another one two three four "
                     "five six seven eight nine ten every each".split())
TOKEN = re.compile(r"[A-Za-z]+(?:'[a-z]+)?|[.,;:!?]")
# people do these; things do not
DOES = ("reads|read|writes|wrote|buys|bought|marries|married|drinks|drank|cooks|cooked|knits|knitted|wears|wore|sells|"
        "sold|teaches|taught|eats|ate|bakes|baked|laughed|cried|forgets|forgot|remembers|knows|knew|thinks|thought")
ACTING = re.compile(rf"\b(?:the|my|your|his|her|our|an?) ({'|'.join(sorted(THINGS | both(EVENTS) | BUILT))}) "
                    rf"(?:will |can |has )?({DOES})\b")
PEOPLE = "|".join(sorted(NAMES))
SHOP = frozenset(word for shop in SHOPS for word in shop.split())
NO_PERSON = re.compile(rf"(?<!from )(?<!for )(?<!of )(?<!to )(?<!by )\b(?:{PEOPLE}|he|she|you) (?:is|was|are) (?:an? "
                       rf"|the )?(?:\w+ )??"
                       rf"({'|'.join(sorted(THINGS | WHEN | BUILT | both(EVENTS)))})\b(?! (?:"
                       rf"{'|'.join(sorted(SHOP))})|'| "
                       r"(?:maker|keeper|seller|lover|owner|player|person|guest|to|at|late|early|long|lover)\b|\w)")
PARTED = both(FOODS) - both(("loaf", "cake", "syrup"))  # a loaf of bread, a cake of soap
POSSESSED = re.compile(rf"\b({'|'.join(sorted(both(ANIMALS) | PARTED))}) of (?:the |an? |our |my |your )?"
                       rf"({'|'.join(sorted(THINGS | WHEN - both(ANIMALS)))})\b(?! (?:shop|house))")
WELCOME = re.compile(rf"\bwelcome to (?:the |our |my |an? |your )?((?:{'|'.join(sorted(both(ANIMALS) | THINGS))})(?! "
                     rf"(?:shop|house))|{PEOPLE})\b(?!')")


def head(tokens):
    """The last noun of the phrase that ``tokens`` start with ("a big cup of tea": "cup"), or None."""
    last = None
    for token in tokens:
        low = token.lower()
        kind = classes(low)[0]
        if last is None and (low in ARTICLES or kind in ("ADJECTIVE", "COLOUR", "QUANT", "NUMBER")):
            continue
        if low in CONCRETE or kind in ("NOUN", "NOUNS", "FOOD"):
            last = low
            continue
        break
    return last


def impossible_object(text):
    """A verb with something that cannot be done to: "bake the boat", or None."""
    tokens = TOKEN.findall(text)
    low = [t.lower() for t in tokens]
    for i in range(len(tokens)):
        before = " ".join(low[max(0, i - 1):i + 1])
        after = low[i + 1] if i + 1 < len(low) else ""
        if not (after in ARTICLES or classes(after or ".")[0] in ("NOUN", "NOUNS", "FOOD", "ADJECTIVE", "COLOUR")):
            continue
        people = TO_PEOPLE.search(before)
        rules = [fits for verbs, fits in DONE_TO if verbs.search(before)]
        if not people and not rules or i and low[i - 1] in ARTICLES and low[i] in ("play", "drink", "plant", "cook"):
            continue
        noun = head(tokens[i + 1:i + 8])
        if after in ("that", "so") and low[i] in ("read", "reads"):
            continue
        if noun in CONCRETE and (people and noun in THINGS | FOOD | BUILT | WHEN
                                 or rules and not any(noun in fits for fits in rules)):
            return f"{low[i]} {noun}"
    return None


ANIMATED = re.compile(r"^(?:ask|asked|asks|ate|eats|help|helped|thanked|greet|greets) ")  # in a tale things are alive


def nonsense(task, text):
    """Words that cannot be meant, or None."""
    found = impossible_object(text.replace("musical chairs", "games"))
    if found and not (task == "story" and ANIMATED.search(found)):
        return found
    low = text.lower()
    checks = [POSSESSED.search(low), WELCOME.search(text)]
    if task not in ("poem", "story"):
        checks += [ACTING.search(low), NO_PERSON.search(text)]
    return next((hit[0] for hit in checks if hit), None)
