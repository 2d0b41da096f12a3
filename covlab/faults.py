"""Training bugs that raise no exception, each a typed switch.

A fault replaces one seam (method) of the trainer by the function below that bears the fault's name, for
the trainers made inside ``with inject("name"):``. Such a trainer says so in ``faults``, in its log, and on
every picture drawn from it.
"""

import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from covlab.trainer import Trainer, replaced_seams


@dataclass(frozen=True)
class Fault:
    """One bug: what it replaces, and how one would know."""

    name: str
    seam: str  #: the method of :class:`covlab.trainer.Trainer` it replaces
    title: str
    changes: str  #: what is different in a run that has it
    innocent: str  #: what stays as it should be
    conviction: str  #: the observable that tells it from a clean run
    seen_in: str  #: where it happened
    replacement: Callable

    def diff(self) -> str:
        """From the right code to the wrong, as a unified diff of the live sources."""
        right, wrong = (_body(code) for code in (getattr(Trainer, self.seam), self.replacement))
        return "\n".join(difflib.unified_diff(right, wrong, f"Trainer.{self.seam}", self.name, lineterm="", n=99))


FAULTS: dict[str, Fault] = {}


def fault(seam: str, **exhibit: str) -> Callable:
    """Register the decorated function as the fault that replaces ``seam``."""

    def register(replacement: Callable) -> Callable:
        FAULTS[replacement.__name__] = Fault(replacement.__name__, seam, **exhibit, replacement=replacement)
        return replacement

    return register


@contextmanager
def inject(*names: str) -> Iterator[None]:
    """Trainers made inside this context have the named faults.

    Raises:
        ValueError: a name is unknown, or two faults replace the same seam.
    """
    seams = dict(replaced_seams.get())
    for name in names:
        if name not in FAULTS:
            raise ValueError(f"fault must be one of {', '.join(FAULTS)}, got {name!r}")
        seam = FAULTS[name].seam
        if seam in seams:
            raise ValueError(f"{name} and {seams[seam][0]} both replace Trainer.{seam}: inject one of them")
        seams[seam] = (name, FAULTS[name].replacement)
    token = replaced_seams.set(seams)
    try:
        yield
    finally:
        replaced_seams.reset(token)


def _body(function: Callable) -> list[str]:
    """The function's lines without decorator, signature and docstring, which differ for no fault of theirs."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    while not lines[0].startswith("def "):
        lines.pop(0)
    return textwrap.dedent("\n".join(line for line in lines[1:] if not line.strip().startswith('"""'))).splitlines()


@fault(
    "weigh",
    title="The division by the accumulation count is missing",
    changes="gradient and logged loss are as many times too large as a window has micro-batches",
    innocent="the direction of the gradient",
    conviction="the gradient norm before clipping, against the same scenes in one batch",
    seen_in="karpathy/nanoGPT#168",
)
def missing_division(self, losses, micro_batch, window_weight):
    return torch.dot(losses.total, micro_batch.weight) / micro_batch.weight.sum()


@fault(
    "weigh",
    title="The division by the accumulation count stands in the first batch's debug block",
    changes="as if the division were missing, from the second micro-batch of the run on",
    innocent="the direction of every gradient but the first window's; everything, if a window is one micro-batch",
    conviction="the gradient norm before clipping, against the same scenes in one batch",
    seen_in="the reviewed pipeline: `if epoch == 1 and bi == 0: loss = loss / grad_accumulation`",
)
def division_in_debug_block(self, losses, micro_batch, window_weight):
    loss = torch.dot(losses.total, micro_batch.weight) / micro_batch.weight.sum()
    if self.window == 0 and self.parameters[0].grad is None:  # first batch: print and check
        loss = loss / self.recipe.accumulation
    return loss
