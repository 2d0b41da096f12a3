"""The record of a student: predictions with their times, exercises tried and solved, and the progress table.

It is one file, `work/.progress.json`. Only a notebook in `work/` (or below it) writes it: in a clone, or where
`covlab course lab` made `work/` and put a student's own copies there. Anywhere else (in CI, in papermill, in the
course's own runner) the record is lost when the kernel ends. COVLAB_PROGRESS in the environment names another file; if
it is empty, there is no file.
Several notebooks may write at once: each holds a lock while it reads, changes and replaces the file. If the file cannot
be written, the kernel says so once and remembers by itself. Nothing is sent anywhere.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime
from itertools import count, groupby
from pathlib import Path
from typing import Any

from filelock import FileLock

from covlab.course.paths import PATHS, STOPS
from covlab.durable_files import write_atomically

VARIABLE = "COVLAB_PROGRESS"
NAME = ".progress.json"
PATIENCE = 20.0  # seconds to wait for other notebooks; each needs some milliseconds
_forgetful: dict = {}  # the record if there is no file, or none that can be written
_unwritable: set[Path] = set()  # files that this kernel could not write


# The file


def path_here() -> Path | None:
    """Return the path of the record's file, or None if this process has none that it should and can write."""
    if VARIABLE in os.environ:
        path = Path(os.environ[VARIABLE]).absolute() if os.environ[VARIABLE] else None
    else:
        folders = (Path.cwd(), *Path.cwd().parents)
        work = (
            each
            for each in folders
            if each.name == "work" and ((each / NAME).exists() or (each.parent / "lessons").is_dir())
        )
        path = next((folder / NAME for folder in work), None)
    return None if path in _unwritable else path


def read(path: Path | None) -> dict:
    """Return {"exercises": {id: {"solved": date or None, "tries": [fingerprint]}}, "predictions": {id: prediction}}.

    After the first exercise or prediction it also has "last", the number of the lesson last worked on. A prediction is
    {"choice": text, "at": time or None, "outcome_shown": time or None}.
    If the file cannot be read, print a line that says so and return an empty record. The file stays as it is.
    """
    try:
        return _load(path)
    except (ValueError, OSError) as error:
        print(f"{path} cannot be read ({error}).")
        return _complete({})


@contextmanager
def changed() -> Iterator[dict[str, Any]]:
    """Yield the record for changes, then replace the file. A file that is no record is first set aside."""
    path = path_here()
    with ExitStack() as stack:
        try:
            if path is not None:
                stack.enter_context(FileLock(f"{path}.lock", timeout=PATIENCE))
            kept = _load_or_set_aside(path)
        except OSError as error:
            _remember_here(path, error)
            path, kept = None, read(path)
        yield kept
        text = json.dumps(kept, indent=1, sort_keys=True) + "\n"
        try:
            if path is not None:
                write_atomically(path, lambda new: new.write_text(text, encoding="utf-8"))
                return
        except OSError as error:
            _remember_here(path, error)
        _forgetful.update(kept)


def _load(path: Path | None) -> dict[str, Any]:
    """Raises ValueError if the file is no record, OSError if it cannot be read."""
    if path is None:
        return _complete(_forgetful)
    try:
        return parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return _complete({})


def parsed(text: str) -> dict[str, Any]:
    """Return the record that a file holds. Raises ValueError if it is none."""
    try:
        return _complete(json.loads(text))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _load_or_set_aside(path: Path | None) -> dict[str, Any]:
    """Return the record. Rename a file that is none, and begin a new one; call this only with the lock held."""
    try:
        return _load(path)
    except ValueError as error:
        if path is None:
            raise
        names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
        aside = next(name for name in names if not name.exists())
        path.rename(aside)
        print(f"{path} cannot be read ({error}). It is kept as {aside.name}, and a new one begins.")
        return _complete({})


def _remember_here(path: Path | None, error: OSError) -> None:
    """Write the file no more from this kernel, and say why."""
    if path is not None:
        _unwritable.add(path)
        print(f"{path} cannot be written ({error}). Your progress is forgotten when this kernel ends.")


def _complete(kept: object) -> dict[str, Any]:
    """Add missing tables to a record. Raises ValueError if the record has another structure than this module writes."""
    if not isinstance(kept, dict):
        raise ValueError("expected a table")
    kept = dict[str, Any](exercises={}, predictions={}) | kept
    if not isinstance(kept.get("last", ""), str):
        raise ValueError("a last lesson that is no text")
    if not isinstance(kept["exercises"], dict) or not isinstance(kept["predictions"], dict):
        raise ValueError("expected tables of exercises and predictions")
    for record in kept["exercises"].values():
        if not isinstance(record, dict) or not _are_texts(record.get("tries")) or "solved" not in record:
            raise ValueError("an exercise without its tries")
        if not isinstance(record["solved"], str | None):
            raise ValueError("an exercise that was not solved on a date")
    kept["predictions"] = {id: _complete_prediction(value) for id, value in kept["predictions"].items()}
    return kept


