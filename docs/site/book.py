"""The site: the executed solutions and the docs as static pages that open with a double click. `make site` calls this.

    python docs/site/book.py            # everything at full length: about 20 minutes the first time
    python docs/site/book.py --fast     # the fast versions of the notebooks: a few minutes
    python docs/site/book.py --dry      # no notebook runs: are all pages and links whole?

The pages are laid out in build/site/pages as in the repository, so that links between them hold, and Sphinx turns them
into site/. What the notebooks printed is in build/site/executed and is used again until they change.
"""

import argparse
import base64
import json
import os
import re
import shutil
import sys
from pathlib import Path

from executed import ALWAYS_FAST, NotebookFailed, fingerprint, run_all
from still import clean

from rlhf_lite.exercises.build import notebook

ROOT = Path(__file__).resolve().parents[2]
BUILD, SITE = ROOT / "build" / "site", ROOT / "site"
GUIDE = Path("docs/teaching")  # the instructor's guide has a part of its own in the table of contents
ROW = re.compile(r"\|\s*\[?(\d\d[a-z]?)\b([^|\]]*)\]?(?:\([^)]*\))?\s*\|(.*)")  # "| 05a name | idea |", linked or not
LINK = re.compile(r"```.*?```|`[^`]*`|(!?)\[([^\]]*)\]\(([^)\s]+)\)", re.DOTALL)  # code is matched to be passed by


def lessons(root=ROOT):
    """{"05_name": its source} of every notebook."""
    return {path.stem: path for path in sorted((root / "solutions").glob("[0-9][0-9]*_*.py"))}


def documents(root=ROOT):
    """Every page of prose, as paths within the repository: README, data card, docs, what else lies beside README."""
    first = [Path(name) for name in ("README.md", "data/README.md") if (root / name).is_file()]
    rest = [path.relative_to(root) for folder in ("docs", GUIDE, ".") for path in sorted((root / folder).glob("*.md"))]
    return [*first, *(path for path in rest if path not in first)]


def syllabus(readme, names):
    """README's table of the notebooks, with links to their pages."""
    blocks = [re.findall(ROW, block) for block in re.split(r"\n\s*\n", readme) if "minutes |" not in block]
    rows = next((rows for rows in blocks if [row[0] for row in rows] == [name.split("_")[0] for name in names]), None)
    if rows is None:
        raise SystemExit("README.md has no table with one row for every notebook (| 00 name | idea |).")
    lines = [f"| [{number}{title.rstrip()}](solutions/{name}.ipynb) | {rest.strip().rstrip('|').strip()} |"
             for name, (number, title, rest) in zip(names, rows, strict=True)]
    more = lines[0].replace("\\|", "").count("|") - 3  # columns that the README may have besides these two
    return "\n".join(["| notebook | the idea that clicks |" + " |" * more, "|---" * (2 + more) + "|", *lines])


def front_page(readme, names, pages):
    """The first page: README's opening with a picture, and the syllabus; and the table of contents of all."""
    title = re.search(r"^# (.*)", readme, re.MULTILINE).group(1)
    opening = re.split(r"\n(?=#|\||```)", readme.split("\n", 1)[1])[0].strip()
    if "![" not in opening:
        opening += "\n\n" + "".join(re.findall(r"!\[[^\]]*\]\([^)]+\)", readme)[:1])
    repository = os.environ.get("GITHUB_REPOSITORY")
    source = [f"The source of all this: <https://github.com/{repository}>"] if repository else []
    guide = [page for page in pages if page.parent == GUIDE]
    others = [page for page in pages if page not in guide]
    listed = "\n".join(f"- [{_title(page)}]({page})" for page in [*others, *guide[:1]])  # its README leads to the rest
    return "\n\n".join([
        f"# {title}", opening, "## The course",
        "Every page is a solved notebook with all that it printed and drew. It also holds the version with blanks, for "
        "you to work on (`make lab`).", syllabus(readme, names), "## To read", listed, *source,
        _contents("The course", [f"solutions/{name}" for name in names]),
        *(_contents(caption, [f"{_title(page)} <{page.with_suffix('')}>" for page in group])
          for caption, group in (("To read", others), ("For instructors", guide)) if group)]) + "\n"


