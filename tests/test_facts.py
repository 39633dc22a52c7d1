"""The town is the same for a seed, complete, and free of contradictions."""

from collections import Counter

from rlhf_lite.town import facts
from rlhf_lite.town.facts import ATTRIBUTES, build_town

TOWN = build_town()


def test_same_seed_same_town():
    assert build_town(0) == TOWN != build_town(1)


def test_residents():
    assert len(TOWN.residents) == len({r.name for r in TOWN.residents}) == 64
    assert Counter(r.fame for r in TOWN.residents) == {"well known": 36, "obscure": 16, "newcomer": 12}
    for r in TOWN.residents:
        assert all(getattr(r, attribute) in values for attribute, values in ATTRIBUTES.items())
        assert TOWN.resident(r.name) is r
    assert TOWN.resident("Nobody") is None


def test_shops_have_owners_of_the_right_trade_who_are_known():
    for place in TOWN.places:
        owner = TOWN.resident(place.owner)
        assert owner.job == facts.SHOPS[place.name][0] and owner.fame == "well known"
        assert len({price for _, price in place.goods}) == 3 and 7 <= place.opens <= 10 and 4 <= place.closes <= 8
        for item, price in place.goods:
            assert TOWN.seller(item) is place and place.price(item) == price and 2 <= price <= 19


def test_beliefs_keep_truth_and_myth_apart():
    assert len({b.topic for b in TOWN.beliefs}) == len(TOWN.beliefs) == 44
    for b in TOWN.beliefs:
        truth, myth = b.truth.lower(), b.myth.lower()
        assert any(k in truth for k in b.truth_keys) and any(k in myth for k in b.myth_keys), b
        assert not any(k in truth for k in b.myth_keys), b
        assert b.question.endswith("?") and truth != myth


def test_rules_are_answered_by_their_notice():
    for rule in TOWN.rules:
        assert any(k in rule.truth.lower() for k in rule.truth_keys), rule


def test_plural_and_coins():
    plurals = {"loaf": "loaves", "bus": "buses", "daisy": "daisies", "toy": "toys", "trout": "trout"}
    assert all(facts.plural(one) == many for one, many in plurals.items())
    assert facts.coins(1) == "one coin" and facts.coins(5) == "five coins"
    assert facts.article("apple") == "an apple" and facts.article("bun") == "a bun"
