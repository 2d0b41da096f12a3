"""A fault as a typed switch: what it replaces, how one would know, and the context that turns it on."""

import ast
import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from covlab.scenes.simulator import Simulator
from covlab.scenes.streams import FreshScenes
from covlab.seams import replaced_seams
from covlab.training.loss import Loss, LossWeights
from covlab.training.trainer import Trainer

GROUPS = ("accumulation", "precision", "loss", "data")

Replacement = TypeVar("Replacement", bound=Callable)

_OWNERS: dict[str, type] = {owner.__name__: owner for owner in (Trainer, Loss, LossWeights, Simulator, FreshScenes)}


@dataclass(frozen=True)
class Fault:
    """One bug: what it replaces, and how one would know."""

    name: str
    group: str  #: one of ``GROUPS``
    seam: str  #: the method it replaces, as "Class.method"
    title: str
    changes: str  #: what is different in a run that has it
    unaffected: str  #: what stays as it should be
    observable: str  #: the key, in :mod:`covlab.faults.evidence`, of what convicts it
    seen_in: str  #: where it happened
    replacement: Callable
    #: what a run needs for the fault to show, for :func:`covlab.faults.small_run.small_run`
    setting: dict[str, Any] = field(default_factory=dict)

    @property
    def original(self) -> Callable:
        """The right code."""
        owner, method = self.seam.split(".")
        return getattr(_OWNERS[owner], method)

    def diff(self) -> str:
        """From the right code to the wrong, as a unified diff of the live sources."""
        right, wrong = _body(self.original), _body(self.replacement)
        return "\n".join(difflib.unified_diff(right, wrong, self.seam, self.name, lineterm="", n=99))


FAULTS: dict[str, Fault] = {}


def fault(
    seam: str,
    *,
    group: str,
    title: str,
    changes: str,
    unaffected: str,
    observable: str,
    seen_in: str,
    setting: dict[str, Any] | None = None,
) -> Callable[[Replacement], Replacement]:
    """Register the decorated function as the fault that replaces ``seam``, such as "Trainer.weigh"."""

    def register(replacement: Replacement) -> Replacement:
        name = replacement.__name__
        FAULTS[name] = Fault(
            name, group, seam, title, changes, unaffected, observable, seen_in, replacement, setting or {}
        )
        return replacement

    return register


@contextmanager
def inject(*names: str) -> Iterator[None]:
    """Trainers, losses, weights, simulators and streams of scenes made inside this context have the named faults.

    Make all of them inside: a fault takes hold of an object when it is made, in this thread, and for good.
    A trainer made inside, or of a stream of scenes made inside, says so in ``Trainer.faults``. Scenes drawn
    one by one from a faulty simulator do not remember it.

    Raises:
        ValueError: a name is unknown, or two faults replace the same method.
    """
    seams = dict(replaced_seams.get())
    for name in names:
        if name not in FAULTS:
            raise ValueError(f"fault must be one of {', '.join(FAULTS)}, got {name!r}")
        seam = FAULTS[name].seam
        if seam in seams:
            raise ValueError(f"{name} and {seams[seam][0]} both replace {seam}: inject one of them")
        seams[seam] = (name, FAULTS[name].replacement)
    token = replaced_seams.set(seams)
    try:
        yield
    finally:
        replaced_seams.reset(token)


def _body(function: Callable) -> list[str]:
    """The function's lines without decorators, signature and docstring, which differ for no fault of theirs."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    (definition,) = ast.parse("\n".join(lines)).body
    assert isinstance(definition, ast.FunctionDef)  # all that is replaced, or replaces
    statements = definition.body
    if isinstance(statements[0], ast.Expr) and isinstance(statements[0].value, ast.Constant):
        lines, statements = lines[statements[0].end_lineno :], statements[1:]
        return textwrap.dedent("\n".join(lines)).splitlines() if statements else []
    return textwrap.dedent("\n".join(lines[statements[0].lineno - 1 :])).splitlines()
