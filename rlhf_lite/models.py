"""The tokenizer, the policy, and the scalar model that serves as reward model and as critic.

The idea: everything here is an ordinary `transformers` model, so that what a student learns carries
over. The policy is a causal language model. The reward model and the critic are the same thing, a
causal trunk with one linear unit on top (InstructGPT, section 3.5: "the final unembedding layer
removed"), read at different positions. Any causal language model from `transformers` will do; the ones
made here are of the Llama type, whose rotary positions make left padding harmless.

Left out: quantised weights. LoRA is in `real.hub`, training on several GPUs in `distributed`.
"""

import copy
import inspect
import json
import math
import random
from collections import Counter
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers import models as token_models
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# Padding has a token of its own. If pad and end were the same, masks made from ids would hide the end of a
# response, and a policy that is never rewarded for ending never learns to stop.
PAD, BEGIN, END = 0, 1, 2
SPECIAL_TOKENS = ("<|pad|>", "<|begin|>", "<|end|>")
CONTEXT = 320
VOCABULARY, PIECES = 2816, 512  # tokens in all; of those, the pieces that spell out words without a token

# One thousandth of InstructGPT's 1.3B, 6B and 175B; "tiny" is for tests.
SIZES = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "1.3m": {"hidden_size": 144, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 352},
    "6m": {"hidden_size": 288, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 608},
    "175m": {"hidden_size": 768, "num_hidden_layers": 24, "num_attention_heads": 12, "intermediate_size": 2112},
}


# ---------------------------------------------------------------- text and tokens

def format_prompt(prompt):
    """The one template: the prompt and a newline. A response follows it, then END.

    The base model gets the same string, so it does what GPT-3 did: it continues as the web would. The newline
    matters: if the template ended with a space, the first word of every response would lose the space that is
    part of its token, and would be spelled in pieces hardly ever seen in pretraining.
    """
    return prompt + "\n"


def train_tokenizer(texts, vocab_size=VOCABULARY):
    """Train a byte-level BPE tokenizer on an iterable of strings; it encodes any text, and decoding restores it.

    Small models slip easily between two pieces of a word into one that does not exist. Two choices help. A frequent
    word is one token: whole words join the 512 tokens that BPE has merged, and are looked up before merging, as in
    Llama 3. And a word is the *same* token wherever it appears: where no space comes before it, one is added.

    The three special tokens get the ids PAD, BEGIN and END. Encoding adds no token by itself.
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
        raise ValueError(f"{path} is damaged ({error}); put it back, or train one with train_tokenizer.") from None
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
    """The token ids of plain text. "<|end|>" typed by a user is text here, never the token END."""
    try:
        return tokenizer(text + "", add_special_tokens=False, split_special_tokens=True)["input_ids"]
    except TypeError:  # a list of messages, None, or half a character (a lone surrogate)
        raise ValueError(f"{str(text)[:40]!r} is not text that can be encoded; give one text in whole characters, and "
                         "join the messages of a dialogue first.") from None


def prompt_template(tokenizer):
    """The text around a prompt, {} in its place; tokenizers from `real.hub` bring another one than the town's."""
    return tokenizer.init_kwargs.get("prompt_template", format_prompt("{}"))


def encode_prompt(tokenizer, prompt):
    """[BEGIN] + the templated prompt, as a list of ids: the input of the policy."""
    asked = prompt_template(tokenizer).replace("{}", prompt, 1) if isinstance(prompt, str) else prompt
    return [tokenizer.bos_token_id, *encode_text(tokenizer, asked)]


def encode_response(tokenizer, response):
    """The response's ids and END: what a demonstration teaches the policy to write."""
    return encode_text(tokenizer, response) + [tokenizer.eos_token_id]


def decode_response(tokenizer, ids):
    """The text of sampled response ids, up to END.

    For reading and grading only: encode(decode(ids)) need not give the same ids, so train on those that were sampled.
    """
    ids = [int(token) for token in ids]
    pad, begin, end = tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id
    if end in ids:
        ids = ids[:ids.index(end)]
    return tokenizer.decode([token for token in ids if token not in (pad, begin)]).strip()


def special_ids(model):
    """[pad, begin, end]: the town's, or those that `hub.load` wrote into a config (eos_token_id may be a list)."""
    return list(getattr(model.config, "special_ids", None) or (PAD, BEGIN, END))


def end_token(policy):
    """The id that ends a response: END, or the one of a model from elsewhere."""
    return special_ids(policy)[2]


def token_text(tokenizer, token):
    """What one token adds to a text, including its space: decoded alone, as the first word, it would have none."""
    return tokenizer.decode([token, token])[len(tokenizer.decode([token])):]


# ---------------------------------------------------------------- models

def new_policy(size, seed, vocab_size=VOCABULARY):
    """A fresh causal language model in float32, with random weights from `seed` (size: see SIZES).

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
    """A causal trunk and one linear unit: one number for every position of every row.

    The reward model uses the number at the last token of the response. For the critic, the number at position t
    is the value of the state *before* token t+1 is written.
    """

    def __init__(self, trunk):
        super().__init__()
        self.trunk = trunk
        self.score = nn.Linear(trunk.config.hidden_size, 1)

    @property
    def config(self):
        return self.trunk.config

    def forward(self, input_ids, attention_mask):
        """(batch, length) ids and mask -> (batch, length) float32 values; ignore those at padding."""
        output = self.trunk(input_ids=input_ids, attention_mask=attention_mask, use_cache=False,
                            **position_arguments(self.trunk, attention_mask))
        hidden = output.last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), self.score.weight.float(), self.score.bias.float()).squeeze(-1)


def score_at_last(values, attention_mask):
    """(batch, length) values -> (batch,) the value at each row's last attended position.

    The position comes from the attention mask, never from a search for a token: a row may contain END
    tokens of its own, and may be padded on either side.
    """
    if not attention_mask.any(dim=1).all():
        raise ValueError("A row has no attended token, so it has no last position to score.")
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    last = (places * attention_mask.long()).argmax(dim=1)
    return values.gather(1, last[:, None]).squeeze(1)


def scalar_from_policy(policy, seed):
    """A ScalarModel on a copy of the policy's trunk; its score unit starts from N(0, 1/sqrt(hidden + 1)), bias 0.

    The initial scale is that of Stiennon et al. (2020); InstructGPT does not give one.
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

    `copy_model(sft, trainable=False)` makes the reference; `copy_model(reward_model)` makes the initial critic.
    """
    clone = copy.deepcopy(model).eval()
    return clone.requires_grad_(trainable)


def parameter_count(model):
    """The number of weights, with tied weights counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


# ---------------------------------------------------------------- forward passes

def position_ids(attention_mask):
    """(batch, length) mask -> each token's place among the attended ones (GPT-2 needs it); padding gets 0."""
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)


def at_least_float32(tensor):
    """Half precision as float32, the rest unchanged: log-probabilities and losses need that much, tests need more."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def position_arguments(model, attention_mask):
    """{"position_ids": ...} if the model's forward accepts it, else {}."""
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return {}
    return {"position_ids": position_ids(attention_mask)}


def logits(policy, input_ids, attention_mask, keep=0):
    """(batch, length) ids and mask -> (batch, keep, vocab) logits of the last `keep` positions (0: all)."""
    return policy(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, logits_to_keep=keep,
                  **position_arguments(policy, attention_mask)).logits


# ---------------------------------------------------------------- device and seed

def pick_device(name="auto"):
    """The torch.device for "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1" or "mps"."""
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
