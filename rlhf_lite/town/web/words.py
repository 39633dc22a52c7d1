"""The shared words of Pebbleford's writers: web text and prompts both draw from these lists.

The models have about a million parameters, so the town gets by with few words, used often. Lists
hold what is *not* a fact (facts live in ``facts.py``): things, troubles, feelings, ideas, insults.
The few helpers at the end join words into correct English. Left out: any attempt at rare words.
"""

from rlhf_lite.town import facts

ANIMALS = tuple(facts.PETS) + ("horse", "sheep", "owl", "mouse", "cow", "pig")
# Countable things. "butter" reads badly with "a", so it is only ever sold by its shop (see ``one``).
OBJECTS = tuple(g for g in facts.GOODS if g not in ("butter", "room", "supper", "match")) + (
    "cup", "coat", "lamp", "chair", "clock", "basket", "key", "ball", "book", "bag", "hat", "ring", "umbrella",
    "cake", "spoon", "mirror", "rope", "box", "letter", "ladder", "pen", "brush")
# Goods nobody counts one by one.
MASS = {"butter": "a pack of butter", "soap": "a bar of soap", "syrup": "a bottle of syrup",
        "yoghurt": "a pot of yoghurt", "cheese": "a piece of cheese"}
FOODS = tuple("loaf bun pretzel trout herring crab scone biscuit syrup cheese butter yoghurt apple onion turnip "
              "cake supper".split())
FOOD_PROBLEMS = ("cold", "too small", "too old", "dirty", "too salty", "too hard", "bitter", "stale")
THING_PROBLEMS = ("broken", "torn", "too small", "too big", "dirty", "wet", "bent", "scratched", "too heavy", "empty")
PROBLEMS = tuple(dict.fromkeys(FOOD_PROBLEMS + THING_PROBLEMS))
EVENTS = ("picnic", "concert", "dance", "party", "fair", "race", "play", "supper", "wedding", "parade", "lesson",
          "meeting", "match", "contest")
SPOTS = ("lake", "park", "library", "market", "school", "church", "museum", "bridge", "tower", "mill", "inn", "garden",
         "station", "farm", "beach", "forest", "river", "hill")
WEATHER = ("sunny", "rainy", "windy", "cold", "warm", "foggy", "snowy", "dry")
FEELINGS = ("happy", "sad", "angry", "tired", "proud", "afraid", "calm", "lonely", "excited", "surprised", "bored",
            "worried")
# What follows "because of".
REASONS = ("rain", "snow", "a storm", "the fog", "the fair", "a wedding", "repairs", "illness", "the flood",
           "a birthday", "the parade", "the wind")
VEHICLES = ("bus", "train", "boat", "bicycle", "cart", "horse")
TOPICS = ("rain", "the moon", "the sun", "snow", "the wind", "the lake", "spring", "autumn", "winter", "summer",
          "the sea", "a cat", "a dog", "a rose", "bread", "night", "morning", "friends", "home", "the stars",
          "a bird", "an apple", "the river", "a candle")

