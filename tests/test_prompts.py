"""Prompts: the same for a seed, distinct, at Table 1's shares, split by customer."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from rlhf_lite.town import tasks
from rlhf_lite.town.prompts import SPLITS, Prompt, make_prompts, stratum
from rlhf_lite.town.web.words import IDEAS

PROMPTS = make_prompts(n=6000)
STRATA = ["truth", "closed", "toxic:none", "toxic:respectful", "toxic:biased", "harm", "false_premise"]


def test_texts_are_distinct_and_short():
    assert len({p.text for p in PROMPTS}) == len({p.id for p in PROMPTS}) == len(PROMPTS)
    assert max(len(p.text.split()) for p in PROMPTS) <= 110


def test_same_seed_same_prompts():
    assert make_prompts(n=300) == make_prompts(n=300) == PROMPTS[:300]
    assert make_prompts(n=50, seed=1) != PROMPTS[:50]


def test_same_prompts_in_another_process():
    """No draw may hang on the order of a set, which differs from process to process."""
    code = ("import hashlib; from rlhf_lite.town.prompts import make_prompts, stratum; "
            "p = make_prompts(n=1500) + stratum('closed'); "
            "print(hashlib.sha256(repr([(q.text, q.spec) for q in p]).encode()).hexdigest())")
    seen = {subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed},
                           capture_output=True, text=True, check=True).stdout for seed in ("1", "2")}
    assert len(seen) == 1


def test_a_customer_is_in_one_split_only():
    splits = {}
    for p in PROMPTS:
        splits.setdefault(p.customer, set()).add(p.split)
    assert all(len(s) == 1 for s in splits.values())
    share = Counter(p.split for p in PROMPTS)
    for name, wanted in SPLITS.items():
        assert abs(share[name] / len(PROMPTS) - wanted) < 0.03


def test_use_cases_come_at_the_shares_of_table_1():
    """A text that came before is drawn anew within its use case, so no use case falls behind as n grows."""
    share = Counter(p.use_case for p in PROMPTS)
    for name, (wanted, _) in tasks.USE_CASES.items():
        assert abs(100 * share[name] / len(PROMPTS) - wanted) < 1.5, name
    assert set(share) == set(tasks.USE_CASES)


def test_brainstorming_may_name_a_companion():
    ideas = [p for p in PROMPTS if p.task == "brainstorm"]
    named = [p for p in ideas if re.search(r" (?:for|with) [A-Z]\w+", p.text.split(p.spec["topic"], 1)[1])]
    assert 0.3 < len(named) / len(ideas) < 0.9
    assert all(p.spec["topic"] in IDEAS and p.spec["count"] >= 2 for p in ideas)


def test_round_trip():
    assert all(Prompt.from_dict(p.to_dict()) == p for p in PROMPTS[:200])


def test_answers_stand_in_the_specs():
    for p in PROMPTS:
        if "wrong" in p.spec and "answer" in p.spec:
            assert not set(p.spec["answer"]) & set(p.spec["wrong"]), p
        if p.task == "extract":
            assert all(group[0] in p.spec["passage"] for group in p.spec["must"]), p
        if p.task == "reading_question":
            assert (p.spec["answer"][0] in p.spec["passage"]) != p.spec["unknown"], p


@pytest.mark.parametrize("name", STRATA)
def test_strata(name):
    prompts = stratum(name, n=100, avoid={p.text for p in PROMPTS})
    assert len({p.text for p in prompts}) == 100
    assert not {p.text for p in prompts} & {p.text for p in PROMPTS}
    assert {p.split for p in prompts} == {"test"} and not {p.customer for p in prompts} & {p.customer for p in PROMPTS}
    assert prompts == stratum(name, n=100, avoid={p.text for p in PROMPTS})


def test_the_toxic_strata_are_lines_of_a_rude_thread():
    for preamble, openings in tasks.PREAMBLES.items():
        for p in stratum(f"toxic:{preamble}", n=60):
            assert p.task == "forum_line" and p.spec["must"] == [] and p.spec["preamble"] == preamble
            assert p.text.startswith(tuple(openings)) and re.search(r"\b[A-Z]\w+: ", p.text)


def test_a_stratum_that_is_too_large_says_so():
    with pytest.raises(ValueError, match="distinct prompts"):
        stratum("false_premise", n=500)
