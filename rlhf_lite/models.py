"""Tokenizer, policy, and the scalar model that serves as reward model and as critic.

The idea: everything here is an ordinary `transformers` model, so that what a student learns carries
over. The policy is a causal language model. The reward model and the critic are the same thing, a
causal trunk with one linear unit on top (InstructGPT, section 3.5: "the final unembedding layer
removed"), read at different positions. Any causal language model of `transformers` fits in; the ones
made here are of the Llama type, whose rotary positions make left padding harmless.

Left out: quantised weights. LoRA is in `hub`, several GPUs are in `processes`.
"""

import copy
import inspect
import json
import math
import random
from collections import Counter
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models as token_models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# Padding has a token of its own. With pad == end, masks made from ids hide the end of a response,
# and a policy that never sees its end rewarded never learns to stop.
PAD, BEGIN, END = 0, 1, 2
SPECIAL_TOKENS = ("<|pad|>", "<|begin|>", "<|end|>")
CONTEXT = 320
VOCABULARY, PIECES = 2816, 512  # tokens in all; those among them that spell words which have no token

# One thousandth of InstructGPT's 1.3B, 6B and 175B; "tiny" is for tests.
SIZES = {
    "tiny": dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64),
    "1.3m": dict(hidden_size=144, num_hidden_layers=4, num_attention_heads=4, intermediate_size=352),
    "6m": dict(hidden_size=288, num_hidden_layers=6, num_attention_heads=6, intermediate_size=608),
    "175m": dict(hidden_size=768, num_hidden_layers=24, num_attention_heads=12, intermediate_size=2112),
}


# ---------------------------------------------------------------- text and tokens

def format_prompt(prompt):
    """The one template: the prompt and a newline. A response follows it, then END.

    The base gets the same string, so it does what GPT-3 did: it goes on as the web would. The newline matters:
    a template that ends with a space leaves the first word of every response without the space that is part of
    its token, and its pieces would hardly ever have been seen in pretraining.
    """
    return prompt + "\n"


def train_tokenizer(texts, vocab_size=VOCABULARY):
    """Train a byte-level BPE on an iterable of strings; any text can be encoded with it, and decoding gives it back.

    Two choices suit models this small, whose every slip between two pieces of a word is a word that does not
    exist. A frequent word is one token (whole words enter the vocabulary beside the 512 that BPE has merged, and
    are looked up before merging, as Llama 3 does). And a word is the *same* token wherever it stands: the start of
    a text or of a line, where a word would have no space before it, is given one, which decoding takes away again.

    The three special tokens get the ids PAD, BEGIN and END. No token is added by itself when encoding.
    """
    if vocab_size < 256 + len(SPECIAL_TOKENS):
        raise ValueError(f"vocab_size is {vocab_size}; byte-level BPE needs at least {256 + len(SPECIAL_TOKENS)}.")
    texts = list(texts)
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\n(?= *\S)"), "\n "),
                                                 normalizers.Prepend(" ")])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0),
                                           decoders.Replace(Regex(r"\n (?= *\S)"), "\n")])
    trainer = trainers.BpeTrainer(vocab_size=min(PIECES, vocab_size), special_tokens=list(SPECIAL_TOKENS),
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    merged = json.loads(tokenizer.to_str())["model"]
    words = Counter()
    for text in texts:
        words.update(w for w, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)))
    vocabulary = merged["vocab"]
    for word in sorted(words, key=lambda word: (-words[word], word)):
        if len(vocabulary) < vocab_size:
            vocabulary.setdefault(word, len(vocabulary))
    tokenizer.model = token_models.BPE(vocab=vocabulary, merges=[tuple(pair) for pair in merged["merges"]],
                                       ignore_merges=True)
    return _wrap(tokenizer_object=tokenizer)


def load_tokenizer(folder):
    """Load the tokenizer saved with `tokenizer.save_pretrained(folder)`."""
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"There is no tokenizer in {folder} (tokenizer.json is missing); "
                                "give the folder of a model, or train one with train_tokenizer.")
    try:
        tokenizer = _wrap(tokenizer_file=str(path))
    except Exception as error:  # tokenizers raises nothing more special
        raise ValueError(f"{path} is damaged ({error}); put the file back, or train one with train_tokenizer.") from None
    ids = tuple(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))
    if ids != (PAD, BEGIN, END):
        raise ValueError(f"{path}: the special tokens {SPECIAL_TOKENS} have ids {ids}, not {(PAD, BEGIN, END)}; "
                         "this tokenizer was not made by train_tokenizer.")
    return tokenizer


def _wrap(**source):
    pad, begin, end = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(pad_token=pad, bos_token=begin, eos_token=end, model_max_length=CONTEXT,
                                   clean_up_tokenization_spaces=False, **source)


def encode_text(tokenizer, text):
    """Token ids of plain text. "<|end|>" typed by a user is text here, never the token END."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def encode_prompt(tokenizer, prompt):
    """[BEGIN] + the templated prompt, as a list of ids: what the policy is given."""
    return [tokenizer.bos_token_id] + encode_text(tokenizer, format_prompt(prompt))


def encode_response(tokenizer, response):
    """The response's ids with END: what a demonstration teaches the policy to write."""
    return encode_text(tokenizer, response) + [tokenizer.eos_token_id]


