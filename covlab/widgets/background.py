"""Work that takes longer than a picture: in a thread, so that the controls stay alive; its results come to the front
safely.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator

import ipywidgets

REFRESH = 0.3
"""Seconds between two looks at work that goes on."""


class Background:
    """Runs one generator at a time beside the kernel. What it yields is the share that is done, from 0 to 1.

    ``refresh`` is called by the kernel's own thread, every ``REFRESH`` seconds and at the end; ``fail`` takes what the
    generator raises. Where no event loop runs (in a script), the work is done in place, and ``refresh`` called at the
    end.

    Attributes:
        stop_button, bar: widgets, the button seen only while there is something to stop; the bar is native HTML, so it
            has a name and is whole in a saved notebook.
        row: both of them, of a height that stays, so that nothing below it jumps.
        running: is there work under way?
    """

    def __init__(self, what: str, refresh: Callable[[], None], fail: Callable[[Exception], None]):
        self.what, self.refresh, self.fail = what, refresh, fail
        self.stop_button, self.bar = (
            ipywidgets.Button(description="Stop", layout={"display": "none"}),
            ipywidgets.HTML(),
        )
        self.row = ipywidgets.HBox(
            [self.bar, self.stop_button],
            layout={"min_height": "calc(var(--jp-widgets-inline-height) + 8px)", "align_items": "center"},
        )
        self.stop_button.on_click(lambda button: self.stop())
        self.thread: threading.Thread | None = None
        self.ticket: threading.Event | None = None  # of the work under way; set: it is to stop

    @property
    def running(self) -> bool:
        return self.ticket is not None

    def start(self, work: Iterator[float]) -> None:
        """Do ``work`` in place of what is under way."""
        self.stop()
        ticket = self.ticket = threading.Event()
        self.stop_button.layout.display = ""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._do(work, ticket, lambda report, *arguments: report(*arguments), math.inf)
        else:
            self.thread = threading.Thread(
                target=self._after, args=(self.thread, work, ticket, loop.call_soon_threadsafe, REFRESH), daemon=True
            )
            self.thread.start()

    def stop(self) -> None:
        """End the work under way; what it has reached stays."""
        if self.ticket is not None:
            self.ticket.set()
            self._finish(self.ticket, "stopped")

    def _after(
        self,
        before: threading.Thread | None,
        work: Iterator[float],
        ticket: threading.Event,
        post: Callable[..., object],
        every: float,
    ) -> None:
        """The next work may go on with the very run that the last one was told to leave: two threads must not train
        it.
        """
        if before is not None:
            before.join()
        self._do(work, ticket, post, every)

    def _do(self, work: Iterator[float], ticket: threading.Event, post: Callable[..., object], every: float) -> None:
        told = time.monotonic()
        try:
            for share in work:
                if ticket.is_set():
                    return
                if time.monotonic() - told >= every:
                    told = time.monotonic()
                    post(self._report, ticket, share)
            post(self._finish, ticket, "done")
        except Exception as error:  # noqa: BLE001 - shown in the widget, and fails the lesson
            post(self._fail, ticket, error)

    def _report(self, ticket: threading.Event, share: float) -> None:
        if self.ticket is ticket:
            self._say(share, f"{share:.0%}")
            self.refresh()

    def _finish(self, ticket: threading.Event, words: str) -> None:
        if self.ticket is ticket:
            self.ticket, self.stop_button.layout.display = None, "none"
            self._say(1.0, words)
            self.refresh()

    def _fail(self, ticket: threading.Event, error: Exception) -> None:
        self._finish(ticket, "failed")
        self.fail(error)

    def _say(self, share: float, words: str) -> None:
        self.bar.value = (
            f'<progress max="1" value="{share:.3f}" aria-label="{self.what}"></progress> {self.what}: {words}'
        )
