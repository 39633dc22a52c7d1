"""One frozen trunk for four models: policy, reference, critic and reward model share their lowest layers.

The idea: PPO reads every response with four models that all began as the same model. If the embeddings and the lowest n
blocks are frozen in all four, these blocks compute the same thing in each of them, from the first step to the last. So
compute it once per row, keep it, and let each model continue from there with its own upper blocks. Updates then run
through the upper blocks only, and three of the four trunks leave the memory. The models here have the interface of
ordinary ones, so `train_reward`, `train_ppo`, `sample` and the rest accept them unchanged.

Every embedding (GPT-2's positions too) must be frozen, and so must an output layer tied to the embeddings, or the
reference would drift. No part of the trunk is a parameter of a shared model, so no optimizer can find it.

Left out: model types with other arithmetic around their blocks; `share` compares with the full model and refuses them.
"""

import copy
import math
from collections import OrderedDict
from types import SimpleNamespace

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from rlhf_lite.models import ScalarModel, copy_model, position_arguments, scalar_from_policy

BLOCKS, NORMS = ("layers", "h"), ("norm", "ln_f")  # their names in Llama and its relatives, and in GPT-2


# ---------------------------------------------------------------- the same models, not shared

def freeze_trunk(model, n):
    """Freeze, in place, the embeddings and the lowest n blocks of a policy or a ScalarModel; returns it.

    Tied output weights are the embeddings, so they are frozen too. If the policy is to share the reward model's trunk,
    the reward model must be trained like this (or be shared from the start, with `share_scalar`).
    """
    base = _base(model)
    for part in (*_embeddings(base), *_blocks(base, n)[:n]):
        part.requires_grad_(False)
    return model


# ---------------------------------------------------------------- the trunk

class Trunk:
    """The embeddings and the lowest n blocks, frozen, with a memory of the rows they have read.

    It is not a Module, so its weights belong to no model that could train, copy or save them. The memory keeps the
    output of the lowest blocks for every row of token ids, without padding, up to `limit` bytes; the oldest rows are
    dropped first.
    """

    def __init__(self, base, n, limit=1_000_000_000):
        blocks = getattr(base, _name(base, BLOCKS))
        self.base = _with(base, **{_name(base, BLOCKS): nn.ModuleList(blocks[:n]), _name(base, NORMS): nn.Identity()})
        self.base.requires_grad_(False)
        self.n, self.limit, self.rows, self.bytes = n, limit, OrderedDict(), 0
        self.read = self.computed = 0  # rows asked for, and rows that had to be computed

    def __deepcopy__(self, memo):
        return self  # copies of a model share the trunk: that is its purpose

    @torch.inference_mode(False)  # autograd may need the kept rows later
    @torch.no_grad()
    def __call__(self, input_ids, attention_mask):
        """(batch, length) ids and mask -> (batch, length, hidden) output of the lowest blocks; 0 at padding."""
        kind = (torch.is_autocast_enabled(input_ids.device.type), str(input_ids.device))
        ids, kept = input_ids.cpu().numpy(), attention_mask.bool().cpu().numpy()
        keys = [(kind, ids[i][kept[i]].tobytes()) for i in range(len(ids))]
        missing = [i for i, key in enumerate(keys) if key not in self.rows]
        self.read, self.computed = self.read + len(keys), self.computed + len(missing)
        mask, found = attention_mask.bool(), {}
        if missing:
            output = self.base(input_ids=input_ids[missing], attention_mask=attention_mask[missing], use_cache=False,
                               **position_arguments(self.base, attention_mask[missing])).last_hidden_state
            for place, i in enumerate(missing):
                found[keys[i]] = output[place][mask[i]]
        for key in keys:
            if key not in found:
                self.rows.move_to_end(key)
                found[key] = self.rows[key]
        first = found[keys[0]]
        together = first.new_zeros(*input_ids.shape, first.shape[-1])
        together[mask] = torch.cat([found[key] for key in keys])  # the attended places, row by row
        for i in missing:
            self._keep(keys[i], found[keys[i]])
        return together

    def _keep(self, key, values):
        if key not in self.rows:
            self.rows[key] = values
            self.bytes += values.numel() * values.element_size()
        while self.bytes > self.limit and len(self.rows) > 1:
            old = self.rows.popitem(last=False)[1]
            self.bytes -= old.numel() * old.element_size()


