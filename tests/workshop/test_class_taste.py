"""Tastes as reward models: a taste that is there is found, on prompts that were not learnt from; and the whole demo."""

import re

import pytest
import torch

from rlhf_lite import __main__ as cli
from rlhf_lite import feedback, reward
from rlhf_lite.experiment import data
from rlhf_lite.workshop import class_folder, class_taste


def invented(people=3, prompts=20, K=4, seed=0):
    """Answers with random features, and people who like the first one, hate it, or do not care."""
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(prompts, K, class_taste.DIRECTIONS, generator=rng, dtype=torch.float64)
    answers = class_taste.Answers(torch.zeros(prompts, K, dtype=torch.float64), features, torch.eye(4).double())
    liking = torch.tensor([1.0, -1.0, 0.0])[:people, None, None] * features[None, :, :, 0]
    return answers, (-liking).argsort(-1).argsort(-1).float() + 1


def test_a_taste_is_found_and_predicts_unseen_prompts():
    answers, ranks = invented(2)
    taste = class_taste.fit(answers, ranks)
    assert taste[0, 0] > 0.5 > -0.5 > taste[1, 0] and taste[:, 1:].abs().max() < 0.4
    unseen = class_taste.held_out(answers, ranks)
    for person in range(2):
        assert class_taste.accuracy(unseen[[person]], ranks[[person]]).value > 0.85
    shared = class_taste.fit(answers, ranks, shared=True)  # the two cancel each other
    assert shared.shape == (1, 4) and shared.abs().max() < 0.1


def test_held_out_means_held_out():
    """Ranks that have nothing to do with the answers are not predicted."""
    answers, ranks = invented(1, prompts=100)
    shuffled = torch.stack([row[torch.randperm(4, generator=torch.Generator().manual_seed(i))]
                            for i, row in enumerate(ranks[0])])[None]
    assert 0.4 < class_taste.accuracy(class_taste.held_out(answers, shuffled), shuffled).value < 0.6


def test_a_prompt_that_somebody_left_out_does_not_count():
    answers, ranks = invented(1)
    gone = ranks.clone()
    gone[:, 5:] = 0
    assert class_taste.accuracy(class_taste.score(answers, torch.zeros(1, 4).double()), gone).n == 5


def test_the_demo_end_to_end(tmp_path, capsys):
    """Its models are the shipped ones, so the reward model with a taste can be held against the scores of `fit`."""
    folder = tmp_path / "trial"
    assert cli.main(["class", "demo", str(folder), "--people", "4", "--fast"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"This will take about \d+ (seconds|minutes)", said)
    assert "discussed:" in said and "control:" in said
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "All of these people are simulated" in page and "What PPO made of it" in page
    assert len(feedback.read_jsonl(folder / "class.jsonl", feedback.check_ranking)[0]) == 4 * (8 + 3)
    assert cli.main(["class", "start", str(folder)]) == 1 and "choose another folder" in capsys.readouterr().err
    from rlhf_lite.workshop import class_round
    _, shipped, tokenizer = class_round._models()
    items, people = class_folder.items(folder), class_folder.gather(class_folder.files_of(folder)).people
    answers, ranks = class_taste.read_answers(items, shipped, tokenizer), class_taste.rank_array(items, people)
    taste = class_taste.fit(answers, ranks)
    model = class_taste.reward_model(shipped, answers, taste[0])
    rows = class_folder.first_time(next(iter(people.values())))
    for row, whole in zip(data.ranked_prompts(tokenizer, rows), rows, strict=True):
        place = [item["prompt_id"] for item in items].index(whole["prompt_id"])
        found = reward.score_rankings(model, [row])[0][0].double()
        expected = class_taste.score(answers, taste)[0, place]
        assert (found - found.mean()).tolist() == pytest.approx((expected - expected.mean()).tolist(), abs=1e-4)
