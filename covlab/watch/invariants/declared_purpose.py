"""Read in the source code what a loop calls an evaluation: training accuracy, or validation.

Tensors cannot tell a validation set that leaked into the training set from training accuracy that is measured on
purpose. The loop's own names can.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal

from covlab.watch.invariants.source_code import syntax_tree
from covlab.watch.seen.location import CodeLocation, is_users, source_lines

VALIDATION = re.compile(r"val(?!ue|s$|l)|va$|vl$|test|te$|dev($|set|loader|data)|held|holdout|unseen")
TRAINING = re.compile(r"tr$|train|overfit|fit(s|ted)?$|memori")
KINDS = {"validation": VALIDATION, "training": TRAINING, "evaluation": re.compile(r"eval$")}
COMPREHENSIONS = ("<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")  # the next frame is at the same statement

Path = tuple[CodeLocation, ...]
Purpose = Literal["training", "validation", "unknown"]
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Loop = ast.For | ast.AsyncFor


def own_lines(path: Path, training: Iterable[Path]) -> Path:
    """Return the lines of ``path`` that did not lead to the training as well, the innermost first."""
    shared = max((_shared(path, other) for other in training), default=0)
    return path[: len(path) - shared]


def _shared(path: Path, other: Path) -> int:
    """Return how many of the outermost lines are the same."""
    count = 0
    for one, another in zip(reversed(path), reversed(other), strict=False):
        if one != another:
            break
        count += 1
    return count


def declared_purpose(path: Path, training: Iterable[Path]) -> Purpose:
    """Return what the code at the end of ``path``, around the lines that are its own, calls the evaluation."""
    own = [line for line in own_lines(path, training) if is_users(line.file) and line.function not in COMPREHENSIONS]
    trains = {(line.file, line.line) for other in training for line in other}
    used: list[set[str]] = []  # by line: kinds of words for what is evaluated
    named: set[str] = set()  # kinds of words for the result
    for line in own:
        training_lines = {number for file, number in trains if file == line.file}
        chain = _chain(line)
        if chain and not _covers_any(chain[0], training_lines):
            named |= _kinds([line.function])
        used.append(_kinds(_words_used(chain, training_lines)))
        named |= _kinds(_words_of_results(chain, training_lines, line.file))
    if {"validation"} in used and {"training"} not in used:
        return "validation"
    return "training" if named.union(*used) == {"training"} and "training" in named else "unknown"


def _kinds(words: Iterable[str]) -> set[str]:
    parts = {part.lower() for word in words for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", word)}
    return {kind for kind, pattern in KINDS.items() if any(map(pattern.match, parts))}


def _chain(line: CodeLocation) -> list[ast.AST]:
    """Return the nodes around a line, from the innermost function to the innermost statement."""
    node: ast.AST | None = syntax_tree(line.file)
    chain: list[ast.AST] = []
    while node is not None:
        chain = [] if isinstance(node, _Function) else chain
        chain.append(node)
        inner = [one for one in ast.iter_child_nodes(node) if _covers(one, line.line)]
        statements = [one for one in inner if not isinstance(one, ast.expr) or isinstance(one, ast.Lambda)]
        node = statements[-1] if statements else None
    return chain


def _covers(node: ast.AST, line: int) -> bool:
    first, last = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
    return first is not None and last is not None and first <= line <= last


def _covers_any(node: ast.AST, lines: Iterable[int]) -> bool:
    return any(_covers(node, line) for line in lines)


def _words_used(chain: list[ast.AST], training: set[int]) -> Iterator[str]:
    """Yield the words of the statement, and of the heads of loops around it that do not also train."""
    for node in chain:
        if _covers_any(node, training) or isinstance(node, ast.Module | _Function):
            continue
        if isinstance(node, _Loop):
            yield from _all_words(node.target)
            yield from _all_words(node.iter)
        elif isinstance(node, ast.stmt) and not hasattr(node, "body"):
            yield from _all_words(node)


def _words_of_results(chain: list[ast.AST], training: set[int], file: str) -> Iterator[str]:
    """Yield what the statements around the evaluation assign, print and call, as far as they do not train."""
    for node, inner in pairwise(chain):
        if _covers_any(inner, training):
            continue
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(block, list) and inner in block:
                beside = list(_beside(block, inner, training))
                yield from _results(beside)
                yield from _comments(beside, file)


def _beside(block: list[ast.stmt], inner: ast.AST, training: set[int]) -> Iterator[ast.stmt]:
    """Yield the statements around ``inner``, up to the next ones that train or define something."""
    index = next(number for number, one in enumerate(block) if one is inner)
    for statements in (block[index:], block[:index][::-1]):
        for statement in statements:
            if _covers_any(statement, training) or isinstance(statement, _Function | ast.ClassDef):
                break
            yield statement


def _results(statements: Iterable[ast.stmt]) -> Iterator[str]:
    for node in (one for statement in statements for one in ast.walk(statement)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def _comments(statements: list[ast.stmt], file: str) -> Iterator[str]:
    """Yield the comments in and above the statements."""
    lines = source_lines(file)
    for statement in statements:
        above = max(0, statement.lineno - 2)
        for line in lines[above : statement.end_lineno or statement.lineno]:
            yield line.partition("#")[2]


def _all_words(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Name):
            yield one.id
        elif isinstance(one, ast.Attribute) and one.attr != "eval":
            yield one.attr
        elif isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value
