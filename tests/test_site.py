"""The site: every notebook and every document is in it, and its pages need no kernel."""

import base64
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytest.importorskip("jupytext")
sys.path.insert(0, str(ROOT / "docs" / "site"))
import book  # noqa: E402
import still  # noqa: E402

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (1120).to_bytes(4, "big") + (512).to_bytes(4, "big")).decode()
TQDM = {"bar": {"model_name": "HBoxModel", "state": {"children": ["IPY_MODEL_l", "IPY_MODEL_p", "IPY_MODEL_r"]}},
        "l": {"model_name": "HTMLModel", "state": {"value": "ppo: 100%"}},
        "p": {"model_name": "FloatProgressModel", "state": {"value": 2.0, "min": 0.0, "max": 2.0}},
        "r": {"model_name": "HTMLModel", "state": {"value": "2/2"}}}
SLIDER = {"box": {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_s", "IPY_MODEL_t", "IPY_MODEL_hidden",
                                                                    "IPY_MODEL_k"]}},
          "s": {"model_name": "SelectionSliderModel",
                "state": {"description": "β", "_options_labels": ["0.1", "1", "10"], "index": 1}},
          "t": {"model_name": "TextareaModel", "state": {"value": "<script>alert(1)</script>", "placeholder": ""}},
          "hidden": {"model_name": "ButtonModel", "state": {"description": "Undo", "layout": "IPY_MODEL_gone"}},
          "gone": {"model_name": "LayoutModel", "state": {"display": "none"}},
          "k": {"model_name": "AnyModel", "state": {}}}


def view(model):
    return {"output_type": "display_data", "metadata": {},
            "data": {still.VIEW: {"model_id": model}, "text/plain": "A Jupyter Widget"}}


def stream(name, text):
    return {"output_type": "stream", "name": name, "text": text}


def cleaned(*outputs, state=None):
    notebook = {"cells": [{"cell_type": "code", "metadata": {}, "source": "", "outputs": list(outputs)}],
                "metadata": {"widgets": {still.STATE: {"state": state or {}}}}}
    return still.clean(notebook)["cells"][0]


def test_every_notebook_and_every_document_has_its_page():
    names, pages = list(book.lessons()), book.documents()
    assert names == [path.stem for path in sorted((ROOT / "solutions").glob("[0-9][0-9]*_*.py"))]
    assert {Path("README.md"), Path("data/README.md")} < set(pages)
    assert {path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")} < set(pages)
    front = book.front_page((ROOT / "README.md").read_text(encoding="utf-8"), names, pages)
    contents = "".join(part.split("```")[0] for part in front.split("```{toctree}")[1:])
    assert all(f"\nsolutions/{name}\n" in contents for name in names)
    assert all(str(page.with_suffix("")) in contents for page in pages)
    assert all(f"](solutions/{name}.ipynb) |" in front for name in names)


def test_links_lead_to_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(book, "BUILD", tmp_path)
    pages = book.documents()
    name = next(iter(book.lessons()))

    def relink(text, page):
        return book.relink(text, Path(page), pages)
    assert relink(f"[00](notebooks/{name}.ipynb)", "README.md") == f"[00](solutions/{name}.ipynb)"
    kept = "[p](pitfalls.md#a), [r](../README.md)"
    assert relink(kept, "docs/experiments.md") == kept
    assert relink("[t](tests/) and [u](https://arxiv.org/abs/2203.02155)", "README.md") == (
        "t and [u](https://arxiv.org/abs/2203.02155)")
    assert relink("`a[0](b)` and\n```\na[0](b)\n```", "README.md") == "`a[0](b)` and\n```\na[0](b)\n```"
    assert relink("[l](LICENSE)", "README.md") == "[l](LICENSE)" and (tmp_path / "pages" / "LICENSE").is_file()


def test_progress_bars_disappear_and_what_else_was_printed_stays():
    bar = "sft:  50%|█████     | 1/2 [00:01<00:01,  1.2s/it]"
    assert cleaned(stream("stderr", f"\r{bar}\r{bar}\n"), view("bar"), state=TQDM)["outputs"] == []
    kept = cleaned(stream("stderr", f"\r{bar}\nUserWarning: the KL is below 0\n"), stream("stdout", "50 % of 3 | 4\n"))
    assert [o["text"].strip() for o in kept["outputs"]] == ["UserWarning: the KL is below 0", "50 % of 3 | 4"]
    assert still.without_bars("12 rows\r13 rows\n") == "13 rows\n"
    assert still.without_bars("/tmp/ipykernel_25/11.py:9: Warning: x\n") == "line 9 of this cell: Warning: x\n"


def test_a_widget_stands_still_and_its_texts_stay_texts():
    (output,) = cleaned(view("box"), state=SLIDER)["outputs"]
    page = output["data"]["text/html"]
    assert list(output["data"]) == ["text/html"] and "β" in page and "> 1<" in page and still.NOTE in page
    assert "<script>" not in page and "&lt;script&gt;" in page and "Undo" not in page
    (unknown,) = cleaned(view("nobody"))["outputs"]
    assert unknown["data"]["text/html"] == f'<div class="still">{still.NOTE}</div>'


def test_a_figure_is_shown_in_its_own_size():
    cell = cleaned({"output_type": "display_data", "metadata": {}, "data": {"image/png": PNG}})
    assert cell["metadata"]["mystnb"]["image"]["width"] == "700px"


def test_a_notebook_that_fails_says_where(tmp_path):
    from executed import NotebookFailed, run_all
    cells = [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# T"},
             {"cell_type": "code", "id": "b", "metadata": {}, "source": "print(1)\n1 / 0", "execution_count": None,
              "outputs": []}]
    notebook = json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    with pytest.raises(NotebookFailed, match="(?s)05_x, cell 2: ZeroDivisionError.*1 / 0"):
        run_all({"05_x": notebook}, tmp_path, "", fast=True)
    assert not list(tmp_path.iterdir())
    good = notebook.replace("1 / 0", "2")
    first = run_all({"05_x": good}, tmp_path, "", fast=True)["05_x"]
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    assert run_all({"05_x": good}, tmp_path, "", fast=True)["05_x"] == first and kept.stat().st_mtime_ns == written
