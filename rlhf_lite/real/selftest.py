"""Does a model from elsewhere do what the training functions rely on? Tried on four short rows when it is loaded.

The idea: rather than a list of known architectures, a list of properties. Padding changes nothing, a later token
changes nothing before it, sampling with a cache and reading without one agree, rows can leave the cache while others
go on, and the trunk ends in `hidden_size` numbers per token. A model with all five can be trained by everything here,
whatever its name; any other would fail deep inside, or learn from wrong numbers.

Left out: models whose cache is not a list of keys and values (Mamba, RWKV, LFM2), encoder-decoder models.
"""

import torch

from rlhf_lite.models import ScalarModel, logits, special_ids
from rlhf_lite.sampling import pad_left, pad_right, sample

NEW = 6  # tokens sampled per row


@torch.no_grad()
def check_model(policy, name="This model"):
    """Raise ValueError, in one sentence, unless SFT, reward model, sampling, PPO and DPO can use the policy."""
    what, why = "it runs", None
    try:
        for what, fault in _faults(policy):  # noqa: B007
            if fault:
                why = "it is not so"
                break
        if why is None:
            return
    except (ArithmeticError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError,
            ValueError) as error:  # whatever an unknown architecture raises
        why = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:100]}"
    raise ValueError(f"{name} ({type(policy).__name__}) is not supported: the test whether {what} failed ({why}); "
                     "choose a causal language model with an ordinary cache, such as Llama, Qwen or GPT-2.")


def _faults(policy):
    """Pairs (property, whether it is violated); the property is named before it is tried."""
    kept = [token for token in range(len(policy.get_input_embeddings().weight)) if token not in special_ids(policy)]
    rows = [[kept[(7 * place + row) % len(kept)] for place in range(3 + 2 * row)] for row in range(4)]
    device = policy.get_input_embeddings().weight.device
    yield "its logits are numbers", False
    alone = [logits(policy, torch.tensor([row], device=device), torch.ones(1, len(row), dtype=torch.long,
                                                                           device=device))[0].float() for row in rows]
    spread = max(float(found.std()) for found in alone)
    yield "its logits are numbers", not all(found.isfinite().all() for found in alone)
    room = (1e-3 if next(policy.parameters()).dtype == torch.float32 else 0.2) * max(spread, 1e-3)
    for pad, what in ((pad_right, "padding on the right changes nothing"),
                      (pad_left, "padding on the left changes nothing")):
        yield what, False
        ids, mask = pad(rows, device)
        found = logits(policy, ids, mask).float()
        yield what, any(_differ(found[i][mask[i].bool()], alone[i], room) for i in range(len(rows)))
    what = "a later token changes nothing before it"
    yield what, False
    other = torch.tensor([[*rows[3][:-1], kept[-1]]], device=device)
    yield what, _differ(logits(policy, other, torch.ones_like(other))[0, :-1].float(), alone[3][:-1], room)
    what = "it samples with a cache as it reads without one"
    yield what, False
    yield what, _sampling_differs(policy, rows, room)
    what = "its trunk gives a reward model its numbers"
    yield what, False
    with torch.random.fork_rng(devices=[]):  # loading must not advance the random numbers
        scalar = ScalarModel(policy.base_model).to(device)
    torch.nn.init.constant_(scalar.score.weight, 1.0)
    torch.nn.init.zeros_(scalar.score.bias)
    ids, mask = pad_right(rows, device)
    values = scalar(ids, mask)
    yield what, values.shape != ids.shape or not values[mask.bool()].isfinite().all()


def _differ(one, other, room):
    return not float((one - other).abs().max()) <= room  # NaN differs


def _sampling_differs(policy, rows, room):
    """Whether greedy sampling, in which one row ends early, chooses a token that reading finds less likely."""
    first = sample(policy, rows, 1, greedy=True).responses[0, 0].item()
    before, policy.config.special_ids = getattr(policy.config, "special_ids", None), [*special_ids(policy)[:2], first]
    try:
        rollout = sample(policy, rows, NEW, greedy=True)
    finally:
        policy.config.special_ids = before
    found = logits(policy, rollout.sequences, rollout.attention_mask, keep=rollout.responses.shape[1] + 1)[:, :-1]
    taken = found.gather(2, rollout.responses[:, :, None]).squeeze(2)
    return bool(((found.amax(dim=-1) - taken)[rollout.response_mask].float() > room).any())
