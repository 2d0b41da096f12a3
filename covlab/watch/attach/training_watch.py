"""The watch of one training that a framework runs, as the callbacks of frameworks need it.

Whatever happens to the watch, the training goes on: what fails here becomes a report that the training was not seen.
"""

import atexit
from typing import Any

from covlab.watch import blind_spots
from covlab.watch.invariants import TITLES
from covlab.watch.report import FAIL_ON, Report
from covlab.watch.script import print_error
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
        options: of ``covlab.watch.watch``, such as ``steps``, ``light`` or ``ignore``. Where ``steps`` or ``stop_on``
            ends the training, ``has_enough`` says so; nothing is raised inside the training.

    Raises:
        ValueError: an option has a wrong value.
        TypeError: an option is unknown.
    """

    def __init__(self, fail_on: str = "never", **options: Any) -> None:
        if fail_on not in FAIL_ON:
            raise ValueError(f"fail_on must be one of {', '.join(FAIL_ON)}, got {fail_on!r}")
        self.fail_on, self.options = fail_on, options
        self.report: Report | None = None
        self._watched: watch | None = None
        watch(**options)  # refuse wrong options here, not when the training begins

    def begin(self, *optimizers: Any, prints: bool = True) -> None:
        """Watch from now on. Name the optimizers that exist already, else their first window is not seen as a whole."""
        self.end(prints)  # an earlier training that nobody ended
        self.report = None
        try:
            watched = watch(*optimizers, **self.options)
            watched.observer.recorder.limit.raises = False
            watched.__enter__()
        except Exception as error:  # noqa: BLE001 - the training goes on
            reason = f"the training is not watched: {error}"
            self.report = _not_watched(reason, "fix this, then watch some steps of the training again")
            if prints:
                print_error(f"covlab.watch: {reason}")
            return
        self._watched = watched
        atexit.register(self.end)

    def has_enough(self) -> bool:
        """Return whether ``steps`` or ``stop_on`` ends the training here."""
        return self._watched is not None and self._watched.observer.recorder.limit.ended is not None

    def end(self, prints: bool = True, error: BaseException | None = None) -> None:
        """Stop watching, and keep and print the report, unless that was done before.

        Args:
            error: what ended the training; None: it ended by itself.
        """
        watched, self._watched = self._watched, None
        if watched is None:
            return
        atexit.unregister(self.end)
        try:
            watched.__exit__(None if error is None else type(error), error, None)
            self.report = watched.report()
        except Exception as failure:  # noqa: BLE001 - the training goes on
            reason = f"the watch itself failed: {type(failure).__name__}: {failure}"
            self.report = _not_watched(reason, blind_spots.REPORT_THIS)
        if prints:
            print_error(str(self.report))

    def end_or_fail(self, prints: bool = True) -> None:
        """Stop watching as ``end`` does, and raise ``WatchFailed`` if ``fail_on`` asks for it."""
        self.end(prints)
        if self.report is not None and self.report.failed(self.fail_on):
            raise WatchFailed(self.report)


def _not_watched(reason: str, fix: str) -> Report:
    return Report([blind_spots.note(blind_spots.BlindSpot(reason, fix))], dict.fromkeys(TITLES, reason), {})
