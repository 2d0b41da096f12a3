"""The invariants of a training step, one file each.

To add one, add a file ``wNN_what_holds.py`` with a subclass of ``Invariant``. Nothing else needs to know it.
"""

import importlib
import pkgutil
import re
from typing import ClassVar

from covlab.watch.finding import Finding, Verdict
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.events import GradientsCleared, Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.observation import Observation, Part


class Invariant:
    """Something that holds in every correct training loop.

    It sees every event of one run, and says at the end what it found and why it could not be checked.

    Attributes:
        code: "W" and two digits.
        title: what holds, as a sentence.
        rank: findings of one verdict are shown in this order. What best explains a run that does not learn comes
            first.
        consequences: codes of findings that a fault of this invariant explains; they are shown below it.
        needs: parts of the observation without which it cannot be checked. The steps are always needed.
        steps_for_fault: so many steps in a row make a fault of something that a few correct steps may show.
    """

    code: ClassVar[str]
    title: ClassVar[str]
    rank: ClassVar[int]
    consequences: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[Part, ...]] = ()
    steps_for_fault: ClassVar[int] = 10

    def on_step(self, step: Step) -> None:
        """See one step of an optimizer."""

    def on_cleared(self, cleared: GradientsCleared) -> None:
        """See that gradients were cleared before any step took them."""

    def on_logged_loss(self, step_number: int, loss: float) -> None:
        """See a loss that the loop logs, after so many steps."""

    def finish(self, seen: Observation) -> list[Finding]:
        """Return what was found."""
        raise NotImplementedError

    def unchecked(self, seen: Observation) -> str | None:
        """Return why the run had nothing to check; None if it was checked."""
        return None

    def found(
        self,
        at: Occurrences | CodeLocation | None,
        verdict: Verdict,
        says: str,
        fix: str,
        *,
        number: float | None,
        times: int = 1,
    ) -> Finding:
        """Return a finding at a line, or at the line and the steps of some occurrences, which then count ``times``."""
        if isinstance(at, Occurrences):
            where, times, first, last = at.location, at.count, at.first, at.last
            return Finding(self.title, self.code, verdict, number, says, fix, where, times, first, last)
        return Finding(self.title, self.code, verdict, number, says, fix, at, times)


def _find_invariants() -> tuple[type[Invariant], ...]:
    """Import every file of an invariant, and return the classes in the order of their codes."""
    for module in pkgutil.iter_modules(__path__):
        if re.match(r"w\d\d_", module.name):
            importlib.import_module(f"{__name__}.{module.name}")
    return tuple(sorted(Invariant.__subclasses__(), key=lambda invariant: invariant.code))


INVARIANTS = _find_invariants()
TITLES = {invariant.code: invariant.title for invariant in INVARIANTS}
