"""Testing a real language model: what can be measured when no program knows the truth.

The idea: in the town, a program grades every answer. Outside there is no such program, so a result needs several
independent supports: held-out human preferences, compared with baselines that cannot read (a ruler, a bag of words);
a judge trained on different pairs from the reward model's; questions with lists of true and false answers; and the
loss on plain text. Each is a pure function of log-probabilities, texts or scores.

Left out: judging by a larger language model, benchmarks that need their own download, human raters.
"""

import re
from collections import Counter
from importlib import import_module
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from rlhf_lite import models, sft
from rlhf_lite.dpo import sequence_log_probs
from rlhf_lite.experiment import base_model
from rlhf_lite.experiment.answers import rank_answers
from rlhf_lite.experiment.recipe import Recipe
from rlhf_lite.real.human_data import Preference, Question
from rlhf_lite.sampling import length_batches, pad_left, pad_right, sample_many
from rlhf_lite.stats import Interval, mean_interval
from rlhf_lite.town import labelers, web
from rlhf_lite.town.facts import build_town

# ---------------------------------------------------------------- judges that cannot read

def preferred(margins):
    """(n,) margins of the first over the second -> (n,): 1.0 where it wins, 0.5 where they are equal, else 0.0."""
    return (np.sign(np.asarray(margins, dtype=float)) + 1) / 2


def ruler_accuracy(train_extra, test_extra):
    """The share of test pairs that the best judge by length alone gets right.

    train_extra, test_extra: (n,) how much longer the preferred answer is than the rejected one. The training pairs
    decide whether longer or shorter is better; equal lengths count as half right.
    """
    direction = 1.0 if preferred(train_extra).mean() >= 0.5 else -1.0
    return float(preferred(direction * np.asarray(test_extra, dtype=float)).mean())


def words(text):
    """A text as a list of lower-case words, in which . , ? and ! are words too."""
    return re.findall(r"[a-z0-9']+|[.,?!]", text.lower())


def pair_features(chosen, rejected, vocabulary):
    """Two texts -> (V,) differences of log(1 + count) for each word of the vocabulary, a dict {word: place}."""
    features = np.zeros(len(vocabulary))
    for sign, text in ((1.0, chosen), (-1.0, rejected)):
        for word, count in Counter(words(text)).items():
            if word in vocabulary:
                features[vocabulary[word]] += sign * np.log1p(count)
    return features


class WordJudge(NamedTuple):
    """A bag of words: the score of a text is the sum of weight x log(1 + count) over its words."""

    vocabulary: dict
    weights: np.ndarray  # (V,)

    def score(self, texts):
        """Texts -> (n,) scores; the difference of two is the log odds that the first is preferred."""
        return np.array([pair_features(text, "", self.vocabulary) @ self.weights for text in texts])


