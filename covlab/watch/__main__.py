"""``python -m covlab.watch [options] script.py [arguments]``: run a training script as Python would, and watch it."""

import argparse
import atexit
import io
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import covlab
from covlab.watch import script
from covlab.watch.blind_spots import CODE, TITLE
from covlab.watch.finding import Finding
from covlab.watch.html_report import write_html
from covlab.watch.invariants import TITLES
from covlab.watch.job import Job, Others, path_of_this_rank
from covlab.watch.job_report import job_report
from covlab.watch.known_findings import Baseline, write_baseline
from covlab.watch.live_findings import STOP_ON, live_text
from covlab.watch.report import FAIL_ON, TEXT_WIDTH, Report
from covlab.watch.sarif import write_sarif
from covlab.watch.selection import codes_of, ignored_codes, project_settings
from covlab.watch.session import watch

EPILOG = """
The script runs unchanged, with its own arguments, output, exceptions and signals. The report goes to standard error
when the script and its threads have ended. The first fault that is sure is told at once, after 20 steps or more. The
report is also written when SIGTERM or SIGHUP ends the script.

In a job of several processes (torchrun, srun, mpirun), rank 0 prints one report of all ranks. Its files have the
findings of all ranks, too. The others write files of their own, with the rank in their names: report.rank1.json. Rank 0
waits 10 seconds for a rank that still runs, which then reports by itself, and tells of which ranks there is no report
(W00). Ranks on several machines find each other if a report file is written into a folder that the machines share.

`explain` lists the invariants below; `explain W01` says what W01 means, with an example, its report and the fix.

exit status:
  the exit status of the script, if it is not 0 (it is 1 after an exception)
  1    a finding is at least as bad as --fail-on
  2    an option is unknown or has a wrong value, there is no such script or module, or a file cannot be read or
       written
  3    the training was not seen, or not all of it, so "nothing found" would be wrong (W00)
  0    otherwise
With --fail-on never, it is always that of the script. --fail-on unseen allows only 3, fault 1 and 3.

settings of a project, in the nearest pyproject.toml above the script (for -m: above the current folder):
  [tool.covlab.watch]
  select = ["W01", "W03"]           # as --select
  ignore = ["W13"]                  # as --ignore
  baseline = "watch-baseline.json"  # as --baseline; relative to this file
  fail-on = "warning"               # as --fail-on
  light = true                      # as --light
An option of the command line wins over the setting of the same name.

invariants (a window is all the backwards that lead to one optimizer step):
""" + "\n".join(f"  {code}  {title}" for code, title in {CODE: TITLE, **TITLES}.items())

FILES = {
    "ledger": "one JSON object per step",
    "junit": "one JUnit test case per invariant",
    "json": "the report as JSON (docs/watch-report.schema.json)",
    "sarif": "the report as SARIF 2.1.0, for code scanning",
    "html": "the report and pictures of the run as one HTML page",
    "write-baseline": "a baseline of what is found, which then counts as known; it replaces --baseline",
}
DEMO = Path(__file__).parent / "demo" / "broken_loop.py"


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: Any = None) -> None:
        _take_every_letter()
        super().print_help(file)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        "python -m covlab.watch",
        usage="%(prog)s [options] script.py [its arguments]\n       %(prog)s [options] -m module [its arguments]"
        "\n       %(prog)s [options] --demo"
        "\n       %(prog)s explain [W01 …]",
        description="Run a training script as Python would, and report which invariants of a step it breaks and where.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--fail-on", choices=FAIL_ON, help="fail on findings at least this bad (default: fault)")
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="end after N steps of an optimizer, or after much work without one",
    )
    parser.add_argument(
        "--light", action=argparse.BooleanOptionalAction, help="measure one step in eight, and ignore the inputs"
    )
    parser.add_argument("--stop-on", choices=STOP_ON, help="end the run as soon as a finding at least this bad is sure")
    parser.add_argument("--quiet", action="store_true", help="do not tell the first sure fault while the run goes on")
    parser.add_argument("--select", metavar="CODES", help="check only these invariants, such as W01,W03")
    parser.add_argument("--ignore", metavar="CODES", help="do not check these invariants, such as W13")
    parser.add_argument(
        "--baseline", metavar="FILE", type=os.path.abspath, help="do not count the findings that FILE lists as known"
    )
    for name, what in FILES.items():
        # Make the path absolute, because the script may change its folder.
        parser.add_argument(f"--{name}", metavar="FILE", type=os.path.abspath, help=f"write {what}")
    parser.add_argument("--demo", action="store_true", help="watch a small loop with bugs, which comes with covlab")
    parser.add_argument("--version", action="version", version=f"covlab {covlab.__version__}")
    parser.add_argument("-m", dest="module", metavar="MODULE", help="run a module instead of a file")
    parser.add_argument("script", nargs="?", help="the file to run, or a folder with a file __main__.py")
    own, rest = _split(arguments)
    chosen = parser.parse_args(own)
    if chosen.demo:
        if chosen.module is not None or rest:
            parser.error(f"--demo runs its own script, got {chosen.module or rest[0]!r} as well")
        rest = [str(DEMO)]
    if chosen.module is None and not rest:
        parser.error("the script to run must be named, or -m and a module")
    chosen.script, chosen.arguments = (chosen.module, rest) if chosen.module is not None else (rest[0], rest[1:])
    if chosen.steps is not None and chosen.steps < 1:
        parser.error(f"--steps must be at least 1, got {chosen.steps}")
    if chosen.module is None:
        main = os.path.join(chosen.script, "__main__.py") if os.path.isdir(chosen.script) else chosen.script
        if not os.path.exists(main):
            parser.error(f"the script must be a file, or a folder with a file __main__.py; no such file: {main!r}")
        if not os.access(main, os.R_OK):
            parser.error(f"the script must be a file that you may read, got {main!r}")
    elif chosen.module.endswith(".py") and os.path.exists(chosen.module):
        parser.error(f"-m takes the name of a module; {chosen.module!r} is a file, which needs no -m")
    elif script.is_missing(chosen.module):
        parser.error(f"No module named {chosen.module}")
    if chosen.write_baseline is not None and chosen.stop_on is not None:
        parser.error("--write-baseline writes what a whole run finds, but --stop-on may end it before")
    _add_settings(parser, chosen)
    _check_files(parser, chosen)
    return chosen


