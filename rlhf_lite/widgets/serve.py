"""Ranking for people without Jupyter: the same page in a browser, served by Voilà from this machine.

    python -m rlhf_lite rank --from runs/mine --serve --name Ada

The page answers only this machine (127.0.0.1), and only those who have the address with its token. Every submit is on
the disk at once, in the run's folder feedback/, where `align --round` looks for it.

Left out: accounts. Each person starts a page with a name and a port of their own, or has the file sent.
"""

import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from rlhf_lite import feedback
from rlhf_lite.widgets import labels, names


def command(arguments):
    """`python -m rlhf_lite rank`: find or sample the items, then serve the page or say how to open it in a notebook."""
    if not arguments.run and not arguments.items:
        raise ValueError("There is nothing to rank; give --from with an align run, or --items with a file.")
    if arguments.items:
        items, folder = Path(arguments.items), Path("runs/feedback")
    else:
        from rlhf_lite.real import align  # takes seconds to import
        items, folder = align.to_rank(arguments.run), Path(arguments.run) / "feedback"
    name = names.my_name(arguments.name)
    answers = labels.default_path(name, folder)
    open_session(items, name, answers)  # a fault in the files shows here, not in the browser
    if not arguments.serve:
        print(f"Run this in a notebook, or add --serve:\n\n{cell(items, name, answers)}")
        return None
    return serve(items, name, answers, arguments.port, arguments.open_to_others)


def open_session(items, name, answers):
    """A RankingSession on a file of items."""
    from rlhf_lite.widgets.session import RankingSession

    rows, problems = feedback.read_jsonl(items)
    if problems or not rows:
        raise ValueError("\n".join(problems) or f"{items}: there are no items in this file.")
    return RankingSession(rows, name, answers)


def cell(items, name, answers):
    """The notebook cell that shows the page."""
    return ("from rlhf_lite.widgets import serve\nfrom rlhf_lite.widgets.ranking import RankingWidget\n"
            f"RankingWidget(serve.open_session({str(items)!r}, {name!r}, {str(answers)!r}))")


def serve(items, name, answers, port=8866, others=False):
    """Serve one person's page until Ctrl-C; returns Voilà's exit status. others: answer other machines too."""
    return serve_cell(cell(items.resolve(), name, answers.resolve()), answers, port, others)


def serve_cell(code, answers, port=8866, others=False, token=None):
    """Serve a page of one cell until Ctrl-C. answers: where the rankings go, to be said."""
    if importlib.util.find_spec("voila") is None:
        raise ImportError("The page needs Voilà; run: python setup_course.py setup --with browser; "
                          "or leave out --serve and use a notebook.")
    token = token or secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "rank.ipynb"
        page.write_text(json.dumps(notebook(code)), encoding="utf-8")
        print(f"Open http://{'this-machine' if others else '127.0.0.1'}:{port}/?token={token}\n"
              f"Rankings go to {answers}; stop with Ctrl-C.", flush=True)
        here = str(Path(__file__).resolve().parents[2])  # so that the page's kernel finds this library
        paths = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        return subprocess.run(voila(page, port, token, others), env={**os.environ, "PYTHONPATH": paths},
                              check=False).returncode


def voila(page, port, token, others=False):
    """The command that serves a notebook as a page."""
    return [sys.executable, "-m", "voila", str(page), "--no-browser", f"--port={port}", f"--Voila.token={token}",
            f"--Voila.ip={'0.0.0.0' if others else '127.0.0.1'}"]


def notebook(code):
    """A notebook of one cell, as JSON content."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    only = {"cell_type": "code", "id": "page", "metadata": {}, "execution_count": None, "outputs": [], "source": code}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [only]}
