"""Make a student's own copies of the notebooks in work/, and never overwrite one."""

import shutil
from pathlib import Path

from covlab.course import student_record


def fill(root: Path) -> list[Path]:
    """Copy each notebook that is missing in root/work; return the new files."""
    work = root / "work"
    work.mkdir(exist_ok=True)
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    return [_copy(notebook, work / notebook.name) for notebook in notebooks if not (work / notebook.name).exists()]


def notebook_to_open(root: Path) -> Path | None:
    """Return the notebook in root/work of the lesson last worked on, at first of lesson 00; None if there is neither.

    Of several copies of a lesson: the one that was saved last.
    """
    work = root / "work"
    for number in (student_record.read(work / student_record.NAME).get("last"), "00"):
        copies = [path for path in work.glob("[0-9][0-9]_*.ipynb") if path.name[:2] == number]
        if copies:
            return max(copies, key=lambda path: (path.stat().st_mtime, path.name))
    return None


def reset(root: Path, lesson: str) -> Path:
    """Put a fresh copy of one lesson next to the student's, under a free name; return its path.

    lesson: the beginning of the notebook's name, such as "05". Raises ValueError if not exactly one notebook has it.
    """
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    chosen = [notebook for notebook in notebooks if lesson and notebook.stem.startswith(lesson)]
    if len(chosen) != 1:
        there = ", ".join(notebook.stem for notebook in notebooks) or "none"
        raise ValueError(f"lesson {lesson!r} names {len(chosen)} notebooks, expected one of: {there}")
    (root / "work").mkdir(exist_ok=True)
    number, stem = 1, chosen[0].stem
    while (target := root / "work" / f"{stem}_fresh{number if number > 1 else ''}.ipynb").exists():
        number += 1
    return _copy(chosen[0], target)


def _copy(source: Path, target: Path) -> Path:
    # Mode "x" fails if the file exists, even if another program created it a moment ago.
    with target.open("xb") as new, source.open("rb") as old:
        shutil.copyfileobj(old, new)
    return target
