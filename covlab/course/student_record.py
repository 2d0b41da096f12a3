"""What the course remembers of a student: what is solved, what was tried, what was predicted.

It is one file, `work/.progress.json`, written only by a notebook that runs in a clone's `work/` (or below it), which
is where `covlab course lab` opens a student's own copies. Anywhere else (a CI run, papermill, the course's own
runner) all is forgotten with the kernel. COVLAB_PROGRESS in the environment names another file; empty, it means
none. Nothing is sent anywhere.
"""

import json
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

VARIABLE = "COVLAB_PROGRESS"
NAME = ".progress.json"
_forgetful: dict = {}  # what stands in for the file where there is none


def path_here() -> Path | None:
    """The file of this process, or None where nothing is to be written."""
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE]).absolute() if os.environ[VARIABLE] else None
    for folder in (Path.cwd(), *Path.cwd().parents):
        if folder.name == "work" and (folder.parent / "lessons").is_dir():
            return folder / NAME
    return None


def read(path: Path | None) -> dict:
    """{"exercises": {id: {"solved": date or None, "tries": [fingerprint]}}, "predictions": {id: choice}}.

    A file that cannot be read is set aside under another name, and a line is printed that says so.
    """
    if path is None:
        return _complete(_forgetful)
    try:
        return _complete(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return _complete({})
    except (ValueError, OSError) as error:
        aside = path.with_name(f"{path.name}.damaged-{os.getpid()}")
        try:
            os.replace(path, aside)
            kept = f"It is kept as {aside.name}, and a new one begins."
        except OSError:
            kept = "It stays as it is, and nothing is remembered."
        print(f"{path} cannot be read ({error}). {kept}")
        return _complete({})


def change(edit: Callable[[dict], None]) -> dict:
    """Let `edit` change what is remembered, and keep it: the whole file is replaced at once. Returns it."""
    path = path_here()
    kept = read(path)
    edit(kept)
    if path is None:
        _forgetful.update(kept)
        return kept
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        print(f"Your progress could not be written: {error}")
    return kept


def remember_try(exercise: str, fingerprint: str | None, solved: bool) -> dict:
    """Add one try of an exercise (None: one that does not count); returns what is remembered of this exercise."""

    def edit(kept: dict[str, Any]) -> None:
        record = kept["exercises"].setdefault(exercise, {"solved": None, "tries": []})
        if fingerprint is not None and fingerprint not in record["tries"]:
            record["tries"].append(fingerprint)
        if solved and not record["solved"]:
            record["solved"] = date.today().isoformat()

    return change(edit)["exercises"][exercise]


def remember_prediction(question: str, choice: str) -> None:
    change(lambda kept: kept["predictions"].update({question: choice}))


def prediction(question: str) -> str | None:
    """What was predicted, or None."""
    return read(path_here())["predictions"].get(question)


def _complete(kept: object) -> dict[str, Any]:
    """Raises ValueError for what was never written here."""
    if not isinstance(kept, dict):
        raise ValueError("expected a table")
    kept = {"exercises": {}, "predictions": {}} | kept
    for record in [kept["exercises"], kept["predictions"], *getattr(kept["exercises"], "values", list)()]:
        if not isinstance(record, dict):
            raise ValueError("expected a table in every place")
    for record in kept["exercises"].values():
        if not isinstance(record.get("tries"), list) or "solved" not in record:
            raise ValueError("an exercise without its tries")
    return kept
