"""Exercises of lesson 02, the trace-normalized error."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Hint
from covlab.course.exercises.compare import relative_error
from covlab.course.exercises.judging import Trial

# ---------------------------------------------------------------- the error


def _covariances(generator: torch.Generator, scenes: int) -> Tensor:
    factors = torch.randn(scenes, 6, 2, dtype=torch.complex128, generator=generator)
    return factors @ factors.mH * torch.empty(scenes, 1, 1, dtype=torch.float64).exponential_(generator=generator)


def _error(
    scale: Callable[[Tensor], Tensor],
    mean: Callable[[Tensor, Tensor], Tensor] = lambda error, power: (error / power).mean(),
) -> Callable[[Tensor, Tensor], Tensor]:
    """The error with both matrices scaled by ``scale``, a function of [B, N, N] -> [B, 1, 1] or of all of them."""

    def normalized_error(estimates: Tensor, truths: Tensor) -> Tensor:
        estimates, truths = estimates * scale(estimates), truths * scale(truths)
        return mean((estimates - truths).abs().square().sum(dim=(1, 2)), truths.abs().square().sum(dim=(1, 2)))

    return normalized_error


def _traces(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2).real.sum(dim=1).view(-1, 1, 1)


def _only_the_estimate(estimates: Tensor, truths: Tensor) -> Tensor:
    estimates = estimates * (estimates.shape[1] / _traces(estimates))
    return ((estimates - truths).abs().square().sum(dim=(1, 2)) / truths.abs().square().sum(dim=(1, 2))).mean()


normalized_error = Exercise(
    id="02.normalized_error",
    law=(
        "The mean over scenes of ‖R̂ − R‖² / ‖R‖², each scene's R̂ and R scaled to trace N: no scene's scale "
        "matters, nor any other scene's."
    ),
    draw=lambda generator: (_covariances(generator, 4), _covariances(generator, 4)),
    right=_error(lambda matrices: matrices.shape[1] / _traces(matrices)),
    hints=[
        Hint(
            (
                "all scenes share one scale: make one of them ten times as large, and the others' errors change. Over "
                "which dimensions is the trace summed?"
            ),
            mistake=_error(lambda matrices: matrices.shape[1] / matrices.diagonal(dim1=1, dim2=2).real.sum()),
        ),
        Hint(
            (
                "this is 2 − 2·cosine: both matrices lie on the unit sphere, so you divided by the norm and not by the "
                "trace."
            ),
            mistake=_error(lambda matrices: 1 / torch.linalg.matrix_norm(matrices).view(-1, 1, 1)),
        ),
        Hint("only R̂ is normalized: the error still depends on the scale of the truth.", mistake=_only_the_estimate),
        Hint(
            (
                "this is the sum of the errors over the sum of the powers, not the mean of the scenes' ratios: scenes "
                "of large ‖R‖ count more."
            ),
            mistake=_error(
                lambda matrices: matrices.shape[1] / _traces(matrices),
                mean=lambda error, power: error.sum() / power.sum(),
            ),
        ),
        Hint(
            "each scene's ratio is that of the norms; the law has their squares.",
            mistake=_error(
                lambda matrices: matrices.shape[1] / _traces(matrices),
                mean=lambda error, power: (error / power).sqrt().mean(),
            ),
        ),
        Hint(
            "your error is exactly {ratio:.0f}× the right one: the number of scenes. A sum is not a mean yet.",
            mistake=_error(
                lambda matrices: matrices.shape[1] / _traces(matrices), mean=lambda error, power: (error / power).sum()
            ),
        ),
    ],
)

# ---------------------------------------------------------------- the norm


def _steps(generator: torch.Generator) -> tuple[float, float, list[float]]:
    count = int(torch.randint(3, 8, (), generator=generator))
    uniform = torch.rand(count + 2, generator=generator, dtype=torch.float64).tolist()
    return 1.0 + uniform[0], 0.5 + uniform[1], [0.2 + each for each in uniform[2:]]


norm_after = Exercise(
    id="02.norm_after",
    law=(
        "Each step lies at right angles to R̂, so the squares of the steps' lengths, learning rate times gradient "
        "norm, add to the square of the norm."
    ),
    draw=_steps,
    right=lambda norm, learning_rate, gradients: math.sqrt(
        norm**2 + sum((learning_rate * each) ** 2 for each in gradients)
    ),
    hints=[
        Hint(
            "the norm stays as it is. A step at right angles does not point outwards, but where does it end?",
            mistake=lambda norm, learning_rate, gradients: norm,
        ),
        Hint(
            (
                "the steps are laid end to end along R̂: their lengths add to the norm. At right angles lengths add "
                "otherwise."
            ),
            mistake=lambda norm, learning_rate, gradients: norm + learning_rate * sum(gradients),
        ),
        Hint(
            "one thing is not squared: how long is a step?",
            mistake=lambda norm, learning_rate, gradients: math.sqrt(
                norm**2 + learning_rate * sum(each**2 for each in gradients)
            ),
        ),
        Hint(
            "the learning rate has no part in it: how long is a step?",
            mistake=lambda norm, learning_rate, gradients: math.sqrt(norm**2 + sum(each**2 for each in gradients)),
        ),
        Hint(
            "all steps are taken for one long one. Each is at right angles to where R̂ stands by then.",
            mistake=lambda norm, learning_rate, gradients: math.sqrt(norm**2 + (learning_rate * sum(gradients)) ** 2),
        ),
        Hint(
            "this is the square of the norm.",
            mistake=lambda norm, learning_rate, gradients: (
                norm**2 + sum((learning_rate * each) ** 2 for each in gradients)
            ),
        ),
    ],
)

# ---------------------------------------------------------------- the guard


def _any_matrix(generator: torch.Generator) -> tuple[Tensor]:
    """A Hermitian matrix of any scale; one in two has no trace to speak of, or a negative one."""
    kind = int(torch.randint(4, (), generator=generator))
    exponent = int(torch.randint(-12, 7, (), generator=generator))
    (R,) = _covariances(generator, 1)
    R = R / torch.linalg.matrix_norm(R)
    middle = R.diagonal().real.mean()
    shift = (0.0, 0.5, 1.0, 1.5)[kind] * middle  # 1.0: a trace of zero but for rounding
    return ((R - shift * torch.eye(6)) * 10.0**exponent,)


def _difference(got: Tensor, right: Tensor) -> float:
    """NaN is an answer here: it is compared as such."""
    if bool(got.isnan().any()) or bool(right.isnan().any()):
        return 0.0 if bool(got.isnan().any()) and bool(right.isnan().any()) else math.inf
    return relative_error(got, right)


def _guarded(trace: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda R: R * (len(R) / trace(R))


def _trace(R: Tensor) -> Tensor:
    return R.diagonal().real.sum()


def _refusing(holds: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda R: R * torch.where(holds(R), len(R) / _trace(R), torch.nan)


def _has_a_unit(trial: Trial) -> bool:
    """A good covariance is refused, or a trace of nothing but rounding passes: what any threshold for the trace alone
    comes to.
    """
    R, refused = trial.arguments["R"], bool(trial.got.isnan().any())
    return refused or bool(_trace(R).abs() < 1e-6 * torch.linalg.matrix_norm(R))


trace_normalized = Exercise(
    id="02.trace_normalized",
    law=(
        "R is scaled to trace N where its trace is above a thousandth of its norm, whatever its scale, and is NaN "
        "where it is not."
    ),
    draw=_any_matrix,
    compare=_difference,
    right=_refusing(lambda R: _trace(R) > 1e-3 * torch.linalg.matrix_norm(R)),
    hints=[
        Hint(
            (
                "a negative trace is clamped to 1e-8: the matrix comes out enormous instead of refused; and a small "
                "matrix, which is a fine covariance, comes out too small."
            ),
            mistake=_guarded(lambda R: _trace(R).clamp(min=1e-8)),
        ),
        Hint(
            (
                "with the absolute value a negative trace passes for a positive one, and what is no covariance gets an "
                "error like any other."
            ),
            mistake=_guarded(lambda R: _trace(R).abs()),
        ),
        Hint(
            (
                "an eps in the denominator refuses nothing, and sets a scale of its own: below it every matrix comes "
                "out too small."
            ),
            mistake=_guarded(lambda R: _trace(R) + 1e-8),
        ),
        Hint(
            "nothing is refused: a trace of zero gives a matrix of any size, a negative one turns it upside down.",
            mistake=_guarded(_trace),
        ),
        Hint(
            "a negative trace that is large enough passes, and the matrix comes out upside down.",
            mistake=_refusing(lambda R: _trace(R).abs() > 1e-3 * torch.linalg.matrix_norm(R)),
        ),
        Hint(
            "a negative trace is refused, a trace of zero is not: what rounding left of it passes for a trace.",
            mistake=_refusing(lambda R: _trace(R) > 0),
        ),
        Hint(
            (
                "the threshold is a number with a unit: a good covariance of small scale is refused, or noise of large "
                "scale passes. Held against what can a trace be small?"
            ),
            mistake=_refusing(lambda R: _trace(R) > 1e-8),
            recognize=_has_a_unit,
        ),
    ],
)
