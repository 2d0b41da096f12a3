"""How a run of the course looks while it lasts: a live table for a person, a line a lesson for a log."""

from rich.console import Console
from rich.live import Live
from rich.table import Table

from covlab.course.runner import Run

COLOURS = {"passed": "green", "running": "cyan", "waiting": "dim"}


class Progress:
    """Call it with the runs as often as you like; use it as a context manager."""

    def __init__(self, console: Console):
        self.console = console
        self.live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self.told = set()

    def __enter__(self):
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception):
        if self.live:
            self.live.stop()

    def __call__(self, runs: list[Run]) -> None:
        if self.live:
            self.live.update(_table(runs))
            return
        for run in runs:
            if run.ended and run.lesson.name not in self.told:
                self.told.add(run.lesson.name)
                self.console.print(f"{run.lesson.name:<32} {run.status:<12} {run.seconds:6.1f} s", highlight=False)


def _table(runs: list[Run]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title, justify in (("Lesson", "left"), ("Status", "left"), ("Cell", "right"), ("Time", "right"),
                           ("Budget", "right")):
        table.add_column(title, justify=justify)
    for run in runs:
        table.add_row(run.lesson.name, run.status, f"{run.position}/{len(run.lesson.notebook.cells)}",
                      f"{run.seconds:.0f} s", f"{run.budget:.0f} s", style=COLOURS.get(run.status, "red"))
    return table
