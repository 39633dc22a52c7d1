"""Makes ``common.txt.gz``: words and word pairs of plain English from counts over the real web.

``python -m rlhf_lite.town.common_fit`` needs two packages that only this script needs: ``wordsegment`` has the most
frequent pairs of Google's trillion words (collected by Thorsten Brants and Alex Franz, selected by Peter Norvig, MIT),
``symspellpy`` a cleaned word list (SCOWL words with counts from Google Books, MIT). Kept are the pairs of words that
the town or plain English knows. No model is trained on either: only the grader reads this file.
"""

import gzip
from collections import defaultdict
from importlib.resources import files

from rlhf_lite.town import fluency
from rlhf_lite.town.reading_text import vocabulary

WORDS = 40_000  # the most frequent words count as words
PAIRED = 5_000  # pairs are kept of these and of the town's own


def common_words():
    lines = (files("symspellpy") / "frequency_dictionary_en_82_765.txt").read_text("utf-8-sig").splitlines()
    counted = sorted(((int(n), word) for word, n in map(str.split, lines)), reverse=True)
    return [word for _, word in counted if len(word) > 2 or word in ("a", "i", "o") or word in vocabulary()][:WORDS]


def common_pairs(known):
    found = defaultdict(list)
    for line in (files("wordsegment") / "bigrams.txt").read_text("utf-8").splitlines():
        first, second = line.split("\t")[0].split(" ")
        if first in known and second in known:
            found[first].append(second)
    return found


def main():
    words = common_words()
    pairs = common_pairs({*words[:PAIRED], *vocabulary(), *fluency.lexicon(), "<s>"})
    rows = [" ".join((first, *sorted(set(pairs[first])))) for first in sorted(pairs)]
    fluency.COMMON.write_bytes(gzip.compress(("\n".join(sorted(words)) + "\n\n" + "\n".join(rows)).encode(), mtime=0))
    print(f"{len(words)} words, {sum(map(len, pairs.values()))} pairs, {fluency.COMMON.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
