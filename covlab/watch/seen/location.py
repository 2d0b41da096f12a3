"""Find the line of the user's own code that is running."""

import linecache
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Literal

import torch

_TORCH = str(Path(torch.__file__).parent)
_WATCH = str(Path(__file__).parents[1])
_STANDARD_LIBRARY = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})


@dataclass(frozen=True)
class CodeLocation:
    """A line of somebody's code."""

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
        name = short_path(self.file)
        return f"{name}, line {self.line}" if " " in name else f"{name}:{self.line}"


def short_path(file: str) -> str:
    """Return the path relative to the current folder if it lies below it, else its last two parts.

    A notebook's cell is called that.
    """
    path = Path(file)
    if "ipykernel_" in file or file.startswith("<ipython-input"):
        return "a cell of this notebook"
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return "/".join(path.parts[-2:])


@lru_cache(maxsize=4096)
def _owner(file: str) -> Literal["user", "library", "internal"]:
    """Return whose code a file is; torch, the watch and the standard library are internal."""
    if file.startswith((_TORCH, _WATCH, "<frozen")) or file == "<string>":
        return "internal"
    if "site-packages" in file or "dist-packages" in file:
        return "library"
    return "internal" if file.startswith(_STANDARD_LIBRARY) else "user"


@lru_cache(maxsize=4096)
def _location(file: str, line: int, function: str) -> CodeLocation:
    return CodeLocation(file, line, function)


def caller_location() -> CodeLocation | None:
    """Return the innermost running line of the user's own code; if there is none, that of a library."""
    frame: FrameType | None = sys._getframe(1)
    library = None
    while frame is not None:
        owner = _owner(frame.f_code.co_filename)
        if owner == "user" or (owner == "library" and library is None):
            location = _location(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            if owner == "user":
                return location
            library = location
        frame = frame.f_back
    return library


def called_from(file: str) -> bool:
    """Return whether ``file`` made the call that the watch is handling, as a schedule calls a schedule within it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_WATCH):
        frame = frame.f_back
    return frame is None or frame.f_code.co_filename == file
