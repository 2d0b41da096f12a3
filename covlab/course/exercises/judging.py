"""Try an answer to an exercise, and say in a sentence what happened, whatever the answer does."""

import contextlib
import copy
import inspect
import io
import itertools
import linecache
import math
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.compare import complaint, kind, ratio, relative_error, same, vector
from covlab.course.exercises.failing_case import case_text, raised_text, size, telling_digits

LONGEST = 110  # characters of an argument that a finding shows


@dataclass(frozen=True)
class Trial:
    """One case. arguments: {name in `right` or `run`: value}. error: from `Exercise.compare`; inf for a wrong form.
    number: of the case.
    """

    arguments: dict[str, Any]
    got: Any
    expected: Any
    error: float
    number: int = 0

    @cached_property
    def form(self) -> str | None:
        """What is wrong with the form of the result."""
        return complaint(self.got, self.expected)

    @property
    def ratio(self) -> float:
        """The number c, if the result is c times the correct one; NaN if there is none, or if it is not all numbers."""
        return ratio(self.got, self.expected)

    @property
    def lost(self) -> bool:
        """Whether the result has the correct form, but NaN or infinite numbers although the correct one has none."""
        expected, got = (bool(vector(each).isfinite().all()) for each in (self.expected, self.got))
        return not self.form and expected and not got


@dataclass(frozen=True)
class Judgement:
    """The result for one answer.

    finding: one or two sentences. hint: one more, if the mistake is known. ran: whether the answer ran to its end.
    case: the number of the smallest case that failed. shown: this case as text: the arguments and both results.
    """

    passed: bool
    finding: str
    hint: str | None = None
    ran: bool = True
    case: int = 0
    shown: str = ""


@dataclass(frozen=True)
class Result:
    """What an answer did in one case: what it returned, and the names of what it changed although it should not.

    changed: arguments. left: settings of PyTorch, see SETTINGS. stopped: if it did not run to its end, what to say.
    raised: what it raised if it began to run, else "".
    """

    got: Any
    changed: Sequence[str] = ()
    left: Sequence[str] = ()
    stopped: str = ""
    raised: str = ""


class NoAnswer(Exception):
    """There is no answer that could be tried; the message is the finding."""


def judge(exercise: Exercise, answer: Any) -> Judgement:
    """Try `answer` against the law of the exercise. Raise nothing that the answer raises, except KeyboardInterrupt."""
    if exercise.draw is None:
        return judge_value(exercise, answer)
    # Computed before the answer runs, so that nothing it does to PyTorch or to covlab changes what is correct.
    cases = draw_cases(exercise)
    correct = correct_results(exercise, cases)
    try:
        return judge_results(exercise, cases, correct, try_answer(exercise, answer, cases))
    except NoAnswer as none:
        return _not_run(str(none))


def draw_cases(exercise: Exercise) -> list[tuple[Any, ...]]:
    """Return the arguments of the random cases, which are the same every time."""
    generator = torch.Generator().manual_seed(0)
    return [exercise.draw(generator) for _ in range(exercise.cases)] if exercise.draw else []


def correct_results(exercise: Exercise, cases: list[tuple]) -> list[Any]:
    return [_call_silently(exercise, exercise.right, arguments, number) for number, arguments in enumerate(cases)]


def try_answer(exercise: Exercise, answer: Any, cases: list[tuple]) -> Iterator[Result]:
    """Yield what the answer does in each case. Raises NoAnswer if it is blank, or no function."""
    if answer is ...:
        raise NoAnswer(_still_blank(exercise))
    if not callable(answer):
        name = exercise.name
        raise NoAnswer(f"check needs the function itself, got {kind(answer)}. Write `{name}` without parentheses.")
    names = _names(exercise)
    recorder = _Recorder(answer)
    for number, arguments in enumerate(cases):
        own = copy.deepcopy(arguments)
        try:
            # Show the answer's own output and warnings only for the first case.
            with contextlib.nullcontext() if number == 0 else _silence():
                got = _call(exercise, recorder, own, number)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the student's code, which may raise anything
            stopped, raised = _raised(error, exercise, recorder)
            yield Result(None, stopped=stopped, raised=raised)
            continue
        changed = [name for name, one, other in zip(names, arguments, own, strict=True) if not same(one, other)]
        yield Result(got, changed, recorder.left)


