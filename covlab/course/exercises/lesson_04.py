"""Exercises of lesson 04, mixed precision."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint

LARGEST = torch.finfo(torch.float16).max


# ---------------------------------------------------------------- a loss that leaves autocast


def _factors(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Those of an estimate and of the truth, as a layer under autocast returns them [3, 8, 4] each."""
    truth = torch.randn(3, 8, 4, generator=generator)
    return (truth + 0.02 * torch.randn(3, 8, 4, generator=generator)).half(), truth.half()


def _under_autocast(loss: Callable[[Tensor, Tensor], Tensor], estimate: Tensor, truth: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.float16):
        return loss(estimate, truth)


def _error(estimate: Tensor, truth: Tensor) -> Tensor:
    R, S = estimate @ estimate.mT, truth @ truth.mT
    return (R - S).square().sum(dim=(1, 2)) / S.square().sum(dim=(1, 2))


def _cast_too_late(estimate: Tensor, truth: Tensor) -> Tensor:
    R, S = (estimate @ estimate.mT).float(), (truth @ truth.mT).float()
    return (R - S).square().sum(dim=(1, 2)) / S.square().sum(dim=(1, 2))


def _outside(estimate: Tensor, truth: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return _error(estimate, truth)


full_precision_loss = Exercise(
    id="04.full_precision_loss",
    law="The loss is that of single precision, also where it is called under autocast and with half-precision factors.",
    draw=_factors,
    run=_under_autocast,
    right=lambda estimate, truth: _outside(estimate.float(), truth.float()),
    hints=[
        Hint(
            (
                "a product is still taken in half precision: either for the region it stands in, or for what goes into "
                "it. Both have a say."
            ),
            mistake=lambda estimate, truth: _error(estimate.float(), truth.float()),
        ),
        Hint("the products are cast after they were taken: what was rounded stays rounded.", mistake=_cast_too_late),
    ],
)


# ---------------------------------------------------------------- the largest loss scale


def _scale_for(size: Tensor) -> float:
    """The largest power of two that brings numbers of this size no further than fp16 reaches."""
    return 2.0 ** torch.floor(torch.log2(LARGEST / size)).item()


largest_scale = Exercise(
    id="04.largest_scale",
    law=(
        "The loss scale is the largest power of two at which no entry of the gradient goes beyond fp16's largest "
        "number."
    ),
    draw=lambda generator: (
        torch.randn(50, generator=generator) * 2.0 ** float(8 * torch.randn((), generator=generator)),
    ),
    right=lambda gradient: _scale_for(gradient.abs().max()),
    hints=[
        Hint(
            "this fits the typical entry. Which entry overflows first?",
            mistake=lambda gradient: _scale_for(gradient.abs().mean()),
        ),
        Hint("a large negative entry overflows too.", mistake=lambda gradient: _scale_for(gradient.max())),
        Hint(
            "this brings the smallest entry as far as fp16 reaches; the others are beyond it by then.",
            mistake=lambda gradient: _scale_for(gradient.abs().min()),
        ),
        Hint(
            "a norm is longer than any entry: with this scale all of them fit, and a larger one would do too.",
            mistake=lambda gradient: _scale_for(gradient.norm()),
        ),
        Hint(
            "this is the exponent: the scale is two to the power of it.",
            mistake=lambda gradient: math.log2(_scale_for(gradient.abs().max())),
        ),
        Hint(
            "exactly twice the right scale: the power of two was rounded up, and the largest entry overflows.",
            mistake=lambda gradient: 2 * _scale_for(gradient.abs().max()),
        ),
        Hint(
            "that is as far as fp16 reaches, but no power of two: scaling by it, and back, would round every entry.",
            mistake=lambda gradient: LARGEST / gradient.abs().max().item(),
        ),
    ],
)


# ---------------------------------------------------------------- the order of unscaling and clipping


def _scaled_gradient(generator: torch.Generator) -> tuple[Tensor, float, float]:
    gradient = torch.randn(6, generator=generator)
    scale = 2.0 ** int(torch.randint(8, 17, (), generator=generator))
    return scale * gradient, scale, float(gradient.norm()) * (0.25 + 1.5 * float(torch.rand((), generator=generator)))


def _clip(gradient: Tensor, most: float) -> Tensor:
    return gradient * min(1.0, most / float(gradient.norm()))


clipped_gradient = Exercise(
    id="04.clipped_gradient",
    law=(
        "The gradient that a step sees has no loss scale in it, and is cut to a length of `most` only where it is "
        "longer."
    ),
    draw=_scaled_gradient,
    right=lambda scaled, scale, most: _clip(scaled / scale, most),
    hints=[
        Hint(
            "the direction is right, and the gradient never longer than the threshold over the loss scale, here "
            "{scale:g}. How long was it when it met the threshold?",
            mistake=lambda scaled, scale, most: _clip(scaled, most) / scale,
        ),
        Hint(
            (
                "every gradient comes out exactly as long as the threshold. Either the loss scale was never taken out, "
                "so that all were too long; or short ones are stretched."
            ),
            mistake=lambda scaled, scale, most: _clip(scaled, most),
        ),
        Hint(
            "entry by entry: that turns the gradient. It is the length of the whole that is at most `most`.",
            mistake=lambda scaled, scale, most: (scaled / scale).clamp(-most, most),
        ),
        Hint("the loss scale is out, and nothing is clipped.", mistake=lambda scaled, scale, most: scaled / scale),
        Hint(
            "clipped at the right place, but the gradient still has the loss scale in it: {ratio:g}× too long.",
            mistake=lambda scaled, scale, most: _clip(scaled, most * scale),
        ),
    ],
)
