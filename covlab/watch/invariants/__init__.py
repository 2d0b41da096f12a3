"""The invariants of a training step, one file each.

To add one, add a file ``wNN_what_holds.py`` with a subclass of ``Invariant``. No other file needs a change.
"""

import importlib
import pkgutil
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

from covlab.watch.finding import Finding, Verdict
from covlab.watch.invariants.bounded_memory import Occurrences, OccurrencesByLocation
from covlab.watch.invariants.framework_advice import Action, framework_advice
from covlab.watch.seen.events import GradientsCleared, Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.observation import Observation, Part

Findings = Iterator[Finding]


class Invariant:
    """Something that holds in every correct training loop.

    An instance receives the events of one run. At the end it returns its findings, or why it had nothing to check.

    Attributes:
        code: "W" and two digits, as in the name of the file.
        title: what holds, as a sentence.
        meaning: what that means and why it matters, in two or three sentences.
        example: a loop of about a dozen lines that breaks it, after ``import torch``. It runs under a watch ``w``.
        ranks: how many processes the example needs, under torchrun.
        limits: when the invariant stays silent, and what it does not know.
        rank: order of findings with the same verdict. The best explanation of a run that does not learn comes first.
        fault_stays: whether a fault is something that has happened, so that it may be told while the loop runs. It is
            False where something has not happened yet (a parameter without a gradient so far may get one), and where
            an average decides.
        is_about_the_job: whether rank 0 tells for all ranks of a job.
        consequences: codes of findings that a fault of this invariant explains. They are shown below it.
        needs: parts of the observation without which it cannot be checked. Steps are always needed.
        fix: what to do about a finding that has no advice of its own.
        actions: {advice: what it does}, for advice that reads differently where a framework runs the loop.
        nothing_to_check: why the invariant was not checked if ``checked`` stays 0; None: this is never reported.
        steps_for_fault: from this many steps on, a problem that correct loops also have for a few steps is a fault.
        checked: how many steps (or windows, or logged losses) could be checked.
        violations: the steps in which it did not hold, by line of code.
        seen: the whole run; set before ``find``.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    meaning: ClassVar[str]
    example: ClassVar[str]
    ranks: ClassVar[int] = 1
    limits: ClassVar[str]
    rank: ClassVar[int]
    fault_stays: ClassVar[bool] = False
    is_about_the_job: ClassVar[bool] = False
    consequences: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[Part, ...]] = ()
    fix: ClassVar[str]
    actions: ClassVar[dict[str, Action]] = {}
    fix_nothing: ClassVar[str] = "nothing, if you intended this"
    nothing_to_check: ClassVar[str | None] = None
    steps_for_fault: ClassVar[int] = 10

    seen: Observation

    def __init_subclass__(cls) -> None:
        """Take the code from the name of the file."""
        cls.code = cls.__module__.rpartition(".")[2][:3].upper()

    def __init__(self) -> None:
        self.checked = 0
        self.violations = OccurrencesByLocation()

    def on_step(self, step: Step) -> None:
        """Receive one step of an optimizer."""

    def on_cleared(self, cleared: GradientsCleared) -> None:
        """Receive gradients that were cleared before any step used them."""

    def on_logged_loss(self, step_number: int, loss: float) -> None:
        """Receive a loss that the loop logs after ``step_number`` steps."""

    def find(self) -> Findings:
        """Yield what was found in the whole run."""
        raise NotImplementedError

    def finish(self, seen: Observation) -> list[Finding]:
        """Return what was found in the whole run."""
        self.seen = seen
        return list(self.find())

    def unchecked(self, seen: Observation) -> str | None:
        """Return why there was nothing to check; None if the invariant was checked."""
        return None if self.checked else self.nothing_to_check

    def found(
        self,
        at: Occurrences | CodeLocation | None,
        verdict: Verdict,
        says: str,
        fix: str | None = None,
        *,
        number: float | None,
        times: int = 1,
    ) -> Finding:
        """Return a finding about occurrences, or about a line and ``times``. ``fix`` None: the invariant's own."""
        if not isinstance(at, Occurrences):
            at = Occurrences(at, times)
        fix = self.fix if fix is None else fix
        if fix in self.actions:
            fix = framework_advice(at.location, self.actions[fix]) or fix
        return Finding(self.title, self.code, verdict, number, says, fix, at.location, at.count, at.first, at.last)


def first_few(names: Iterable[str], most: int = 4) -> str:
    """Return the first ``most`` names in alphabetical order, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


def _find_invariants() -> tuple[type[Invariant], ...]:
    """Import the file of every invariant, and return the classes in the order of their codes."""
    for module in pkgutil.iter_modules(__path__):
        if re.match(r"w\d\d_", module.name):
            importlib.import_module(f"{__name__}.{module.name}")
    return tuple(sorted(Invariant.__subclasses__(), key=lambda invariant: invariant.code))


INVARIANTS = _find_invariants()
TITLES = {invariant.code: invariant.title for invariant in INVARIANTS}
