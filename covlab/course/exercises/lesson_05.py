"""Exercises of lesson 05, gradient accumulation."""

from collections.abc import Callable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import Pair, clip, integer, mean_gradient, pairs
from covlab.course.exercises.compare import ratio, relative_error
from covlab.course.exercises.judging import Trial

Training = Callable[[Tensor, list[Pair], int], Tensor]  # (start, micro-batches, accumulation) -> parameters


def _counts(generator: torch.Generator) -> tuple[Tensor]:
    return (torch.randint(1, 33, (integer(generator, 1, 6),), generator=generator),)


window_weights = Exercise(
    id="05.window_weights",
    law="In a window every scene counts the same, and the weights sum to 1.",
    draw=_counts,
    right=lambda counts: counts / counts.sum(),
    hints={
        "every micro-batch has the same weight, even if it has few scenes. How much should one scene count?": (
            lambda counts: torch.full(counts.shape, 1 / len(counts))
        ),
        "this is the weight of one scene. How many scenes does a micro-batch have?": lambda counts: torch.full(
            counts.shape, 1 / counts.sum()
        ),
        "the weights sum to more than 1: the gradient is {ratio:.2f}× as long as it should be.": (
            lambda counts: counts / counts.max()
        ),
        "the weights are {ratio:.2f}× the correct ones. What should they sum to, for any counts?": Mistake(
            lambda counts: counts / len(counts), lambda trial: abs(trial.ratio) > 0
        ),
        "small micro-batches count more than large ones, but scenes should count the same.": Mistake(
            lambda counts: 1 / counts, lambda trial: ratio(trial.got, 1 / trial.arguments["counts"]) > 0
        ),
    },
)


# ---------------------------------------------------------------- an epoch whose last window may be short


def _epoch(generator: torch.Generator) -> tuple[Tensor, list[Pair], int]:
    accumulation = integer(generator, 2, 4)
    full, left = integer(generator, 0, 3), integer(generator, 0, accumulation - 1)
    micro_batches = pairs(generator, max(1, full * accumulation + left))
    return torch.randn(3, generator=generator), micro_batches, accumulation


def _windows(micro_batches: list[Pair], accumulation: int) -> list[list[Pair]]:
    return [micro_batches[start : start + accumulation] for start in range(0, len(micro_batches), accumulation)]


