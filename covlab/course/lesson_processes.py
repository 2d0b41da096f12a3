"""End every process of a lesson, also one that left its session or lost its parent.

Each process of a lesson inherits an environment variable with the lesson's own mark. On Linux, a process also ends with
its parent, and the orphans of a lesson stay below the process that runs its notebook.

Nothing can be done about a process that clears its environment *and* outlives the process that runs the notebook, or
about one of another user (`sudo`). Where there is no `prctl` (macOS, Windows), a killed runner's processes end when the
next run starts.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator

import psutil

from covlab.course import MARK

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # from linux/prctl.h
IS_LINUX = sys.platform.startswith("linux")
LIMIT = "This system cannot end what a lesson leaves behind if this command is killed; the next run ends it."
"""What a user is told where there is no ``prctl``."""
ROUNDS = 50  # a process may start others while it is being killed


def end_with_parent(parent: int, clean_up: Callable[[], None] | None = None) -> None:
    """Let the operating system end this process when its parent ends, on Linux.

    parent: the process that should be the parent. If it has ended already, this process ends here. clean_up: called
    first, if this process is able to run it.
    """
    if not IS_LINUX:
        return

    def end(number: int, frame: object) -> None:
        if clean_up is not None:
            clean_up()
        os._exit(1)

    if clean_up is not None:
        signal.signal(signal.SIGHUP, end)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL if clean_up is None else signal.SIGHUP)
    if os.getppid() != parent:
        end(0, None)


def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, on Linux, so that they can be found."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def kill_marked(mark: str) -> None:
    """Kill the processes whose mark begins with ``mark``, the descendants of this process among them or not."""
    _kill_until_none_is_left(lambda: _marked(mark))


def kill_descendants(pid: int) -> None:
    """Kill what the process started, directly or not; leave the process itself."""

    def descendants() -> Iterator[psutil.Process]:
        try:
            yield from psutil.Process(pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return

    _kill_until_none_is_left(descendants)


def _kill_until_none_is_left(find: Callable[[], Iterator[psutil.Process]]) -> None:
    for _ in range(ROUNDS):
        living = [process for process in find() if _is_alive(process)]
        if not living:
            return
        for process in living:
            try:
                process.kill()
            except psutil.Error:  # it has ended meanwhile, or belongs to another user
                continue
        psutil.wait_procs(living, timeout=0.2)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK, "").startswith(mark):
                yield process
        except (psutil.Error, OSError):  # it has ended meanwhile, or belongs to another user
            continue


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _prctl(option: int, value: int) -> None:
    if IS_LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
