"""How a run tells a person, or a log, that it is getting on; and how a person tells it to stop."""

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
    """One line an epoch, for a log. ``write`` takes each line."""

    def __init__(self, write: Callable[[str], object] = print):
        self.say = write

    def begin(self, done: int, total: int) -> None:
        """The run starts with ``done`` of ``total`` windows behind it."""

    def advance(self, rows: list[dict[str, float]]) -> None:
        """These ledger rows have come in."""

    def end(self) -> None:
        """The run is over, for good or ill."""


class Silent(Lines):
    """Nothing at all."""

    def __init__(self) -> None:
        super().__init__(lambda line: None)


class TerminalBar(Lines):
    """A live bar below the epochs' lines: loss, NMSE in dB, scenes a second, time left."""

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
        self.bar.update(self.task, advance=len(rows), status=self.pace.status(rows))

    def end(self) -> None:
        self.bar.stop()


class NotebookBar(Lines):
    """The same in a notebook. A plain display that is updated: unlike a widget, it is whole in a saved notebook."""

    def begin(self, done: int, total: int) -> None:
        from IPython.display import display

        self.done, self.total, self.pace = done, total, Pace()
        self.text = ""
        self.display = display(self._bundle(), raw=True, display_id=True)

    def advance(self, rows: list[dict[str, float]]) -> None:
        self.done += len(rows)
        self.text = self.pace.status(rows)
        self.display.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        line = f"{self.done}/{self.total} windows  {self.text}"
        bar = f'<progress max="{self.total}" value="{self.done}" aria-label="windows trained"></progress>'
        return {"text/plain": line, "text/html": f"{bar} {line}"}


class Pace:
    """Turns ledger rows into a status: loss, NMSE in dB, scenes a second."""

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
    """The kind that suits where the output goes: a notebook, a terminal, or a log."""
    kernel = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    if kernel is not None and hasattr(kernel, "kernel"):
        return NotebookBar()
    return TerminalBar() if sys.stdout.isatty() else Lines()


@contextmanager
def interrupt_as_flag(agreed: Callable[[bool], bool] = bool) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT into a flag, ``agreed`` on whenever it is looked at; a second one interrupts at once.

    (Only the main thread can.)
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: agreed(flag.is_set())
        return

    def raise_flag(number: int, frame: FrameType | None) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = signal.signal(signal.SIGINT, raise_flag)
    try:
        yield lambda: agreed(flag.is_set())
    finally:
        signal.signal(signal.SIGINT, before)
