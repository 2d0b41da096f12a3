"""Find the first sure finding of a loop while the loop still runs."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Literal, get_args

from covlab.watch.finding import VERDICTS, Finding, Verdict, counted
from covlab.watch.invariants import INVARIANTS
from covlab.watch.report import Report, wrapped
from covlab.watch.script import print_error
from covlab.watch.seen.isolation import hidden_from_torch

StopOn = Literal["fault", "warning"]
STOP_ON: tuple[StopOn, ...] = get_args(StopOn)

STAYING = {invariant.code for invariant in INVARIANTS if invariant.fault_stays}

Tell = Callable[[Finding, int], None]


def steps_of_judgements() -> Iterator[int]:
    """Yield the numbers of steps after which the loop is judged: 10, 20, 50, 100, 200, 500, …"""
    return (factor * 10**power for power in count(1) for factor in (1, 2, 5))


class LiveFindings:
    """Judge a running loop after a few numbers of steps.

    A finding is sure if two judgements in a row make it, about the same line, and no later step can refute it
    (``Invariant.fault_stays``). So it needs at least 20 steps.

    Args:
        judge: returns the report so far.
        tell: gets the first sure finding, and the number of steps; None: nobody.
        end: ends the loop, by an exception; it gets the reason.
        stop_on: the least bad verdict that ends the loop; None: none does.
    """

    def __init__(
        self, judge: Callable[[], Report], tell: Tell | None, end: Callable[[str], None], stop_on: StopOn | None
    ) -> None:
        self.judge, self.tell, self.end, self.stop_on = judge, tell, end, stop_on
        self.verdicts: tuple[Verdict, ...] = VERDICTS[: VERDICTS.index(stop_on or "fault") + 1]
        self._steps = steps_of_judgements()
        self._next = next(self._steps)
        self._last: set[tuple[object, ...]] = set()
        self.sure: Finding | None = None
        self.reason = ""

    def stepped(self, steps: int) -> None:
        """Judge the loop, if it is time, after so many steps of all its optimizers."""
        if self.sure is None and steps >= self._next:
            self._look(steps)
        if self.sure is not None and self.stop_on is not None:
            self.end(self.reason)  # at every step: the loop may catch what ends it

    @hidden_from_torch
    def _look(self, steps: int) -> None:
        while self._next <= steps:
            self._next = next(self._steps)
        try:
            report = self.judge()
        except Exception:  # noqa: BLE001 - the loop continues, and is judged at its end
            return
        found = [one for one in report.findings if one.verdict in self.verdicts and one.code in STAYING]
        self.sure = next((one for one in found if _key(one) in self._last), None)
        self._last = {_key(one) for one in found}
        if self.sure is None:
            return
        self.reason = f"{counted(steps, 'step')}, because of the {self.sure.verdict} {self.sure.code}"
        if self.tell is None:
            return
        try:
            self.tell(self.sure, steps)
        except Exception as error:  # noqa: BLE001 - the loop continues
            print_error(f"covlab.watch: tell failed, and the run goes on: {type(error).__name__}: {error}")


def _key(finding: Finding) -> tuple[object, ...]:
    at = finding.location
    return finding.code, finding.verdict, at and (at.file, at.line)


def live_text(finding: Finding, steps: int, ends: bool, width: int) -> str:
    """Return what to tell of a sure finding while the loop runs, in lines of ``width`` columns."""
    heading = f"covlab.watch: {finding.verdict} after {counted(steps, 'step')}: {finding.code}  {finding.title}"
    texts = [
        finding.says,
        f"at {finding.location.quoted}" if finding.location else "",
        f"→ {finding.fix}",
        "The run ends here (--stop-on)." if ends else "The run goes on; the full report comes at its end.",
    ]
    lines = [line for text in texts for line in wrapped(text, width, "    ", "    ")]
    return "\n".join([*wrapped(heading, width, "", "    "), *lines])
