"""Simulated labelers rank sensibly, and teams agree as often as they are calibrated to."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_lite.town import labelers
from rlhf_lite.town.labelers import Labeler


def grade(helpful=1.0, truthful=1.0, harmless=1.0):
    return SimpleNamespace(helpful=helpful, truthful=truthful, harmless=harmless)


def some_grades(prompts=150, K=5, seed=1):
    rng = np.random.default_rng(seed)
    return [[grade(*rng.choice([0.0, 0.5, 1.0], 3)) for _ in range(K)] for _ in range(prompts)]


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=9), st.floats(0, 0.5))
def test_ranks_follow_utilities(utilities, tie_width):
    ranks = labelers.ranks_from_utilities(utilities, tie_width)
    assert sorted(set(ranks)) == list(range(1, max(ranks) + 1))          # 1, 2, ... without gaps
    for u, r in zip(utilities, ranks, strict=True):
        for v, s in zip(utilities, ranks, strict=True):
            if r == s:
                assert abs(u - v) <= tie_width                           # who ties is really close
            elif r < s:
                assert u > v


def test_ties_do_not_chain():
    assert labelers.ranks_from_utilities([0.0, 0.9, 1.8, 2.7], tie_width=1.0) == [2, 2, 1, 1]
    assert labelers.ranks_from_utilities([0.5, 0.5], tie_width=0.0) == [1, 1]


def test_noiseless_labeler_by_hand():
    ada = Labeler("Ada", (0.5, 0.3, 0.2), brevity=0.1, noise=0.0, tie_width=0.0)
    grades = [grade(0, 1, 1), grade(1, 0, 0), grade(1, 1, 0)]
    assert ada.mean_utilities(grades) == pytest.approx([0.5, 0.5, 0.8])
    assert ada.mean_utilities(grades, [48, 24, 0]) == pytest.approx([0.5, 0.55, 0.9])
    assert ada.mean_utilities(grades, [96, 24, 0])[0] == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    assert ada.judge(grades, [48, 24, 0], rng) == ([3, 2, 1], [4, 4, 6])
    assert ada.likert(grade(), rng) == 7 and ada.likert(grade(0, 0, 0), rng) == 1
    with pytest.raises(ValueError, match="one length per answer"):
        ada.rank(grades, [1, 2], rng)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.4])
def test_preference_is_the_share_of_endless_rankings(noise, rng):
    ada = Labeler("Ada", (0.5, 0.3, 0.2), brevity=0.1, noise=noise, tie_width=0.05)
    for pair in ([grade(), grade(0.5)], [grade(), grade(harmless=0.8)], [grade(0.0), grade(truthful=0.0)]):
        ranks = np.array([ada.rank(pair, [10, 20], rng) for _ in range(4000)])
        votes = (1 - np.sign(ranks[:, 0] - ranks[:, 1])) / 2
        assert ada.preference(pair, [10, 20]) == pytest.approx(votes.mean(), abs=0.02)
        assert ada.preference(pair[::-1], [20, 10]) == pytest.approx(1 - ada.preference(pair, [10, 20]))


def test_likert_stays_on_the_scale(rng):
    loud = Labeler("Loud", (1, 0, 0), noise=5.0)
    assert {loud.likert(grade(), rng) for _ in range(200)} >= {1, 7}
    assert all(1 <= loud.likert(grade(0.5), rng) <= 7 for _ in range(200))


def test_teams_weigh_as_the_paper_says():
    teams = [team(None) for team in (labelers.training_team, labelers.heldout_team, labelers.evaluation_team)]
    for team in teams:
        assert len(team) == 5 and all(sum(one.weights) == pytest.approx(1) for one in team)
    training, heldout, evaluation = teams
    assert all(max(one.weights) == one.weights[0] for one in training)                # helpfulness first
    assert [one.noise for one in heldout] == [one.noise for one in training]
    assert all(max(one.weights) == one.weights[1] for one in evaluation)              # truthfulness first
    assert all(one.weights[2] >= one.weights[0] for one in evaluation)                # harmlessness before help
    assert [one.name for one in training] == [one.name for one in evaluation]
    assert not {one.name for one in training} & {one.name for one in heldout}


def test_the_held_out_team_has_tastes_of_its_own(rng):
    """Without noise, the two teams order answers differently: more often than the training team among themselves."""
    def means(team):
        return np.array([[one.mean_utilities(grades, [8, 16, 24, 32, 40]) for grades in prompts] for one in team])

    def disagreement(a, b):
        first, second = np.triu_indices(5, 1)
        a, b = (np.sign(u[..., first] - u[..., second]) for u in (a, b))
        return np.mean(a * b < 0)
    prompts = some_grades(200)
    training, heldout = means(labelers.training_team(None)), means(labelers.heldout_team(None))
    assert disagreement(training.mean(0), heldout.mean(0)) < 0.15  # not another species
    assert min(disagreement(one, training.mean(0)) for one in heldout) > 0.02
    assert np.mean([disagreement(one, training.mean(0)) for one in heldout]) > 0.08


def test_agreement_limits(rng):
    same = [Labeler(name, (1.0, 0.0, 0.0), noise=0.0, tie_width=0.0) for name in "ab"]
    assert labelers.measure_agreement(same, some_grades(), rng).percent == 100
    lost = [Labeler(name, (1.0, 0.0, 0.0), noise=1e6, tie_width=0.0) for name in "ab"]
    found = labelers.measure_agreement(lost, some_grades(400), rng)
    assert found.n == 400 * 10 and abs(found.percent - 50) < 2 * found.plus_minus
    tied = [Labeler(name, (1.0, 0.0, 0.0), noise=0.0, tie_width=9.0) for name in "ab"]
    assert labelers.measure_agreement(tied, some_grades(5), rng).n == 0


def test_agreement_matches_records(rng):
    """The fast count here and the one on ranking records are the same number."""
    from rlhf_lite import feedback, stats
    team, prompts = labelers.training_team(None)[:2], some_grades(40)
    found = labelers.measure_agreement(team, prompts, np.random.default_rng(3))
    again, rows = np.random.default_rng(3), ([], [])
    for index, grades in enumerate(prompts):
        for one, kept in zip(team, rows, strict=True):
            kept.append(feedback.new_ranking(str(index), "p", list("abcde"), one.rank(grades, None, again), one.name))
    assert stats.agreement(*rows) == (pytest.approx(found.percent), found.n)


@pytest.mark.parametrize("team, target", [(labelers.training_team, labelers.TRAINING_AGREEMENT),
                                          (labelers.evaluation_team, labelers.TRAINING_AGREEMENT)])
def test_calibration_reaches_the_paper(team, target, rng):
    calibrated = labelers.calibrate(team(None), some_grades(100, K=4), target, rng, steps=12)
    fresh = labelers.measure_agreement(calibrated, some_grades(250, K=4, seed=2), np.random.default_rng(9))
    assert abs(fresh.percent - target) < 2.5
    assert [one.weights for one in calibrated] == [one.weights for one in team(None)]


def test_impossible_target_is_refused(rng):
    with pytest.raises(ValueError, match="agreement can be set from"):
        labelers.calibrate(labelers.training_team(None), some_grades(20), 99.9, rng, steps=3)


def test_stored_noise_is_read_back(tmp_path):
    path = tmp_path / "data" / "labelers.json"
    quiet = [Labeler(one.name, one.weights, one.brevity, 0.01) for one in labelers.training_team(None)]
    labelers.store_noise("training", quiet, labelers.Agreement(72.6, 1.0, 100), path)
    assert all(one.noise == 0.01 for one in labelers.training_team(path))
    with pytest.raises(ValueError, match="noise of the evaluation team"):  # other judges would be other results
        labelers.evaluation_team(path)
    assert all(one.noise == 0.01 for one in labelers.heldout_team(path))
    labelers.store_noise("evaluation", [Labeler(one.name, one.weights, one.brevity, 0.02) for one in quiet],
                         noise_file=path)
    assert [(one.noise, one.weights) for one in labelers.evaluation_team(path)] == [
        (0.02, one.weights) for one in labelers.evaluation_team(None)]
    path.write_text("{oops")
    sentence = "labelers.json does not hold the noise of the training team.*git checkout"
    for damage in (lambda: None, lambda: path.write_text("{}"), path.unlink):
        damage()
        with pytest.raises(ValueError, match=sentence):
            labelers.training_team(path)


def test_ceiling_by_hand(rng):
    """One labeler, one pair: the ceiling is P(noise does not flip the pair) = Phi(gap / (sqrt 2 noise))."""
    ada = Labeler("Ada", (1.0, 0.0, 0.0), noise=0.5, tie_width=0.0)
    found = labelers.bayes_ceiling([ada], [[grade(1.0), grade(0.5)]] * 100, rng, draws=40)
    assert found == pytest.approx(0.7602, abs=0.02)
    assert labelers.bayes_ceiling([ada], [[grade(), grade()]] * 5, rng) == pytest.approx(0.5)   # a coin toss
    sure = Labeler("Sure", (1.0, 0.0, 0.0), noise=0.0)
    assert labelers.bayes_ceiling([sure], [[grade(1.0), grade(0.0)]], rng) == 1.0


def test_same_seed_same_rankings():
    team, grades = labelers.training_team(None), some_grades(1)[0]
    runs = [[one.judge(grades, [3] * 5, np.random.default_rng(5)) for one in team] for _ in range(2)]
    assert runs[0] == runs[1]
