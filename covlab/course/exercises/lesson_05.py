"""Exercises of lesson 05, gradient accumulation."""

from collections.abc import Callable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint
from covlab.course.exercises.compare import ratio

Pair = tuple[Tensor, Tensor]  # a micro-batch: inputs and targets
Training = Callable[[Tensor, list[Pair], int], Tensor]  # (start, micro-batches, accumulation) -> parameters


def _counts(generator: torch.Generator) -> tuple[Tensor]:
    count = int(torch.randint(2, 7, (), generator=generator))
    return (torch.randint(1, 33, (count,), generator=generator),)


window_weights = Exercise(
    id="05.window_weights",
    law="In a window every scene counts the same, and the weights sum to 1.",
    draw=_counts,
    right=lambda counts: counts / counts.sum(),
    hints=[
        Hint(
            (
                "every micro-batch counts the same, however few scenes it has. What should a scene in a small one be "
                "worth?"
            ),
            mistake=lambda counts: torch.full(counts.shape, 1 / len(counts)),
        ),
        Hint(
            (
                "the largest micro-batch counts as 1, so the weights sum to more than 1: the gradient is {ratio:.2f}× "
                "as long as it should be."
            ),
            mistake=lambda counts: counts / counts.max(),
        ),
        Hint(
            "the weights are exactly {ratio:.2f}× the right ones: what should they sum to, whatever the counts?",
            mistake=lambda counts: counts / len(counts),
            recognize=lambda trial: abs(trial.ratio) > 0,
        ),
        Hint(
            "small micro-batches count more than large ones: the scenes were to count the same, not the micro-batches.",
            mistake=lambda counts: 1 / counts,
            recognize=lambda trial: ratio(trial.got, 1 / trial.arguments["counts"]) > 0,
        ),
    ],
)


# ---------------------------------------------------------------- an epoch whose last window is short


def _epoch(generator: torch.Generator) -> tuple[Tensor, list[Pair], int]:
    accumulation = int(torch.randint(2, 5, (), generator=generator))
    full, left = (int(torch.randint(1, most, (), generator=generator)) for most in (4, accumulation))
    micro_batches = [
        (torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator))
        for _ in range(full * accumulation + left)
    ]
    return torch.randn(3, generator=generator), micro_batches, accumulation


def _gradient(parameter: Tensor, micro_batches: list[Pair]) -> Tensor:
    """Of the mean squared error over all scenes [P]."""
    inputs, targets = (torch.cat(parts) for parts in zip(*micro_batches, strict=True))
    return 2 * inputs.T @ (inputs @ parameter - targets) / len(targets)


def _windows(micro_batches: list[Pair], accumulation: int) -> list[list[Pair]]:
    return [micro_batches[start : start + accumulation] for start in range(0, len(micro_batches), accumulation)]


