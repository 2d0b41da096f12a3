"""Run lessons through papermill, each in its own process, and find what is wrong with each."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from covlab.course import student_record
from covlab.course.claims import Claim, claims_of, measurement_complaints, print_complaints, prose_complaints
from covlab.course.editions import Lesson, write_notebook
from covlab.course.lesson_failures import Problem, Record, audit, exercise_problems, last_lines, measurements
from covlab.course.lesson_parameters import check_overrides
from covlab.course.lesson_processes import MARK, kill_descendants, kill_marked
from covlab.course.prose import statements

GRACE = 10.0  # seconds a lesson's process has, after its time limit, to stop its kernel and save its outputs
LOG_BYTES = 2_000_000  # how much of the beginning, and of the end, of a long stderr is kept
POLL = 0.05  # seconds between two checks of the running lessons
KINDS = {"failed": "error", "timed out": "timeout", "kernel died": "kernel"}  # how papermill ends -> kind of problem


@dataclass
class Run:
    """One run of one edition of a lesson.

    folder: where the executed notebook goes. overrides: parameters that replace the lesson's own. budget: seconds it
    may take (None: the lesson's own); at three times the budget it is stopped. edition: "instructor" or "student".
    status: waiting, running, passed, failed, timed out, kernel died or interrupted. cell: id of the cell that started
    last. problems: everything wrong. measured: claim id -> values.
    Raises ValueError for overrides that the lesson does not have.
    """

    lesson: Lesson
    folder: Path
    overrides: dict = field(default_factory=dict)
    budget: InitVar[float | None] = None
    edition: str = "instructor"
    status: str = "waiting"
    seconds: float = 0.0
    cell: str | None = None
    problems: list[Problem] = field(default_factory=list)
    measured: dict[str, list[float]] = field(default_factory=dict)
    allowed: float = field(init=False)  #: seconds it may take

    def __post_init__(self, budget: float | None) -> None:
        self.folder = self.folder.resolve()
        self.allowed = budget or self.lesson.budget
        try:
            check_overrides(self.lesson.parameters, self.overrides)
        except ValueError as error:
            raise ValueError(f"lesson {self.lesson.name}: {error}") from error

    @property
    def parameters(self) -> dict:
        return self.lesson.parameters | self.overrides

    @property
    def executed(self) -> Path:
        """The notebook with its outputs so far; the file does not exist if the run never began."""
        return self.folder / f"{self.lesson.name}.ipynb"

    @property
    def scratch(self) -> Path:
        """The kernel's working directory; it is removed when the run has ended."""
        return self.folder / "scratch" / self.lesson.name

    @property
    def logs(self) -> Path:
        """Where the runner keeps what the run printed on stderr, and its events."""
        return self.folder / "logs" / self.lesson.name

    @property
    def mark(self) -> str:
        """What every process of the run has in its environment."""
        return f"{self.scratch}{os.sep}"

    @property
    def profile(self) -> str:
        return self.parameters.get("profile", "cpu")

    @property
    def ended(self) -> bool:
        return self.status not in ("waiting", "running")

    @property
    def failed(self) -> bool:
        return self.ended and self.status != "passed"

    def location(self, problem: Problem) -> str:
        """Return file and line of the source, such as 'lessons/06_the_scaling_bug.py:41'."""
        line = self.lesson.line_of(problem.cell)
        return f"lessons/{self.lesson.source.name}" + (f":{line}" if line else "")

    def conclude(self, claims: dict[str, Claim], status: str, problem: Problem | None = None) -> None:
        """End a run that did not reach its end: ``problem`` says why."""
        self.status = status
        self.problems = [problem] if problem else []
        self.problems += prose_problems(self.lesson, claims)

    def conclude_at_end(self, claims: dict[str, Claim], told: "Told", stderr: str) -> None:
        """Pass or fail a run that papermill calls a success, from the failures that papermill does not report."""
        self.problems = told.problems()
        try:
            self.problems += self._hidden_failures(claims, told, stderr)
        except Exception as error:  # noqa: BLE001 - whatever a lesson leaves behind, the other lessons are reported
            message = f"its results cannot be checked: {type(error).__name__}: {error}"
            self.problems.append(Problem("error", message, lines=last_lines(traceback.format_exc())))
        self.problems += prose_problems(self.lesson, claims)
        if self.seconds > self.allowed:
            message = f"the lesson took {self.seconds:.0f} s, its budget is {self.allowed:g} s"
            self.problems.append(Problem("slow", message))
        self.status = "failed" if any(each.fatal for each in self.problems) else "passed"

    def _hidden_failures(self, claims: dict[str, Claim], told: "Told", stderr: str) -> list[Problem]:
        content = self.executed.read_bytes() if self.executed.exists() else b""
        if hashlib.sha256(content).hexdigest() != told.digest:
            return [Problem("error", f"{self.executed.name} was changed or removed while the lesson ran")]
        executed = nbformat.reads(content.decode("utf-8"), as_version=4)
        nbformat.validate(executed)
        found = audit(executed, stderr, self.allowed)
        found += told.cleared_exceptions(found)
        found += exercise_problems(executed.cells, told.records, solved=self.edition == "instructor")
        if self.edition == "instructor":  # a student's exercises are open, so the numbers are not judged
            self.measured, invalid = measurements(told.records)
            due = claims_of(self.lesson.name, self.profile, claims)
            complaints = measurement_complaints(due, claims, self.measured, self.profile)
            found += invalid + [Problem("claim", text, claim=claim) for claim, text in complaints]
            found += self._misprints(claims)
        return found

    def _misprints(self, claims: dict[str, Claim]) -> Iterator[Problem]:
        """Yield a problem for each number that prose prints differently from what this run measured."""
        measured = {
            name: values
            for name, values in self.measured.items()
            if name in claims and claims[name].applies_to(self.profile)
        }
        for cell in self.lesson.notebook.cells:
            if cell.cell_type == "markdown":
                with suppress(ValueError):  # prose_problems reports what cannot be read
                    default = self.parameters == self.lesson.parameters
                    complaints = print_complaints(statements(cell.source), measured, default_run=default)
                    yield from [Problem("print", text, cell.id, claim) for claim, text in complaints]


def prose_problems(lesson: Lesson, claims: dict[str, Claim]) -> list[Problem]:
    """Return a problem for each number in the lesson's prose that has neither a claim nor a source."""
    problems: list[Problem] = []
    for cell in lesson.notebook.cells:
        if cell.cell_type == "markdown":
            try:
                complaints = prose_complaints(statements(cell.source), claims)
            except ValueError as error:
                complaints = [(None, str(error))]
            problems += [Problem("prose", text, cell.id, claim) for claim, text in complaints]
    return problems


def run_all(
    runs: list[Run],
    claims: dict[str, Claim],
    *,
    jobs: int = 1,
    on_change: Callable[[list[Run]], None] = lambda runs: None,
) -> None:
    """Execute the runs in order, ``jobs`` at a time; record failures in them instead of raising.

    Each lesson has one thread, unless OMP_NUM_THREADS is set. on_change is called about every POLL seconds. On
    KeyboardInterrupt, running lessons are stopped, and they and waiting ones are marked interrupted. No process is left
    behind.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}, expected at least 1")
    waiting = list(runs)
    active: list[_Process] = []
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                run = waiting.pop(0)
                try:
                    active.append(_Process(run))
                except OSError as error:
                    run.conclude(claims, "failed", Problem("error", f"cannot start: {error}"))
            for process in active:
                process.poll(claims)
            active = [process for process in active if not process.run.ended]
            on_change(runs)
            if active:
                time.sleep(POLL)
    except KeyboardInterrupt:
        for run in runs:
            if not run.ended:
                message = "never began: stopped from outside" if run.status == "waiting" else "stopped from outside"
                run.conclude(claims, "interrupted", Problem("error", message, run.cell))
        on_change(runs)
    finally:
        for process in active:
            process.end()
        for run in runs:
            kill_marked(run.mark)  # an interrupt may come before a new process is in ``active``
            if not run.ended:
                run.conclude(claims, "interrupted", Problem("error", "the runner failed before the lesson ended"))


@dataclass
class Told:
    """What the process of a run told: see `covlab.course.notebook_process`.

    events: as they came. closing: the last event; empty if the process did not reach its end.
    """

    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def cell(self) -> str | None:
        """The id of the cell that started last."""
        return next((event["cell"] for event in reversed(self.events) if event.keys() == {"cell"}), None)

    @property
    def closing(self) -> dict[str, Any]:
        return self.events[-1] if self.events and "status" in self.events[-1] else {}

    @property
    def digest(self) -> str | None:
        return self.closing.get("digest")

    @property
    def records(self) -> list[Record]:
        return [Record(event["record"], event["cell"], event["data"]) for event in self.events if "record" in event]

    def problems(self) -> list[Problem]:
        return [
            Problem("output", f"the outputs are longer than {event['left_out']} characters", event["cell"])
            for event in self.events
            if "left_out" in event
        ]

    def cleared_exceptions(self, found: list[Problem]) -> list[Problem]:
        """Return a problem for each exception that the kernel showed and the problems ``found`` do not name."""
        named = "\n".join(problem.message for problem in found)
        return [
            Problem(
                "widget",
                f"the lesson cleared {event['hidden']}: {event['message']}",
                event["cell"],
                lines=last_lines(event["text"]),
            )
            for event in self.events
            if "hidden" in event and event["hidden"] not in named
        ]


class _Process:
    """The process that executes one run.

    It tells the runner of events through a pipe, and writes stderr to a file without a name. The lesson's code, which
    runs in the kernel, can reach neither by accident.
    """

    def __init__(self, run: Run):
        self.run = run
        self.told = Told()
        self.started = time.monotonic()
        for folder in (run.scratch, run.logs):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        run.executed.unlink(missing_ok=True)
        source = run.logs / "input.ipynb"
        write_notebook(run.lesson.student if run.edition == "student" else run.lesson.instructor, source)
        job = {
            "input": str(source),
            "output": str(run.executed),
            "folder": str(run.scratch),
            "sockets": os.path.relpath(run.logs / "kernel", run.scratch),
            "parameters": run.overrides,
            "budget": run.allowed,
            "runner": os.getpid(),
        }
        environment = dict(os.environ, IPYTHONDIR=str(run.logs / "ipython"))  # without the user's startup files
        environment["JUPYTER_RUNTIME_DIR"] = str(run.logs / "runtime")  # connection files go with the rest
        # One thread per lesson: the networks are too small to gain from more, and results do not depend on the cores.
        environment.setdefault("OMP_NUM_THREADS", "1")
        environment[student_record.VARIABLE] = ""  # do not change the student's progress file
        environment[MARK] = run.mark
        self.stderr = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - `end` closes it
        with tempfile.TemporaryFile() as given:
            given.write(json.dumps(job).encode())
            given.seek(0)
            # In a new session, Ctrl-C reaches only the runner, which then stops the lessons.
            self.process: Any = subprocess.Popen(
                [sys.executable, "-m", "covlab.course.notebook_process"],
                env=environment,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=self.stderr,
                start_new_session=True,
            )
        run.status = "running"
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            with suppress(ValueError):  # a line that a killed process did not complete
                self.told.events.append(json.loads(line))

    def poll(self, claims: dict[str, Claim]) -> None:
        """Conclude the run if its process has ended; kill a process that ignores its time limit."""
        run, told = self.run, self.told
        ended = self.process.poll() is not None
        run.seconds = time.monotonic() - self.started
        run.cell = told.cell
        if not ended:
            if run.seconds > 3 * run.allowed + GRACE:
                problem = Problem("timeout", "did not stop at its time limit, and was killed", run.cell)
                run.conclude(claims, "timed out", problem)
                self.end()
            return
        self.listener.join()
        run.cell = told.cell
        stderr = self._stderr()
        if told.closing.get("status") == "passed":
            run.conclude_at_end(claims, told, stderr)
        elif told.closing:
            status, message = told.closing["status"], told.closing["message"]
            lines = last_lines(told.closing["text"])
            run.conclude(claims, status, Problem(KINDS[status], message, run.cell, lines=lines))
        else:
            message = f"the process that runs the notebook ended with code {self.process.returncode}"
            run.conclude(claims, "failed", Problem("error", message, run.cell, lines=last_lines(stderr)))
        self.end()

    def end(self) -> None:
        """Kill all processes of the run that still live, keep its logs, and remove its scratch folder."""
        kill_descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        kill_marked(self.run.mark)
        self.listener.join(timeout=5)
        events = "".join(json.dumps(event) + "\n" for event in self.told.events)
        shutil.rmtree(self.run.logs, ignore_errors=True)
        with suppress(OSError):  # the results do not depend on the logs
            self.run.logs.mkdir(parents=True)
            (self.run.logs / "events.jsonl").write_text(events, encoding="ascii")
            (self.run.logs / "stderr.txt").write_text(self._stderr(), encoding="utf-8")
        shutil.rmtree(self.run.scratch, ignore_errors=True)
        with suppress(OSError):  # another lesson still has its scratch folder there
            self.run.scratch.parent.rmdir()
        self.process.stdout.close()
        self.stderr.close()

    def _stderr(self) -> str:
        """Return what the run wrote to stderr; of a flood, its beginning and its end."""
        size = self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(0)
        if size <= 2 * LOG_BYTES:
            return self.stderr.read().decode("utf-8", "replace")
        beginning = self.stderr.read(LOG_BYTES)
        self.stderr.seek(-LOG_BYTES, os.SEEK_END)
        return "\n".join(part.decode("utf-8", "replace") for part in (beginning, self.stderr.read()))
