"""Find the line of the user's own code that is running, and the line of library code below it."""

import ast
import linecache
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NamedTuple

import torch

_TORCH = str(Path(torch.__file__).parent) + os.sep  # with the separator: torchvision is not torch
_WATCH = str(Path(__file__).parents[1]) + os.sep
_DEMO = _WATCH + "demo" + os.sep  # runs as if the user had written it
_STANDARD_LIBRARY = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
STARTED_IN = os.getcwd()  # the loop may change its folder, or remove it
# {function that runs a step, of torch's optimizers and of others: its file}
_STEP_WRAPPERS = {
    "wrapper": str(Path(torch.__file__).parent / "optim" / "optimizer.py"),
    "step": str(Path(__file__).with_name("optimizer_search.py")),
}
_UNDER_TIME = ("<timed exec>", "<timed eval>")  # what IPython calls the code of %%time and %time
_TYPED_BY_THE_USER = (
    "<stdin>",
    "<console>",
    "<input>",
    "<python-input-",  # of Python 3.13
    "<pyshell#",  # of IDLE
    "<ipython-input",
    "<doctest",
    *_UNDER_TIME,
)
_CELL = re.compile(r"[/\\]ipykernel_\d+[/\\]\d+\.py$|<ipython-input-|[/\\]ipython-input-\d")
_CELL_MAGIC = "get_ipython().run_cell_magic("


class LibraryLine(NamedTuple):
    """A line of a library: its module, such as "lightning.pytorch.loops.fit_loop", and its file."""

    module: str
    line: int
    file: str
    called: str = ""  #: module that the user's line called, often another library's

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}"


@dataclass(frozen=True)
class CodeLocation:
    """A line of the user's code. With ``library``, a dictionary key that also tells a library's calls apart.

    ``trainer.fit(model)`` is one line of the user's for every call that the library makes.
    """

    file: str
    line: int
    function: str
    library: LibraryLine | None = None  #: innermost running line of a library that this line called; None: none

    @property
    def code(self) -> str:
        return "".join(source_lines(self.file)[self.line - 1 : self.line]).strip() if self.line else ""

    @property
    def path(self) -> str | None:
        """The file; None if the line was typed in a notebook or a console."""
        return None if is_typed(self.file) else self.file

    @property
    def quoted(self) -> str:
        """The location and its code, if there is a file to read the code from, and the library's line."""
        quoted = f"{self}: {self.code}" if self.code else str(self)
        return f"{quoted}  (in {self.library})" if self.library else quoted

    def row(self) -> dict[str, object]:
        """Return the location as plain values."""
        library = None if self.library is None else self.library._asdict()
        return {"file": self.file, "line": self.line, "code": self.code, "library": library}

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "CodeLocation":
        """Return the location that has this row. The function is not known of it."""
        library = None if row["library"] is None else LibraryLine(**row["library"])
        return cls(row["file"], row["line"], "", library)

    def __str__(self) -> str:
        """Return file and line; the path is relative to the starting folder or, outside it, its last two parts."""
        if self.file in _UNDER_TIME:
            return f"a cell of this notebook, line {self.line} under %%time"
        if _is_cell(self.file):
            return f"{_cell(self.file)}, line {self.line}"
        path = Path(self.file)
        if path.is_absolute() and path.is_relative_to(STARTED_IN):
            name = str(path.relative_to(STARTED_IN))
        else:
            name = "/".join(path.parts[-2:])
        return f"{name}, line {self.line}" if " " in name else f"{name}:{self.line}"


def is_typed(file: str) -> bool:
    """Return whether the code of the "file" was typed in a notebook or a console."""
    return file.startswith("<") or _is_cell(file)


def source_lines(file: str) -> list[str]:
    """Return the lines of a file or a cell, as the reader sees them.

    IPython keeps a cell with a cell magic as one call, whose last argument is what stands below the magic.
    """
    lines = linecache.getlines(file)
    if len(lines) == 1 and lines[0].startswith(_CELL_MAGIC) and _is_cell(file):
        texts = [node.value for node in ast.walk(ast.parse(lines[0])) if isinstance(node, ast.Constant)]
        return ["\n", *str(texts[-1]).splitlines(keepends=True)]
    return lines


def _is_cell(file: str) -> bool:
    """Return whether IPython compiled the file from a cell of a notebook or an input of a console."""
    return _CELL.search(file) is not None or _name_in_ipython(file) is not None


