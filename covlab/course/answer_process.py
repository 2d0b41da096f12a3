"""Run a student's answers, each in a process of its own, and send back what they returned. Nothing is judged here.

    python -m covlab.course.answer_process GRADER

GRADER is the process id of `covlab.course.grading`, which writes a request per line to standard input and reads the
replies from standard output, one JSON object per line:

    {"exercise": id, "cells": [source], "attempt": 0, "seconds": 30, "bytes": 2000000000}
    {"ready": true}                             PyTorch is loaded
    {"attempt": false}                          the notebook has no such attempt
    {"attempt": number of the cell that defines the answer, "results": [one per case]} or {…, "value": …}
    {…, "stopped": the reason}                  the answer did not run to its end
    {"ended": exit code}                        the process of the answer ended

Attempts are counted from the last `check` of the exercise backwards. This process loads PyTorch once, and then forks
for each request. Where there is no fork (Windows), it answers one request itself and ends. An answer can write whatever
it likes to the channel, but all that the grader takes from there are results, which it compares with the correct ones.
"""

import ast
import base64
import dis
import gc
import json
import linecache
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import CodeType
from typing import Any, NoReturn

import numpy as np
import psutil
import torch

from covlab.course.exercises import Exercise, all_exercises
from covlab.course.exercises.compare import kind
from covlab.course.exercises.judging import NoAnswer, Result, draw_cases, try_answer
from covlab.course.lesson_processes import adopt_orphans, end_with_parent, kill_descendants

if sys.platform != "win32":
    import resource

LARGEST_FILE = 50_000_000  # bytes that an answer may write to a file
MAGIC = re.compile(r"^\s*[%!?].*$", re.MULTILINE)
DEFINED = re.compile(r"^(?:def|class)\s+(\w+)|^(\w+)\s*=", re.MULTILINE)


# A student's notebook


@dataclass(frozen=True)
class Statement:
    """A statement at the top level of a cell. binds, reads: names. code: None if its cell is no Python."""

    cell: int
    code: CodeType | None
    binds: frozenset[str]
    reads: frozenset[str]
    error: SyntaxError | None = None


def find_attempt(exercise: Exercise, cells: list[str], attempt: int) -> tuple[list[Statement], str] | None:
    """Return what runs before one `check` of the exercise, and the expression that it judges.

    Without a `check`, the answer is what has the exercise's name in the end.
    """
    trees = [_parsed(cell) for cell in cells]
    checks = [
        (number, ast.unparse(answer))
        for number, tree in enumerate(trees)
        if isinstance(tree, ast.Module)
        for answer in _checked(tree, exercise.id)
    ]
    before = [each for number, tree in enumerate(trees) for each in _statements(number, cells[number], tree)]
    if not checks and any(exercise.name in each.binds for each in before):
        checks = [(len(cells), exercise.name)]
    if attempt >= len(checks):
        return None
    number, expression = checks[-1 - attempt]
    return [each for each in before if each.cell <= number], expression


def answer_of(statements: list[Statement], expression: str) -> tuple[int, Any]:
    """Return the number of the cell that defines the answer, and the answer. Raises NoAnswer if there is none.

    Only those statements run that bind a name which the answer needs, not the rest of the lesson.
    """
    code = compile(expression, "<check>", "eval")
    needed = _reads(code)
    while added := {name for each in statements if each.binds & needed for name in each.reads} - needed:
        needed |= added
    direct = _reads(code)
    cell = max((each.cell for each in statements if each.binds & direct), default=-1)
    names: dict[str, Any] = {"__name__": "__main__"}
    failed = ""
    for each in statements:
        if each.binds & needed or "*" in each.binds:
            try:
                if each.code is None:
                    raise each.error or SyntaxError("no Python")
                exec(each.code, names)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a notebook goes on after a cell that fails
                failed = f"Cell {each.cell + 1} stops with {type(error).__name__}: {error}."
                for name in each.binds:
                    names.pop(name, None)
    try:
        return cell, eval(code, names)
    except (Exception, SystemExit) as error:
        raise NoAnswer(failed or f"The answer cannot be read: {type(error).__name__}: {error}.") from error


