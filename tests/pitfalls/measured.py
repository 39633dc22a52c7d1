"""Each of the forty mistakes made on purpose: a function per number, which says what comes out, beside what should.

`python tests/pitfalls/table.py` puts the sentences into docs/pitfalls.md. All models are the tiny ones of tiny.py, so
a number shows the size of a mistake here, not in a large model. A mistake that would be a line of the library is made
by replacing that function for a moment.
"""

import contextlib
import math
import sys
from pathlib import Path
from unittest import mock

import torch
from transformers import LlamaForSequenceClassification

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pieces import collect, sgd, update  # noqa: E402
from tiny import (  # noqa: E402
    PROMPTS,
    VOCAB,
    a_config,
    a_policy,
    a_reward_model,
    a_team,
    add_to_logit,
    constant,
    generator,
    low_tokens,
    plain_log_probs,
    rollout_of,
)

from rlhf_lite import models, ppo, ppo_math, reward, sampling, sft  # noqa: E402
from rlhf_lite.models import BEGIN, END, PAD  # noqa: E402
from rlhf_lite.pretrain import lm_loss  # noqa: E402

BANDIT = [BEGIN, 5]
ENDING = [BEGIN, 5, 6, END, 7, 8]  # a prompt with an END inside


def short(value):
    """Two significant digits, as people write them."""
    value = float(value)
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}" if value == 0 else str(value)
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}" if digits < 5 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def several(values):
    return "(" + ", ".join(f"{float(value):.2f}" for value in values) + ")"


def rows_of(*rows, left=False):
    return (sampling.pad_left if left else sampling.pad_right)(list(rows))


@torch.no_grad()
def log_probs_of(policy, ids, mask, positions=True):
    """(batch, length - 1) log-probabilities of every token but the first, with or without position ids."""
    options = models.position_arguments(policy, mask) if positions else {}
    logits = policy(input_ids=ids, attention_mask=mask, use_cache=False, **options).logits
    return logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)


def bandit(kind="llama", **changes):
    """The log-probability that one PPO update adds to the rewarded token 7."""
    policy, reference, critic = a_team(kind)
    add_to_logit(policy, 7, 3.0)
    before = plain_log_probs(policy, BANDIT)[-1, 7]
    settings = a_config(**{"iterations": 1, "batch_size": 64, "minibatch": 64, "max_new_tokens": 1, "micro_batch": None,
                           "whiten_advantages": False, "kl_coef": 0.0, "lr": 5e-3, **changes})
    ppo.train_ppo(policy, reference, constant(critic, 0.0), [BANDIT], settings, progress=False,
                  reward_fn=lambda rollout: (rollout.responses[:, 0] == 7).float())
    return plain_log_probs(policy, BANDIT)[-1, 7] - before


def collected(score=low_tokens, kind="llama", seed=0, **changes):
    """(batch, measurements, reference log-probabilities) of a policy that stops now and then."""
    policy, reference = a_policy(kind, scale=3.0), models.copy_model(a_policy(kind, 1, 3.0), trainable=False)
    add_to_logit(policy, END, 1.0)
    critic = models.scalar_from_policy(policy, 0)
    batch, entry = collect(policy, reference, critic, PROMPTS, a_config(batch_size=36, seed=seed, **changes), score)
    return batch, entry, ppo.rollout_log_probs(reference, batch.rollout)


# ---------------------------------------------------------------- signs, shapes, alignment

def p01():
    right, original = bandit(), ppo.policy_loss
    with mock.patch.object(ppo, "policy_loss", lambda new, old, advantages, *more, **options: original(
            new, old, -advantages, *more, **options)):
        wrong = bandit()
    return f"log π of a rewarded token, after one update: {short(wrong)}; right: +{short(right)}"


def p02():
    policy, reference, critic = a_team(scale=3.0)
    batch, _ = collect(policy, reference, critic, PROMPTS, a_config(batch_size=36), low_tokens)
    mask = batch.rollout.response_mask
    update(policy, critic, batch, a_config(minibatch=36), sgd(0.2))  # the weights move on, the rollout is not redone
    moved = ((ppo.rollout_log_probs(policy, batch.rollout) - batch.log_probs).exp() - 1)[mask].abs().max()
    return f"largest first \\|ratio − 1\\| with log-probabilities one step old: {short(moved)}; right: below 0.00001"


