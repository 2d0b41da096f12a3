"""The form of every lesson: what stands in its header, what is folded, and what a reader sees of its code.

`lessons/README.md` explains the form. Each message says what to write.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from covlab.course.editions import Lesson, read_lesson, tags
from covlab.course.paths import BUGS_PATH, PATHS, STOPS, WHOLE_COURSE, neighbors
from covlab.course.prose import render

LESSONS = Path(__file__).parents[1] / "lessons"
IN_A_CELL, IN_A_LESSON = 4, 8  # how many imports a reader sees at most
CAPTION = re.compile(r"# (?!fmt:|type:|noqa|about \d)[A-Z][^\s]*( [^\s]+){2,}")

each_lesson = pytest.mark.parametrize("name", [path.stem for path in sorted(LESSONS.glob("[0-9][0-9]_*.py"))])


def lesson_of(name: str) -> Lesson:
    return read_lesson(LESSONS / f"{name}.py")


def code(lesson: Lesson) -> Iterator[NotebookNode]:
    yield from (cell for cell in lesson.notebook.cells if cell.cell_type == "code")


def in_sight(lesson: Lesson) -> Iterator[NotebookNode]:
    yield from (cell for cell in code(lesson) if not {"hide-input", "solution"} & set(tags(cell)))


def at(lesson: Lesson, cell: NotebookNode) -> str:
    return f"lessons/{lesson.source.name}:{lesson.line_of(cell.id)}"


def called(cell: NotebookNode) -> set[str]:
    """Return the names of all functions that a cell calls."""
    tree = ast.parse(TransformerManager().transform_cell(cell.source))
    return {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


def imports(cell: NotebookNode) -> list[str]:
    tree = ast.parse(TransformerManager().transform_cell(cell.source))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Import):
            found += [f"import {ast.unparse(name)}" for name in node.names]
    return found


# Paths


def test_every_lesson_has_a_stop_and_the_bugs_path_respects_what_its_lessons_need() -> None:
    assert [path.stem[:2] for path in sorted(LESSONS.glob("[0-9][0-9]_*.py"))] == list(WHOLE_COURSE)
    for path in PATHS.values():
        for position, number in enumerate(path):
            assert set(STOPS[number].needs) <= set(path[:position]), number
    assert len(set(BUGS_PATH)) == len(BUGS_PATH)


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("missing", [(), ("00",), ("05", "11"), WHOLE_COURSE[1:]])
def test_neighbors_lead_from_the_first_lesson_to_the_last_and_back(
    path: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    there = [number for number in path if number not in missing]
    followed = [there[0]]
    while (after := neighbors(followed[-1], path, there)[1]) is not None:
        assert neighbors(after, path, there)[0] == followed[-1]
        followed.append(after)
    assert followed == there
    for number in set(WHOLE_COURSE) - set(path):
        assert neighbors(number, path, WHOLE_COURSE) == (None, None)


@each_lesson
def test_the_header_of_a_lesson_shows_its_stop(name: str) -> None:
    lesson = lesson_of(name)
    [first, *_] = lesson.notebook.cells
    page = BeautifulSoup(render(first.source), "html.parser")
    wanted = BeautifulSoup(render(STOPS[name[:2]].header), "html.parser").text.strip()
    paragraphs = [" ".join(each.text.split()) for each in page("p")]
    assert page.h1 is not None and page.h1.text.startswith(f"{name[:2]} · ")
    assert paragraphs[:1] and paragraphs[0].startswith("Question. "), "the title is followed by **Question.** …"
    assert paragraphs[1:2] == [wanted], f"below the question write this line:\n{STOPS[name[:2]].header}"


def rows(markdown: str, column: str) -> dict[str, dict[str, str]]:
    """Return {lesson: {column: text}} of the table that has this column and numbers of lessons in its first."""
    for table in BeautifulSoup(render(markdown), "html.parser")("table"):
        names = [cell.text for cell in table("th")]
        if column in names:
            body = [[cell.text for cell in row("td")] for row in table.select("tbody tr")]
            return {row[0]: dict(zip(names, row, strict=True)) for row in body}
    return {}


def test_the_teachers_table_agrees_with_the_paths() -> None:
    table = rows((LESSONS / "README.md").read_text(encoding="utf-8"), "On the projector")
    columns = {number: (row["Bugs path"], row["Minutes"], row["Needs"]) for number, row in table.items()}
    assert columns == {number: (s.on_bugs_path, str(s.minutes), s.requirements) for number, s in STOPS.items()}


def test_the_table_of_lesson_00_agrees_with_the_paths() -> None:
    text = "\n\n".join(
        cell.source for cell in lesson_of("00_start_here").notebook.cells if cell.cell_type == "markdown"
    )
    columns = {number: (row["Bugs path"], row["Minutes"]) for number, row in rows(text, "Bugs path").items()}
    wanted = {number: (stop.on_bugs_path, str(stop.minutes)) for number, stop in STOPS.items() if number != "00"}
    columns.pop("00", None)
    assert columns == wanted, "lesson 00 has a table with the columns 'Bugs path' and 'Minutes', a row per lesson"


# Folding


@each_lesson
def test_a_folded_cell_begins_with_a_caption_that_says_what_is_folded(name: str) -> None:
    lesson = lesson_of(name)
    wrong = []
    for cell in code(lesson):
        first = cell.source.partition("\n")[0]
        if "hide-input" in tags(cell) and (not CAPTION.fullmatch(first) or len(first) > 70):
            wrong.append(f"{at(lesson, cell)}: the folded cell begins with {first!r}")
    hint = "begin it with a comment of at most 70 characters, such as '# Draws the gradient error of four rules'"
    assert not wrong, "\n".join([*wrong, hint])


@each_lesson
def test_what_measures_or_gives_an_answer_away_is_folded(name: str) -> None:
    lesson = lesson_of(name)
    wrong = [
        f"{at(lesson, cell)}: {found}(…) stands in sight: tag its cell 'hide-input', and begin it with a caption"
        for cell in in_sight(lesson)
        for found in sorted(called(cell) & {"measure", "outcome"})
    ]
    assert not wrong, "\n".join(wrong)


@each_lesson
def test_a_reader_sees_few_imports(name: str) -> None:
    lesson = lesson_of(name)
    seen = {cell.id: imports(cell) for cell in in_sight(lesson)}
    wrong = [
        f"{at(lesson, cell)}: {len(seen[cell.id])} imports in one cell, at most {IN_A_CELL} may be in sight"
        for cell in in_sight(lesson)
        if len(seen[cell.id]) > IN_A_CELL
    ]
    different = {each for cell in seen.values() for each in cell}
    if len(different) > IN_A_LESSON:
        wrong.append(f"lessons/{lesson.source.name}: {len(different)} imports, at most {IN_A_LESSON} may be in sight")
    hint = "move what is not the subject of the lesson to covlab/course/experiments/, or to a folded cell"
    assert not wrong, "\n".join([*wrong, hint])


@each_lesson
def test_no_order_to_a_formatter_is_in_sight(name: str) -> None:
    lesson = lesson_of(name)
    wrong = [
        f"{at(lesson, cell)}: a reader sees {found[0]!r}: format the line, or fold the cell"
        for cell in code(lesson)
        if "hide-input" not in tags(cell)
        and (found := re.findall(r"# *(?:fmt: *\w+|noqa\b|type: *ignore|ruff:)", cell.source))
    ]
    assert not wrong, "\n".join(wrong)
