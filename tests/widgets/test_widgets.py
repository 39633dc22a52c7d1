"""The widgets without a browser and without a kernel: clicks, keys, errors, and nothing that grows."""

import asyncio
import re
import time

import numpy as np
import pytest

w = pytest.importorskip("ipywidgets")

from rlhf_lite.widgets import keys, labels  # noqa: E402
from rlhf_lite.widgets.compare import CompareWidget, Comparison  # noqa: E402
from rlhf_lite.widgets.demonstrations import DemonstrationWidget  # noqa: E402
from rlhf_lite.widgets.ranking import RankingWidget  # noqa: E402
from rlhf_lite.widgets.session import DemonstrationSession, RankingSession  # noqa: E402
from rlhf_lite.widgets.sliders import BETAS, CLIPS, BetaSlider, ClipSlider, tilt  # noqa: E402

pytestmark = pytest.mark.usefixtures("no_fsync")
SCRIPT = "<script>alert('x')</script><img src=x onerror=alert(1)>"
BANNED = ("Output", "Accordion", "Tab", "Stack", "TagsInput", "ColorsInput")


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):  # durability is for test_kill.py
    monkeypatch.setattr("os.fsync", lambda handle: None)


def items(n=3, k=4, text="answer {i}.{j}"):
    return [{"prompt_id": f"p{i}", "prompt": f"Question {i}?", "responses": [
        {"text": text.format(i=i, j=j), "source": f"model{j}"} for j in range(k)]} for i in range(n)]


def page(tmp_path, n=3, k=4, **options):
    return RankingWidget(RankingSession(items(n, k), "Ada", tmp_path / "a.jsonl", **options))


