"""A fault as a typed switch: what it replaces, what it changes, and the context that turns it on."""

import ast
import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from covlab.arguments import one_of
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
    """One bug: the method it replaces, its effects, and how to detect it."""

    seam: str  #: the method it replaces, as "Class.method"
    replacement: Callable
    title: str
    changes: str  #: what is different in a run with the fault
    unaffected: str  #: what stays correct
    observable: str  #: name of the observable in :mod:`covlab.faults.evidence` that detects it
    seen_in: str  #: where it happened
    #: what a run needs to show the fault: arguments of :func:`covlab.faults.small_run.small_run`
    setting: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.replacement.__name__

    @property
    def group(self) -> str:
        """One of ``GROUPS``, by the module of the fault."""
        return self.replacement.__module__.rpartition(".")[2].removesuffix("_faults")

    @property
    def original(self) -> Callable:
        """The correct method."""
        owner, method = self.seam.split(".")
        return getattr(_OWNERS[owner], method)

    def diff(self) -> str:
        """Return the unified diff from the correct code to the buggy code, read from their sources."""
        correct, buggy = _body(self.original), _body(self.replacement)
        return "\n".join(difflib.unified_diff(correct, buggy, self.seam, self.name, lineterm="", n=99))


FAULTS: dict[str, Fault] = {}


def fault(seam: str, **about: Any) -> Callable[[Replacement], Replacement]:
    """Register the decorated function as a fault: it replaces ``seam``; ``about`` holds the other fields of `Fault`."""

    def register(replacement: Replacement) -> Replacement:
        FAULTS[replacement.__name__] = Fault(seam, replacement, **about)
        return replacement

    return register


@contextmanager
def inject(*names: str) -> Iterator[None]:
    """Give the named faults to all trainers, losses, weights, simulators and scene streams made in this context.

    An object gets its faults when it is made, in this thread, and keeps them. So make all objects of a run in here.
    ``Trainer.faults`` names the faults of a trainer made inside, or made from a scene stream made inside. Scenes
    drawn directly from a faulty simulator carry no such record.

    Raises:
        ValueError: a name is unknown, or two faults replace the same method.
    """
    seams = dict(replaced_seams.get())
    for name in names:
        one_of(FAULTS).check("fault", name)
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
    """Return the function's lines without decorators, signature and docstring."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    definition = next(node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.FunctionDef))
    first, has_docstring = definition.body[0], ast.get_docstring(definition) is not None
    return textwrap.dedent("\n".join(lines[first.end_lineno if has_docstring else first.lineno - 1 :])).splitlines()
