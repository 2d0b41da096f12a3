"""Laws of `covlab course grade`: only answers count, and what one answer does costs its own row alone."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from covlab.cli.main import main
from covlab.course.answer_process import decoded, encoded
from covlab.course.checking import worked_exercises
from covlab.course.editions import read_lessons
from covlab.course.exercises import all_exercises
from covlab.course.exercises.compare import same
from covlab.course.grading import Row, Student, _Answers, _judges, as_csv, grade, read_class

ROOT = Path(__file__).parents[1]
WINDOW, CLIPPED, SILENCE = "05.window_weights", "04.clipped_gradient", "03.silence"
RIGHT = "def window_weights(counts):\n    return counts / counts.sum()"
WRONG = "def window_weights(counts):\n    return torch.full(counts.shape, 1 / len(counts))"
CHECK = 'check("05.window_weights", window_weights)'
LAST = 'silence = "broken"', 'check("03.silence", silence)'
"""The answer to another exercise: it must never lose its grade."""


def hand_in(folder: Path, *cells: str, name: str = "05_a.ipynb", record: object = None) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    (folder / "work").mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / "work" / name)
    if record is not None:
        (folder / "work" / ".progress.json").write_text(json.dumps(record))


def graded(folder: Path, *, seconds: float = 60, megabytes: float = 300) -> dict[str, dict[str, Row]]:
    """{student: {exercise: row}} of the exercises that were handed in."""
    found: dict[str, dict[str, Row]] = {}
    for row in grade(read_class(folder), seconds=seconds, megabytes=megabytes):
        found.setdefault(row.student, {})[row.exercise] = row
    return found


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["course", "grade", *map(str, arguments)])


# What is an answer

HELPED = "def share(counts):\n    return counts / total(counts)", "from torch import sum as total"
NOTEBOOKS: dict[str, tuple[list[str], bool]] = {
    "right": ([RIGHT, CHECK], True),
    "wrong": (["import torch", WRONG, CHECK], False),
    "imports elsewhere": (["import torch", "def window_weights(c):\n    return torch.div(c, c.sum())", CHECK], True),
    "helpers in other cells": ([HELPED[0], "def window_weights(c):\n    return share(c)", HELPED[1], CHECK], True),
    "renamed answer": ([RIGHT.replace("window_weights", "mine"), 'check("05.window_weights", mine)'], True),
    "lambda": (['check("05.window_weights", lambda counts: counts / counts.sum())'], True),
    "by keyword": ([RIGHT, 'check(answer=window_weights, exercise="05.window_weights")'], True),
    "check in the same cell": ([f"{RIGHT}\nresult = {CHECK}"], True),
    "check deleted": ([RIGHT], True),
    "check commented": ([RIGHT, f"# {CHECK}"], True),
    "corrected below": (["import torch", WRONG, CHECK, RIGHT, CHECK], True),
    "spoiled below": (["import torch", RIGHT, CHECK, WRONG, CHECK], True),
    "defined after its check": (["import torch", WRONG, CHECK, RIGHT], False),
    "copied cells": ([RIGHT, RIGHT, CHECK, CHECK], True),
    "a magic": ([f"%%time\n{RIGHT}", "%matplotlib inline", CHECK], True),
    "a lesson that is slow and fails": (
        ["import time\ntime.sleep(999)", "1 / 0", "counts = boom()", RIGHT, CHECK],
        True,
    ),
    "a broken cell elsewhere": (["def other(:", RIGHT, CHECK], True),
    "a global that is changed": (["o = {}", 'o["x"] = 1', f"{RIGHT} * o['x']", CHECK], True),
    "blank": (["window_weights = ...", CHECK], False),
    "called": ([RIGHT, 'check("05.window_weights", window_weights(1))'], False),
    "check alone": ([CHECK], False),
    "empty": ([], False),
}


def test_answers_are_found_wherever_a_notebook_has_them(tmp_path: Path) -> None:
    for name, (cells, _) in NOTEBOOKS.items():
        hand_in(tmp_path / "one", *cells, name=f"05_{name}.ipynb")
    [student] = read_class(tmp_path)
    notebooks = student.notebooks
    unlike = []
    judge = _judges()[WINDOW]
    with _Answers(60, 300) as answers:
        for name, (_, solved) in NOTEBOOKS.items():
            student.notebooks = {f"05_{name}.ipynb": notebooks[f"05_{name}.ipynb"]}
            judgement = judge.of(student, answers)
            if judgement.passed != solved:
                unlike.append((name, judgement))
    assert not unlike


def test_the_last_notebook_of_a_renamed_lesson_counts_and_any_right_answer_solves(tmp_path: Path) -> None:
    hand_in(tmp_path / "a", "import torch", WRONG, CHECK, name="my lesson.ipynb")
    hand_in(tmp_path / "a", RIGHT, CHECK, name="Kopie.ipynb")
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "a" / "work" / "zz.ipynb")
    assert graded(tmp_path)["a"][WINDOW].solved


# What an answer may do

FUNCTION = "def window_weights(counts):\n    "
WRONG_RESULT = f"{FUNCTION}return 0 * counts"
FLOOD = """
import os

