"""Exercises of lesson 04, mixed precision."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import clip, integer
from covlab.training.loss import plain_error

LARGEST = torch.finfo(torch.float16).max


# ---------------------------------------------------------------- a loss that leaves autocast


def _factors(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw factors of an estimate and of the truth in half precision, as a layer under autocast returns [B, N, r]."""
    shape = integer(generator, 1, 3), integer(generator, 5, 8), integer(generator, 2, 4)
    truth = torch.randn(shape, generator=generator)
    return (truth + 0.02 * torch.randn(shape, generator=generator)).half(), truth.half()


def _under_autocast(loss: Callable[[Tensor, Tensor], Tensor], estimate: Tensor, truth: Tensor) -> Tensor:
    with torch.autocast(estimate.device.type, torch.float16):
        return loss(estimate, truth)


def _error(estimate: Tensor, truth: Tensor) -> Tensor:
    return plain_error(estimate @ estimate.mT, truth @ truth.mT)


def _in_full_precision(estimate: Tensor, truth: Tensor) -> Tensor:
    with torch.autocast(estimate.device.type, enabled=False):
        return _error(estimate.float(), truth.float())


full_precision_loss = Exercise(
    id="04.full_precision_loss",
    law="The loss equals that of single precision, even under autocast and with factors in half precision.",
    draw=_factors,
    run=_under_autocast,
    right=_in_full_precision,
    hints={
        "a product still runs in half precision. Is autocast off in that line, and what type are the inputs there?": (
            lambda estimate, truth: _error(estimate.float(), truth.float())
        ),
        "you convert the products after they were rounded. When should you convert?": lambda estimate, truth: (
            plain_error((estimate @ estimate.mT).float(), (truth @ truth.mT).float())
        ),
    },
)


# ---------------------------------------------------------------- the largest loss scale


def _scale_for(size: Tensor) -> float:
    """Return the largest power of two that keeps numbers of this size within the range of fp16."""
    return 2.0 ** torch.floor(torch.log2(LARGEST / size)).item()


def _gradient(generator: torch.Generator) -> tuple[Tensor]:
    """Draw a gradient of any size; in some cases its largest entry just reaches fp16's limit, or just passes it."""
    gradient = torch.randn(integer(generator, 1, 50), generator=generator)
    largest = (None, None, LARGEST, 65530.0)[integer(generator, 0, 3)]  # 65530 passes 65504, but not 65536
    if largest is not None:
        gradient *= largest / gradient.abs().max()
        entry = gradient.abs().argmax()
        gradient[entry] = largest * gradient[entry].sign()
    return (gradient * 2.0 ** integer(generator, -30, 16),)


largest_scale = Exercise(
    id="04.largest_scale",
    law="The loss scale is the largest power of two at which no entry of the gradient exceeds fp16's largest number.",
    draw=_gradient,
    right=lambda gradient: _scale_for(gradient.abs().max()),
    hints={
        "this scale fits the average entry. Which entry overflows first?": lambda gradient: _scale_for(
            gradient.abs().mean()
        ),
        "a large negative entry overflows, too.": lambda gradient: _scale_for(gradient.max()),
        "this scale fits the smallest entry. All others overflow.": lambda gradient: _scale_for(gradient.abs().min()),
        "this scale fits the norm, which is larger than any entry. A larger scale would do.": lambda gradient: (
            _scale_for(gradient.norm())
        ),
        "this is the exponent. The scale is two to the power of this number.": lambda gradient: math.log2(
            _scale_for(gradient.abs().max())
        ),
        "this scale is twice as large as it may be. Do you round down, and what is the largest number of fp16?": (
            Mistake(
                lambda gradient: 2 * _scale_for(gradient.abs().max()),
                lambda trial: math.isclose(trial.ratio, 2),
            )
        ),
        "this is not a power of two, so scaling and unscaling would round every entry.": lambda gradient: (
            LARGEST / gradient.abs().max().item()
        ),
    },
)


# ---------------------------------------------------------------- the order of unscaling and clipping


def _scaled_gradient(generator: torch.Generator) -> tuple[Tensor, float, float]:
    gradient = torch.randn(6, generator=generator)
    scale = 2.0 ** integer(generator, 8, 16)
    return scale * gradient, scale, float(gradient.norm()) * (0.25 + 1.5 * float(torch.rand((), generator=generator)))


clipped_gradient = Exercise(
    id="04.clipped_gradient",
    law="The gradient of a step does not contain the loss scale, and is clipped to the length `most` if it is longer.",
    draw=_scaled_gradient,
    right=lambda scaled, scale, most: clip(scaled / scale, most),
    hints={
        "no gradient is longer than `most` divided by the loss scale {scale:g}. When do you take the scale out?": (
            lambda scaled, scale, most: clip(scaled, most) / scale
        ),
        "every gradient has the length `most`. Is the loss scale still in it, or do you stretch short ones?": (
            lambda scaled, scale, most: clip(scaled, most)
        ),
        "clipping entry by entry changes the direction. Limit the length of the whole gradient.": (
            lambda scaled, scale, most: (scaled / scale).clamp(-most, most)
        ),
        "you take the loss scale out, but clip nothing.": lambda scaled, scale, most: scaled / scale,
        "you clip correctly, but the loss scale is still in the gradient: it is {ratio:g}× too long.": (
            lambda scaled, scale, most: clip(scaled, most * scale)
        ),
    },
)