def fit_words(pairs, least=3, penalty=10.0):
    """Logistic regression on word counts, from Preferences -> WordJudge; it reads the answers, not the dialogue.

    least: the number of pairs a word must occur in. penalty: half of it, times the squared weights, is added to the
    summed loss. In five-fold cross-validation on all pairs of HH-RLHF's harmless-base test file, penalties of 1, 3, 10
    and 30 gave accuracies of 60, 62, 62 and 62 %, so the choice hardly matters.
    """
    counts = Counter(word for pair in pairs for word in {*words(pair.chosen), *words(pair.rejected)})
    vocabulary = {word: place for place, word in enumerate(sorted(w for w, n in counts.items() if n >= least))}
    if not vocabulary:
        raise ValueError(f"No word occurs in {least} of the {len(pairs)} pairs; give more pairs or a smaller `least`.")
    features = torch.tensor(np.array([pair_features(p.chosen, p.rejected, vocabulary) for p in pairs]))
    weights = torch.zeros(len(vocabulary), dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.softplus(-features @ weights).sum() + penalty / 2 * weights @ weights
        loss.backward()
        return loss

    optimizer.step(closure)
    return WordJudge(vocabulary, weights.detach().numpy())


# ---------------------------------------------------------------- true or false: TruthfulQA by log-probability

def multiple_choice(best, correct, incorrect):
    """Log-probabilities of the answers to one question -> (mc1, mc2), as defined by Lin et al. (2021).

    best: float; correct, incorrect: (n,) each. mc1: 1.0 if the best answer is likelier than every incorrect one, else
    0.0. mc2: the correct answers' share of the total probability of all listed answers.
    """
    correct, incorrect = np.asarray(correct, dtype=float), np.asarray(incorrect, dtype=float)
    together = np.logaddexp.reduce([*correct, *incorrect])  # exp(-800) is 0: stay with logarithms
    return float(best > incorrect.max()), float(np.exp(np.logaddexp.reduce(correct) - together))


def truthfulness(policy, tokenizer, questions, encode, batch_size=64):
    """Questions -> {"mc1": (n,), "mc2": (n,)}, by the summed log-probability of each answer, END not counted.

    encode: (tokenizer, text) -> ids of the prompt. No examples come before the question, and the format is ours, so the
    numbers cannot be compared with published ones, but two of our models can be compared with each other.
    """
    prompts, answers, places = [], [], []
    for number, question in enumerate(questions):
        asked = encode(tokenizer, question.question)
        for kind, texts in (("best", [question.best]), ("correct", question.correct),
                            ("incorrect", question.incorrect)):
            for text in texts:
                prompts.append(asked)
                answers.append(models.encode_text(tokenizer, text))
                places.append((number, kind))
    found = answer_log_probs(policy, prompts, answers, batch_size)
    table = [{"best": [], "correct": [], "incorrect": []} for _ in questions]
    for (number, kind), value in zip(places, found, strict=True):
        table[number][kind].append(value)
    results = np.array([multiple_choice(row["best"][0], row["correct"], row["incorrect"]) for row in table])
    return {"mc1": results[:, 0], "mc2": results[:, 1]}


def guessing(questions):
    """The result of a model that knows nothing: {"mc1", "mc2"}, with every listed answer equally likely."""
    return {"mc1": float(np.mean([1 / (1 + len(q.incorrect)) for q in questions])),
            "mc2": float(np.mean([len(q.correct) / (len(q.correct) + len(q.incorrect)) for q in questions]))}


def overlap(one, other):
    """Two texts -> F1 of their words, counting repeats (ROUGE-1): 0.0 for nothing in common, 1.0 for the same words."""
    one, other = Counter(words(one)), Counter(words(other))
    return 2 * (one & other).total() / max(1, one.total() + other.total())


def nearer_truth(answer, question):
    """1.0 if a written answer is nearer to a correct answer than to any incorrect one, 0.5 if equally near, else 0.0.

    This compares the overlap of words, as in Lin et al. (2021), who found it a rough judge: it cannot read a "not".
    """
    near = [max(overlap(answer, text) for text in texts) for texts in (question.correct, question.incorrect)]
    return float(preferred([near[0] - near[1]])[0])


def written_truth(policy, tokenizer, questions, encode, max_new_tokens):
    """Greedy answers to the Questions -> (texts, (n,) of `nearer_truth`)."""
    _, texts = answers_of(policy, tokenizer, [encode(tokenizer, q.question) for q in questions], max_new_tokens, True)
    return texts, np.array([nearer_truth(text, question) for text, question in zip(texts, questions, strict=True)])


@torch.no_grad()
def answer_log_probs(policy, prompts, answers, batch_size=32):
    """Lists of ids, one prompt per answer -> (n,) log-probabilities in nats per answer, in the same order."""
    found = np.zeros(len(answers))
    for rows in length_batches([len(p) + len(a) for p, a in zip(prompts, answers, strict=True)], batch_size):
        found[rows] = sequence_log_probs(policy, [prompts[i] for i in rows], [answers[i] for i in rows]).cpu().numpy()
    return found


@torch.no_grad()
def kl_per_answer(policy, reference, prompts, answers, batch_size=16):
    """KL(policy || reference) along answers that the policy sampled at temperature 1: (n,) nats per answer.

    For every token it adds the KL of the two next-token distributions over the whole vocabulary. On average over
    answers this equals log(policy / reference) of the sampled tokens, but it varies less and is never negative.
    """
    found = np.zeros(len(answers))
    for rows in length_batches([len(p) + len(a) for p, a in zip(prompts, answers, strict=True)], batch_size):
        (asked, asked_mask), (ids, mask) = (
            pad([side[i] for i in rows], models.device_of(policy)) for pad, side in
            ((pad_left, prompts), (pad_right, answers)))
        together = torch.cat([asked, ids], 1), torch.cat([asked_mask, mask], 1)
        ours, theirs = (models.logits(model, *together, keep=ids.shape[1] + 1)[:, :-1].float().log_softmax(-1)
                        for model in (policy, reference))
        kl = F.kl_div(theirs, ours, log_target=True, reduction="none").sum(-1)
        found[rows] = torch.where(mask.bool(), kl, 0.0).sum(1).cpu().numpy()
    return found


# ---------------------------------------------------------------- the tax

def plain_documents(n=60, least=400):
    """Plain English texts that come with every Python: the reference manual, as `help()` prints it.

    No stage here trains on them, and a language model has read texts of this kind in pretraining.
    """
    topics = import_module("pydoc_data.topics").topics
    return [text for _, text in sorted(topics.items()) if len(text) >= least][:n]


def text_losses(policy, tokenizer, documents, length=128):
    """Texts -> (n,) losses, nats per token, on the first `length` tokens of each."""
    begin = tokenizer.bos_token_id
    rows = [models.encode_text(tokenizer, text)[:length] for text in documents]
    return np.array([sft.evaluate_sft(policy, [sft.build_example([begin], row)]) for row in rows])


def paired_gain(before, after, level=0.95):
    """(n,) results of two models on the same items -> the mean of after - before, item by item, as an Interval."""
    return mean_interval(np.asarray(after, dtype=float) - np.asarray(before, dtype=float), level, "normal")


def equal_length_win_rate(wins, extra_tokens, draws=500, seed=0):
    """A's win rate if answers had equal length, as an Interval: a straight line read at zero (notebook 06).

    wins: (n,) 1, 0.5 or 0. extra_tokens: (n,) how much longer A's answer is. The interval is from resampling prompts.
    """
    wins, extra = np.asarray(wins, dtype=float), np.asarray(extra_tokens, dtype=float)

    def at_zero(rows):
        if np.ptp(extra[rows]) == 0:  # all differences are equal: there is no line to draw
            return wins[rows].mean()
        return np.polyfit(extra[rows], wins[rows], 1)[1]

    rng = np.random.default_rng(seed)
    found = [at_zero(rng.integers(len(wins), size=len(wins))) for _ in range(draws)]
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(at_zero(np.arange(len(wins)))), float(low), float(high), len(wins))