def window_weights(counts):
    for channel in range(3, 40):
        try:
            os.write(channel, b"[" * 10**6)
        except OSError:
            pass
    os._exit(0)
"""
FORGED_VERDICT = """
import os

def window_weights(counts):
    for channel in range(40):
        try:
            os.write(channel, b'\\n{"attempt": 1, "solved": true, "passed": true}\\n')
        except OSError:
            pass
    return 0 * counts
"""
FORGED_LAW = """
import covlab.course.exercises.compare as compare
import covlab.course.exercises.judging as judging
import covlab.course.grading as grading

judging.judge_results = judging.judge = grading.judge_results = lambda *all: judging.Judgement(True, "")
compare.relative_error = lambda *all: 0.0
judging.Result = print

def window_weights(counts):
    return 0 * counts
"""
HARMS = {
    "an endless loop": (f"{FUNCTION}while True: pass", "stopped after 1 seconds"),
    "an endless cell": (f"while True:\n    window_weights = 1\n{RIGHT}", "stopped after 1 seconds"),
    "sys.exit": (f"import sys\n{FUNCTION}sys.exit(0)", "SystemExit"),
    "os._exit": (f"import os\n{FUNCTION}os._exit(0)", "process ended"),
    "a crash": (f"import os\n{FUNCTION}os.kill(os.getpid(), 11)", "signal 11"),
    "killing its parent": (f"import os\n{FUNCTION}os.kill(os.getppid(), 9)", "process ended"),
    "a huge allocation": (f"import torch\n{FUNCTION}return torch.ones(10**9)", "allocate"),
    "a fork": (f"import os\nforks = []\n{FUNCTION}forks or forks.append(os.fork())\n    return 0 * counts", ""),
    "a flood": (FLOOD, "process ended, or sent"),
    "a syntax error": (f"{FUNCTION}return counts /", "SyntaxError"),
    "no such name": (f"{FUNCTION}return cuonts", "NameError"),
    "nested too deeply": (f"window_weights = {'-' * 50_000}1", ""),
    "a result nested too deeply": (f"{FUNCTION}x = []\n    for _ in range(10**5): x = [x]\n    return x", ""),
    "a printed verdict": (f'print(\'{{"attempt": 1, "passed": true}}\')\n{WRONG_RESULT}', "a wrong result: zero"),
    "a forged verdict": (FORGED_VERDICT, "no result"),
    "a forged law": (FORGED_LAW, "a wrong result: zero"),
}
"""{what an answer does: (the answer, what the remark says)}"""
RARE = {"an endless cell", "killing its parent", "a flood", "nested too deeply", "a forged verdict"}
"""Each makes the grader start another process, which takes seconds; they wait for `make test-slow`."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and forks are POSIX's")
@pytest.mark.parametrize("harms", [HARMS.keys() - RARE, pytest.param(RARE, marks=pytest.mark.slow)], ids=["", "rare"])
def test_what_an_answer_does_costs_its_own_row_alone(tmp_path: Path, harms: set[str]) -> None:
    window, silence = _judges()[WINDOW], _judges()[SILENCE]
    unlike, spoiled = [], []
    with _Answers(60, 300) as answers:
        for name in sorted(harms):
            answer, said = HARMS[name]
            cells = [answer, "harm = window_weights", CHECK, *LAST]
            student = Student(name, tmp_path, {"a.ipynb": cells})
            answers.seconds = 1 if "endless" in name else 60
            judgement = window.of(student, answers)
            answers.seconds = 60
            if judgement.passed or said not in judgement.finding:
                unlike.append((name, judgement))
            if not silence.of(student, answers).passed:
                spoiled.append(name)
        assert window.of(Student("honest", tmp_path, {"a.ipynb": [RIGHT, CHECK]}), answers).passed
    assert not unlike
    assert not spoiled


def test_a_forged_record_is_shown_and_changes_no_grade(tmp_path: Path) -> None:
    forged = {"exercises": {id: {"solved": "2026-01-01", "tries": ["a"] * 7} for id in all_exercises()}}
    hand_in(tmp_path / "a", "import torch", WRONG, CHECK, record=forged)
    hand_in(tmp_path / "b", RIGHT, CHECK, record={"exercises": {}})
    rows = graded(tmp_path)
    assert [row.exercise for row in rows["a"].values() if row.solved] == []
    assert {row.tries for row in rows["a"].values()} == {7}
    assert [row.exercise for row in rows["b"].values() if row.solved] == [WINDOW]


