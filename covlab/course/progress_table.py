"""What a student has solved so far: for a cell, and for `covlab course progress`."""

from itertools import groupby
from pathlib import Path

from covlab.course import student_record
from covlab.course.exercises import all_exercises


def progress_rows(path: Path | None) -> list[tuple[str, str, int]]:
    """(exercise, "solved DATE", "tried" or "open", different tries), of every exercise of the course."""
    records = student_record.read(path)["exercises"]
    rows = []
    for id in all_exercises():
        record = records.get(id, {"solved": None, "tries": []})
        state = f"solved {record['solved']}" if record["solved"] else "tried" if record["tries"] else "open"
        rows.append((id, state, len(record["tries"])))
    return rows


def summary(rows: list[tuple[str, str, int]]) -> str:
    return f"{sum(state.startswith('solved') for _, state, _ in rows)} of {len(rows)} exercises solved"


def show_progress() -> None:
    """Show which exercises are solved, a row a lesson, and where that is remembered."""
    from covlab import plots

    path = student_record.path_here()
    rows = progress_rows(path)
    where = (
        f"remembered in {path}"
        if path
        else "only remembered until this kernel ends: this notebook does not run in work/"
    )
    lessons = []
    for lesson, group in groupby(rows, key=lambda row: row[0][:2]):
        exercises = list(group)
        solved = sum(state.startswith("solved") for _, state, _ in exercises)
        lessons.append((lesson, f"{solved} of {len(exercises)}", ", ".join(_in_words(*row) for row in exercises)))
    plots.table(["lesson", "solved", "exercises"], lessons, f"{summary(rows)}; {where}.")


def _in_words(id: str, state: str, tries: int) -> str:
    sign = "✓" if state.startswith("solved") else "◯"
    return f"{sign}\u00a0{id[3:]}" + (f" ({tries}\u00a0tries)" if tries > 1 else "")