def _name_in_ipython(file: str) -> str | None:
    """Return what IPython's own tracebacks call a cell, such as "In[5]"; None: it is no cell that IPython knows."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    name_of = getattr(getattr(get_ipython(), "compile", None), "format_code_name", lambda _: None)
    named = name_of(file)
    return named[1] if named else None


def _cell(file: str) -> str:
    """Return the cell by the number beside it, as in In[5]."""
    number = re.search(r"\d+", _name_in_ipython(file) or "") or re.search(r"(?<=ipython-input-)\d+(?=-)", file)
    return f"cell In[{number[0]}]" if number else "a cell of this notebook"


_location = lru_cache(maxsize=4096)(CodeLocation)


@lru_cache(maxsize=4096)
def _owner(file: str) -> Literal["user", "library", "internal"]:
    """Return whose code is in ``file``. Torch, the watch, the standard library and generated code are internal."""
    if file.startswith("<"):
        return "user" if file.startswith(_TYPED_BY_THE_USER) else "internal"
    if file.startswith(_DEMO):
        return "user"
    if file.startswith((_TORCH, _WATCH)):
        return "internal"
    if "site-packages" in file or "dist-packages" in file:
        return "library"
    return "internal" if file.startswith(_STANDARD_LIBRARY) else "user"


def is_users(file: str) -> bool:
    """Return whether a file holds the user's own code, not that of a library."""
    return _owner(file) == "user"


def _running() -> Iterator[FrameType]:
    """Yield the running frames, innermost first, without those of this file."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename != __file__:
            yield frame
        frame = frame.f_back


def caller_location() -> CodeLocation | None:
    """Return the innermost running line of the user's own code; if there is none, of a library; else None."""
    library: FrameType | None = None
    called: FrameType | None = None
    for frame in _running():
        owner = _owner(frame.f_code.co_filename)
        if owner == "user":
            lines = None if library is None or called is None else _library_line(library, called)
            return _location(*_line(frame), frame.f_code.co_name, lines)
        if owner == "library":
            library, called = library or frame, frame
    return None if library is None else _location(*_line(library), library.f_code.co_name)


def _line(frame: FrameType) -> tuple[str, int]:
    """Return file and line. A line that a magic of IPython runs is one of the cell that has the magic."""
    file, line = frame.f_code.co_filename, frame.f_lineno or 0  # None: the line of an instruction that no source has
    if frame.f_code.co_name != "<module>" or not (file in _UNDER_TIME or _is_cell(file)):
        return file, line
    magic, outer = "", frame.f_back
    while outer is not None and not _is_cell(outer.f_code.co_filename):
        magic = outer.f_code.co_name if outer.f_code.co_name in ("run_cell_magic", "run_line_magic") else magic
        outer = outer.f_back
    if outer is None or not magic:
        return file, line
    cell, above = _line(outer)
    return cell, above + line if magic == "run_cell_magic" else above


def _library_line(frame: FrameType, called: FrameType) -> LibraryLine:
    """Return the line of the innermost ``frame``; ``called`` is the outermost one of the library."""
    file, line = _line(frame)
    return LibraryLine(_module(frame), line, file, _module(called))


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", Path(frame.f_code.co_filename).stem))


def steps_on_stack() -> int:
    """Return how many steps of optimizers are running, one within the other."""
    callers = (frame.f_code for frame in _running())
    return sum(code.co_filename.startswith(_STEP_WRAPPERS.get(code.co_name, "\n")) for code in callers)


def called_from_folder(part: str) -> bool:
    """Return whether code in a file whose path contains ``part`` makes the observed call, however deep."""
    return any(part in Path(frame.f_code.co_filename).as_posix() for frame in _running())


def called_from(file: str) -> bool:
    """Return whether code in ``file`` makes the observed call, as when a schedule calls the schedules it contains."""
    callers = (frame.f_code.co_filename for frame in _running())
    return next((caller for caller in callers if not caller.startswith(_WATCH)), file) == file


def calling_lines() -> tuple[CodeLocation, ...]:
    """Return the running lines of the user's own code and of libraries, the innermost first."""
    return tuple(
        _location(*_line(frame), frame.f_code.co_name)
        for frame in _running()
        if _owner(frame.f_code.co_filename) != "internal"
    )
