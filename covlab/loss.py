"""The loss: trace-normalized NMSE of the covariance, and the weights of all terms."""

import math
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from covlab.model import Estimate
from covlab.simulator import Batch

TRACE_SHARE = 1e-3
"""A trace at or below this share of the Frobenius norm cannot normalize a matrix. (A covariance has a share of at least 1.)"""


def relative_trace(R: Tensor) -> Tensor:
    """tr(R) / ‖R‖_F, which does not change with scale: [B, N, N] -> [B]. At least 1 for a covariance."""
    return R.diagonal(dim1=-2, dim2=-1).real.sum(dim=-1) / torch.linalg.matrix_norm(R)


def normalize_trace(R: Tensor) -> Tensor:
    """The Hermitian part of R, scaled to trace N: [B, N, N] -> [B, N, N].

    A scene whose trace is not above ``TRACE_SHARE`` of its norm becomes NaN, and so does its loss: clamping
    the trace would turn a matrix that is no covariance into a loss of any size, and waiting for the device
    to tell would stall it. ``Losses.relative_trace`` keeps the evidence.
    """
    R = (R + R.mH) / 2
    trace = R.diagonal(dim1=-2, dim2=-1).real.sum(dim=-1)
    scale = torch.where(relative_trace(R) > TRACE_SHARE, R.shape[-1] / trace, torch.nan)
    return R * scale.view(-1, 1, 1)


def nmse(estimate: Tensor, truth: Tensor) -> Tensor:
    """Trace-normalized error ‖R̂ − R‖²_F / ‖R‖²_F of each scene: two [B, N, N] -> [B].

    Both matrices are made Hermitian and scaled to trace N first, so the scale of either does not matter,
    and the gradient with respect to R̂ is orthogonal to R̂. NaN where a trace is not positive.

    Raises:
        ValueError: the shapes differ or are not [B, N, N].
    """
    if estimate.shape != truth.shape or estimate.ndim != 3 or estimate.shape[1] != estimate.shape[2]:
        raise ValueError(f"estimate and truth must both be [B, N, N], got {list(estimate.shape)} and {list(truth.shape)}")
    estimate, truth = normalize_trace(estimate), normalize_trace(truth)
    return (estimate - truth).abs().square().sum(dim=(1, 2)) / truth.abs().square().sum(dim=(1, 2))


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """The weights λ of the loss terms, each with its provenance. The only place anyone sets a weight.

    A weight of zero switches its term off; ``lam_cov`` must be above 0. ``provenance`` tells, for every
    weight, where its value came from ("default", "argument", a study and trial, …).

    Raises:
        ValueError: a weight is NaN, infinite or negative, or ``lam_cov`` is 0 or at least 100. (An exception and
            not an ``assert``: it must survive ``python -O``.)
    """

    lam_cov: float = 1.0
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        for name, weight in self.values().items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise ValueError(f"{name} must be a finite number of at least 0, got {weight!r}")
        if not 0 < self.lam_cov < 100:
            raise ValueError(f"lam_cov must be above 0 (or nothing trains the covariance) and below 100, got {self.lam_cov!r}")
        default = {weight.name: weight.default for weight in fields(self)}
        origin = {name: "default" if weight == default[name] else "argument" for name, weight in self.values().items()}
        object.__setattr__(self, "provenance", origin | self.provenance)

    def values(self) -> dict[str, float]:
        """{name: weight} of all weights."""
        return {weight.name: getattr(self, weight.name) for weight in fields(self) if weight.name != "provenance"}

    def updated(self, origin: str, **weights: float) -> "LossWeights":
        """These weights with some replaced; ``origin`` is what their provenance will say."""
        return replace(self, **weights, provenance=self.provenance | dict.fromkeys(weights, origin))


@dataclass(frozen=True)
class Losses:
    """What the loss says of B scenes, scene by scene."""

    total: Tensor  #: Σ λ_i · term_i [B]
    terms: dict[str, Tensor]  #: each term, unweighted [B]
    relative_trace: Tensor  #: tr(R̂) / ‖R̂‖_F [B]; at or below ``TRACE_SHARE`` the scene's total is NaN


def losses(estimate: Estimate, batch: Batch, weights: LossWeights) -> Losses:
    """All terms with a weight above 0, in float32, autocast off."""
    with torch.autocast(batch.y.device.type, enabled=False):
        terms = {"cov": estimate.nmse(batch)}
        total = sum(weights.values()[f"lam_{name}"] * term for name, term in terms.items())
        trace, norm = estimate.trace_and_norm()
        return Losses(total, terms, (trace / norm).detach())
