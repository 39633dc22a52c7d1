"""Which words make an idea fit its topic, so that "three ideas for picnic food" are not three random things.

An idea fits when one of its content words is among those of the topic's known ideas (``web/words.py``) or in
the hand-written list here. Names for a pet are free: any single name will do. Left out: whether an idea is good.
"""

import re
from collections import Counter
from functools import cache

from rlhf_lite.town.fluency import classes
from rlhf_lite.town.web.natural import patterns
from rlhf_lite.town.web.words import FOODS, IDEAS, OBJECTS

FRUIT_AND_BREAD = """
apples pears plums plum grapes cherries berries banana fruit toast rolls roll bread buns bun oats egg eggs milk
tea juice honey jam nuts butter cheese yoghurt yogurt muesli porridge pancakes waffles sandwich sandwiches
"""
AT_HOME = """
read book story stories bake cake bread buns soup stew cook play cards game board chess paint draw picture write
letter poem friend friends knit sew sing song songs music dance puzzle tea fire window candle sleep nap clean
sort mend drawers old visit call museum library film talk cake biscuits boots puddles rain watch
"""

MORE = {
    "a rainy day": AT_HOME + """
        coat umbrella walk dry kitchen toys build blocks tent blanket family neighbours neighbour
    """,
    "a birthday present": """
        cake flowers flower sweets chocolate plant ticket concert apron blanket game toy toys ring soap biscuits
        jar honey cup lamp picture song poem card scarf gloves socks shoes hat gift party dinner trip story
    """,
    "picnic food": FRUIT_AND_BREAD + """
        chicken ham sausages potatoes cucumber carrots lemonade water cold biscuits cookies salad tart pie pies
        slices lemon crackers tomato fish
    """,
    "a party game": """
        hide seek chairs race races sack sacks spoon spoons egg eggs treasure hunt hunts hidden word words ball
        balls quiz song songs dance dancing card cards guess guessing hat blind rope pull teams team tag
        charades riddle riddles story stories joke jokes throw rings ring catch basket balloon balloons music
        sing singing puzzle mime name names statues find animal tell jump sweets
    """,
    "saving money": """
        cook home walk mend repair fix grow borrow share sell old presents bake bread lamp lamps plan meals
        coins count jar bank box buy cheap cheaper less fewer list second sale wait candles candle water heat
        lunch own flour bags crumbs waste clothes shoes library swap lend use light eat leftovers soup save warm
        coat ride bicycle
    """,
    "a day at the lake": """
        swim swimming sail boat row fish catch feed ducks picnic kite walk beach shore throw stones draw hills
        read sun frogs sand sleep tree bridge water wade float splash paint watch birds lunch grass ball bath
        rest sit swans sunset shells quiet
    """,
    "a healthy breakfast": FRUIT_AND_BREAD + """
        rice carrots pear apple water omelette boiled brown tomato tomatoes seeds salad
    """,
    "a winter evening": AT_HOME + """
        warm hot milk soup stars snow stars cards old flute novel scarf hat gloves socks stew apples sledge
        snowman neighbours family blanket bath light lantern games tell invite drink sit
    """,
    "a small garden": """
        plant grow sow dig rose roses tulip tulips flowers flower herbs herb carrots onions beans tomatoes
        cabbage bench lantern path birds bird bath house apple tree trees pond daisy daisies paint fence grass
        pots pot wall vegetables berries bush hedge shade swing seat table lettuce sunflower sunflowers
        strawberries stones bees hang
    """,
    "making friends": """
        hello smile ask question share lunch cake join choir help offer market joke names name play game listen
        club visit neighbour neighbours invite talk kind tea party dance walk greet team sing together letter
        dinner friendly introduce somebody new class people
    """,
    "a school trip": """
        museum lake mill farm library tower bakery forest river pottery dairy church beach well castle zoo boat
        walk animals animal park bridge hill hills theatre concert garden station train market mountain sea
        island picnic ride woods town hall
    """,
}
FILLER = frozenset("""
a an the and or of in on at to with for by some good nice new old big small little very my your you can could
would like try have go get make do be is are it its idea ideas first second third one two three four five how
about what maybe also then there here
""".split())


@cache
def fitting_words(topic):
    """The set of words that make an idea fit ``topic`` (lower case)."""
    fits = {w for idea in IDEAS[topic] for w in idea.lower().split()} | set(MORE.get(topic, "").split())
    if topic == "a birthday present":
        fits |= set(OBJECTS)
    if topic in ("picnic food", "a healthy breakfast"):
        fits |= set(FOODS)
    return frozenset(fits - FILLER)


@cache
def known_words(topic):
    """Words that may stand in an idea for ``topic`` though they do not make it fit: those of the web's own ideas for
    it, and those that stand in ideas for two topics or more ("together", "evening")."""
    lines = {name: frozenset(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", " ".join(rows).lower())))
             for name, rows in patterns("ideas").items()}
    common = Counter(word for found in lines.values() for word in found)
    return fitting_words(topic) | lines.get(topic, frozenset()) | {word for word, n in common.items() if n > 1}


STRANGE = ("NOUN", "NOUNS", "FOOD", "VERB", "ING", "PAST")  # the classes whose words carry an idea


def strange_words(topic, content):
    """The nouns and verbs of an idea that no idea for ``topic`` has."""
    return {w for w in content - known_words(topic) if classes(w)[0] in STRANGE
            and w.removesuffix("s") not in known_words(topic)}


def is_deed(item):
    """Whether an idea tells to do something: "learn to juggle"."""
    first = next((w for w in re.findall(r"[a-z']+", item.lower()) if w not in ("you", "can", "could", "to", "go", "and",
                                                                              "or", "let's", "us")), "")
    return bool(first) and classes(first)[1] in ("VERB", "ING")


def turned_round(item):
    """"Chicken cold": a short idea with the adjective behind its noun, or one that ends in the middle."""
    kinds = [classes(word)[0] for word in re.findall(r"[a-z']+", item.lower())]
    if not 1 < len(kinds) <= 4:
        return False
    return kinds[-1] in ("with", "of", "a", "the") or (
        kinds[-1] in ("ADJECTIVE", "COLOUR") and kinds[-2] in ("NOUN", "NOUNS", "FOOD")
        and not kinds[0].startswith("VERB"))


def fits(topic, item, content):
    """Whether ``item`` (a string) is an idea for ``topic``; ``content``: its content words, lower case."""
    if topic == "a pet name":
        return item.split()[-1][:1].isupper() and len(item.split()) <= 8 and bool(content)
    if any(name in item.lower() for name in IDEAS if name != topic and len(name.split()) > 1):
        return False  # "swim in a jar for making friends"
    strange = strange_words(topic, content)
    return not content.isdisjoint(fitting_words(topic)) and not (len(strange) >= 2 and 2 * len(strange) >= len(content))