def _parsed(cell: str) -> ast.Module | SyntaxError:
    """Parse a cell, without IPython's magics. A cell that is no Python gives the error."""
    try:
        return ast.parse(cell)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        try:
            return ast.parse(MAGIC.sub("", cell))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return error if isinstance(error, SyntaxError) else SyntaxError(str(error))


def _checked(tree: ast.Module, exercise: str) -> Iterator[ast.expr]:
    """Yield the second argument of each `check` of the exercise, in order."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        name = getattr(call.func, "id", getattr(call.func, "attr", None))
        given = [*call.args, *(each.value for each in sorted(call.keywords, key=lambda each: each.arg != "exercise"))]
        if name == "check" and len(given) == 2 and isinstance(given[0], ast.Constant) and given[0].value == exercise:
            yield given[1]


def _statements(number: int, cell: str, tree: ast.Module | SyntaxError) -> Iterator[Statement]:
    if isinstance(tree, SyntaxError):
        defined = frozenset(name for found in DEFINED.findall(cell) for name in found if name)
        yield Statement(number, None, defined, frozenset(), tree)
        return
    file = f"<cell {number + 1}>"
    linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)  # findings quote a line
    for statement in tree.body:
        try:
            code = compile(ast.Module([statement], []), file, "exec")
        except (SyntaxError, ValueError, RecursionError) as error:
            yield Statement(number, None, frozenset(), frozenset(), SyntaxError(str(error)))
            continue
        binds = {each.argval for each in dis.get_instructions(code) if each.opname in ("STORE_NAME", "STORE_GLOBAL")}
        if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
            binds.add("*")
        # What changes an object by its name, such as `weights["x"] = 1`, belongs to the name.
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        binds |= {root.id for root in map(_root, targets) if isinstance(root, ast.Name)}
        yield Statement(number, code, frozenset(binds), _reads(code))


def _root(target: ast.expr | None) -> ast.expr | None:
    """Return the object of which a subscript or an attribute is assigned to."""
    while isinstance(target, ast.Subscript | ast.Attribute):
        target = target.value
    return target


def _reads(code: CodeType) -> frozenset[str]:
    """Return the global names that code reads, also within functions."""
    own = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_NAME", "LOAD_GLOBAL")}
    return frozenset(own).union(*(_reads(each) for each in code.co_consts if isinstance(each, CodeType)))


# Results on their way to the grader


def encoded(value: Any) -> Any:
    """Return a result as JSON can hold it. What is no number, text, tensor or collection of them becomes its type."""
    if value is None or type(value) in (bool, float, str):
        return value
    if type(value) is int and abs(value) < 10**300:
        return value
    if isinstance(value, torch.Tensor):
        plain = value.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
        dtype = str(plain.dtype).removeprefix("torch.")
        data = base64.b64encode(plain.reshape(-1).view(torch.uint8).numpy().tobytes()).decode()
        return {"tensor": dtype, "shape": list(plain.shape), "data": data}
    if isinstance(value, np.ndarray | np.generic):
        return {"array": encoded(torch.as_tensor(np.asarray(value)))}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if value is ...:
        return {"ellipsis": True}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [encoded(each) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[encoded(key), encoded(each)] for key, each in value.items()]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    return {"other": type(value).__name__}


def decoded(value: Any) -> Any:
    """Return what `encoded` was given. Raises ValueError, TypeError or KeyError for anything else."""
    if not isinstance(value, dict):
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ValueError("not a result")
    [(form, content)] = [pair for pair in value.items() if pair[0] not in ("shape", "data")]
    if form == "tensor":
        dtype = getattr(torch, content)
        data = base64.b64decode(value["data"], validate=True)
        shape = [int(size) for size in value["shape"]]
        if not isinstance(dtype, torch.dtype) or min(shape, default=0) < 0:
            raise ValueError("not a tensor")
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError("not as many numbers as its shape has")
        return (
            torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape) if data else torch.empty(shape, dtype=dtype)
        )
    if form == "array":
        return decoded(content).numpy()
    if form == "complex":
        real, imaginary = content
        return complex(real, imaginary)
    if form == "ellipsis":
        return ...
    if form in ("list", "tuple"):
        return (tuple if form == "tuple" else list)(decoded(each) for each in content)
    if form == "dict":
        return {decoded(key): decoded(each) for key, each in content}
    if form == "range":
        return range(*map(int, content))
    if form == "other" and isinstance(content, str) and content.isidentifier():
        return type(content, (), {})()
    raise ValueError("not a result")


def _sent(result: Result) -> dict[str, Any]:
    try:
        got = encoded(result.got)
    except Exception:  # noqa: BLE001 - such as a tensor that is sparse, or an object that raises when it is looked at
        got = {"other": type(result.got).__name__}
    return {"got": got, "changed": list(result.changed), "left": list(result.left)}


# Processes


def answer(request: dict[str, Any], exercise: Exercise) -> dict[str, Any]:
    """Run one attempt, and return the reply."""
    found = find_attempt(exercise, request["cells"], request["attempt"])
    if found is None:
        return {"attempt": False}
    cell = -1
    try:
        cell, given = answer_of(*found)
        if exercise.draw is None:
            known = isinstance(given, str) or given is None or given is ...
            return {"attempt": cell, "value": encoded(given if known else kind(given))}
        results = []
        for result in try_answer(exercise, given, draw_cases(exercise)):
            if result.stopped:
                return {"attempt": cell, "stopped": result.stopped[:2000]}
            results.append(_sent(result))
        return {"attempt": cell, "results": results}
    except NoAnswer as none:
        return {"attempt": cell, "stopped": str(none)[:2000]}


def _limit(seconds: float, more_bytes: int) -> None:
    """Limit processor time, memory, files and (except for root) new processes, where the system can."""
    if sys.platform == "win32":
        return
    memory = psutil.Process().memory_info().vms + more_bytes  # PyTorch alone maps much more than it uses
    most = math.ceil(seconds) + 5  # a second line of defense: the grader stops the clock
    limits = {"CPU": most, "AS": memory, "FSIZE": LARGEST_FILE, "CORE": 0, "NPROC": 0}
    for name, limit in limits.items():
        with suppress(ValueError, OSError, AttributeError):  # macOS has no limit of the address space
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))


def _answer_and_exit(request: dict[str, Any], exercise: Exercise, channel: int) -> NoReturn:
    own = os.getpid()
    code = 1
    try:
        _limit(request["seconds"], request["bytes"])
        reply = json.dumps(answer(request, exercise))
        if os.getpid() == own:  # an answer that forks comes here twice
            _send(channel, reply)
            code = 0
    finally:
        os._exit(code)  # no thread, and no exit handler of the answer, runs on


def _send(channel: int, reply: str) -> None:
    data = memoryview(reply.encode("ascii") + b"\n")
    while data:
        data = data[os.write(channel, data) :]


def _main() -> None:
    end_with_parent(int(sys.argv[1]), lambda: kill_descendants(os.getpid()))
    adopt_orphans()
    torch.set_num_threads(1)  # a fork is safe only before torch has started a thread
    exercises = all_exercises()
    gc.freeze()  # else every child collects and copies what all of them share
    requests, channel = os.fdopen(os.dup(0), "rb"), os.dup(1)
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        os.dup2(os.open(os.devnull, mode), number)
    _send(channel, json.dumps({"ready": True}))
    for line in requests:
        request = json.loads(line)
        exercise = exercises[request["exercise"]]
        if not hasattr(os, "fork"):
            _answer_and_exit(request, exercise, channel)
        child = os.fork()
        if not child:
            requests.close()
            end_with_parent(os.getppid())
            _answer_and_exit(request, exercise, channel)
        _, status = os.waitpid(child, 0)
        kill_descendants(os.getpid())
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # the orphans that ended here
                pass
        _send(channel, json.dumps({"ended": os.waitstatus_to_exitcode(status)}))


if __name__ == "__main__":
    _main()
