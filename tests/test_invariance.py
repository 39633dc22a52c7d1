"""What must not matter, as properties: padding and what stands at it, the order of rows, the split into parts.

Hypothesis draws the rows and how they are laid out; every loss, gradient, metric and score of the taught modules has
to stay, on a GPT-2 (learned absolute positions) and on a Llama (rotary positions). In float32 the order of sums
changes the last digits, so numbers agree to 1e-4 relative (plus 1e-5) and gradients to 1e-3 of their largest entry;
the mistakes these properties are there for are off by far more (docs/pitfalls.md, P6 to P12, P34 to P38).
The examples are the same in every run.
"""

import functools
import itertools

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pieces import collect, ppo_gradients, reward_gradients, sft_gradients
from tiny import KINDS, VOCAB, a_config, a_policy, a_reward_model, rollout_of

from rlhf_lite import best_of_n, dpo, models, ppo, ppo_math, reward, rloo, sampling, sft, stats
from rlhf_lite.models import BEGIN, END
from rlhf_lite.pretrain import lm_loss
from rlhf_lite.reward import RankedPrompt, RewardConfig

both_kinds = pytest.mark.parametrize("kind", KINDS)
# The rows are small as drawn; looking for smaller ones can take minutes.
some = settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
many = settings(some, max_examples=60)  # without a model


# ---------------------------------------------------------------- what is drawn

tokens = st.integers(3, VOCAB - 1)
prompts = st.lists(tokens, min_size=0, max_size=6).map(lambda ids: [BEGIN, *ids])
responses = st.tuples(st.lists(tokens, min_size=0, max_size=5), st.booleans()).map(
    lambda drawn: [*drawn[0], END] if drawn[1] or not drawn[0] else drawn[0])
layouts = st.fixed_dictionaries({"before": st.integers(0, 4), "after": st.integers(0, 4), "left": st.booleans(),
                                 "garbage": st.integers(0, 2**16)})


@st.composite
def rows_in_two_orders(draw, smallest=2, largest=6):
    """[(prompt, response)], two of them always different, and the rows' numbers in another order."""
    rows = [([BEGIN, 5], [7, END]), ([BEGIN, 9, 8], [10, 11, 12])]
    rows += draw(st.lists(st.tuples(prompts, responses), min_size=smallest - 2, max_size=largest - 2))
    return rows, draw(st.permutations(range(len(rows))))


@st.composite
def rankings_drawn(draw):
    """RankedPrompts of unequal K, at least one with a pair to learn from."""
    found = [RankedPrompt([BEGIN, 5], [[7, END], [8, 9]], [1, 2])]
    for _ in range(draw(st.integers(1, 3))):
        answers = draw(st.lists(responses, min_size=2, max_size=4))
        found.append(RankedPrompt(draw(prompts), answers, draw(st.lists(st.integers(1, 3), min_size=len(answers),
                                                                         max_size=len(answers)))))
    return draw(st.permutations(found))


# ---------------------------------------------------------------- how it is laid out and compared

def padded(rows, before=0, after=0, left=False, garbage=0):
    """Lists of ids -> (ids, mask), padded on one side, with more columns on both, and any ids at the padding."""
    ids, mask = (sampling.pad_left if left else sampling.pad_right)(rows)
    ids, mask = (torch.nn.functional.pad(tensor, (before, after)) for tensor in (ids, mask))
    noise = torch.randint(0, VOCAB, ids.shape, generator=torch.Generator().manual_seed(garbage))  # END, BEGIN too
    return torch.where(mask.bool(), ids, noise), mask


def laid_out(pairs, before=0, after=0, garbage=0, **_):
    """[(prompt, response)] -> a Rollout with more columns on both sides and any ids at the padding."""
    plain = rollout_of(*map(list, zip(*pairs, strict=True)))
    pad = torch.nn.functional.pad
    sequences, mask = (pad(tensor, (before, after)) for tensor in (plain.sequences, plain.attention_mask))
    noise = torch.randint(0, VOCAB, sequences.shape, generator=torch.Generator().manual_seed(garbage))
    return sampling.Rollout(torch.where(mask.bool(), sequences, noise), mask, pad(plain.response_mask, (0, after)),
                            plain.prompt_length + before, plain.finished)


@functools.cache
def teacher(kind):
    """(policy, another policy, which is frozen, reward model), away from uniform and never changed by a test."""
    other = a_policy(kind, 1, 3.0).requires_grad_(False)
    return a_policy(kind, 0, 3.0), other, a_reward_model(kind, 2, scale=3.0)


