"""Tries an answer to an exercise. Whatever the answer does, what comes back is a sentence."""

import contextlib
import copy
import inspect
import io
import itertools
import linecache
import math
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from covlab.course.exercises import Exercise, Hint
from covlab.course.exercises.compare import complaint, kind, ratio, same, vector


@dataclass(frozen=True)
class Trial:
    """One case. arguments: by the names that the exercise's `right` gives them. error: as the exercise compares."""

    arguments: dict[str, Any]
    got: Any
    expected: Any
    error: float

    @property
    def ratio(self) -> float:
        """c where the result is c times the right one; NaN where it is no such multiple."""
        return ratio(self.got, self.expected)


@dataclass(frozen=True)
class Judgement:
    """What came of an answer. finding: one or two sentences; hint: one more, where the mistake is known; ran: to the
    end.
    """

    passed: bool
    finding: str
    hint: str | None = None
    ran: bool = True


def judge(exercise: Exercise, answer: Any) -> Judgement:
    """Try `answer` against the law of the exercise. Raises nothing that the answer raises, KeyboardInterrupt apart."""
    if answer is ...:
        return Judgement(False, f"`{exercise.name}` is still `...`: a blank is to be filled.", ran=False)
    if exercise.draw is None:
        return _judge_value(exercise, answer)
    if not callable(answer):
        return Judgement(
            False,
            f"check wants the function itself, got {kind(answer)}: write `{exercise.name}` without "
            "parentheses behind it.",
            ran=False,
        )
    cases = _cases(exercise.draw, exercise.cases)
    names = _names(exercise, cases[0])
    trials: list[Trial] = []
    changed: str | None = None
    noted = _Noted(answer)
    for number, arguments in enumerate(cases):
        mine = copy.deepcopy(arguments)
        try:
            # What it prints and warns of is worth reading once.
            with contextlib.nullcontext() if number == 0 else _silence():
                got = _call(exercise, noted, mine, number)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the student's code, which may raise anything
            return Judgement(False, _raised(error, exercise, noted), ran=False)
        expected = _own(exercise, exercise.right, arguments, number)
        trials.append(_trial(exercise, dict(zip(names, arguments, strict=True)), got, expected))
        changed = changed or next(
            (name for name, one, other in zip(names, arguments, mine, strict=True) if not same(one, other)), None
        )

    wrong = [trial for trial in trials if not trial.error <= exercise.tolerance]  # NaN is wrong
    if wrong:
        told = _telling(wrong)
        return Judgement(False, _finding(told, wrong, len(trials)), _hint(exercise, told, trials, wrong, cases))
    if changed:
        return Judgement(
            False,
            f"The results are right, but the function changes its argument `{changed}` in place: "
            "whoever called it goes on with other data than they had.",
        )
    return Judgement(True, f"Holds on {len(trials)} random inputs.")


def _judge_value(exercise: Exercise, answer: Any) -> Judgement:
    if isinstance(answer, str):
        answer = answer.strip()
    wrong_form = complaint(answer, exercise.right, f"`{exercise.name}` is")
    if exercise.choices and (wrong_form or answer not in exercise.choices):
        return Judgement(
            False,
            f"`{exercise.name}` is {kind(answer)}; it should be one of {', '.join(map(repr, exercise.choices))}.",
            ran=False,
        )
    if wrong_form:
        return Judgement(False, wrong_form + ".", ran=False)
    if exercise.compare(answer, exercise.right) <= exercise.tolerance:
        return Judgement(True, f"{answer!r} it is.")
    trial = Trial({}, answer, exercise.right, math.inf)
    for hint in exercise.hints:
        if hint.recognize(trial) if hint.recognize else exercise.compare(answer, hint.mistake) <= exercise.tolerance:
            return Judgement(False, f"{answer!r} is not it.", hint.text.format(ratio=trial.ratio))
    return Judgement(False, f"{answer!r} is not it.")


def _cases(draw: Callable[[torch.Generator], tuple], count: int) -> list[tuple]:
    generator = torch.Generator().manual_seed(0)  # the same verdict for the same answer, every time
    return [draw(generator) for _ in range(count)]


def _call(exercise: Exercise, function: Callable, arguments: tuple, number: int) -> Any:
    # Randomness inside is the same for everyone, and leaves the notebook's own as it was.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number)
        return exercise.run(function, *arguments) if exercise.run else function(*arguments)


def _own(exercise: Exercise, function: Callable, arguments: tuple, number: int) -> Any:
    """The same of the exercise's own function: what it warns of is nothing the student did."""
    with _silence():
        return _call(exercise, function, copy.deepcopy(arguments), number)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Nothing printed and no warning shown."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _names(exercise: Exercise, arguments: tuple) -> list[str]:
    # With `run` it is that function which takes the arguments, after the answer.
    parameters = list(inspect.signature(exercise.run or exercise.right).parameters)[1 if exercise.run else 0 :]
    return [*parameters, *(f"argument {number + 1}" for number in range(len(parameters), len(arguments)))][
        : len(arguments)
    ]


def _trial(exercise: Exercise, arguments: dict, got: Any, expected: Any) -> Trial:
    if complaint(got, expected):
        return Trial(arguments, got, expected, math.inf)
    return Trial(arguments, got, expected, float(exercise.compare(got, expected)))


