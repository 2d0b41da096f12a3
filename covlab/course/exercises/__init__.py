"""What an exercise is: a law that the student's answer is tried against, on inputs nobody chose.

A lesson's exercises stand in `lesson_NN.py` of this package. One is declared, not programmed:

    window_weights = Exercise(
        id="05.window_weights",
        law="The weights of a window's micro-batches sum to 1, and each scene counts the same.",
        draw=lambda generator: (torch.randint(1, 33, (4,), generator=generator),),
        right=lambda counts: counts / counts.sum(),
        hints=[Hint("every micro-batch counts the same here, however few scenes it has",
                    mistake=lambda counts: torch.ones(len(counts)) / len(counts))],
    )

A hint is recognized by its arithmetic: it fires where the student's results are those of its `mistake`.
`judging.py` tries answers, `covlab.course.check` shows what came of it.
"""

from collections.abc import Callable, Sequence
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
class Hint:
    """What to say to one typical mistake.

    text: a sentence that points, and never gives the answer; `{ratio:.2f}` stands for the student's result over the
    right one, and a parameter of the exercise's `right`, such as `{accumulation}`, for that argument of the case.
    mistake: an answer that has it: a function like the student's, or a value. recognize: tells from one `Trial`
    whether it has the mistake, and must in every case that is wrong; it is asked only of results of the right form.
    None: wherever the results are the mistake's own, in every case and of whatever form.
    """

    text: str
    mistake: Any
    recognize: Callable[["Trial"], bool] | None = None


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise, of a function to mend or (without `draw`) of a value to find.

    id: "NN.name". law: the sentence that is tested, which the student reads. right: an oracle, not seen by the
    student: a function like the student's, or the value. draw: the arguments of one random case, plain tensors and
    numbers, from a generator. run: how a case calls the function and what of it is compared (None: what it
    returns): here a model or an optimizer is made, changed and looked at. compare: (result, right result) -> error;
    right is below `tolerance`. choices: of a value, what it may be. cases: how many are drawn.
    """

    id: str
    law: str
    right: Any
    draw: Callable[[torch.Generator], tuple[Any, ...]] | None = None
    run: Callable[..., Any] | None = None
    hints: Sequence[Hint] = ()
    compare: Callable[[Any, Any], float] = relative_error
    tolerance: float = 1e-4
    choices: Sequence[object] = field(default=())
    cases: int = 20

    @property
    def name(self) -> str:
        """What the lesson calls the answer: "window_weights" of "05.window_weights"."""
        return self.id[3:]


def exercises_of(number: str) -> dict[str, Exercise]:
    """Id -> exercise, of the lesson with this number, such as "05"; none where the lesson has none."""
    name = f"{__name__}.lesson_{number}"
    if not number.isdecimal() or find_spec(name) is None:
        return {}
    return {each.id: each for each in vars(import_module(name)).values() if isinstance(each, Exercise)}


def all_exercises() -> dict[str, Exercise]:
    """Id -> exercise, of every lesson, in order."""
    numbers = sorted(path.stem.removeprefix("lesson_") for path in Path(__file__).parent.glob("lesson_*.py"))
    return {id: exercise for number in numbers for id, exercise in exercises_of(number).items()}
