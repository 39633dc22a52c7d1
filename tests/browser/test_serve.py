"""`rank --serve`, the page for people without Jupyter: a server of its own, its token, and a submit on the disk."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from driving import PATIENCE, ROOT, SCREEN, missing

if missing():
    pytest.skip(missing(), allow_module_level=True)
pytest.importorskip("voila", reason="Voila is not installed")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="ends a group of processes as Unix does")

from playwright.sync_api import expect  # noqa: E402  (may not be there)


@pytest.fixture
def served(tmp_path):
    """(url without a token, the address that the command printed, its folder)"""
    rows = [{"prompt_id": f"p{i}", "prompt": f"Question {i}?", "responses": [
        {"text": f"answer {i}.{j}", "source": f"model{j}"} for j in range(3)]} for i in range(2)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    said = tmp_path / "said.txt"
    with said.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlhf_lite", "rank", "--items", "items.jsonl", "--name", "Ada", "--serve",
             "--port", str(port)], cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT), "no_proxy": "127.0.0.1"})
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end and process.poll() is None and status(f"http://127.0.0.1:{port}/") is None:
        time.sleep(0.2)
    lines = said.read_text(encoding="utf-8").splitlines()
    address = next(line.removeprefix("Open ") for line in lines if line.startswith("Open "))
    yield f"http://127.0.0.1:{port}/", address, tmp_path
    os.killpg(process.pid, signal.SIGTERM)  # the command, Voila and the page's kernel
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def status(url):
    """The HTTP status of a page, and where it ended; None if nobody answers."""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=PATIENCE / 1000) as answer:
            return answer.status, answer.url
    except urllib.error.HTTPError as error:
        return error.code, error.url
    except OSError:
        return None


def test_the_page_opens_with_its_token_only_and_a_submit_is_on_the_disk(served, browser):
    bare, address, folder = served
    assert address.startswith(bare) and len(address.partition("token=")[2]) >= 20
    for wrong in (bare, f"{bare}?token=guessed", f"{bare}voila/render/rank.ipynb", f"{bare}api/kernels"):
        code, ended = status(wrong)
        assert code in (401, 403, 404) or "/login" in ended, (wrong, code, ended)
    context = browser.new_context(viewport=SCREEN)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.route(lambda url: not url.startswith(bare), lambda route: route.abort())  # Voila asks for fonts from outside
    page.goto(address)
    widget = page.locator(".rlhf-root").first
    widget.get_by_text("Question 0?").click()
    for key in ("2", "1", "3", "Enter"):
        page.keyboard.press(key)
    expect(widget).to_contain_text("saved 1 of 2", timeout=PATIENCE)
    (row,) = map(json.loads, (folder / "runs" / "feedback" / "ada.jsonl").read_text(encoding="utf-8").splitlines())
    assert row["prompt_id"] == "p0" and row["labeler"] == "Ada"
    assert [row["ranks"][place] for place in row["shown_order"]] == [2, 1, 3]
    context.close()
