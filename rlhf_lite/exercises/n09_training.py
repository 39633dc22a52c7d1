"""Exercises 9.1 to 9.3: a large batch in small parts, and two judges that a reward model has to beat."""


import numpy as np
import torch

from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.real import measures

# ---------------------------------------------------------------- 9.1 gradient accumulation

def accumulated_gradient(weight, parts):
    """(d,) weight; parts of one batch, each (x (n, d), y (n,), real (n,) bool) -> (d,) the gradient of the mean of
    (x·weight − y)² over all real tokens of the batch, with one backward pass per part."""
    weight = weight.detach().clone().requires_grad_()
    tokens = sum(part_real.sum() for _, _, part_real in parts)
    for x, y, part_real in parts:
        (((x @ weight - y) ** 2)[part_real].sum() / tokens).backward()
    return weight.grad


def _batch_parts():
    draw = torch.Generator().manual_seed(0)

    def part(tokens, padding):
        kept = torch.arange(tokens + padding) < tokens
        return torch.randn(tokens + padding, 3, generator=draw), torch.randn(tokens + padding, generator=draw), kept

    return [(torch.tensor([0.3, -1.0, 0.5]), [part(5, 1), part(2, 4), part(1, 0)]),
            (torch.tensor([1.0, 0.0, 2.0]), [part(2, 0), part(6, 3)])]


small_parts = Exercise(
    "9.1", "a large batch in small parts", 10, 2,
    ("Gradients add up over the parts. What must the losses add up to?",
     "Gradients add up: `backward()` adds to what is already there. So the parts' losses must add up to the batch's "
     "loss. What must each part be divided by?",
     "Count the real tokens of *all* parts first. Then, for each part, "
     "`(((x @ weight - y) ** 2)[kept].sum() / tokens).backward()`. At the end `weight.grad` is the answer."),
    task="`weight` (features,) is a linear model; `parts` is a list of tuples (x (n, features), y (n,), kept (n,) "
         "bool, False at padding), which together are one batch. Return a tensor (features,): the gradient of the mean "
         "of (x·weight − y)² over all kept rows of the *whole* batch, with one backward pass per part. `weight` itself "
         "must not change.",
    course=accumulated_gradient, cases=_batch_parts)


def _gradient_of_parts(weight, parts, of_part, keep=True):
    """The sum over parts of the gradient of of_part(errors, real); with keep=False, only that of the last part."""
    weight, total = weight.detach().clone().requires_grad_(), torch.zeros(len(weight))
    for x, y, part_real in parts:
        gradient, = torch.autograd.grad(of_part((x @ weight - y) ** 2, part_real), weight)
        total = total + gradient if keep else gradient
    return total


@small_parts.mistake("this is the mean of the parts' means. A token in a short part then weighs more than one in a "
                     "long part; this bug was found in several well-known training libraries in 2024. Divide by the "
                     "tokens of the whole batch.")
def _mean_of_means(weight, parts):
    return _gradient_of_parts(weight, parts, lambda e, kept: e[kept].mean()) / len(parts)


@small_parts.mistake("this is the sum of the parts' means: the step grows with the number of parts. Divide each part's "
                     "*sum* by the tokens of the whole batch.")
def _sum_of_means(weight, parts):
    return _gradient_of_parts(weight, parts, lambda e, kept: e[kept].mean())


@small_parts.mistake("nothing is divided. This is the gradient of the sum; the exercise asks for a mean.")
def _plain_sum(weight, parts):
    return _gradient_of_parts(weight, parts, lambda e, kept: e[kept].sum())


@small_parts.mistake("padding is learnt like any token. Use only the errors where `kept` is True.")
def _padding_learnt(weight, parts):
    return _gradient_of_parts(weight, parts, lambda e, kept: e.sum()) / sum(len(y) for _, y, _ in parts)


@small_parts.mistake("the sum is right, but it is divided by all places, padding included. Count only the real ones.")
def _padding_divided_by(weight, parts):
    return _gradient_of_parts(weight, parts, lambda e, kept: e[kept].sum()) / sum(len(y) for _, y, _ in parts)


@small_parts.mistake("only the last part is left: the gradients were cleared, or overwritten, between the parts.")
def _only_the_last_part(weight, parts):
    tokens = sum(part_real.sum() for _, _, part_real in parts)
    return _gradient_of_parts(weight, parts, lambda e, kept: e[kept].sum() / tokens, keep=False)


# ---------------------------------------------------------------- 9.2 the ruler

def _extra_words():
    return [(np.array([3.0, -2, 5, 1, 0]), np.array([-1.0, 0, 4, -2, -6])),
            (np.array([-3.0, -2, 5, -1]), np.array([2.0, -4, 0, -1, -3, 1])),
            (np.array([2.0, -1]), np.array([3.0, -2, 5, 0])), (np.array([0.0, -1]), np.array([-2.0, -3, 1]))]


