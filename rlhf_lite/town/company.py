"""Words that are never seen together: "You shall know a word by the company it keeps" (J. R. Firth).

"Porridge on free grass" and "the bell wrote" are grammatical. But each of their words is frequent, and in a hundred
thousand documents nobody has said "free" of "grass". Two content words in a row, with at most three little words
between,
are such a pair; where both are frequent and the pair was seen neither in the held-out web nor among the common pairs
of the
real web, that is a doubt, and no more than that: good English is full of new pairs.

``python -m rlhf_lite.town.company`` writes ``company.txt.gz`` (a minute). Left out: what fits only one of two meanings.
"""

import gzip
import json
from collections import Counter
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path

from rlhf_lite.town.fluency import classes, common, sentences, tokens_of

FILE = Path(__file__).parent / "company.txt.gz"
DOCUMENTS = 100_000
EXPECTED = 0.3  # how often chance would have put the two words together in all that text
FAR = 4  # words from one to the other
CONTENT = frozenset("NOUN NOUNS NOUNM VERB VERBS PAST ING ADJECTIVE PARTICIPLE".split())
BREAKS = frozenset("CONJ SUB THAT WH".split())  # another clause, another company
# Words that go with all others.
LIGHT = frozenset("""is are was were be been have has had do does did be can will would go goes went come comes came
get gets
wonderful lovely great fine beautiful nice happy best better kind small special many much
got give gives gave make makes made take takes took say says said know knows knew good new nice old little big anna red
warm cold hot red monday june seven thing things one ones put let see sees saw like likes liked want wants please
thank thanks dear street lane
avenue road square""".split())


@lru_cache(maxsize=20000)
def stem(word):
    end = next((e for e in ("ies", "es", "s", "ing", "ed") if word.endswith(e) and len(word) - len(e) >= 3), "")
    return word.removesuffix(end) if end else word.rstrip("e") if len(word) > 4 else word


@lru_cache(maxsize=4096)
def stems(text):
    return frozenset(map(stem, tokens_of(text)))


def pairs(sentence):
    """Neighbouring content words of a sentence, as stems: ``["cook soup", ...]``."""
    found, last, place = [], None, 0
    for i, token in enumerate(tokens_of(sentence)):
        if not token[0].isalpha() or classes(token)[1] in BREAKS:
            last = None
        elif token not in LIGHT and not CONTENT.isdisjoint(classes(token)[1].split("|")):
            if last and i - place <= FAR:
                found.append(f"{stem(last)} {stem(token)}")
            last, place = token, i
    return found


@cache
def load():
    """``(pairs seen, how often each word comes first, how often second, number of pairs)``."""
    rows = [line.split("\t") for line in gzip.decompress(FILE.read_bytes()).decode().splitlines()]
    seen = {pair: int(n) for n, pair in rows}
    first, second = Counter(), Counter()
    for pair, n in seen.items():
        a, b = pair.split(" ")
        first[a] += n
        second[b] += n
    usual = {" ".join(map(stem, pair.split(" "))) for pair in common()[1]}
    return frozenset(seen) | usual, first, second, sum(seen.values())


@lru_cache(maxsize=20000)
def strange(sentence, asked=frozenset()):
    """The pair of frequent words of ``sentence`` that were never seen together, or None; what was asked for is free."""
    seen, first, second, total = load()
    odd = [(first[a] * second[b] / total, pair) for pair in pairs(sentence) if pair not in seen
           for a, b in [pair.split(" ")] if a not in asked and b not in asked]
    chance, pair = max(odd, default=(0, None))
    return pair if chance > EXPECTED else None


def main():
    from rlhf_lite.town.fluency_fit import DEMONSTRATIONS, SEED, people, web_texts
    demonstrations = [json.loads(line)["response"] for line in DEMONSTRATIONS.read_text("utf-8").splitlines()]
    seen = Counter(pair for text in (*people(demonstrations), *islice(web_texts(SEED), DOCUMENTS))
                   for sentence in sentences(text) for pair in pairs(sentence))
    FILE.write_bytes(gzip.compress("\n".join(f"{n}\t{pair}" for pair, n in sorted(seen.items())).encode(), mtime=0))
    print(f"{len(seen)} pairs, {FILE.stat().st_size / 1e6:.2f} MB in {FILE}")


if __name__ == "__main__":
    main()
