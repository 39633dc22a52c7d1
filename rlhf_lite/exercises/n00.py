"""Exercises of notebook 00: meet the problem."""

import math
import random

import torch

from rlhf_lite import stats
from rlhf_lite.exercises.checking import Exercise

LESSON = {
    "title": "Meet the problem",
    "promise": "A model that has read everything its town ever wrote cannot answer a postman's question. You find out "
               "why, try the two cheap cures, and judge blind what two more stages of training do for the same model.",
    "minutes": 75, "needs": "nothing: start here", "step": "0, the problem",
    "aims": ["show why a model that predicts the web well is not a model that helps",
             "get the best out of a base model: a stop sequence and a few-shot prompt",
             "compute the log-probability of an answer, and say why it does not measure its quality",
             "report a win rate with ties and an honest interval"],
}


# ---------------------------------------------------------------- 0.1 stop sequences

def cut_at(text, stops):
    """The part of a continuation before the earliest of several stop sequences, without spaces at either end."""
    places = [text.find(stop) for stop in stops if stop in text]
    return text[:min(places, default=len(text))].strip()


def _continuations():
    rng, pieces = random.Random(0), ["Yes", " A cat. ", "\n", "Q:", "q: no", " It opens at ten.", "END", "\nQ:"]
    mixed = ["".join(rng.choices(pieces, k=rng.randrange(6))) for _ in range(12)]
    return [("Dear Ned, thank you for the cap.\nWhen does school begin?\nAt eight.", ["\n"]),
            ("A blue door. Q: Who is Fay?\nA cook.", ["\n", "Q:"]), ("It opens at nine.", ["\n", "Q:"]),
            ("Yes. Q: Why?", ["Q:"]), ("\nWhen does school begin?", ["\n"]), (" At nine. ", ["\n"]),
            *[(text, rng.sample(["\n", "Q:", "END", "\nQ:"], 3)) for text in mixed]]


stop_sequence = Exercise(
    "0.1", "a stop sequence", 8, 1,
    ("Take `\"A blue door. Q: Who is Fay?\\nA cook.\"` with the stops `\"\\n\"` and `\"Q:\"`. Where would you cut, and "
     "which of the two stands in the list first?",
     "`text.find(stop)` gives the place of a stop sequence, or −1 if there is none. Look for every stop "
     "sequence that is in the text and cut at the smallest place.",
     "`places = [text.find(stop) for stop in stops if stop in text]`, then "
     "`text[:min(places, default=len(text))].strip()`."),
    task="`text` is a continuation and `stops` a list of stop sequences, all of them strings. Return the part of the "
         "text before the stop sequence that comes first *in the text*, as a string without spaces or line ends at "
         "either end. The stop sequence itself is no part of the answer. If none is in the text, the whole text "
         "counts.",
    course=cut_at, cases=_continuations)


@stop_sequence.mistake("it cuts at the last stop sequence. Everything after the *first* one already belongs to another "
                       "text.")
def _cuts_at_the_last(text, stops):
    places = [text.rfind(stop) for stop in stops if stop in text]
    return text[:max(places, default=len(text))].strip()


@stop_sequence.mistake("the stop sequence is still there. It ends the answer but does not belong to it.")
def _keeps_the_stop(text, stops):
    found = [(text.find(stop), stop) for stop in stops if stop in text]
    return text[:min(found)[0] + len(min(found)[1])] if found else text


@stop_sequence.mistake("it cuts at whichever stop sequence comes first in the *list*. What counts is which one comes "
                       "first in the *text*.")
def _first_of_the_list(text, stops):
    for stop in stops:
        if stop in text:
            return text.split(stop)[0].strip()
    return text.strip()


@stop_sequence.mistake("a continuation without any stop sequence loses its last character: `find` returns −1 there, "
                       "and `text[:-1]` is everything except the last character.")
def _minus_one(text, stops):
    return text[:min(text.find(stop) for stop in stops)].strip()


@stop_sequence.mistake("a stop sequence at the very beginning is overlooked: `find` returns 0 there, and only −1 means "
                       "that it is not in the text.")
