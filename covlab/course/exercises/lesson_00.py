"""The exercise of lesson 00: a small one, to see how `check` answers."""

from collections.abc import Callable
from itertools import pairwise

import torch

from covlab.course.exercises import Exercise
from covlab.course.exercises.case_parts import integer


def _log(generator: torch.Generator) -> tuple[list[float]]:
    """Draw a log of 8 to 14 epochs that stands still, or moves in one of several ways.

    A log that stands still may differ from epoch to epoch in the ninth digit. One that moves differs by at least 2e-6,
    so that a tolerance of half of the sixth digit gives the same answer as rounding.
    """
    epochs = integer(generator, 8, 14)
    start, size = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    start = round(0.5 + start, 6)
    values, middle = [start] * epochs, integer(generator, 1, epochs - 3)
    kind = integer(generator, 0, 9)
    if kind == 1:
        noise = torch.randn(epochs, generator=generator, dtype=torch.float64).clamp(-3, 3) * 1e-9
        values = [start + each for each in noise.tolist()]
    elif kind == 2:
        values = [start * 0.8**epoch for epoch in range(epochs)]
    elif kind == 3:
        values = [start + 0.1 * epoch for epoch in range(epochs)]
    elif kind == 4:  # slow: the fourth digit stays
        values = [start - 2e-6 * (1 + size) * epoch for epoch in range(epochs)]
    elif kind == 5:  # neighbors print alike, yet the log moves
        values = [start - 4e-7 * epoch for epoch in range(epochs)]
    elif kind == 6:  # it leaves its first value, and comes back to it
        values[middle] += 0.1 + 0.2 * size
    elif kind == 7:
        values[0] += 0.1 * (0.1 + size)
    elif kind == 8:
        values[-1] -= 0.1 * (0.1 + size)
    elif kind == 9:  # it comes back, and its mean is the first value, too
        values[middle] += 0.1 + 0.2 * size
        values[middle + 1] -= 0.1 + 0.2 * size
    return (values,)


def _alike(digits: int) -> Callable[[list[float]], bool]:
    return lambda values: len({round(value, digits) for value in values}) == 1


stuck = Exercise(
    id="00.stuck",
    law="True if and only if all values of the log are the same, to six digits after the point.",
    draw=_log,
    cases=80,
    right=_alike(6),
    hints={
        "you call a log stuck that changes and then returns to its first value. Which values do you look at?": (
            lambda values: round(values[0], 6) == round(values[-1], 6)
        ),
        "a log whose values differ only in the ninth digit is stuck, too: it shows the same number in each epoch.": (
            lambda values: len(set(values)) == 1
        ),
        "you round to too few digits, so you call a log stuck that changes slowly.": _alike(4),
        "you call a log stuck whose small changes add up. With what do you compare each value, and how closely?": (
            lambda values: all(abs(one - other) < 5e-7 for one, other in pairwise(values))
        ),
        "you call a log stuck that rises. The question is whether it changes, not whether it falls.": (
            lambda values: not any(round(value, 6) < round(values[0], 6) for value in values)
        ),
        "your answer is always True.": lambda values: True,
        "your answer is always False.": lambda values: False,
        "your answer is the wrong way around: it is True for every log that changes.": (
            lambda values: len({round(value, 6) for value in values}) > 1
        ),
    },
)