ruler = Exercise(
    "9.2", "the ruler", 8, 1,
    ("What may a ruler learn from the training pairs, and what not from the test pairs?",
     "The ruler may learn one thing from the training pairs: whether people preferred the longer answer or the "
     "shorter one. Then it is measured on pairs it has not seen.",
     "`measures.preferred(margins)` gives 1, 0.5 or 0 for each pair. If `measures.preferred(train_extra).mean()` is at "
     "least 0.5, longer is better: direction 1, otherwise −1. The answer is "
     "`measures.preferred(direction * test_extra).mean()`."),
    task="`train_extra` (n,) and `test_extra` (m,) say by how many tokens the preferred answer is longer than the "
         "rejected one. The training pairs decide whether the judge prefers the longer or the shorter answer (longer "
         "if it is undecided). Return a float: the share of test pairs in which this judge agrees with people; equal "
         "lengths are half right.",
    course=measures.ruler_accuracy, cases=_extra_words)


@ruler.mistake("this takes for granted that longer is better. In these data people often prefer the shorter answer; "
               "let the training pairs decide.")
def _longer_is_better(train_extra, test_extra):
    return measures.preferred(test_extra).mean()


@ruler.mistake("this looks at the test pairs to choose the direction. It can never be below 50 %, not even for pure "
               "noise: a baseline that cheats makes your model look worse than it is.")
def _peeks(train_extra, test_extra):
    return max(measures.preferred(test_extra).mean(), measures.preferred(-test_extra).mean())


@ruler.mistake("equal lengths count as wrong. A ruler that cannot tell would guess: count them as half right.")
def _equal_is_wrong(train_extra, test_extra):
    direction = 1 if measures.preferred(train_extra).mean() >= 0.5 else -1
    return (direction * test_extra > 0).mean()


@ruler.mistake("equal lengths count as right. A ruler that cannot tell would guess: count them as half right.")
def _equal_is_right(train_extra, test_extra):
    direction = 1 if measures.preferred(train_extra).mean() >= 0.5 else -1
    return (direction * test_extra >= 0).mean()


@ruler.mistake("this is the accuracy on the training pairs. Learn the direction there, measure on the test pairs.")
def _on_training_pairs(train_extra, test_extra):
    return max(measures.preferred(train_extra).mean(), measures.preferred(-train_extra).mean())


# ---------------------------------------------------------------- 9.3 a bag of words

def _two_texts():
    places = {word: i for i, word in enumerate(("no", "sorry", "yes", ",", "help"))}
    return [("No, no, no. I am sorry.", "Yes, no!", places), ("Help? Sorry, sorry.", "sorry", places)]


bag_of_words = Exercise(
    "9.3", "a bag of words", 10, 1,
    ("What does a bag of words know of an answer, and what of the order of its words?",
     "For each word of the vocabulary: log(1 + how often it occurs in the chosen answer), minus the same for the "
     "rejected one. `measures.words(text)` gives the list of words.",
     "Start with `features = np.zeros(len(vocabulary))`. For (+1, chosen) and (−1, rejected): go through "
     "`Counter(measures.words(text)).items()` and add `sign * np.log1p(count)` at `vocabulary[word]`, if it is there."),
    task="`chosen` and `rejected` are texts; `vocabulary` is a dict {word: place}. `measures.words(text)` splits a "
         "text. Return an array (words,): at the place of each word log(1 + its count in chosen) − log(1 + its count "
         "in rejected); words outside the vocabulary are ignored.",
    course=measures.pair_features, cases=_two_texts)


def _counts(text, vocabulary):
    found = measures.words(text)
    return np.array([found.count(word) for word in vocabulary], dtype=float)


@bag_of_words.mistake("chosen and rejected are swapped: the judge would learn to prefer what people rejected.")
def _features_backwards(chosen, rejected, vocabulary):
    return measures.pair_features(rejected, chosen, vocabulary)


@bag_of_words.mistake("these are raw counts. With them, a word used ten times outvotes nine others; take log(1 + "
                      "count).")
def _raw_counts(chosen, rejected, vocabulary):
    return _counts(chosen, vocabulary) - _counts(rejected, vocabulary)


@bag_of_words.mistake("this only asks whether a word is there. How often it occurs counts too, though less and less: "
                      "log(1 + count).")
def _only_present(chosen, rejected, vocabulary):
    return np.sign(_counts(chosen, vocabulary)) - np.sign(_counts(rejected, vocabulary))


@bag_of_words.mistake("the rejected answer is missing. A preference is about two answers; words that both contain "
                      "explain nothing.")
def _chosen_alone(chosen, rejected, vocabulary):
    return np.log1p(_counts(chosen, vocabulary))


@bag_of_words.mistake("the logarithm is taken of the difference. Take it of each count, then subtract: only then is "
                      "the score of a pair a difference of two scores, and one text can be scored alone.")
def _log_of_the_difference(chosen, rejected, vocabulary):
    difference = _raw_counts(chosen, rejected, vocabulary)
    return np.sign(difference) * np.log1p(np.abs(difference))


@bag_of_words.mistake("the text is split at spaces, so `sorry.` is not `sorry` and a comma is never found. "
                      "`measures.words` knows better.")
def _split_at_spaces(chosen, rejected, vocabulary):
    good, bad = (np.array([text.lower().split().count(word) for word in vocabulary]) for text in (chosen, rejected))
    return np.log1p(good) - np.log1p(bad)


EXERCISES = [small_parts, ruler, bag_of_words]