def _trained(
    share: Callable[[list[Pair], int], float] = lambda window, accumulation: 1,
    windows: Callable[[list[Pair], int], list[list[Pair]]] = _windows,
) -> Training:
    """Return a training with steps of 0.1 along the gradient of each window, times share(window, accumulation)."""

    def trained(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
        parameter = start.clone()
        for window in windows(micro_batches, accumulation):
            parameter = parameter - 0.1 * share(window, accumulation) * mean_gradient(parameter, window)
        return parameter

    return trained


def _by_most(window: list[Pair], accumulation: int) -> float:
    """Return the share of a window whose losses are always divided by ``accumulation``."""
    return len(window) / accumulation


def _full_windows(micro_batches: list[Pair], accumulation: int) -> list[list[Pair]]:
    return [window for window in _windows(micro_batches, accumulation) if len(window) == accumulation]


def _one_by_one(micro_batches: list[Pair], accumulation: int) -> list[list[Pair]]:
    return [[part] for part in micro_batches]


_sums_of_full_windows = _trained(lambda window, accumulation: len(window), _full_windows)


def _short_steps_of_full_windows(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    share = accumulation / len(micro_batches)
    return _trained(lambda window, most: share, _full_windows)(start, micro_batches, accumulation)


def _never_cleared(share: Callable[[list[Pair], int], float] = lambda window, accumulation: 1) -> Training:
    def never_cleared(start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
        parameter, gradient = start.clone(), torch.zeros_like(start)
        for window in _windows(micro_batches, accumulation):
            gradient = gradient + share(window, accumulation) * mean_gradient(parameter, window)
            parameter = parameter - 0.1 * gradient
        return parameter

    return never_cleared


def _like(*mistakes: Training) -> Callable[[Trial], bool]:
    """Return whether a result is that of one of the mistakes."""
    return lambda trial: any(
        relative_error(trial.got, mistake(*trial.arguments.values())) < 1e-4 for mistake in mistakes
    )


trained_epoch = Exercise(
    id="05.trained_epoch",
    law="Every window, even a short last one, takes one step along the gradient of the mean over its own scenes.",
    draw=_epoch,
    right=_trained(),
    hints={
        "the last window takes no step.": Mistake(
            _trained(windows=_full_windows),
            _like(_trained(windows=_full_windows), _sums_of_full_windows, _short_steps_of_full_windows),
        ),
        "the first step comes after one micro-batch. After which one is a window full?": _trained(
            _by_most,
            lambda parts, most: [parts[:1], *_full_windows(parts[1:], most)],
        ),
        "the last step is too short: you divide by {accumulation}, but the last window has fewer micro-batches.": (
            _trained(_by_most)
        ),
        "every step is too long, by the number of micro-batches in its window. Do you take a sum or a mean?": _trained(
            lambda window, accumulation: len(window)
        ),
        "every step is too short: you divide by the micro-batches of the whole epoch, not of the window.": (
            lambda start, parts, most: _trained(lambda window, most: len(window) / len(parts))(start, parts, most)
        ),
        "you take a step after every micro-batch, so nothing is accumulated.": Mistake(
            _trained(windows=_one_by_one), _like(_trained(windows=_one_by_one), _trained(_by_most, _one_by_one))
        ),
        "the gradient still contains those of earlier windows. What clears it?": Mistake(
            _never_cleared(), _like(_never_cleared(), _never_cleared(_by_most))
        ),
    },
)


# ---------------------------------------------------------------- a threshold for the window


def _clipping(generator: torch.Generator) -> tuple[Tensor, list[Pair], float]:
    start, micro_batches, _ = _epoch(generator)
    # Some gradients are shorter than the threshold: they stay as they are.
    share = 0.1 + 1.5 * float(torch.rand((), generator=generator))
    return start, micro_batches, share * float(mean_gradient(start, micro_batches).norm())


def _after(
    clipped_gradient: Callable[[Tensor, list[Pair], float], Tensor],
    start: Tensor,
    micro_batches: list[Pair],
    most: float,
) -> Tensor:
    return clipped_gradient(start.requires_grad_(), micro_batches, most).detach().clone()


def _clipped_on_the_way(parameter: Tensor, micro_batches: list[Pair], most: float) -> Tensor:
    gradient = torch.zeros_like(parameter)
    for part in micro_batches:
        gradient = clip(gradient + mean_gradient(parameter, [part]) / len(micro_batches), most)
    return gradient


def _clipped_too_early(parameter: Tensor, micro_batches: list[Pair], most: float) -> Tensor:
    gradient = torch.zeros_like(parameter)
    for part in micro_batches:
        before = clip(gradient, most) if gradient.any() else gradient
        gradient = before + mean_gradient(parameter, [part]) / len(micro_batches)
    return gradient


clipped_gradient = Exercise(
    id="05.clipped_gradient",
    law="The gradient of the window is clipped once: it keeps its direction, and its length is at most `most`.",
    draw=_clipping,
    run=_after,
    right=lambda parameter, micro_batches, most: clip(mean_gradient(parameter, micro_batches), most),
    hints={
        "you clip after every micro-batch, so the last ones count most. How often should you clip a window?": (
            _clipped_on_the_way
        ),
        "you clip each micro-batch's gradient. Their sum has a wrong direction, and can be longer than `most`.": (
            lambda parameter, parts, most: sum(
                clip(mean_gradient(parameter, [part]) / len(parts), most) for part in parts
            )
        ),
        "you clip each micro-batch's gradient before the division. Their mean has a wrong direction.": (
            lambda parameter, parts, most: (
                sum(clip(mean_gradient(parameter, [part]), most) for part in parts) / len(parts)
            )
        ),
        "clipping entry by entry changes the direction. Limit the length of the whole gradient.": (
            lambda parameter, parts, most: mean_gradient(parameter, parts).clamp(-most, most)
        ),
        "only the last micro-batch's gradient is left. What clears the others?": lambda parameter, parts, most: clip(
            mean_gradient(parameter, parts[-1:]) / len(parts), most
        ),
        "a gradient that is shorter than `most` is stretched to it. Which gradients should stay as they are?": (
            lambda parameter, parts, most: (
                mean_gradient(parameter, parts) * most / mean_gradient(parameter, parts).norm()
            )
        ),
        "you clip before you add the last micro-batch. When is the gradient of the window complete?": (
            _clipped_too_early
        ),
        "you clip after every micro-batch, to a part of `most`. How often should you clip a window?": (
            lambda parameter, parts, most: _clipped_on_the_way(parameter, parts, most / len(parts))
        ),
        "you clip a sum of gradients, not a mean: the division by the number of micro-batches is missing.": (
            lambda parameter, parts, most: clip(len(parts) * mean_gradient(parameter, parts), most)
        ),
        "the gradient is {ratio:.2f}× as long as it should be: you clip nothing, or not enough.": Mistake(
            lambda parameter, parts, most: mean_gradient(parameter, parts), lambda trial: trial.ratio > 1
        ),
    },
)
