"""Laws of `check`, `predict`, `outcome` and of what the course remembers."""

import dataclasses
import json
import multiprocessing
import os
import re
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import ipywidgets
import nbformat
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from covlab.cli.main import main
from covlab.course import (
    MARK,
    MEASUREMENT,
    VERDICT,
    card,
    check,
    measure,
    outcome,
    predict,
    predictions,
    student_record,
)
from covlab.course.course_report import read_for_page
from covlab.course.exercises import Exercise, Mistake, compare
from covlab.course.exercises.judging import judge
from covlab.course.harmless_html import harmless

SCALED = Exercise(
    id="99.scaled",
    law="Twice the input.",
    draw=lambda generator: (torch.randn(3, generator=generator), 3),
    right=lambda values, count: 2 * values,
    hints={
        "it is {ratio:.2f}×, your {count}": lambda values, count: 6 * values,
        "the sign": Mistake(lambda values, count: -2 * values, recognize=lambda trial: trial.ratio < 0),
    },
)
CHOICE = Exercise(id="99.choice", law="Which?", right="b", choices=("a", "b", "c"), hints={"not that one": "c"})


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every bundle that was displayed."""
    bundles = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


@pytest.fixture(autouse=True)
def new_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(student_record, "_forgetful", {})
    monkeypatch.setattr(student_record, "_unwritable", set())
    monkeypatch.setattr(predictions, "_asked", {})


def choice(question: str) -> str | None:
    record = student_record.prediction(question)
    return record["choice"] if record else None


def raising(values: Tensor, count: int) -> Tensor:
    return values + torch.zeros(1)[5]


def spoiling(values: Tensor, count: int) -> Tensor:
    values *= 2
    return values


def doubling_the_precision(values: Tensor, count: int) -> Tensor:
    torch.set_default_dtype(torch.float64)
    return values * 2.0


@pytest.mark.parametrize(
    "answer, said",
    [
        (..., "still `...`"),
        (3.0, "the function itself, got 3.0"),
        (torch.zeros(3), "the function itself, got a float32 tensor of shape [3]"),
        (lambda values: values, "should take 2 arguments (values, count)"),
        (lambda values, count: ..., "it returns `...`: a blank"),
        (lambda values, count: values * ..., "a blank `...` still has to be filled in"),
        (lambda values, count: None, "is a `return` missing, or does"),
        (lambda values, count: values.tolist(), "it returns a list of 3, expected a float32 tensor of shape [3]"),
        (lambda values, count: values[:2], "a tensor of shape [2], expected a tensor of shape [3]"),
        (lambda values, count: values.to(torch.complex64), "expected a real tensor"),
        (lambda values, count: values / 0 * 0, "3 of 3 numbers are NaN"),
        (raising, "`return values + torch.zeros(1)[5]`, with IndexError"),
        (lambda values, count: exit(), "with SystemExit"),
        (spoiling, "changes its argument `values` in place"),
        (doubling_the_precision, "changes PyTorch's default dtype"),
        (lambda values, count: torch.set_grad_enabled(False) and 2 * values, "changes whether PyTorch records"),
        (lambda values, count: values + 1e-2, "Of 20 random inputs, 20 give a wrong result"),
        (lambda values, count: 5 * values, "each 2.5 times the correct one"),
        (lambda values, count: 0 * values, "20 give a wrong result: zero,"),
        (lambda values, count: 5 * values.abs(), "differs from the correct one by up to 350 % of its size"),
        (lambda values, count: 2e6 * values.abs(), "20 give a wrong result, for instance when called"),
    ],
)
def test_whatever_is_wrong_with_an_answer_is_a_sentence(answer: Any, said: str) -> None:
    judgement = judge(SCALED, answer)
    assert not judgement.passed
    assert said in judgement.finding
    assert judgement.finding[-1] in ".?" and judgement.finding[-2] not in ".?"


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.complex_numbers(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    )
)
@settings(max_examples=60)
def test_no_value_passes_for_a_result_or_for_a_function_or_raises(value: object) -> None:
    assert not judge(SCALED, value).passed
    assert not judge(SCALED, lambda values, count: value).passed
    assert not judge(CHOICE, value).passed or value == "b"


LOOPED = Exercise(
    id="99.looped",
    law="Twice each.",
    draw=lambda generator: (torch.randn(3, generator=generator),),
    right=lambda value, factor: value * factor,
    run=lambda function, values: torch.stack([function(value, 2) + 0 for value in values]),
)


@pytest.mark.parametrize(
    "answer, said",
    [
        (
            lambda value, factor: None,
            "It returns nothing: is a `return` missing, or does it return a call that has no result?",
        ),
        (lambda value, factor: ..., "It returns `...`: a blank still has to be filled in."),
        (lambda value, factor: "no", "It returns 'no', which the exercise cannot use: TypeError"),
        (lambda value: value, "It should take 2 arguments (value, factor), but the call fails: "),
        (lambda value, factor: value[5], "Your function stops in line "),
    ],
)
def test_where_the_exercise_calls_the_answer_itself_what_is_wrong_is_still_told_of_the_answer(
    answer: Any, said: str
) -> None:
    assert judge(LOOPED, answer).finding.startswith(said)


def test_a_warning_of_the_answer_is_shown_once_and_one_of_a_mistake_never(recwarn: pytest.WarningsRecorder) -> None:
    def warning(values: Tensor, count: int) -> Tensor:
        warnings.warn("mine", stacklevel=1)
        return -values

    def mistaken(values: Tensor, count: int) -> Tensor:
        warnings.warn("its", stacklevel=1)
        return values

    warnings.simplefilter("always")
    judge(dataclasses.replace(SCALED, hints={"": mistaken}), warning)
    assert [str(each.message) for each in recwarn] == ["mine"]


def test_a_wrong_whole_number_is_told_and_not_measured_in_percent() -> None:
    third = Exercise(
        id="99.third",
        law="The third.",
        draw=lambda generator: (torch.randint(5, 9, (), generator=generator).item(),),
        right=lambda n: n + 2,
    )
    assert ", for instance 4, called with n = " in judge(third, lambda n: 4).finding
    assert judge(third, lambda n: torch.tensor(n + 2)).passed


def test_a_wrong_yes_or_no_is_not_measured_in_percent() -> None:
    positive = Exercise(
        id="99.positive",
        law="Above 0.",
        draw=lambda generator: (torch.randn((), generator=generator),),
        right=lambda x: bool(x > 0),
    )
    assert ", for instance True, called with x = -" in judge(positive, lambda x: True).finding
    assert judge(positive, lambda x: x > 0).passed


def test_one_number_passes_as_a_number_or_as_a_tensor_and_only_if_it_is_real() -> None:
    length = Exercise(
        id="99.length",
        law="‖v‖",
        draw=lambda generator: (torch.randn(4, generator=generator),),
        right=lambda values: values.norm(),
    )
    assert judge(length, lambda values: values.norm().item()).passed
    assert judge(length, lambda values: values.norm().reshape(1)).passed
    assert (
        "it returns a float32 tensor of shape [4], expected one number" in judge(length, lambda values: values).finding
    )
    assert "expected one real number" in judge(length, lambda values: values.norm() + 0j).finding


def test_finding_and_hint_tell_of_the_same_case_and_show_it_whole() -> None:
    mean = Exercise(
        id="99.mean",
        law="A weighted sum.",
        right=lambda rates, weights: sum(rate * weights["a"] for rate in rates),
        hints={"with {rates[0]:.3g}": lambda rates, weights: sum(rates)},
        draw=lambda generator: (
            torch.rand(2, generator=generator).tolist(),
            {"a": torch.randint(9, (), generator=generator).item()},
        ),
    )
    judgement = judge(mean, lambda rates, weights: sum(rates))
    shown = re.search(r"rates = \[([\d.]+), [\d.]+\], weights = {'a': \d}", judgement.finding)
    assert shown is not None
    assert judgement.hint == f"with {shown[1]}"


def test_what_is_right_passes_in_any_precision_and_leaves_the_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    assert judge(SCALED, lambda values, count: values.double() * 2 + 0 * torch.randn(3)).passed
    assert torch.equal(torch.get_rng_state(), state)


def test_a_mistake_is_recognized_by_its_arithmetic_and_only_where_it_holds_throughout() -> None:
    assert judge(SCALED, lambda values, count: values * 2 * count).hint == "it is 3.00×, your 3"
    assert judge(SCALED, lambda values, count: -5 * values).hint == "the sign"
    assert judge(SCALED, lambda values, count: 6 * values if values[0] > 0 else 2 * values).hint is None
    assert judge(CHOICE, "c").hint == "not that one"
    assert judge(CHOICE, "a").hint is None
    assert "one of 'a', 'b', 'c'" in judge(CHOICE, "d").finding


@given(st.floats(-1e3, 1e3).filter(lambda c: abs(c) > 1e-3))
def test_a_ratio_is_found_where_there_is_one(c: float) -> None:
    right = torch.tensor([1.0, -2.0, 0.5])
    assert compare.ratio(c * right, right) == pytest.approx(c, rel=1e-4)
    assert compare.ratio(c * right + torch.tensor([0, 0, c]), right) != pytest.approx(c, rel=0.0001)


def test_only_the_answer_s_own_warnings_are_shown() -> None:
    def warning(about: str) -> Callable[[Tensor], Tensor]:
        def doubled(values: Tensor) -> Tensor:
            warnings.warn(about, stacklevel=1)
            return 2 * values

        return doubled

    exercise = Exercise(
        id="99.warning",
        law="Twice the input.",
        draw=lambda generator: (torch.ones(1),),
        right=warning("oracle"),
        hints={"no": warning("mistake")},
    )
    with pytest.warns(UserWarning) as said:
        assert judge(exercise, warning("answer")).passed
        assert not judge(exercise, lambda values: values).passed
    assert {str(each.message) for each in said} == {"answer"}


# The card and what is remembered


def right_gradient(parameter: Tensor, micro_batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    for inputs, targets in micro_batches:
        ((inputs @ parameter - targets).square().mean() / len(micro_batches)).backward()
    assert parameter.grad is not None
    return parameter.grad


def test_the_card_says_the_same_to_the_runner_to_a_page_and_to_a_terminal(shown: list[dict[str, Any]]) -> None:
    check("06.window_gradient", right_gradient)
    check("06.window_gradient", lambda parameter, micro_batches: parameter)
    good, bad = shown
    assert good[VERDICT]["passed"] and not bad[VERDICT]["passed"]
    for bundle in shown:
        assert bundle[VERDICT]["text"] in bundle["text/plain"]
        assert "The law:" in bundle["text/html"]
    assert "Traceback" not in bad["text/plain"]
    card("`a` < b", ["is `c < d` and ` alone"], "plain")
    assert (
        "<b>`a` &lt; b</b>" in shown[-1]["text/html"]
        and "is <code>c &lt; d</code> and ` alone" in shown[-1]["text/html"]
    )


def test_what_stands_in_backticks_is_set_as_code_and_nothing_becomes_markup(shown: list[dict[str, Any]]) -> None:
    check("06.window_gradient", lambda parameter, micro_batches: None)
    assert (
        "is a <code>return</code> missing, or" in shown[0]["text/html"]
        and "is a `return` missing, or does" in shown[0]["text/plain"]
    )
    check("06.which_fault", "`<b>` `1`")
    assert "<b>`" not in shown[1]["text/html"] and "<code>&lt;b&gt;</code>" in shown[1]["text/html"]


def test_an_exercise_that_is_not_there_is_a_verdict_too(shown: list[dict[str, Any]]) -> None:
    assert not check("06.windowgradient", right_gradient).passed
    assert not check("no such thing", 3).passed
    assert "The exercises of this lesson: 06.window_gradient" in shown[0]["text/plain"]


def test_the_solution_opens_after_three_different_answers_that_ran(shown: list[dict[str, Any]]) -> None:
    def answer_one(parameter: Tensor, micro_batches: list[tuple[Tensor, Tensor]]) -> Tensor:
        return 1.1 * right_gradient(parameter, micro_batches)

    def answer_two(parameter: Tensor, micro_batches: list[tuple[Tensor, Tensor]]) -> Tensor:
        return 1.2 * right_gradient(parameter, micro_batches)

    def answer_three(parameter: Tensor, micro_batches: list[tuple[Tensor, Tensor]]) -> Tensor:
        return 1.3 * right_gradient(parameter, micro_batches)

    def show_solution(answer: Callable[..., Tensor]) -> str:
        shown.clear()
        check("06.window_gradient", answer).solution()
        return shown[-1]["text/plain"]

    assert "3 more tries" in show_solution(raising)
    assert "2 more tries" in show_solution(answer_one)
    assert "2 more tries" in show_solution(answer_one)
    assert "1 more try" in show_solution(answer_two)
    assert "(loss / len(micro_batches)).backward()" in show_solution(answer_three)
    assert "(loss / len(micro_batches)).backward()" in show_solution(raising)  # once open, it stays open


def test_the_starter_as_given_is_no_try(shown: list[dict[str, Any]], tmp_path: Path) -> None:
    from covlab.course.checking import worked_exercise

    cell = tmp_path / "starter.py"  # a file, as the source of a cell can be read
    worked = worked_exercise("06.window_gradient")
    assert worked is not None
    cell.write_text("# comments do not make it another answer\n" + worked.starter)
    namespace: dict[str, Any] = {}
    exec(compile(cell.read_text(), str(cell), "exec"), namespace)
    assert check("06.window_gradient", namespace["window_gradient"]).tries == 0


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("work", "lessons", "build"):
        (tmp_path / folder).mkdir()
    monkeypatch.delenv(student_record.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work" / student_record.NAME


def test_what_is_solved_in_work_stays_solved_and_is_counted_nowhere_else(
    shown: list[dict[str, Any]], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check("06.window_gradient", right_gradient)
    assert student_record.read(work)["exercises"]["06.window_gradient"]["solved"]
    check("06.window_gradient", raising)
    assert student_record.read(work)["exercises"]["06.window_gradient"]["solved"]
    told = CliRunner().invoke(main, ["course", "progress", "--root", str(work.parents[1])])
    assert "06.window_gradient" in told.output and "solved 20" in told.output

    before = work.read_bytes()
    monkeypatch.chdir(work.parents[1] / "build")
    check("06.window_gradient", lambda parameter, micro_batches: parameter.grad)
    monkeypatch.chdir(work.parent)
    monkeypatch.setenv(student_record.VARIABLE, "")
    check("06.window_gradient", lambda parameter, micro_batches: -parameter)
    assert work.read_bytes() == before
    assert {path.name for path in work.parent.iterdir()} == {student_record.NAME, f"{student_record.NAME}.lock"}


@given(
    damage=st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["exercises", "predictions", "tries", "x"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
@settings(max_examples=60)
def test_a_damaged_file_is_set_aside_with_a_word_and_never_an_exception(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes
) -> None:
    path = tmp_path_factory.mktemp("work") / student_record.NAME
    path.write_bytes(damage)
    before = os.environ.get(student_record.VARIABLE)
    os.environ[student_record.VARIABLE] = str(path)
    try:
        student_record.remember_try("06.toy", "abc", True)
        student_record.remember_prediction("06.toy", "yes", ["yes", "no"])
        assert student_record.read(path)["exercises"]["06.toy"]["tries"] == ["abc"]
        assert choice("06.toy") == "yes"
    finally:
        os.environ.pop(student_record.VARIABLE) if before is None else os.environ.update(
            {student_record.VARIABLE: before}
        )


def test_damage_is_said_and_kept(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work.write_text('{"exercises": ')
    student_record.remember_try("06.toy", "abc", False)
    assert "cannot be read" in capsys.readouterr().out
    [aside] = [path for path in work.parent.iterdir() if "damaged" in path.name]
    assert aside.read_text() == '{"exercises": '


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "[]",
        "no JSON",
        "\udcff",
        "[" * 100_000,
        '{"exercises": []}',
        '{"predictions": {"99.toy": ["a"]}}',
        '{"last": 5}',
        '{"predictions": {"99.toy": {"at": "2026-01-01"}}}',
        '{"predictions": {"99.toy": {"choice": "a", "at": 3}}}',
        '{"predictions": {"99.toy": {"choice": "a", "outcome_shown": []}}}',
        '{"exercises": {"99.toy": {"solved": 3, "tries": []}}}',
        '{"exercises": {"99.toy": {"solved": null, "tries": [1]}}}',
    ],
)
def test_no_file_that_is_no_record_is_ever_lost_however_often_it_comes(work: Path, foreign: str) -> None:
    content = foreign.encode(errors="surrogateescape")
    for _ in range(3):
        work.write_bytes(content)
        assert student_record.read(work) == {"exercises": {}, "predictions": {}}
        assert work.read_bytes() == content, "reading changes nothing"
        student_record.remember_prediction("99.toy", "yes", ["yes", "no"])
        assert choice("99.toy") == "yes"
    assert [path.read_bytes() for path in work.parent.glob("*.damaged-*")] == 3 * [content]


def test_what_another_release_added_to_the_record_is_kept(work: Path) -> None:
    work.write_text('{"newer": [1], "exercises": {"99.toy": {"solved": null, "tries": [], "newer": 2}}}')
    student_record.remember_try("99.toy", "abc", True)
    record = student_record.read(work)
    assert record["newer"] == [1] and record["exercises"]["99.toy"]["newer"] == 2


def test_four_kernels_that_write_at_once_lose_nothing(work: Path) -> None:
    def write(kernel: int) -> None:
        for number in range(60):
            student_record.remember_try(f"99.toy{number % 3}", f"{kernel}.{number}", solved=False)

    fork = multiprocessing.get_context("fork")
    kernels = [fork.Process(target=write, args=(kernel,)) for kernel in range(4)]
    for each in kernels:
        each.start()
    for each in kernels:
        each.join(120)
    assert [each.exitcode for each in kernels] == [0] * 4
    tries = [each for record in student_record.read(work)["exercises"].values() for each in record["tries"]]
    assert sorted(tries) == sorted(f"{kernel}.{number}" for kernel in range(4) for number in range(60))


def full_disk(path: Path, write: Callable[[Path], object]) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("why", ["no folder can be there", "no lock", "full disk", "unreadable"])
def test_a_record_that_cannot_be_written_is_said_once_and_lasts_as_long_as_the_kernel(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shown: list[Any], why: str
) -> None:
    student_record.remember_prediction("99.before", "kept", ["kept"])
    if why == "no folder can be there":
        (work.parent / "file").touch()
        monkeypatch.setenv(student_record.VARIABLE, str(work.parent / "file" / "record.json"))
    elif why == "no lock":  # as in a folder that is read-only, for anyone but root
        Path(f"{work}.lock").unlink()
        Path(f"{work}.lock").mkdir()
    elif why == "full disk":
        monkeypatch.setattr("covlab.course.student_record.write_atomically", full_disk)
    else:
        work.unlink()
        work.mkdir()
    before = work.read_bytes() if work.is_file() else None
    predict("99.toy", "The loss is …", ["too small", "too large"])
    student_record.remember_prediction("99.toy", "too large", ["too small", "too large"])
    outcome("99.toy", "too large")
    for fingerprint in "abc":
        assert student_record.remember_try("99.tried", fingerprint, solved=False)["tries"][-1] == fingerprint
    assert "You predicted: too large" in shown[-1]["text/plain"]
    assert capsys.readouterr().out.count("Your progress is forgotten when this kernel ends") == 1
    assert (work.read_bytes() if work.is_file() else None) == before
    if why in ("no lock", "full disk"):
        assert choice("99.before") == "kept"


# Measurements


@pytest.mark.parametrize("runner", [True, False])
def test_a_measurement_is_told_to_the_runner_and_to_nobody_else(
    shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runner: bool
) -> None:
    if runner:
        monkeypatch.setenv(MARK, "a lesson")
    else:
        monkeypatch.delenv(MARK, raising=False)
    measure("99.toy", torch.tensor(4.0))
    assert shown == [{MEASUREMENT: {"claim": "99.toy", "value": 4.0}}] * runner
    outputs = [nbformat.v4.new_output("display_data", bundle) for bundle in shown]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    nbformat.validate(notebook)
    nbformat.write(notebook, tmp_path / "executed.ipynb")
    assert read_for_page(tmp_path / "executed.ipynb").cells[0].outputs == []


# Predictions


CHOICES = ["too small", "too large"]
BECAUSE = "the division is missing."


@pytest.fixture
def radios(monkeypatch: pytest.MonkeyPatch) -> list[ipywidgets.RadioButtons]:
    """Every control of a prediction, in front of a person."""
    made: list[ipywidgets.RadioButtons] = []
    honest = ipywidgets.RadioButtons

    def radio(**options: Any) -> ipywidgets.RadioButtons:
        made.append(honest(**options))
        return made[-1]

    monkeypatch.setattr(ipywidgets, "RadioButtons", radio)
    monkeypatch.setattr(predictions, "_someone_is_here", lambda: True)
    return made


def test_without_a_person_the_choices_are_listed_and_the_outcome_is_folded(shown: list[dict[str, Any]]) -> None:
    predict("99.toy", "The loss is …", CHOICES)
    question = list(shown)
    outcome("99.toy", "too large", because=BECAUSE)
    assert any("( ) too small" in each.get("text/plain", "") for each in question)
    assert any("<li>too large</li>" in each.get("text/html", "") for each in question)
    html = shown[-1]["text/html"]
    assert html.startswith("<details><summary>") and html.endswith("</details>")
    summary, _, folded = html.partition("</summary>")
    assert "too large" not in summary and BECAUSE not in summary
    assert "too large" in folded and BECAUSE in folded and "predicted" not in html
    assert harmless(html).startswith("<details><summary>")


@given(answers=st.lists(st.sampled_from([*CHOICES, "see", "ask again"]), max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_outcome_is_shown_to_those_who_answered_and_keeps_the_answer(
    shown: list[dict[str, Any]], radios: list[ipywidgets.RadioButtons], answers: list[str]
) -> None:
    student_record._forgetful.clear()
    predict("99.toy", "The loss is …", CHOICES)
    kept, seen = None, False
    for answer in answers:
        if answer == "ask again":
            predict("99.toy", "The loss is …", CHOICES)
        elif answer != "see":
            radios[-1].value = answer
            kept = kept if seen else answer
        else:
            outcome("99.toy", "too large", because=BECAUSE)
            said = shown[-1]["text/plain"] + shown[-1]["text/html"]
            assert (BECAUSE in said) == (kept is not None) == ("Answer the question above first" not in said)
            assert f"You predicted: {kept}. It " in said or kept is None
            assert ("too large" in said) == (kept is not None)
            assert ("as you predicted" in said) == (kept == "too large")
            seen = seen or kept is not None
        assert choice("99.toy") == kept == radios[-1].value
        assert radios[-1].disabled == seen
    record = student_record.prediction("99.toy")
    assert (record is not None) == (kept is not None)
    if record:
        assert datetime.fromisoformat(record["at"]).tzinfo is not None
        assert bool(record["outcome_shown"]) == seen


def test_a_prediction_that_is_no_choice_any_more_may_be_made_again(
    shown: list[dict[str, Any]], radios: list[ipywidgets.RadioButtons]
) -> None:
    predict("99.toy", "The loss is …", CHOICES)
    radios[-1].value = "too small"
    outcome("99.toy", "too large")
    predict("99.toy", "The loss is …", ["low", "high"])
    assert radios[-1].value is None and not radios[-1].disabled
    outcome("99.toy", "high", because=BECAUSE)
    assert BECAUSE not in shown[-1]["text/plain"]
    radios[-1].value = "low"
    outcome("99.toy", "high", because=BECAUSE)
    assert "You predicted: low. It came out differently: high." in shown[-1]["text/plain"]


def test_predictions_of_earlier_releases_are_kept(work: Path) -> None:
    work.write_text('{"predictions": {"99.toy": "too large"}}')
    student_record.remember_prediction("99.new", "a", ["a", "b"])
    assert choice("99.toy") == "too large" and choice("99.new") == "a"
    assert list(work.parent.glob("*.damaged-*")) == []


def test_an_outcome_that_was_no_choice_is_a_lesson_s_error(shown: list[dict[str, Any]]) -> None:
    predict("99.toy", "The loss is …", ["too small", "too large"])
    with pytest.raises(ValueError, match="expected one of 'too small', 'too large'"):
        outcome("99.toy", "just right")
    with pytest.raises(ValueError, match="two or more different"):
        predict("99.toy", "?", ["one"])


def test_a_page_without_scripts_shows_a_control_by_the_list_in_its_output(tmp_path: Path) -> None:
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}
    outputs = [
        nbformat.v4.new_output("display_data", view | {"text/html": "<ul>"}),
        nbformat.v4.new_output("display_data", view | {"text/plain": "Slider"}),
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    nbformat.write(notebook, tmp_path / "executed.ipynb")
    shown = read_for_page(tmp_path / "executed.ipynb").cells[0].outputs
    assert [output.data for output in shown] == [{"text/html": "<ul>"}]
