"""``with watch(model, optimizer) as w``: observer, invariants, ledger and report of one run."""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from covlab.watch.blind_spots import blind_spot
from covlab.watch.event_ledger import Row, ledger_row
from covlab.watch.finding import Finding
from covlab.watch.invariants import INVARIANTS, TITLES, Invariant
from covlab.watch.job import path_of_this_rank
from covlab.watch.known_findings import Baseline
from covlab.watch.live_findings import STOP_ON, LiveFindings, StopOn, Tell
from covlab.watch.report import Report, arrange
from covlab.watch.script import hide_watch, print_error
from covlab.watch.seen.events import Event, Step
from covlab.watch.seen.location import CodeLocation, caller_location, is_users
from covlab.watch.seen.observer import Observer
from covlab.watch.seen.optimizer import is_optimizer
from covlab.watch.seen.step_limit import StepLimitReached
from covlab.watch.selection import ignored_codes

ROWS_KEPT = 4096  # of the ledger, in memory

_open: "watch | None" = None


class watch:  # noqa: N801 - it is called like a function
    """Watch the training loop that runs in this context.

    Args:
        models_and_optimizers: those that exist already. The watch finds others when they are made or stepped.
        light: measure one step in eight and take no fingerprints of inputs.
        ledger: a file that gets one JSON object per step, and one whenever unused gradients are cleared. In a job of
            several processes, the name gets the rank, except that of rank 0: steps.jsonl, steps.rank1.jsonl, … The rank
            is that of the process group, if there is one already, or the one that the launcher set.
        select: codes of the only invariants to check, such as ["W01", "W03"]; None: all.
        ignore: codes of invariants not to check; None: none.
        baseline: findings that are known and do not count; None: none.
        stop_on: leave the ``with`` block as soon as a finding at least as bad is sure; None: never.
        tell: called once, with the first fault that is sure while the loop runs (with ``stop_on``, the finding that
            ends it), and the number of steps; None: nobody is told before the report.
        steps: leave the ``with`` block after this many steps of one optimizer, or after much work without a step, by
            raising ``StepLimitReached``; None: never.

    Raises:
        RuntimeError: another watch is active.
        TypeError: an argument is neither a model nor an optimizer.
        ValueError: ``steps`` is not a whole number of at least 1, a code is unknown, or ``stop_on`` is.
    """

    def __init__(
        self,
        *models_and_optimizers: Any,
        light: bool = False,
        ledger: Path | str | None = None,
        steps: int | None = None,
        select: str | Iterable[str] | None = None,
        ignore: str | Iterable[str] | None = None,
        baseline: Baseline | None = None,
        stop_on: StopOn | None = None,
        tell: Tell | None = None,
    ) -> None:
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise ValueError(f"steps must be a whole number of at least 1 or None, got {steps!r}")
        if stop_on is not None and stop_on not in STOP_ON:
            raise ValueError(f"stop_on must be one of {', '.join(STOP_ON)} or None, got {stop_on!r}")
        self.ignored, self.baseline = ignored_codes(select, ignore), baseline
        self.invariants: list[Invariant] = [one() for one in INVARIANTS if one.code not in self.ignored]
        self.broken: dict[str, Exception] = {}  # {code of an invariant: the exception that it raised}
        self.observer = Observer(self._receive, light, steps)
        self.observation = self.observer.observation
        if tell is not None or stop_on is not None:
            recorder = self.observer.recorder
            recorder.after_step = LiveFindings(self.report, tell, recorder.limit.end, stop_on).stepped
        self.rows: deque[Row] = deque(maxlen=ROWS_KEPT)
        self._ledger = None if ledger is None else Path(ledger)
        self._file: TextIO | None = None
        self.ledger_error: OSError | None = None  # why the ledger could not be written
        self._report: Report | None = None
        self._begun_at: CodeLocation | None = None  # None: no line of the user's code began it
        self._gradients_enabled = True
        self._optimizers: list[Any] = []
        for item in models_and_optimizers:
            if hasattr(item, "param_groups") or is_optimizer(item):
                self._optimizers.append(getattr(item, "optimizer", item))
            elif not isinstance(item, nn.Module):
                raise TypeError(f"watch takes models and optimizers, got {type(item).__name__}")

    def __enter__(self) -> "watch":
        global _open
        if _open is not None:
            since = "" if _open._begun_at is None else f", since {_open._begun_at}"
            raise RuntimeError(f"another watch is active{since}: use one at a time")
        if self._ledger is not None:
            self._file = path_of_this_rank(self._ledger).open("w", encoding="utf-8")
        _open = self
        try:
            location = caller_location()
            self._gradients_enabled = torch.is_grad_enabled()
            self._begun_at = location if location is not None and is_users(location.file) else None
            self.observer.start()
            for optimizer in self._optimizers:
                self.observer.search.adopt(optimizer)
        except BaseException as error:  # such as an interrupt
            self.__exit__(type(error), error, error.__traceback__)
            raise
        self._optimizers.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        global _open
        _open = None
        if error is not None:
            self.ended_by(error)
            hide_watch(error)  # a traceback shows the lines of the loop and of torch
        if isinstance(error, KeyboardInterrupt):  # it may come where gradients are switched off for a moment
            torch.set_grad_enabled(self._gradients_enabled)
        try:
            self.observer.stop()
        finally:
            self._to_ledger(lambda file: file.close())
        if self.ledger_error is not None:
            print_error(f"covlab.watch: {self._ledger} was not written: {self.ledger_error.strerror}")
        self._report = self._judge()
        return kind is StepLimitReached

    def ended_by(self, error: BaseException) -> None:
        """Note the exception that ends the loop: it is not the loop's fault that its last window is not whole."""
        limit = self.observer.recorder.limit
        if limit.ended is None and not isinstance(error, SystemExit | GeneratorExit):
            limit.ended = f"ended by {type(error).__name__}"

    def log(self, loss: float | Tensor) -> None:
        """Compare a logged training loss (the mean since the last call) with the losses that were seen (W14)."""
        self.observer.recorder.flush()
        step_number = max((watched.attempts for watched in self.observation.optimizers.values()), default=0)
        value = float(loss.detach() if isinstance(loss, Tensor) else loss)  # PyTorch warns of a graph
        for invariant in self.invariants:
            invariant.on_logged_loss(step_number, value)

    def report(self) -> Report:
        """Return what was found, or inside the ``with`` block what was found so far."""
        if self._report is not None:
            return self._report
        self.observer.recorder.flush()
        self._to_ledger(lambda file: file.flush())
        return self._judge()

    # ---------------------------------------------------------------- inside

    def _receive(self, event: Event) -> None:
        for invariant in self.invariants:
            if invariant.code in self.broken:
                continue
            try:
                if isinstance(event, Step):
                    invariant.on_step(event)
                else:
                    invariant.on_cleared(event)
            except Exception as error:  # noqa: BLE001 - the loop continues without this invariant
                self.broken[invariant.code] = error
        row = ledger_row(event)
        self.rows.append(row)
        self._to_ledger(lambda file: file.write(json.dumps(row) + "\n"))

    def _to_ledger(self, write: Callable[[TextIO], object]) -> None:
        """Write to the ledger. If this fails, as on a full disk, the loop continues without it."""
        if self._file is None or self.ledger_error is not None:
            return
        try:
            write(self._file)
        except OSError as error:
            self.ledger_error = error
            with suppress(OSError):
                self._file.close()

    def _judge(self) -> Report:
        seen = self.observation
        note = blind_spot(seen)
        findings: list[Finding] = [] if note is None else [note]
        if seen.blocked is not None:
            return self._report_of(findings, dict.fromkeys(TITLES, seen.blocked))
        unchecked: dict[str, str] = {}
        for invariant in self.invariants:
            reason = None
            error, failed = self.broken.get(invariant.code), seen.failure_of(invariant.needs)
            if error is None and failed is None:
                try:
                    found, reason = invariant.finish(seen), invariant.unchecked(seen)
                    findings += found
                except Exception as failure:  # noqa: BLE001 - reported as not checked
                    error = failure
            if error is not None:
                reason = f"the check itself failed: {type(error).__name__}: {error}"
            reason = failed or seen.missing(invariant.needs) or reason
            if reason and not any(finding.code == invariant.code for finding in findings):
                unchecked[invariant.code] = reason
        if not seen.counts["backwards"] and not seen.counts["steps"] and not seen.failures:
            unchecked = dict.fromkeys(TITLES, "no training was seen in this process")
        return self._report_of(arrange(findings), unchecked)

    def _report_of(self, findings: list[Finding], unchecked: dict[str, str]) -> Report:
        unchecked = {code: why for code, why in unchecked.items() if code not in self.ignored}
        ended = self.observer.recorder.limit.ended
        report = Report(findings, unchecked, dict(self.observation.counts), ended, ignored=list(self.ignored))
        return report if self.baseline is None else self.baseline.without_known(report)


def _stop_in_child() -> None:
    """Stop watching in forked children, such as the workers of a DataLoader."""
    global _open
    if _open is not None:
        _open.observer.recorder.active = False
        _open._file = None
        _open = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stop_in_child)
