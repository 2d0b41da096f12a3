"""What a student has solved so far: for a cell, and for `covlab course progress`."""
from pathlib import Path

from covlab.course import memory
from covlab.course.exercises import all_exercises


def progress_rows(path: Path | None) -> list[tuple[str, str, int]]:
    """(exercise, "solved DATE", "tried" or "open", different tries), of every exercise of the course."""
    records = memory.read(path)["exercises"]
    rows = []
    for id in all_exercises():
        record = records.get(id, {"solved": None, "tries": []})
        state = f"solved {record['solved']}" if record["solved"] else "tried" if record["tries"] else "open"
        rows.append((id, state, len(record["tries"])))
    return rows


def summary(rows: list[tuple[str, str, int]]) -> str:
    return f"{sum(state.startswith('solved') for _, state, _ in rows)} of {len(rows)} exercises solved"


def show_progress() -> None:
    """Show which exercises are solved, and where that is remembered."""
    from covlab import plots

    path = memory.path_here()
    rows = progress_rows(path)
    where = f"remembered in {path}" if path else "only remembered until this kernel ends: this notebook does not run in work/"
    plots.table(["exercise", "state", "different tries"], rows, f"{summary(rows)}; {where}.")
