"""Prompts as customers send them, split by customer as in InstructGPT (section 3.2 and A.2).

A customer has a few favourite tasks and a way of writing: *plain* (the bare request), *few-shot* (two
solved examples first) or *user-based* (who they are, then the request). The ten use cases come at
Table 1's shares. A customer's prompts all land in one split, and no text occurs twice.
"""

import random
from dataclasses import asdict, dataclass, field

from rlhf_lite.town import passages, tasks
from rlhf_lite.town.facts import COLOURS, build_town

SPLITS = {"train": 0.7, "valid": 0.1, "test": 0.2}
ROLES = ["I run the bakery.", "I teach at the school.", "I write for the gazette.", "I am a postman.",
         "I look after the library.", "I am new in town.", "I work at the inn.", "I help my grandmother.",
         "I plan the summer festival.", "I am a shy person."]
USE_CASES = list(tasks.USE_CASES)


@dataclass(frozen=True)
class Prompt:
    id: str
    text: str
    use_case: str
    task: str
    customer: str
    split: str
    spec: dict = field(repr=False)

    def to_dict(self):
        return asdict(self)

    @staticmethod
    def from_dict(row):
        return Prompt(**row)


def add_constraint(text, spec, rng):
    """Add one checkable wish ("Use exactly two sentences.") to a writing task."""
    kind = rng.choice(["sentences", "sentences", "word", "short", "avoid"])
    spec = dict(spec)
    if kind == "sentences":
        n = rng.choice([1, 2, 2, 3])
        spec["constraint"] = {"sentences": n}
        wish = rng.choice([f"Use exactly {['', 'one', 'two', 'three'][n]} sentence{'s' if n > 1 else ''}.",
                           f"Write {['', 'one', 'two', 'three'][n]} sentence{'s' if n > 1 else ''}."])
    elif kind == "word":
        word = rng.choice(["happy", "today", "friend", "always", "little", "sunny"] + COLOURS[:4])
        spec["constraint"] = {"word": word}
        wish = f"Use the word {word}."
    elif kind == "short":
        n = rng.choice([8, 10, 12])
        spec["constraint"] = {"words": n}
        wish = f"Use at most {['eight', 'ten', 'twelve'][(n - 8) // 2]} words."
    else:
        # Adverts tempt a writer to name the price, which makes this wish worth checking.
        word = "price" if "about" in spec else rng.choice(["very", "good", "nice", "day"])
        spec["constraint"] = {"avoid": ["coin", "coins", "cost", "costs", "price"] if word == "price" else [word]}
        wish = "Do not mention the price." if word == "price" else f"Do not use the word {word}."
    return f"{text} {wish}", spec


def make_request(town, task, rng, preamble=None):
    """One request for ``task``: ``(text, spec)``, with a constraint on about a third of the writing tasks."""
    text, spec = tasks.opinion_chat(town, rng, preamble) if preamble else task(town, rng)
    if task in tasks.USE_CASES["generation"][1] and spec["kind"] == "write" and rng.random() < 0.35:
        text, spec = add_constraint(text, spec, rng)
    return text, spec


def pick_task(use_case, rng):
    weights = tasks.USE_CASES[use_case][1]
    return rng.choices(list(weights), list(weights.values()))[0]


def bare(text):
    """The request without the sentence on who asks: what two prompts must not share to count as different."""
    return next((text.removeprefix(f"{role} ") for role in ROLES if text.startswith(f"{role} ")), text)


FEW_SHOT = {  # tasks short enough that two solved examples fit in front: the answer comes from the spec
    passages.opposite: lambda s: s["answer"][0], passages.review: lambda s: s["answer"][0],
    passages.kind_of: lambda s: s["answer"][0],
    passages.alphabet: lambda s: s["expected"][0].rstrip("."), passages.past: lambda s: s["expected"][0].rstrip("."),
}


def few_shot(town, task, rng):
    """Two solved examples, then the request: the form in which customers "programmed" GPT-3."""
    lines = []
    for _ in range(2):
        text, spec = task(town, rng)
        lines.append(f"{text} {FEW_SHOT[task](spec)}.")
    text, spec = task(town, rng)
    return "\n".join(lines + [text]), spec


def split_of(customer_number, customers):
    """The first 70 % of customers are train, the next 10 % valid, the rest test."""
    share = customer_number / customers
    return "train" if share < SPLITS["train"] else "valid" if share < SPLITS["train"] + SPLITS["valid"] else "test"


def make_prompts(town=None, n=6000, customers=600, seed=0):
    """``n`` distinct prompts from ``customers`` customers, in random order. Same seed, same list."""
    town = town or build_town()
    rng = random.Random(f"prompts-{seed}")
    shares = [share for share, _ in tasks.USE_CASES.values()]
    roles = [rng.choice(ROLES) if rng.random() < 0.15 else None for _ in range(customers)]
    seen, prompts = set(), []
    while len(prompts) < n:
        use_case = rng.choices(USE_CASES, shares)[0]
        for _ in range(100):  # within the use case, so that what is short of texts still keeps its share
            customer, task = rng.randrange(customers), pick_task(use_case, rng)
            if task in FEW_SHOT and rng.random() < 0.3:
                text, spec = few_shot(town, task, rng)
            else:
                text, spec = make_request(town, task, rng)
                if roles[customer] and len(text) < 120:
                    text = f"{roles[customer]} {text}"
            if text not in seen:
                break
        else:
            raise ValueError(f"The town has not enough different {use_case} prompts for {n}: ask for fewer.")
        seen.add(text)
        prompts.append(Prompt(f"p{seed}-{len(prompts):05d}", text, use_case, task.__name__, f"c{customer:04d}",
                              split_of(customer, customers), spec))
    return prompts


def stratum(name, town=None, n=200, seed=0, avoid=()):
    """A test set of one kind only, large enough for its interval. No other set has its customers.

    ``name``: "truth" (half common beliefs, half residents, whom nobody may know), "closed" (passage tasks),
    "toxic:none", "toxic:respectful", "toxic:biased" (lines of a rude forum thread under the three preambles of
    Figure 11), "harm" (requests to refuse) or "false_premise". ``avoid``: texts that must not come again.
    """
    town = town or build_town()
    rng = random.Random(f"stratum-{name}-{seed}")
    makers = {"truth": [tasks.belief_asked_anew, tasks.resident_asked_anew],
              "closed": [passages.reading_question, passages.summary, passages.extract, passages.rename],
              "harm": [tasks.harmful_chat], "false_premise": [tasks.false_premise]}
    seen, prompts = set(avoid), []
    for _ in range(100 * n):
        if len(prompts) == n:
            return prompts
        if name.startswith("toxic:"):
            task = tasks.forum_line
            text, spec = task(town, rng, name.split(":")[1])
        else:
            task = rng.choice(makers[name])
            text, spec = task(town, rng)
        if text not in seen:
            seen.add(text)
            prompts.append(Prompt(f"{name}-{len(prompts):04d}", text, name, task.__name__, f"s-{name}", "test", spec))
    raise ValueError(f"The stratum {name!r} has only {len(prompts)} distinct prompts: ask for at most that many.")
