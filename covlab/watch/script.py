"""Run a script or a module as ``python`` does: ``__main__``, arguments, path, exceptions, threads, exit status."""

import builtins
import ctypes
import os
import pkgutil
import runpy
import signal
import sys
import threading
import zipfile
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from covlab.watch.seen.step_limit import StepLimitReached

_WATCH = str(Path(__file__).parent) + os.sep


class CannotStart(Exception):
    """Python cannot run the script: there is no such module, or nothing in it to run."""


def is_missing(module: str) -> bool:
    """Return whether nothing has the name of a module, or that of the package around it. This imports nothing."""
    path = [*sys.path]
    _put_first_on_path(os.getcwd())
    try:
        return find_spec(module.partition(".")[0]) is None
    except ValueError:  # no name, which is refused later, or a module that has no file
        return False
    finally:
        sys.path[:] = path


def run(script: str, arguments: list[str], module: bool, ended_by: Callable[[BaseException], None]) -> int:
    """Run to the end, also of the threads that the script leaves behind, and return its exit status.

    An exception is printed by ``sys.excepthook``. The status is the negative number of SIGINT after an interrupt.

    Args:
        ended_by: gets the exception that ends the script.

    Raises:
        CannotStart: nothing was run, apart from the packages that contain the module.
    """
    main = ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __annotations__={}, __file__=None, __cached__=None)
    sys.modules["__main__"] = main  # until the interpreter ends: threads and exit handlers may still pickle its classes
    threading.excepthook = _without_watch_in_threads(threading.excepthook)
    status = _status_of(lambda: _start(main, script, arguments, module), ended_by)
    # as the interpreter waits for threads
    interrupted = _status_of(threading._shutdown, ended_by)  # type: ignore[attr-defined]
    return status or interrupted


def _start(main: ModuleType, script: str, arguments: list[str], module: bool) -> None:
    if module:
        _put_first_on_path(os.getcwd())
        sys.argv[:] = ["-m", *arguments]
        _run_as_main(script, True)
    elif os.path.isdir(script) or zipfile.is_zipfile(script):
        _put_first_on_path(script)
        sys.argv[:] = [script, *arguments]
        _run_as_main("__main__", False)
    else:
        _put_first_on_path(os.path.dirname(os.path.realpath(script)))
        sys.argv[:] = [script, *arguments]
        _run_file(main, script)


def _status_of(function: Callable[[], None], ended_by: Callable[[BaseException], None]) -> int:
    try:
        function()
        return 0
    except CannotStart:
        raise
    except BaseException as raised:  # noqa: BLE001 - judged as the interpreter does
        error = raised
    ended_by(error)
    return exit_status(error)  # outside the handler: what an exception hook raises has no context


def _put_first_on_path(folder: str) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _run_as_main(module: str, sets_name: bool) -> None:
    try:
        runpy._run_module_as_main(module, sets_name)  # type: ignore[attr-defined]
    except SystemExit as end:
        if isinstance(end.__context__, runpy._Error):  # type: ignore[attr-defined]
            raise CannotStart(str(end.__context__)) from None
        raise


def _run_file(main: ModuleType, script: str) -> None:
    file = script if os.path.isabs(script) else os.path.join(os.getcwd(), script)  # not normalized, as python's
    vars(main).update(__file__=file, __loader__=SourceFileLoader("__main__", file))
    exec(_compiled(file), vars(main))


def _compiled(file: str) -> CodeType:
    with open(file, "rb") as stream:
        code: CodeType | None = pkgutil.read_code(stream)  # None: not compiled
    return code or compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)


def exit_status(error: BaseException) -> int:
    """Report an exception that ended the script, and return the exit status, as the interpreter does."""
    if isinstance(error, StepLimitReached):
        return 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return int(error.code or 0) & 0xFF
        _flush(sys.stdout)
        print(error.code, file=sys.stderr)
        return 1
    trace = hide_watch(error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    try:
        sys.excepthook(type(error), error, trace)
    except SystemExit as end:
        return exit_status(end)
    except BaseException as second:  # noqa: BLE001 - reported as the interpreter does
        print("Error in sys.excepthook:", file=sys.stderr)
        sys.__excepthook__(type(second), second, hide_watch(second))
        print("\nOriginal exception was:", file=sys.stderr)
        sys.__excepthook__(type(error), error, trace)
    return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1


def hide_watch(error: BaseException) -> TracebackType | None:
    """Remove the frames of the watch from an exception and from those that it was raised from; return its traceback."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = _without_watch(one.__traceback__)
            inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
            waiting += [other for other in (one.__cause__, one.__context__, *inner) if other is not None]
    return error.__traceback__


def _without_watch(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_WATCH):
        trace = trace.tb_next
    last = trace
    while last is not None:
        following = last.tb_next
        while following is not None and following.tb_frame.f_code.co_filename.startswith(_WATCH):
            following = following.tb_next
        last.tb_next = following
        last = following
    return trace


def _without_watch_in_threads(hook: Any) -> Any:
    def excepthook(args: Any) -> None:
        if args.exc_type is StepLimitReached:  # the whole script ends, not this thread alone
            main = ctypes.c_ulong(threading.main_thread().ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(main, ctypes.py_object(StepLimitReached))
            return
        if args.exc_value is None:
            return
        trace = hide_watch(args.exc_value)
        hook(threading.ExceptHookArgs((args.exc_type, args.exc_value, trace, args.thread)))

    return excepthook


def end_by_signal(number: int) -> None:
    """End this process by a signal, as if it had no handler."""
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _flush(stream: Any) -> None:
    with suppress(OSError, ValueError, AttributeError):  # a broken pipe; closed; None
        stream.flush()


def flush_output() -> None:
    """Let what the script printed appear before what is printed next."""
    _flush(sys.stdout)


def print_error(text: str) -> None:
    """Print to standard error, unless nobody reads it any more."""
    with suppress(OSError, ValueError, RuntimeError):  # a broken pipe; closed; interrupted while it printed
        print(text, file=sys.stderr, flush=True)
