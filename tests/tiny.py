"""Builders for tests: tiny models of two kinds, a team of them, prompts of unequal length, rollouts of given ids."""

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlhf_lite import models, sampling, tiny_world
from rlhf_lite.models import BEGIN, END, PAD
from rlhf_lite.ppo import PPOConfig

# GPT-2 has learned absolute positions and dropout 0.1 of its own; Llama has rotary positions and none.
KINDS = ("gpt2", "llama")
VOCAB = 64
PROMPTS = [[BEGIN, 5 + i, *([9] * (i % 4))] for i in range(12)]


def a_policy(kind="llama", seed=0, scale=1.0, **changes):
    """A tiny causal language model; scale > 1 moves it away from uniform, so that mistakes show."""
    if kind == "llama":
        policy = models.new_policy("tiny", seed, vocab_size=VOCAB)
    else:
        config = GPT2Config(**{"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64,
                               "pad_token_id": PAD, "bos_token_id": BEGIN, "eos_token_id": END, **changes})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            policy = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.ndim == 2:
                parameter.mul_(scale)
    return policy


def a_reward_model(kind="llama", seed=0, bias=0.5, scale=1.0):
    """A ScalarModel whose bias is not 0, so that one that gets lost shows."""
    model = models.scalar_from_policy(a_policy(kind, seed, scale), seed)
    torch.nn.init.constant_(model.score.bias, bias)
    return model


def a_team(kind="llama", seed=0, scale=1.0):
    """(policy, reference, critic) as PPO starts with them."""
    policy = a_policy(kind, seed, scale)
    return policy, models.copy_model(policy, trainable=False), models.scalar_from_policy(policy, seed)


def a_config(**changes):
    return PPOConfig(**{"iterations": 3, "batch_size": 16, "minibatch": 8, "max_new_tokens": 6, "lr": 1e-3, **changes})


def low_tokens(rollout):
    """Reward: the share of a response's tokens that are below 32."""
    return ((rollout.responses < 32) & rollout.response_mask).sum(1) / rollout.lengths.float()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rollout_of(prompts, responses):
    """A Rollout of given ids; a response that ends with END is finished."""
    ids, mask = sampling.pad_left(prompts)
    answers, answer_mask = sampling.pad_right(responses)
    return sampling.Rollout(torch.cat([ids, answers], 1), torch.cat([mask, answer_mask], 1), answer_mask.bool(),
                            ids.shape[1], torch.tensor([response[-1] == END for response in responses]))


def add_to_logit(policy, token, amount):
    """Shift the logit of one token everywhere; returns the hook's handle."""
    def shift(module, inputs, output):
        output.logits[..., token] += amount
    return policy.register_forward_hook(shift)


def plain_log_probs(policy, ids, temperature=1.0):
    """(length, vocab) log-probabilities of one unpadded row: the truth that anything padded is held against."""
    with torch.no_grad():
        return (policy(torch.tensor([ids])).logits[0] / temperature).log_softmax(-1)


def constant(scalar_model, value):
    """The same model, now saying `value` everywhere."""
    torch.nn.init.zeros_(scalar_model.score.weight)
    torch.nn.init.constant_(scalar_model.score.bias, value)
    return scalar_model


def same_weights(one, other):
    """Two models are equal to the bit."""
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# ---------------------------------------------------------------- models from elsewhere

FOREIGN_KINDS = ("gpt2", "llama", "untied")
EOS = "<|endoftext|>"


def a_foreign_tokenizer(eos=EOS, **special):
    """280 byte-level tokens and the end of the text at id 280, as in GPT-2; no pad token."""
    tokenizer = Tokenizer(token_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=280, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(["Alice sells bread for 3 pence. The baker of Pebbleford is Alice."] * 9, trainer)
    tokenizer.add_special_tokens([EOS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **({"eos_token": eos} if eos else {}), **special)


def a_foreign_model(kind, rows=281, eos=280, layers=2, **changes):
    torch.manual_seed(0)
    if kind == "gpt2":  # with the dropout of 0.1 that GPT-2 has by default
        return GPT2LMHeadModel(GPT2Config(vocab_size=rows, n_embd=32, n_layer=layers, n_head=2, n_positions=64,
                                          bos_token_id=eos, eos_token_id=eos, **changes))
    return LlamaForCausalLM(LlamaConfig(vocab_size=rows, eos_token_id=eos, tie_word_embeddings=kind == "llama",
                                        **{"max_position_embeddings": 64, **models.SIZES["tiny"],
                                           "num_hidden_layers": layers, **changes}))


# ---------------------------------------------------------------- a world in which every number is known

WORLD_PROMPTS = [[BEGIN, 3], [BEGIN, 4, 3]]


def a_world():
    """Two prompts, two words and END, at most three tokens: every response there is."""
    return tiny_world.make_world(WORLD_PROMPTS, vocab_size=5, max_new_tokens=3)


def a_pair(world, seed=0):
    """A policy of the world, and the frozen reference it starts as."""
    policy = tiny_world.tiny_policy(world, seed, sharpness=3.0)
    return policy, models.copy_model(policy, trainable=False)


def likes_threes(response):
    return float(response.count(3) - response.count(4))


def threes_of(policy, world):
    """The policy's expected score, exactly: the mean over the prompts."""
    scores = torch.tensor([likes_threes(response) for response in world.responses])
    return tiny_world.expected(tiny_world.policy_log_probs(policy, world).sum(dim=-1).detach(), scores).mean().item()