def everything(widget):
    """The widget and all inside it."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from everything(child)


def live():
    return len(w.widgets.widget._instances)


def rank(widget, ranks):
    for slot, value in zip(widget.slots, ranks, strict=True):
        slot.rank.value = value


# ---- ranking

def test_a_brief_page_has_ranks_and_nothing_else(tmp_path):
    widget = RankingWidget(RankingSession(items(), "Ada", tmp_path / "a.jsonl"), brief=True)
    slot = widget.slots[0]
    assert slot.rank in everything(widget)
    assert not {slot.score, slot.few, slot.rest} & set(everything(widget))
    assert widget.note.layout.display == widget.guidelines.layout.display == "none"
    widget.fold.click()
    assert widget.guidelines.layout.display is None
    widget.safe(widget.press)("f")
    assert "no flags on this page" in widget.status.value
    rank(widget, [2, 1, 1, 4])
    widget.save.click()
    assert sorted(widget.session.rankings()[0]["ranks"]) == [1, 1, 2, 4]


def test_click_through_with_a_tie(tmp_path):
    widget = page(tmp_path)
    assert "All done" not in widget.prompt.value and "Question 0?" in widget.prompt.value
    shown = widget.session.shown()
    rank(widget, [2, 1, 1, 4])
    assert "tie with C" in widget.slots[1].head.value
    for slot in widget.slots:
        slot.score.value = 5
    widget.slots[0].flags["hallucination"].value = True
    assert widget.slots[0].flags["hallucination"].description.startswith("☑")
    widget.note.value = "a note"
    widget.save.click()
    row = widget.session.rankings()[0]
    assert [row["ranks"][i] for i in row["shown_order"]] == [2, 1, 1, 4]
    assert [row["responses"][i]["text"] for i in row["shown_order"]] == shown
    assert row["scores"] == [5] * 4 and row["note"] == "a note" and sum(f["hallucination"] for f in row["flags"]) == 1
    assert "Question 1?" in widget.prompt.value and "1 of 3 done" in widget.status.value
    assert [slot.rank.value for slot in widget.slots] == [0] * 4 and widget.note.value == ""
    assert widget.slots[0].flags["hallucination"].description.startswith("☐")
    widget.undo.click()
    assert "Question 0?" in widget.prompt.value and [slot.rank.value for slot in widget.slots] == [2, 1, 1, 4]
    widget.save.click()
    assert widget.why.layout.display == "none"
    widget.skip.click()
    assert "p1" not in widget.session.records and widget.why.layout.display is None  # no reason is chosen in advance
    widget.reasons[2].click()
    assert widget.session.records["p1"]["reason"] == labels.REASONS[2] and widget.why.layout.display == "none"
    again = page(tmp_path)
    assert "item 3 of 3" in again.bar.value and again.progress.value == 2
    rank(again, [1, 2, 3, 4])
    again.save.click()
    assert "All done" in again.prompt.value and all(slot.layout.display == "none" for slot in again.slots)
    again.back.click()
    assert "Question 2?" in again.prompt.value and [slot.rank.value for slot in again.slots] == [1, 2, 3, 4]


def test_errors_are_shown_and_nothing_is_saved(tmp_path, monkeypatch):
    widget = page(tmp_path)
    widget.save.click()
    assert "not ranked yet: A, B, C, D" in widget.status.value and 'role="alert"' in widget.status.value
    widget.slots[0].rank.value = 1
    assert "alert" not in widget.status.value
    rank(widget, [1, 2, 3, 4])

    def broken(path, row):
        raise OSError(28, "<disk full>")
    monkeypatch.setattr("rlhf_lite.feedback.append_jsonl", broken)
    for control in (widget.save, widget.reasons[0]):
        control.click()
        assert "&lt;disk full&gt;" in widget.status.value
    assert widget.session.index == 0 and [slot.rank.value for slot in widget.slots] == [1, 2, 3, 4]
    monkeypatch.undo()
    widget.save.click()
    assert "Saved" in widget.status.value


def test_a_rank_that_is_refused_goes_back(tmp_path):
    """Items may differ in the number of answers; the buttons are always the same."""
    widget = RankingWidget(RankingSession(items(1, 3) + [{**items(2, 5)[1]}], "Ada", tmp_path / "a.jsonl"))
    assert [slot.layout.display for slot in widget.slots] == [None] * 3 + ["none"] * 2
    widget.slots[0].rank.value = 5
    assert "from 1 to 3" in widget.status.value and widget.slots[0].rank.value == 0


def test_model_text_is_only_text(tmp_path):
    texts = [SCRIPT, SCRIPT + "2"]
    item = {"prompt_id": SCRIPT, "prompt": SCRIPT, "responses": [{"text": t, "source": SCRIPT + t} for t in texts]}
    prompts = [{"prompt_id": "p", "prompt": SCRIPT, "attempt": SCRIPT}]
    ranking = RankingWidget(RankingSession([item], SCRIPT, tmp_path / "a.jsonl"))
    rank(ranking, [1, 2])
    ranking.save.click()
    ranking.names.click()
    comparison = CompareWidget(Comparison({SCRIPT: texts[0]}, {SCRIPT: texts[1]}, ("<script>", "<b>"), [SCRIPT], "Ada",
                                          tmp_path / "b.jsonl"))
    comparison.votes["A"].click()
    comparison.names.click()
    writing = DemonstrationWidget(DemonstrationSession(prompts, "Ada", tmp_path / "c.jsonl"))
    writing.area.value = SCRIPT
    beta = BetaSlider([(SCRIPT, texts, np.array([0.0, 1.0]))])
    for widget in (ranking, comparison, writing, beta):
        pages = [part.value for part in everything(widget) if isinstance(part, w.HTML)]
        assert any("&lt;script&gt;" in html for html in pages)
        assert not any(re.search(r"<script|<img", html) for html in pages)


def test_nothing_is_cut(tmp_path):
    long = "word " * 4000
    widget = RankingWidget(RankingSession(items(1, 2, long + "{i}{j}"), "Ada", tmp_path / "a.jsonl"))
    assert long.strip() in widget.slots[0].text.value and 'tabindex="0"' in widget.slots[0].text.value


def test_500_submits_make_no_new_widget(tmp_path):
    empty = live()
    widget = page(tmp_path, n=500)
    assert live() > empty  # the measure measures
    before, children = live(), [id(part) for part in everything(widget)]
    for number in range(500):
        rank(widget, [1, 2, 2, 4])
        widget.slots[number % 4].flags["opinion"].value = True
        widget.save.click()
        if number % 100 == 0:
            widget.undo.click()
            widget.save.click()
    assert live() == before and [id(part) for part in everything(widget)] == children
    assert widget.session.progress().ranked == 500


def test_ready_in_a_second_with_500_items(tmp_path):
    """500 items, 250 of them done, 9 answers each: the time of the processor, for a busy machine is not our matter."""
    from rlhf_lite.widgets.simulated import simulate
    session = RankingSession(items(500, 9), "Ada", tmp_path / "a.jsonl")
    simulate(session, lambda prompt, texts: range(1, 10), limit=250)
    start = time.process_time()
    widget = page(tmp_path, n=500, k=9)
    taken = time.process_time() - start
    print(f"ready in {taken:.2f} s, {len(list(everything(widget)))} widgets on the page")
    assert "item 251 of 500" in widget.bar.value and taken < 1
    start = time.process_time()
    for value in (1, 2, 3, 4, 5) * 4:
        widget.slots[0].rank.value = value
    print(f"redraw in {(time.process_time() - start) / 20 * 1000:.1f} ms")


def test_only_plain_controls_and_every_button_has_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "_capture_class", lambda: 1 / 0)
    comparison = CompareWidget(Comparison(str.upper, str.lower, annotator="Ada", path=tmp_path / "b.jsonl"))
    writing = DemonstrationWidget(DemonstrationSession([{"prompt_id": "p", "prompt": "?"}], "Ada", tmp_path / "c"))
    for widget in (page(tmp_path), comparison, writing):
        assert widget.hotkeys is None
        for part in everything(widget):
            assert type(part)._model_module.default_value == "@jupyter-widgets/controls"
            assert type(part)._model_name.default_value.removesuffix("Model") not in BANNED
            if isinstance(part, (w.Button, w.ToggleButton)):
                assert part.description.strip()
        assert 'aria-live="polite"' in widget.status.value


def test_guidelines_flags_and_help_fold(tmp_path):
    widget = page(tmp_path)
    for control, part, at_first in ((widget.fold, widget.guidelines, None), (widget.help, widget.help_text, "none"),
                                    (widget.judge, widget.slots[2].judged, "none"),
                                    (widget.slots[2].more, widget.slots[2].rest, "none")):
        assert part.layout.display == at_first
        control.click()
        assert part.layout.display != at_first
        control.click()
        assert part.layout.display == at_first
    shown = [name for name, flag in widget.slots[0].flags.items() if flag in widget.slots[0].few.children]
    assert tuple(shown) == labels.SHORT_FLAGS


def test_the_sources_are_hidden_until_asked_for(tmp_path):
    widget = page(tmp_path, n=2)
    rank(widget, [1, 2, 3, 4])
    widget.save.click()
    assert not any("model0" in part.value for part in everything(widget) if isinstance(part, w.HTML))
    widget.names.click()
    assert "still open" in widget.status.value and not widget.revealed.value
    widget.names.click()
    assert "model0" in widget.revealed.value


def test_pair_mode(tmp_path):
    widget = page(tmp_path, n=5, k=2, pairs=True)
    for verdict in ("A", "B", "tie", "both bad"):
        widget.verdict.value = verdict
        widget.save.click()
    assert [row["both_bad"] for row in widget.session.rankings()] == [False, False, False, True]
    widget.undo.click()
    assert widget.verdict.value == "both bad"
    assert all(slot.rank.layout.display == "none" for slot in widget.slots)


def test_repr_helps_where_widgets_do_not_show(tmp_path):
    assert "Rerun this cell" in repr(page(tmp_path)) and len(repr(page(tmp_path))) <= 110


# ---- keys

def press(widget, *names):
    for n, name in enumerate(names):
        widget.hotkeys._handle_custom_msg({"kind": "key", "key": name, "n": n}, [])


@pytest.fixture
def acks(monkeypatch):
    pytest.importorskip("anywidget")
    sent = []
    monkeypatch.setattr(keys._capture_class(), "send", lambda self, content, buffers=None: sent.append(content))
    return sent


def test_rank_by_keys(tmp_path, acks):
    widget = page(tmp_path)
    press(widget, "2", "1", "t", "4", "Enter")
    row = widget.session.rankings()[0]
    assert [row["ranks"][i] for i in row["shown_order"]] == [2, 1, 1, 4]
    press(widget, "ArrowDown", "ArrowDown", "3", "ArrowUp", "ArrowUp", "ArrowUp", "1")
    assert widget.session.draft.ranks == [1, 0, 3, 0]
    press(widget, "u", "u", "u")
    assert widget.session.index == 0 and widget.session.draft.ranks == [2, 1, 1, 4]
    press(widget, "Enter", "s", "1", "f", "?")
    assert widget.session.index == 2 and widget.slots[0].judged.layout.display is None
    assert len([a for a in acks if a["kind"] == "ack"]) == 5 + 7 + 3 + 5
    press(widget, "9")  # refused, but Python is there and says so
    assert "from 1 to 4" in widget.status.value and acks[-1] == {"kind": "ack", "n": 0}
    before = widget.session.draft.ranks
    press(widget, "d", "x", "")
    widget.hotkeys._handle_custom_msg({"kind": "ping", "n": 7}, [])
    widget.hotkeys._handle_custom_msg({}, [])
    assert widget.session.draft.ranks == before and {"kind": "ack", "n": 7} in acks


def test_keys_that_overtake_each_other_are_put_in_order(tmp_path, acks):
    """As JupyterLab sends them: over two threads, so "t" may arrive before the "1" that was pressed first."""
    widget = page(tmp_path)

    def arrive(*messages, view="a"):
        for n, key in messages:
            widget.hotkeys._handle_custom_msg({"kind": "key", "key": key, "n": n, "view": view}, [])

    arrive((1, "2"), (3, "t"))
    assert widget.session.draft.ranks == [2, 0, 0, 0] and [a["n"] for a in acks] == [1]  # "t" waits
    arrive((2, "1"), (4, "4"))
    assert widget.session.draft.ranks == [2, 1, 1, 4] and [a["n"] for a in acks] == [1, 2, 3, 4]
    arrive((1, "u"), view="b")  # a second picture of the widget counts from 1 again
    assert widget.session.draft.ranks == [2, 1, 1, 0]
    got = []
    arrived = keys.in_order(lambda content: got.append(content["n"]), patience=3)
    for n in (2, 5, 4, 3, 6, 1):  # 1 is given up when four wait for it, and is not lost when it comes after all
        arrived({"view": "c", "n": n})
    assert got == [2, 3, 4, 5, 6, 1]


def test_pairs_and_votes_by_keys(tmp_path, acks):
    widget = page(tmp_path, k=2, pairs=True)
    press(widget, "1", "2", "Enter", "t", "Enter", "b", "Enter", "u")
    assert widget.session.index == 2 and widget.session.draft.both_bad
    compare = CompareWidget(Comparison(str.upper, str.lower, prompts=["One", "Two"], annotator="Bo",
                                       path=tmp_path / "b.jsonl"))
    press(compare, "1", "b", "u", "t")
    assert compare.comparison.win_rate().n == 2


def test_no_hotkeys_on_colab_or_without_anywidget(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google.colab", object())
    assert page(tmp_path).hotkeys is None
    monkeypatch.delitem(__import__("sys").modules, "google.colab")
    monkeypatch.setitem(__import__("sys").modules, "anywidget", None)  # importing it fails
    keys._capture_class.cache_clear()
    widget = page(tmp_path)
    assert widget.hotkeys is None and widget.help.layout.display == "none"
    rank(widget, [1, 2, 3, 4])
    widget.save.click()
    assert widget.session.progress().ranked == 1
    keys._capture_class.cache_clear()


def test_the_script_keeps_the_measured_rules():
    script = keys.SCRIPT.read_text(encoding="utf-8")
    for needed in ("data-lm-suppress-shortcuts", "MutationObserver", "stopPropagation", '"INPUT", "TEXTAREA", "SELECT"',
                   "PATIENCE = 2500", "try {", "export default"):
        assert needed in script


# ---- demonstrations, comparison, sliders

def test_demonstrations_save_at_a_pause(tmp_path):
    path = tmp_path / "a.jsonl"
    prompts = [{"prompt_id": f"p{i}", "prompt": f"Say something {i}.", "attempt": "blah"} for i in range(2)]
    widget = DemonstrationWidget(DemonstrationSession(prompts, "Ada", path, max_tokens=6), pause=0.05)

    async def type_and_wait():
        for text in ("H", "He", "Hel", "Hello there."):
            widget.area.value = text
            await asyncio.sleep(0)
        assert not path.exists()
        assert "2 of at most 6 tokens" in widget.count.value
        for _ in range(200):
            await asyncio.sleep(0.02)
            if path.exists():
                break
    asyncio.run(type_and_wait())
    assert [row["draft"] for row in labels.read_labels(path)[0]] == ["Hello there."]
    assert "Draft saved" in widget.status.value
    widget.area.value = "one two three four five six seven"
    assert "1 too many" in widget.count.value
    widget.save.click()
    assert "too many" in widget.status.value and "role=\"alert\"" in widget.status.value
    widget.area.value = "Hello."
    widget.save.click()
    assert "prompt 2 of 2" in widget.bar.value and widget.area.value == ""
    widget.back.click()
    assert widget.area.value == "Hello."
    widget.area.value = "Hello!"
    widget.draw()
    assert "edited" in widget.bar.value
    before = live()
    for i in range(50):
        widget.area.value = f"Hello {i}."
        widget.save.click()
        widget.back.click()
    assert live() == before


def test_comparison_counts_blindly_and_resumes(tmp_path):
    path = tmp_path / "a.jsonl"
    prompts = [f"Prompt {i}" for i in range(12)]

    def make():
        return Comparison({p: p + " good" for p in prompts}, lambda p: p + " bad", ("good", "bad"), prompts, "Ada",
                          path)
    widget = CompareWidget(make())
    sides = []
    for _ in range(10):
        shown = widget.comparison.session.shown()
        sides.append(shown[0].endswith("good"))
        widget.votes["A" if sides[-1] else "B"].click()
    widget.votes["tie"].click()
    assert 0 < sum(sides) < 10  # both stood on the left
    rate = widget.comparison.win_rate()
    assert rate.n == 11 and rate.value == 10.5 / 11
    assert "good" not in widget.rate.value and "95 %" in widget.rate.value
    widget.names.click()
    assert "<b>good</b> is preferred to <b>bad</b>" in widget.rate.value
    widget.undo.click()
    assert widget.comparison.win_rate().n == 10
    widget = CompareWidget(make())
    assert widget.comparison.win_rate() == (1.0, *widget.comparison.win_rate()[1:3], 10)
    for verdict in ("tie", "both bad"):
        widget.votes[verdict].click()
    assert widget.comparison.win_rate().n == 12 and widget.votes["A"].disabled
    widget.prompt.value = "My own"
    widget.ask.click()
    assert "no recorded answer from good" in widget.status.value
    widget.prompt.value = " "
    widget.ask.click()
    assert "empty" in widget.status.value


def test_sliders_are_right_and_fast():
    rng = np.random.default_rng(0)
    groups = [(f"Prompt {i}", [f"answer {j}" for j in range(6)], rng.normal(size=6)) for i in range(200)]
    widget = BetaSlider(groups, [{"kl_coef": 0.1, "kl": 3.0, "proxy": 1.0}, {"kl_coef": 0.0, "kl": 9.0, "proxy": 1.5}])
    assert np.allclose(tilt([0, np.log(3)], 1.0), [0.25, 0.75])
    assert all(np.diff(widget.kls) <= 1e-12) and all(np.diff(widget.scores) <= 1e-12)  # dearer: nearer and lower
    assert max(widget.kls) <= np.log(6) + 1e-9
    log_ratios, advantages = rng.normal(0, 0.2, 5000), rng.normal(size=5000)
    clip = ClipSlider(log_ratios, advantages)
    import torch

    from rlhf_lite.ppo_math import policy_loss
    new = torch.tensor(log_ratios, requires_grad=True)
    loss, found = policy_loss(new[None], torch.zeros(1, 5000), torch.tensor(advantages)[None],
                              torch.ones(1, 5000, dtype=torch.bool), clip_range=0.2)
    loss.backward()
    assert CLIPS[19] == 0.2 and clip.outside[19] == pytest.approx(found["clipfrac"])
    assert clip.objective[19] == pytest.approx(-loss.item()) and clip.silent[19] == (new.grad == 0).double().mean()
    for panel, slider, count in ((widget, widget.beta, len(BETAS)), (clip, clip.clip, len(CLIPS))):
        before, start, seen = live(), time.process_time(), set()
        for i in range(count):
            slider.value = i
            seen.add(panel.picture.value)
        assert len(seen) == count
        taken = (time.process_time() - start) / count
        print(f"{type(panel).__name__}: {1000 * taken:.1f} ms a redraw")
        assert taken < 0.2 and live() == before and "alert" not in panel.status.value
    with pytest.raises(ValueError, match="one of each"):
        ClipSlider([0.0], [])


def test_inside_one_answer():
    import torch

    from rlhf_lite import models
    from rlhf_lite.widgets import inspect_tokens, measure
    tokenizer = models.train_tokenizer(["hello <b>world</b>, hello!"] * 3, vocab_size=300)
    policy, reference = (models.new_policy("tiny", seed, 300) for seed in (0, 1))
    reward_model = models.scalar_from_policy(reference, 2)
    trace = measure.trace(policy, reference, reward_model, tokenizer, "hello <b>", kl_coef=0.5, max_new_tokens=12)
    n = trace.numbers
    assert all(len(column) == len(trace.tokens) == len(trace.top) for column in n.values())
    assert sum(n["reward"]) == pytest.approx(trace.score - 0.5 * sum(n["log-ratio"]), abs=1e-4)
    assert min(n["KL"]) >= 0 and all(0 < p < 1 for p in n["probability"])
    # The last advantage is the last reward minus the critic's forecast of it.
    assert n["advantage"][-1] == pytest.approx(n["reward"][-1] - n["value"][-1], abs=1e-5)
    assert all(row[0][1] == max(p for _, p, _ in row) for row in trace.top)
    trace.tokens[0] = "<script>"
    widget = inspect_tokens.TokenInspector(trace)
    before, start = live(), time.process_time()
    for name in inspect_tokens.MEASURES:
        widget.measure.value = name
        for place in range(1, len(trace.tokens) + 1):
            widget.place.value = place
            assert f"Token {place} of" in widget.detail.value and "<script>" not in widget.map.value
            assert widget.map.value.count("&#9650;") == 1  # the chosen token is marked by a sign
            assert inspect_tokens.signed(n[name][place - 1]) in widget.map.value
    assert (time.process_time() - start) / 72 < 0.2 and live() == before
    new = models.copy_model(policy)
    with torch.no_grad():
        for weight in new.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    log_ratios, advantages = measure.ratios(policy, new, reference, reward_model, tokenizer, ["hello", "world"] * 4,
                                            max_new_tokens=6)
    assert log_ratios.shape == advantages.shape and abs(advantages.mean()) < 1e-4 and abs(log_ratios).max() > 0
    rows = [{"prompt": "hello", "K": 2, "responses": [{"text": "world"}, {"text": "b", "token_ids": [7, 2]}]}] * 3
    groups = measure.scored_groups(reward_model, tokenizer, rows)
    assert [len(scores) for _, _, scores in groups] == [2, 2, 2] and groups[0][1] == ["world", "b"]


# ---- pages that are replaced, and errors that would be hidden

def test_running_the_ranking_cell_again_and_again_keeps_one_page(tmp_path):
    widget, before = None, live()
    for _ in range(5):
        widget = page(tmp_path)
        rank(widget, [1, 2, 3, 4])
    one = live() - before
    for _ in range(15):
        widget = page(tmp_path)
    assert live() - before == one
    rank(widget, [1, 2, 3, 4])
    widget.save.click()
    assert len(widget.session.rankings()) == 1


def test_pages_of_other_people_files_and_kinds_stay_open(tmp_path):
    pages = [RankingWidget(RankingSession(items(), name, tmp_path / f"{name}.jsonl")) for name in ("Ada", "Bob")]
    pages.append(DemonstrationWidget(DemonstrationSession([{"prompt_id": "p", "prompt": "Q?"}], "Ada",
                                                          tmp_path / "Ada.jsonl")))
    assert all(one.children for one in pages)


def test_a_page_without_a_file_is_closed_when_its_cell_runs_again(tmp_path, monkeypatch):
    def inspector(cell, run):
        monkeypatch.setattr("rlhf_lite.widgets.parts.running_cell", lambda: (cell, run))
        return BetaSlider([("Q?", ["a", "b"], np.array([0.0, 1.0]))])
    first, beside, other = inspector("cell", 1), inspector("cell", 1), inspector("another cell", 2)
    assert first.children and beside.children
    again = inspector("cell", 3)
    assert not first.children and not beside.children and other.children and again.children


def test_a_page_that_is_replaced_keeps_what_was_typed(tmp_path):
    def writing():
        return DemonstrationWidget(DemonstrationSession([{"prompt_id": "p", "prompt": "Q?"}], "Ada",
                                                        tmp_path / "a.jsonl"), pause=60)
    first = writing()
    first.session.write("half a sen")
    writing()
    assert DemonstrationSession([{"prompt_id": "p", "prompt": "Q?"}], "Ada", tmp_path / "a.jsonl").text == "half a sen"


def no_policy(error):
    def policy(prompt):
        raise error
    return policy


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(("error", "words"), [(RuntimeError("<no GPU>"), "&lt;no GPU&gt;"), (SystemExit(1), "1"),
                                              (Unspeakable(), "Unspeakable"), (ValueError("x" * 10**6), "characters"),
                                              (KeyboardInterrupt(), "KeyboardInterrupt")])
def test_a_policy_that_raises_is_seen_at_once(tmp_path, error, words):
    widget = CompareWidget(Comparison(no_policy(error), str, prompts=["Q?"], path=tmp_path / "a.jsonl"))
    assert "Ready" not in widget.status.value and "Not done" in widget.status.value and words in widget.status.value
    assert len(widget.status.value) < 1000


def test_a_vote_before_an_error_counts_and_the_page_says_both(tmp_path):
    answers = iter(["one", "two"])
    widget = CompareWidget(Comparison(lambda prompt: next(answers), lambda prompt: "b", prompts=["Q?", "R?", "S?"],
                                      path=tmp_path / "a.jsonl"))
    widget.votes["A"].click()
    widget.votes["B"].click()
    assert len(widget.comparison.session.rankings()) == 2
    assert "the vote was saved, but the next prompt got no answers: StopIteration" in widget.status.value
    assert "2 votes" in widget.rate.value and widget.votes["A"].disabled


def test_a_policy_without_a_return_is_an_error(tmp_path):
    comparison = Comparison(lambda prompt: None, str, path=tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="first returned NoneType instead of a text"):
        comparison.ask("Q?")


def test_pages_on_one_file_in_one_cell_or_in_two_all_stay(tmp_path, monkeypatch):
    def ranking(cell, run):
        monkeypatch.setattr("rlhf_lite.widgets.parts.running_cell", lambda: (cell, run))
        return page(tmp_path)
    first, beside, other = ranking("cell", 1), ranking("cell", 1), ranking("another cell", 2)
    assert first.children and beside.children and other.children
    again = ranking("cell", 3)
    assert not first.children and not beside.children and other.children and again.children
