"""Checks before the first step: they stop mistakes that would otherwise train silently, or train on nothing.

Each function raises ValueError with one sentence that names the cause and the fix. `training.Loop` watches the
rest (losses, gradients, the KL) while training runs.
"""

from rlhf_lite import distributed

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


def check_pretraining(name, share, pretraining):
    """Raise ValueError when pretraining text is asked for (its share is above 0) but none is given."""
    if share > 0 and pretraining is None:
        raise ValueError(f"{name} is above 0 but no pretraining rows were given.")


def check_reference(policy, reference):
    """Raise ValueError when the reference would learn along with the policy."""
    shared = {p.data_ptr() for p in policy.parameters()} & {p.data_ptr() for p in reference.parameters()}
    if shared or any(parameter.requires_grad for parameter in reference.parameters()):
        raise ValueError("The reference would move with the policy (it is trainable, or they share weights); "
                         "make it with copy_model(policy, trainable=False).")


def check_prompts(policy, prompts, config, **sizes):
    """Raise ValueError when there are no prompts, or a prompt plus its response would exceed the context.

    sizes: passed on to `check_batch`.
    """
    check_counts(config)
    check_batch(**sizes)
    if not prompts:
        raise ValueError("There are no prompts to train on.")
    longest = max(map(len, prompts))
    check_context(policy, longest + config.max_new_tokens, f"The longest prompt ({longest} tokens) and "
                  f"{config.max_new_tokens} new tokens exceed", "drop long prompts rather than cutting them.")
