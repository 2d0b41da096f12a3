"""Show the progress of a course run: a live table on a terminal, one line per finished lesson in a log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from covlab.course.runner import Run

COLORS = {"passed": "green", "running": "cyan", "waiting": "dim"}


@contextmanager
def live_table(console: Console, expected: dict[str, float]) -> Iterator[Callable[[list[Run]], None]]:
    """Yield a function that shows the current state of the runs it gets; call it as often as you like.

    expected: {lesson: seconds it took last time}; for other lessons, the table shows the budget.
    """
    if console.file.isatty():
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda runs: live.update(_table(runs, expected))
        return
    printed: set[int] = set()

    def print_ended(runs: list[Run]) -> None:
        for number, run in enumerate(runs):
            if run.ended and number not in printed:
                printed.add(number)
                console.print(f"{_title(run):<36} {run.status:<12} {run.seconds:6.1f} s", highlight=False)

    yield print_ended


def _table(runs: list[Run], expected: dict[str, float]) -> Table:
    table = Table("Lesson", "Status", box=None, pad_edge=False)
    for title in ("Cells", "Time", "Expected"):
        table.add_column(title, justify="right")
    for run in runs:
        ids = [cell.id for cell in run.lesson.notebook.cells]
        begun = ids.index(run.cell) + 1 if run.cell in ids else 0
        last = expected.get(run.lesson.name)
        table.add_row(
            _title(run),
            run.status,
            f"{begun}/{len(ids)}",
            f"{run.seconds:.0f} s",
            f"{last:.0f} s" if last else f"< {run.allowed:.0f} s",
            style=COLORS.get(run.status, "red"),
        )
    return table


def _title(run: Run) -> str:
    changed = "".join(f", {name} {value}" for name, value in run.overrides.items())
    return run.lesson.name + (f" ({run.edition})" if run.edition != "instructor" else "") + changed
