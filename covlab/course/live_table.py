"""How a run of the course looks while it lasts: a live table for a person, a line a run for a log."""

from rich.console import Console
from rich.live import Live
from rich.table import Table

from covlab.course.runner import Run

COLOURS = {"passed": "green", "running": "cyan", "waiting": "dim"}


class Progress:
    """Call it with the runs as often as you like; use it as a context manager.

    expected: lesson -> seconds it took last time; where that is unknown its budget is shown.
    """

    def __init__(self, console: Console, expected: dict[str, float]):
        self.console, self.expected = console, expected
        self.live = Live(console=console, refresh_per_second=4) if console.file.isatty() else None
        self.told: set[int] = set()

    def __enter__(self) -> "Progress":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, runs: list[Run]) -> None:
        if self.live:
            self.live.update(self._table(runs))
            return
        for number, run in enumerate(runs):
            if run.ended and number not in self.told:
                self.told.add(number)
                self.console.print(f"{_title(run):<36} {run.status:<12} {run.seconds:6.1f} s", highlight=False)

    def _table(self, runs: list[Run]) -> Table:
        table = Table(box=None, pad_edge=False)
        for title in ("Lesson", "Status"):
            table.add_column(title, justify="left")
        for title in ("Cells", "Time", "Expected"):
            table.add_column(title, justify="right")
        for run in runs:
            ids = [cell.id for cell in run.lesson.notebook.cells]
            begun = ids.index(run.cell) + 1 if run.cell in ids else 0
            expected = self.expected.get(run.lesson.name)
            table.add_row(
                _title(run),
                run.status,
                f"{begun}/{len(ids)}",
                f"{run.seconds:.0f} s",
                f"{expected:.0f} s" if expected else f"< {run.allowed:.0f} s",
                style=COLOURS.get(run.status, "red"),
            )
        return table


def _title(run: Run) -> str:
    changed = ", ".join(f"{name} {value}" for name, value in run.overrides.items())
    edition = "" if run.edition == "instructor" else f" ({run.edition})"
    return run.lesson.name + edition + (f", {changed}" if changed else "")
