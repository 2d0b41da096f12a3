"""Measure what trace normalization does to an error, to its gradient and to training: the experiments of lesson 02.

The training is tiny: it finds the one covariance with the smallest mean error over many scenes, without any snapshots.
Its only parameter is R̂ itself, so norm and direction of the parameter are those of the estimate.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import Count, Positive, Seed, checked, one_of, whole_number
from covlab.plots.scale_invariance import Surfaces, Walk
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.tensor_arguments import Device
from covlab.training.loss import Matrices, nmse, plain_error

STUDENT = preset("student")
Real = Annotated[torch.dtype, one_of((torch.float16, torch.bfloat16, torch.float32, torch.float64))]
SCENES, BATCH = 2048, 16
EPS = 1e-8


@checked
def two_truths(seed: Seed) -> tuple[Tensor, Tensor]:
    """Return the covariances R and R' of two unrelated scenes: [N, N] each, of trace N, complex128."""
    R, other = Simulator(STUDENT, dtype=torch.complex128).draw(2, scene_generator(seed, "normalization")).covariance()
    return R, other


# ---------------------------------------------------------------- the error over a plane


@checked
def surfaces(seed: Seed, points: Annotated[int, whole_number(2, 1000)] = 81) -> Surfaces:
    """Return both errors between x R + y R' and the truth R, for positive x and y."""
    R, other = two_truths(seed)
    x = torch.linspace(0.02, 3.0, points, dtype=torch.float64)
    mixtures = (x.view(1, -1, 1, 1) * R + x.view(-1, 1, 1, 1) * other).flatten(0, 1)
    errors = [measure(mixtures, R.expand_as(mixtures)).view(points, points).numpy() for measure in (plain_error, nmse)]
    return Surfaces(x.numpy(), x.numpy(), *errors)


@dataclass(frozen=True)
class ErrorGradient:
    """The gradient of an error at one estimate."""

    error: float
    length: float  #: ‖∇‖
    radial: float  #: cosine between ∇ and R̂: the share of ∇ that would only change the scale


@checked
def slope(measure: Callable[[Tensor, Tensor], Tensor], scale: float, seed: Seed) -> ErrorGradient:
    """Return error and gradient of ``measure`` between R̂ = scale · (R + R')/2 and the truth R."""
    R, other = two_truths(seed)
    estimate = (scale * (R + other) / 2).requires_grad_()
    error = measure(estimate[None], R[None])[0]
    (gradient,) = torch.autograd.grad(error, estimate)
    return ErrorGradient(error.item(), gradient.norm().item(), _cosine(gradient, estimate))


# ---------------------------------------------------------------- training in miniature


@checked
def walk(
    make_optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    seed: Seed,
    steps: Count = 1000,
    start: Positive = 1.0,
    device: Device = "cpu",
) -> Walk:
    """Minimize the mean NMSE over batches of 16 scenes. R̂ starts as ``start`` times a noisy identity."""
    scenes = Simulator(STUDENT, device).draw(SCENES, scene_generator(seed, "walk", device=device)).covariance()
    held_out = Simulator(STUDENT, device).draw(512, scene_generator(seed, "walk held out", device=device)).covariance()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(16, 16, dtype=torch.complex64, generator=generator)
    first = start * (torch.eye(16) + 0.15 * (noise + noise.mH))
    parameter = torch.view_as_real(first.to(device)).clone().requires_grad_()
    optimizer = make_optimizer([parameter])
    norms, turns, gradients, radial, validation = [first.norm().item()], [], [], 0.0, {}
    for step in range(steps + 1):
        if step % 50 == 0:
            with torch.no_grad():
                validation[step] = nmse(torch.view_as_complex(parameter).expand_as(held_out), held_out).mean().item()
        if step == steps:
            break
        batch = scenes[torch.randint(SCENES, (BATCH,), generator=generator)]
        optimizer.zero_grad()
        nmse(torch.view_as_complex(parameter).expand_as(batch), batch).mean().backward()
        before = parameter.detach().clone()
        optimizer.step()
        assert parameter.grad is not None  # for mypy
        norms.append(parameter.norm().item())
        turns.append(_angle(before, parameter.detach()))
        gradients.append(parameter.grad.norm().item())
        radial = max(radial, abs(_cosine(parameter.grad, before)))
    return Walk(norms, turns, gradients, radial, validation)


# ---------------------------------------------------------------- the range of floating point


@checked
def half_error(
    scale: float,
    dtype: Real,
    seed: Seed,
) -> float:
    """Return the NMSE of the correct R̂ = scale · R, scaled by N / (tr R̂ + 1e-8), with every operation in ``dtype``."""
    truth = torch.view_as_real(two_truths(seed)[0])
    estimate, truth = (scale * truth).to(dtype), truth.to(dtype)
    trace = estimate[..., 0].diagonal().sum()
    error = estimate * (16 / (trace + torch.tensor(EPS, dtype=dtype))) - truth
    return (error.square().sum() / truth.square().sum()).item()


# ---------------------------------------------------------------- through a trace of zero


@checked
def clamped(estimate: Matrices, truth: Matrices) -> Tensor:
    """Return the NMSE with the trace clamped to at least 1e-8, to avoid dividing by zero: two [B, N, N] -> [B]."""
    trace = estimate.diagonal(dim1=1, dim2=2).real.sum(dim=1).clamp(min=EPS)
    return plain_error(estimate * (estimate.shape[1] / trace).view(-1, 1, 1), truth)


@checked
def absolute(estimate: Matrices, truth: Matrices) -> Tensor:
    """Return the NMSE with the absolute value of the trace: two [B, N, N] -> [B]."""
    trace = estimate.diagonal(dim1=1, dim2=2).real.sum(dim=1).abs()
    return plain_error(estimate * (estimate.shape[1] / trace).view(-1, 1, 1), truth)


@checked
def shifted(shift: float, seed: Seed) -> tuple[Tensor, Tensor]:
    """Return R̂ = R − shift · I, whose trace is (1 − shift) N, and R: [1, N, N] each."""
    R, _ = two_truths(seed)
    return (R - shift * torch.eye(16, dtype=R.dtype))[None], R[None]


def _cosine(one: Tensor, other: Tensor) -> float:
    """Return ⟨A, B⟩ = Re tr(AᴴB), divided by both norms."""
    return ((one.conj() * other).sum().real / (one.norm() * other.norm())).item()


def _angle(one: Tensor, other: Tensor) -> float:
    """Return the angle in degrees. It is computed from the chord, which is accurate for small angles."""
    chord = (one / one.norm() - other / other.norm()).norm().item()
    return math.degrees(2 * math.asin(min(1.0, chord / 2)))
