"""The grader against sets of texts that people wrote or read: ``python tests/grading_sets.py FOLDER``.

A folder holds ``prompts.jsonl`` (prompts as dicts), ``good.jsonl`` and ``bad.jsonl`` (rows with id, answer, kind)
and, for models' answers read blind, ``answers.jsonl`` (rows with n, prompt, response, finished) beside
``reader1.jsonl`` and ``reader2.jsonl`` (rows with n, verdict: good, middling or bad). What is missing is left out.
"""

import argparse
import json
import random
import re
from collections import Counter
from pathlib import Path

from rlhf_lite.town.grading import grade
from rlhf_lite.town.prompts import Prompt

DEMONSTRATIONS = Path(__file__).parents[1] / "data" / "demonstrations.jsonl"
HIGH, LOW = (6, 7), (1, 2, 3)


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def demonstrations():
    """``[(task, prompt, answer)]`` of the people's demonstrations."""
    return [(d["task"], Prompt(d["prompt_id"], d["prompt"], d["use_case"], d["task"], d["customer"], d["split"],
                               d["spec"]),
             d["response"]) for d in rows(DEMONSTRATIONS)]


def shuffled(text, rng):
    """``text`` with the words of each sentence in another order: right words, no English."""
    sentences = []
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        words, end = sentence.rstrip(".!?").split(), sentence[-1:]
        if len(set(words)) > 1:
            before = list(words)
            while words == before:
                rng.shuffle(words)
        joined = " ".join(words)
        sentences.append(joined[:1].upper() + joined[1:] + end)
    return " ".join(sentences)


def can_be_shuffled(text, least=6):
    """A short answer ("A duck.") has hardly another order, and a row of items is right in any."""
    return len(text.split()) >= least


def shuffled_demonstrations(seed=0, kinds=("write", "portrait", "summary", "polite", "refuse", "belief", "rule")):
    rng = random.Random(seed)
    return [(task, p, shuffled(text, rng)) for task, p, text in demonstrations() if p.spec["kind"] in kinds
            and can_be_shuffled(text)]


def written(folder, name):
    """``[(kind, prompt, answer)]`` of good.jsonl or bad.jsonl."""
    prompts = {row["id"]: Prompt.from_dict(row) for row in rows(folder / "prompts.jsonl")}
    return [(row["kind"], prompts[row["id"]], row["answer"]) for row in rows(folder / f"{name}.jsonl")]


def errors(texts, wrong):
    """The graded texts whose overall grade is in ``wrong``: ``[(kind, prompt, answer, grade)]``."""
    graded = [(kind, p, answer, grade(p, answer)) for kind, p, answer in texts]
    return [row for row in graded if row[3].overall in wrong]


def readings(folder):
    """``[(prompt, response, finished, verdict 1, verdict 2)]``, one a text that both readers read."""
    first, second = ({row["n"]: row["verdict"] for row in rows(folder / f"reader{i}.jsonl")} for i in (1, 2))
    return [(Prompt.from_dict(row["prompt"]), row["response"], row["finished"], first[row["n"]], second[row["n"]])
            for row in rows(folder / "answers.jsonl") if row["n"] in first and row["n"] in second]


def high_grades_read(folder):
    """``{stage: {verdict: share}}``: how both readers judge the answers of a stage that are graded 6 or 7."""
    found = {}
    first, second = ({row["n"]: row["verdict"] for row in rows(folder / f"reader{i}.jsonl")} for i in (1, 2))
    for row in rows(folder / "answers.jsonl"):
        g, n = grade(Prompt.from_dict(row["prompt"]), row["response"], row["finished"]), row["n"]
        if g.overall in HIGH and n in first and n in second:
            found.setdefault(row["stage"], []).append(first[n] if first[n] == second[n] else "disputed")
    return {stage: {v: verdicts.count(v) / len(verdicts) for v in ("good", "middling", "bad", "disputed")} | {
        "n": len(verdicts)} for stage, verdicts in found.items()}


def agreement(pairs):
    """Share of agreeing pairs of verdicts where neither is middling, with the number of pairs and both errors."""
    clear = Counter(pair for pair in pairs if "middling" not in pair)
    n = sum(clear.values())
    return (clear["good", "good"] + clear["bad", "bad"]) / max(n, 1), n, clear["good", "bad"], clear["bad", "good"]


def verdict(overall):
    return "good" if overall in HIGH else "bad" if overall in LOW else "middling"


def show(name, wrong, texts, loud):
    by_kind, total = Counter(row[0] for row in wrong), Counter(row[0] for row in texts)
    print(f"{name}: {len(wrong)} of {len(texts)} = {len(wrong) / max(len(texts), 1):.1%}")
    for kind in sorted(by_kind, key=by_kind.get, reverse=True):
        print(f"    {kind}: {by_kind[kind]} of {total[kind]}")
    for kind, p, answer, g in wrong if loud else ():
        print(f"  [{kind}] {p.task} | {p.text!r}\n      -> {answer!r}\n      {g.overall} {g.reasons}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--errors", action="store_true", help="print every text that is graded wrongly")
    options = parser.parse_args()
    demos = demonstrations()
    show("demonstrations graded below 6", errors(demos, (1, 2, 3, 4, 5)), demos,
         options.errors)
    salad = shuffled_demonstrations()
    show("shuffled demonstrations graded above 3", errors(salad, (4, 5, 6, 7)), salad, options.errors)
    for name, wrong in (("bad", HIGH), ("good", LOW)):
        texts = written(options.folder, name)
        if texts:
            show(f"{name} texts graded {wrong[0]} to {wrong[-1]}", errors(texts, wrong), texts, options.errors)
    read = readings(options.folder)
    graded = [(p, text, grade(p, text, finished), one, two) for p, text, finished, one, two in read]
    if read:
        print("readers with each other: {:.1%} of {}".format(*agreement([(one, two) for *_, one, two in read])))
    for number in (3, 4) if read else ():
        pairs = [(row[number], verdict(row[2].overall)) for row in graded]
        print("reader {} and the grade: {:.1%} of {}; good graded bad {}, bad graded good {}".format(
            number - 2, *agreement(pairs)))
    for stage, said in high_grades_read(options.folder).items() if read else ():
        print(f"{stage}, {said['n']} answers graded 6 or 7, both readers: "
              + ", ".join(f"{said[v]:.0%} {v}" for v in ("good", "middling", "bad", "disputed")))
    for p, text, g, one, two in graded if options.errors else ():
        if one == two and {one, verdict(g.overall)} == {"good", "bad"}:
            print(f"  [both readers {one}] {p.task} | {p.text!r}\n      -> {text!r}\n      {g.overall} {g.reasons}")


if __name__ == "__main__":
    main()