def _add_settings(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    """Check which invariants and known findings are chosen, and take what was not chosen from the project."""
    try:
        settings = project_settings(_folder_of(chosen))
        for name in ("select", "ignore"):
            if getattr(chosen, name) is not None:
                codes_of(f"--{name}", getattr(chosen, name))
        for name, default in {
            "select": None,
            "ignore": None,
            "baseline": None,
            "fail_on": "fault",
            "light": False,
        }.items():
            if getattr(chosen, name) is None:
                setattr(chosen, name, settings.get(name, default))
        ignored_codes(chosen.select, chosen.ignore)
    except OSError as error:
        parser.error(f"{error.filename or 'the current folder'} cannot be read: {error.strerror}")
    except ValueError as error:
        parser.error(str(error))
    chosen.known = None
    if chosen.baseline is not None and chosen.write_baseline is None:
        try:
            chosen.known = Baseline(chosen.baseline)
        except OSError as error:
            parser.error(f"--baseline must be a file that can be read, got {chosen.baseline} ({error.strerror})")
        except ValueError as error:
            parser.error(f"--baseline {chosen.baseline}: {error}")


def _folder_of(chosen: argparse.Namespace) -> Path:
    """Return the folder of the script, or for a module the current one."""
    if chosen.module is not None:
        return Path.cwd()
    path = Path(chosen.script).resolve()
    return path if path.is_dir() else path.parent


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the watch's own options, and the script with its arguments, or the arguments of a module."""
    takes_value = (
        "--fail-on",
        "--steps",
        "--stop-on",
        "--select",
        "--ignore",
        "--baseline",
        *(f"--{name}" for name in FILES),
    )
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        if arguments[at].startswith("-m"):
            at += 2 if arguments[at] == "-m" else 1
            break
        at += 2 if arguments[at] in takes_value else 1
    return arguments[:at], arguments[at:]


def _check_files(parser: argparse.ArgumentParser, chosen: argparse.Namespace) -> None:
    """Put the rank into the names of files, and refuse those that cannot be written before the training."""
    named: dict[str, str] = {}
    chosen.named_file = next(filter(None, (getattr(chosen, option.replace("-", "_")) for option in FILES)), None)
    for option in FILES:
        file = getattr(chosen, option.replace("-", "_"))
        if file is None:
            continue
        path = Path(file)
        if not path.parent.is_dir():
            parser.error(f"--{option}: no such folder: {path.parent}")
        if chosen.module is None and path.exists() and path.samefile(chosen.script):
            parser.error(f"--{option} would overwrite the script {chosen.script}")
        if named.setdefault(file, option) != option:
            parser.error(f"--{named[file]} and --{option} name the same file: {file}")
        path = path_of_this_rank(path)
        if option != "ledger":  # to which the watch itself adds the rank
            setattr(chosen, option.replace("-", "_"), str(path))
        is_new = not path.exists()
        try:
            with path.open("ab"):
                pass
            if is_new:
                path.unlink()
        except OSError as error:
            parser.error(f"--{option} must be a file that can be written, got {path} ({error.strerror})")


class ScriptRun:
    """One run of a script under the watch, whose report is made once, however the run ends."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.job = Job(chosen.named_file)
        self.watched = watch(
            light=chosen.light,
            ledger=chosen.ledger,
            steps=chosen.steps,
            select=chosen.select,
            ignore=chosen.ignore,
            baseline=chosen.known,
            stop_on=chosen.stop_on,
            # what is found now will be known
            tell=None if chosen.quiet or self.job.rank or chosen.write_baseline is not None else self._tell,
        )
        self.process = os.getpid()
        self.status: int | None = None  # of the report; None: it has not been made
        self.is_finishing = False
        self.is_hurried = False  # a signal ends the process
        self.ended_by: int | None = None  # a signal that came while the report was made

    def _tell(self, finding: Finding, steps: int) -> None:
        script.flush_output()
        script.print_error(live_text(finding, steps, ends=self.chosen.stop_on is not None, width=_terminal_width()))

    def refuse(self, error: script.CannotStart) -> int:
        """Say why nothing was run, instead of a report, and return the exit status."""
        script.print_error(f"python -m covlab.watch: {error}")
        self.status = 2
        return self.status

    def finish(self) -> int:
        """Write the report, unless that was done before, and return the exit status that it asks for."""
        if self.status is None:
            self.status, self.is_finishing = 0, True
            try:
                self.status = self._finish()
            finally:
                self.is_finishing = False
        return self.status

    def _finish(self) -> int:
        job = self.job
        job.script_ended()
        others = job.collect(lambda: self.is_hurried) if job.rank == 0 and job.ranks > 1 else None
        own = self.watched.report()
        report, baseline_written = self._write_baseline(self._report_of_job(own, others))
        status = report.exit_status(self.chosen.fail_on)
        # First, because nobody may read what is printed.
        written = self._write(report) and self.watched.ledger_error is None
        if job.rank == 0:
            _show(report)
        else:
            if not job.hand_over(own) and status:
                _show(report)
            if not job.is_over:
                status = 0  # a launcher would kill rank 0, which fails for the same reason, before it has ended
        return status or (0 if written and baseline_written else 2)

    def _report_of_job(self, own: Report, others: Others | None) -> Report:
        """Return the report of all ranks on rank 0, and on the others their own."""
        job, replicas = self.job, self.watched.observation.replicas
        if job.ranks == 1:
            return own
        if others is not None and (job.has_met_others or replicas.ranks > 1):
            return job_report({0: own, **others.reports}, others.missing, others.running, job.ranks)
        # Rank 0 may be the only process, as in an allocation of Slurm for several tasks.
        return replace(own, title=f"{own.title}, rank {job.rank} of {job.ranks}", ranks=[job.rank])

    def _write_baseline(self, report: Report) -> tuple[Report, bool]:
        """Write the findings as known, unless the training was not seen. Return what is new, and if all is well."""
        if self.chosen.write_baseline is None:
            return report, True
        if report.blind_spot is not None:
            script.print_error("covlab.watch: no baseline was written, because the training was not seen")
            return report, False
        try:
            write_baseline(report.flat, self.chosen.write_baseline)
        except OSError as error:
            script.print_error(f"covlab.watch: {self.chosen.write_baseline} was not written: {error.strerror}")
            return report, False
        return Baseline(self.chosen.write_baseline).without_known(report), True

    def _write(self, report: Report) -> bool:
        try:
            if self.chosen.junit:
                report.write_junit(self.chosen.junit, self.chosen.fail_on)
            if self.chosen.json:
                report.write_json(self.chosen.json)
            if self.chosen.html:
                write_html(report, self.watched.rows, self.chosen.html)
            if self.chosen.sarif:
                write_sarif(report, self.chosen.sarif, None if self.chosen.module else self.chosen.script)
        except OSError as error:
            script.print_error(f"covlab.watch: {error.filename or 'the report'} was not written: {error.strerror}")
            return False
        return True

    @contextmanager
    def report_at_sudden_ends(self) -> Iterator[None]:
        """Write the report before a signal, ``os._exit`` or ``os.exec…`` ends the process without an exception."""
        ends = {name: getattr(os, name) for name in ("_exit", "execv", "execve")}
        set_handler, get_handler = signal.signal, signal.getsignal
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        ours = [number for number in numbers if get_handler(number) == signal.SIG_DFL]  # not what nohup ignores

        def leave(status: int = 0) -> None:
            wanted = self.finish() if os.getpid() == self.process else 0
            ends["_exit"](status or wanted)

        def replace(name: str) -> Any:
            def execute(*args: Any) -> None:
                if os.getpid() == self.process:
                    self.finish()
                ends[name](*args)

            return execute

        def handle(number: int, frame: FrameType | None) -> None:
            self.is_hurried = True
            if os.getpid() == self.process and self.is_finishing:
                self.ended_by = number
                return
            if os.getpid() == self.process:
                self.finish()
            set_handler(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        def shown(handler: Any) -> Any:
            return signal.SIG_DFL if handler is handle else handler

        def replaced_signal(number: int, handler: Any) -> Any:
            is_default = handler == signal.SIG_DFL and number in ours and os.getpid() == self.process
            return shown(set_handler(number, handle if is_default else handler))

        def replaced_getsignal(number: int) -> Any:
            return shown(get_handler(number))

        def restore_signals() -> None:
            for number in ours:
                if get_handler(number) is handle:
                    set_handler(number, signal.SIG_DFL)

        os._exit, os.execv, os.execve = leave, replace("execv"), replace("execve")  # type: ignore[assignment]
        for number in ours:
            set_handler(number, handle)
        signal.signal, signal.getsignal = replaced_signal, replaced_getsignal  # type: ignore[assignment]
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=restore_signals)
        try:
            yield
        finally:
            self.finish()
            signal.signal, signal.getsignal = set_handler, get_handler
            restore_signals()
            os._exit, os.execv, os.execve = ends.values()


def _terminal_width() -> int:
    """Return how many columns to print to standard error; those of a terminal, between 40 and 120."""
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() else 0
    if not width:
        with suppress(OSError, ValueError, AttributeError):  # no terminal; closed; None
            width = os.get_terminal_size(sys.stderr.fileno()).columns
    return min(120, max(40, width)) if width else TEXT_WIDTH


def _show(report: Report) -> None:
    try:
        from rich.console import Console
    except ImportError:
        script.print_error(report.text(_terminal_width()))
    else:
        with suppress(OSError, ValueError, RuntimeError):  # a broken pipe; closed; interrupted while it printed
            Console(stderr=True, highlight=False).print(report)


def _take_every_letter() -> None:
    """Let standard output take every letter: a pipe on Windows cannot, nor can the locale C in Python's older modes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _explain(codes: list[str]) -> int:
    """Print what the named invariants mean, or the list of all of them."""
    known = {CODE: TITLE, **TITLES}
    unknown = [code for code in codes if code.upper() not in known]
    if unknown:
        script.print_error(
            f"python -m covlab.watch: unknown invariant: {unknown[0]!r}; known are {', '.join(known)}, and "
            "`covlab watch explain` lists them (./explain runs a script of that name)"
        )
        return 2
    from covlab.watch.invariant_pages import explanation

    _take_every_letter()
    pages = [explanation(code.upper(), min(80, shutil.get_terminal_size().columns)) for code in codes]
    text = "\n\n".join(page.rstrip("\n") for page in pages)
    try:
        print(text or "\n".join(f"{code}  {title}" for code, title in known.items()), flush=True)
    except OSError as error:  # nobody reads any more, or a full disk; the interpreter would try again at its end
        sys.stdout = None
        if not isinstance(error, BrokenPipeError):
            script.print_error(f"python -m covlab.watch: the text was not written: {error.strerror}")
            return 2
    return 0


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] == ["explain"]:
        if not {"-h", "--help"}.intersection(arguments):
            return _explain(arguments[1:])
        arguments = ["--help"]
    chosen = parse(arguments)
    run = ScriptRun(chosen)
    with run.report_at_sudden_ends():
        with run.watched:
            try:
                status = script.run(
                    chosen.script, chosen.arguments, chosen.module is not None, ended_by=run.watched.ended_by
                )
            except script.CannotStart as error:
                return run.refuse(error)
            run.job.script_ended()
        script.flush_output()
        wanted = run.finish()
    if run.ended_by is not None:
        script.end_by_signal(run.ended_by)
    if status < 0:  # an interrupt, after which the interpreter ends and then kills itself
        atexit._run_exitfuncs()
        script.end_by_signal(-status)
    return status or wanted


if __name__ == "__main__":
    sys.exit(main())
