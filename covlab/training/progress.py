"""Report a run's progress to a notebook, a terminal or a log; let a person interrupt the run between two windows."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Lines:
    """One line per epoch, for a log. ``write`` takes each line."""

    def __init__(self, write: Callable[[str], object] = print):
        self.say = write

    def begin(self, done: int, total: int) -> None:
        """Begin a report; ``done`` of ``total`` windows are complete."""

    def advance(self, rows: list[dict[str, float]]) -> None:
        """Report rows that were added to the ledger."""

    def count(self, windows: int, status: str = "") -> None:
        """Report that this many more windows are complete."""

    def end(self) -> None:
        """End the report, whether or not the run succeeded."""


class Silent(Lines):
    """No output."""

    def __init__(self) -> None:
        super().__init__(lambda line: None)


class TerminalBar(Lines):
    """A live bar below the lines of the epochs, with loss, NMSE in dB, scenes per second and time left."""

    def __init__(self) -> None:
        self.console = Console()
        super().__init__(lambda line: self.console.print(line, highlight=False, markup=False))

    def begin(self, done: int, total: int) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[status]}"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=self.console, transient=True)
        self.task = self.bar.add_task("windows", total=total, completed=done, status="")
        self.pace = Pace()
        self.bar.start()

    def advance(self, rows: list[dict[str, float]]) -> None:
        self.count(len(rows), self.pace.status(rows))

    def count(self, windows: int, status: str = "") -> None:
        self.bar.update(self.task, advance=windows, status=status)

    def end(self) -> None:
        self.bar.stop()


class NotebookBar(Lines):
    """A bar in a notebook. It is HTML that is updated, because a widget would be lost in a saved notebook."""

    def begin(self, done: int, total: int) -> None:
        from IPython.display import display

        self.done, self.total, self.pace = done, total, Pace()
        self.display = display(self._bundle(""), raw=True, display_id=True)

    def advance(self, rows: list[dict[str, float]]) -> None:
        self.count(len(rows), self.pace.status(rows))

    def count(self, windows: int, status: str = "") -> None:
        self.done += windows
        self.display.update(self._bundle(status), raw=True)

    def _bundle(self, status: str) -> dict[str, str]:
        line = f"{self.done}/{self.total} windows  {status}"
        bar = f'<progress max="{self.total}" value="{self.done}" aria-label="windows trained"></progress>'
        return {"text/plain": line, "text/html": f"{bar} {line}"}


class Pace:
    """Turn ledger rows into a status line: loss, NMSE in dB, scenes per second."""

    def __init__(self) -> None:
        self.since = time.monotonic()

    def status(self, rows: list[dict[str, float]]) -> str:
        now = time.monotonic()
        speed = sum(row["scenes"] for row in rows) / max(now - self.since, 1e-9)
        self.since = now
        loss, error = rows[-1]["loss"], rows[-1]["term_cov"]
        decibel = f"{10 * math.log10(error):.1f} dB" if 0 < error < math.inf else str(error)
        return f"loss {loss:.4f}  NMSE {decibel}  {speed:,.0f} scenes/s"


def suited() -> Lines:
    """Return the kind of progress report that suits the output: a notebook, a terminal or a log."""
    kernel = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    if kernel is not None and hasattr(kernel, "kernel"):
        return NotebookBar()
    return TerminalBar() if sys.stdout.isatty() else Lines()


@contextmanager
def interrupt_as_flag(agreed: Callable[[bool], bool] = bool) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag, and yield a function that reads it. A second interrupts at once.

    ``agreed`` is applied to the flag at each reading, so all ranks can agree on it. In a thread other than the main
    one, the flag is never set, because only the main thread gets signals.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: agreed(flag.is_set())
        return

    def raise_flag(number: int, frame: FrameType | None) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = {number: signal.signal(number, raise_flag) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: agreed(flag.is_set())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