def _contents(caption, entries):
    """A part of the table of contents, which is shown beside every page."""
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```"])


def relink(text, page, pages, root=ROOT):
    """The Markdown of a page whose links lead to pages where there are some; other files come along as downloads."""
    def link(match):
        mark, words, target = match.groups()
        path, _, anchor = (target or "").partition("#")
        if not path or re.match(r"\w+:", path):
            return match.group(0)
        there = Path(os.path.relpath((root / page).parent / path, root))
        if there.parts[0] in ("notebooks", "solutions") and there.stem in lessons(root):
            there = Path("solutions", f"{there.stem}.ipynb")  # the page; the notebook itself is one click further
        elif there not in pages:
            if not (root / there).is_file():
                return words
            (BUILD / "pages" / there).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / there, BUILD / "pages" / there)
        return f"{mark}[{words}]({os.path.relpath(there, page.parent)}{'#' + anchor if anchor else ''})"
    return LINK.sub(link, text)


def lesson_page(name, executed, blanks, solved, pages):
    """An executed notebook as a page: still outputs, and under the title how it ran, and both notebooks to download.

    The downloads are inside the page, because a browser that opened it from a folder saves no other file of the folder.
    """
    def download(words, file, text):
        data = base64.b64encode(text.encode()).decode()
        return f'<a href="data:application/x-ipynb+json;base64,{data}" download="{file}.ipynb">{words}</a>'
    page = clean(json.loads(json.dumps(executed)))
    for cell in page["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = relink("".join(cell["source"]), Path("solutions", name), pages)
    title, _, rest = page["cells"][0]["source"].partition("\n")
    how = page["metadata"].pop("executed", None)
    said = "Not executed: a dry run of the site."
    if how:
        why = f", as always, because {ALWAYS_FAST[name[:2]]}" if name[:2] in ALWAYS_FAST else ""
        said = f"Solved, and executed in full on {how['date']}." if not how["fast"] else (
            f"Solved, and executed in its fast version on {how['date']}{why}. The fast version takes a few steps on a "
            "few examples: all that it shows is that everything runs; read nothing into its numbers and curves.")
    page["cells"][0]["source"] = (
        f'{title}\n\n<p class="page-line">{said} Download: {download("the notebook with blanks", name, blanks)}, '
        f'{download("solved", name + "_solved", solved)}.</p>\n{rest}')
    return json.dumps(page, ensure_ascii=False)


def lay_out(executed, plain, root=ROOT):
    """Write the source of every page into build/site/pages."""
    shutil.rmtree(BUILD / "pages", ignore_errors=True)
    pages, texts = documents(root), {}
    for page in pages:
        texts[page] = relink((root / page).read_text(encoding="utf-8"), page, pages, root)
    front, texts[Path("README.md")] = Path("index.md"), re.sub(
        r"^# .*", f"# {_title(Path('README.md'))}", texts[Path("README.md")], count=1, flags=re.MULTILINE)
    readme = (root / "README.md").read_text(encoding="utf-8")
    texts[front] = relink(front_page(readme, list(executed), pages), front, pages, root)
    for name, made in executed.items():
        blanks = notebook(lessons(root)[name], learner=True)
        texts[Path("solutions", f"{name}.ipynb")] = lesson_page(name, made, blanks, plain[name], pages)
    for page, text in texts.items():
        (BUILD / "pages" / page).parent.mkdir(parents=True, exist_ok=True)
        (BUILD / "pages" / page).write_text(text, encoding="utf-8")


def _title(page, root=ROOT):
    names = {"README.md": "The README of the project", "data/README.md": "The data card"}
    text = (root / page).read_text(encoding="utf-8")
    return names.get(str(page)) or re.search(r"^# (.*)", text, re.MULTILINE).group(1)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Build the site: executed solutions and docs as static pages.")
    parser.add_argument("--fast", action="store_true", help="the fast version of every notebook")
    parser.add_argument("--dry", action="store_true", help="execute nothing; the pages have no outputs")
    parser.add_argument("--workers", type=int, default=1, help="notebooks that run at the same time (default: 1)")
    arguments = parser.parse_args(argv)
    from sphinx.cmd.build import main as sphinx

    plain = {name: notebook(path, learner=False) for name, path in lessons().items()}
    ground = fingerprint(ROOT / "rlhf_lite", ROOT / "data")
    try:
        executed = {name: json.loads(text) for name, text in plain.items()} if arguments.dry else run_all(
            plain, BUILD / "executed", ground, arguments.fast, arguments.workers)
    except NotebookFailed as error:
        print(error, file=sys.stderr)
        return 1
    lay_out(executed, plain)
    shutil.rmtree(BUILD / "html", ignore_errors=True)
    status = sphinx(["-q", "-W", "--keep-going", "-E", "-c", str(Path(__file__).parent), "-d", str(BUILD / "doctrees"),
                     str(BUILD / "pages"), str(BUILD / "html")])
    if status == 0:
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.move(BUILD / "html", SITE)
        print(f"Open {SITE / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
