"""The ranking page as a whole: its height, its colours, its names for screen readers, clicks on cards."""

import pytest
from driving import PATIENCE, missing

if missing():
    pytest.skip(missing(), allow_module_level=True)

from playwright.sync_api import expect  # noqa: E402  (may not be there)
from test_lab import CUT_OFF, HARD_TO_READ, by_place, press  # noqa: E402

expect.set_options(timeout=PATIENCE)
TEXT = ("Answer {j} says that the mill stands by the river, a short walk below the stone bridge, that you can reach "
        "it in ten minutes from the market square, and that the miller sells flour from eight to noon there.")
BEGIN = f"""
from rlhf_lite.widgets.ranking import RankingWidget
from rlhf_lite.widgets.session import RankingSession
def items(n=3):
    return [{{"prompt_id": f"p{{i}}", "prompt": f"Question {{i}}: where is the mill, and when can I buy flour there?",
             "responses": [{{"text": {TEXT!r}.format(j=j), "source": f"m{{j}}"}} for j in range(4)]}} for i in range(n)]
"""
HEIGHT = "() => document.querySelector('.rlhf-root').getBoundingClientRect().height"


def tree(page):
    """[(role, name, properties)] of the page in Chromium's accessibility tree."""
    client = page.context.new_cdp_session(page)
    nodes = client.send("Accessibility.getFullAXTree")["nodes"]
    client.detach()
    return [(node["role"]["value"], node.get("name", {}).get("value", ""),
             {p["name"]: p["value"].get("value") for p in node.get("properties", [])})
            for node in nodes if not node.get("ignored")]


def test_a_page_of_cards(lab, page, shot):
    assert len(TEXT.split()) == 40
    book = lab(BEGIN, "RankingWidget(RankingSession(items(), 'Ada', 'cards.jsonl'))").show()
    page.set_viewport_size({"width": 1280, "height": 800})
    page.wait_for_timeout(300)
    heights = [page.evaluate(HEIGHT)]
    book.widget.get_by_role("button", name="Hide guidelines").click()
    expect(book.widget.get_by_role("button", name="Show guidelines")).to_be_visible()
    text = book.widget.locator(".rlhf-card .rlhf-text")
    for place, step in ((2, "rank 1"), (0, "rank 2")):
        text.nth(place).click()
        expect(book.widget.get_by_text(f"Answer {'ABCD'[place]} · {step}")).to_be_visible()
    text.nth(3).click(modifiers=["Shift"])
    expect(book.widget.locator(".rlhf-step")).to_have_count(2)
    expect(book.widget.locator(".rlhf-step").nth(1)).to_have_text("2A=D")
    page.wait_for_timeout(300)
    heights.append(page.evaluate(HEIGHT))
    page.evaluate("document.querySelector('.rlhf-root').scrollIntoView()")
    shot("-light")
    print(f"four answers of 40 words: {heights[0]:.0f} px with guidelines, {heights[1]:.0f} px without")
    assert max(heights) <= 720

    text.nth(1).click(click_count=2, position={"x": 20, "y": 10})  # selects a word, and ranks nothing
    book.widget.get_by_role("button", name="Mark words").click()
    words, line = (book.widget.locator(".rlhf-pane input[type=text]").nth(i) for i in (0, 1))
    expect(words).to_have_value("Answer")
    line.fill("says where and when")
    press(book, "Tab")
    book.widget.get_by_role("button", name="Add mark").click()
    expect(book.widget.locator("mark")).to_have_text("Answer")
    expect(book.widget.locator(".rlhf-step")).to_have_count(2)

    found = tree(page)
    names = {(role, name) for role, name, _ in found}
    for wanted in (("group", "Rank the answers"), ("group", "Answer A · rank 2 (tie with D)"),
                   ("group", "Answer B · not ranked"), ("button", "Answer C: rank 1"), ("button", "Save and next"),
                   ("progressbar", "Progress"), ("textbox", "Words"), ("textbox", "Note"), ("combobox", "Answer")):
        assert wanted in names, f"{wanted} is not in {sorted(names)}"
    pressed = {name for role, name, more in found if role == "button" and more.get("pressed") == "true"}
    assert {"Answer A: rank 2", "Answer B: no rank", "Answer C: rank 1", "Answer D: rank 2"} <= pressed
    assert any(role == "status" and more.get("live") == "polite" for role, _, more in found)
    assert not [role for role, name, _ in found if role == "button" and not name]

    for theme in ("light", "dark", "high contrast", "automatic"):
        book.widget.get_by_role("button", name="Theme:").click()
        expect(book.widget.get_by_role("button", name=f"Theme: {theme}")).to_be_visible()
        page.wait_for_timeout(300)
        assert page.evaluate(HARD_TO_READ) == [], theme
        shot(f"-{theme[:4]}")
    page.get_by_role("tab", name="File Browser").click()
    try:
        for width, height in ((1024, 768), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(300)
            page.evaluate("document.querySelector('.rlhf-root').scrollIntoView()")
            shot(f"-{width}")
            assert page.evaluate(CUT_OFF) == [], f"at {width} pixels"
    finally:
        page.set_viewport_size({"width": 1280, "height": 800})
        page.get_by_role("tab", name="File Browser").click()

    book.widget.locator(".rlhf-prompt").click()
    press(book, "3", "Enter")  # for B, in which words were marked
    expect(book.widget).to_contain_text("saved 1 of 3")
    row = book.rows("cards.jsonl")[0]
    assert by_place(row) == [2, 3, 1, 2] and row["critique"][0]["text"] == "says where and when"


def test_the_page_in_german(lab, shot):
    book = lab(BEGIN, "RankingWidget(RankingSession(items(), 'Ada', 'german.jsonl'), language='de')").show()
    book.widget.get_by_role("button", name="Speichern und weiter").click()
    expect(book.widget).to_contain_text("noch ohne Rang: A, B, C, D")
    assert book.page.evaluate(CUT_OFF) == []