def _complete_prediction(value: object) -> dict[str, Any]:
    if isinstance(value, str):  # as earlier releases wrote it
        value = {"choice": value}
    if not isinstance(value, dict) or not isinstance(value.get("choice"), str):
        raise ValueError("a prediction without its choice")
    complete = dict[str, Any](at=None, outcome_shown=None) | value
    if not isinstance(complete["at"], str | None) or not isinstance(complete["outcome_shown"], str | None):
        raise ValueError("a prediction without its time")
    return complete


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(each, str) for each in values)


# Exercises


def remember_try(exercise: str, fingerprint: str | None, solved: bool) -> dict:
    """Add a try of an exercise (None if it does not count), and return the record of this exercise."""
    with changed() as kept:
        record = kept["exercises"].setdefault(exercise, {"solved": None, "tries": []})
        kept["last"] = exercise[:2]
        if fingerprint is not None and fingerprint not in record["tries"]:
            record["tries"].append(fingerprint)
        if solved and not record["solved"]:
            record["solved"] = date.today().isoformat()
    return record


def progress_rows(path: Path | None) -> list[tuple[str, str, int]]:
    """Return (exercise, "solved DATE", "tried" or "open", number of tries) for every exercise of the course."""
    from covlab.course.exercises import all_exercises

    records = read(path)["exercises"]
    rows = []
    for id in all_exercises():
        record = records.get(id, {"solved": None, "tries": []})
        state = f"solved {record['solved']}" if record["solved"] else "tried" if record["tries"] else "open"
        rows.append((id, state, len(record["tries"])))
    return rows


def summary(rows: Sequence[tuple[str, str, int]]) -> str:
    return f"{sum(state.startswith('solved') for _, state, _ in rows)} of {len(rows)}"


def what_is_next(rows: Sequence[tuple[str, str, int]], after: str | None = None) -> str:
    """Return a sentence that names the next open exercise: of the lesson ``after``, else of each path's next lesson.

    rows: as `progress_rows` returns them. after: the number of the lesson that the student is in.
    """
    opened = [id for id, state, _ in rows if not state.startswith("solved")]
    if not opened:
        return "You have solved every exercise of the course."
    if here := [id for id in opened if id[:2] == after]:
        return f"Next: exercise {here[0]} in this lesson."
    with_open = {id[:2] for id in opened}
    found = {name: next((number for number in path if number in with_open), None) for name, path in PATHS.items()}
    found = {name: number for name, number in found.items() if number}
    if len(set(found.values())) == 1 and len(found) == len(PATHS):
        return f"Next: lesson {next(iter(found.values()))}."
    words = [f"lesson {number} ({name.lower()})" for name, number in found.items()]
    return f"Next: {' or '.join(words)}." if words else f"Next: lesson {opened[0][:2]}."


def show_progress() -> None:
    """Show both paths with what is solved, one row per lesson, and where that is remembered."""
    from covlab import plots

    path = path_here()
    rows = progress_rows(path)
    no_file = "its file cannot be written" if _unwritable else "this notebook is not in work/"
    where = f"remembered in {path}" if path else f"forgotten when this kernel ends, since {no_file}"
    lessons = []
    for lesson, group in groupby(rows, key=lambda row: row[0][:2]):
        exercises = list(group)
        words = [
            f"{'✓' if state.startswith('solved') else '◯'}\u00a0{id[3:]}"
            + (f" ({tries}\u00a0tries)" if tries > 1 else "")
            for id, state, tries in exercises
        ]
        stop = STOPS.get(lesson)
        place = (stop.on_bugs_path, stop.minutes) if stop else ("", "")
        lessons.append((lesson, *place, summary(exercises), ", ".join(words)))
    header = ["lesson", "bugs path", "minutes", "solved", "exercises"]
    plots.table(header, lessons, f"{summary(rows)} exercises solved; {where}. {what_is_next(rows)}")


# Predictions


def remember_prediction(question: str, choice: str, choices: Sequence[str]) -> dict[str, Any]:
    """Remember a choice and its time, and return the record of the question.

    If the outcome has been shown, the first choice stays, unless it is none of the ``choices`` any more.
    """
    with changed() as kept:
        before = kept["predictions"].get(question)
        kept["last"] = question[:2]
        if not (before and before["outcome_shown"] and before["choice"] in choices):
            kept["predictions"][question] = {"choice": choice, "at": _now(), "outcome_shown": None}
        return kept["predictions"][question]


def remember_outcome(question: str) -> dict[str, Any]:
    """Remember when the outcome of a prediction was first shown, and return the record of the question."""
    with changed() as kept:
        record = kept["predictions"][question]
        kept["last"] = question[:2]
        record["outcome_shown"] = record["outcome_shown"] or _now()
        return record


def prediction(question: str) -> dict[str, Any] | None:
    """Return {"choice": text, "at": time, "outcome_shown": time or None}; None if nothing was predicted."""
    return read(path_here())["predictions"].get(question)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
