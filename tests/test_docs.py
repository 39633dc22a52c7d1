"""The documentation says nothing that is not there: links, commands, paths and names exist, and README stays short."""

import ast
import importlib.util
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from rlhf_lite import __main__ as cli
from rlhf_lite import files
from rlhf_lite.experiment import results

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import setup_course  # noqa: E402

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md")] + sorted(
    (ROOT / "docs").rglob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# in the folder that `export` writes, not here
EXPORTED = ("data/pairs/", "data/demonstrations/", "data/prompts/", "data/preferences/")

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def prose(text):
    """A page without its code blocks."""
    return BLOCK.sub("", text)


def code(page):
    """What a page shows as code: [lines of its shell blocks and spans between backticks], one command each."""
    text = page.read_text(encoding="utf-8")
    shell = [line.split("  #")[0] for language, block in BLOCK.findall(text) if language == "bash"
             for line in block.splitlines()]
    return shell + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(text))]


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    titles = HEADING.findall(prose(page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower().replace("`", "")).replace(" ", "-") for title in titles}


# ---------------------------------------------------------------- README

def test_readme_is_short_and_its_first_screen_is_a_screen():
    assert len(README.split()) <= 1200
    before = README[:README.index("\n## ")].splitlines()
    assert len(before) <= 25 and any(LINK.match(line) for line in before if line.startswith("!"))


def test_the_answers_in_the_readme_are_those_of_the_shipped_models():
    answers = runpy.run_path(str(ROOT / "docs" / "images" / "make.py"))["answers"]
    (before,), (after,) = answers(1).values()
    quoted = [" ".join(line.split(":**")[1].removesuffix("<br>").split()) for line in README.splitlines()
              if line.startswith("> **")]
    assert quoted == [" ".join(text.split()) for text in (before["prompt"], before["response"], after["response"])]
    assert f"`{before['prompt_id']}`" in README


def test_pictures_are_light_and_have_a_text_for_those_who_do_not_see_them():
    pictures = [path for path in (ROOT / "docs" / "images").iterdir() if path.suffix in (".gif", ".png")]
    assert sum(path.stat().st_size for path in pictures) <= 600 * 1024
    for page in PAGES:
        assert all(alt for image, alt, _ in LINK.findall(page.read_text(encoding="utf-8")) if image), page.name


# ---------------------------------------------------------------- every page

@every_page
def test_links_lead_somewhere(page):
    for _, _, target in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists() and ROOT in (found, *found.parents), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(found), f"{page.name}: {target}"


@every_page
def test_commands_exist(page):
    """A command of the library is parsed as it stands; of others the script, the module or the target must be there."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for line in code(page):
        for command in line.split(" && "):
            if found := re.search(r"python setup_course\.py (\S+)(.*)", command):
                if found[1] == "python":
                    assert (ROOT / found[2].split()[0]).is_file() or found[2].split()[0] == "-m"
                elif found[1] in setup_course.OURS:
                    setup_course.parser(found[1]).parse_known_args(shlex.split(found[2]))
                else:
                    cli.parser().parse_args(shlex.split(found[1] + found[2]))
            if found := re.search(r"python -m rlhf_lite (.+)", command):
                words = shlex.split(found[1].split(" | ")[0].split(" > ")[0])
                if words[0] != words[0].upper() and words[0] != "--help":
                    cli.parser().parse_args(words)  # SystemExit where a command or an option is unknown
            if found := re.search(r"python -m (rlhf_lite\.[\w.]+)", command):
                assert importlib.util.find_spec(found[1]), command
            if found := re.search(r"python ((?:tests|docs)/[\w/]+\.py)", command):
                assert (ROOT / found[1]).is_file(), command
            if found := re.match(r"(?:[A-Z_]+=\S+ )*make ([\w-]+)", command):
                assert found[1] in targets, command


@every_page
def test_files_that_are_named_exist(page):
    for span in code(page):
        if span.startswith(EXPORTED):
            continue
        for name in re.findall(r"(?<![\w/.])((?:rlhf_lite|tests|solutions|notebooks|docs|data)/[\w./-]*\w/?)", span):
            is_pattern = "NN" in name or span[span.index(name) + len(name):][:1] in ("*", "[", "{", "_")
            assert is_pattern or (ROOT / name).exists(), f"{page.name}: {name}"


@every_page
def test_python_examples_import_what_there_is(page):
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block)) if language == "python" else ():
            if isinstance(node, ast.ImportFrom) and node.module.startswith("rlhf_lite"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


# ---------------------------------------------------------------- docs/

def test_every_page_says_first_what_it_is_for_and_is_in_the_index():
    for page in (ROOT / "docs").rglob("*.md"):
        index = (page.parent / "README.md").read_text(encoding="utf-8")
        parts = re.sub(r"<!--.*?-->\s*", "", page.read_text(encoding="utf-8")).split("\n\n")
        assert parts[0].startswith("# ") and re.fullmatch(r"[A-Z][^.]+\.", parts[1].replace("\n", " ")), page.name
        assert page.name == "README.md" or f"]({page.name})" in index


def test_the_glossary_names_what_there_is():
    """A name with a dot in its last column is a function or class of ours, or a field of a class."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    names = {name for line in text.splitlines() if line.startswith("| **")
             for name in re.findall(r"`([\w.]+\.\w+)`", line.rsplit("|", 2)[1])}
    assert len(names) >= 25
    places = {"PPOConfig": "ppo", "PPORun": "ppo", "Rollout": "sampling"}
    for name in names:
        module, _, last = name.rpartition(".")
        owner = importlib.import_module(f"rlhf_lite.{places.get(module, module)}")
        owner = getattr(owner, module, owner)
        assert hasattr(owner, last) or last in getattr(owner, "__annotations__", {}), name


def test_the_map_shows_the_whole_library_and_nothing_else():
    spans = re.findall(r"`([\w/]+(?:\.py|/)?)`", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"))
    top = {path.stem for path in (ROOT / "rlhf_lite").iterdir() if not path.name.startswith("_")}
    assert top <= {span.split("/")[0].removesuffix(".py") for span in spans}
    for span in spans:
        if span.endswith(".py") or span.endswith("/"):
            assert (ROOT / "rlhf_lite" / span).exists() or (ROOT / span).exists(), span


def test_the_table_of_results_is_that_of_the_committed_runs():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = results.markdown(files.read_json(files.DATA / "results" / "headline.json"), "win_rate.png").splitlines()
    assert [row for row in rows if row.startswith("|") and row not in page] == []
