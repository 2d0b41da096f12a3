"""`check`: judge an answer, show why it is right or wrong, and after three tries show the worked solution."""

import ast
import contextlib
import hashlib
import inspect
import linecache
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from covlab.course import card, student_record, verdict
from covlab.course.exercises import exercises_of
from covlab.course.exercises.judging import case_arguments, judge
from covlab.course.lesson_sources import PACKAGE, lessons_folder

if TYPE_CHECKING:
    from covlab.course.editions import Lesson

TRIES = 3  # the solution opens after this many different answers that ran
CHECK = re.compile(r"""\bcheck\(\s*["'](\d\d\.\w+)["']\s*,\s*(\w+)""")


@dataclass(frozen=True)
class Worked:
    """An exercise as written in its lesson. answer: the name that is checked. starter, solution: source code."""

    answer: str
    starter: str
    solution: str


@dataclass(frozen=True)
class Checked:
    """What `check` returns: whether the answer passed, the case to step through, and a way to the solution.

    number: of the smallest case that failed; 0, if none did.
    """

    exercise: str
    passed: bool
    tries: int
    number: int = 0

    @property
    def case(self) -> tuple[Any, ...]:
        """The arguments of the case that is shown, made anew: `answer(*check(…).case)` runs the answer on it.

        Raises ValueError if the exercise asks for a value, or if there is no such exercise.
        """
        found = exercises_of(self.exercise[:2]).get(self.exercise)
        if found is None:
            raise ValueError(f"there is no exercise {self.exercise!r}, so it has no case")
        return case_arguments(found, self.number)

    def solution(self) -> None:
        """Show the worked solution, or how many tries are left before it opens."""
        left = 0 if self.passed else TRIES - self.tries
        title, line, code = (
            "the solution",
            "Solutions are in covlab's lessons, and this one is not installed here.",
            "",
        )
        if left > 0:
            tries = "tries" if left > 1 else "try"
            line = f"It opens after {left} more {tries}. Each try must be a new answer, and it must run."
        elif worked := worked_exercise(self.exercise):
            title, line, code = "one solution", "Compare it with yours; there are others.", worked.solution
        card(f"{self.exercise}: {title}", [line], "open", code=code)

    def _ipython_display_(self) -> None:
        pass  # the card is shown already


def check(exercise: str, answer: Any) -> Checked:
    """Judge an answer (a function or a value) and show a card: the verdict, what was tested, perhaps a hint.

    exercise: its id, such as "05.window_weights". The course's runner reads the verdict from the notebook.
    """
    found = exercises_of(exercise[:2]).get(exercise) if isinstance(exercise, str) else None
    if found is None:
        known = ", ".join(exercises_of(str(exercise)[:2])) or "none"
        verdict(str(exercise), False, f"There is no exercise {exercise!r}. The exercises of this lesson: {known}.")
        return Checked(str(exercise), passed=False, tries=0)
    judgement = judge(found, answer)
    counts = judgement.passed or (judgement.ran and not _is_starter(exercise, answer))
    fingerprint = _fingerprint(answer) if counts else None
    record = student_record.remember_try(exercise, fingerprint, judgement.passed)
    tries = len(record["tries"])
    lines, code = [judgement.finding, f"The law: {found.law}"], ""
    if judgement.passed:
        rows = student_record.progress_rows(student_record.path_here())
        lines.append(f"{student_record.summary(rows)} solved. {student_record.what_is_next(rows, exercise[:2])}")
    else:
        if judgement.hint:
            lines.append(f"Hint: {judgement.hint}")
        elif judgement.shown:
            call = f'{found.name}(*check("{exercise}", {found.name}).case)'
            code = f"The smallest failing case:\n\n{judgement.shown}\n\nStep through it:   {call}"
        if stale := _older_version(found.name, answer):
            lines.append(stale)
        if tries >= TRIES:
            lines.append(f'After {tries} tries: `check("{exercise}", {found.name}).solution()` shows one way.')
    card(
        f"{exercise}: {'solved' if judgement.passed else 'not yet'}",
        lines,
        "good" if judgement.passed else "open",
        record={"exercise": exercise, "passed": judgement.passed, "text": judgement.finding},
        code=code,
    )
    return Checked(exercise, judgement.passed, tries, judgement.case)


