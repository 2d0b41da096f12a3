"""Work in a thread, so that the controls still respond; and the base class of explorers that train in it."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing

import ipywidgets
from matplotlib.figure import Figure

from covlab.widgets import Explorer

REFRESH = 0.3
"""Seconds between two updates of the picture while work is running."""

KEPT = 8
"""An explorer keeps the runs of this many settings, the ones shown last, so that an hour of moves fits into memory."""

Work = Generator[float, None, None]
"""Work in small steps; it yields the share that is done."""


class Background:
    """Run one generator at a time in a thread. It yields the finished share of its work, from 0 to 1.

    The kernel's main thread calls ``refresh`` every ``REFRESH`` seconds and at the end. If the generator raises an
    exception, it calls ``fail`` with it. Without an event loop (in a script), ``start`` does all the work before it
    returns, and calls ``refresh`` once.

    Attributes:
        stop_button: shown while there is something to stop.
        bar: the progress bar, in HTML, so that screen readers get its name and saved notebooks show it.
        row: the bar and the button. Its height is constant, so that nothing below it moves.
        running: whether work is going on.
    """

    def __init__(self, what: str, refresh: Callable[[], None], fail: Callable[[Exception], None]):
        self.what, self.refresh, self.fail = what, refresh, fail
        self.stop_button = ipywidgets.Button(description="Stop", layout={"display": "none"})
        self.stop_button.on_click(lambda button: self.stop())
        self.bar = ipywidgets.HTML()
        self.row = ipywidgets.HBox(
            [self.bar, self.stop_button],
            layout={"min_height": "calc(var(--jp-widgets-inline-height) + 8px)", "align_items": "center"},
        )
        # The stop signal of the current work.
        self.ticket: threading.Event | None = None
        # New work may continue the run that the stopped work trained. The lock lets only one thread train at a time.
        self.lock = threading.Lock()

    @property
    def running(self) -> bool:
        return self.ticket is not None

    def start(self, work: Work) -> None:
        """Stop the current work and start this."""
        self.stop()
        ticket = self.ticket = threading.Event()
        self.stop_button.layout.display = ""
        try:
            post = asyncio.get_running_loop().call_soon_threadsafe
        except RuntimeError:  # no event loop: work in this thread, and call each callback at once
            self._do(work, ticket, lambda callback, *arguments: callback(*arguments), math.inf)
        else:
            threading.Thread(target=self._do, args=(work, ticket, post, REFRESH), daemon=True).start()

    def finish(self, work: Work | None) -> None:
        """Do this work before returning, after the current work, which may be on the same run."""
        with self.lock:
            for _ in work or ():
                pass

    def stop(self) -> None:
        """End the current work and keep what it has reached. Its thread ends after the step that it is in."""
        if self.ticket is not None:
            self.ticket.set()
            self._report(self.ticket, 1.0, "stopped")

    def _do(self, work: Work, ticket: threading.Event, post: Callable[..., object], every: float) -> None:
        updated = time.monotonic()
        try:
            # The work is closed before the lock is released, because a trainer has one open iterator at a time.
            with self.lock, closing(work):
                while not ticket.is_set() and (share := next(work, None)) is not None:
                    if time.monotonic() - updated >= every:
                        updated = time.monotonic()
                        post(self._report, ticket, share)
            if not ticket.is_set():
                post(self._report, ticket, 1.0, "done")
        except Exception as error:  # noqa: BLE001 - shown in the widget, and fails the lesson
            post(self._report, ticket, 1.0, "failed")
            post(self.fail, error)

    def _report(self, ticket: threading.Event, share: float, end: str = "") -> None:
        if self.ticket is not ticket:
            return
        if end:
            self.ticket, self.stop_button.layout.display = None, "none"
        bar = f'<progress max="1" value="{share:.3f}" aria-label="{self.what}"></progress>'
        self.bar.value = f"{bar} {self.what}: {end or f'{share:.0%}'}"
        self.refresh()


class TrainingExplorer(Explorer):
    """Base class of explorers whose picture shows training runs. These run in the background.

    A subclass keeps its runs, and defines ``training`` and ``picture_of``.
    """

    def __init__(self, controls: dict, what: str):
        super().__init__(controls)
        self.background = Background(what, self.guarded(self.paint), self.fail)
        self.extra = [self.background.row]

    def training(self, state: dict) -> Work | None:
        """Return the training that the picture of a state still needs, as a generator of progress; or None."""
        raise NotImplementedError

    def picture_of(self, state: dict) -> tuple[Figure, str]:
        """Return the picture of the training so far, and its alternative text."""
        raise NotImplementedError

    def draw(self, state: dict) -> tuple[Figure, str]:
        self.background.finish(self.training(state))
        return self.picture_of(state)

    def first_draw(self) -> None:
        if not self.background.running:
            self.background.finish(self.training(self.state))
        self.paint()

    def redraw(self) -> None:
        """Show what has been trained so far at once; train the rest in the background."""
        if work := self.training(self.state):
            self.background.start(work)
        self.paint()

    def paint(self) -> None:
        """Show the training so far."""
        self._paint(*self.picture_of(self.state))