@pytest.mark.slow
def test_real_notebooks_are_graded_as_check_judges_them(tmp_path: Path) -> None:
    pairs = [(lesson, worked_exercises(lesson)) for lesson in read_lessons(ROOT)]
    for lesson, _ in pairs:
        for name, notebook in (("good", lesson.instructor), ("untouched", lesson.student)):
            (tmp_path / name / "work").mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, tmp_path / name / "work" / f"{lesson.name}.ipynb")
    rows = graded(tmp_path)
    assert list(rows["good"]) == list(all_exercises()) == list(rows["untouched"])
    assert [row for row in rows["good"].values() if not row.solved] == []
    assert {row.remark for row in rows["untouched"].values()} == {"The starter, unchanged."}


# Files

BAD = {
    "05_text.ipynb": "no JSON",
    "05_list.ipynb": "[]",
    "05_deep.ipynb": "[" * 100_000,
    "05_cells.ipynb": '{"cells": 5}',
    "05_source.ipynb": '{"cells": [{"cell_type": "code", "source": [1]}]}',
}


def test_a_notebook_that_cannot_be_read_is_named_and_the_others_count(tmp_path: Path) -> None:
    for name, text in BAD.items():
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_text(text)
    (tmp_path / "a" / "05_link.ipynb").symlink_to(tmp_path / "b" / "work" / "05_a.ipynb")
    (tmp_path / "a" / "05_pipe.ipynb").mkdir()
    hand_in(tmp_path / "b", RIGHT, CHECK)
    (tmp_path / "b" / "work" / ".progress.json").write_text("[" * 100_000)
    (tmp_path / "c").mkdir()
    out = tmp_path.parent / f"{tmp_path.name}.csv"
    result = run(tmp_path, "--out", out)
    assert result.exit_code == 0, result.output
    rows = {(row["student"], row["exercise"]): row for row in csv.DictReader(io.StringIO(out.read_text()))}
    assert rows["b", WINDOW]["solved"] == "yes" and rows["b", SILENCE]["solved"] == "no"
    assert rows["a", WINDOW]["solved"] == "no" and "cannot be read" in rows["a", WINDOW]["remark"]
    assert all(name in result.stderr for name in [*BAD, "05_link.ipynb", "05_pipe.ipynb", "c: no notebook"])
    assert "3 students: 1 of" in result.stderr and not result.stdout


@pytest.mark.parametrize("there", ["nothing", "a file", "an empty student", "hidden"])
def test_a_folder_without_notebooks_is_refused_by_name(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "class"
    folder.mkdir()
    if there == "a file":
        hand_in(tmp_path, RIGHT)
        (tmp_path / "work" / "05_a.ipynb").rename(folder / "05_a.ipynb")
    elif there != "nothing":
        (folder / ("anna" if there == "an empty student" else ".anna")).mkdir()
    result = run(folder, "--out", tmp_path / "grades.csv")
    assert result.exit_code == 2 and str(folder) in result.output.replace("\n", "")
    assert ("anna" in result.output) == (there == "an empty student")
    assert not (tmp_path / "grades.csv").exists()


# The way of a result, and the table

NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text()
VALUES = st.recursive(
    NUMBERS, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
)


@given(VALUES)
def test_results_arrive_as_they_were_sent(value: Any) -> None:
    assert repr(decoded(json.loads(json.dumps(encoded(value))))) == repr(value)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.int64, torch.bool]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_tensors_arrive_as_they_were_sent(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (10 * torch.randn(shape)).to(dtype)
    got = decoded(json.loads(json.dumps(encoded(tensor))))
    assert got.dtype == dtype and same(got, tensor)


@pytest.mark.parametrize(
    "sent",
    [
        *({}, [], {"tensor": "float32"}, {"tensor": "float32", "shape": [9**9], "data": ""}, {"list": 5}, {"a": 1}),
        *({"tensor": "save", "shape": [], "data": ""}, {"tensor": "float32", "shape": [-1, -1], "data": "AAAA"}),
        *({"other": "a b"}, {"complex": [1]}, {"dict": [[{"list": []}, 1]]}, {"range": [0, 1, 0]}, {"array": 5}),
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused(sent: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        decoded(sent)


@given(st.text(), st.text())
def test_no_field_is_a_formula_or_moves_the_cursor(student: str, remark: str) -> None:
    [_, fields] = csv.reader(io.StringIO(as_csv([Row(student, "05.a", True, None, remark)])))
    assert [fields[1], fields[2], fields[3]] == ["05.a", "yes", ""]
    for field in (fields[0], fields[4]):
        assert not field.startswith(("=", "+", "-", "@")) and (field.isprintable() or not field)
    assert sys.getsizeof(fields[4]) < 2000
