"""Grade the notebooks of a class: run every answer again, and judge it by the law of its exercise.

What students recorded (`.progress.json`) changes no grade. Their code runs in other processes (see answer_process.py),
one student after the other, with a limit of time and of memory; what they send back are results, and these are compared
with the correct ones here. All notebooks are read before any of them runs.

This protects grades from mistakes and from simple tricks, not from an attack: an answer runs as the user who grades, so
it can read and change this user's files and end this user's processes. It can also call the package's own solution, as
it could copy it from lessons/.
"""

import csv
import io
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from covlab.course import student_record
from covlab.course.answer_process import decoded
from covlab.course.checking import worked_exercise
from covlab.course.exercises import Exercise, all_exercises
from covlab.course.exercises.judging import (
    Judgement,
    Result,
    correct_results,
    draw_cases,
    judge_results,
    judge_value,
)
from covlab.course.lesson_processes import MARK, kill_descendants, kill_marked

LARGEST_NOTEBOOK = 100_000_000  # bytes
LARGEST_REPLY = 50_000_000  # bytes
START_SECONDS = 120  # to load PyTorch on a busy machine
ATTEMPTS = 5  # of an exercise that is checked more often, only the last are tried
COLUMNS = ("student", "exercise", "solved", "tries", "remark")


class GradingError(ValueError):
    """There is nothing to grade; the message names the folder."""


@dataclass(frozen=True)
class Row:
    """One line of the table. tries: as the student's own record says, None without one."""

    student: str
    exercise: str
    solved: bool
    tries: int | None
    remark: str


@dataclass
class Student:
    """What one student handed in. notebooks: {file: sources of its code cells}. unreadable: {file: why}."""

    name: str
    folder: Path
    notebooks: dict[str, list[str]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)


def read_class(folder: Path) -> list[Student]:
    """Read the notebooks of each subfolder, or of work/ in it. Raises GradingError if there are none at all."""
    students = []
    for each in sorted(folder.iterdir()):
        if each.is_dir() and not each.name.startswith("."):
            work = each / "work" if (each / "work").is_dir() else each
            students.append(_read_student(each.name, work))
    if not any(student.notebooks or student.unreadable for student in students):
        raise GradingError(
            f"must be a folder with one folder per student, and notebooks in it or in its work/, got {str(folder)!r} "
            f"(no notebook in {', '.join(repr(each.name) for each in students[:5]) or 'it: it has no subfolder'})"
        )
    return students


def _read_student(name: str, folder: Path) -> Student:
    student = Student(name, folder)
    for path in sorted(folder.glob("*.ipynb")):
        try:
            student.notebooks[path.name] = _code_cells(json.loads(_text(path)))
        except (OSError, ValueError, RecursionError) as error:
            student.unreadable[path.name] = str(getattr(error, "strerror", None) or error)
    record = folder / student_record.NAME
    if record.exists():
        try:
            kept = student_record.parsed(_text(record))["exercises"]
            student.tries = {id: len(each["tries"]) for id, each in kept.items()}
        except (OSError, ValueError) as error:
            student.unreadable[record.name] = str(error)
    return student


def _text(path: Path) -> str:
    """Read a file that a student handed in. Raises ValueError for what is no file of a plausible size."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is a link or no file")
    if path.stat().st_size > LARGEST_NOTEBOOK:
        raise ValueError(f"it is larger than {LARGEST_NOTEBOOK} bytes")
    return path.read_text(encoding="utf-8")


def _code_cells(notebook: Any) -> list[str]:
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise ValueError("it is no notebook")
    sources = []
    for cell in cells:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source")
            lines: list[Any] = source if isinstance(source, list) else [source]
            try:
                sources.append("".join(lines))
            except TypeError:
                raise ValueError("it has a cell without a text") from None
    return sources


def grade(students: Iterable[Student], *, seconds: float, megabytes: float) -> Iterator[Row]:
    """Yield a row for each student and each exercise of the course.

    seconds: how long an answer may take. megabytes: of memory that it may use, besides what PyTorch needs.
    """
    judges = _judges()  # before any answer runs
    for student in students:
        with _Answers(seconds, megabytes) as answers:
            for id, judge in judges.items():
                judgement = judge.of(student, answers)
                yield Row(student.name, id, judgement.passed, student.tries.get(id), judgement.finding)


@cache
def _judges() -> "dict[str, _Judge]":
    return {id: _Judge(exercise) for id, exercise in all_exercises().items()}


class _Judge:
    """Judge students' answers to one exercise; its cases and their correct results are computed once."""

    def __init__(self, exercise: Exercise):
        self.exercise = exercise
        self.cases = draw_cases(exercise)
        self.correct = correct_results(exercise, self.cases)
        worked = worked_exercise(exercise.id)
        self.starter = worked.starter.strip() if worked else None

    def of(self, student: Student, answers: "_Answers") -> Judgement:
        """Return the judgement of the student's last answer, or of an earlier one that is correct."""
        last: Judgement | None = None
        for cells in self._where(student):
            for attempt in range(ATTEMPTS):
                judgement = self._judged(cells, answers.to(self.exercise.id, cells, attempt))
                if judgement is None:
                    break
                if judgement.passed:
                    return judgement
                last = last or judgement
        return last or Judgement(False, self._why_none(student), ran=False)

    def _where(self, student: Student) -> list[list[str]]:
        """Return the notebooks that check the exercise, else those of its lesson that have its name."""
        notebooks = sorted(student.notebooks.items(), reverse=True)
        checking = [cells for _, cells in notebooks if any(self.exercise.id in cell for cell in cells)]
        return checking or [
            cells
            for name, cells in notebooks
            if name.startswith(self.exercise.id[:2]) and any(self.exercise.name in cell for cell in cells)
        ]

    def _judged(self, cells: list[str], reply: dict[str, Any]) -> Judgement | None:
        """Judge a reply; None if there is no such attempt."""
        try:
            if reply["attempt"] is False:
                return None
            cell = int(reply["attempt"])
            untouched = 0 <= cell < len(cells) and cells[cell].strip() == self.starter
            if "stopped" in reply:
                judgement = Judgement(False, str(reply["stopped"]), ran=False)
            elif self.exercise.draw is None:
                judgement = judge_value(self.exercise, decoded(reply["value"]))
            else:
                results = [Result(decoded(each["got"]), each["changed"], each["left"]) for each in reply["results"]]
                judgement = judge_results(self.exercise, self.cases, self.correct, results)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, RuntimeError, OverflowError):
            return Judgement(False, "Its process sent something that is no result.", ran=False)
        if untouched and not judgement.passed:
            return Judgement(False, "The starter, unchanged.", ran=False)
        return judgement

    def _why_none(self, student: Student) -> str:
        if not student.notebooks and not student.unreadable:
            return f"There is no notebook in {student.folder}."
        number = self.exercise.id[:2]
        damaged = [
            f"{name} cannot be read ({why})"
            for name, why in student.unreadable.items()
            if name.startswith(number) or not name[:2].isdecimal()
        ]
        return f"No answer found. {'. '.join(damaged)}".strip()


