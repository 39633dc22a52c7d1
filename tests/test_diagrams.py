"""Diagrams: well-formed, readable in both themes, described in words, and true of the numbers they are given."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

pytest.importorskip("IPython")

from rlhf_lite import plots  # noqa: E402

EVIL = "<script>&\"'"


def made():
    return {"three_steps": plots.three_steps(),
            "token_shift": plots.token_shift(["BEGIN", "Hi"], [EVIL, "END"], 1, 2, {"labels": range(7)}),
            "pair_matrix": plots.pair_matrix([2, 1, 2, 3], [[0.25] * 4] * 4)}


@pytest.mark.parametrize("name", made())
def test_a_diagram_is_svg_with_a_description_and_no_colour_of_its_own_for_text(name):
    root = ElementTree.fromstring(made()[name].data)
    assert root.get("role") == "img" and len(root.get("aria-label")) > 40
    assert int(re.search(r"max-width:(\d+)px", root.get("style"))[1]) <= 960  # fits beside a notebook's prompts
    assert int(root.get("viewBox").split()[3]) <= 600  # and on a screen
    for text in root.iter("text"):
        assert text.get("fill") == "currentColor" and float(text.get("font-size")) >= 11
    for rectangle in root.iter("rect"):
        assert float(rectangle.get("fill-opacity")) <= 0.3  # a tint: the page shows through, and words can be read


def test_the_arrows_go_from_the_place_before():
    said = ElementTree.fromstring(plots.token_shift(["a", "b"], ["c", "END"], left=1).data).get("aria-label")
    assert "2 predicts “c”, 3 predicts “END”" in said and "1 PAD" in said
    picture = plots.token_shift(["a", "b"], ["c", "END"], left=1, right=1).data
    assert picture.count("marker-end") == 2


def test_ties_and_mirrored_pairs_do_not_count():
    picture = plots.pair_matrix([2, 1, 2, 3]).data
    assert picture.count(">yes<") == 5 and picture.count(">no<") == 5 and picture.count(">=<") == 2
    assert "B is better than A" in picture and "Tied, so no pair: 1." in picture