def _telling(wrong: list[Trial]) -> Trial:
    """The case that is told of: one of a wrong form, else one with NaN, else the worst."""
    badly_formed = [trial for trial in wrong if complaint(trial.got, trial.expected)]
    return next(iter(badly_formed or filter(_lost, wrong)), None) or max(wrong, key=lambda trial: trial.error)


def _lost(trial: Trial) -> bool:
    return not vector(trial.got).isfinite().all() and bool(vector(trial.expected).isfinite().all())


def _finding(told: Trial, wrong: list[Trial], of: int) -> str:
    if form := complaint(told.got, told.expected):
        return _sentence(f"Called {_called(told)}, {form}")
    if _lost(told):
        bad = int((~vector(told.got).isfinite()).sum())
        return f"{bad} of {len(vector(told.got))} numbers are NaN or infinite when called {_called(told)}."
    count = f"Of {of} random inputs, {len(wrong)} give{'s' * (len(wrong) == 1)} a wrong result"
    if isinstance(told.expected, str | bool | int):
        return (
            f"{count}, for instance {told.got.item() if isinstance(told.got, torch.Tensor) else told.got!r}, "
            f"called {_called(told)}."
        )
    if all(math.isclose(trial.ratio, told.ratio, rel_tol=1e-3) for trial in wrong):  # no NaN is close to anything
        return f"{count}, each {told.ratio:.4g} times the right one, called {_called(told)}."
    if not math.isfinite(told.error):
        return f"{count}, for instance when called {_called(told)}."
    return f"{count}, the worst off by {_share(told.error)}, called {_called(told)}."


def _hint(exercise: Exercise, told: Trial, trials: list[Trial], wrong: list[Trial], cases: list[tuple]) -> str | None:
    formed = not any(complaint(trial.got, trial.expected) for trial in wrong)
    for hint in exercise.hints:
        if (formed and all(map(hint.recognize, wrong))) if hint.recognize else _agrees(exercise, hint, trials, cases):
            spoken_of = (told, *wrong) if "{ratio" in hint.text else (told,)
            shown = next((trial for trial in spoken_of if math.isfinite(trial.ratio)), told)
            return hint.text.format(ratio=shown.ratio, **shown.arguments)
    return None


def _agrees(exercise: Exercise, hint: Hint, trials: list[Trial], cases: list[tuple]) -> bool:
    """Whether the results are, case by case, those of the hint's mistake."""
    for number, (trial, arguments) in enumerate(zip(trials, cases, strict=True)):
        mistaken = _own(exercise, hint.mistake, arguments, number)
        if complaint(trial.got, mistaken):
            return False
        if not exercise.compare(trial.got, mistaken) <= exercise.tolerance:
            return False
    return True


class _Noted:
    """The answer, and what its last call returned: [] where that call raised."""

    def __init__(self, answer: Callable):
        self.answer = answer
        self.returned: list[Any] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.returned = []
        self.returned.append(self.answer(*arguments, **named))
        return self.returned[0]


def _raised(error: BaseException, exercise: Exercise, noted: _Noted) -> str:
    """What the answer raised, and where in it; or that it could not be called so, or returned what the exercise cannot
    use.
    """
    file = getattr(getattr(inspect.unwrap(noted.answer), "__code__", None), "co_filename", None)
    frames = itertools.dropwhile(
        lambda each: each[0].f_code is not _Noted.__call__.__code__, traceback.walk_tb(error.__traceback__)
    )
    lines = [(frame, line) for frame, line in frames if frame.f_code.co_filename == file]
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if noted.returned:  # it came to its end, and the exercise stumbled over what came back
        got = noted.returned[0]
        return _sentence(
            complaint(got, object(), "It returns")
            or f"It returns {kind(got)}, with which the exercise cannot go on: {said}"
        )
    if not lines:
        if isinstance(error, TypeError):
            names = list(inspect.signature(exercise.right).parameters)  # it is called as the answer is
            return (
                f"It should take {len(names)} argument{'s' * (len(names) != 1)} ({', '.join(names)}), and cannot "
                f"be called so: {error}."
            )
        return f"It could not be called: {said}."
    frame, line = lines[-1]
    source = linecache.getline(frame.f_code.co_filename, line).strip()
    where = f"line {line}, `{source}`," if source else f"line {line}"
    if "ellipsis" in str(error):
        return f"In {where} a blank `...` is still to be filled."
    return f"Your function stops in {where} with {said.rstrip('.')}."


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _called(trial: Trial) -> str:
    shown = [f"{name} = {_short(value)}" for name, value in trial.arguments.items()]
    return f"with {', '.join(shown)}" if shown else "without arguments"


def _short(value: Any) -> str:
    text = repr(_rounded(value))
    return text if len(text) <= 80 and "tensor(" not in text else kind(value)


def _rounded(value: Any) -> Any:
    """The same to three digits, small tensors as lists."""
    if isinstance(value, torch.Tensor) and value.ndim <= 1 and value.numel() <= 8 and not value.is_complex():
        value = value.tolist()
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_rounded, value)) if type(value) in (list, tuple) else value
    return float(f"{value:.3g}") if isinstance(value, float) and not value.is_integer() else value


def _share(error: float) -> str:
    return (
        f"{error:.3g} times the right one's size"
        if error >= 10
        else f"{100 * error:.2g} %"
        if error < 0.1
        else f"{100 * error:.0f} %"
    )