def gradients(model):
    """All gradients as one vector; they are taken away from the model."""
    flat = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in model.parameters()])
    model.zero_grad(set_to_none=True)
    return flat


def gradient_of(loss, model):
    loss.backward()
    return gradients(model)


def agree(one, other):
    """Numbers, or dicts or tensors of them, to 1e-4 relative + 1e-5."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = ([float(value) for value in entry.values()] for entry in (one, other))
    one, other = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (one, other))
    assert one.shape == other.shape and one.isfinite().all()
    assert ((one - other).abs() <= 1e-5 + 1e-4 * other.abs()).all(), (one, other)


def same_gradient(one, other):
    """To 1e-3 of the largest entry; a gradient of nothing but zeros would prove nothing."""
    assert other.abs().max() > 1e-7 and (one - other).abs().max() <= 1e-3 * other.abs().max() + 1e-7


# ---------------------------------------------------------------- supervised fine-tuning

@both_kinds
@some
@given(drawn=rows_in_two_orders(), layout=layouts, size=st.integers(1, 6))
def test_sft_loss_and_gradient(kind, drawn, layout, size):
    """Left or right padding, more columns, any ids there, another order of rows, any micro-batch."""
    policy, (pairs, order) = teacher(kind)[0], drawn
    examples = [sft.build_example(prompt, response if response != [END] else [5, END]) for prompt, response in pairs]
    ids, mask, labels = sft.collate(examples)
    loss = sft.sft_loss(models.logits(policy, ids, mask), labels)
    gradient = gradient_of(loss, policy)

    ids, mask = padded([examples[row].input_ids for row in order], **layout)
    labels, _ = padded([examples[row].labels for row in order], **layout)
    other = sft.sft_loss(models.logits(policy, ids, mask), torch.where(mask.bool(), labels, sft.IGNORE))
    agree(other, loss)
    same_gradient(gradient_of(other, policy), gradient)

    other = sft_gradients(policy, [examples[row] for row in order], sft.SFTConfig(micro_batch=size))
    agree(other, loss)
    same_gradient(gradients(policy), gradient)
    agree(sft.evaluate_sft(policy, [examples[row] for row in order], size), loss)


@both_kinds
@some
@given(rows=st.lists(st.lists(tokens, min_size=7, max_size=7), min_size=2, max_size=5), order=st.randoms())
def test_pretraining_loss_does_not_depend_on_the_order_of_rows(kind, rows, order):
    policy, rows = teacher(kind)[0], torch.tensor(rows)
    loss = lm_loss(policy, rows)
    gradient = gradient_of(loss, policy)
    other = lm_loss(policy, rows[order.sample(range(len(rows)), len(rows))])
    agree(other, loss)
    same_gradient(gradient_of(other, policy), gradient)


# ---------------------------------------------------------------- reward model

@both_kinds
@some
@given(drawn=rows_in_two_orders(), layout=layouts, size=st.integers(1, 6))
def test_scores_and_every_value_on_the_way(kind, drawn, layout, size):
    """A row has the same score left- or right-padded, among other rows, in any batch; so has each of its places."""
    model, (pairs, order) = teacher(kind)[2], drawn
    rows = [reward.reward_input(*pair) for pair in pairs]
    alone = [model(torch.tensor([row]), torch.ones(1, len(row), dtype=torch.long))[0] for row in rows]
    ids, mask = padded([rows[row] for row in order], **layout)
    values = model(ids, mask)
    for place, row in enumerate(order):
        agree(values[place][mask[place].bool()], alone[row])
    agree(models.score_at_last(values, mask), torch.stack([alone[row][-1] for row in order]))
    agree(reward.score(model, [rows[row] for row in order], size), torch.stack([alone[row][-1] for row in order]))


@both_kinds
@some
@given(rankings=rankings_drawn(), layout=layouts, size=st.integers(1, 4), order=st.randoms())
def test_ranking_loss_gradient_and_measures(kind, rankings, layout, size, order):
    """Padding of the rows, empty places in the table of scores, the order of prompts and of answers, micro-batches."""
    model = teacher(kind)[2]
    config = RewardConfig(micro_batch=None)
    loss, accuracy = reward_gradients(model, rankings, config)
    gradient = gradients(model)
    measured = reward.evaluate_reward(model, rankings)
    bins = reward.calibration(*reward.score_rankings(model, rankings))

    shuffled = []
    for ranking in order.sample(rankings, len(rankings)):
        places = order.sample(range(len(ranking.ranks)), len(ranking.ranks))
        shuffled.append(RankedPrompt(ranking.prompt_ids, [ranking.responses[p] for p in places],
                                     [ranking.ranks[p] for p in places]))
    again, accuracy_again = reward_gradients(model, shuffled, RewardConfig(micro_batch=size))
    agree((again, accuracy_again), (loss, accuracy))
    same_gradient(gradients(model), gradient)
    agree(reward.evaluate_reward(model, shuffled, size), measured)
    for one, other in itertools.zip_longest(reward.calibration(*reward.score_rankings(model, shuffled)), bins):
        agree(one, other)

    ranks, places = reward.rank_tensors(shuffled)
    ranks, places = (torch.nn.functional.pad(tensor, (0, layout["after"])) for tensor in (ranks, places))
    ids, mask = padded([reward.reward_input(r.prompt_ids, a) for r in shuffled for a in r.responses], **layout)
    scores = torch.full(places.shape, float("nan")).masked_scatter(places, models.score_at_last(model(ids, mask), mask))
    other = reward.kwise_losses(scores, ranks, places).sum() / len(shuffled)
    agree(other, loss)
    same_gradient(gradient_of(other, model), gradient)
    agree(reward.kwise_loss(scores, ranks, places).item(), measured["loss"])
    agree(reward.pair_accuracy(scores, ranks, places), accuracy)


# ---------------------------------------------------------------- PPO

def score_of(rollout):
    """A reward that depends on the ids of each response only, and of neither padding nor place."""
    return torch.tensor([sum(ids) % 7 / 3 - 1 for ids in rollout.response_ids()])


def collected(kind, rollout, config):
    """PPO's own collection on a rollout that is given instead of sampled."""
    policy, other, judge = teacher(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "sample", lambda *arguments, **options: rollout)
        return collect(policy, other, judge, [[BEGIN]], config, score_of, kl_coef=0.3)


