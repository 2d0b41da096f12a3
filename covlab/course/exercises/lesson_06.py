"""Exercises of lesson 06, the scaling bug."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint
from covlab.course.exercises.compare import ratio

if TYPE_CHECKING:
    from covlab.training.trainer import Trainer

Pair = tuple[Tensor, Tensor]  # a micro-batch: inputs and targets


def _window(generator: torch.Generator) -> tuple[Tensor, list[Pair]]:
    start = torch.randn(3, generator=generator)
    count = int(torch.randint(2, 7, (), generator=generator))
    return start, [(torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator)) for _ in range(count)]


def _gradient_left(
    window_gradient: Callable[[Tensor, list[Pair]], Tensor], start: Tensor, micro_batches: list[Pair]
) -> Tensor:
    return window_gradient(start.clone().requires_grad_(), micro_batches).detach().clone()


def _in_one_batch(parameter: Tensor, micro_batches: list[Pair]) -> Tensor:
    inputs, targets = (torch.cat(parts) for parts in zip(*micro_batches, strict=True))
    return 2 * inputs.T @ (inputs @ parameter.detach() - targets) / len(targets)


def _divided(divisor: Callable[[int, int], int]) -> Callable[[Tensor, list[Pair]], Tensor | None]:
    """The loop with each loss divided by divisor(number of the micro-batch, their count)."""

    def window_gradient(parameter: Tensor, micro_batches: list[Pair]) -> Tensor | None:
        for number, (inputs, targets) in enumerate(micro_batches):
            ((inputs @ parameter - targets).square().mean() / divisor(number, len(micro_batches))).backward()
        return parameter.grad

    return window_gradient


window_gradient = Exercise(
    id="06.window_gradient",
    law="The gradient a window leaves is that of the mean loss over all its scenes, as if they had come in one batch.",
    draw=_window,
    run=_gradient_left,
    right=_in_one_batch,
    hints=[
        Hint(
            (
                "your gradient is exactly {ratio:.2f}× the right one, which is the number of micro-batches: their sum "
                "is not a mean yet."
            ),
            mistake=_divided(lambda number, count: 1),
        ),
        Hint(
            "the first micro-batch counts less than the others. Which micro-batches reach the division?",
            mistake=_divided(lambda number, count: count if number == 0 else 1),
        ),
        Hint(
            "the last micro-batch counts less than the others. Which micro-batches reach the division?",
            mistake=_divided(lambda number, count: count if number == count - 1 else 1),
        ),
        Hint(
            "it is right in windows of four micro-batches alone: how many does this one have?",
            mistake=_divided(lambda number, count: 4),
        ),
        Hint(
            (
                "your gradient is exactly {ratio:.2f}× the right one, one over the number of micro-batches: it is "
                "divided twice."
            ),
            mistake=_divided(lambda number, count: count**2),
        ),
        Hint(
            "your gradient is that of the last micro-batch alone. What becomes of the others' gradients?",
            mistake=lambda parameter, micro_batches: _in_one_batch(parameter, micro_batches[-1:]),
            recognize=lambda trial: math.isfinite(
                ratio(trial.got, _in_one_batch(trial.arguments["start"], trial.arguments["micro_batches"][-1:]))
            ),
        ),
    ],
)


def mystery_run(seed: int, device: str = "cpu") -> "Trainer":
    """A run of 10 epochs with one bug of the museum. Do not read on before you have answered."""
    from covlab.course.reference_band import reference_trainer
    from covlab.faults import inject

    with inject(which_fault.right):
        trainer = reference_trainer("overfit", seed, device=device, windows=40)
    return trainer.fit()


which_fault = Exercise(
    id="06.which_fault",
    law="The answer explains every column: what is logged, the gradient, and the update.",
    right="schedule_per_micro_batch",
    choices=(
        "division_in_debug_block",
        "last_batch_only",
        "main_weight_zero",
        "schedule_per_epoch",
        "schedule_per_micro_batch",
    ),
    hints=[
        Hint(
            (
                "that bug makes logged loss and gradient several times too large in every window. Compare the logged "
                "loss with the measured one."
            ),
            mistake="division_in_debug_block",
        ),
        Hint(
            (
                "then steps would go on being taken, on a fraction of the scenes. Look at the update norm in the later "
                "epochs."
            ),
            mistake="last_batch_only",
        ),
        Hint(
            "then the gradient would be zero, and the logged loss too. Look at the gradient norm.",
            mistake="main_weight_zero",
        ),
        Hint(
            (
                "that would make the learning rate change too slowly. Here something is over too early: after which "
                "share of the run?"
            ),
            mistake="schedule_per_epoch",
        ),
    ],
)
