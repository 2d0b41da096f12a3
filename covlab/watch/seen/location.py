"""Find the line of the user's own code that is running."""

import linecache
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from traceback import walk_stack
from types import FrameType
from typing import Literal

import torch

_TORCH = str(Path(torch.__file__).parent)
_WATCH = str(Path(__file__).parents[1])
_STANDARD_LIBRARY = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


@dataclass(frozen=True)
class CodeLocation:
    """A line of code."""

    file: str
    line: int
    function: str

    @property
    def code(self) -> str:
        return linecache.getline(self.file, self.line).strip()

    @property
    def quoted(self) -> str:
        """The location and its code, if there is a file to read the code from."""
        return f"{self}: {self.code}" if self.code else str(self)

    def __str__(self) -> str:
        """Return file and line; the path is relative to the current folder or, outside it, its last two parts."""
        path = Path(self.file)
        if "ipykernel_" in self.file or self.file.startswith("<ipython-input"):
            return f"a cell of this notebook, line {self.line}"
        if path.is_absolute() and path.is_relative_to(Path.cwd()):
            name = str(path.relative_to(Path.cwd()))
        else:
            name = "/".join(path.parts[-2:])
        return f"{name}, line {self.line}" if " " in name else f"{name}:{self.line}"


_location = lru_cache(maxsize=4096)(CodeLocation)


@lru_cache(maxsize=4096)
def _owner(file: str) -> Literal["user", "library", "internal"]:
    """Return whose code is in ``file``. Torch, the watch and the standard library are internal."""
    if file.startswith((_TORCH, _WATCH, "<frozen")) or file == "<string>":
        return "internal"
    if "site-packages" in file or "dist-packages" in file:
        return "library"
    return "internal" if file.startswith(_STANDARD_LIBRARY) else "user"


def is_users(file: str) -> bool:
    """Return whether a file holds the user's own code, not that of a library."""
    return _owner(file) == "user"


def caller_location() -> CodeLocation | None:
    """Return the innermost running line of the user's own code; if there is none, of a library; else None."""
    library: FrameType | None = None
    for frame, _ in walk_stack(sys._getframe(1)):
        owner = _owner(frame.f_code.co_filename)
        if owner == "user":
            return _location(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        if owner == "library" and library is None:
            library = frame
    if library is None:
        return None
    return _location(library.f_code.co_filename, library.f_lineno, library.f_code.co_name)


def called_from(file: str) -> bool:
    """Return whether code in ``file`` makes the observed call, as when a schedule calls the schedules it contains."""
    callers = (frame.f_code.co_filename for frame, _ in walk_stack(sys._getframe(1)))
    return next((caller for caller in callers if not caller.startswith(_WATCH)), file) == file


def calling_lines() -> tuple[CodeLocation, ...]:
    """Return the running lines of the user's own code and of libraries, the innermost first."""
    return tuple(
        _location(frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in walk_stack(sys._getframe(1))
        if _owner(frame.f_code.co_filename) != "internal"
    )
