"""Checks before the first step: they stop mistakes that would otherwise train silently, or train on nothing.

Each function raises ValueError with one sentence that names the cause and the fix. `training.Loop` watches the
rest (losses, gradients, the KL) while training runs.
"""

from numbers import Integral

import torch

from rlhf_lite import distributed
from rlhf_lite.models import special_ids

COUNTS = ("iterations", "epochs", "steps", "batch_size", "minibatch", "micro_batch", "inner_epochs", "save_every",
          "batch_prompts", "prompts_per_step", "ptx_rows")


def check_counts(config):
    """Raise ValueError when a setting that counts something is below 1: range() would take it and train on nothing."""
    for name in COUNTS:
        value = getattr(config, name, None)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; set it to 1 or more.")


def check_context(model, longest, what, advice):
    """Raise ValueError when the longest row has more tokens than the model has positions."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit and longest > limit:
        raise ValueError(f"{what} the model's context of {limit}; {advice}")


def check_batch(**sizes):
    """Raise ValueError when a batch has fewer rows than there are processes: some would have nothing to do."""
    for name, rows in sizes.items():
        if rows < distributed.size():
            raise ValueError(f"There are {distributed.size()} processes but only {rows} rows in a batch; raise {name} "
                             "or start fewer processes.")


def check_pretraining(policy, name, share, pretraining):
    """Raise ValueError when pretraining text is asked for (its share is above 0) but none, or another's, is given."""
    if share > 0 and (pretraining is None or len(pretraining) == 0):
        raise ValueError(f"{name} is above 0 but no pretraining rows were given.")
    if share > 0 and (highest := int(pretraining.max())) >= vocabulary(policy):
        raise ValueError(f"The pretraining rows have the token id {highest}, but the model has {vocabulary(policy)} "
                         "tokens; pack the text with this model's own tokenizer.")


def check_reference(policy, reference):
    """Raise ValueError when the reference would learn along with the policy."""
    shared = {p.data_ptr() for p in policy.parameters()} & {p.data_ptr() for p in reference.parameters()}
    if shared or any(parameter.requires_grad for parameter in reference.parameters()):
        raise ValueError("The reference would move with the policy (it is trainable, or they share weights); "
                         "make it with copy_model(policy, trainable=False).")


def check_trainable(name, model):
    """Raise ValueError when nothing of a model would learn, or its weights are too coarse for small steps.

    bfloat16 keeps eight bits: a step of a thousandth of a weight rounds to nothing, and most weights never move.
    """
    kinds = {p.dtype for p in model.parameters() if p.requires_grad}
    if not kinds:
        raise ValueError(f"The {name} has no weight to train (all of them are frozen); call requires_grad_(True) on "
                         "what should learn.")
    if coarse := kinds & {torch.bfloat16, torch.float16}:
        raise ValueError(f"The {name}'s weights are {str(min(coarse, key=str))[6:]}, and most training steps would "
                         "round to nothing; load it in float32 and set bf16=True in the config, which is as fast.")


def vocabulary(model):
    """The number of token ids that a model knows."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return config.vocab_size


def check_ids(model, rows, what):
    """Raise ValueError unless every row is a list of the model's token ids, and not empty."""
    size = vocabulary(model)
    for index, row in enumerate(rows):
        if isinstance(row, str) or not all(type(token) is int or isinstance(token, Integral) for token in row):
            raise ValueError(f"{what} {index} is not a list of token ids; encode texts with models.encode_prompt and "
                             "models.encode_response.")
        if len(row) == 0:
            raise ValueError(f"{what} {index} is empty; leave it out.")
        if wrong := [token for token in (min(row), max(row)) if not 0 <= token < size]:
            raise ValueError(f"{what} {index} has the token id {wrong[0]}, but the model has {size} tokens; encode it "
                             "with this model's own tokenizer.")


def check_same_tokens(policy, **others):
    """Raise ValueError unless models (other values are passed over) have the policy's vocabulary and special ids."""
    ours = vocabulary(policy), special_ids(policy)
    for name, model in others.items():
        if isinstance(model, torch.nn.Module) and (theirs := (vocabulary(model), special_ids(model))) != ours:
            raise ValueError(f"The {name.replace('_', ' ')} has {theirs[0]} tokens with the special ids {theirs[1]}, "
                             f"the policy {ours[0]} with {ours[1]}, so one would misread the other; start both from "
                             "the same model and tokenizer (special ids are in config.special_ids).")


def check_others(policy, prompts, config, **others):
    """Raise ValueError unless the reference stays put, and all models know the policy's tokens and can hold them."""
    check_reference(policy, others["reference"])
    check_same_tokens(policy, **others)
    longest = max(map(len, prompts)) + config.max_new_tokens
    for name, model in others.items():
        if isinstance(model, torch.nn.Module):
            check_context(model, longest, f"The longest prompt and response ({longest} tokens) exceed the "
                          f"{name.replace('_', ' ')}'s context:", "drop long prompts or choose another model.")


def check_prompts(policy, prompts, config, **sizes):
    """Raise ValueError when there are no prompts, or a prompt plus its response would exceed the context.

    sizes: passed on to `check_batch`.
    """
    check_counts(config)
    check_batch(**sizes)
    if not prompts:
        raise ValueError("There are no prompts to train on.")
    check_ids(policy, prompts, "Prompt")
    longest = max(map(len, prompts))
    check_context(policy, longest + config.max_new_tokens, f"The longest prompt ({longest} tokens) and "
                  f"{config.max_new_tokens} new tokens exceed", "drop long prompts rather than cutting them.")
