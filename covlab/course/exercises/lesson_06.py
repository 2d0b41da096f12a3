"""Exercises of lesson 06, the scaling bug."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import Pair, integer, mean_gradient, pairs
from covlab.course.exercises.compare import ratio

if TYPE_CHECKING:
    from covlab.training.trainer import Trainer


def _gradient_left(
    window_gradient: Callable[[Tensor, list[Pair]], Tensor], start: Tensor, micro_batches: list[Pair]
) -> Tensor:
    return window_gradient(start.requires_grad_(), micro_batches).detach().clone()


def _divided(divisor: Callable[[int, int], int]) -> Callable[[Tensor, list[Pair]], Tensor | None]:
    """Return the loop with each loss divided by divisor(number of the micro-batch, how many there are)."""

    def window_gradient(parameter: Tensor, micro_batches: list[Pair]) -> Tensor | None:
        for number, (inputs, targets) in enumerate(micro_batches):
            ((inputs @ parameter - targets).square().mean() / divisor(number, len(micro_batches))).backward()
        return parameter.grad

    return window_gradient


window_gradient = Exercise(
    id="06.window_gradient",
    law="A window's gradient is that of the mean loss over all its scenes, as if they had come in one batch.",
    draw=lambda generator: (torch.randn(3, generator=generator), pairs(generator, integer(generator, 1, 6))),
    run=_gradient_left,
    right=mean_gradient,
    hints={
        "your gradient is {ratio:.2f}× the correct one, the number of micro-batches. Do you take a sum or a mean?": (
            _divided(lambda number, count: 1)
        ),
        "the first micro-batch counts less than the others. Which micro-batches do you divide?": _divided(
            lambda number, count: count if number == 0 else 1
        ),
        "the last micro-batch counts less than the others. Which micro-batches do you divide?": _divided(
            lambda number, count: count if number == count - 1 else 1
        ),
        "you always divide by 4: your gradient is correct only in windows of four micro-batches.": _divided(
            lambda number, count: 4
        ),
        "your gradient is {ratio:.2f}× the correct one: you divide by the number of micro-batches twice.": _divided(
            lambda number, count: count**2
        ),
        "your gradient is that of the first micro-batch. Does the function return before the loop ends?": Mistake(
            lambda parameter, micro_batches: mean_gradient(parameter, micro_batches[:1]),
            lambda trial: math.isfinite(
                ratio(trial.got, mean_gradient(trial.arguments["start"], trial.arguments["micro_batches"][:1]))
            ),
        ),
        "your gradient is that of the last micro-batch. What happens to the gradients of the others?": Mistake(
            lambda parameter, micro_batches: mean_gradient(parameter, micro_batches[-1:]),
            lambda trial: math.isfinite(
                ratio(trial.got, mean_gradient(trial.arguments["start"], trial.arguments["micro_batches"][-1:]))
            ),
        ),
    },
)


def mystery_run(seed: int, device: str = "cpu") -> "Trainer":
    """Return an untrained run of 10 epochs with one bug of the museum. Do not read on before you have answered."""
    from covlab.course.reference_band import reference_trainer
    from covlab.faults import inject

    with inject(which_fault.right):
        return reference_trainer("overfit", seed, device=device, windows=40)


which_fault = Exercise(
    id="06.which_fault",
    law="The answer explains every column: the logged loss, the gradient and the update.",
    right="schedule_per_micro_batch",
    choices=(
        "division_in_debug_block",
        "last_batch_only",
        "main_weight_zero",
        "schedule_per_epoch",
        "schedule_per_micro_batch",
    ),
    hints={
        "with this bug the logged loss would be several times too large. Compare it with the measured error.": (
            "division_in_debug_block"
        ),
        "with this bug the steps would go on, on fewer scenes. Look at the later update norms.": "last_batch_only",
        "with this bug the gradient and the logged loss would be zero. Look at the gradient norm.": "main_weight_zero",
        "with this bug the learning rate changes too slowly. Here something ends early. After how much of the run?": (
            "schedule_per_epoch"
        ),
    },
)