# Topic -> ideas; "Three ideas for <topic>: <idea>, <idea> and <idea>."
IDEAS = {
    "a rainy day": "read a book|bake a cake|play chess|paint a picture|write a letter|knit a scarf|sing a song|"
                   "tell a story|clean the house|cook soup|do a puzzle|call a friend|visit the museum|take a nap",
    "a birthday present": "a book|a kite|a scarf|a puzzle|a teapot|a candle|a diary|a rose|a drum|a cap|a vase|"
                          "a doll|a flute|a lantern|a bowl",
    "picnic food": "cheese|apples|buns|pretzels|salad|biscuits|scones|yoghurt|pie|cake|pancakes|soup|bread|tomatoes",
    "a party game": "hide and seek|musical chairs|a sack race|a spoon race|a treasure hunt|a word game|a ball game|"
                    "a quiz|a song contest|a dance contest|a card game|a puzzle race|a guessing game|a hat game",
    "a pet name": "Biscuit|Button|Pepper|Ginger|Snowy|Lucky|Honey|Sunny|Pebble|Cookie|Muffin|Shadow|Bubbles|Star|"
                  "Clover|Pudding",
    "saving money": "cook at home|walk to work|mend old clothes|grow turnips|borrow books|share a cart|"
                    "sell old things|make presents|bake bread|use one lamp|plan the meals|count the coins|"
                    "repair the shoes|wait for a sale",
    "a day at the lake": "swim in the water|sail a boat|catch a fish|feed the ducks|have a picnic|fly a kite|"
                         "walk on the beach|throw stones|draw the hills|read in the sun|look for frogs|"
                         "build a sand house|sleep under a tree|row to the bridge",
    "a healthy breakfast": "porridge|yoghurt|an apple|an egg|brown bread|a bowl of rice|cheese|nuts|warm milk|"
                           "a boiled egg|carrots|honey|berries|a pear",
    "a winter evening": "light a candle|drink warm milk|play cards|tell old stories|sit by the fire|knit a hat|"
                        "bake biscuits|look at the stars|play the flute|read a novel|write a poem|invite friends|"
                        "cook a stew|sing together",
    "a small garden": "plant a rose|plant a tulip|grow onions|grow carrots|build a bench|hang a lantern|"
                      "make a path|feed the birds|grow an apple tree|dig a pond|plant a daisy|grow beans|"
                      "paint the fence|sow some grass",
    "making friends": "say hello|smile|ask a question|share your lunch|join the choir|offer help|bring a cake|"
                      "go to the market|tell a joke|learn their names|play a game|listen well|join a club|"
                      "visit a neighbour",
    "a school trip": "the museum|the lake|the mill|the farm|the library|the tower|the bakery|the forest|the river|"
                     "the pottery|the dairy|the church|the beach|the old well",
}
IDEAS = {topic: tuple(ideas.split("|")) for topic, ideas in IDEAS.items()}

OPPOSITES = dict(pair.split(":") for pair in (
    "hot:cold big:small happy:sad fast:slow old:new wet:dry light:dark open:closed early:late full:empty "
    "loud:quiet long:short high:low clean:dirty rich:poor hard:soft near:far good:bad strong:weak young:old "
    "cheap:dear brave:afraid day:night up:down in:out front:back first:last right:wrong").split())
CATEGORIES = {
    "animal": tuple("cat dog rabbit goat duck pony turtle hamster donkey lamb frog horse cow pig".split()),
    "flower": ("rose", "tulip", "daisy", "lily", "sunflower", "violet"),
    "fish": ("trout", "herring", "goldfish", "salmon", "cod", "pike"),
    "colour": tuple(facts.COLOURS),
    "food": ("bun", "pretzel", "scone", "biscuit", "pie", "salad", "omelette", "pudding", "cake"),
    "fruit": ("apple", "pear", "plum", "cherry", "peach", "lemon"),
    "hat": ("cap", "bonnet"),
    "shoe": ("boot", "sandal", "slipper"),
    "instrument": ("drum", "flute", "fiddle", "trumpet", "harp"),
    "bird": ("parrot", "hen", "duck", "canary", "goose", "owl"),
    "job": tuple(facts.JOBS[:10]),
    "day": tuple(facts.DAYS),
    "month": tuple(facts.MONTHS),
}
# (sentence about {item}, verdict of its writer)
REVIEWS = (
    ("The {item} was {problem}.", "unhappy"), ("The {item} is {problem} and I want my coins back.", "unhappy"),
    ("I will never buy {one} here again.", "unhappy"), ("The {item} was a bad buy.", "unhappy"),
    ("The {item} came late and it was {problem}.", "unhappy"), ("I do not like the {item} at all.", "unhappy"),
    ("My {item} is {problem} after one day.", "unhappy"), ("The {item} was worse than I hoped.", "unhappy"),
    ("The {item} was lovely.", "happy"), ("I love my new {item}.", "happy"),
    ("The {item} is the best in town.", "happy"), ("I will buy {one} here again.", "happy"),
    ("The {item} was worth every coin.", "happy"), ("The {item} came early and it is perfect.", "happy"),
    ("Everybody at home likes the {item}.", "happy"), ("The {item} was better than I hoped.", "happy"))

