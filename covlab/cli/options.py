"""Options and error messages that several commands share, and the kinds of values that options take."""

import os
import re
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from covlab.arguments import SEED, Allowed

_abbreviated = reprlib.Repr()
_abbreviated.maxstring = 200
shown = _abbreviated.repr
"""Return the repr of what a person gave, abbreviated if it is long."""


class Number(click.ParamType):
    """A number of a ``kind`` (int or float) that is ``allowed``."""

    def __init__(self, kind: type[int] | type[float], allowed: Allowed):
        self.kind, self.allowed = kind, allowed.unless_none or allowed
        self.name = "integer" if kind is int else "float"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        try:
            found: object = self.kind(value)
        except (ValueError, OverflowError):
            found = value
        if not self.allowed.accepts(found):
            self.fail(f"must be {self.allowed.expected}, got {shown(value)}", parameter, context)
        return found


class Text(click.ParamType):
    """A text that is neither empty nor longer than any name."""

    name = "text"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        if not 0 < len(value) <= 500 or "\0" in value:
            self.fail(f"must be 1 to 500 characters without NUL, got {shown(value)}", parameter, context)
        return value


class Device(click.ParamType):
    """The name of a device that torch can use here."""

    name = "device"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        import torch

        reason = ""
        if re.fullmatch(r"cpu|cuda(:\d+)?", value):
            try:
                torch.empty(0, device=value)
            except (RuntimeError, AssertionError) as error:  # AssertionError: this torch was built without CUDA
                reason = f": {str(error).splitlines()[0]}"
            else:
                return value
        expected = "must be cpu, or cuda or cuda:NUMBER for a GPU of this machine"
        return self.fail(f"{expected}, got {shown(value)}{reason}", parameter, context)


class ExistingPath(click.Path):
    """The path of a file or folder that exists, unless ``kinds`` says otherwise."""

    def __init__(self, **kinds: bool):
        super().__init__(path_type=Path, **{"exists": True} | kinds)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if not str(value):  # Path("") would be the working folder
            self.fail("must be a path, got ''", parameter, context)
        try:
            os.stat(value)
        except FileNotFoundError:
            pass  # click says so, unless the path may be new
        except (OSError, ValueError) as error:  # ValueError: a path with NUL
            reason = getattr(error, "strerror", None) or error
            self.fail(f"must be a path, got {shown(str(value))} ({reason})", parameter, context)
        return super().convert(value, parameter, context)


class OutputFolder(ExistingPath):
    """The path of a folder that exists or can be made, and in which files can be made."""

    def __init__(self) -> None:
        super().__init__(exists=False, file_okay=False)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Path:
        path = super().convert(value, parameter, context)
        there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            self.fail(f"must be a folder that you may write in, got {str(value)!r}", parameter, context)
        return path


class OutputFile(ExistingPath):
    """The path of a file that exists or can be made, in a folder that exists."""

    def __init__(self) -> None:
        super().__init__(exists=False, dir_okay=False)

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Path:
        path = super().convert(value, parameter, context)
        if not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
            self.fail(f"must be a file that can be written, in a folder that exists, got {shown(value)}")
        return path


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


device_option = click.option(
    "--device", type=Device(), default=_best_device, show_default="cuda if available, else cpu"
)
seed_option = click.option(
    "--seed", type=Number(int, SEED), default=0, help="Seed of the scenes and the initial parameters."
)
storage_option = partial(click.option, "--storage", type=Text(), envvar="COVLAB_STORAGE", show_envvar=True)
no_browser_option = click.option("--no-browser", is_flag=True, help="Do not open a browser; only print the address.")


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether the host or the device had too little memory."""
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def refuse_twice(option: str, names: Iterable[str]) -> None:
    """Raise BadParameter if an ``option`` that may be repeated names something twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise click.BadParameter(f"must name each setting once, got {name} twice", param_hint=f"'{option}'")
        seen.add(name)


@contextmanager
def refusals(*kinds: type[Exception], prefix: str = "", usage: bool = False) -> Iterator[None]:
    """Show exceptions of these kinds as an error message without a traceback.

    The command exits with 1, or with 2 if the error is one of ``usage``: what came in the command is wrong.
    """
    try:
        yield
    except kinds as error:
        if isinstance(error, BrokenPipeError):  # nobody reads the output any more; click ends quietly
            raise
        kind = click.UsageError if usage else click.ClickException
        raise kind(f"{prefix}{error}") from error