@both_kinds
@some
@given(drawn=rows_in_two_orders(3, 7), layout=layouts, size=st.integers(1, 7))
def test_ppo_measurements_advantages_losses_and_gradients(kind, drawn, layout, size):
    """One whole iteration but for the step: more columns, any ids there, another order of rows, any micro-batch."""
    (pairs, order), (policy, _, critic) = drawn, teacher(kind)
    config = a_config(batch_size=len(pairs), micro_batch=None, missing_end_penalty=0.5, max_kl=1e9, temperature=1.3)
    numbers = range(len(pairs))
    plain, entry = collected(kind, laid_out(pairs), config)
    other, entry_again = collected(kind, laid_out([pairs[row] for row in order], **layout), config)
    agree(entry_again, entry)
    mask = plain.rollout.response_mask
    for name in ("log_probs", "values", "advantages", "returns"):
        before, now = getattr(plain, name), getattr(other, name)
        agree(torch.where(mask, before, 0.0)[list(order)],
              torch.where(other.rollout.response_mask, now, 0.0)[:, :mask.shape[1]])

    # Old numbers that are not those of the models, so that ratios, clips and the critic's errors are not trivial.
    results = []
    for batch, micro_batch in ((plain, None), (other, size)):
        old = batch.log_probs - 0.15 * torch.where(batch.rollout.response_mask, batch.values, 0.0)
        batch = batch._replace(log_probs=old, values=0.7 * batch.values)
        statistics = ppo_gradients(policy, critic, batch, numbers, a_config(micro_batch=micro_batch, temperature=1.3))
        results.append((statistics, gradients(policy), gradients(critic)))
    (statistics, *plain_gradients), (statistics_again, *other_gradients) = results
    agree(statistics_again, statistics)
    assert abs(statistics["max_ratio"] - 1) > 1e-3
    for one, two in zip(other_gradients, plain_gradients, strict=True):
        same_gradient(one, two)


