"""Make a student's own copies of the notebooks in work/, and never overwrite one."""

import shutil
from pathlib import Path


def fill(root: Path) -> list[Path]:
    """Copy each notebook that is missing in root/work; return the new files."""
    work = root / "work"
    work.mkdir(exist_ok=True)
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    return [_copy(notebook, work / notebook.name) for notebook in notebooks if not (work / notebook.name).exists()]


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
