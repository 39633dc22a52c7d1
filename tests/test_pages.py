"""Nothing that a model or a person wrote can act in a page."""

import jinja2
import pytest
from test_report import write_run

from rlhf_lite.experiment import pages, report

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)>\"' onload=alert(2) {{ 7 * 7 }} {% raw %}"


def harmless(page):
    return "<script" not in page and "<img src=x" not in page and "&lt;script&gt;" in page and "\"' onload" not in page


def test_a_template_escapes_what_it_is_given_and_misses_nothing(tmp_path):
    template = tmp_path / "page.html"
    template.write_text('<p title="{{ text }}">{{ text }} {{ inner["name"] }}</p>', encoding="utf-8")
    page = pages.render(template, text=EVIL, inner={"name": EVIL})
    assert harmless(page) and page.count("{{ 7 * 7 }}") == 3  # a text is never read as a template
    with pytest.raises(jinja2.UndefinedError):
        pages.render(template, text="no inner")


def test_the_report_escapes_answers_names_and_notes(tmp_path):
    row = {"id": 1, "claim": EVIL, "paper": EVIL, "target": EVIL, "note": EVIL, "ours": 0.5, "low": 0.4, "high": 0.6,
           "parts": [{"name": EVIL, "value": 0.5, "low": 0.4, "high": 0.6}]}
    folder = write_run(tmp_path / "<script>", {"name": EVIL, "headline": [row], "command": EVIL, "tax": EVIL}, ())
    answer = {"prompt_id": "p", "use_case": EVIL, "prompt": EVIL, "response": EVIL, "overall": 4, "reasons": [EVIL]}
    (folder / "answers" / "sft.jsonl").write_text(f"{report.json.dumps(answer)}\n{{<script>")
    page = report.write_report(folder).read_text(encoding="utf-8")
    assert harmless(page) and "Note." in page and page.count("&lt;script&gt;") == 12