class _Answers:
    """The process that runs one student's answers; it is started again after an answer that had to be stopped."""

    def __init__(self, seconds: float, megabytes: float):
        self.seconds, self.megabytes = seconds, megabytes
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "_Answers":
        self.folder = tempfile.TemporaryDirectory(prefix="covlab-grade-", ignore_cleanup_errors=True)
        self.mark = f"{Path(self.folder.name).resolve()}{os.sep}"
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()
        self.folder.cleanup()

    def to(self, exercise: str, cells: list[str], attempt: int) -> dict[str, Any]:
        """Run one attempt, and return the reply: see answer_process.py."""
        if self.process is None or self.process.poll() is not None:
            self._stop()
            self._start()
        request = {
            "exercise": exercise,
            "cells": cells,
            "attempt": attempt,
            "seconds": self.seconds,
            "bytes": int(self.megabytes * 1e6),
        }
        self.requests.put(json.dumps(request).encode() + b"\n")
        reply: dict[str, Any] = {}
        deadline = time.monotonic() + self.seconds
        while True:
            try:
                event = self._event(deadline)
            except TimeoutError:
                self._stop()
                return {"attempt": -1, "stopped": f"It was stopped after {self.seconds:g} seconds."}
            if event is None:
                self._stop()
                return reply or {"attempt": -1, "stopped": "Its process ended, or sent something that is no result."}
            if "ended" in event:
                return reply or {"attempt": -1, "stopped": _how_it_ended(event["ended"])}
            reply = reply or event

    def _event(self, deadline: float) -> dict[str, Any] | None:
        """Return the next event; None at the end of the process, after a flood, or for nonsense.

        Raises TimeoutError at the deadline.
        """
        try:
            event = json.loads(self.replies.get(timeout=max(0.0, deadline - time.monotonic())))
        except queue.Empty:
            raise TimeoutError from None
        except (ValueError, RecursionError):
            return None
        return event if isinstance(event, dict) else None

    def _start(self) -> None:
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        environment |= {student_record.VARIABLE: "", MARK: self.mark}
        self.process = process = subprocess.Popen(
            [sys.executable, "-P", "-m", "covlab.course.answer_process", str(os.getpid())],
            cwd=self.folder.name,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        for target, argument in ((_write, self.requests), (_read, self.replies)):
            threading.Thread(target=target, args=(process, argument), daemon=True).start()
        try:
            ready = self._event(time.monotonic() + START_SECONDS)
        except TimeoutError:
            ready = None
        if ready != {"ready": True}:
            raise GradingError(f"the process that runs answers did not start within {START_SECONDS} seconds")

    def _stop(self) -> None:
        if self.process is not None:
            self.requests.put(None)
            kill_descendants(self.process.pid)
            self.process.kill()
            self.process.wait()
            kill_marked(self.mark)
            self.process = None


def _write(process: subprocess.Popen[bytes], requests: "queue.SimpleQueue[bytes | None]") -> None:
    assert process.stdin is not None
    try:
        while (request := requests.get()) is not None:
            process.stdin.write(request)
            process.stdin.flush()
        process.stdin.close()
    except OSError:  # it has ended, and its replies end, too
        return


def _read(process: subprocess.Popen[bytes], replies: "queue.SimpleQueue[bytes]") -> None:
    assert process.stdout is not None
    with process.stdout as channel:
        while line := channel.readline(LARGEST_REPLY):
            replies.put(line)
    replies.put(b"null")


def _how_it_ended(code: object) -> str:
    return f"Its process was ended by signal {-code}." if isinstance(code, int) and code < 0 else "Its process ended."


def as_csv(rows: Iterable[Row]) -> str:
    """Return the table as CSV. No field can act as a formula of a spreadsheet, or move a terminal's cursor."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        tries = "" if row.tries is None else row.tries
        writer.writerow([_plain(row.student), row.exercise, "yes" if row.solved else "no", tries, _plain(row.remark)])
    return table.getvalue()


def _plain(text: str) -> str:
    text = "".join(letter if letter.isprintable() else "\ufffd" for letter in " ".join(text.split()))
    text = text if len(text) <= 300 else f"{text[:299]}…"
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