def _overlooks_the_beginning(text, stops):
    places = [text.find(stop) for stop in stops if text.find(stop) > 0]
    return text[:min(places, default=len(text))].strip()


@stop_sequence.mistake("there are still spaces at the ends of the answer. A grader, or a second tokenisation, would "
                       "see them; `.strip()` removes them.")
def _keeps_spaces(text, stops):
    return text[:min([text.find(stop) for stop in stops if stop in text], default=len(text))]


# ---------------------------------------------------------------- 0.2 a few-shot prompt

def few_shot_prompt(examples, request):
    """Solved examples, then the request: every request ends with a newline, every answer with an empty line."""
    return "".join(f"{asked}\n{answer}\n\n" for asked, answer in examples) + f"{request}\n"


def _examples():
    solved = [("When does school begin?", "School begins at eight."), ("Name a pet.", "A cat.")]
    return [(solved, "Who owns the bakery?"), (solved[:1], "Name a fruit."), ([], "Name a fruit."),
            ([("Fill in: {name} is 50 %", "Ann is 50 %."), ("List two pets.", "A cat\nA dog"), *solved], " And now? ")]


few_shot = Exercise(
    "0.2", "a few-shot prompt", 8, 1,
    ("Print your prompt with `repr(...)` and count the `\\n`: one after every request, two after every answer.",
     "Write one example as an f-string, join the examples, and put the request that you want answered behind "
     "them, with its newline.",
     "`\"\".join(f\"{asked}\\n{answer}\\n\\n\" for asked, answer in examples) + f\"{request}\\n\"`"),
    task="`examples` is a list of pairs (request, answer) and `request` a string. Return the prompt as one string: for "
         "every example the request, a newline, the answer and an empty line (so two newlines); then `request` and "
         "a newline. Nothing comes after that, and without examples nothing comes before. Texts go in as they are.",
    course=few_shot_prompt, cases=_examples)


@few_shot.mistake("the newline after the request is missing. A base model then continues the *request*; the newline "
                  "is what tells it that the answer comes next.")
def _no_newline_at_the_end(examples, request):
    return few_shot_prompt(examples, request)[:-1]


@few_shot.mistake("the prompt ends with a space, not with a newline. That breaks the pattern; besides, a final space "
                  "belongs to the next word's token, so the first word of the answer would come out garbled.")
def _a_space_at_the_end(examples, request):
    return few_shot_prompt(examples, request)[:-1] + " "


@few_shot.mistake("the request comes before the examples. A model writes what comes *next*, so the request has to be "
                  "last.")
def _request_first(examples, request):
    return f"{request}\n" + few_shot_prompt(examples, "")[:-1]


@few_shot.mistake("nothing separates one example from the next. Without the empty line the model cannot tell where an "
                  "answer ends, and the next request looks like part of it.")
def _no_empty_line(examples, request):
    return "".join(f"{asked}\n{answer}\n" for asked, answer in examples) + f"{request}\n"


@few_shot.mistake("there is an empty line between request and answer, so it no longer shows where an example ends.")
def _empty_line_before_the_answer(examples, request):
    return "".join(f"{asked}\n\n{answer}\n\n" for asked, answer in examples) + f"{request}\n\n"


@few_shot.mistake("the examples have no answers. This is a list of questions, and the model will continue with another "
                  "question.")
def _without_answers(examples, request):
    return "".join(f"{asked}\n\n" for asked, _ in examples) + f"{request}\n"


# ---------------------------------------------------------------- 0.3 how likely is an answer?

def sequence_log_prob(logits, sequences, response_mask, prompt_length):
    """(batch, P + R, vocabulary) logits, (batch, P + R) ids, (batch, R) bool -> (batch,) sum of log p of the answers.

    `sampling.token_log_probs` gives the terms of this sum for a policy.
    """
    log_probs = logits[:, prompt_length - 1:-1].log_softmax(dim=-1)
    chosen = log_probs.gather(2, sequences[:, prompt_length:, None]).squeeze(2)
    return torch.where(response_mask, chosen, 0.0).sum(dim=1)


