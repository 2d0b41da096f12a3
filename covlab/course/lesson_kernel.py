"""Start the kernel of a lesson, and let it report failures that Python and IPython keep to themselves.

    python -m covlab.course.lesson_kernel -f connection.json

A failure is a line on stderr that begins with HIDDEN: a message logged as an error, an exception of a
`concurrent.futures.Future` that nobody asked for, and `subprocess.run` of a program that fails where the lesson does
not look at `returncode`.
"""

import atexit
import logging
import os
import subprocess
import sys
from concurrent.futures import Future
from typing import Any

from covlab.course.lesson_processes import end_with_parent

HIDDEN = "covlab: hidden failure: "
# Loggers of the kernel itself, and asyncio's, whose errors end with a traceback.
NOT_THE_LESSONS = ("IPKernelApp", "ipykernel", "traitlets", "tornado", "zmq", "asyncio")


def main() -> None:
    end_with_parent(int(os.environ.get("JPY_PARENT_PID", os.getppid())))
    log = os.dup(2)  # ipykernel redirects 2

    def tell(text: str) -> None:
        os.write(log, f"\n{HIDDEN}{' '.join(text.split())}\n".encode(errors="backslashreplace")[:4000])

    _watch_logging(tell)
    _watch_futures(tell)
    _watch_programs(tell)
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]  # as ipykernel_launcher does: a lesson's own files must not hide a library
    from ipykernel.kernelapp import launch_new_instance
    from ipykernel.kernelbase import Kernel

    # The runner ends all processes of a lesson. ipykernel would first ask its children for 14 seconds, and some never
    # listen, such as the tracker that multiprocessing starts for its own files.
    Kernel._progressively_terminate_all_children = _leave_children  # type: ignore[method-assign]
    launch_new_instance()


async def _leave_children(kernel: Any) -> None:
    pass


def _watch_logging(tell: Any) -> None:
    make = logging.getLogRecordFactory()

    def make_and_tell(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = make(*arguments, **named)
        if record.levelno >= logging.ERROR and record.name.partition(".")[0] not in NOT_THE_LESSONS:
            tell(f"the logger {record.name!r} has the {record.levelname} {record.msg}")
        return record

    logging.setLogRecordFactory(make_and_tell)


def _watch_futures(tell: Any) -> None:
    unread: dict[Future, BaseException | None] = {}
    set_exception = Future.set_exception

    def remember(self: Future, exception: BaseException | None) -> None:
        unread[self] = exception
        set_exception(self, exception)

    def reading(method: Any) -> Any:
        def read(self: Future, *arguments: Any, **named: Any) -> Any:
            try:
                return method(self, *arguments, **named)
            finally:
                if self.done():
                    unread.pop(self, None)

        return read

    Future.set_exception = remember  # type: ignore[method-assign]
    Future.result = reading(Future.result)  # type: ignore[method-assign]
    Future.exception = reading(Future.exception)  # type: ignore[method-assign]

    @atexit.register
    def tell_unread() -> None:
        for exception in unread.values():
            tell(f"a future has an exception that nobody asked for: {type(exception).__name__}: {exception}")


def _watch_programs(tell: Any) -> None:
    run = subprocess.run

    def run_and_tell(*arguments: Any, **named: Any) -> Any:
        done = run(*arguments, **named)
        caller = sys._getframe(1)
        looked_at = {"returncode", "check_returncode"} & {*caller.f_code.co_names}
        if done.returncode and not looked_at and caller.f_globals.get("__name__") == "__main__":
            tell(f"the program {done.args!r} ended with exit code {done.returncode}")
        return done

    subprocess.run = run_and_tell


if __name__ == "__main__":
    main()
