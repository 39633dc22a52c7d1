"""Exercises of notebook 02: supervised fine-tuning."""

import torch

from rlhf_lite import sft
from rlhf_lite.exercises.cases import generator
from rlhf_lite.exercises.checking import Exercise
from rlhf_lite.sft import IGNORE, Example

LESSON = {
    "title": "Supervised fine-tuning",
    "promise": "A good thousand written answers turn a model that continues the web into one that answers. You "
               "build the loss that does it, and watch where in a sentence it acts.",
    "minutes": 60, "needs": "notebook 01, or nothing: it starts from shipped models", "step": "1, demonstrations",
    "aims": ["say which tokens of a demonstration are learnt and which are not",
             "write the loss of supervised fine-tuning and its mask",
             "measure what you want beside the loss, and tell what training bought from what a low temperature gives"],
}


# ---------------------------------------------------------------- 2.1 which tokens are learnt

def _examples():
    rows = [torch.randint(3, 9, (k,), generator=generator(k)).tolist() for k in range(1, 7)]
    return [([1, 7, 8], [9, 2]), ([1, 5], [6, 6, 6, 2]), ([1, 4, 4, 4], [2]), ([], [5, 2]),
            *[([1, *prompt], [*response, 2]) for prompt, response in zip(rows, rows[::-1], strict=True)]]


def _by_name(function, prompt_ids, response_ids):
    return function(prompt_ids, response_ids)._asdict()


learnt_tokens = Exercise(
    "2.1", "which tokens are learnt", 5, 1,
    ("Who wrote which tokens? The model should learn to write like one of the two, and only to *read* the other.",
     "The model reads prompt and response, so both are in `input_ids`. `labels` is just as long; a label of IGNORE "
     "says: read, do not learn.",
     "`Example([*prompt_ids, *response_ids], [IGNORE] * len(prompt_ids) + [*response_ids])`"),
    task="`prompt_ids` and `response_ids` are lists of token ids; the response ends with END. Return "
         "`Example(input_ids, labels)` with two new lists of the same length: `input_ids` is the prompt followed by "
         "the response; `labels` has `IGNORE` (−100) at every token of the prompt and the token's own id at every "
         "token of the response, END included. Nothing is shifted here: label t belongs to token t.",
    course=sft.build_example, cases=_examples, observe=_by_name)


@learnt_tokens.mistake("the prompt is being learnt too. The model should learn to answer customers, not to write like "
                       "them, so their tokens get the label IGNORE.")
def _learns_the_prompt(prompt_ids, response_ids):
    return Example([*prompt_ids, *response_ids], [*prompt_ids, *response_ids])


@learnt_tokens.mistake("END is not learnt, so the model would never learn to stop. END is the last token of the "
                       "response and a target like any other.")
def _forgets_the_end(prompt_ids, response_ids):
    return Example([*prompt_ids, *response_ids], [IGNORE] * len(prompt_ids) + [*response_ids[:-1], IGNORE])


@learnt_tokens.mistake("the labels are already shifted by one. Here label t belongs to token t; the loss does the "
                       "shifting (exercise 2.3), and doing it twice is a classic.")
def _shifts_the_labels(prompt_ids, response_ids):
    return Example([*prompt_ids, *response_ids], [IGNORE] * (len(prompt_ids) - 1) + [*response_ids, IGNORE])


@learnt_tokens.mistake("there are fewer labels than tokens. Every token gets a label; those of the prompt get IGNORE.")
def _labels_of_response_only(prompt_ids, response_ids):
    return Example([*prompt_ids, *response_ids], [*response_ids])


# ---------------------------------------------------------------- 2.2 a batch of them

def _batches():
    def example(prompt, response, seed):
        ids = torch.randint(0, 9, (prompt + response,), generator=generator(seed)).tolist()
        return Example([*ids], [IGNORE] * prompt + ids[prompt:])
    return [([Example([1, 7, 9, 2], [IGNORE, IGNORE, 9, 2]), Example([1, 2], [IGNORE, 2])],),
            ([Example([1, 0, 5, 2], [IGNORE, 0, 5, 2]), Example([1, 6, 2], [IGNORE, 6, 2])],),
            ([Example([1, 2], [IGNORE, 2])],), ([example(n % 4, 1 + n * 3 % 5, n) for n in range(6)],)]


def _in_parts(function, examples):
    return dict(zip(("ids", "mask", "labels"), function(examples), strict=True))


padded_batch = Exercise(
    "2.2", "a batch of demonstrations", 10, 2,
    ("Write the two rows of the example below on paper, as three little tables: ids, what is real, what is learnt.",
     "Pad every row on the right to the length of the longest: ids with PAD, the mask with 0, labels with IGNORE. "
     "Decide by the place, never by comparing ids with PAD or END: a real token may look like either.",
     "`ids, mask = pad_right([e.input_ids for e in examples])`, `labels, _ = pad_right([e.labels for e in examples])`, "
     "and `torch.where(mask.bool(), labels, IGNORE)` for the labels."),
    task="`examples` is a list of `Example`s of different lengths. Return three tensors of integers, each (batch, "
         "length of the longest): the ids, filled up on the right with PAD (0); the attention mask, 1 at tokens and "
         "0 at padding; the labels, filled up with `IGNORE`. `pad_right` (a list of lists of ids → padded ids and "
         "mask) is there to be used.",
    course=sft.collate, cases=_batches, observe=_in_parts)


