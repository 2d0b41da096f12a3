"""Exercises of lesson 02, the trace-normalized error."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import complex_normal, integer
from covlab.course.exercises.judging import Trial
from covlab.training.loss import plain_error

# ---------------------------------------------------------------- the error


def _covariances(generator: torch.Generator, scenes: int, size: int) -> Tensor:
    """Draw covariances of rank 2 [scenes, size, size], whose scales differ by many powers of ten."""
    factors = complex_normal(generator, scenes, size, 2, dtype=torch.complex128)
    exponents = torch.empty(scenes, 1, 1, dtype=torch.float64).uniform_(-9, 9, generator=generator)
    return factors @ factors.mH * 10**exponents


def _estimates_and_truths(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    scenes, size = integer(generator, 1, 5), integer(generator, 3, 6)
    return _covariances(generator, scenes, size), _covariances(generator, scenes, size)


def _traces(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2).real.sum(dim=1).view(-1, 1, 1)


def _normalized(matrices: Tensor) -> Tensor:
    """Scale each matrix to trace N: [B, N, N] -> [B, N, N]."""
    return matrices * (matrices.shape[1] / _traces(matrices))


def _error(scale: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda estimates, truths: plain_error(scale(estimates), scale(truths)).mean()


normalized_error = Exercise(
    id="02.normalized_error",
    law=(
        "The mean over scenes of ‖R̂ − R‖² / ‖R‖², with R̂ and R of each scene scaled to trace N. The scale of a scene "
        "changes neither its own error nor the error of another scene."
    ),
    draw=_estimates_and_truths,
    right=_error(_normalized),
    hints={
        "one scene's scale changes the error of the others. Over which dimensions do you sum the trace?": _error(
            lambda matrices: matrices * (matrices.shape[1] / _traces(matrices).sum())
        ),
        "this is 2 − 2·cosine: you divide by the norm. Divide by the trace.": _error(
            lambda matrices: matrices / torch.linalg.matrix_norm(matrices).view(-1, 1, 1)
        ),
        "only R̂ is normalized: the error still depends on the scale of the true R.": (
            lambda estimates, truths: plain_error(_normalized(estimates), truths).mean()
        ),
        "a scene of very small scale is not normalized: an eps or a clamp is only small beside traces near 1.": Mistake(
            _error(lambda matrices: matrices * (matrices.shape[1] / (_traces(matrices) + 1e-8))),
            lambda trial: min(float(_traces(matrices).min()) for matrices in trial.arguments.values()) < 1e-3,
        ),
        "you divide the sum of errors by the sum of powers, so scenes with large ‖R‖ count more. Average the ratios.": (
            lambda estimates, truths: (
                (_normalized(estimates) - _normalized(truths)).norm() ** 2 / _normalized(truths).norm() ** 2
            )
        ),
        "you take the ratio of the norms. The law uses their squares.": lambda estimates, truths: (
            plain_error(_normalized(estimates), _normalized(truths)).sqrt().mean()
        ),
        "your error is {ratio:.0f}× the correct one, which is the number of scenes. Do you take a sum or a mean?": (
            lambda estimates, truths: plain_error(_normalized(estimates), _normalized(truths)).sum()
        ),
    },
)

# ---------------------------------------------------------------- the norm


def _steps(generator: torch.Generator) -> tuple[float, float, Tensor]:
    count = integer(generator, 0, 7)
    uniform = torch.rand(count + 2, generator=generator, dtype=torch.float64)
    return 1.0 + uniform[0].item(), 0.5 + uniform[1].item(), 0.2 + uniform[2:]


norm_after = Exercise(
    id="02.norm_after",
    law=(
        "Each step is at right angles to R̂. So each step adds the square of its length to the square of the norm. The "
        "length of a step is learning rate times gradient norm."
    ),
    draw=_steps,
    right=lambda norm, learning_rate, gradients: math.hypot(norm, *(learning_rate * each for each in gradients)),
    hints={
        "the norm does not change. A step at right angles does not point outward, but where does it end?": (
            lambda norm, learning_rate, gradients: norm
        ),
        "you add the lengths of the steps to the norm. How do lengths add at right angles?": (
            lambda norm, learning_rate, gradients: norm + learning_rate * sum(gradients)
        ),
        "one factor is not squared. How long is a step?": lambda norm, learning_rate, gradients: math.sqrt(
            norm**2 + learning_rate * sum(each**2 for each in gradients)
        ),
        "the learning rate is missing. How long is a step?": lambda norm, learning_rate, gradients: math.hypot(
            norm, *gradients
        ),
        "you treat all steps as one long step. Each step is at right angles to the R̂ that it starts from.": (
            lambda norm, learning_rate, gradients: math.hypot(norm, learning_rate * sum(gradients))
        ),
        "this is the square of the norm.": lambda norm, learning_rate, gradients: (
            norm**2 + sum((learning_rate * each) ** 2 for each in gradients)
        ),
    },
)

# ---------------------------------------------------------------- the guard


def _any_matrix(generator: torch.Generator) -> tuple[Tensor]:
    """Draw a Hermitian matrix of any scale and of any ratio of trace to norm: that of a covariance, one next to the
    limit, zero up to rounding, or a negative one.
    """
    size, exponent = integer(generator, 3, 7), integer(generator, -12, 6)
    (R,) = _covariances(generator, 1, size)
    traceless = R - R.diagonal().real.mean() * torch.eye(size)
    kind = integer(generator, 0, 5)
    if kind > 0:
        share = (-0.5, 0.0, 0.5e-3, 2e-3, 0.5)[kind - 1]
        # ‖R + s I‖² = ‖R‖² + N s² if R has no trace.
        shift = share / math.sqrt(size * (size - share**2))
        R = traceless / torch.linalg.matrix_norm(traceless) + shift * torch.eye(size)
    return (R / torch.linalg.matrix_norm(R) * 10.0**exponent,)


def _guarded(trace: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda R: R * (len(R) / trace(R))


def _trace(R: Tensor) -> Tensor:
    return R.diagonal().real.sum()


def _refusing(holds: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda R: R * torch.where(holds(R), len(R) / _trace(R), torch.nan)


def _has_a_unit(trial: Trial) -> bool:
    """Return whether a small R is refused, or a large one passes. A fixed threshold is wrong only in these ways."""
    refused, norm = bool(trial.got.isnan().any()), float(torch.linalg.matrix_norm(trial.arguments["R"]))
    return norm < 1 if refused else norm > 1e-6


def _is_near_the_limit(trial: Trial) -> bool:
    share = float(_trace(trial.arguments["R"]) / torch.linalg.matrix_norm(trial.arguments["R"]))
    return 0 < share < 0.1


trace_normalized = Exercise(
    id="02.trace_normalized",
    law=(
        "If the trace of R is above a thousandth of its norm, R is scaled to trace N, at any scale of R. Otherwise the "
        "result is NaN."
    ),
    draw=_any_matrix,
    cases=60,
    right=_refusing(lambda R: _trace(R) > 1e-3 * torch.linalg.matrix_norm(R)),
    hints={
        "clamping at 1e-8 makes a matrix with a negative trace enormous, and a small correct one too small.": _guarded(
            lambda R: _trace(R).clamp(min=1e-8)
        ),
        "with the absolute value, a matrix with a negative trace passes, although it is not a covariance.": _guarded(
            lambda R: _trace(R).abs()
        ),
        "an eps in the denominator refuses nothing, and makes matrices of small scale too small.": _guarded(
            lambda R: _trace(R) + 1e-8
        ),
        "nothing is refused: what comes out if the trace is zero, and if it is negative?": _guarded(_trace),
        "a large negative trace passes, and reverses the sign of the matrix.": _refusing(
            lambda R: _trace(R).abs() > 1e-3 * torch.linalg.matrix_norm(R)
        ),
        "you refuse a negative trace, but not a trace of almost zero.": _refusing(lambda R: _trace(R) > 0),
        "your threshold is absolute, so the scale of R matters. With what should you compare the trace?": Mistake(
            _refusing(lambda R: _trace(R) > 1e-8), _has_a_unit
        ),
        "only traces near the limit go wrong. What is the limit a thousandth of, and is it a thousandth?": Mistake(
            _refusing(lambda R: _trace(R) > 1e-6 * torch.linalg.matrix_norm(R)), _is_near_the_limit
        ),
        "every matrix that you accept has trace 1 and not trace N.": lambda R: (
            _refusing(lambda R: _trace(R) > 1e-3 * torch.linalg.matrix_norm(R))(R) / len(R)
        ),
        "you return numbers where NaN is correct, or NaN where numbers are. What does the law compare with what?": (
            Mistake(
                _refusing(lambda R: _trace(R) > 1e-3 * torch.linalg.matrix_norm(R) ** 2),
                lambda trial: bool(trial.got.isnan().any() != trial.expected.isnan().any()),
            )
        ),
    },
)
