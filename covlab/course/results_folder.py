"""Write the results of a run apart from those of the last run, and put them in their place when they are complete.

Several runs may go on in one clone. Each writes to a folder of its own, and holds the lock next to it as long as it
lives. A lock that nobody holds belongs to a run that was killed; the next run removes what that one left behind.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from covlab.course.lesson_processes import kill_marked


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder, which replaces ``folder`` at the end of the block; after an exception, ``folder`` stays.

    Raises OSError if ``folder`` cannot be replaced.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    with _one_at_a_time(folder):
        _remove_leftovers(folder)
        alive = FileLock(f"{new}.lock")
        alive.acquire()
        new.mkdir()
    try:
        yield new
        with _one_at_a_time(folder):
            _replace(folder, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        alive.release()
        Path(alive.lock_file).unlink(missing_ok=True)


def _one_at_a_time(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def _replaced(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def _replace(folder: Path, new: Path) -> None:
    """Put ``new`` in the place of ``folder``. A run that is killed in between is completed by `_remove_leftovers`."""
    new.mkdir(exist_ok=True)  # a lesson may have removed it
    if folder.exists():
        os.replace(folder, _replaced(folder))
    try:
        os.replace(new, folder)
    except OSError:
        if _replaced(folder).exists():
            os.replace(_replaced(folder), folder)
        raise
    shutil.rmtree(_replaced(folder), ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    if _replaced(folder).exists() and not folder.exists():
        os.replace(_replaced(folder), folder)
    shutil.rmtree(_replaced(folder), ignore_errors=True)
    for path in folder.parent.glob(f".{folder.name}-*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue  # that run still goes on
        left = path.with_suffix("")
        kill_marked(str(left) + os.sep)
        shutil.rmtree(left, ignore_errors=True)
        lock.release()  # first: Windows removes no file that is open
        path.unlink(missing_ok=True)