def p03():
    policy = a_policy(scale=3.0)
    rollout = sampling.sample(policy, PROMPTS * 8, 6, generator=generator())
    with torch.no_grad():
        logits = models.logits(policy, rollout.sequences, rollout.attention_mask)[:, rollout.prompt_length:]
    shifted = logits.log_softmax(-1).gather(2, rollout.responses[..., None]).squeeze(2)
    right = ppo_math.masked_mean(ppo.rollout_log_probs(policy, rollout), rollout.response_mask)
    wrong = ppo_math.masked_mean(shifted, rollout.response_mask)
    return f"mean log π of the policy's own tokens: {short(wrong)} nats; right: {short(right)}"


def gae_by_hand(rewards, values, length, lam=0.95):
    mask = torch.arange(len(rewards)) < length
    return ppo_math.gae(torch.tensor([rewards]), torch.tensor([values]), mask[None], 1.0, lam)[0][0]


def p04():
    wrong = [gae_by_hand([0, 0, 0, 1.0], [0.2, 0.2, 0.2, after_end], 4)[2] for after_end in (0.0, 0.2, 0.8)]
    right = gae_by_hand([0, 0, 1.0, 0], [0.2, 0.2, 0.2, 0], 3)[2]
    return (f"advantage of END, score 1, V .2, score one place late: {several(wrong)} for V after END of 0, .2, .8; "
            f"right: {right:.2f}")


def p05():
    wrong = gae_by_hand([0, 0, 1.0, 0.2], [0.2] * 4, 4)[2]  # the last place stands for a state that goes on
    return f"advantage of END, score 1, V .2: {wrong:.2f}; right: {gae_by_hand([0, 0, 1.0], [0.2] * 3, 3)[2]:.2f}"


def p06():
    rewards, values = [0, 0, 1.0, 0], [0.2, 0.2, 0.2, 100.0]
    return (f"advantages with a value of 100 at one pad: {several(gae_by_hand(rewards, values, 4)[:3])}; "
            f"right: {several(gae_by_hand(rewards, values, 3)[:3])}")


# ---------------------------------------------------------------- padding, END, positions

def p07():
    ours = a_reward_model(bias=0.0, scale=3.0)
    config = ours.config
    config.num_labels, config.pad_token_id = 1, END  # what some trainers set when there is no pad token
    model = LlamaForSequenceClassification(config).eval()
    model.model.load_state_dict(ours.trunk.state_dict())
    with torch.no_grad():
        model.score.weight.copy_(ours.score.weight)
        ids = torch.tensor([[BEGIN, 5, 6, END, END, END]])  # one END, then padding
        mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
        values = ours(ids, mask)[0]
        place = (values - model(input_ids=ids, attention_mask=mask).logits.item()).abs()[:4].argmin()
    return f"the score of a row whose END is at place 3 is read at place {place}; right: 3"


def p08():
    rollout = rollout_of([BANDIT] * 2, [[7, 8, END], [END]])
    guessed = ((rollout.responses != END) & (rollout.responses != PAD)).sum(1).tolist()
    return f"actions of a 3-token and of an END-only response: {guessed}; right: {rollout.lengths.tolist()}"


def p09():
    examples = [sft.build_example([BEGIN, 5], [7, 8, END])] * 8
    chances = []
    for masked_by_id in (True, False):
        policy = a_policy()

        def collate(rows, device="cpu", original=sft.collate, masked_by_id=masked_by_id):
            ids, mask, labels = original(rows, device)
            return ids, mask, torch.where(labels == END, sft.IGNORE, labels) if masked_by_id else labels

        with mock.patch.object(sft, "collate", collate):
            sft.train_sft(policy, examples, sft.SFTConfig(epochs=50, lr=1e-2), progress=False)
        chances.append(plain_log_probs(policy, [BEGIN, 5, 7, 8])[-1, END].exp())
    return f"chance of END after the answer that was taught: {short(chances[0])}; right: {short(chances[1])}"


