"""Every exercise of every lesson: correct answers pass, wrong ones do not, and each typical mistake gets its hint.

Starters and solutions are cells of the lesson; the mistakes are declared with the hints. A new exercise needs no test
of its own, but five wrong answers and two correct ones in `answers.py`.
"""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from answers import CORRECT, WRONG

from covlab.course.checking import CHECK, Worked, worked_exercises
from covlab.course.editions import read_lesson
from covlab.course.exercises import Mistake, all_exercises
from covlab.course.exercises.judging import judge

ROOT = Path(__file__).parents[1]
EXERCISES = all_exercises()
SOURCES = sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py"))


@cache
def worked(id: str) -> Worked:
    [source] = (source for source in SOURCES if source.stem.startswith(id[:2]))
    return worked_exercises(read_lesson(source))[id]


def answer_in(id: str, source: str) -> Any:
    """The answer that a cell, run by itself, defines."""
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<{id}>", "exec"), namespace)
    return namespace[worked(id).answer]


@pytest.mark.parametrize("id", EXERCISES)
def test_the_solution_passes(id: str) -> None:
    judgement = judge(EXERCISES[id], answer_in(id, worked(id).solution))
    assert judgement.passed, judgement


@pytest.mark.parametrize("id", EXERCISES)
def test_the_starter_runs_and_is_wrong(id: str) -> None:
    judgement = judge(EXERCISES[id], answer_in(id, worked(id).starter))
    assert not judgement.passed
    assert judgement.ran or EXERCISES[id].draw is None, judgement.finding


@pytest.mark.parametrize("id", [id for id in EXERCISES if id.startswith("04.")])
def test_exercises_on_precision_are_judged_on_every_device(id: str, device: str) -> None:
    """The solution passes, the starter does not, and each mistake gets its hint."""
    exercise = EXERCISES[id]
    draw = exercise.draw
    assert draw is not None
    moved = replace(exercise, draw=lambda generator: tuple(_to(device, each) for each in draw(generator)))
    assert judge(moved, answer_in(id, worked(id).solution)).passed
    assert not judge(moved, answer_in(id, worked(id).starter)).passed
    for text, mistake in exercise.hints.items():
        judgement = judge(moved, mistake.example if isinstance(mistake, Mistake) else mistake)
        assert judgement.hint is not None and judgement.hint.startswith(text.partition("{")[0]), judgement


def _to(device: str, argument: Any) -> Any:
    return argument.to(device) if isinstance(argument, torch.Tensor) else argument


@pytest.mark.parametrize("id, number", [(id, n) for id in EXERCISES for n in range(len(EXERCISES[id].hints))])
def test_each_mistake_meets_its_own_hint(id: str, number: int) -> None:
    text, mistake = list(EXERCISES[id].hints.items())[number]
    judgement = judge(EXERCISES[id], mistake.example if isinstance(mistake, Mistake) else mistake)
    assert not judgement.passed
    filled = ".+".join(map(re.escape, re.split(r"\{.*?\}", text)))
    assert judgement.hint is not None
    assert re.fullmatch(filled, judgement.hint or "") and "nan" not in judgement.hint, judgement


FUNCTIONS = [id for id, exercise in EXERCISES.items() if exercise.draw]


@pytest.mark.parametrize("id", FUNCTIONS)
def test_no_wrong_answer_passes_and_none_meets_the_hint_of_another_mistake(id: str) -> None:
    assert len(WRONG[id]) >= 5, "write five wrong answers that people really give, in answers.py"
    unlike: list[str] = []
    for number, (answer, said) in enumerate(WRONG[id]):
        judgement = judge(EXERCISES[id], answer)
        fits = judgement.hint is None if said is None else said in (judgement.hint or judgement.finding)
        if judgement.passed or not fits:
            unlike.append(f"{number}: expected {said!r}, got {judgement}")
    assert not unlike, "\n".join(unlike)


@pytest.mark.parametrize("id", FUNCTIONS)
def test_correct_answers_pass_in_every_style(id: str) -> None:
    assert len(CORRECT[id]) >= 2, "write two correct answers in another style than the solution, in answers.py"
    judgements = [judge(EXERCISES[id], answer) for answer in CORRECT[id]]
    assert not [f"{number}: {each}" for number, each in enumerate(judgements) if not each.passed]


@pytest.mark.parametrize("id", [id for id in EXERCISES if id not in FUNCTIONS])
def test_no_value_but_the_correct_one_passes(id: str) -> None:
    exercise = EXERCISES[id]
    right, others = exercise.right, [choice for choice in exercise.choices if choice != exercise.right]
    malformed = [right.upper(), right[:-1], [right], {right: right}, exercise.choices, exercise.choices.index(right)]
    for answer in [*others, *malformed, " ".join(exercise.choices), lambda: right, True, None, ""]:
        assert not judge(exercise, answer).passed, answer
    assert judge(exercise, f" {right} ").passed


def test_every_answer_belongs_to_an_exercise() -> None:
    assert set(WRONG) | set(CORRECT) <= set(FUNCTIONS)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_lesson_and_package_have_the_same_exercises(source: Path) -> None:
    checked = [
        id
        for cell in read_lesson(source).notebook.cells
        if cell.cell_type == "code"
        for id, _ in CHECK.findall(cell.source)
    ]
    assert sorted(checked) == sorted(id for id in EXERCISES if id.startswith(source.stem[:2]))
    assert len(set(checked)) == len(checked)
    for id in checked:
        assert worked(id).solution, f"{id}: no cell tagged 'solution' before its check"
        assert worked(id).answer == EXERCISES[id].name, f"{id}: the lesson calls the answer {worked(id).answer!r}"


def test_exercises_are_of_lessons_there_are() -> None:
    assert {id[:2] for id in EXERCISES} <= {source.stem[:2] for source in SOURCES}
