"""Run lessons through papermill, each in its own process, and find what is wrong with each."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from pathlib import Path

import nbformat
import psutil

from covlab.course import student_record
from covlab.course.claims import Claim, claims_of, measurement_complaints, prose_complaints
from covlab.course.editions import Lesson, write_notebook
from covlab.course.lesson_failures import Problem, audit, exercise_problems, last_lines, measurements
from covlab.course.lesson_parameters import check_overrides
from covlab.course.prose import statements

GRACE = 10.0  # seconds a lesson's process has, after its time limit, to stop its kernel and save its outputs
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
        """The kernel's working directory, with the log of the run."""
        return self.folder / "scratch" / self.lesson.name

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

    def conclude(self, status: str, claims: dict[str, Claim], problem: Problem | None = None) -> None:
        """Set the status from how papermill ended and from the failures that papermill does not report."""
        self.status = status
        self.problems = [problem] if problem else []
        if status == "passed":
            executed = nbformat.read(self.executed, as_version=4)
            stderr = (self.scratch / "stderr.txt").read_text(encoding="utf-8", errors="replace")
            self.problems += audit(executed, stderr, self.allowed)
            self.problems += exercise_problems(executed, solved=self.edition == "instructor")
            self.measured = measurements(executed)
            if self.edition == "instructor":
                due = claims_of(self.lesson.name, self.parameters.get("profile", "cpu"), claims)
                self.problems += [
                    Problem("claim", text, claim=claim)
                    for claim, text in measurement_complaints(due, claims, self.measured)
                ]
        self.problems += prose_problems(self.lesson, claims)
        if self.seconds > self.allowed and not problem:
            message = f"the lesson took {self.seconds:.0f} s, its budget is {self.allowed:g} s"
            self.problems.append(Problem("slow", message))
        if status == "passed" and any(each.fatal for each in self.problems):
            self.status = "failed"


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
                active.append(_Process(waiting.pop(0)))
            for process in active:
                process.poll(claims)
            active = [process for process in active if not process.run.ended]
            on_change(runs)
            if active:
                time.sleep(POLL)
    except KeyboardInterrupt:
        for process in active:
            process.kill()
            process.run.conclude("interrupted", claims, Problem("error", "stopped from the keyboard", process.run.cell))
        for run in waiting:
            run.conclude("interrupted", claims, Problem("error", "never began: stopped from the keyboard"))
        on_change(runs)
    finally:
        for process in active:
            process.kill()


class _Process:
    """The process that executes one run."""

    def __init__(self, run: Run):
        self.run = run
        run.scratch.mkdir(parents=True, exist_ok=True)
        run.executed.unlink(missing_ok=True)
        source, self.events = run.scratch / "input.ipynb", run.scratch / "events.jsonl"
        write_notebook(run.lesson.student if run.edition == "student" else run.lesson.instructor, source)
        self.events.write_text("")
        details = {
            "input": str(source),
            "output": str(run.executed),
            "events": str(self.events),
            "folder": str(run.scratch),
            "parameters": run.overrides,
            "budget": run.allowed,
        }
        job = run.scratch / "job.json"
        job.write_text(json.dumps(details))
        environment = dict(os.environ, IPYTHONDIR=str(run.scratch / "ipython"))  # without the user's startup files
        # One thread per lesson: the networks are too small to gain from more, and results do not depend on the cores.
        environment.setdefault("OMP_NUM_THREADS", "1")
        environment[student_record.VARIABLE] = ""  # do not change the student's progress file
        self.started = time.monotonic()
        run.status = "running"
        with (run.scratch / "stdout.txt").open("wb") as out, (run.scratch / "stderr.txt").open("wb") as err:
            # In a new session, Ctrl-C reaches only the runner, which then stops the lessons.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "covlab.course.notebook_process", str(job)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def poll(self, claims: dict[str, Claim]) -> None:
        """Read new events. Conclude the run if its process has ended; kill a process that ignores its time limit."""
        run = self.run
        ended = self.process.poll() is not None  # asked before reading, so that no event is missed
        run.seconds = time.monotonic() - self.started
        # The last line may be incomplete, so it is dropped.
        lines = self.events.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        events: list[dict[str, str]] = [json.loads(line) for line in lines]
        run.cell = next((event["cell"] for event in reversed(events) if "cell" in event), None)
        if not ended:
            if run.seconds > 3 * run.allowed + GRACE:
                self.kill()
                problem = Problem("timeout", "did not stop at its time limit, and was killed", run.cell)
                run.conclude("timed out", claims, problem)
        elif events and "status" in (closing := events[-1]):
            kind, lines = KINDS.get(closing["status"]), last_lines(closing["text"])
            run.conclude(
                closing["status"], claims, Problem(kind, closing["message"], run.cell, lines=lines) if kind else None
            )
        else:
            log = (run.scratch / "stderr.txt").read_text(encoding="utf-8", errors="replace")
            message = f"the process that runs the notebook ended with code {self.process.returncode}"
            run.conclude("failed", claims, Problem("error", message, run.cell, lines=last_lines(log)))

    def kill(self) -> None:
        """Kill the process, if it still runs, and all processes that it started."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            for member in [parent, *parent.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                    member.kill()
            self.process.wait()
