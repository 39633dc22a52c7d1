"""The slider for beta in the tea room: exact numbers, and nothing is computed while it moves."""

import pytest
import torch

pytest.importorskip("ipywidgets")
from rlhf_lite import tiny_world as tiny  # noqa: E402
from rlhf_lite.exercises.tea_room import open_tea_room, say  # noqa: E402
from rlhf_lite.widgets.best_policy import PRICES, BestPolicySlider  # noqa: E402


@pytest.fixture(scope="module")
def room():
    return open_tea_room()


def slider(room, texts=None):
    return BestPolicySlider(texts or [say(ids) for ids in room.world.responses], room.scores[0], room.log_ref[0])


def test_it_shows_the_exact_numbers_and_moves_without_solving_anything(room, monkeypatch):
    widget = slider(room)
    monkeypatch.setattr(tiny, "optimum", None)  # solved once, when it was made
    for price in (0.1, 2.0):
        before = widget.picture.value, widget.table.value
        widget.beta.value = PRICES.index(price)
        assert (widget.picture.value, widget.table.value) != before
        log_best = (room.log_ref + room.scores / price).log_softmax(dim=-1)
        assert f"mean score of {tiny.expected(log_best, room.scores).item():.2f}" in widget.picture.value
        assert f"at {tiny.kl(log_best, room.log_ref).item():.2f} nats" in widget.picture.value
        assert f"β = {price:g}" in widget.picture.value and not widget.status.value
        best = int(log_best[0].argmax())
        share = f"{100 * log_best[0, best].exp().item():.0f} %"
        assert say(room.world.responses[best]) in widget.table.value and share in widget.table.value


def test_the_listed_responses_and_the_others_add_up(room):
    widget = slider(room)
    listed = [sum(best[k] for k in widget.rows) for best in widget.best]
    assert all(0 < share <= 1.0001 for share in listed) and "the other 148" in widget.table.value
    assert torch.tensor(widget.best).sum(dim=1).allclose(torch.ones(len(PRICES)), atol=1e-4)


def test_what_a_model_says_is_only_shown(room):
    texts = ["<script>alert(1)</script>"] * len(room.world.responses)
    assert "<script>" not in slider(room, texts).table.value