class Upper(nn.Module):
    """The blocks above the trunk and the last norm: the part that each model has to itself."""

    def __init__(self, base, trunk):
        super().__init__()
        self.blocks = nn.ModuleList(getattr(base, _name(base, BLOCKS))[trunk.n:])
        self.norm = getattr(base, _name(base, NORMS))
        self.trunk = trunk

    def forward(self, input_ids, attention_mask):
        """(batch, length) ids and mask -> (batch, length, hidden), after the last norm."""
        below = self.trunk(input_ids, attention_mask)
        base, nothing = self.trunk.base, {}
        if hasattr(base, "wpe"):  # GPT-2 adds positions to its input, but this input already has them
            nothing = {"wpe": _Zeros()}
        upper = _with(base, **{_name(base, BLOCKS): self.blocks, _name(base, NORMS): self.norm}, **nothing)
        return upper(inputs_embeds=below, attention_mask=attention_mask, use_cache=False,
                     **position_arguments(base, attention_mask)).last_hidden_state

    def whole(self):
        """The trunk and these blocks as one base model: a view of the same weights, not a copy."""
        base = self.trunk.base
        blocks = nn.ModuleList([*getattr(base, _name(base, BLOCKS)), *self.blocks])
        return _with(base, **{_name(base, BLOCKS): blocks, _name(base, NORMS): self.norm})


class _Zeros(nn.Module):
    def forward(self, positions):
        return torch.zeros((), device=positions.device)


# ---------------------------------------------------------------- the models

class SharedPolicy(nn.Module):
    """A causal language model on a Trunk; its parameters are the upper blocks and, if untied, the output layer."""

    def __init__(self, policy, trunk):
        super().__init__()
        self.config = policy.config
        self.upper = Upper(policy.base_model, trunk)
        head, table = policy.get_output_embeddings(), policy.get_input_embeddings()
        self.own_head = head if head.weight is not table.weight else None
        # A tied head belongs to the frozen trunk; in a dictionary, no Module finds its parameters.
        self.tied_head = {} if self.own_head is not None else {"head": _Frozen(head)}

    def forward(self, input_ids, attention_mask=None, past_key_values=None, use_cache=False, logits_to_keep=0):
        """Like a transformers model, it returns an object with `logits` and `past_key_values`.

        While sampling (use_cache), nothing is kept, because every token passes all blocks only once anyway. Rows
        without a mask, such as those of PPO-ptx, occur once, so they are not kept either.
        """
        positions, cache = {}, None
        if use_cache or attention_mask is None:
            base = self.upper.whole()
            if attention_mask is not None:
                positions = {name: ids[:, -input_ids.shape[1]:]
                             for name, ids in position_arguments(base, attention_mask).items()}
            output = base(input_ids=input_ids, attention_mask=attention_mask, past_key_values=past_key_values,
                          use_cache=use_cache, **positions)
            hidden, cache = output.last_hidden_state, output.past_key_values
        else:
            hidden = self.upper(input_ids, attention_mask)
        head = self.tied_head["head"] if self.own_head is None else self.own_head
        return SimpleNamespace(logits=head(hidden[:, -logits_to_keep:] if logits_to_keep else hidden),
                               past_key_values=cache)


class _Frozen:
    """An output layer as a function: shared by all copies, a parameter of none."""

    def __init__(self, layer):
        self.layer = layer

    def __deepcopy__(self, memo):
        return self

    def __call__(self, hidden):
        return self.layer(hidden)


class SharedScalar(ScalarModel):
    """A reward model or critic on a Trunk; its parameters are the upper blocks and the score unit."""

    def __init__(self, model, trunk):
        nn.Module.__init__(self)
        self._config, self.score, self.upper = model.config, model.score, Upper(model.trunk, trunk)

    @property
    def config(self):
        return self._config

    def forward(self, input_ids, attention_mask):
        """(batch, length) ids and mask -> (batch, length) float32 values; ignore those at padding."""
        hidden = self.upper(input_ids, attention_mask)
        with torch.autocast(hidden.device.type, enabled=False):
            weight, bias = self.score.weight.float(), self.score.bias.float()
            return nn.functional.linear(hidden.float(), weight, bias).squeeze(-1)


# ---------------------------------------------------------------- from and to ordinary models