def worked_exercises(lesson: "Lesson") -> dict[str, Worked]:
    """Return {id: exercise} for every `check` of the lesson, with the exercise cell before it and its solution."""
    from covlab.course.editions import tags

    found, starter, solution = {}, "", ""
    for cell in lesson.notebook.cells:
        if "exercise" in tags(cell):
            starter, solution = cell.source, ""
        elif "solution" in tags(cell):
            solution += cell.source + "\n"
        elif cell.cell_type == "code":
            for match in CHECK.finditer(cell.source):
                found[match[1]] = Worked(match[2], starter, solution.strip())
    return found


def worked_exercise(exercise: str) -> Worked | None:
    """Return the exercise from its lesson; None without the lesson, or if it cannot be read."""
    # Imported here, because reading lessons takes seconds to import, and a correct answer needs none of it.
    from covlab.course.editions import LessonError, read_lesson

    for source in lessons_folder(PACKAGE).glob(f"{exercise[:2]}_*.py"):
        with contextlib.suppress(LessonError):
            return worked_exercises(read_lesson(source)).get(exercise)
    return None


def _older_version(name: str, answer: Any) -> str:
    """Say that the notebook's newest version of the function is not the one that was judged; "" if it is.

    The cell with the newest version stopped with an error, such as a SyntaxError, so it defined nothing.
    """
    from IPython import get_ipython

    shell, code = get_ipython(), getattr(answer, "__code__", None)
    if shell is None or code is None or answer.__name__ != name:
        return ""
    judged = "".join(linecache.getlines(code.co_filename)).strip()
    cells = [cell.strip() for cell in shell.history_manager.input_hist_raw]
    versions = [
        number for number, cell in enumerate(cells) if re.search(rf"^\s*(async )?def {name}\b", cell, re.MULTILINE)
    ]
    if not judged or judged not in cells or not versions or cells[versions[-1]] == judged:
        return ""
    lines, newest = inspect.getsource(answer).splitlines(), cells[versions[-1]]
    changed = (line.strip() for line in lines if line.strip() and line.strip() not in newest)
    first = next(changed, lines[0].strip())
    return (
        f"Your newest version of `{name}`, in cell [{versions[-1]}], stopped with an error before it was defined. "
        f"An older one was judged, which has the line `{first}`."
    )


def _fingerprint(answer: Any) -> str:
    """Return a hash that is equal for answers that differ only in comments and spaces."""
    return hashlib.sha256(_code(answer).encode()).hexdigest()[:12]


def _is_starter(exercise: str, answer: Any) -> bool:
    """Return whether the answer is still the starter code, which does not count as a try."""
    worked = worked_exercise(exercise)
    if worked is None:
        return False
    for statement in ast.parse(worked.starter).body:
        if isinstance(statement, ast.FunctionDef) and statement.name == worked.answer:
            return _code(answer) == ast.dump(statement)
        if isinstance(statement, ast.Assign) and worked.answer in map(ast.unparse, statement.targets):
            return _code(answer) == ast.dump(statement.value)
    return False


def _code(answer: Any) -> str:
    if not callable(answer):
        answer = repr(answer)
        try:
            return ast.dump(ast.parse(answer, mode="eval").body)
        except SyntaxError:
            return answer
    try:
        return ast.dump(ast.parse(textwrap.dedent(inspect.getsource(answer))).body[0])
    except (OSError, TypeError, SyntaxError):
        code = getattr(answer, "__code__", None)  # no source, or a lambda inside a larger expression
        return repr((code.co_code, code.co_consts, code.co_names)) if code else repr(type(answer))
