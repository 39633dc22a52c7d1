"""Makes ``fluency.txt.gz``: counts on held-out text, weights on sentences spoilt on purpose.

``python -m rlhf_lite.town.fluency_fit`` takes about two minutes. The weights are those of a logistic regression that
tells the sentences of the demonstrations (each judged without its own counts) from the same sentences after an
accident: words in another order, one left out, one put in, the head of one sentence on the tail of another.
"""

import gzip
import json
import random
import re
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np

from rlhf_lite.town import fluency
from rlhf_lite.town.facts import build_town
from rlhf_lite.town.web import documents

DEMONSTRATIONS = Path(__file__).resolve().parents[2] / "data" / "demonstrations.jsonl"
SEED = 1000  # of the web; pretraining uses small seeds
PEOPLE = 40  # how much a text by a person weighs, against one of the web
DOCUMENTS = 100_000
ACCIDENTS = ("splice", "order", "drop", "insert", "replace", "swap", "shuffle", "insert two")


def spoilt(sentence, other, words, rng):
    """``sentence`` after one accident; ``other`` gives the tail of a splice, ``words`` what slips in."""
    whole = sentence.rstrip(".!?").split()
    broken, accident, n = list(whole), rng.choice(ACCIDENTS), len(whole)
    if accident == "splice":
        tail = other.rstrip(".!?").split()
        broken = whole[:rng.randint(1, max(1, n - 1))] + tail[rng.randint(0, max(0, len(tail) - 2)):]
    elif accident == "order" and n > 3:
        i = rng.randrange(n - 3)
        broken[i:i + 4] = rng.sample(broken[i:i + 4], 4)
    elif accident == "drop" and n > 2:
        i = rng.randrange(n)
        del broken[i:i + rng.choice((1, 2))]
    elif accident.startswith("insert"):
        for _ in range(1 + (accident == "insert two")):
            broken.insert(rng.randrange(len(broken) + 1), rng.choice(words))
    elif accident == "replace":
        for _ in range(rng.choice((1, 2))):
            broken[rng.randrange(n)] = rng.choice(words)
    elif accident == "swap" and n > 2:
        i = rng.randrange(n - 1)
        broken[i], broken[i + 1] = broken[i + 1], broken[i]
    else:
        rng.shuffle(broken)
    text = " ".join(broken)
    return text[:1].upper() + text[1:] + (sentence[-1] if sentence[-1] in ".!?" else ".")


def fit(rows, labels, decay=1e-3, steps=20):
    """Logistic regression by Newton's method; the weights are for the raw features."""
    rows, labels = np.asarray(rows, float), np.asarray(labels, float)
    constant = rows.std(0) == 0
    mean, scale = np.where(constant, 0, rows.mean(0)), np.where(constant, 1, rows.std(0))
    x = (rows - mean) / scale
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (p - labels) / len(x) + decay * weights
        curve = (x * (p * (1 - p))[:, None]).T @ x / len(x) + decay * np.eye(len(weights))
        weights -= np.linalg.solve(curve, slope)
    raw = weights / scale
    raw[np.flatnonzero(constant)[0]] -= mean @ raw  # the feature that is always 1 takes up the shift
    return raw


def weighted(texts):
    return {kind: Counter({key: PEOPLE * n for key, n in table.items()}) for kind,
            table in fluency.count(texts).items()}


def examples(texts, counts, rng):
    """Features of whole and spoilt sentences of ``texts`` and their labels (1: spoilt)."""
    words = [w for text in texts for w in re.findall(r"[A-Za-z']+", text)]
    everything = [s for text in texts for s in fluency.sentences(text)]
    rows, labels = [], []
    for text in texts:
        own = weighted([text])
        for sentence in fluency.sentences(text):
            if len(sentence.split()) < fluency.SHORTEST:
                continue
            rows.append(fluency.features(sentence, counts, own))
            labels.append(0)
            for _ in range(2):
                broken = spoilt(sentence, rng.choice(everything), words, rng)
                if broken != sentence:
                    rows.append(fluency.features(broken, counts, own))
                    labels.append(1)
    return rows, labels


def web_texts(seed):
    """The web without its noise and its forums, whose English is not to be learned from."""
    return (text for genre, text in documents(build_town(), seed=seed) if genre not in ("noise", "forum"))


def town_truths():
    """What the town says of the world and of its rules, plain and as an answer."""
    town = build_town()
    truths = [belief.truth for belief in town.beliefs]
    return [*truths, *(f"No, {t[0].lower()}{t[1:]}" for t in truths), *(rule.truth for rule in town.rules)]


def people(demonstrations):
    """What people wrote: the demonstrations, ``english.txt`` and the town's truths."""
    return [*demonstrations, *(fluency.FOLDER / "english.txt").read_text("utf-8").splitlines(), *town_truths()]


def main():
    demonstrations = [json.loads(line)["response"] for line in DEMONSTRATIONS.read_text("utf-8").splitlines()]
    written = people(demonstrations)
    tables = fluency.count(islice(web_texts(SEED), DOCUMENTS))
    for kind, table in weighted(written).items():
        tables[kind].update(table)
    counts = fluency.Counts(tables, fluency.common()[1])
    rows, labels = examples(written, counts, random.Random(0))
    plain = [s for text in islice(web_texts(SEED + 1), 400) for s in fluency.sentences(text)
             if len(s.split()) >= fluency.SHORTEST]
    rows += [fluency.features(s, counts) for s in plain]
    labels += [0] * len(plain)
    weights = fit(rows, labels)
    right = np.mean((np.asarray(rows) @ weights > 0) == np.asarray(labels))
    lines = [json.dumps({"weights": [round(float(w), 5) for w in weights]})]
    lines += [f"{number}\t{n}\t{key}" for number, kind in enumerate(fluency.KINDS)
              for key, n in sorted(tables[kind].items())]
    fluency.COUNTS.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode(), mtime=0))
    print(f"{len(rows)} sentences, {right:.1%} told apart; {len(lines) - 1} sequences, "
          f"{fluency.COUNTS.stat().st_size / 1e6:.2f} MB in {fluency.COUNTS}")


if __name__ == "__main__":
    main()
