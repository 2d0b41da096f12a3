"""Exercises of lesson 07, overflow and sanitization."""

import math

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint
from covlab.course.exercises.compare import relative_error


def _worst(got: tuple, right: tuple) -> float:
    """Of parameter and scale, each by its own size."""
    return max(relative_error(one, other) for one, other in zip(got, right, strict=True))


def _overflowing(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    parameter, gradient = torch.randn(4, generator=generator), torch.randn(4, generator=generator)
    scale = 2.0 ** int(torch.randint(8, 17, (), generator=generator))
    kind = int(torch.randint(4, (), generator=generator))
    if kind:
        gradient[int(torch.randint(4, (), generator=generator))] = (math.nan, math.inf, -math.inf)[kind - 1]
    return parameter, scale * gradient, scale


def _finite(gradient: Tensor) -> bool:
    return bool(gradient.isfinite().all())


def _mended(gradient: Tensor) -> Tensor:
    return torch.nan_to_num(gradient, nan=0.0, posinf=1.0, neginf=-1.0)


def _step(parameter: Tensor, scaled: Tensor, scale: float) -> Tensor:
    return parameter - 0.1 * scaled / scale


honest_step = Exercise(
    id="07.honest_step",
    law=(
        "Where a number of the gradient is not finite, the parameter stays and the scale is halved; where all are, a "
        "step is taken and the scale stays."
    ),
    draw=_overflowing,
    compare=_worst,
    right=lambda parameter, scaled, scale: (
        (_step(parameter, scaled, scale), scale) if _finite(scaled) else (parameter, scale / 2)
    ),
    hints=[
        Hint(
            (
                "every step is taken and the scale never falls: by the time you ask, there is nothing left that is not "
                "finite."
            ),
            mistake=lambda parameter, scaled, scale: (_step(parameter, _mended(scaled), scale), scale),
        ),
        Hint(
            "the scale falls, and the step is taken all the same, with a mended gradient. Who invented its direction?",
            mistake=lambda parameter, scaled, scale: (
                _step(parameter, _mended(scaled), scale),
                scale if _finite(scaled) else scale / 2,
            ),
        ),
        Hint(
            "the same, with the mending after the scale was taken out: an infinity is then a step of a whole 1.",
            mistake=lambda parameter, scaled, scale: (
                parameter - 0.1 * _mended(scaled / scale),
                scale if _finite(scaled) else scale / 2,
            ),
        ),
        Hint(
            "the step is skipped, and the scale stays: the next window will overflow too.",
            mistake=lambda parameter, scaled, scale: (
                _step(parameter, scaled, scale) if _finite(scaled) else parameter,
                scale,
            ),
        ),
        Hint(
            "a number that is not finite goes into the parameter, and never leaves it: are both kinds of them caught?",
            mistake=lambda parameter, scaled, scale: (
                (parameter, scale / 2) if bool(scaled.isnan().any()) else (_step(parameter, scaled, scale), scale)
            ),
            recognize=lambda trial: not _finite(trial.got[0]),
        ),
        Hint(
            "the scale goes the wrong way: what overflows at one scale overflows all the more at a larger one.",
            mistake=lambda parameter, scaled, scale: (
                (_step(parameter, scaled, scale), scale) if _finite(scaled) else (parameter, 2 * scale)
            ),
        ),
        Hint(
            "the scale changes after a step that ran, too. Here it is to stay then.",
            mistake=lambda parameter, scaled, scale: (
                (_step(parameter, scaled, scale), 2 * scale) if _finite(scaled) else (parameter, scale / 2)
            ),
        ),
        Hint(
            (
                "some numbers of the parameter take their step and others do not. A step of a part of a gradient goes "
                "nowhere in particular."
            ),
            mistake=lambda parameter, scaled, scale: (
                torch.where(scaled.isfinite(), _step(parameter, scaled, scale), parameter),
                scale if _finite(scaled) else scale / 2,
            ),
        ),
        Hint(
            "the step goes up the loss, along the gradient.",
            mistake=lambda parameter, scaled, scale: (
                (_step(parameter, -scaled, scale), scale) if _finite(scaled) else (parameter, scale / 2)
            ),
        ),
        Hint(
            "the loss scale is still in the gradient when the step is taken.",
            mistake=lambda parameter, scaled, scale: (
                (parameter - 0.1 * scaled, scale) if _finite(scaled) else (parameter, scale / 2)
            ),
        ),
    ],
)


diagnosis = Exercise(
    id="07.diagnosis",
    law="One answer explains all three columns.",
    right="mended after unscale",
    choices=("honest, scale too high", "mended before unscale", "mended after unscale", "a NaN in the loss, honest"),
    hints=[
        Hint(
            "an honest run skips the windows in which the scale falls. How many steps did this one skip?",
            mistake="honest, scale too high",
        ),
        Hint(
            "then the scaler would see only finite gradients. Why should its scale fall?",
            mistake="mended before unscale",
        ),
        Hint("then the scale would fall in every window, and no step would run.", mistake="a NaN in the loss, honest"),
    ],
)


def _losses(generator: torch.Generator) -> tuple[Tensor]:
    count = int(torch.randint(4, 9, (), generator=generator))
    losses = torch.rand(count, generator=generator)
    losses[int(torch.randint(count, (), generator=generator))] = math.nan
    return (losses,)


epoch_line = Exercise(
    id="07.epoch_line",
    law="The log tells the mean of the finite losses, and how many were not.",
    draw=_losses,
    compare=_worst,
    right=lambda losses: (losses[losses.isfinite()].mean().item(), int((~losses.isfinite()).sum())),
    hints=[
        Hint(
            "a NaN counts as a loss of zero here, which is the best loss there is.",
            mistake=lambda losses: (torch.nan_to_num(losses).mean().item(), 1),
        ),
        Hint(
            "a NaN counts as a loss of zero here, and nobody is told of it.",
            mistake=lambda losses: (torch.nan_to_num(losses).mean().item(), 0),
        ),
        Hint(
            "the mean is right, and the windows it leaves out go untold.",
            mistake=lambda losses: (losses.nanmean().item(), 0),
        ),
        Hint(
            "the mean is right; the number beside it is that of the others.",
            mistake=lambda losses: (losses.nanmean().item(), int(losses.isfinite().sum())),
        ),
    ],
)