def _trained(
    share: Callable[[list[Pair], int], float], windows: Callable[[list[Pair], int], list[list[Pair]]] = _windows
) -> Training:
    """Steps of 0.1 along each window's gradient, times share(window, accumulation)."""

    def trained(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
        parameter = start.clone()
        for window in windows(micro_batches, accumulation):
            parameter = parameter - 0.1 * share(window, accumulation) * _gradient(parameter, window)
        return parameter

    return trained


def _never_cleared(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    parameter, gradient = start.clone(), torch.zeros_like(start)
    for window in _windows(micro_batches, accumulation):
        gradient = gradient + _gradient(parameter, window)
        parameter = parameter - 0.1 * gradient
    return parameter


def _divided_by_all(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    return _trained(lambda window, accumulation: len(window) / len(micro_batches))(start, micro_batches, accumulation)


trained_epoch = Exercise(
    id="05.trained_epoch",
    law="Every window takes one step along the gradient of the mean over its own scenes, the short last one too.",
    draw=_epoch,
    right=_trained(lambda window, accumulation: 1),
    hints=[
        Hint(
            "the parameters are those before the last window: its micro-batches never reach a step.",
            mistake=_trained(
                lambda window, accumulation: 1, lambda parts, most: [w for w in _windows(parts, most) if len(w) == most]
            ),
        ),
        Hint(
            (
                "the last window's step is too short: it was divided by {accumulation}, and has fewer micro-batches "
                "than that."
            ),
            mistake=_trained(lambda window, accumulation: len(window) / accumulation),
        ),
        Hint(
            "every step is as many times too long as its window has micro-batches: a sum, not yet a mean.",
            mistake=_trained(lambda window, accumulation: len(window)),
        ),
        Hint(
            (
                "every step is too short: the losses were divided by the micro-batches of the whole epoch, not of "
                "their window."
            ),
            mistake=_divided_by_all,
        ),
        Hint(
            "there is a step after every micro-batch: nothing is accumulated.",
            mistake=_trained(lambda window, accumulation: 1, lambda parts, most: [[part] for part in parts]),
        ),
        Hint("a window's gradient still holds that of the windows before it. What clears it?", mistake=_never_cleared),
    ],
)


# ---------------------------------------------------------------- a threshold for the window


def _clipping(generator: torch.Generator) -> tuple[Tensor, list[Pair], float]:
    start, micro_batches, _ = _epoch(generator)
    # Below every norm that is clipped, so that clipping always shows.
    least = min(_gradient(start, [part]).norm() / len(micro_batches) for part in micro_batches)
    return start, micro_batches, 0.5 * float(min(least, _gradient(start, micro_batches).norm()))


def _clip(gradient: Tensor, most: float) -> Tensor:
    return gradient * min(1.0, most / gradient.norm().item())


def _after(
    clipped_gradient: Callable[[Tensor, list[Pair], float], Tensor],
    start: Tensor,
    micro_batches: list[Pair],
    most: float,
) -> Tensor:
    return clipped_gradient(start.clone().requires_grad_(), micro_batches, most).detach().clone()


def _clipped_on_the_way(parameter: Tensor, micro_batches: list[Pair], most: float) -> Tensor:
    gradient = torch.zeros_like(parameter)
    for part in micro_batches:
        gradient = _clip(gradient + _gradient(parameter, [part]) / len(micro_batches), most)
    return gradient


clipped_gradient = Exercise(
    id="05.clipped_gradient",
    law="What is clipped is the window's gradient, once: it keeps its direction, and is at most `most` long.",
    draw=_clipping,
    run=_after,
    right=lambda parameter, micro_batches, most: _clip(_gradient(parameter, micro_batches), most),
    hints=[
        Hint(
            (
                "the gradient is cut back after every micro-batch, so the last ones count most. How often may a window "
                "be clipped?"
            ),
            mistake=_clipped_on_the_way,
        ),
        Hint(
            (
                "each micro-batch's gradient is clipped for itself. Their sum points elsewhere, and may be longer than "
                "the threshold."
            ),
            mistake=lambda parameter, parts, most: sum(
                _clip(_gradient(parameter, [part]) / len(parts), most) for part in parts
            ),
        ),
        Hint(
            "each micro-batch's gradient is clipped for itself, before it is divided. Their mean points elsewhere.",
            mistake=lambda parameter, parts, most: (
                sum(_clip(_gradient(parameter, [part]), most) for part in parts) / len(parts)
            ),
        ),
        Hint(
            "entry by entry: that turns the gradient. It is the length of the whole that is clipped.",
            mistake=lambda parameter, parts, most: _gradient(parameter, parts).clamp(-most, most),
        ),
        Hint(
            "the last micro-batch's gradient alone is left. What clears the others?",
            mistake=lambda parameter, parts, most: _clip(_gradient(parameter, parts[-1:]) / len(parts), most),
        ),
        Hint(
            (
                "the direction is right, and the gradient is {ratio:.2f}× as long as it should be: nothing, or not "
                "enough, was clipped."
            ),
            mistake=lambda parameter, parts, most: _gradient(parameter, parts),
            recognize=lambda trial: trial.ratio > 1,
        ),
    ],
)
