"""Find in the reader's own source code where an attribute is used, and what a call passes."""

import ast
import linecache
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from covlab.watch.seen.location import CodeLocation, is_typed, is_users, source_lines

OF_A_PARAMETER = re.compile(r"parameters\(|(^|[._])(p|w|v|x|params?|parameters?|weights?|bias|tensors?)$")
ONLY_SHOWS = re.compile(r"(print|assert|log|logger|logging)\b")


class AttributeUse(NamedTuple):
    """A line that sets or reads an attribute."""

    location: CodeLocation
    owner: str  #: the code of what has the attribute, such as "self.backbone"
    sets: bool
    value: bool | None  #: that it is set to, if this is written there
    of_parameter: bool  #: it belongs to a parameter, by its name or by the loop around it
    inside: str  #: name of the class around it, or ""

    @property
    def is_read(self) -> bool:
        return not self.sets and not ONLY_SHOWS.match(self.location.code)


def uses_of(attribute: str) -> Iterator[AttributeUse]:
    """Yield the lines of the reader's code that use an attribute of this name."""
    for file, code in user_code().items():
        if attribute in code:
            yield from _uses_in(file, code, attribute)


def user_code() -> dict[str, str]:
    """Return the reader's own code that has been imported or typed, by file."""
    modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    cells = [name for name in linecache.cache if is_typed(name)]
    files = [file for file in [*modules, *cells] if isinstance(file, str) and is_users(file)]
    return {file: "".join(source_lines(file)) for file in files}


@lru_cache(maxsize=64)
def _uses_in(file: str, code: str, attribute: str) -> list[AttributeUse]:
    found: list[AttributeUse] = []
    values: dict[ast.AST, ast.expr] = {}

    def visit(node: ast.AST, inside: str, loops: tuple[ast.For, ...]) -> None:
        if isinstance(node, ast.Assign):
            values.update((target, node.value) for target in node.targets)
        owner, sets, value = _used(node, attribute, values)
        if owner is not None:
            text, name = ast.unparse(owner), owner.id if isinstance(owner, ast.Name) else ""
            around = [loop for loop in loops if name in _names(loop.target)]
            codes = [text, *(ast.unparse(loop.iter) for loop in around)]
            of_parameter = any(map(OF_A_PARAMETER.search, codes))
            location = CodeLocation(file, getattr(node, "lineno", 0), "")
            found.append(AttributeUse(location, text, sets, value, of_parameter, inside))
        inside = node.name if isinstance(node, ast.ClassDef) else inside
        loops = (*loops, node) if isinstance(node, ast.For) else loops
        for child in ast.iter_child_nodes(node):
            visit(child, inside, loops)

    tree = _parsed(code)
    if tree is not None:
        visit(tree, "", ())
    return found


def _names(target: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def _used(node: ast.AST, attribute: str, values: dict[ast.AST, ast.expr]) -> tuple[ast.expr | None, bool, bool | None]:
    """Return whose attribute the node uses (None: it uses none), whether it sets it, and to what."""
    if isinstance(node, ast.Attribute) and node.attr == attribute:
        return node.value, isinstance(node.ctx, ast.Store), _boolean(values.get(node))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
        name = node.args[1]
        if node.func.id in ("setattr", "getattr", "hasattr") and getattr(name, "value", None) == attribute:
            value = _boolean(node.args[2]) if len(node.args) > 2 else None
            return node.args[0], node.func.id == "setattr", value
    return None, False, None


def _boolean(value: ast.expr | None) -> bool | None:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, bool) else None


def argument_of_call(location: CodeLocation, function: str, position: int, keyword: str) -> ast.expr | None:
    """Return the argument that the call of ``function`` at this line passes; None: it passes none, or is not found."""
    tree = syntax_tree(location.file)
    if tree is None:
        return None
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.lineno <= location.line <= (node.end_lineno or node.lineno)
    ]
    named = [call for call in calls if getattr(call.func, "attr", getattr(call.func, "id", "")) == function]
    for call in named or calls:  # it may have been imported under another name
        by_name = next((one.value for one in call.keywords if one.arg in (keyword, None)), None)
        argument = by_name or (call.args[position] if len(call.args) > position else None)
        if argument is not None:
            return argument
    return None


def syntax_tree(file: str) -> ast.Module | None:
    """Return the syntax tree of a file or a cell; None: it cannot be parsed."""
    return _parsed("".join(source_lines(file)))


@lru_cache(maxsize=64)
def _parsed(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError):
        return None