def judge_results(exercise: Exercise, cases: list[tuple], correct: list[Any], results: Iterable[Result]) -> Judgement:
    """Judge what an answer did in the cases, of which the correct results are known."""
    names = _names(exercise)
    trials: list[Trial] = []
    changed: list[str] = []
    left: list[str] = []
    stopped: list[tuple[int, str, str]] = []  # (case, what to say, what it raised inside of the answer)
    for number, (arguments, expected, result) in enumerate(zip(cases, correct, results, strict=True)):
        if result.stopped:
            stopped.append((number, result.stopped, result.raised))
            continue
        off = math.inf if complaint(result.got, expected) else float(exercise.compare(result.got, expected))
        trials.append(Trial(dict(zip(names, arguments, strict=True)), result.got, expected, off, number))
        changed += result.changed
        left += result.left

    if stopped:
        number, finding, raised = min(stopped, key=lambda each: size(cases[each[0]]))
        named = dict(zip(names, cases[number], strict=True))
        shown = raised_text(named, raised, correct[number]) if raised else ""
        return Judgement(False, finding, ran=False, case=number, shown=shown)
    wrong = [trial for trial in trials if not trial.error <= exercise.tolerance]  # NaN is wrong
    if wrong:
        # Report a result of the wrong form, else one with NaN; of these the smallest case, and of equal ones the worst.
        worst = max((bool(trial.form), trial.lost) for trial in wrong)
        alike = [trial for trial in wrong if (bool(trial.form), trial.lost) == worst]
        example = min(alike, key=lambda trial: (size(cases[trial.number]), -trial.error))
        return Judgement(
            False,
            _finding(exercise, example, wrong, len(trials)),
            _hint(exercise, example, trials, wrong, cases),
            case=example.number,
            shown=case_text(example.arguments, example.got, example.expected),
        )
    if changed:
        return Judgement(
            False,
            f"The results are correct, but the function changes its argument `{changed[0]}` in place, so the data of "
            "its caller changes, too.",
        )
    if left:
        return Judgement(
            False, f"The results are correct, but the function changes {left[0]} for all code that runs later."
        )
    return Judgement(True, f"Holds on {len(trials)} random inputs.")


def case_arguments(exercise: Exercise, number: int) -> tuple[Any, ...]:
    """Return what the answer is called with in a case, made anew. If it is called several times: in the first call."""
    if exercise.draw is None:
        raise ValueError(f"{exercise.id} asks for a value, so it has no case with arguments")
    arguments = draw_cases(exercise)[number]
    if exercise.run is None:
        return arguments
    calls: list[tuple[Any, ...]] = []

    def answer(*positional: Any, **named: Any) -> Any:
        calls.append(inspect.signature(exercise.right).bind(*positional, **named).args)
        raise _Called

    with contextlib.suppress(_Called):
        _call(exercise, answer, arguments, number)
    return calls[0]


class _Called(BaseException):
    """The exercise has called the answer. Not an Exception, because an exercise may catch those."""


def _names(exercise: Exercise) -> list[str]:
    """Return the names of the arguments that `draw` returns."""
    names = list(inspect.signature(exercise.run or exercise.right).parameters)
    return names[1:] if exercise.run else names  # the first argument of `run` is the answer


def _still_blank(exercise: Exercise) -> str:
    return f"`{exercise.name}` is still `...`: a blank has to be filled in."


def _not_run(finding: str) -> Judgement:
    return Judgement(False, finding, ran=False)


def judge_value(exercise: Exercise, answer: Any) -> Judgement:
    """Judge the answer to an exercise of a value."""
    if answer is ...:
        return _not_run(_still_blank(exercise))
    answer = answer.strip() if isinstance(answer, str) else answer
    if not isinstance(answer, str) or answer not in exercise.choices:
        choices = ", ".join(map(repr, exercise.choices))
        return _not_run(f"`{exercise.name}` is {kind(answer)}; it should be one of {choices}.")
    if answer == exercise.right:
        return Judgement(True, f"{answer!r} is correct.")
    hint = next((text for text, mistake in exercise.hints.items() if mistake == answer), None)
    return Judgement(False, f"{answer!r} is not correct.", hint)


def _call(exercise: Exercise, function: Callable, arguments: tuple, number: int) -> Any:
    # Give every function the same random numbers, and leave the notebook's generator unchanged.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number)
        return exercise.run(function, *arguments) if exercise.run else function(*arguments)


def _call_silently(exercise: Exercise, function: Callable, arguments: tuple, number: int) -> Any:
    """Call a function of the exercise itself: the student should not see its warnings."""
    with _silence():
        return _call(exercise, function, copy.deepcopy(arguments), number)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _finding(exercise: Exercise, shown: Trial, wrong: list[Trial], of: int) -> str:
    arguments = ", ".join(f"{name} = {_short(value)}" for name, value in shown.arguments.items())
    called = f"called with {arguments}" if arguments else "called without arguments"
    if shown.form:
        return _sentence(f"When {called}, {shown.form}")
    if shown.lost:
        numbers = vector(shown.got)
        return f"{int((~numbers.isfinite()).sum())} of {len(numbers)} numbers are NaN or infinite when {called}."
    count = f"Of {of} random inputs, {len(wrong)} give{'s' * (len(wrong) == 1)} a wrong result"
    if isinstance(shown.expected, str | bool | int):
        got = shown.got.item() if isinstance(shown.got, torch.Tensor) else shown.got
        return f"{count}, for instance {got!r}, {called}."
    if all(trial.ratio == 0 for trial in wrong):
        return f"{count}: zero, for instance when {called}."
    if all(math.isclose(trial.ratio, shown.ratio, rel_tol=1e-3) for trial in wrong):  # false if a ratio is NaN
        return f"{count}, each {shown.ratio:.4g} times the correct one, for instance when {called}."
    # A percentage only where it is one of the correct result's size, and where that says something.
    error = max(trial.error for trial in wrong)
    if exercise.compare is not relative_error or not vector(shown.expected).norm() or not error < 10:
        return f"{count}, for instance when {called}."
    off = f"{100 * error:{'.2g' if error < 0.1 else '.0f'}} %"
    return f"{count}, which differs from the correct one by up to {off} of its size, for instance when {called}."