def share(policy, reward_model, n, limit=1_000_000_000):
    """An SFT policy and its reward model -> four models on one trunk: (policy, reference, critic, reward model).

    n: how many of the lowest blocks to share, at least 1 and fewer than all. The reward model must have the policy's
    embeddings and lowest n blocks (train it with `freeze_trunk`); otherwise, or if this type of model cannot be split,
    this raises ValueError. The two models passed in are not changed and may be deleted; a frozen copy of their trunk is
    kept. limit: bytes for the activations.
    """
    policy, reward_model = copy_model(policy), copy_model(reward_model)
    trunk = _split(policy, n, limit)
    ours, theirs = freeze_trunk(policy, n).base_model, reward_model.trunk
    for one, other in zip((*_embeddings(ours), *_blocks(ours, n)[:n]), (*_embeddings(theirs), *_blocks(theirs, n)[:n]),
                          strict=True):
        if any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)):
            raise ValueError(f"The reward model's lowest {n} blocks are not the policy's, so they cannot be shared; "
                             f"train it as freeze_trunk(scalar_from_policy(policy, seed), {n}).")
    first, scores = SharedPolicy(policy, trunk), SharedScalar(reward_model, trunk)
    return (_trainable(first), copy_model(first, trainable=False), _trainable(copy_model(scores)),
            scores.eval().requires_grad_(False))


def share_scalar(policy, n, seed, limit=1_000_000_000):
    """A fresh reward model on the policy's frozen lowest n blocks, for `train_reward`.

    Each response passes the frozen blocks once, however many epochs there are. `unshare` turns it into an ordinary
    ScalarModel.
    """
    policy = copy_model(policy)
    return _trainable(SharedScalar(scalar_from_policy(policy, seed), _split(policy, n, limit)))


def unshare(model):
    """An ordinary policy or ScalarModel with the same weights: to save, to export, or to train without sharing."""
    base = copy.deepcopy(model.upper.whole()).requires_grad_(True)
    if isinstance(model, SharedScalar):
        whole = ScalarModel(base)
        whole.score.load_state_dict(model.score.state_dict())
        return whole.to(model.score.weight.device).eval()
    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(model.config)
    setattr(whole, whole.base_model_prefix, base)
    whole.set_output_embeddings(copy.deepcopy(model.own_head or model.tied_head["head"].layer).requires_grad_(True))
    if model.own_head is None:
        whole.get_output_embeddings().weight = whole.get_input_embeddings().weight
    return whole.eval()


def _split(policy, n, limit):
    """The Trunk of a policy, after checking on a few rows that trunk and upper blocks together equal the whole."""
    trunk = Trunk(policy.base_model, n, limit) if _blocks(policy.base_model, n) else None
    ids = torch.arange(12, device=next(policy.parameters()).device).reshape(2, 6) % policy.config.vocab_size
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]], device=ids.device)
    with torch.no_grad():
        ours = SharedPolicy(policy, trunk)(ids, mask).logits
        full = policy(input_ids=ids, attention_mask=mask, use_cache=False, **position_arguments(policy, mask)).logits
    trunk.rows.clear()
    trunk.bytes = trunk.read = trunk.computed = 0
    scale = full[mask.bool()].abs().max().item()
    if not math.isclose((ours - full)[mask.bool()].abs().max().item(), 0, abs_tol=1e-4 * max(1.0, scale)):
        raise ValueError(f"{type(policy).__name__} does more between its blocks than this code can split; "
                         "train four whole models, or use LoRA.")
    return trunk


def _base(model):
    return model.trunk if isinstance(model, ScalarModel) else model.base_model


def _name(base, names):
    for name in names:
        if hasattr(base, name):
            return name
    raise ValueError(f"{type(base).__name__} has none of the parts {names}; only models built as Llama or GPT-2 "
                     "can share a trunk.")


def _blocks(base, n):
    blocks = getattr(base, _name(base, BLOCKS))
    if not 1 <= n < len(blocks):
        raise ValueError(f"n is {n}; of {len(blocks)} blocks, 1 to {len(blocks) - 1} can be shared.")
    return blocks


def _embeddings(base):
    return [base.get_input_embeddings(), *([base.wpe] if hasattr(base, "wpe") else [])]


def _with(module, **children):
    """A view of a module with other children; it shares the weights."""
    view = copy.copy(module)
    view._modules = {**module._modules, **children}
    return view


def _trainable(model):
    return model.eval().requires_grad_(True)