def left_padding(kind, positions, attended):
    """Largest error of a row's log-probabilities with 5 pads to its left, without positions or without mask."""
    policy, row = a_policy(kind, scale=4.0), [BEGIN, 5, 9, 11, 6, 30, 41]
    ids, mask = rows_of(row, [BEGIN] + [9] * 11, left=True)
    seen = mask if attended else torch.ones_like(mask)
    padded = log_probs_of(policy, ids, seen, positions)[0, 5:]
    return (padded - log_probs_of(policy, *rows_of(row))[0]).abs().max()


def p10():
    return (f"log π under 5 left pads is off by up to {short(left_padding('gpt2', False, True))} nats (GPT-2); right: "
            "below 0.0001")


def p11():
    model = a_reward_model(scale=3.0)
    ids, mask = rows_of([BEGIN, 5, 9, 7], [BEGIN] + [9] * 8, left=True)
    with torch.no_grad():
        values = model(ids, mask)
    wrong = values[0, mask.sum(1)[0] - 1] - models.score_at_last(values, mask)[0]
    return f"score of a left-padded row read at its length: off by {short(wrong.abs())}; right: below 0.0001"


def p12():
    return (f"log π under 5 left pads that are attended: off by up to {short(left_padding('llama', True, False))} nats "
            "(Llama); right: below 0.0001")


def p13():
    rollout = rollout_of([ENDING], [[7, 8, 9]])
    looked_for = (rollout.sequences == END).any(1).float().mean()
    return f"share of cut-off responses called finished, END in the prompt: {looked_for:.0f}; right: " \
           f"{rollout.finished.float().mean():.0f}"


def p14():
    policy = a_policy(scale=3.0)
    add_to_logit(policy, END, 2.0)
    rollout = sampling.sample(policy, PROMPTS * 20, 4, generator=generator())
    at_the_limit = rollout.finished & (rollout.lengths == 4)
    return (f"share of the finished responses that \"as long as the limit\" would punish: "
            f"{short(at_the_limit.sum() / rollout.finished.sum())}; right: 0")


def p15():
    policy, reference = a_policy(), models.copy_model(a_policy(), trainable=False)
    add_to_logit(policy, END, -6.0)
    rollout = sampling.sample(policy, PROMPTS * 8, 4, generator=generator())
    forced = rollout_of(rollout.prompt_ids(), [ids[:-1] + [END] for ids in rollout.response_ids()])

    def kl(rollout):
        difference = ppo.rollout_log_probs(policy, rollout) - ppo.rollout_log_probs(reference, rollout)
        return torch.where(rollout.response_mask, difference, 0.0).sum(1).mean()

    return f"measured KL when END is forced on the last token: {short(kl(forced))} nats; right: {short(kl(rollout))}"


def p16():
    model, rollout = a_reward_model(scale=3.0), sampling.sample(a_policy(), PROMPTS * 8, 6, generator=generator())
    rows = [p + r for p, r in zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)]
    right, wrong = reward.score(model, rows), reward.score(model, [[BEGIN, *row] for row in rows])
    return (f"error of the scores with a second BEGIN, in their standard deviations: "
            f"{short((wrong - right).std() / right.std())}; right: 0")


def p17():
    model, prompt = a_reward_model(scale=3.0), [BEGIN, *range(5, 15)]
    pair = [[20, 21, 22, END], [20, 21, 22, 23]]
    losses = []
    for limit in (14, 15):
        scores = reward.score(model, [(prompt + response)[:limit] for response in pair])
        losses.append(reward.kwise_loss(scores, torch.tensor([1.0, 2.0])))
    return f"loss of a pair whose only difference is cut off: {losses[0]:.3f} (ln 2), whatever the model says; " \
           f"right: {losses[1]:.3f}"


# ---------------------------------------------------------------- sampling and log-probabilities

def p18():
    policy = a_policy()
    policy.generation_config.pad_token_id = PAD
    output = policy.generate(torch.tensor([BANDIT]), do_sample=True, max_new_tokens=1, output_scores=True,
                             return_dict_in_generate=True)
    return f"tokens that `generate(do_sample=True)` can draw out of {VOCAB}: {output.scores[0].isfinite().sum()}; " \
           f"right: {VOCAB}"