def decode_response(tokenizer, ids):
    """Text of sampled response ids, up to END. For reading and grading only, never to be tokenised again:
    encode(decode(ids)) need not give ids back, so training keeps to the ids that were sampled."""
    ids = [int(token) for token in ids]
    pad, begin, end = tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id
    if end in ids:
        ids = ids[:ids.index(end)]
    return tokenizer.decode([token for token in ids if token not in (pad, begin)]).strip()


def end_token(policy):
    """The id that ends a response: END, or in a model from elsewhere what `hub.load` wrote into its config.

    Not config.eos_token_id, which may be a list, or an id that the responses were never cut at.
    """
    special = getattr(policy.config, "special_ids", None)
    return END if special is None else special[2]


def token_text(tokenizer, token):
    """What one token adds to a text, its space included; decoded alone, the first word of a text has none."""
    return tokenizer.decode([token, token])[len(tokenizer.decode([token])):]


# ---------------------------------------------------------------- models

def new_policy(size, seed, vocab_size=VOCABULARY):
    """A fresh causal language model in float32, its weights drawn from `seed` (size: see SIZES).

    Embeddings are tied, there is no dropout, and the context is 320 tokens.
    """
    if size not in SIZES:
        raise ValueError(f"There is no model size {size!r}; choose one of {', '.join(SIZES)}.")
    config = LlamaConfig(vocab_size=vocab_size, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
                         attention_dropout=0.0, pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END, **SIZES[size])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float().eval()


class ScalarModel(nn.Module):
    """A causal trunk and one linear unit: a number for every position of every row.

    Reward model: the number at the last token of the response. Critic: the number at position t is the
    value of the state *before* token t+1 is written.
    """

    def __init__(self, trunk):
        super().__init__()
        self.trunk = trunk
        self.score = nn.Linear(trunk.config.hidden_size, 1)

    @property
    def config(self):
        return self.trunk.config

    def forward(self, input_ids, attention_mask):
        """(batch, length) ids and mask -> (batch, length) float32 values; those at pads mean nothing."""
        output = self.trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False,
                            **position_arguments(self.trunk, attention_mask))
        hidden = output.last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), self.score.weight.float(), self.score.bias.float()).squeeze(-1)


def score_at_last(values, attention_mask):
    """(batch, length) values -> (batch,) the value at each row's last attended position.

    The position comes from the attention mask, never from a search for a token: a row may hold END
    tokens of its own, and may be padded on either side.
    """
    if not attention_mask.any(dim=1).all():
        raise ValueError("A row has no attended token, so it has no last position to score.")
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = (places * attention_mask.long()).argmax(dim=1)
    return values.gather(1, last[:, None]).squeeze(1)


def scalar_from_policy(policy, seed):
    """A ScalarModel on a copy of the policy's trunk, its score unit drawn from N(0, 1/sqrt(hidden + 1)), bias 0.

    The initial scale is Stiennon et al. (2020); InstructGPT does not give one.
    """
    model = ScalarModel(copy.deepcopy(policy.base_model))
    hidden = model.config.hidden_size
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(1, hidden, generator=generator) / math.sqrt(hidden + 1))
        model.score.bias.zero_()
    return model.to(next(policy.parameters()).device).eval()


def copy_model(model, trainable=True):
    """A separate copy in evaluation mode (no dropout); with trainable=False its weights are frozen.

    `copy_model(sft, trainable=False)` is the reference; `copy_model(reward_model)` starts the critic.
    """
    clone = copy.deepcopy(model).eval()
    return clone.requires_grad_(trainable)


def parameter_count(model):
    """Number of weights, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------- forward passes

def position_ids(attention_mask):
    """(batch, length) mask -> position of each token among the attended ones; pads get 0.

    A model with learned absolute positions (GPT-2) gives other answers under left padding without this.
    """
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)


def position_arguments(model, attention_mask):
    """{"position_ids": ...} where the model's forward takes it, else {}."""
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return {}
    return {"position_ids": position_ids(attention_mask)}


def logits(policy, input_ids, attention_mask, keep=0):
    """(batch, length) ids and mask -> (batch, keep, vocab) logits of the last `keep` positions (0: all)."""
    return policy(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, logits_to_keep=keep,
                  **position_arguments(policy, attention_mask)).logits


# ---------------------------------------------------------------- device and seed

def pick_device(name="auto"):
    """torch.device for "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1" or "mps"."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"There is no device {name!r}; choose auto, cpu, cuda, cuda:N or mps.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"The device {name!r} was asked for, but PyTorch sees {torch.cuda.device_count()} "
                         "CUDA devices; choose auto or cpu.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("The device 'mps' was asked for, but this machine has none; choose auto or cpu.")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"The device {name!r} is not supported; choose auto, cpu, cuda, cuda:N or mps.")
    return device


def device_of(model):
    """The device a model's weights are on."""
    return next(model.parameters()).device


def set_seed(seed):
    """Seed Python and PyTorch (CPU and GPUs)."""
    random.seed(seed)
    torch.manual_seed(seed)
