"""Runs lessons through papermill, each in a process of its own, and says what happened to each."""

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from covlab.course.editions import Lesson, tags, write_notebook

BUDGET = 90.0  # seconds a lesson may take on two cores, unless its header says otherwise
GRACE = 10.0   # seconds a lesson's process has beyond the limit to stop its kernel and save what there is
POLL = 0.05    # seconds between two looks at the running lessons


@dataclass
class Run:
    """One lesson's run.

    status: waiting, running, passed, failed, timed out, kernel died or interrupted.
    budget: seconds expected at most. At three times the budget the lesson is stopped.
    cell: id of the cell that ran last. message, lines: what went wrong, and the last lines seen.
    executed: the notebook with its outputs, complete or not.
    """

    lesson: Lesson
    executed: Path
    budget: float
    status: str = "waiting"
    seconds: float = 0.0
    cell: str | None = None
    message: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.status not in ("waiting", "running")

    @property
    def failed(self) -> bool:
        return self.ended and self.status != "passed"

    @property
    def position(self) -> int:
        """How many cells have begun."""
        return next((n + 1 for n, c in enumerate(self.lesson.notebook.cells) if c.id == self.cell), 0)

    @property
    def place(self) -> str:
        """File and line of the cell that ran last, such as 'lessons/06_the_scaling_bug.py:41'."""
        name = f"lessons/{self.lesson.source.name}"
        line = self.lesson.line_of(self.cell)
        return f"{name}:{line}" if line else name


def parameters_of(lesson: Lesson) -> dict:
    """Names and default values of the lesson's parameters cell, plain literals."""
    cell = next(cell for cell in lesson.notebook.cells if "parameters" in tags(cell))
    return {
        target.id: ast.literal_eval(statement.value)
        for statement in ast.parse(cell.source).body if isinstance(statement, ast.Assign)
        for target in statement.targets
    }


def run_lessons(
    lessons: list[Lesson], build: Path, *, parameters: dict | None = None, budget: float | None = None,
    jobs: int = 1, watch: Callable[[list[Run]], None] = lambda runs: None,
) -> list[Run]:
    """Execute the instructor edition of every lesson; failures are recorded, not raised.

    build: instructor/ and course/ are made below it. budget: seconds a lesson, in place of its own.
    jobs: lessons at a time, which then share the processor's threads. watch: called at each change
    and about every POLL seconds. On KeyboardInterrupt what runs is stopped, marked interrupted and
    the runs so far are returned.
    """
    if jobs < 1:
        raise ValueError(f"jobs: {jobs}, expected at least 1")
    build = build.resolve()
    runs = []
    for lesson in lessons:
        own = lesson.notebook.metadata.get("covlab", {}).get("budget", BUDGET)
        runs.append(Run(lesson, build / "course" / f"{lesson.name}.ipynb", float(budget or own)))

    waiting, active = list(runs), []
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                active.append(_Process(waiting.pop(0), build, parameters or {}, jobs))
            for process in active:
                process.look()
            active = [process for process in active if not process.run.ended]
            watch(runs)
            if active:
                time.sleep(POLL)
    except KeyboardInterrupt:
        for process in active:
            process.stop("interrupted", "stopped from the keyboard")
        for run in waiting:
            run.status = "interrupted"
        watch(runs)
    return runs


class _Process:
    """The process that executes one lesson."""

    def __init__(self, run: Run, build: Path, parameters: dict, jobs: int):
        self.run = run
        name = run.lesson.name
        scratch = build / "course" / "scratch" / name
        scratch.mkdir(parents=True, exist_ok=True)
        source = build / "instructor" / f"{name}.ipynb"
        write_notebook(run.lesson.instructor, source)
        run.executed.unlink(missing_ok=True)

        self.events, self.log = scratch / "events.jsonl", scratch / "log.txt"
        self.events.write_text("")
        self.limit = 3 * run.budget
        job = scratch / "job.json"
        job.write_text(json.dumps({
            "input": str(source), "output": str(run.executed), "events": str(self.events), "folder": str(scratch),
            "parameters": parameters, "budget": run.budget, "limit": self.limit,
        }))
        environment = dict(os.environ, IPYTHONDIR=str(scratch / "ipython"))  # no start-up files of the user's
        if jobs > 1:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
        self.started = time.monotonic()
        run.status = "running"
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C reaches the runner alone, which then stops the lessons.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "covlab.course.execute", str(job)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )
        self.unread = 0

    def look(self) -> None:
        """Take in new events; notice the end, and a process that no longer keeps its own time."""
        ended = self.process.poll() is not None  # asked before reading, so that no event is missed
        self.run.seconds = time.monotonic() - self.started
        for event in self._new_events():
            self.run.cell = event.get("cell", self.run.cell)
            if "status" in event:
                self.run.status, self.run.message, self.run.lines = event["status"], event["message"], event["lines"]
        if ended and not self.run.ended:
            log = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            self.run.status, self.run.lines = "failed", log[-12:]
            self.run.message = f"the process that runs the notebook ended with code {self.process.returncode}"
        elif not ended and self.run.seconds > self.limit + GRACE:
            self.stop("timed out", "did not stop at its time limit, and was killed")

    def stop(self, status: str, message: str) -> None:
        """Kill the process and all it started."""
        family = [psutil.Process(self.process.pid)]
        family += family[0].children(recursive=True)
        for member in family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                pass  # it ended by itself meanwhile
        self.process.wait()
        self.run.status, self.run.message = status, message
        self.run.seconds = time.monotonic() - self.started

    def _new_events(self) -> Iterable[dict]:
        with self.events.open(encoding="utf-8") as events:
            events.seek(self.unread)
            text = events.read()
        complete = text[: text.rfind("\n") + 1]
        self.unread += len(complete.encode())
        return [json.loads(line) for line in complete.splitlines()]