@both_kinds
@some
@given(drawn=rows_in_two_orders(), layout=layouts, size=st.integers(1, 5), temperature=st.sampled_from([0.7, 1.0, 1.5]))
def test_log_probs_entropies_values_and_scores_of_a_rollout(kind, drawn, layout, size, temperature):
    """What a batch says of a row is what the row alone, without any padding, says."""
    (pairs, order), (policy, _, critic) = drawn, teacher(kind)
    rollout = laid_out([pairs[row] for row in order], **layout)
    log_probs, entropy = ppo.rollout_log_probs(policy, rollout, temperature, entropy=True, batch_size=size)
    values = ppo.rollout_values(critic, rollout, batch_size=size)
    scores = ppo.score_rollout(critic, rollout)
    for place, row in enumerate(order):
        prompt, response = pairs[row]
        ids, width = torch.tensor([prompt + response]), len(response)
        with torch.no_grad():
            truth = (models.logits(policy, ids, torch.ones_like(ids))[0, len(prompt) - 1:-1] / temperature
                     ).log_softmax(-1)
            value = critic(ids, torch.ones_like(ids))[0]
        agree(log_probs[place, :width], truth.gather(1, torch.tensor(response)[:, None]).squeeze(1))
        agree(entropy[place, :width], -(truth.exp() * truth).sum(-1))
        agree(values[place, :width], value[len(prompt) - 1:-1])
        agree(scores[place], value[-1])


@many
@given(lengths=st.lists(st.integers(1, 5), min_size=2, max_size=6), extra=st.integers(0, 4), seed=st.integers(0, 2**16),
       garbage=st.sampled_from([0.0, 77.0, float("nan"), float("inf"), float("-inf")]), order=st.randoms())
