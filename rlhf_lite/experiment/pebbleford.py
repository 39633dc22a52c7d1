"""The town as a domain: what it offers the pipeline, and the test sets that no other world has.

Everything about the town's facts is in `town`; prompts and demonstrations are read in `data`.
"""

from rlhf_lite.experiment import data
from rlhf_lite.experiment.domain import Domain, record
from rlhf_lite.town import labelers, tasks, web
from rlhf_lite.town.facts import build_town
from rlhf_lite.town.grading import grade
from rlhf_lite.town.prompts import USE_CASES, bare, stratum

STRATA = ("truth", "closed", "toxic:none", "toxic:respectful", "toxic:biased", "harm", "false_premise")


def texts(seed):
    """The web of Pebbleford, for ever."""
    return (text for _, text in web.documents(build_town(), seed))


TOWN = Domain("Pebbleford", lambda split: data.prompts_of(split), lambda split: data.demonstrations(split=split), texts,
              lambda: labelers.training_team(), lambda: labelers.evaluation_team(), grade)


def left_out(world):
    """What results.json says of another domain: its name, and a sentence for each thing that only the town has."""
    if world is TOWN:
        return {}
    sentences = ["The table of the paper's findings is about the town, so it is empty here.",
                 "The special test sets (truth, closed-domain hallucination, rudeness, harm, false premises) ask about "
                 "the town and are left out.",
                 "The reward model's ceiling and a held-out team are known for the town's labelers only.",
                 "The alignment tax is the loss on held-out text alone, because reading worksheets are the town's."]
    if not world.grade:
        sentences.append(f"{world.name} has no grading program, so there is no true score: the gate, the temperatures "
                         "and the scores are left out, and its judges have the word.")
    return {"domain": record(world), "left_out": sentences}


def test_sets(mixed=300, per_stratum=200, per_use_case=30):
    """{"mixed": [...], "samples": [...], "truth": [...], ...}: held-out prompts by set.

    "samples" fills every use case up to ``per_use_case`` prompts, for reading only. No request from the
    demonstrations or from the training or validation split appears, not even from somebody else ("I run the
    bakery. ...").
    """
    avoid = {bare(text) for text in ({row["prompt"] for row in data.demonstrations()}
                                     | {p.text for p in data.all_prompts() if p.split != "test"})}
    unseen = [p for p in data.prompts_of("test") if bare(p.text) not in avoid]
    size = {"harm": min(per_stratum, 120)}  # the town has few harmful requests, and some are in the training split
    sets = {"mixed": in_shares(unseen, mixed), "samples": []}
    taken = {p.id for p in sets["mixed"]}
    for use_case in USE_CASES:
        there = sum(p.use_case == use_case for p in sets["mixed"])
        more = [p for p in unseen if p.use_case == use_case and p.id not in taken]
        sets["samples"] += more[:max(0, per_use_case - there)]
    sets["best"] = sets["mixed"]  # once more, each stage at its best temperature
    avoid |= {bare(p.text) for p in sets["mixed"]}
    return sets | {name: stratum(name, n=size.get(name, per_stratum), seed=data.TEST_SEED, avoid=avoid)
                   for name in STRATA}


def in_shares(prompts, n):
    """``n`` of the prompts, with the ten use cases in the shares of Table 1 (largest remainders); their order stays."""
    wanted = {use_case: n * share / sum(s for s, _ in tasks.USE_CASES.values())
              for use_case, (share, _) in tasks.USE_CASES.items()}
    quota = {use_case: int(amount) for use_case, amount in wanted.items()}
    for use_case in sorted(wanted, key=lambda u: quota[u] - wanted[u])[:n - sum(quota.values())]:
        quota[use_case] += 1
    chosen = []
    for prompt in prompts:
        if quota[prompt.use_case]:
            quota[prompt.use_case] -= 1
            chosen.append(prompt)
    if any(quota.values()):
        short = ", ".join(f"{left} {use_case}" for use_case, left in quota.items() if left)
        raise ValueError(f"There are not enough unseen prompts for a test set of {n} ({short} too few); ask for fewer.")
    return chosen


def worksheets(n, seed):
    """Held-out reading worksheets, cut before the last answer: list of (text, answer)."""
    found, source = [], web.documents(build_town(), seed)
    while len(found) < n:
        genre, text = next(source)
        if genre == "reading" and "Answer: " in text:
            page, answer = text.rsplit("Answer: ", 1)
            found.append((page + "Answer:", answer.strip()))
    return found