def _two_answers():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 6, 7, generator=generator)
    sequences = torch.tensor([[1, 4, 3, 5, 6, 2], [1, 3, 3, 4, 2, 0]])
    many = torch.randint(7, (5, 9), generator=generator)
    return [(logits, sequences, torch.tensor([[True, True, True], [True, True, False]]), 3),
            (logits[:1, :5], sequences[:1, :5], torch.tensor([[True, True]]), 3),
            (torch.randn(5, 9, 7, generator=generator), many, torch.arange(8) < torch.tensor([[8], [1], [5], [7], [2]]),
             1)]


likelihood = Exercise(
    "0.3", "how likely is an answer?", 15, 2,
    ("Which place of the logits has to say what the *first* token of the answer is: the one at `prompt_length`, or the "
     "one before?",
     "The answer begins at `prompt_length`, so it is scored by `logits[:, prompt_length - 1:-1]`. `log_softmax` over "
     "the vocabulary, pick the answer's ids with `gather`, blank out the padding, add up.",
     "`log_probs = logits[:, prompt_length - 1:-1].log_softmax(dim=-1)`, `chosen = log_probs.gather(2, sequences[:, "
     "prompt_length:, None]).squeeze(2)`, and `torch.where(response_mask, chosen, 0.0).sum(dim=1)`."),
    task="`logits` (batch, P + R, vocabulary) are the model's numbers at every place, `sequences` (batch, P + R) the "
         "ids of prompt and answer, `response_mask` (batch, R) is True at the answer's tokens and False at padding, "
         "and `prompt_length` is P. Return a tensor (batch,): for each row, the sum of log p over the tokens of its "
         "answer. The logits at place t − 1 predict the token at place t, and log p comes from `log_softmax`. The "
         "prompt's tokens and the padding are left out.",
    course=sequence_log_prob, cases=_two_answers)


def _chosen(logits, sequences):
    return logits.log_softmax(dim=-1).gather(2, sequences[..., None]).squeeze(2)


@likelihood.mistake("logits and tokens are not shifted: every token is scored at a place where it has already been "
                    "read. Begin at `prompt_length - 1` and leave out the last place.")
def _unshifted(logits, sequences, response_mask, prompt_length):
    return torch.where(response_mask, _chosen(logits[:, prompt_length:], sequences[:, prompt_length:]), 0.0).sum(dim=1)


@likelihood.mistake("padding counts as if the model had written it. Apply the mask before you add up.")
def _padding_too(logits, sequences, response_mask, prompt_length):
    return sequence_log_prob(logits, sequences, torch.ones_like(response_mask), prompt_length)


@likelihood.mistake("the prompt's tokens are in the sum. The customer wrote those; we ask how likely the *answer* is.")
def _prompt_too(logits, sequences, response_mask, prompt_length):
    inside = torch.cat([torch.ones(len(sequences), prompt_length - 1, dtype=torch.bool), response_mask], dim=1)
    return torch.where(inside, _chosen(logits[:, :-1], sequences[:, 1:]), 0.0).sum(dim=1)


@likelihood.mistake("this is the mean per token. The probability of an answer is the product of all its tokens' "
                    "probabilities, so its logarithm is a sum.")
def _mean_per_token(logits, sequences, response_mask, prompt_length):
    return sequence_log_prob(logits, sequences, response_mask, prompt_length) / response_mask.sum(dim=1)


@likelihood.mistake("these are raw logits. Only `log_softmax` makes them log-probabilities, so that the probabilities "
                    "of all options add up to 1.")
def _raw_logits(logits, sequences, response_mask, prompt_length):
    raw = logits[:, prompt_length - 1:-1].gather(2, sequences[:, prompt_length:, None]).squeeze(2)
    return torch.where(response_mask, raw, 0.0).sum(dim=1)


@likelihood.mistake("probabilities are added up. Multiply probabilities, or add their logarithms.")
def _sum_of_probabilities(logits, sequences, response_mask, prompt_length):
    chosen = _chosen(logits[:, prompt_length - 1:-1], sequences[:, prompt_length:]).exp()
    return torch.where(response_mask, chosen, 0.0).sum(dim=1)