def test_the_mathematics_of_ppo(lengths, extra, seed, garbage, order):
    """All pure functions: more columns, any number at padding, another order of rows, any split of the losses."""
    width, n = max(lengths), len(lengths)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    draws = torch.randn(5, n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    places = torch.tensor(order.sample(range(n), n))
    scores = draws[4, :, 0]

    def everything(new, old, values, returns, scores, mask):
        rewards = ppo_math.shaped_rewards(scores, new, old, mask, 0.3)
        advantages, targets = ppo_math.gae(rewards, values, mask, 0.99, 0.95)
        white = ppo_math.masked_whiten(advantages, mask)
        policy_loss, statistics = ppo_math.policy_loss(new, old, white, mask)
        value_loss = ppo_math.value_loss(values, 0.5 * values, returns, mask)
        halves = [slice(0, n // 2), slice(n // 2, n)]
        parts = [(ppo_math.policy_loss(new[h], old[h], white[h], mask[h], normaliser=mask.sum())[0],
                  ppo_math.value_loss(values[h], 0.5 * values[h], returns[h], mask[h], normaliser=mask.sum()))
                 for h in halves]
        numbers = {**statistics, "policy": policy_loss, "value": value_loss,
                   "policy in parts": sum(p for p, _ in parts), "value in parts": sum(v for _, v in parts),
                   "explained": ppo_math.explained_variance(values, targets, mask),
                   "mean": ppo_math.masked_mean(new, mask), "rloo": rloo.rloo_loss(new, scores, mask)}
        tensors = (rewards, advantages, targets, white, ppo_math.masked_whiten(values, mask, shift_mean=False))
        return numbers, [torch.where(mask, tensor, 0.0) for tensor in tensors]

    numbers, tensors = everything(*draws[:4], scores, mask)
    assert abs(numbers["policy"] - numbers["policy in parts"]) < 1e-9
    assert abs(numbers["value"] - numbers["value in parts"]) < 1e-9
    wide = torch.nn.functional.pad(mask, (0, extra))[places]
    moved = [torch.where(wide, torch.nn.functional.pad(draw, (0, extra))[places], garbage) for draw in draws[:4]]
    again, moved = everything(*moved, scores[places], wide)
    for name, value in numbers.items():
        assert float(again[name]) == pytest.approx(float(value), rel=1e-9, abs=1e-12), name
    for one, other in zip(moved, tensors, strict=True):
        assert torch.allclose(one, torch.nn.functional.pad(other, (0, extra))[places], rtol=1e-9, atol=1e-12)
        assert (one[~wide] == 0).all()


# ---------------------------------------------------------------- DPO and RLOO

@both_kinds
@some
@given(rankings=rankings_drawn(), size=st.integers(1, 4), order=st.randoms())
def test_dpo_loss_gradient_and_accuracy(kind, rankings, size, order):
    """Neighbours decide how far a row is padded, on both sides; they and the order must not show."""
    policy, reference, _ = teacher(kind)

    def measure(rankings, parts):
        ranks, mask = reward.rank_tensors(rankings)
        ref = dpo.frozen_log_probs(reference, rankings, parts)
        log_probs = torch.nn.utils.rnn.pad_sequence(
            [row for start in range(0, len(rankings), parts)
             for row in dpo.ranking_log_probs(policy, rankings[start:start + parts])], batch_first=True)
        rewards = dpo.implicit_reward(log_probs, ref, 0.1)
        loss = reward.kwise_losses(rewards, ranks, mask).mean()
        return (loss.item(), reward.pair_accuracy(rewards.detach(), ranks, mask)), gradient_of(loss, policy)

    numbers, gradient = measure(rankings, len(rankings))
    again, other = measure(order.sample(rankings, len(rankings)), size)
    agree(again, numbers)
    same_gradient(other, gradient)
    for ranking in rankings:  # and a response among others is what it is alone
        together = dpo.sequence_log_probs(policy, [ranking.prompt_ids] * len(ranking.responses), ranking.responses)
        agree(together, [dpo.sequence_log_probs(policy, [ranking.prompt_ids], [response]).item()
                         for response in ranking.responses])


@both_kinds
@some
@given(drawn=rows_in_two_orders(3, 3), more=rows_in_two_orders(3, 3), layout=layouts)
def test_rloo_loss_and_gradient(kind, drawn, more, layout):
    """The order of the groups and within a group, more columns, any ids there."""
    policy = teacher(kind)[0]
    groups = [drawn[0], more[0]]
    moved = [[groups[1][row] for row in more[1]], [groups[0][row] for row in drawn[1]]]
    results = []
    for pairs, options in ((sum(groups, []), {}), (sum(moved, []), layout)):
        rollout = laid_out(pairs, **options)
        log_probs = sampling.token_log_probs(policy, rollout.sequences, rollout.attention_mask, rollout.prompt_length)
        scores = rollout.lengths.float() + torch.tensor([sum(prompt) % 5 for prompt, _ in pairs])
        loss = rloo.rloo_loss(log_probs, rloo.rloo_advantages(scores, 3), rollout.response_mask)
        results.append((loss.item(), gradient_of(loss, policy)))
    (loss, gradient), (other, again) = results
    assert other == pytest.approx(loss, rel=1e-3, abs=1e-3)  # a sum of sequence log-probabilities, tens of nats
    assert (again - gradient).abs().max() <= 1e-3 * gradient.abs().max() + 1e-6


# ---------------------------------------------------------------- sampling, best of n, statistics

@both_kinds
@some
@given(asked=st.lists(prompts, min_size=2, max_size=5), neighbour=prompts, order=st.randoms())
def test_greedy_answers_do_not_depend_on_the_neighbours(kind, asked, neighbour, order):
    """A longer prompt beside it pads a prompt, a row that finishes leaves the cache: the answer stays."""
    policy = teacher(kind)[0]
    alone = [sampling.sample(policy, [prompt], 5, greedy=True).response_ids()[0] for prompt in asked]
    places = order.sample(range(len(asked)), len(asked))
    together = sampling.sample(policy, [asked[place] for place in places] + [[*neighbour, 9, 9, 9]], 5, greedy=True)
    assert together.response_ids()[:-1] == [alone[place] for place in places]
    assert sampling.sample_many(policy, asked, 5, greedy=True, batch_size=2, progress=False) == alone


@many
@given(scores=st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=2, max_size=4),
       n=st.integers(1, 5), order=st.randoms())
def test_best_of_n_and_win_rates_do_not_depend_on_the_order(scores, n, order):
    proxy = torch.tensor(scores, dtype=torch.float64)
    true = (7 * proxy + torch.arange(5)) % 5
    rows, columns = (order.sample(range(size), size) for size in proxy.shape)
    moved = [table[rows][:, columns] for table in (proxy, true)]
    weights = best_of_n.best_of_n_weights(proxy, n)
    agree(best_of_n.best_of_n_weights(moved[0], n), weights[rows][:, columns])
    agree(weights.sum(dim=1), torch.ones(len(proxy)))
    one, other = (best_of_n.best_of_n_curve(*tables, [1, n]) for tables in ((proxy, true), moved))
    for name in ("proxy", "true"):
        agree(other[name], one[name][rows])
    p = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)
    exact = best_of_n.kl_best_of_n(n, p, proxy[0])
    assert best_of_n.kl_best_of_n(n, p[columns], proxy[0][columns]) == pytest.approx(exact, abs=1e-12)
    lengths, rewards = true[0].tolist(), proxy[0].tolist()
    if len(set(lengths)) > 1 and len(set(rewards)) > 1:
        value = stats.length_reward_correlation(lengths, rewards).value
        moved = stats.length_reward_correlation([lengths[c] for c in columns], [rewards[c] for c in columns])
        assert moved.value == pytest.approx(value, abs=1e-9)