def p19():
    policy = a_policy(scale=3.0)
    rollout = sampling.sample(policy, PROMPTS, 6, 0.7, generator=generator())
    ratio = (ppo.rollout_log_probs(policy, rollout) - ppo.rollout_log_probs(policy, rollout, 0.7)).exp()
    ratio = ratio[rollout.response_mask]
    return f"ratios before any update, drawn at T = .7, scored at 1: {short(ratio.min())} to {short(ratio.max())}; " \
           "right: 1"


def p20():
    policy, reference, critic = a_team()
    add_to_logit(policy, END, 2.5)
    crooked = models.copy_model(policy)
    add_to_logit(crooked, END, -1e9)  # min_length
    found = []
    for sampler in (crooked, policy):
        rollout = sampling.sample(sampler, PROMPTS * 8, 6, generator=generator())
        difference = ppo.rollout_log_probs(policy, rollout) - ppo.rollout_log_probs(reference, rollout)
        found.append(torch.where(rollout.response_mask, difference, 0.0).sum(1).mean())
    return f"measured KL with END suppressed in sampling: {short(found[0])} nats a response; right: {short(found[1])}"


def p21():
    policy, counts = a_policy(scale=3.0), []
    for greedy in (True, False):
        rollout = sampling.sample(policy, [BANDIT] * 16, 6, greedy=greedy, generator=generator())
        counts.append(len(set(map(tuple, rollout.response_ids()))))
    return f"different responses among 16 to one prompt: {counts[0]}; right: {counts[1]}"


def p22():
    policy = a_policy("gpt2", scale=3.0)
    rollout = sampling.sample(policy, PROMPTS, 6, generator=generator())
    old = ppo.rollout_log_probs(policy, rollout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        new = ppo.rollout_log_probs(policy.train(), rollout)
    ratio = (new - old).exp()[rollout.response_mask]
    return f"first ratios with GPT-2's dropout of .1: {short(ratio.min())} to {short(ratio.max())}; right: 1"


def p23():
    policy = a_policy(scale=6.0)
    rollout = sampling.sample(policy, PROMPTS * 4, 6, generator=generator())
    right = ppo.rollout_log_probs(policy, rollout)
    half = ppo.rollout_log_probs(models.copy_model(policy).to(torch.bfloat16), rollout)
    return f"largest error of log π from a bfloat16 model: {short((half - right)[rollout.response_mask].abs().max())}" \
           " nats; right: below 0.00001"


def p24():
    tokenizer = models.train_tokenizer(["the cat sat on the mat " * 20], vocab_size=270)
    policy = models.new_policy("tiny", 0, vocab_size=270)
    rollout = sampling.sample(policy, [models.encode_prompt(tokenizer, "the cat")] * 32, 6, generator=generator())
    changed = 0
    for ids in rollout.response_ids():
        again = models.encode_text(tokenizer, models.decode_response(tokenizer, ids)) + [END] * (ids[-1] == END)
        changed += again != ids
    return f"sampled responses that decode and encode turn into others: {changed} of 32; right: 0"


def p25():
    draws = torch.randn(2, 7, generator=generator(), dtype=torch.float64)
    scores, log_q = draws[0].clone().requires_grad_(), draws[1].log_softmax(0)
    log_p = scores.log_softmax(0)
    truth = torch.autograd.grad((log_p.exp() * (log_p - log_q)).sum(), scores, retain_graph=True)[0]
    k1, k3 = (torch.autograd.grad(log_p.detach().exp() @ kl(log_p, log_q), scores, retain_graph=True)[0]
              for kl in (ppo_math.kl_k1, ppo_math.kl_k3))
    return f"gradient of the KL, as a share of the true one: k1 as a loss " \
           f"{short((k1.norm() / truth.norm()).round(decimals=9))}, " \
           f"k3 as a loss {short(k3.norm() / truth.norm())}; right (k1 in the reward): 1"


def p26():
    policy, reference, critic = a_team()
    add_to_logit(policy, 7, 40.0)
    batch, entry = collect(policy, reference, critic, PROMPTS, a_config(max_kl=1e9, max_new_tokens=12), low_tokens,
                           kl_coef=0.0)
    difference = batch.log_probs - ppo.rollout_log_probs(reference, batch.rollout)
    clamped = torch.where(batch.rollout.response_mask, difference.clamp(-3, 3), 0.0).sum(1).mean()
    return f"logged KL of a runaway policy, clamped to ±3 a token: {short(clamped)} nats; right: {short(entry['kl'])}"


# ---------------------------------------------------------------- reference, heads, starts

def p27():
    found = []
    for trailing in (True, False):
        policy, reference, critic = a_team()

        def follow(model, _, reference=reference, trailing=trailing):
            if trailing:
                reference.load_state_dict(model.state_dict())
            return {}

        run = ppo.train_ppo(policy, reference, critic, PROMPTS, a_config(iterations=4, lr=2e-2), reward_fn=low_tokens,
                            evaluate=follow, evaluate_every=1, progress=False)
        found.append(run.history[-1]["kl"])
    return f"logged KL after 4 iterations: {short(found[0])} nats; right: {short(found[1])}"


def p28():
    policy, full = a_policy("gpt2", scale=3.0), a_policy("gpt2", scale=3.0)
    for name, parameter in policy.named_parameters():  # a freeze list that forgets the table of positions
        parameter.requires_grad_(name.startswith(("transformer.h.1", "transformer.ln_f")) or "wpe" in name)
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=1e-3)
    ids = torch.randint(5, VOCAB, (8, 10), generator=generator())
    for _ in range(20):
        lm_loss(policy, ids).backward()
        optimizer.step()
        optimizer.zero_grad()
    shared = models.copy_model(full)  # the reference's own upper half on the trunk that drifted
    shared.transformer.wpe.load_state_dict(policy.transformer.wpe.state_dict())
    mask = torch.ones_like(ids)
    error = (log_probs_of(shared, ids, mask) - log_probs_of(full, ids, mask)).abs().max()
    return f"error of the \"reference\" after 20 steps, only the positions left trainable: {short(error)} nats; " \
           "right: 0"


