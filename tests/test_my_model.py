"""One person's rankings move a model towards that person's taste, and the page says how far, with nothing unescaped."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rlhf_lite import checkpoints, models, reward, sft, stats
from rlhf_lite.exercises import my_model, my_model_page
from rlhf_lite.experiment import data
from rlhf_lite.experiment.recipe import TEMPERATURE
from rlhf_lite.ppo import PPOConfig
from rlhf_lite.real import human_data
from rlhf_lite.reward import RankedPrompt, RewardConfig
from rlhf_lite.stats import Agreement
from rlhf_lite.widgets.session import RankingSession
from rlhf_lite.widgets.simulated import simulate

ANSWERS = ["Yes.", "No.", "Yes, of course it is.", "Thank you, dear friend, yes.",
           "No, and I am sorry to say so, my kind friend.", "It is red and blue and green and also white today."]
HOT = (1.0, 1.0, 1.0, 1.3)  # the tiny policy has only six answers
QUICK = my_model.OwnConfig(
    alone=RewardConfig(epochs=7, batch_prompts=4, lr=3e-3), on_top=RewardConfig(epochs=7, batch_prompts=4, lr=3e-3),
    folds=2, looks=40,
    ppo=PPOConfig(iterations=14, batch_size=32, minibatch=16, max_new_tokens=24, temperature=TEMPERATURE, kl_coef=0.02,
                  lr=4e-3, critic_lr=4e-3, warmup_iterations=2))


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture(scope="module")
def world():
    """A tiny policy that gives one of six answers, whatever it is asked, and a reward model that knows nothing."""
    prompts = [p for p in data.prompts_of("train") if len(p.text) < 45][:60]
    tokenizer = models.train_tokenizer([p.text for p in prompts] + ANSWERS * 3, vocab_size=500)
    policy = models.new_policy("tiny", 0, len(tokenizer))
    examples = [sft.build_example(models.encode_prompt(tokenizer, p.text), models.encode_response(tokenizer, a))
                for p in prompts[:24] for a in ANSWERS]
    sft.train_sft(policy, examples, sft.SFTConfig(epochs=6, batch_size=16, lr=1e-2), progress=False)
    return SimpleNamespace(prompts=prompts, tokenizer=tokenizer, sft=policy,
                           shipped=models.scalar_from_policy(policy, 1))


@pytest.fixture(scope="module")
def items(world):
    return my_model.to_rank(world.sft, world.tokenizer, 16, temperatures=HOT, prompts=world.prompts, progress=False)


def ranked_by(items, judge, path, name="Ada", repeats=3):
    session = RankingSession(items, name, path, repeats=repeats)
    simulate(session, judge)
    return my_model.rankings(path)


def driven(world, items, tmp_path, liking, **changes):
    rows = ranked_by(items, my_model.taste(liking), tmp_path / "a.jsonl")
    return my_model.drive(rows, world.sft, world.shipped, world.tokenizer, replace(QUICK, **changes),
                          prompts=world.prompts, look_at=world.prompts[:40], progress=False)


# ---------------------------------------------------------------- the whole way

@pytest.mark.parametrize("liking, driver", [("short", "alone"), ("polite", "on top")])
def test_the_model_moves_towards_the_taste_of_whoever_ranked(world, items, tmp_path, liking, driver):
    frozen = [checkpoints.fingerprint(model) for model in (world.sft, world.shipped)]
    found = driven(world, items, tmp_path, liking, driver=driver)
    taste = my_model.TASTES[liking]
    before, after, change = my_model.changes(found, {"taste": lambda row: taste(row["response"])})["taste"]
    print(liking, before, after, change, found.accuracy)
    assert change.low > 0 and after > before  # the whole interval
    assert my_model.changes(found)["your reward model's score"][2].low > 0
    assert found.accuracy[driver].value > 0.75 and 8 <= found.accuracy[driver].n <= found.rankings == 16
    assert found.driver == driver
    assert found.agreements["yourself"].percent == 100 and found.learner == "Ada"
    assert [checkpoints.fingerprint(model) for model in (world.sft, world.shipped)] == frozen
    assert set(found.accuracy) == {"shipped", "alone", "on top"} and len(found.history) == 14
    once = my_model.first_time(my_model.rankings(tmp_path / "a.jsonl"))
    assert found.pairs == sum(a < b for row in once for a in row["ranks"] for b in row["ranks"])
    # Zero and unit of the reward model are set where PPO starts.
    scores = [row["own_score"] for row in found.before]
    mean = sum(scores) / len(scores)
    assert math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores)) == pytest.approx(1, abs=1e-3)
    demonstrations = data.demonstration_rows(world.tokenizer, data.demonstrations(split="train")[:200])
    assert reward.score(found.reward_model, demonstrations).mean().item() == pytest.approx(0, abs=1e-4)
    assert [r["prompt_id"] for r in found.before] == [r["prompt_id"] for r in found.after]
    page = my_model_page.save(found, tmp_path / "deep" / "page.html").read_text("utf-8")
    assert "data:image/png;base64," in page and "16 rankings" in page and "Tess (simulated)" in page
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["page.html"]


def test_ppo_follows_the_reward_model_that_predicts_better(world, items, tmp_path, monkeypatch):
    said = {"alone": stats.Interval(0.6, 0.5, 0.7, 9), "on top": stats.Interval(0.7, 0.6, 0.8, 9)}
    trained = {name: models.scalar_from_policy(world.sft, seed) for seed, name in enumerate(said)}
    monkeypatch.setattr(my_model, "reward_models", lambda *arguments: (trained, said, 9))
    found = driven(world, items, tmp_path, "short", looks=4, ppo=replace(QUICK.ppo, iterations=1))
    assert found.driver == "on top" and found.reward_model is trained["on top"]


# ---------------------------------------------------------------- what to rank, and who ranks

def test_items_are_mixed_different_and_ready_for_the_session(world, items, tmp_path):
    assert len(items) == 16 == len({item["prompt_id"] for item in items})
    assert len({item["use_case"] for item in items[:4]}) == min(4, len({p.use_case for p in world.prompts}))
    for item in items:
        texts = [r["text"] for r in item["responses"]]
        assert len(set(texts)) == 4 and item["split"] == "train"
        assert [models.decode_response(world.tokenizer, r["token_ids"]) for r in item["responses"]] == texts
    again = my_model.to_rank(world.sft, world.tokenizer, 16, temperatures=HOT, prompts=world.prompts, progress=False)
    assert again == items
    session = RankingSession(items, "Ada", tmp_path / "a.jsonl", repeats=3)
    assert session.progress().total == 19 and simulate(session, my_model.taste("short")) == 19
    assert all("token_ids" in r for row in session.rankings() for r in row["responses"])
    with pytest.raises(ValueError, match="only .* of 2 prompts got 4 different answers; ask for fewer"):
        my_model.to_rank(world.sft, world.tokenizer, 3, prompts=world.prompts[:2], progress=False)


def test_tastes_rank_tie_and_have_moods():
    texts = ["Thank you, dear Ann, please come.", "No!", "Go away", "Never at all."]
    assert my_model.taste("polite")("", texts) == [1, 2, 2, 2]
    assert my_model.taste("short")("", texts) == [4, 1, 2, 3]
    assert my_model.taste(lambda text: text.count("e"))("", texts) == [1, 3, 3, 2]
    moody = [my_model.taste("short", mood=5, seed=s)("", texts) for s in (0, 0, 1, 2, 3)]
    assert moody[0] == moody[1] and len(set(map(tuple, moody))) > 1


def test_files_that_cannot_be_used_are_one_sentence(items, tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(ValueError, match="rankings by 0 people .nobody.; give the file of one"):
        my_model.rankings(path)
    good = ranked_by(items, my_model.taste("short"), path, repeats=0)
    path.write_text("{broken\n" + path.read_text("utf-8"), encoding="utf-8")
    with pytest.warns(UserWarning, match="a.jsonl:1: this is not a complete JSON row"):
        assert my_model.rankings(path) == good  # the good ones are kept
    with pytest.raises(ValueError, match="rankings by 2 people .Ada, Bo."), pytest.warns(UserWarning):
        ranked_by(items, my_model.taste("short"), path, name="Bo")


def test_recorded_answers_are_refused_and_repeats_left_out(items, tmp_path, world):
    rows = ranked_by(items, my_model.taste("short"), tmp_path / "a.jsonl")
    assert len(rows) == 19 and len(my_model.first_time(rows)) == 16
    rows[2] = {**rows[2], "prompt_id": human_data.READING_ONLY + "007"}
    with pytest.raises(ValueError, match="for reading and ranking only"):
        my_model.drive(rows, world.sft, world.shipped, world.tokenizer, QUICK, progress=False)


def test_too_few_rankings_say_so(world, items):
    rows = [{**item, "ranks": [1, 2, 3, 4], "labeler": "Ada", "K": 4} for item in items[:3]]
    with pytest.raises(ValueError, match="3 rankings prefer one answer to another; rank at least 4"):
        my_model.reward_models(rows, world.sft, world.shipped, world.tokenizer, QUICK)


# ---------------------------------------------------------------- measures

def test_no_prompt_is_judged_by_a_model_that_was_trained_on_it(world):
    ranked = [RankedPrompt([1, 5 + i], [[7, 2], [8, 2], [9, 2]], [1, 2, 2]) for i in range(7)]
    seen = []

    def make(part):
        seen.append(part)
        return SimpleNamespace(trained_on=part)

    def evaluate(model, judged):
        assert not [r for r in judged if r in model.trained_on]
        right = judged[0].prompt_ids[1] % 2
        return {"accuracy": float(right), "pairs": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reward, "evaluate_reward", evaluate)
        accuracy, pairs = my_model.held_out_accuracy(make, ranked, 3)
    assert pairs == 14 and accuracy.n == 7 and accuracy.value == pytest.approx(4 / 7)
    assert sorted(len(part) for part in seen) == [4, 5, 5]


def test_agreement_with_oneself_a_neighbour_and_the_simulated_team(items, tmp_path):
    rows = ranked_by(items, my_model.taste("short"), tmp_path / "a.jsonl")
    same = ranked_by(items, my_model.taste("short"), tmp_path / "b.jsonl", "Bo")
    found = my_model.agreements(rows, same)
    assert list(found)[:2] == ["yourself", "Bo"] and len(found) == 7
    assert found["yourself"].percent == 100 and found["yourself"].prompts == 3
    assert found["Bo"].percent == 100 and found["Bo"].tau == pytest.approx(1) and found["Bo"].prompts == 16
    opposite = ranked_by(items, my_model.taste(lambda text: len(text.split())), tmp_path / "c.jsonl", "Cy")
    assert my_model.agreements(rows, opposite)["Cy"].percent == 0
    typed = [{**row, "responses": [{"text": r["text"]} for r in row["responses"]]} for row in rows[:2]]
    elsewhere = [{**rows[2], "prompt_id": "not of the town"}]
    team = [my_model.labelers.training_team()[0]]
    assert my_model.agreements(typed + elsewhere, team=team)["Tess (simulated)"].prompts == 2
    assert my_model.percent(found["Bo"]).endswith("tau-b 1.00, 16 prompts")
    assert my_model.percent(Agreement(math.nan, 0, math.nan, 0)) == "no pair without ties that both ranked"


def test_the_page_shows_markup_and_does_nothing_with_it():
    evil = "<script>alert('x')</script><img src=x onerror=alert(1)>"
    row = {"prompt": evil, "response": evil, "own_score": 0.5, "grade": SimpleNamespace(score=0.25)}
    found = my_model.Own(evil, 2, {"shipped": stats.Interval(0.5, 0.4, 0.6, 3)}, 6, "alone",
                         {"yourself": Agreement(math.nan, 0, math.nan, 0), evil: Agreement(75.0, 8, 0.5, 2)},
                         [row, row], [row, {**row, "response": "Fine.", "own_score": 1.5}], None, None,
                         [{"iteration": 1, "score": 0.1, "kl": 0.0}], {"PPO": 1.0})
    page = my_model_page.html(found, measures={evil: lambda row: 1.0})
    assert "<script" not in page and "onerror=alert(1)>" not in page and "&lt;script&gt;" in page
    assert "+0.50 (" in page and "75 % of 8 pairs, Kendall tau-b 0.50, 2 prompts" in page
    assert "50 % (40 to 60), 3 prompts" in page
    axes = my_model_page.figure(found).axes
    assert len(axes) == 4 and all(axis.get_title(loc="left") and axis.get_xlabel() for axis in axes)
