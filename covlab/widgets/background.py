"""Work in a thread, so that the controls still respond; and the base class of explorers that train in it."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing

import ipywidgets
from matplotlib.figure import Figure

from covlab.faults.small_run import in_turn
from covlab.training.trainer import Trainer
from covlab.widgets import Explorer

REFRESH = 0.3
"""Seconds between two updates of the picture while work is running."""

KEPT = 8
"""An explorer keeps the runs of this many settings, the ones shown last, so that an hour of moves fits into memory."""

Work = Generator[float, None, None]
"""Work in small steps; it yields the share that is done."""


class Background:
    """Run one generator at a time in a thread. It yields the finished share of its work, from 0 to 1.

    The kernel's main thread calls ``refresh`` every ``REFRESH`` seconds and when the thread has ended. Meanwhile the
    work waits, so that the bar and what ``refresh`` draws show the same state. If the generator raises an exception,
    the main thread calls ``fail`` with it. Without an event loop (in a script), ``start`` does all the work before it
    returns, and calls ``refresh`` once.

    Attributes:
        button: it stops work that is going on, and continues work that was stopped; else it is disabled.
        bar: the progress bar, in HTML, so that screen readers get its name and saved notebooks show it.
        row: the bar and the button. Its height is constant, so that nothing below it moves.
        running: whether work is going on.
    """

    def __init__(
        self,
        what: str,
        refresh: Callable[[], None],
        fail: Callable[[Exception], None],
        rest: Callable[[], Work | None] = lambda: None,
    ):
        """``rest`` returns the work that is left after a stop, or None."""
        self.what, self.refresh, self.fail, self.rest = what, refresh, fail, rest
        self.running = False
        self.button = ipywidgets.Button(layout={"width": "7em"})
        self.button.on_click(lambda button: self.stop() if self.running else self.resume())
        self.bar = ipywidgets.HTML()
        self.row = ipywidgets.HBox(
            [self.button, self.bar],
            layout={"min_height": "calc(var(--jp-widgets-inline-height) + 12px)", "align_items": "center"},
        )
        # The stop signal of the work that was started last.
        self.ticket = threading.Event()
        # New work may continue the run that the stopped work trained. The lock lets only one thread train at a time.
        self.lock = threading.Lock()
        # Set while the main thread waits for the lock: the work must not wait for the main thread then.
        self.awaited = threading.Event()
        self.show_progress(0.0, "not started")

    def start(self, work: Work | None, share: float = 0.0) -> None:
        """Stop the current work and start this, of which ``share`` is done already. None: nothing is left to do."""
        self.ticket.set()
        ticket = self.ticket = threading.Event()
        self.running = work is not None
        if work is None:
            self.show_progress(1.0, "done")
            return
        self.show_progress(share)
        try:
            post = asyncio.get_running_loop().call_soon_threadsafe
        except RuntimeError:  # no event loop: work in this thread, and call each callback at once
            self._do(work, ticket, lambda callback, *arguments: callback(*arguments), math.inf, share)
        else:
            threading.Thread(target=self._do, args=(work, ticket, post, REFRESH, share), daemon=True).start()

    def finish(self, work: Work | None) -> None:
        """Do this work before returning, after the current work, which may be on the same run."""
        self.awaited.set()
        with self.lock:
            self.awaited.clear()
            for _ in work or ():
                pass

    def resume(self) -> None:
        """Continue the work that was stopped."""
        if work := self.rest():
            self.start(work, self.share)

    def stop(self) -> None:
        """End the current work and keep what it has reached. Its thread ends after the step that it is in.

        Until then, the bar stays where it is, as the picture does.
        """
        if self.running:
            self.running = False
            self.ticket.set()
            self.show_progress(self.share, "stopped")

    def _do(self, work: Work, ticket: threading.Event, post: Callable[..., object], every: float, share: float) -> None:
        updated = time.monotonic()
        try:
            # The work is closed before the lock is released, because a trainer has one open iterator at a time.
            with self.lock, closing(work):
                while not ticket.is_set() and (step := next(work, None)) is not None:
                    share = step
                    if time.monotonic() - updated >= every:
                        drawn = threading.Event()
                        post(self._report, ticket, share, "", drawn)
                        while not (drawn.wait(0.02) or ticket.is_set() or self.awaited.is_set()):
                            pass
                        updated = time.monotonic()
            post(self._report, ticket, *((share, "stopped") if ticket.is_set() and share < 1 else (1.0, "done")))
        except Exception as error:  # noqa: BLE001 - shown in the widget, and fails the lesson
            post(self._report, ticket, share, "failed")
            post(self.fail, error)

    def _report(
        self, ticket: threading.Event, share: float, end: str = "", drawn: threading.Event | None = None
    ) -> None:
        if self.ticket is ticket and (end or self.running):  # or other work was started, or the work was stopped
            self.running = self.running and not end
            self.refresh()
            self.show_progress(share, end)
        if drawn:
            drawn.set()

    def show_progress(self, share: float, end: str = "") -> None:
        """Show the finished share, and that the work goes on, or how it ended. The button fits this."""
        self.share, at = share, f"{share:.0%}" if share else "starting…"
        bar = f'<progress max="1" value="{share:.3f}" aria-label="{self.what}" style="width: 6em"></progress>'
        words = f"{self.what}: {f'stopped at {at}' if end == 'stopped' else end or at}"
        self.bar.value = f'<div style="line-height: 1.4">{bar} <span style="white-space: nowrap">{words}</span></div>'
        resumes = end == "stopped" and self.rest() is not None
        self.button.description, self.button.disabled = "Continue" if resumes else "Stop", bool(end) and not resumes
        self.button.tooltip = f"No {self.what} is going on." if self.button.disabled else self.button.description


def epoch_by_epoch(*runs: Trainer) -> Work:
    """Train ``runs`` in turn. Report the progress at the ends of epochs, when their curves get another point."""
    shown: float = 0
    for share in in_turn(*runs):
        # A run that is stopped because of its losses has fewer epochs than the others.
        epochs = min((len(run.history) for run in runs if not run.stopped), default=math.inf)
        if epochs > shown:
            shown = epochs
            yield share


def reached(*runs: Trainer) -> float:
    """Return the share of their windows that all ``runs`` have trained; one stopped because of its losses is done."""
    return min((run.window / run.recipe.windows for run in runs if not run.stopped), default=1.0)


class TrainingExplorer(Explorer):
    """Base class of explorers whose picture shows training runs. These run in the background.

    A subclass keeps its runs, and defines ``runs`` and ``picture_of``.

    Attributes:
        what: what the runs do, in a word or two.
        steps: trains runs, and yields the share that is done.
    """

    what = "training"
    steps = staticmethod(epoch_by_epoch)

    def __init__(self, controls: dict):
        super().__init__(controls)
        self.background = Background(self.what, self.guarded(self.paint), self.fail, lambda: self.training(self.state))
        self.extra = [self.background.row]

    def runs(self, state: dict) -> list[Trainer]:
        """Return the runs that the picture of a state shows, trained or not."""
        raise NotImplementedError

    def training(self, state: dict) -> Work | None:
        """Return the training that the picture of a state still needs, as a generator of progress; or None."""
        runs = self.runs(state)
        return self.steps(*runs) if reached(*runs) < 1 else None

    def picture_of(self, state: dict) -> tuple[Figure, str]:
        """Return the picture of the training so far, and its alternative text."""
        raise NotImplementedError

    def draw(self, state: dict) -> tuple[Figure, str]:
        self.background.finish(self.training(state))
        return self.picture_of(state)

    def first_draw(self) -> None:
        if not self.background.running:
            self.background.finish(self.training(self.state))
            self.background.start(None)
        self.paint()

    def so_far(self, state: dict, text: str) -> str:
        """Return ``text``, a statement about the runs of a state, and say so if they are not finished."""
        return text if reached(*self.runs(state)) == 1 else f"So far: {text}"

    def redraw(self) -> None:
        """Show what has been trained so far; then train the rest in the background."""
        self.paint()
        self.background.start(self.training(self.state), reached(*self.runs(self.state)))

    def paint(self) -> None:
        """Show the training so far."""
        self._paint(*self.picture_of(self.state))
