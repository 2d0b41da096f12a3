"""Exercises. Each one states a law, and random inputs test whether the student's answer obeys it.

The exercises of a lesson are declared in `lesson_NN.py` of this package:

    window_weights = Exercise(
        id="05.window_weights",
        law="In a window every scene counts the same, and the weights sum to 1.",
        draw=lambda generator: (torch.randint(1, 33, (4,), generator=generator),),
        right=lambda counts: counts / counts.sum(),
        hints={
            "Every micro-batch counts the same here, however few scenes it has.": lambda counts: (
                torch.ones(len(counts)) / len(counts)
            ),
        },
    )

A hint belongs to a mistake. It is shown if the student's results equal those of the mistake.
`judging.py` tries answers; `covlab.course.check` shows the result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from covlab.course.exercises.compare import relative_error

if TYPE_CHECKING:
    from covlab.course.exercises.judging import Trial


@dataclass(frozen=True)
class Mistake:
    """A mistake that different answers make with different results, so that a rule recognizes it.

    example: one answer that makes it. recognize: whether one `Trial` shows it. The hint is shown if this holds in every
    wrong case. It is called only if all wrong results have the correct form.
    """

    example: Callable[..., Any]
    recognize: Callable[["Trial"], bool]


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise: a function to fix or, without `draw`, a value to find.

    id: "NN.name". law: the sentence that is tested; the student reads it. right: the solution, hidden from the student.
    draw: returns the arguments of one random case, made of tensors and numbers. run: calls the function on one case and
    returns what is compared; None: compare what the function returns. compare: (result, correct result) -> error; at
    most `tolerance` is correct. choices: what a value may be. cases: the number of random cases.
    hints: {sentence: an answer with one typical mistake, or a `Mistake`}. The first that fits is shown. A hint never
    gives the answer; `{ratio:.2f}` stands for the result divided by the correct one, and the name of an argument, such
    as `{accumulation}`, for its value.
    """

    id: str
    law: str
    right: Any
    draw: Callable[[torch.Generator], tuple[Any, ...]] | None = None
    run: Callable[..., Any] | None = None
    hints: Mapping[str, Any] = field(default_factory=dict)
    compare: Callable[[Any, Any], float] = relative_error
    tolerance: float = 1e-4
    choices: tuple[str, ...] = ()
    cases: int = 20

    @property
    def name(self) -> str:
        """The name of the answer in the lesson: "window_weights" for "05.window_weights"."""
        return self.id[3:]


def exercises_of(number: str) -> dict[str, Exercise]:
    """Return {id: exercise} of the lesson with this number, such as "05"; empty if it has none."""
    name = f"{__name__}.lesson_{number}"
    if not number.isdecimal() or find_spec(name) is None:
        return {}
    return {each.id: each for each in vars(import_module(name)).values() if isinstance(each, Exercise)}


def all_exercises() -> dict[str, Exercise]:
    """Return {id: exercise} of every lesson, in order."""
    numbers = sorted(path.stem.removeprefix("lesson_") for path in Path(__file__).parent.glob("lesson_*.py"))
    return {id: exercise for number in numbers for id, exercise in exercises_of(number).items()}
