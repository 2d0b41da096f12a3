"""Exercises of lesson 07, overflow and sanitization."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import integer
from covlab.course.exercises.compare import worst_error


def _overflowing(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    parameter, gradient = torch.randn(4, generator=generator), torch.randn(4, generator=generator)
    scale = 2.0 ** integer(generator, -3, 24)
    kind = integer(generator, 0, 3)
    if kind:
        gradient[integer(generator, 0, 3)] = (math.nan, math.inf, -math.inf)[kind - 1]
    return parameter, scale * gradient, scale


def _finite(gradient: Tensor) -> bool:
    return bool(gradient.isfinite().all())


def _cleaned(gradient: Tensor) -> Tensor:
    return torch.nan_to_num(gradient, nan=0.0, posinf=1.0, neginf=-1.0)


def _step(parameter: Tensor, scaled: Tensor, scale: float) -> Tensor:
    return parameter - 0.1 * scaled / scale


def _cleaned_step(parameter: Tensor, scaled: Tensor, scale: float) -> Tensor:
    return _step(parameter, _cleaned(scaled), scale)


def _rule(
    step: Callable[[Tensor, Tensor, float], Tensor] = _step,
    good: Callable[[Tensor], bool] = _finite,
    skip: bool = True,
    after_good: float = 1.0,
    after_bad: float = 0.5,
) -> Callable[[Tensor, Tensor, float], tuple[Tensor, float]]:
    """Return a step that multiplies the scale by ``after_good`` or ``after_bad``; ``skip``: no step if bad."""

    def honest_step(parameter: Tensor, scaled: Tensor, scale: float) -> tuple[Tensor, float]:
        moved = step(parameter, scaled, scale) if good(scaled) or not skip else parameter
        return moved, scale * (after_good if good(scaled) else after_bad)

    return honest_step


honest_step = Exercise(
    id="07.honest_step",
    law=(
        "If an entry of the gradient is not finite, the parameter stays the same and the scale is halved. Otherwise a "
        "step is taken and the scale stays the same."
    ),
    draw=_overflowing,
    cases=40,
    compare=worst_error,
    right=_rule(),
    hints={
        "every step is taken and the scale never falls. Do you check before or after you clean the gradient?": _rule(
            _cleaned_step, skip=False, after_bad=1.0
        ),
        "the scale falls, but a step is taken along a cleaned gradient. Its direction is invented.": _rule(
            _cleaned_step, skip=False
        ),
        "you clean the gradient after unscaling, so an infinity becomes a step along a gradient of 1.": _rule(
            lambda parameter, scaled, scale: parameter - 0.1 * _cleaned(scaled / scale), skip=False
        ),
        "you skip the step but keep the scale, so the next window overflows, too.": _rule(after_bad=1.0),
        "a number that is not finite gets into the parameter and stays. Do you catch both NaN and infinity?": Mistake(
            _rule(good=lambda scaled: not scaled.isnan().any()), lambda trial: not _finite(trial.got[0])
        ),
        "the scale goes the wrong way: after an overflow a larger scale overflows again.": _rule(after_bad=2.0),
        "the scale also changes after a good step. In this exercise it should stay the same.": _rule(after_good=2.0),
        "some entries of the parameter change and others do not. So the step has a wrong direction.": _rule(
            lambda parameter, scaled, scale: torch.where(scaled.isfinite(), _step(parameter, scaled, scale), parameter),
            skip=False,
        ),
        "the scale falls, but the parameter changes, although an entry of its gradient is not finite.": Mistake(
            lambda parameter, scaled, scale: (
                _rule()(parameter, scaled, scale)
                if _finite(scaled)
                else (_cleaned_step(parameter, scaled, scale / 2), scale / 2)
            ),
            lambda trial: (
                trial.got[1] == trial.expected[1]
                and not _finite(trial.arguments["scaled"])
                and _finite(trial.got[0])
                and not torch.equal(trial.got[0], trial.expected[0])
            ),
        ),
        "you step along the gradient, which increases the loss.": _rule(
            lambda parameter, scaled, scale: _step(parameter, -scaled, scale)
        ),
        "the loss scale is still in the gradient when you take the step.": _rule(
            lambda parameter, scaled, scale: parameter - 0.1 * scaled
        ),
    },
)


diagnosis = Exercise(
    id="07.diagnosis",
    law="One answer explains all three columns.",
    right="cleaned after unscale",
    choices=(
        "correct loop, scale too high",
        "cleaned before unscale",
        "cleaned after unscale",
        "correct loop, NaN in the loss",
    ),
    hints={
        "a correct loop skips a step whenever the scale falls. How many steps did this one skip?": (
            "correct loop, scale too high"
        ),
        "this scaler would only see finite gradients. Why would its scale fall?": "cleaned before unscale",
        "the scale would fall in every window, and every step would be skipped.": "correct loop, NaN in the loss",
    },
)


def _losses(generator: torch.Generator) -> tuple[Tensor]:
    """Draw losses of either sign, one of which is exactly zero; from none to three are NaN or infinite."""
    losses = torch.randn(integer(generator, 4, 8), generator=generator) * 10.0 ** integer(generator, -1, 2)
    losses[0] = 0.0
    for number in range(integer(generator, 0, 3)):
        losses[1 + number] = (math.nan, math.inf, -math.inf)[integer(generator, 0, 2)]
    return (losses[torch.randperm(len(losses), generator=generator)],)


def _logged(
    mean: Callable[[Tensor], Tensor], count: Callable[[Tensor], Tensor] = lambda losses: (~losses.isfinite()).sum()
) -> Callable[[Tensor], tuple[float, int]]:
    return lambda losses: (mean(losses).item(), int(count(losses)))


def _finite_mean(losses: Tensor) -> Tensor:
    return losses[losses.isfinite()].mean()


def _mean_with_zeros(losses: Tensor) -> Tensor:
    return torch.where(losses.isfinite(), losses, 0.0).mean()


epoch_line = Exercise(
    id="07.epoch_line",
    law="The log reports the mean of the finite losses, and how many losses were not finite.",
    draw=_losses,
    compare=worst_error,
    right=_logged(_finite_mean),
    hints={
        "a loss that is not finite counts as zero, as if the network had been perfect there.": _logged(
            _mean_with_zeros
        ),
        "a NaN counts as zero, an infinity as the largest number of its type, and the log mentions neither.": _logged(
            lambda losses: torch.nan_to_num(losses).mean(), lambda losses: torch.tensor(0)
        ),
        "a loss that is not finite counts as zero, and the log does not mention it.": _logged(
            _mean_with_zeros, lambda losses: torch.tensor(0)
        ),
        "NaNs are left out, but an infinite loss is still in the mean.": _logged(torch.nanmean),
        "the mean is correct, but the log does not mention the losses it leaves out.": _logged(
            _finite_mean, lambda losses: torch.tensor(0)
        ),
        "the mean is correct, but you count only NaNs. Which other losses does the mean leave out?": _logged(
            _finite_mean, lambda losses: losses.isnan().sum()
        ),
        "the mean is correct, but you count the finite losses.": _logged(
            _finite_mean, lambda losses: losses.isfinite().sum()
        ),
    },
)
