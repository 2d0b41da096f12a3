"""``python -m covlab.watch [options] script.py [arguments]``: run a training script as Python would, and watch it."""

import argparse
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from covlab.watch.invariants import TITLES
from covlab.watch.report import Report
from covlab.watch.session import watch

ExceptionHook = Callable[[type[BaseException], BaseException, TracebackType | None], None]

EPILOG = """
The script runs unchanged, with its own arguments, output and exceptions. The report goes to standard error.

exit status:
  the exit status of the script, if it is not 0 (it is 1 after an exception)
  1    a finding is at least as bad as --fail-on
  2    an option is unknown or has a wrong value, or a file or folder does not exist
  0    otherwise

invariants (a window is all the backwards that lead to one optimizer step):
""" + "\n".join(f"  {code}  {title}" for code, title in TITLES.items())


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m covlab.watch",
        usage="%(prog)s [options] script.py [its arguments]\n       %(prog)s [options] -m module [its arguments]",
        description="Run a training script as Python would, and report which invariants of a step it breaks and where.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verdicts = ("fault", "warning", "never")
    parser.add_argument("--fail-on", choices=verdicts, default="fault", help="fail on findings at least this bad")
    parser.add_argument("--steps", type=int, metavar="N", help="stop after N optimizer steps, for a smoke test")
    parser.add_argument("--light", action="store_true", help="measure one step in eight, and ignore the inputs")
    files = {
        "ledger": "one JSON object per step",
        "junit": "one JUnit test case per invariant",
        "json": "the report as JSON",
    }
    for name, what in files.items():
        # Make the path absolute, because the script may change its folder.
        parser.add_argument(f"--{name}", metavar="FILE", type=os.path.abspath, help=f"write {what}")
    parser.add_argument("-m", dest="module", action="store_true", help="run a module instead of a file")
    parser.add_argument("script", help="the file to run; with -m, the name of the module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    chosen = parser.parse_args(arguments)
    if chosen.steps is not None and chosen.steps < 1:
        parser.error(f"--steps must be at least 1, got {chosen.steps}")
    if not chosen.module and not os.path.isfile(chosen.script):
        parser.error(f"no such file: {chosen.script}")
    for name in files:
        if file := getattr(chosen, name):
            folder = os.path.dirname(file)
            if not os.path.isdir(folder):  # fail before the training, not after it
                parser.error(f"no such folder: {folder} (--{name})")
            if os.path.isdir(file) or not os.access(file if os.path.exists(file) else folder, os.W_OK):
                parser.error(f"--{name} must be a file that can be written, got {file}")
    return chosen


def run(chosen: argparse.Namespace) -> None:
    """Run the script as ``python script`` or ``python -m module`` would."""
    sys.argv[:] = [chosen.script, *chosen.arguments]
    if chosen.module:
        sys.path[0] = os.getcwd()
        runpy.run_module(chosen.script, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(chosen.script).resolve().parent)
        runpy.run_path(os.path.abspath(chosen.script), run_name="__main__")  # absolute, as __file__ is


def starting_in_script(hook: ExceptionHook) -> ExceptionHook:
    """Return an exception hook whose traceback begins in the script, without the frames that run the script."""

    def shortened(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        while trace is not None and trace.tb_frame.f_code.co_filename != __file__:
            trace = trace.tb_next
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(("<frozen", __file__)):
            trace = trace.tb_next
        hook(kind, error.with_traceback(trace), trace)

    return shortened


def show(report: Report) -> None:
    try:
        from rich.console import Console
    except ImportError:
        print(report, file=sys.stderr)
    else:
        Console(stderr=True, highlight=False).print(report)


def main() -> int:
    chosen = parse(sys.argv[1:])
    sys.excepthook = starting_in_script(sys.excepthook)
    watched = watch(light=chosen.light, ledger=chosen.ledger, steps=chosen.steps)
    code: str | int = 0
    try:
        with watched:
            run(chosen)
    except SystemExit as end:
        code = 0 if end.code is None else end.code
    finally:
        sys.stdout.flush()
        report = watched.report()
        show(report)
        if chosen.junit:
            report.write_junit(chosen.junit, chosen.fail_on)
        if chosen.json:
            report.write_json(chosen.json)
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    return code or int(report.failed(chosen.fail_on))


if __name__ == "__main__":
    sys.exit(main())
