"""`check` as a debugger: the smallest failing case, its arguments, and both results next to each other."""

import ast
import dataclasses
import linecache
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from answers import WRONG
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from IPython.core.interactiveshell import InteractiveShell
from test_exercises import EXERCISES, FUNCTIONS, worked

from covlab.course import check, checking, student_record
from covlab.course.exercises import Exercise
from covlab.course.exercises.compare import complaint
from covlab.course.exercises.failing_case import PARTS, case_text, raised_text, size
from covlab.course.exercises.judging import Judgement, case_arguments, judge

NUMBERS = st.floats() | st.complex_numbers() | st.integers() | st.booleans()
ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.complex64, np.int64, np.bool_]),
    st.sampled_from([(), (0,), (3,), (13,), (0, 2), (2, 3), (3, 13), (2, 2, 2)]),
    elements=st.sampled_from([0, 1]),
)
VALUES = st.recursive(
    NUMBERS | st.none() | st.text() | ARRAYS | ARRAYS.map(torch.from_numpy),
    lambda inner: st.lists(inner, max_size=11) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def new_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(student_record.VARIABLE, "")
    monkeypatch.setattr(student_record, "_forgetful", {})


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    bundles: list[dict[str, Any]] = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


@given(VALUES, VALUES, st.dictionaries(st.text(), VALUES, max_size=3))
@settings(deadline=None, max_examples=30)
def test_any_two_values_can_be_shown_in_a_few_aligned_lines(got: Any, expected: Any, arguments: dict[str, Any]) -> None:
    for one, other in ((got, expected), (expected, expected)):
        text = case_text(arguments, one, other)
        assert "yours" in text and "expected" in text
        assert len(text.splitlines()) < 500
    assert "expected" in raised_text(arguments, "raised ValueError", expected)


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), min_size=1, max_size=12))
def test_numbers_that_differ_are_printed_differently_and_line_up(pairs: list[tuple[float, float]]) -> None:
    got, expected = (torch.tensor(each, dtype=torch.float64) for each in zip(*pairs, strict=True))
    header, *rows = case_text({}, got, expected).splitlines()
    assert len(rows) == len(pairs)
    assert {len(row) for row in rows} == {len(header)}
    differ = (got - expected).norm() > 1e-4 * expected.norm()
    assert not differ or any(row.split()[-1] != row.split()[-2] for row in rows)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=14), st.sampled_from([1.0, 1e-4, 1e5]))
def test_numbers_of_an_argument_that_differ_are_printed_differently(steps: list[int], size: float) -> None:
    """Otherwise a log that moves in its sixth digit would look as if it stood still."""
    values = [size * (1 + 1e-6 * step) for step in steps]
    text = case_text({"values": values}, True, False).split("yours")[0]
    printed = re.findall(r"\d[\d.e+−]*", re.sub(r"\[\d+\]", "", text))[: min(len(steps), PARTS)]
    shown = values[: len(printed)]
    assert len(set(printed)) == len(set(shown))


def test_a_large_tensor_is_shown_by_the_norms_and_its_largest_difference() -> None:
    expected = torch.ones(4, 5, 6)
    got = expected.clone()
    got[1, 2, 3] = 4.0
    text = case_text({}, got, expected)
    assert "norm of the difference 3 (27.4 % of expected)" in text
    assert "largest difference at [1, 2, 3]: 4, expected 1" in text
    assert len(text.splitlines()) == 4


def lines(source: str) -> set[str]:
    return {" ".join(line.split()) for line in ast.unparse(ast.parse(source)).splitlines() if len(line.split()) > 2}


