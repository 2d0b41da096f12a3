"""The watch of one training that a framework runs, as the callbacks of frameworks need it."""

import atexit
import sys
from typing import Any

from covlab.watch.report import FAIL_ON, Report
from covlab.watch.session import watch


class WatchFailed(Exception):
    """The watch found something at least as bad as ``fail_on``, or did not see the training. Has the ``report``."""

    def __init__(self, report: Report) -> None:
        super().__init__(report.summary)
        self.report = report


class TrainingWatch:
    """Watch one training after the other, and report each one once.

    Args:
        fail_on: raise ``WatchFailed`` at the end of a training for findings at least this bad: "never", "unseen",
            "fault" or "warning".
        steps: end the training after so many steps; None: do not.
        options: of ``covlab.watch.watch``, such as ``light`` or ``ignore``.

    Raises:
        ValueError: an option has a wrong value.
        TypeError: an option is unknown.
    """

    def __init__(self, fail_on: str = "never", steps: int | None = None, **options: Any) -> None:
        if fail_on not in FAIL_ON:
            raise ValueError(f"fail_on must be one of {', '.join(FAIL_ON)}, got {fail_on!r}")
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise ValueError(f"steps must be a whole number of at least 1 or None, got {steps!r}")
        self.fail_on, self.steps, self.options = fail_on, steps, options
        self.report: Report | None = None
        self._watched: watch | None = None
        watch(**options)  # refuse wrong options here, not when the training begins

    def begin(self, *optimizers: Any) -> None:
        """Watch from now on. Name the optimizers that exist already, else their first window is not seen as a whole."""
        self.end()  # an earlier training that ended by an exception
        self.report = None
        self._watched = watch(*optimizers, **self.options)
        self._watched.__enter__()
        atexit.register(self.end)

    def has_enough(self) -> bool:
        """Return whether the training has made the steps that were asked for, and note why it ends."""
        if self._watched is None or self.steps is None or self._watched.observation.counts["steps"] < self.steps:
            return False
        self._watched.observer.recorder.limit.ended = f"ended after {self.steps} steps"
        return True

    def end(self, prints: bool = True) -> None:
        """Stop watching, and keep and print the report, unless that was done before."""
        watched, self._watched = self._watched, None
        if watched is None:
            return
        atexit.unregister(self.end)
        watched.__exit__(None, None, None)
        self.report = watched.report()
        if prints:
            print(self.report, file=sys.stderr, flush=True)

    def end_or_fail(self, prints: bool = True) -> None:
        """Stop watching as ``end`` does, and raise ``WatchFailed`` if ``fail_on`` asks for it."""
        self.end(prints)
        if self.report is not None and self.report.failed(self.fail_on):
            raise WatchFailed(self.report)
