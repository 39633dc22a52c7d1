"""The house: imports go down and never in a circle, files and functions stay small, everything works on Windows."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rlhf_lite

PACKAGE = Path(rlhf_lite.__file__).parent
# From the ground up: a file may import its own layer and those above it in this list, never one further down.
LAYERS = ("town", "the top level", "experiment", "real", "widgets", "exercises", "workshop")
TOP = LAYERS.index("the top level")
LINES = {"train_ppo": 45, "train_sft": 30, "train_reward": 30, "train_dpo": 30, "train_rloo": 30, "train_grpo": 30}
UNIX_ONLY = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}


@cache
def sources():
    """{module: (path, syntax tree)} of the whole package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path, ast.parse(path.read_text(encoding="utf-8"))
    return found


def layer(module):
    folder = f"{module}.".split(".")[1]
    return LAYERS.index(folder) if folder in LAYERS else TOP  # `plots` is of the top level, whether file or folder


@cache
def imports(module):
    """[(name of an imported module of ours or of others, whether a function imports it)]."""
    path, tree = sources()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    lazy = {node for function in ast.walk(tree) if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
            for node in ast.walk(function)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in lazy) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package.split(".")[:len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (start, node.module)))
            for alias in node.names:  # a module in a package, or a name in a module
                inner = f"{base}.{alias.name}"
                found.append((inner if inner in sources() else base, node in lazy))
    return found


def ours(module):
    return [(name, lazy) for name, lazy in imports(module) if name in sources()]


@pytest.mark.parametrize("module", sorted(set(sources()) - {"rlhf_lite.__main__"}))
def test_imports_go_down(module):
    for name, lazy in ours(module):
        assert layer(name) <= layer(module), f"{module} imports {name}, which lies above it"
        if layer(module) == LAYERS.index("widgets"):  # a session starts without a pipeline, and without a model
            assert layer(name) != LAYERS.index("experiment"), f"{module} imports {name}"
            assert lazy or layer(name) != LAYERS.index("real"), f"{module} imports {name} outside a function"


def test_the_command_line_imports_everything_late():
    """But for the options, which import nothing of ours, so that --help answers at once."""
    assert {name for name, lazy in ours("rlhf_lite.__main__") if not lazy} == {"rlhf_lite.commands"}
    assert not ours("rlhf_lite.commands")


def test_no_circles():
    """Not even one that an import inside a function would break."""
    graph = {module: {name for name, _ in ours(module)} - {module} for module in sources()}
    TopologicalSorter(graph).prepare()  # CycleError names the modules


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*.py")), ids=lambda path: path.name)
def test_a_file_on_the_top_level_is_read_in_one_go(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def top_level_functions():
    """{"file.py: name": syntax tree}."""
    return {f"{path.name}: {node.name}": node for path, tree in sources().values() if path.parent == PACKAGE
            for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", LINES)
def test_a_training_loop_fits_on_a_screen(name):
    (node,) = (node for node in top_level_functions().values() if node.name == name)
    assert node.end_lineno - node.lineno + 1 <= LINES[name]


@pytest.mark.parametrize("name", [name for name in top_level_functions() if ": _" not in name])
def test_eight_parameters_are_enough(name):
    found = top_level_functions()[name].args
    assert len([*found.posonlyargs, *found.args, *found.kwonlyargs]) <= 8


def test_nothing_needs_unix():
    for module in sources():
        for name, lazy in imports(module):
            if name.partition(".")[0] in UNIX_ONLY:
                asks_first = module in ("rlhf_lite.experiment.machine", "rlhf_lite.workshop.limits")
                assert lazy and asks_first, f"{module} imports {name}"


def test_the_tests_need_no_unix_to_be_collected():
    for path in (PACKAGE.parent / "tests").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [
                node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert not UNIX_ONLY & {name.partition(".")[0] for name in names}, path


def text_calls(tree):
    """Calls that open a file as text and do not say in which encoding (Windows would take cp1252)."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        owner = getattr(getattr(node.func, "value", None), "id", None)
        given = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        if name == "open" and (isinstance(node.func, ast.Name) or {*given} & {"r", "w", "a", "x", "r+", "w+"}):
            if not any(isinstance(value, str) and "b" in value and len(value) < 4 for value in given):
                yield node
        elif name in ("read_text", "write_text") and isinstance(node.func, ast.Attribute) and owner != "files" and (
                not {"utf-8", "utf-8-sig"} & {*given}):
            yield node


@pytest.mark.parametrize("line, faults", [
    ('path.open("w")', 1), ('open(path)', 1), ('path.read_text(errors="replace")', 1), ('(a / b).write_text("x")', 1),
    ('open(path, "rb")', 0), ('path.open("w", encoding="utf-8")', 0), ('path.read_text("utf-8")', 0),
    ('files.write_text(path, "x")', 0), ("session.open(3)", 0)])
def test_what_counts_as_text_without_an_encoding(line, faults):
    assert len(list(text_calls(ast.parse(line)))) == faults


@pytest.mark.parametrize("module", sources())
def test_text_is_written_and_read_as_utf_8(module):
    path, tree = sources()[module]
    assert not [f"{path.name}:{node.lineno}" for node in text_calls(tree)]


def test_what_is_no_python_is_packed_too():
    table = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = table["tool"]["setuptools"]["package-data"]["rlhf_lite"]
    packed = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    others = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others <= packed


def test_one_version():
    table = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert table["project"]["version"] == rlhf_lite.__version__


def test_help_answers_at_once():
    """Neither PyTorch nor NumPy is imported for it."""
    asked = ("import sys; from rlhf_lite import __main__ as cli; cli.parser().format_help(); "
             "print([name for name in ('torch', 'numpy') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", asked], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
