"""Read in the source code of a class which parts of itself a method certainly freezes."""

import ast
import inspect
from functools import lru_cache

from covlab.watch.seen.location import CodeLocation, is_users, source_lines

Frozen = tuple[CodeLocation, str]  # a line, and the path of what it freezes, such as "stage"


def frozen_by_method(owner: type, name: str) -> list[Frozen]:
    """Return what the method freezes whenever it is called: nothing that depends on a condition.

    It follows calls of other methods of the same object.
    """
    return _frozen(owner, name, depth=0)


def _frozen(owner: type, name: str, depth: int) -> list[Frozen]:
    method = inspect.unwrap(getattr(owner, name, None) or object)
    code = getattr(method, "__code__", None)
    if code is None or not is_users(code.co_filename) or depth > 2:
        return []
    definition = _definition(code.co_filename, code.co_firstlineno, name)
    found: list[Frozen] = []
    for statement in [] if definition is None else definition.body:
        if _may_leave(statement):
            return found
        call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
        called = call.func if isinstance(call, ast.Call) else None
        if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "self":
            found += _frozen(owner, called.attr, depth + 1)
        path, line = _frozen_path(statement)
        if path is not None:
            found.append((CodeLocation(code.co_filename, line, name), path))
    return found


@lru_cache(maxsize=256)
def _definition(file: str, line: int, name: str) -> ast.FunctionDef | None:
    try:
        tree = ast.parse("".join(source_lines(file)))
    except (SyntaxError, ValueError):
        return None
    functions = (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one.name == name)
    return next((one for one in functions if line <= one.lineno <= line + len(one.decorator_list)), None)


def _may_leave(statement: ast.stmt) -> bool:
    """Return whether the statements after this one may not be reached."""
    return any(isinstance(node, ast.Return | ast.Raise) for node in ast.walk(statement))


def _frozen_path(statement: ast.stmt) -> tuple[str | None, int]:
    """Return the path of what the statement freezes (None: nothing), and its line."""
    match statement:
        case ast.Expr(ast.Call(ast.Attribute(part, "requires_grad_"), [ast.Constant(value)])) if value is False:
            return _path(part), statement.lineno
        case ast.Assign([ast.Attribute(part, "requires_grad")], ast.Constant(value)) if value is False:
            return _path(part) or None, statement.lineno  # of a parameter: W29 tells of a module's flag itself
        case ast.For(ast.Name(name), ast.Call(ast.Attribute(part, "parameters")), [inner]):
            match inner:
                case ast.Assign([ast.Attribute(ast.Name(one), "requires_grad")], ast.Constant(value)):
                    freezes = one == name and value is False
                case ast.Expr(ast.Call(ast.Attribute(ast.Name(one), "requires_grad_"), [ast.Constant(value)])):
                    freezes = one == name and value is False
                case _:
                    freezes = False
            return (_path(part), inner.lineno) if freezes else (None, 0)
    return None, 0


def _path(node: ast.expr) -> str | None:
    """Return the path of an attribute of self; "": self; None: something else."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    return ".".join(names) if isinstance(node, ast.Name) and node.id == "self" else None