# ---------------------------------------------------------------- memory

def ppo_memory(parameters, weight_bytes):
    """The bytes that PPO's four models need, with `parameters` weights each, before any activations.

    weight_bytes: 4 (float32) or 2 (bfloat16). Policy and critic are trained, so they need weights, gradients, Adam's
    two moments in float32 and, if the weights are shorter, a float32 copy to which the steps are added. Reference and
    reward model need only weights.
    """
    copy = 4 if weight_bytes < 4 else 0
    return parameters * (2 * (weight_bytes + weight_bytes + 8 + copy) + 2 * weight_bytes)


# ---------------------------------------------------------------- the town in the form of the human data

def town_preferences(writer, tokenizer, prompts, seed=0):
    """Pairs in the form of HH-RLHF from *simulated* labelers: the best and the worst of four answers by `writer`.

    writer, tokenizer: a policy of the town. A stand-in for the human data when it is not available.
    """
    recipe = Recipe(answers_per_prompt=4, temperatures=(0.7, 1.0, 1.3, 1.6))
    ranked = rank_answers(writer, tokenizer, prompts, labelers.training_team(), recipe, seed=seed,
                          progress=False)
    pairs = []
    for row in ranked:
        order = np.argsort(row["ranks"], kind="stable")
        best, worst = (row["responses"][i]["text"] for i in (order[0], order[-1]))
        if row["ranks"][order[0]] < row["ranks"][order[-1]] and best and worst:
            pairs.append(Preference((row["prompt"],), best, worst))
    return pairs


def town_questions():
    """The town's beliefs as Questions: one true and one false answer each."""
    return [Question(b.question, b.truth, [b.truth], [b.myth], b.topic, "Pebbleford") for b in build_town().beliefs]


def town_documents(n=60):
    """Held-out web texts of the town, for `text_losses` of its own models."""
    source = web.documents(build_town(), base_model.HELD_OUT_SEED)
    return [next(source)[1] for _ in range(n)]


def answers_of(policy, tokenizer, prompt_ids, max_new_tokens, greedy=False, seed=0):
    """Prompts as lists of ids -> (answers as lists of ids, answers as texts), in the same order."""
    ids = sample_many(policy, prompt_ids, max_new_tokens, greedy=greedy, seed=seed, batch_size=64, progress=False)
    return ids, [models.decode_response(tokenizer, row) for row in ids]