@contextlib.contextmanager
def adapter(policy, amount):
    """A LoRA-like change of one weight, on inside the block."""
    weight = policy.model.layers[0].mlp.down_proj.weight
    change = amount * torch.randn(weight.shape, generator=generator())
    with torch.no_grad():
        weight.add_(change)
        yield
        weight.sub_(change)


def p29():
    policy = a_policy(scale=3.0)
    with adapter(policy, 0.3):  # what SFT has learnt
        rollout = sampling.sample(policy, PROMPTS * 8, 6, generator=generator())
        tuned = ppo.rollout_log_probs(policy, rollout)
    off = ppo.rollout_log_probs(policy, rollout)
    kl = torch.where(rollout.response_mask, tuned - off, 0.0).sum(1).mean()
    return f"KL at step 0, the reference being the policy without its adapters: {short(kl)} nats; right: 0"


def p30():
    model, rollout = a_reward_model(scale=3.0), sampling.sample(a_policy(), PROMPTS, 6, generator=generator())
    rows = [p + r for p, r in zip(rollout.prompt_ids(), rollout.response_ids(), strict=True)]
    fresh = models.copy_model(model)
    fresh.score.reset_parameters()
    error = (reward.score(fresh, rows) - reward.score(model, rows)).abs().mean()
    return f"critic's value of a whole row against the reward model's score, head made anew: off by " \
           f"{short(error)}; right: 0"


def p31():
    model, rows = a_reward_model(bias=0.5), [[BEGIN, 5, 7, END]]
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "score.bias"}
    other = constant(a_reward_model(bias=0.0, seed=3), 0.0)
    other.load_state_dict(state, strict=False)
    error = (reward.score(other, rows) - reward.score(model, rows)).abs()
    return f"scores after saving and loading without the bias: off by {short(error)}; right: 0"


# ---------------------------------------------------------------- losses and statistics

