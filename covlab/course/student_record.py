"""The record of a student: predictions, exercises tried and solved, and the progress table.

It is one file, `work/.progress.json`. Only a notebook in a clone's `work/` (or below it) writes it; `covlab course lab`
opens a student's own copies there. Anywhere else (in CI, in papermill, in the course's own runner) the record is lost
when the kernel ends. COVLAB_PROGRESS in the environment names another file; if it is empty, there is no file.
Several notebooks may write at once: each holds a lock while it reads, changes and replaces the file. If the file cannot
be written, the kernel says so once and remembers by itself. Nothing is sent anywhere.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from html import escape
from itertools import count, groupby
from pathlib import Path
from typing import Any

from filelock import FileLock

from covlab.course import card
from covlab.course.paths import PATHS, STOPS
from covlab.durable_files import write_atomically
from covlab.markup import marked

VARIABLE = "COVLAB_PROGRESS"
NAME = ".progress.json"
PATIENCE = 20.0  # seconds to wait for other notebooks; each needs some milliseconds
_forgetful: dict = {}  # the record if there is no file, or none that can be written
_unwritable: set[Path] = set()  # files that this kernel could not write
_asked: dict[str, tuple[str, list[str]]] = {}  # text and choices of the questions asked in this kernel


# The file


def path_here() -> Path | None:
    """Return the path of the record's file, or None if this process has none that it should and can write."""
    if VARIABLE in os.environ:
        path = Path(os.environ[VARIABLE]).absolute() if os.environ[VARIABLE] else None
    else:
        folders = (Path.cwd(), *Path.cwd().parents)
        work = (each for each in folders if each.name == "work" and (each.parent / "lessons").is_dir())
        path = next((folder / NAME for folder in work), None)
    return None if path in _unwritable else path


def read(path: Path | None) -> dict:
    """Return {"exercises": {id: {"solved": date or None, "tries": [fingerprint]}}, "predictions": {id: choice}}.

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
        return _complete(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _complete({})
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
    if not isinstance(kept["exercises"], dict) or not isinstance(kept["predictions"], dict):
        raise ValueError("expected tables of exercises and predictions")
    for record in kept["exercises"].values():
        if not isinstance(record, dict) or not _are_texts(record.get("tries")) or "solved" not in record:
            raise ValueError("an exercise without its tries")
        if not isinstance(record["solved"], str | None):
            raise ValueError("an exercise that was not solved on a date")
    if not _are_texts([*kept["predictions"].values()]):
        raise ValueError("a prediction that is no text")
    return kept


def _are_texts(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(each, str) for each in values)


# Exercises


def remember_try(exercise: str, fingerprint: str | None, solved: bool) -> dict:
    """Add a try of an exercise (None if it does not count), and return the record of this exercise."""
    with changed() as kept:
        record = kept["exercises"].setdefault(exercise, {"solved": None, "tries": []})
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


# Predictions: asked before an experiment, and shown again with its outcome


def remember_prediction(question: str, choice: str) -> None:
    with changed() as kept:
        kept["predictions"][question] = choice


def prediction(question: str) -> str | None:
    """Return the choice that was predicted, or None."""
    return read(path_here())["predictions"].get(question)


def predict(question: str, text: str, choices: Sequence[str]) -> None:
    """Ask for a prediction, with no choice selected at first, and remember the choice for `outcome`.

    In a run without a person the choices are shown as a list. question: its id, "NN.name". text: the question, or the
    beginning of a sentence. choices: the answers, or the ways to complete the sentence.
    Raises ValueError for fewer than two choices, or two equal ones.
    """
    choices = list(choices)
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(isinstance(each, str) for each in choices):
        raise ValueError(f"predict({question!r}, …): choices must be two or more different texts, got {choices!r}")
    import ipywidgets
    from IPython.display import display

    _asked[question] = (text, choices)
    before = prediction(question)
    radio = ipywidgets.RadioButtons(
        options=choices,
        value=before if before in choices else None,
        description="I predict:",
        layout=ipywidgets.Layout(width="max-content"),
        style={"description_width": "initial"},
    )
    note = ipywidgets.HTML(_noted(radio.value))

    def remember(change: dict[str, str]) -> None:
        remember_prediction(question, change["new"])
        note.value = _noted(change["new"])

    radio.observe(remember, names="value")
    heading = f"<b>Predict.</b> {marked(text)}"
    box = ipywidgets.VBox([ipywidgets.HTML(heading), radio, note])
    box.add_class("covlab-predict")
    # One output in two forms: the control where a kernel runs, and the list of choices on a static page.
    still = f"<p>{heading}</p><ul>{''.join(f'<li>{escape(each)}</li>' for each in choices)}</ul>"
    plain = "\n".join([f"Predict. {text}", *(f"  ( ) {each}" for each in choices)])
    display(box._repr_mimebundle_() | {"text/html": still, "text/plain": plain}, raw=True)


def outcome(question: str, happened: str, because: str = "") -> None:
    """Show the prediction next to ``happened``, the choice that came true (let the lesson compute it).

    Raises ValueError if ``happened`` is none of the choices.
    """
    text, choices = _asked.get(question, ("", [happened]))
    if happened not in choices:
        raise ValueError(f"outcome({question!r}, …): got {happened!r}, expected one of {', '.join(map(repr, choices))}")
    predicted = prediction(question)
    if predicted is None:
        line = "You made no prediction. You remember an outcome better if you guess first."
    elif predicted == happened:
        line = f"You predicted: {predicted}. That is what happened."
    else:
        line = f"You predicted: {predicted}. It came out differently, so there is something to learn here."
    style = "good" if predicted == happened else "plain"
    card(f"Outcome: {happened}", list(filter(None, [text, line, because])), style)


def _noted(choice: str | None) -> str:
    text = f"Noted: {escape(choice)}." if choice else "Choose one before you continue."
    return f'<span role="status">{text}</span>'  # role=status: a screen reader announces changes