def _collate(examples, keep, label_of_pads=IGNORE):
    longest = max(len(e.input_ids) for e in examples)
    ids = torch.tensor([e.input_ids + [0] * (longest - len(e.input_ids)) for e in examples])
    mask = torch.tensor([[1] * len(e.input_ids) + [0] * (longest - len(e.input_ids)) for e in examples])
    labels = torch.tensor([e.labels + [label_of_pads] * (longest - len(e.labels)) for e in examples])
    return ids, mask, torch.where(keep(ids, mask), labels, label_of_pads)


@padded_batch.mistake("the labels at the padding are 0, not IGNORE: the model would be trained to write padding.")
def _labels_at_pads(examples):
    return _collate(examples, lambda ids, mask: mask.bool(), label_of_pads=0)


@padded_batch.mistake("labels are dropped wherever the id equals PAD. Decide by the attention mask: one day PAD and "
                      "END will be the same id, and your model will never stop again.")
def _masked_by_pad_id(examples):
    return _collate(examples, lambda ids, mask: ids != 0)


@padded_batch.mistake("END has lost its label. This is the famous `pad == eos` bug: such a model never learns to stop.")
def _end_masked(examples):
    return _collate(examples, lambda ids, mask: mask.bool() & (ids != 2))


@padded_batch.mistake("the rows are padded on the left. Sampling needs that; training here pads on the right.")
def _padded_on_the_left(examples):
    longest = max(len(e.input_ids) for e in examples)
    fill = [longest - len(e.input_ids) for e in examples]
    return (torch.tensor([[0] * n + e.input_ids for n, e in zip(fill, examples, strict=True)]),
            torch.tensor([[0] * n + [1] * len(e.input_ids) for n, e in zip(fill, examples, strict=True)]),
            torch.tensor([[IGNORE] * n + e.labels for n, e in zip(fill, examples, strict=True)]))


# ---------------------------------------------------------------- 2.3 the loss

def _logits_and_labels():
    logits = torch.randn(2, 5, 6, generator=generator(0)).requires_grad_()
    more = torch.randn(4, 8, 6, generator=generator(1)).requires_grad_()
    labels = torch.randint(0, 6, (4, 8), generator=generator(2))
    hidden = torch.arange(8) < torch.tensor([[3], [6], [1], [8]])
    return [(logits, torch.tensor([[IGNORE, IGNORE, 3, 4, 2], [IGNORE, 5, 2, IGNORE, IGNORE]])),
            ((3 * logits).detach().requires_grad_(), torch.tensor([[IGNORE, 1, 2, IGNORE, IGNORE],
                                                                   [IGNORE, IGNORE, IGNORE, IGNORE, 2]])),
            (more, torch.where(hidden, IGNORE, labels))]


mean_loss = Exercise(
    "2.3", "the loss of supervised fine-tuning", 15, 2,
    ("Which logits have to predict the label at place 1? And which logits predict nothing that is in the batch?",
     "Cut the last place off the logits and the first off the labels, so that they face each other. Then take the "
     "cross-entropy over all places whose label is not IGNORE, and divide by the number of those.",
     "`F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)` does it all: its "
     "mean runs over the labels that are not ignored."),
    task="`logits` (batch, length, vocabulary) are the model's numbers, `labels` (batch, length) the ids to be learnt, "
         "or `IGNORE` (−100) where nothing is. Return one number, a tensor without dimensions through which a gradient "
         "can flow: the mean of −log p over *all labels of the batch* that are not IGNORE, each weighing the same. The "
         "logits at place t − 1 predict the label at place t.",
    course=sft.sft_loss, cases=_logits_and_labels)


def _per_token(logits, labels):
    """Two (batch, length) tensors: −log p of the labels (0 where there is none), and where there is a label."""
    wanted = labels != IGNORE
    log_probs = logits.log_softmax(dim=-1).gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    return torch.where(wanted, -log_probs, 0.0), wanted


@mean_loss.mistake("logits and labels are not shifted against each other: the model is asked to predict the very token "
                   "that it is reading.")
def _no_shift(logits, labels):
    losses, wanted = _per_token(logits, labels)
    return losses.sum() / wanted.sum()


@mean_loss.mistake("the shift goes the wrong way: the logits at t − 1 belong to the label at t.")
def _shift_the_wrong_way(logits, labels):
    losses, wanted = _per_token(logits[:, 1:], labels[:, :-1])
    return losses.sum() / wanted.sum()


@mean_loss.mistake("the mean runs over all places, ignored ones too, so long prompts make the loss look small.")
def _mean_over_all_places(logits, labels):
    return _per_token(logits[:, :-1], labels[:, 1:])[0].mean()


@mean_loss.mistake("this is the mean of the rows' means. A token of a short answer then weighs more than one of a "
                   "long answer; divide the sum over all response tokens by their number.")
def _mean_of_rows(logits, labels):
    losses, wanted = _per_token(logits[:, :-1], labels[:, 1:])
    return (losses.sum(dim=1) / wanted.sum(dim=1)).mean()


@mean_loss.mistake("this is a sum. Divide by the number of response tokens, otherwise the step grows with the batch.")
def _sum(logits, labels):
    return _per_token(logits[:, :-1], labels[:, 1:])[0].sum()


@mean_loss.mistake("the sign is flipped: the loss should fall when the demonstration becomes likelier.")
def _sign(logits, labels):
    return -sft.sft_loss(logits, labels)


EXERCISES = [learnt_tokens, padded_batch, mean_loss]
