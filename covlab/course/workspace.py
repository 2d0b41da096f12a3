"""Make a student's own copies of the notebooks in work/, and never overwrite one.

They are copies of root/notebooks. Where that does not exist, they are made from the lessons.
"""

from contextlib import suppress
from pathlib import Path

from covlab.course import student_record


def fill(root: Path) -> list[Path]:
    """Make each notebook that is missing in root/work; return the new files.

    Raises LessonError if there are neither notebooks nor lessons.
    """
    texts, work = _notebooks(root), _work(root)
    return [_create(work / name, text) for name, text in texts.items() if not (work / name).exists()]


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
    texts = _notebooks(root)
    chosen = [name for name in texts if lesson and Path(name).stem.startswith(lesson)]
    if len(chosen) != 1:
        there = ", ".join(Path(name).stem for name in texts) or "none"
        raise ValueError(f"lesson {lesson!r} names {len(chosen)} notebooks, expected one of: {there}")
    number, stem, work = 1, Path(chosen[0]).stem, _work(root)
    while (target := work / f"{stem}_fresh{number if number > 1 else ''}.ipynb").exists():
        number += 1
    return _create(target, texts[chosen[0]])


def _notebooks(root: Path) -> dict[str, bytes]:
    """Return the names of the students' notebooks, sorted, and what is in each."""
    folder = root / "notebooks"
    if folder.is_dir():
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.ipynb"))}
    from covlab.course.editions import student_editions  # reading lessons takes seconds to import

    return {name: text.encode() for name, text in student_editions(root).items()}


def _work(root: Path) -> Path:
    work = root / "work"
    work.mkdir(exist_ok=True)
    if not (root / "lessons").is_dir():  # then only the record tells a notebook that it is a student's copy
        with suppress(FileExistsError):
            _create(work / student_record.NAME, b"{}\n")
    return work


def _create(target: Path, text: bytes) -> Path:
    # Mode "x" fails if the file exists, even if another program created it a moment ago.
    with target.open("xb") as new:
        new.write(text)
    return target
