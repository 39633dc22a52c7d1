"""The ranking loss, its ties and groups; a reward model that learns, is normalised and reloads."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import norm, optimizer_steps, reward_gradients
from tiny import a_policy

from rlhf_lite import checkpoints, models, reward, training
from rlhf_lite.models import BEGIN, END
from rlhf_lite.reward import RankedPrompt, RewardConfig

RANKINGS = [RankedPrompt([BEGIN, 10 + i], [[7, 7, END], [7, 30], [31, END]], [1, 2, 2]) for i in range(8)]
DRAWN = st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 4)), min_size=2, max_size=6)


def a_model(seed=0):
    return models.scalar_from_policy(a_policy(seed=seed), seed)


def some_rankings(count=120, k=4, seed=0):
    """The more often the response holds token 7, the better."""
    rng = np.random.default_rng(seed)
    rankings = []
    for _ in range(count):
        prompt = [BEGIN, *rng.integers(10, 20, rng.integers(1, 4)).tolist()]
        responses = [[int(t) for t in rng.choice([7, 30, 31], 5)] + [END] for _ in range(k)]
        rankings.append(RankedPrompt(prompt, responses, [-float(response.count(7)) for response in responses]))
    return rankings


def by_double_loop(scores, ranks):
    terms = [math.log1p(math.exp(scores[j] - scores[i])) for i, j in itertools.permutations(range(len(scores)), 2)
             if ranks[i] < ranks[j]]
    return sum(terms) / len(terms) if terms else 0.0


@settings(max_examples=60, deadline=None)
@given(DRAWN, st.floats(-3, 3), st.randoms())
def test_kwise_loss_properties(items, shift, rnd):
    """P32: equals the double loop, invariant to shift and order, gradients sum to 0."""
    scores = torch.tensor([item[0] for item in items], dtype=torch.float64, requires_grad=True)
    ranks = torch.tensor([item[1] for item in items])
    loss = reward.kwise_loss(scores, ranks)
    assert loss.item() == pytest.approx(by_double_loop(scores.tolist(), ranks.tolist()), abs=1e-9)
    assert reward.kwise_loss(scores + shift, ranks).item() == pytest.approx(loss.item(), abs=1e-9)
    order = list(range(len(items)))
    rnd.shuffle(order)
    assert reward.kwise_loss(scores[order], ranks[order]).item() == pytest.approx(loss.item(), abs=1e-9)
    loss.backward()
    assert scores.grad.sum().item() == pytest.approx(0, abs=1e-9)


def test_kwise_loss_at_equal_scores_and_all_ties():
    assert reward.kwise_loss(torch.zeros(4), torch.tensor([1, 2, 3, 4])).item() == pytest.approx(math.log(2))
    scores = torch.ones(3, requires_grad=True)
    loss = reward.kwise_loss(scores, torch.tensor([2, 2, 2]))
    loss.backward()
    assert loss.item() == 0.0 and scores.grad.abs().sum() == 0  # not NaN


def test_kwise_loss_of_a_batch_is_the_mean_over_prompts_with_pairs():
    nan = float("nan")
    scores = torch.tensor([[1.0, 0.0, nan], [0.0, 2.0, 1.0], [3.0, 1.0, 0.0]], requires_grad=True)
    ranks = torch.tensor([[1, 2, 1], [2, 1, 2], [1, 1, 1]])
    mask = torch.tensor([[True, True, False], [True] * 3, [True] * 3])
    expected = (by_double_loop([1, 0], [1, 2]) + by_double_loop([0, 2, 1], [2, 1, 2])) / 2
    loss = reward.kwise_loss(scores, ranks, mask)
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert scores.grad.isfinite().all() and (scores.grad[2] == 0).all()  # P35
    assert reward.kwise_losses(scores, ranks, mask)[2].item() == 0.0


def test_a_step_on_the_loss_raises_the_winner():
    scores = torch.zeros(2, requires_grad=True)
    reward.kwise_loss(scores, torch.tensor([1, 2])).backward()
    assert scores.grad[0] < 0 < scores.grad[1]  # gradient descent raises the score of rank 1


def test_pair_accuracy():
    ranks = torch.tensor([1, 2, 2])
    assert reward.pair_accuracy(torch.tensor([3.0, 2.0, 1.0]), ranks) == 1.0
    assert reward.pair_accuracy(torch.tensor([1.0, 2.0, 1.0]), ranks) == 0.25  # one wrong, one equal
    assert math.isnan(reward.pair_accuracy(torch.zeros(2), torch.tensor([1, 1])))
    assert reward.preferred_pairs(ranks[None])[0].tolist() == [[False, True, True], [False] * 3, [False] * 3]


def test_calibration_of_a_perfect_and_of_a_boastful_model():
    torch.manual_seed(0)
    true = torch.randn(4000, 2) * 1.5
    wins = torch.rand(4000) < (true[:, 0] - true[:, 1]).sigmoid()
    ranks = torch.stack([1 + (~wins).long(), 1 + wins.long()], dim=1)
    table = reward.calibration(true, ranks)
    assert sum(row["pairs"] for row in table) == 4000
    assert all(abs(row["predicted"] - row["observed"]) < 0.06 for row in table)
    assert all(row["observed"] < row["predicted"] for row in reward.calibration(true * 5, ranks)[1:])


def test_score_ignores_padding_batches_and_order():
    model = a_model()
    rows = [[BEGIN, 5, END, 6, END], [BEGIN, 7], [BEGIN] + [8] * 12]  # END inside the prompt (P7)
    alone = [model(torch.tensor([row]), torch.ones(1, len(row)))[0, -1].item() for row in rows]
    assert reward.score(model, rows).tolist() == pytest.approx(alone, abs=1e-5)
    assert reward.score(model, rows, batch_size=1).tolist() == pytest.approx(alone, abs=1e-5)


def test_inputs_are_the_ids_as_sampled():
    """P15, P16: no END is added to an unfinished response."""
    assert reward.reward_input([1, 5], [6, END]) == [1, 5, 6, END]
    assert reward.reward_input([1, 5], [6]) == [1, 5, 6]


@pytest.mark.parametrize("seed", [0, 1])
def test_training_learns_and_repeats_itself(seed):
    model, valid = a_model(seed), some_rankings(40, seed=seed + 50)
    before = reward.evaluate_reward(model, valid)
    config = RewardConfig(epochs=2, batch_prompts=8, lr=3e-3, seed=seed)
    history = reward.train_reward(model, some_rankings(seed=seed), config, valid=valid, progress=False)
    after = reward.evaluate_reward(model, valid)
    assert after["accuracy"] > 0.9 > before["accuracy"] and after["loss"] < before["loss"]
    assert history[-1]["valid_accuracy"] == after["accuracy"] and history[-1]["epoch"] == 2
    again = a_model(seed)
    assert reward.train_reward(again, some_rankings(seed=seed), config, valid=valid, progress=False) == history
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_micro_batches_change_nothing():
    """P36: with K = 2 and K = 4 in one batch."""
    rankings = some_rankings(5) + some_rankings(4, k=2, seed=3)
    results = []
    for micro_batch in (None, 1, 4):
        model = a_model()
        rows = [r for r in rankings if len(set(r.ranks)) > 1]
        loss, _ = reward_gradients(model, rows, RewardConfig(micro_batch=micro_batch))
        results.append((loss, [p.grad for p in model.parameters()]))
    expected = np.mean([by_double_loop(reward.score(a_model(), [reward.reward_input(r.prompt_ids, x)
                                                                for x in r.responses]).tolist(), r.ranks)
                        for r in rows])
    for loss, grads in results:
        assert loss == pytest.approx(expected, rel=1e-4)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(results[0][1], grads, strict=True))


def test_shuffled_pairs():
    ranking = RankedPrompt([1], [[5], [6], [7]], [2, 1, 2])
    assert reward.split_into_pairs([ranking]) == [([1], [[6], [5]], [0, 1]), ([1], [[6], [7]], [0, 1])]
    grouped, shuffled = (reward.train_reward(a_model(), some_rankings(40), RewardConfig(
        batch_prompts=8, lr=3e-3, shuffled_pairs=mode), progress=False) for mode in (False, True))
    assert abs(len(grouped) - len(shuffled)) <= 1 and shuffled[-1]["loss"] < shuffled[0]["loss"]


def test_normalise_centres_demonstrations_and_survives_saving(tmp_path):
    """P31, P39."""
    model, rankings = a_model(), some_rankings(30)
    rows = [reward.reward_input(r.prompt_ids, response) for r in rankings for response in r.responses]
    demonstrations = rows[::5]
    torch.nn.init.constant_(model.score.bias, 3.0)
    before = reward.evaluate_reward(model, rankings)
    info = reward.normalise(model, demonstrations)
    assert info["gain"] == 1.0 and info["mean_before"] > 1
    assert abs(reward.score(model, demonstrations).double().mean()) < 1e-6
    after = reward.evaluate_reward(model, rankings)
    assert after["accuracy"] == before["accuracy"] and after["loss"] == pytest.approx(before["loss"], abs=1e-5)
    reward.normalise(model, demonstrations, samples=rows)
    scores = reward.score(model, rows)
    assert scores.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    assert abs(reward.score(model, demonstrations).double().mean()) < 1e-6
    assert reward.evaluate_reward(model, rankings)["accuracy"] == before["accuracy"]
    checkpoints.save_checkpoint(tmp_path / "rm", model, {})
    assert torch.equal(reward.score(checkpoints.load_scalar(tmp_path / "rm"), rows), scores)


def test_normalise_refuses_what_sets_no_zero_or_no_unit():
    model, row = a_model(), [BEGIN, 5, END]
    before = [p.clone() for p in model.parameters()]
    for demonstrations, samples, match in (([], None, "no demonstrations"), ([row], [], "no demonstrations or samples"),
                                           ([row], [row] * 3, "do not vary"), ([row], [row], "do not vary")):
        with pytest.raises(ValueError, match=match):
            reward.normalise(model, demonstrations, samples)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_errors():
    with pytest.raises(ValueError, match="2 responses but 1 ranks"):
        reward.train_reward(a_model(), [RankedPrompt([1], [[5], [6]], [1])], RewardConfig())
    with pytest.raises(ValueError, match="nothing to learn"):
        reward.train_reward(a_model(), [RankedPrompt([1], [[5], [6]], [1, 1])], RewardConfig())
    with pytest.raises(ValueError, match="micro_batch is -1; set it to 1 or more"):
        reward.train_reward(a_model(), some_rankings(), RewardConfig(micro_batch=-1))
    model = a_model()
    torch.nn.init.constant_(model.score.bias, float("nan"))
    with pytest.raises(RuntimeError, match="diverged"):
        reward.train_reward(model, some_rankings(), RewardConfig(), progress=False)


def test_reward_steps_follow_the_cosine_and_are_clipped():
    config = RewardConfig(epochs=2, batch_prompts=4, max_grad_norm=0.01)
    with optimizer_steps() as steps:
        reward.train_reward(a_model(), RANKINGS, config, progress=False)
    assert [lr for lr, _ in steps] == pytest.approx([training.cosine_lr(i, 4, 5e-4, 0.1) for i in range(4)])
    assert [norm(g) for _, g in steps] == pytest.approx([0.01] * 4, rel=1e-3)


def test_every_response_is_read_once_in_an_epoch():
    """P32: also with three pairs or two in a prompt; shuffled pairs read some of them again."""
    read = {}
    for shuffled in (False, True):
        model, rows = a_model(), []
        model.register_forward_hook(lambda module, arguments, output, rows=rows: rows.append(len(output)))
        reward.train_reward(model, RANKINGS, RewardConfig(batch_prompts=4, shuffled_pairs=shuffled), progress=False)
        read[shuffled] = sum(rows)
    assert read == {False: 8 * 3, True: 8 * 2 * 2}


def test_reward_training_is_free_of_dropout():
    """P22: what the random numbers are does not matter."""
    histories = []
    for seed in (1, 2):
        model = models.scalar_from_policy(a_policy("gpt2").train(), 0)
        torch.manual_seed(seed)
        histories.append(reward.train_reward(model.train(), RANKINGS, RewardConfig(batch_prompts=4), progress=False))
    assert histories[0] == histories[1]


def test_calibration_leaves_out_bins_without_pairs():
    table = reward.calibration(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 2.0]]), bins=5)
    assert len(table) == 1 and table[0]["pairs"] == 1 and table[0]["observed"] == 1.0


def test_equal_responses_ranked_apart_are_refused():
    ranking = reward.RankedPrompt([models.BEGIN, 5], [[6, models.END], [6, models.END]], [1, 2])
    with pytest.raises(ValueError, match="Ranking 0 gives two identical responses different ranks"):
        reward.train_reward(models.scalar_from_policy(models.new_policy("tiny", 0), 0), [ranking],
                            reward.RewardConfig(), progress=False)


def test_tied_infinite_scores_leave_no_trace_in_the_gradient():
    """∞ − ∞ is not a number; a tie is no pair, so it must not reach the others' gradients."""
    scores = torch.tensor([float("inf"), float("inf"), 1.0], requires_grad=True)
    loss = reward.kwise_loss(scores, torch.tensor([1.0, 1.0, 2.0]))
    loss.backward()
    assert loss.item() == 0 and scores.grad.tolist() == [0, 0, 0]