def _hint(exercise: Exercise, shown: Trial, trials: list[Trial], wrong: list[Trial], cases: list[tuple]) -> str | None:
    for text, mistake in exercise.hints.items():
        if not isinstance(mistake, Mistake):
            known = _agrees(exercise, mistake, trials, cases)
        else:
            known = all(not trial.form for trial in wrong) and all(map(mistake.recognize, wrong))
        if known:
            candidates = (shown, *wrong) if "{ratio" in text else (shown,)
            example = next((trial for trial in candidates if math.isfinite(trial.ratio)), shown)
            return text.format(ratio=example.ratio, **example.arguments)
    return None


def _agrees(exercise: Exercise, mistake: Callable, trials: list[Trial], cases: list[tuple]) -> bool:
    """Return whether the results equal those of the mistake in every case."""
    for number, (trial, arguments) in enumerate(zip(trials, cases, strict=True)):
        mistaken = _call_silently(exercise, mistake, arguments, number)
        if complaint(trial.got, mistaken) or not exercise.compare(trial.got, mistaken) <= exercise.tolerance:
            return False
    return True


SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "PyTorch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "whether PyTorch records gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "whether autocast is on": (
        lambda: torch.is_autocast_enabled("cpu"),
        lambda on: torch.set_autocast_enabled("cpu", on),
    ),
}
"""{what an answer should leave as it finds it: (read it, set it)}"""


class _Recorder:
    """Call the answer, keep what its last call returned ([] if that call raised), and restore PyTorch's settings.

    left: the settings that the answer left changed.
    """

    def __init__(self, answer: Callable):
        self.answer = answer
        self.returned: list[Any] = []
        self.left: list[str] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.returned = []
        before = {name: read() for name, (read, _) in SETTINGS.items()}
        try:
            self.returned.append(self.answer(*arguments, **named))
        finally:
            for name, (read, write) in SETTINGS.items():
                if read() != before[name]:
                    self.left.append(name)
                    write(before[name])
        return self.returned[0]


def _raised(error: BaseException, exercise: Exercise, recorder: _Recorder) -> tuple[str, str]:
    """Return what to say (what the answer raised and where, that its arguments do not fit, or that its result cannot be
    used), and what it raised if it began to run, else "".
    """
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if recorder.returned:  # it ran to its end, and the exercise failed on its result
        got = recorder.returned[0]
        unusable = f"It returns {kind(got)}, which the exercise cannot use: {said}"
        # `complaint` finds only `...` and a missing return.
        return _sentence(complaint(got, object(), "It returns") or unusable), ""
    file = getattr(getattr(inspect.unwrap(recorder.answer), "__code__", None), "co_filename", None)
    frames = itertools.dropwhile(
        lambda each: each[0].f_code is not _Recorder.__call__.__code__, traceback.walk_tb(error.__traceback__)
    )
    lines = [line for frame, line in frames if frame.f_code.co_filename == file]
    if not lines and isinstance(error, TypeError):
        names = list(inspect.signature(exercise.right).parameters)  # it takes the same as the answer
        plural = "s" * (len(names) != 1)
        return f"It should take {len(names)} argument{plural} ({', '.join(names)}), but the call fails: {error}.", ""
    if not lines:
        return f"It could not be called: {said}.", ""
    source = linecache.getline(str(file), lines[-1]).strip()
    where = f"line {lines[-1]}, `{source}`," if source else f"line {lines[-1]}"
    if "ellipsis" in str(error):
        return f"In {where} a blank `...` still has to be filled in.", ""
    return f"Your function stops in {where} with {said.rstrip('.')}.", f"raised {said}"


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _short(value: Any) -> str:
    text = repr(_rounded(value, telling_digits(value, 3)))
    return text if len(text) <= LONGEST and "tensor(" not in text else kind(value)


def _rounded(value: Any, digits: int) -> Any:
    """Round to so many digits, and turn small tensors into lists."""
    if isinstance(value, torch.Tensor) and value.ndim <= 1 and value.numel() <= 8 and not value.is_complex():
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _rounded(each, digits) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_rounded(each, digits) for each in value)
    return float(f"{value:.{digits}g}") if isinstance(value, float) and not value.is_integer() else value
