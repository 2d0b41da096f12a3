"""Find lines in the reader's own source code that use an attribute."""

import ast
import linecache
import sys
from collections.abc import Iterator
from functools import lru_cache

from covlab.watch.seen.location import CodeLocation, is_users


def lines_that_set(attribute: str) -> list[CodeLocation]:
    """Return the lines that assign to an attribute of this name of anything but ``self``, in the order of the code."""
    return [line for line, is_read in _uses(attribute) if not is_read]


def is_read(attribute: str) -> bool:
    """Return whether the reader's code reads an attribute of this name, or sets its own."""
    return any(reads for _, reads in _uses(attribute))


def _uses(attribute: str) -> Iterator[tuple[CodeLocation, bool]]:
    for file in _files():
        code = "".join(linecache.getlines(file))
        if attribute in code:
            yield from _uses_in(file, code, attribute)


def _files() -> list[str]:
    modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    cells = [name for name in linecache.cache if name.startswith("<") or "ipykernel_" in name]
    return list(dict.fromkeys(file for file in [*modules, *cells] if isinstance(file, str) and is_users(file)))


@lru_cache(maxsize=64)
def _uses_in(file: str, code: str, attribute: str) -> list[tuple[CodeLocation, bool]]:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == attribute:
            is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
            found.append((CodeLocation(file, node.lineno, ""), is_own or isinstance(node.ctx, ast.Load)))
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("setattr", "getattr", "hasattr")
            and len(node.args) > 1
            and isinstance(node.args[1], ast.Constant)
            and node.args[1].value == attribute
        ):
            found.append((CodeLocation(file, node.lineno, ""), node.func.id != "setattr"))
    return sorted(found, key=lambda one: one[0].line)


def argument_of_call(location: CodeLocation, function: str, position: int, keyword: str) -> ast.expr | None:
    """Return the argument that the call of ``function`` at this line passes; None: it passes none, or is not found."""
    try:
        tree = ast.parse("".join(linecache.getlines(location.file)))
    except (SyntaxError, ValueError):
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
