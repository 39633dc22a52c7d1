"""The part of a notebook that an exercise needs: its own cell, and what that uses from the cells above.

The idea: nobody has to train a model to find out whether a function is right. From the statement with
`check("5.7", gae)` we go upwards and keep the statements that define or change a name in use, and cover up the rest.
So a notebook that takes an hour is graded in a second, and a broken plot three cells above stops nobody.

Left out: what only a running kernel knows, such as cells run in another order, and names made by `exec`.
"""

import ast
import contextlib
import json
import re
import symtable
import warnings
from dataclasses import dataclass, field

MAGIC = re.compile(r"^([ \t]*)[%!?].*$|^.*\?[ \t]*$", re.MULTILINE)


@dataclass
class Statement:
    """One statement at the top level of a cell."""

    tree: ast.stmt
    cell: int  # number of its code cell, from 1, for messages
    binds: set = field(default_factory=set)  # names it defines
    uses: set = field(default_factory=set)  # names it needs, now or when a function in it is called
    later: set = field(default_factory=set)  # those of them that a function in it looks up when it is called
    changes: set = field(default_factory=set)  # names whose content it may change: rows.append(1), table["a"] = 2
    imports: bool = False
    exercise: str = ""  # the exercise it has checked


def code_cells(text):
    """The code cells of a notebook (the text of an .ipynb file), as a list of texts; ValueError if it is none."""
    try:
        cells = json.loads(text)["cells"]
        sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return ["".join(source) if isinstance(source, list) else str(source) for source in sources]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("this is not a notebook, or it is damaged") from None


def joined(texts):
    """Several notebooks as the text of one; a damaged one among them is left out, unless it is alone."""
    if len(texts) == 1:
        return texts[0]
    sources = []
    for text in texts:
        with contextlib.suppress(ValueError):
            sources += code_cells(text)
    return json.dumps({"cells": [{"cell_type": "code", "source": source} for source in sources]})


def statements(cells):
    """([Statement], {number of a cell: why Python cannot read it}) of code cells, in order."""
    found, broken = [], {}
    for number, text in enumerate(cells, 1):
        if text.lstrip().startswith("%%"):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                nodes = ast.parse(MAGIC.sub(r"\1pass", text)).body
                found += [_statement(node, number) for node in nodes]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            broken[number] = f"{type(error).__name__} in line {getattr(error, 'lineno', None) or '?'}"
    return found, broken


def _statement(node, cell):
    made = Statement(node, cell, imports=isinstance(node, (ast.Import, ast.ImportFrom)))
    table = symtable.symtable(ast.unparse(node), "cell", "exec")
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported():
            made.binds.add(symbol.get_name())
        if symbol.is_referenced():
            made.uses.add(symbol.get_name())
    inner = table.get_children()
    while inner:
        part = inner.pop()
        made.later |= {symbol.get_name() for symbol in part.get_symbols() if symbol.is_global()}
        inner += part.get_children()
    made.uses |= made.later
    made.changes = set(_changed(node))
    for part in ast.walk(node):
        name = _checked(part)
        made.exercise = name or made.exercise
    return made


def _changed(node):
    """Names whose content a statement changes, looking into loops and blocks but not into functions."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield from _base(node.value.func)
    targets = node.targets if isinstance(node, (ast.Assign, ast.Delete)) else [
        node.target] if isinstance(node, ast.AugAssign) else []
    for target in targets:
        yield from _base(target)
    for part in ast.iter_child_nodes(node):
        if isinstance(part, (ast.stmt, ast.excepthandler)):
            yield from _changed(part)


def _base(node):
    """The name at the beginning of rows.append or table["a"].b; nothing for a plain name, which is a new binding."""
    deeper = False
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node, deeper = node.func if isinstance(node, ast.Call) else node.value, True
    if isinstance(node, ast.Name) and deeper:
        yield node.id


def _checked(node):
    """The exercise in a call check("5.7", ...), else None."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "check":
        given = [*node.args, *(word.value for word in node.keywords if word.arg == "identifier")]
        if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
            return given[0].value
    return None


def needed(found, index):
    """Places of the statements that `found[index]` needs, in order, itself included."""
    imported = {name for statement in found if statement.imports for name in statement.binds}
    places, later = set(), None
    while later != (known := set().union(*(found[place].later for place in places))):
        later = known  # a function looks its names up when it is called: below, not where it is defined
        places, wanted = {index}, (found[index].uses | known) - {"check"}
        for place in range(index - 1, -1, -1):
            statement = found[place]
            if not (statement.binds & wanted or statement.changes & wanted - imported or _everything(statement)):
                continue
            places.add(place)
            if isinstance(statement.tree, (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign)):
                wanted = wanted - statement.binds  # defined here; what stood further up is covered
            wanted = wanted | statement.uses - {"check"}
    return sorted(places)


def _everything(statement):
    return isinstance(statement.tree, ast.ImportFrom) and statement.tree.names[0].name == "*"


def name(cell):
    """What Python calls the file of a cell."""
    return f"<cell {cell}>"


def recorded(statement, call):
    """The statement as compiled code in which check("5.7", f) is a call of `call`, which the grader provides."""
    class Renamed(ast.NodeTransformer):
        def visit_Call(self, node):
            self.generic_visit(node)
            if _checked(node):
                node.func = ast.copy_location(ast.Name(call, ast.Load()), node.func)
            return node
    tree = ast.fix_missing_locations(Renamed().visit(statement.tree))
    return compile(ast.Module([tree], []), name(statement.cell), "exec", dont_inherit=True)


def targets(statement):
    """The names to which a statement gives the result of its check: `gae = check("5.7", gae)` -> ["gae"]."""
    places = statement.tree.targets if isinstance(statement.tree, ast.Assign) else []
    return [place.id for place in places if isinstance(place, ast.Name)]