def p32():
    nine, two = torch.arange(9.0), torch.arange(2.0)
    pairs = [reward.preferred_pairs(ranks[None]).sum().item() for ranks in (nine, two)]
    return f"share of the loss that a prompt with K = 9 has beside one with K = 2: " \
           f"{pairs[0] / sum(pairs):.2f}; right: 0.50"


def p33():
    found = []
    for two_steps in (True, False):
        x = torch.zeros(2, requires_grad=True)
        adam = torch.optim.Adam([x], lr=0.1)
        for _ in range(10):
            (0.5 * (x - torch.tensor([1.0, 0.0])) ** 2).sum().backward()  # PPO's side
            if two_steps:
                adam.step()
                adam.zero_grad()
            (27.8 * 0.5 * (x - torch.tensor([0.0, 1.0])) ** 2).sum().backward()  # the pretraining side
            adam.step()
            adam.zero_grad()
        found.append(x.detach())
    return f"a toy of two quadratics, γ = 27.8, after 10 steps: {several(found[0])}; right: {several(found[1])}"


def p34():
    advantages = torch.randn(4, 8, generator=generator()) + 2
    mask = torch.arange(8) < torch.tensor([8, 3, 2, 4])[:, None]
    wrong = torch.where(mask, advantages, 0.0)
    wrong = ((wrong - wrong.mean()) / wrong.std())[mask]
    right = ppo_math.masked_whiten(advantages, mask)[mask]
    return (f"mean and deviation of the real tokens: {wrong.mean():.2f}, {wrong.std(correction=0):.2f}; right: "
            f"{abs(right.mean()):.2f}, {right.std(correction=0):.2f}")


def p35():
    values, mask = torch.tensor([[1.0, 2.0, math.nan]]), torch.tensor([[True, True, False]])
    return f"mean of 1 and 2 beside a NaN at padding: {(values * mask).sum() / 2}; right: " \
           f"{ppo_math.masked_mean(values, mask)}"


def p36():
    losses = [torch.full((n,), float(n)) for n in (1, 10, 100)]
    wrong = torch.stack([row.mean() for row in losses]).mean()
    return f"\"the mean loss\" of rows of 1, 10 and 100 tokens: {wrong:.0f}; right: {torch.cat(losses).mean():.0f}"


def p37():
    batch, _, ref = collected(score=lambda rollout: low_tokens(rollout) + 3, whiten_advantages=False, lam=1.0)
    mask = batch.rollout.response_mask
    wrong = ppo_math.masked_whiten(batch.advantages, mask) + batch.values
    return (f"what the critic is taught, on average, the returns taken after whitening: "
            f"{short(ppo_math.masked_mean(wrong, mask))}; right: {short(ppo_math.masked_mean(batch.returns, mask))}")


def p38():
    batch, _, ref = collected()
    mask = torch.nn.functional.pad(batch.rollout.response_mask, (0, 4))
    k2 = torch.where(mask, torch.nn.functional.pad(ppo_math.kl_k2(batch.log_probs, ref), (0, 4)), 0.0)
    return (f"a KL per token averaged over pads as well, {short(100 * (1 - mask.float().mean()))} % of them: "
            f"{short(k2.mean())}; right: {short(ppo_math.masked_mean(k2, mask))}")


def p39():
    model = a_reward_model(bias=3.0, scale=3.0)
    rows = [prompt + [7, 8, END] for prompt in PROMPTS]
    before = reward.score(model, rows).mean()
    reward.normalise(model, rows)
    after_ = reward.score(model, rows).mean().item()
    return f"mean score of the demonstrations: {short(before)}; right: {abs(after_):.1f}"


def p40():
    rollout = collected()[0].rollout
    lengths = rollout.lengths.float()
    scores = 0.2 * lengths + low_tokens(rollout)
    proxy = torch.corrcoef(torch.stack([scores, lengths]))[0, 1]
    true = torch.corrcoef(torch.stack([low_tokens(rollout), lengths]))[0, 1]
    return f"correlation of score and length, .2 a token hidden in the reward: {short(proxy)}; " \
           f"without it: {short(true)}"


MEASURES = {number: globals()[f"p{number:02d}"] for number in range(1, 41)}