@likelihood.mistake("the sign is flipped: this is the surprise. A log-probability is never above 0.")
def _surprise(logits, sequences, response_mask, prompt_length):
    return -sequence_log_prob(logits, sequences, response_mask, prompt_length)


# ---------------------------------------------------------------- 0.4 win rates

def _polls():
    rng = random.Random(1)
    mixed = [(wins, ties, wins + ties + rng.randrange(1, 40)) for wins, ties in
             ((rng.randrange(60), rng.randrange(60)) for _ in range(6))]
    return [(6, 2, 10), (10, 0, 10), (90, 41, 200), (1, 1, 3), (0, 7, 7), (0, 0, 4), *mixed]


def win_rate(a_wins, ties, n):
    """(share, low, high), with a tie as half a win."""
    return tuple(stats.win_rate(a_wins, ties, n))[:3]


def _as_three(function, *counts):
    return dict(zip(("share", "low end", "high end"), function(*counts)[:3], strict=True))


share_with_ties = Exercise(
    "0.4", "a win rate with ties and an interval", 12, 2,
    ("First only the share: what is a tie worth, and by how many comparisons do you divide?",
     "A tie is half a win, and it stays in n. Then put share and n into Wilson's formula: centre and half first, then "
     "the two ends.",
     "`share = (a_wins + ties / 2) / n`; `centre = (share + z*z/(2*n)) / (1 + z*z/n)`; `half = z * (share*(1 - "
     "share)/n + z*z/(4*n*n)) ** 0.5 / (1 + z*z/n)`; return share, centre − half, centre + half."),
    task="A won `a_wins` of `n` comparisons and tied `ties` (three whole numbers; B won the others). Return three "
         "numbers between 0 and 1: A's win rate, in which a tie counts as half a win, and the two ends of its "
         "interval, the lower one first, by Wilson's formula above with this share as $p$ and $z = 1.96$.",
    course=win_rate, cases=_polls, observe=_as_three, tolerance=1e-3)


@share_with_ties.mistake("ties were thrown away. Two models that tie 98 times and win once each would look as "
                         "different as two that never tie; count a tie as half a win.")
def _ties_dropped(a_wins, ties, n):
    return stats.win_rate(a_wins, 0, n - ties)


@share_with_ties.mistake("an odd number of ties loses half a win: `//` rounds down. Divide with `/`.")
def _half_ties_rounded(a_wins, ties, n):
    return stats.win_rate(a_wins + ties // 2, 0, n)


@share_with_ties.mistake("a tie counts as a whole win for A. Then A and B could both win more than half of the time.")
def _ties_as_wins(a_wins, ties, n):
    return stats.win_rate(a_wins + ties, 0, n)


@share_with_ties.mistake("a tie counts as a loss for A. Half a win keeps the win rates of A and B at 100 % together.")
def _ties_as_losses(a_wins, ties, n):
    return stats.win_rate(a_wins, 0, n)


@share_with_ties.mistake("this is the textbook interval share ± 1.96 standard errors. After 10 wins of 10 it has no "
                         "width at all and claims certainty; Wilson's formula does not.")
def _textbook_interval(a_wins, ties, n):
    share = (a_wins + ties / 2) / n
    half = 1.96 * math.sqrt(share * (1 - share) / n)
    return share, share - half, share + half


@share_with_ties.mistake("the interval is too narrow: one standard error covers 68 %. A 95 % interval needs z = 1.96.")
def _one_standard_error(a_wins, ties, n):
    return stats.win_rate(a_wins, ties, n, level=math.erf(1 / math.sqrt(2)))


@share_with_ties.mistake("the first number is the centre of the interval, not the share. Report what was counted; the "
                         "interval need not be symmetric around it.")
def _centre_of_the_interval(a_wins, ties, n):
    found = stats.win_rate(a_wins, ties, n)
    return (found.low + found.high) / 2, found.low, found.high


EXERCISES = [stop_sequence, few_shot, likelihood, share_with_ties]