@pytest.mark.parametrize("id", FUNCTIONS)
def test_where_no_hint_fits_a_wrong_case_is_shown_to_step_through_and_no_line_of_the_solution(
    id: str, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    exercise = EXERCISES[id]
    judgements: list[Judgement] = []

    def judge_and_keep(exercise: Exercise, answer: Any) -> Judgement:
        judgements.append(judge(exercise, answer))
        return judgements[-1]

    monkeypatch.setattr(checking, "judge", judge_and_keep)
    secret = lines(worked(id).solution) - lines(worked(id).starter)
    for answer, _ in WRONG[id][:5]:
        checked = check(id, answer)
        judgement, said = judgements[-1], shown[-1]["text/plain"]
        if judgement.hint is None and judgement.ran and not judgement.finding.startswith("The results are correct"):
            assert judgement.shown in said
            assert f"{exercise.name}(*check(" in said
        assert [line for line in secret if line in " ".join(said.split())] == []
        if exercise.run is None and judgement.ran and judgement.shown:
            stepped = answer(*checked.case)
            expected = exercise.right(*checked.case)
            assert complaint(stepped, expected) or not exercise.compare(stepped, expected) <= exercise.tolerance
            again = case_text(dict(zip("abcdefgh", checked.case, strict=False)), stepped, expected)
            assert again.splitlines()[-1] == judgement.shown.splitlines()[-1]


@pytest.mark.parametrize("id", FUNCTIONS)
def test_a_case_is_what_the_answer_is_called_with_and_made_anew_each_time(id: str) -> None:
    exercise = EXERCISES[id]
    calls: list[tuple[Any, ...]] = []

    def answer(*arguments: Any) -> Any:
        calls.append(arguments)
        raise RuntimeError("seen")

    first = judge(dataclasses.replace(exercise, hints={}), answer)
    assert not first.ran and "RuntimeError" in first.finding
    one, other = case_arguments(exercise, first.case), case_arguments(exercise, first.case)
    assert len(one) == len(calls[0])
    for left, right in zip(one, other, strict=True):
        if isinstance(left, torch.Tensor):
            assert left is not right and torch.equal(left.nan_to_num(), right.nan_to_num())


def test_the_smallest_case_is_chosen() -> None:
    sums = Exercise(
        id="99.sums",
        law="The sum.",
        draw=lambda generator: (torch.ones(int(torch.randint(1, 30, (), generator=generator))),),
        right=lambda values: values.sum(),
    )
    smallest = min(size(case_arguments(sums, number)) for number in range(sums.cases))
    for answer in (lambda values: values.sum() + 1, lambda values: None, lambda values: values[99]):
        assert size(case_arguments(sums, judge(sums, answer).case)) == smallest
    larger = [n for n in (size(case_arguments(sums, number)) for number in range(sums.cases)) if n > 5]
    assert size(case_arguments(sums, judge(sums, lambda values: min(values.sum(), 5)).case)) == min(larger)


def test_an_answer_that_raised_is_never_called_a_multiple_of_the_correct_one() -> None:
    def refusing(terms: dict[str, float], weights: dict[str, float]) -> float:
        raise ValueError("no")

    judgement = judge(EXERCISES["03.total_loss"], refusing)
    assert "times" not in judgement.finding
    assert "'without the name'" in judgement.shown


@pytest.mark.parametrize("factor", [0.0, 1e-9, 30.0, 400.0, 1e9])
def test_the_size_of_an_error_is_told_in_words_that_are_true(factor: float) -> None:
    exercise = Exercise(
        id="99.turned",
        law="As it is.",
        draw=lambda generator: (torch.randn(3, generator=generator),),
        right=lambda values: values,
    )
    said = judge(exercise, lambda values: factor * values.flip(0).abs()).finding
    assert "off by" not in said and "the right one's" not in said and "size of the correct one" not in said
    shares = [float(word) for word, unit in zip(said.split(), said.split()[1:], strict=False) if unit == "%"]
    assert all(math.isclose(share, 100, rel_tol=0.01) or share <= 1000 for share in shares)


def test_case_of_a_value_or_of_no_exercise_is_refused_in_words(shown: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"06\.which_fault asks for a value"):
        _ = check("06.which_fault", "last_batch_only").case
    with pytest.raises(ValueError, match="no exercise"):
        _ = check("06.nothing", 1).case


# What was judged


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    shell = InteractiveShell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    return shell


OLD = "def window_weights(counts):\n    return counts / counts.max()"


@pytest.mark.parametrize(
    "newest, older",
    [
        ("def window_weights(counts):\n    return counts / counts.min(", True),  # a SyntaxError
        ("1 / 0\ndef window_weights(counts):\n    return counts / counts.min()", True),
        ("def window_weights(counts):\n    return counts / counts.min()", False),
        ("# def window_weights", False),
        ("1 / 0", False),
        ("def window_weights_too(power_ratio):\n    return (", False),
    ],
)
def test_an_older_version_that_is_judged_is_named_by_a_line(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], newest: str, older: bool
) -> None:
    for cell in (
        "import torch",
        OLD,
        newest,
        "from covlab.course import check\ncheck('05.window_weights', window_weights)",
    ):
        shell.run_cell(cell, store_history=True)
    said = capsys.readouterr().out
    assert ("An older one was judged, which has the line `return counts / counts.max()`" in said) == older
    assert ("in cell [3]" in said) == older
    linecache.clearcache()


def test_solved_ends_with_what_to_remember_how_many_and_what_is_next(shown: list[dict[str, Any]]) -> None:
    check("00.stuck", EXERCISES["00.stuck"].right)
    said = shown[-1]["text/plain"]
    assert f"1 of {len(EXERCISES)} solved. Next: lesson 05 (bugs path) or lesson 01 (whole course)." in said
    check("05.window_weights", lambda counts: counts / counts.sum())
    said = shown[-1]["text/plain"]
    assert f"2 of {len(EXERCISES)} solved. Next: exercise 05." in said and "in this lesson" in said
    rows = [(id, "solved 2026-01-01", 1) for id in EXERCISES]
    assert student_record.what_is_next(rows) == "You have solved every exercise of the course."
    last = [(id, "open" if id == "11.invisible" else "solved 2026-01-01", 1) for id in EXERCISES]
    assert student_record.what_is_next(last) == "Next: lesson 11."
    assert student_record.what_is_next([("12.new", "open", 0)]) == "Next: lesson 12."