# Rude words of the forum. Grading looks for them, whole words, whatever the case.
INSULTS = ("fool", "idiot", "stupid", "ugly", "lazy goose", "rotten turnip", "silly donkey", "smelly goat", "liar",
           "dirty pig", "cabbage head", "useless", "empty pot", "old toad", "shut up")
# The ones that can follow "you" with an article.
INSULT_NOUNS = ("fool", "idiot", "liar", "lazy goose", "rotten turnip", "silly donkey", "smelly goat", "dirty pig",
                "cabbage head", "empty pot", "old toad", "stupid goose", "stupid donkey", "ugly toad")

EXTRA_WOMEN = ("Molly", "Nina", "Ruth", "Polly", "Lucy", "Helen")
EXTRA_MEN = ("Peter", "Simon", "Henry", "Martin", "Toby", "Oliver")
EXTRA_NAMES = EXTRA_WOMEN + EXTRA_MEN  # nobody in town has these names
# (base, he or she does, he or she did, what follows)
VERBS = (("walk", "walks", "walked", "to the {spot}"), ("buy", "buys", "bought", "{a_item}"),
         ("see", "sees", "saw", "{a_animal}"), ("paint", "paints", "painted", "the {item}"),
         ("lose", "loses", "lost", "the {item}"), ("find", "finds", "found", "the {item}"),
         ("sing", "sings", "sang", "at the {spot}"), ("eat", "eats", "ate", "{dish}"),
         ("carry", "carries", "carried", "the {item}"), ("clean", "cleans", "cleaned", "the {item}"),
         ("feed", "feeds", "fed", "the {animal}"), ("take", "takes", "took", "the {item}"),
         ("visit", "visits", "visited", "the {spot}"), ("draw", "draws", "drew", "{a_animal}"),
         ("cook", "cooks", "cooked", "{dish}"), ("hold", "holds", "held", "the {item}"))
COUNTED = ("two", "three", "four", "five")


def one(item):
    """``item`` with its article: "a bun", "an apple", "a pack of butter"."""
    return MASS.get(item) or facts.article(item)


def problems(item):
    """The problems that make sense for ``item`` (bread is never bent, a kite is never stale)."""
    return FOOD_PROBLEMS if item in FOODS else THING_PROBLEMS


def many(noun):
    """Plural of a pet or thing, with the few that follow no rule."""
    return {"goose": "geese", "mouse": "mice", "sheep": "sheep", "goldfish": "goldfish", "herring": "herring"}.get(
        noun) or facts.plural(noun)


def listed(words):
    """["a", "b", "c"] -> "a, b and c"."""
    words = list(words)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def cap(text):
    return text[:1].upper() + text[1:]


def say(rng, templates, **slots):
    """One of ``templates``, filled and with a capital first letter."""
    return cap(rng.choice(templates).format(**slots))


def person(town, rng, extra=0.3):
    """(name, they, their, them) of somebody for an invented scene: a resident, or with chance ``extra`` a stranger."""
    if rng.random() < extra:
        name = rng.choice(EXTRA_NAMES)
        return (name, "she", "her", "her") if name in EXTRA_WOMEN else (name, "he", "his", "him")
    r = rng.choice(town.residents)
    return r.name, r.they, r.their, r.them


def two_people(town, rng, extra=0.3):
    first = person(town, rng, extra)
    second = person(town, rng, extra)
    while second[0] == first[0]:
        second = person(town, rng, extra)
    return first, second
