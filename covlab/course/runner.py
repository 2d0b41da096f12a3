"""Runs lessons through papermill, each in a process of its own, and says what is wrong with each."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil

from covlab.course import student_record
from covlab.course.claims import Claim, claims_of, measurement_complaints, prose_complaints
from covlab.course.editions import Lesson, write_notebook
from covlab.course.lesson_failures import Problem, audit, exercise_problems, last_lines, measurements
from covlab.course.lesson_parameters import check_overrides
from covlab.course.prose import statements

GRACE = 10.0  # seconds a lesson's process has beyond its limit to stop its kernel and save what there is
POLL = 0.05  # seconds between two looks at the running lessons
KINDS = {"failed": "error", "timed out": "timeout", "kernel died": "kernel"}  # how papermill ends -> kind of problem


@dataclass
class Run:
    """One run of one edition of a lesson.

    folder: where the executed notebook goes. overrides: parameters given in place of the lesson's
    own. budget: seconds it may take (None: the lesson's own); at three times as many it is stopped. edition:
    "instructor" or "student". status: waiting, running, passed, failed, timed out, kernel died or interrupted.
    cell: id of the cell that began last. problems: all that is wrong. measured: claim id -> values.
    Raises ValueError for overrides the lesson does not have.
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
    def notebook(self) -> nbformat.NotebookNode:
        """What is to be executed."""
        return self.lesson.instructor if self.edition == "instructor" else self.lesson.student

    @property
    def executed(self) -> Path:
        """The notebook with its outputs, complete or not; missing when it never began."""
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
        """File and line of the source, such as 'lessons/06_the_scaling_bug.py:41'."""
        line = self.lesson.line_of(problem.cell)
        return f"lessons/{self.lesson.source.name}" + (f":{line}" if line else "")

    def conclude(self, status: str, claims: dict[str, Claim], problem: Problem | None = None) -> None:
        """Settle the status: how papermill ended, and all that it passed over in silence."""
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
            self.problems.append(
                Problem("slow", f"the lesson took {self.seconds:.0f} s, its budget is {self.allowed:g} s")
            )
        if status == "passed" and any(each.fatal for each in self.problems):
            self.status = "failed"


def prose_problems(lesson: Lesson, claims: dict[str, Claim]) -> list[Problem]:
    """Numbers in the lesson's prose that no claim and no source answers for."""
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
    """Execute the runs in order, `jobs` at a time; whatever goes wrong is recorded in them, not raised.

    Each lesson has one thread, unless OMP_NUM_THREADS says otherwise. on_change is called about every POLL seconds. On
    KeyboardInterrupt what runs is stopped and, with what waits, marked interrupted; no process is
    left behind, however this ends.
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
        write_notebook(run.notebook, source)
        self.events.write_text("")
        self.unread = 0
        self.closing: dict[str, Any] | None = None
        job = run.scratch / "job.json"
        job.write_text(
            json.dumps(
                {
                    "input": str(source),
                    "output": str(run.executed),
                    "events": str(self.events),
                    "folder": str(run.scratch),
                    "parameters": run.overrides,
                    "budget": run.allowed,
                    "limit": 3 * run.allowed,
                }
            )
        )
        environment = dict(os.environ, IPYTHONDIR=str(run.scratch / "ipython"))  # no start-up files of the user's
        # One thread a lesson: their networks are too small to share, and numbers do not depend on the cores then.
        environment.setdefault("OMP_NUM_THREADS", "1")
        environment[student_record.VARIABLE] = ""  # a run is nobody's work: it leaves a student's progress alone
        self.started = time.monotonic()
        run.status = "running"
        with (run.scratch / "stdout.txt").open("wb") as out, (run.scratch / "stderr.txt").open("wb") as err:
            # A session of its own: Ctrl-C reaches the runner alone, which then stops the lessons.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "covlab.course.notebook_process", str(job)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def poll(self, claims: dict[str, Claim]) -> None:
        """Take in new events; notice the end, and a process that no longer keeps its own time."""
        run = self.run
        ended = self.process.poll() is not None  # asked before reading, so that no event is missed
        run.seconds = time.monotonic() - self.started
        for event in self._new_events():
            run.cell = event.get("cell", run.cell)
            self.closing = event if "status" in event else None
        if not ended:
            if run.seconds > 3 * run.allowed + GRACE:
                self.kill()
                run.conclude(
                    "timed out", claims, Problem("timeout", "did not stop at its time limit, and was killed", run.cell)
                )
        elif self.closing:
            status, kind = self.closing["status"], KINDS.get(self.closing["status"])
            run.conclude(
                status,
                claims,
                None
                if kind is None
                else Problem(kind, self.closing["message"], run.cell, lines=last_lines(self.closing["text"])),
            )
        else:
            log = (run.scratch / "stderr.txt").read_text(encoding="utf-8", errors="replace")
            run.conclude(
                "failed",
                claims,
                Problem(
                    "error",
                    f"the process that runs the notebook ended with code {self.process.returncode}",
                    run.cell,
                    lines=last_lines(log),
                ),
            )

    def kill(self) -> None:
        """End the process, if it has not ended, and all it started."""
        try:
            family = [psutil.Process(self.process.pid)]
            family += family[0].children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for member in family:
            with suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile
                member.kill()
        self.process.wait()

    def _new_events(self) -> list[dict[str, Any]]:
        with self.events.open("rb") as events:
            events.seek(self.unread)
            complete = events.read().rpartition(b"\n")[0]
        self.unread += len(complete) + 1 if complete else 0
        return [json.loads(line) for line in complete.splitlines()]
