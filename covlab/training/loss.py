"""The loss L = Σ λ_i · term_i of every scene: its terms, and the weights with their provenance.

No gradient flows through eigenvectors or singular vectors. Where two eigenvalues are nearly equal, such a gradient
would be NaN or, worse, finite but wrong. Eigenvalues are safe, and projectors compare subspaces.
"""

import itertools
from dataclasses import dataclass, field, fields, replace
from functools import cache, reduce
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from covlab.arguments import LARGEST, Allowed, Text, check_fields, checked, described, number, one_of
from covlab.networks.model import Estimate
from covlab.networks.source_grid import DictionaryEstimate
from covlab.scenes.batch import Batch
from covlab.scenes.geometry import steering_vectors
from covlab.scenes.scenario import Scenario
from covlab.scenes.simulator import scene_generator
from covlab.seams import take_seams
from covlab.tensor_arguments import Device, tensor

TRACE_SHARE = 1e-3
"""A trace at or below this share of the Frobenius norm cannot normalize a matrix. The share of a covariance is ≥ 1."""

EIGENGAP = 0.03
"""The gap λ_K − λ_{K+1} that the eigengap term asks for, as a share of the trace."""

BACKGROUND_POSITIONS = 64

WEIGHT = number(least=0, most=LARGEST)
"""What the weight of a loss term may be. A larger number is infinite on the device."""


Matrices = Annotated[Tensor, tensor("B N N", "complex")]


def relative_trace(R: Tensor) -> Tensor:
    """Return tr(R) / ‖R‖_F, which does not change with scale: [B, N, N] -> [B]. At least 1 for a covariance."""
    return R.diagonal(dim1=-2, dim2=-1).real.sum(dim=-1) / torch.linalg.matrix_norm(R)


def normalize_trace(R: Tensor) -> Tensor:
    """Return the Hermitian part of R, scaled to trace N: [B, N, N] -> [B, N, N].

    A scene whose trace is not above ``TRACE_SHARE`` of its norm becomes NaN, and so does its loss. Clamping the trace
    would turn a matrix that is not a covariance into a loss of any size; raising an exception would make the host
    wait for the device. ``Losses.relative_trace`` shows which scenes were affected.
    """
    R = (R + R.mH) / 2
    trace = R.diagonal(dim1=-2, dim2=-1).real.sum(dim=-1)
    scale = torch.where(relative_trace(R) > TRACE_SHARE, R.shape[-1] / trace, torch.nan)
    return R * scale.view(-1, 1, 1)


@checked
def plain_error(estimate: Tensor, truth: Tensor) -> Tensor:
    """Return ‖R̂ − R‖²_F / ‖R‖²_F with nothing normalized: two [..., N, N] -> [...]."""
    if truth.shape != estimate.shape or truth.device != estimate.device:
        raise ValueError(f"truth must be like estimate, {described(estimate)}, got {described(truth)}")
    return (estimate - truth).abs().square().sum(dim=(-2, -1)) / truth.abs().square().sum(dim=(-2, -1))


@checked
def nmse(estimate: Matrices, truth: Matrices) -> Tensor:
    """Return the trace-normalized error ‖R̂ − R‖²_F / ‖R‖²_F of each scene: two [B, N, N] -> [B].

    Both matrices are made Hermitian and scaled to trace N first. So their scales do not matter, and the gradient with
    respect to R̂ is orthogonal to R̂. The error is NaN where :func:`normalize_trace` cannot normalize a matrix.

    Raises:
        ValueError: the shapes differ or are not [B, N, N], or a matrix is not complex.
    """
    return plain_error(normalize_trace(estimate), normalize_trace(truth))


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """The weights λ of the loss terms, each with its provenance. Weights are set here and nowhere else.

    A weight of zero switches its term off; ``lam_cov`` must be above 0. ``provenance`` says where each weight's value
    came from ("default", "argument", a study and trial, …).

    Raises:
        ValueError: a weight is NaN, infinite or negative; ``lam_cov`` is 0 or at least 100; or ``provenance`` names
            something that is not a weight.
    """

    lam_cov: float = 1.0
    lam_cov_pred: float = 0.05
    lam_ortho: float = 1e-3
    lam_cross: float = 2.5e-3
    lam_gap: float = 0.012
    lam_K: float = 0.05
    lam_subspace_align: float = 0.05
    lam_peak_contrast: float = 0.1
    lam_aux: float = 0.0
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        take_seams(self)
        check_fields(self, dict.fromkeys(self.names(), WEIGHT))
        self.guard_main_weight()
        known = Allowed(
            f"a dict {{weight: origin}} of the weights {', '.join(self.values())}",
            lambda value: isinstance(value, dict) and set(value) <= set(self.values()),
        )
        known.check("provenance", self.provenance)
        default = {weight.name: weight.default for weight in fields(self)}
        origin = {name: "default" if weight == default[name] else "argument" for name, weight in self.values().items()}
        object.__setattr__(self, "provenance", origin | self.provenance)

    def guard_main_weight(self) -> None:
        """Refuse a main weight that trains nothing or drowns out every other term."""
        if not 0 < self.lam_cov < 100:
            raise ValueError(
                f"lam_cov must be above 0 (or nothing trains the covariance) and below 100, got {self.lam_cov!r}"
            )

    @classmethod
    def only(cls, **weights: float) -> "LossWeights":
        """Return the given weights, with every other term off: ``LossWeights.only(lam_cov=1.0)`` is the plain NMSE."""
        for name in weights:
            one_of(cls.names()).check("weight", name)
        return cls(**(dict.fromkeys(cls.names(), 0.0) | weights), provenance=dict.fromkeys(cls.names(), "argument"))

    @classmethod
    @cache
    def names(cls) -> tuple[str, ...]:
        """Return the names of all weights, in order."""
        return tuple(weight.name for weight in fields(cls) if weight.name != "provenance")

    def values(self) -> dict[str, float]:
        """Return {name: weight} of all weights."""
        return {name: getattr(self, name) for name in self.names()}

    @checked
    def updated(self, origin: Text, **weights: float) -> "LossWeights":
        """Return a copy with some weights replaced; ``origin`` becomes their provenance."""
        for name in weights:
            one_of(self.names()).check("weight", name)
        return replace(self, **weights, provenance=self.provenance | dict.fromkeys(weights, origin))


@dataclass(frozen=True)
class Losses:
    """The loss of B scenes, scene by scene."""

    total: Tensor  #: Σ λ_i · term_i [B]
    terms: dict[str, Tensor]  #: every term that is switched on, unweighted [B]
    relative_trace: Tensor  #: tr(R̂) / ‖R̂‖_F [B]; at or below ``TRACE_SHARE`` the scene's total is NaN

    def detach(self) -> "Losses":
        """Return the same losses without their graph."""
        return Losses(
            self.total.detach(),
            {name: term.detach() for name, term in self.terms.items()},
            self.relative_trace.detach(),
        )


class Loss:
    """Σ λ_i · term_i over the terms whose weight is above 0.

    Each term is a method named after its weight: ``lam_gap`` weights ``Loss.gap``. Every term returns one number per
    scene [B], so a mean over scenes does not depend on their split into micro-batches. No term depends on the scale
    of R̂.
    """

    @checked
    def __init__(self, scenario: Scenario, weights: LossWeights, device: Device = "cpu"):
        take_seams(self)
        self.active = self.switched_on(weights)
        self.orders = torch.tensor(list(itertools.permutations(range(scenario.max_sources))), device=device)
        generator = scene_generator(0, "background")
        bounds = (scenario.azimuth, scenario.elevation, scenario.range_m)
        positions = [low + (high - low) * torch.rand(BACKGROUND_POSITIONS, generator=generator) for low, high in bounds]
        self.background = steering_vectors(scenario, *positions).to(device)  # [D, N]

    @checked
    def __call__(self, estimate: Estimate | DictionaryEstimate, batch: Batch) -> Losses:
        """Compute all terms in the precision of the estimate's factors. Call it outside autocast, as the trainer does.

        Raises:
            ValueError: a term is switched on, but the estimate has no output for it.
        """
        terms = {name: getattr(self, name)(estimate, batch) for name in self.active}
        total = reduce(torch.add, (weight * terms[name] for name, weight in self.active.items()))
        trace, norm = estimate.trace_and_norm
        return Losses(total, terms, trace.detach() / norm.detach())

    def at_truth(self, estimate: Estimate, batch: Batch) -> Losses:
        """Return the loss of a perfect R̂ in place of ``estimate``'s. It checks the loss: the NMSE must be 0."""
        nothing = torch.zeros_like(batch.snr_db)
        return self(replace(estimate, factor=batch.factor(), loading=nothing, unblended=None, stages=()), batch)

    def switched_on(self, weights: LossWeights) -> dict[str, float]:
        """Return {term: weight} of the terms that are switched on."""
        return {name.removeprefix("lam_"): weight for name, weight in weights.values().items() if weight > 0}

    def cov(self, estimate: Estimate, batch: Batch) -> Tensor:
        """Return the NMSE of the final estimate: ‖R̂ − R‖²_F / ‖R‖²_F, both of trace N."""
        return estimate.nmse(batch)

    def cov_pred(self, estimate: Estimate, batch: Batch) -> Tensor:
        """Return the NMSE of R_pred, the estimate before the blend; for a network with stages, its mean over them."""
        predictions = estimate.stages or (estimate.prediction,)
        return reduce(torch.add, (stage.nmse(batch) for stage in predictions)) / len(predictions)

    def ortho(self, estimate: Estimate, batch: Batch) -> Tensor:
        """Return ‖ÂᴴÂ − I‖²_F, where Â is the predicted factor with columns scaled to norm 1."""
        factor = estimate.prediction.factor
        columns = factor / torch.view_as_real(factor).square().sum(dim=(1, 3)).clamp(min=1e-12).sqrt().unsqueeze(1)
        excess = columns.mH @ columns - torch.eye(columns.shape[2], device=columns.device)
        return torch.view_as_real(excess).square().sum(dim=(1, 2, 3))

    def cross(self, estimate: Estimate, batch: Batch) -> Tensor:
        """Return the off-diagonal part of the NMSE: Σ_{m≠n} |R̂ − R|²_mn / ‖R‖²_F, both of trace N."""
        truth = batch.factor()
        trace, _ = estimate.trace_and_norm
        diagonal = (torch.view_as_real(estimate.factor).square().sum(dim=(2, 3)) + estimate.loading.unsqueeze(1)) * (
            truth.shape[1] / trace
        ).unsqueeze(1)
        error = diagonal - torch.view_as_real(truth).square().sum(dim=(2, 3))
        gram = truth.mH @ truth
        return estimate.nmse(batch) - error.square().sum(dim=1) / torch.view_as_real(gram).square().sum(dim=(1, 2, 3))

    def gap(self, estimate: Estimate, batch: Batch) -> Tensor:
        """Return relu(0.03 − (λ_K − λ_{K+1})): eigenvalues λ of R̂ as shares of its trace, K the number of sources."""
        trace, _ = estimate.trace_and_norm
        # F Fᴴ and FᴴF have the same nonzero eigenvalues, so use the smaller one; εI shifts all of them equally.
        factor = estimate.factor
        gram = factor.mH @ factor if factor.shape[2] <= factor.shape[1] else factor @ factor.mH
        # The eigensolver raises on NaN; a non-finite scene must become a NaN loss instead.
        finite = torch.view_as_real(gram).isfinite().flatten(1).all(dim=1)
        values = torch.linalg.eigvalsh(torch.where(finite.view(-1, 1, 1), gram, 0)).flip(1) / trace.unsqueeze(1)
        values = F.pad(torch.where(finite.unsqueeze(1), values, torch.nan), (0, 1))
        K = batch.source_count.unsqueeze(1)
        return F.relu(EIGENGAP - (values.gather(1, K - 1) - values.gather(1, K)).squeeze(1))

    def K(self, estimate: Estimate, batch: Batch) -> Tensor:
        """Return the cross-entropy of the predicted number of sources."""
        logits = _head("lam_K", "source_logits", estimate.source_logits)
        return F.cross_entropy(logits, batch.source_count - 1, reduction="none")

    def subspace_align(self, estimate: Estimate, batch: Batch) -> Tensor:
        """Return the share of R̂'s power outside the sources' subspace: 1 − tr(P R̂) / tr(R̂), P = A (AᴴA)⁻¹ Aᴴ."""
        A = batch.steering * (batch.power > 0).unsqueeze(1)
        elements = A.shape[1]
        gram = A.mH @ A
        # Absent sources get a unit diagonal; the ridge avoids a division by zero for two sources at one position.
        diagonal = elements * (1e-4 + (batch.power == 0).to(A.real.dtype))
        inner = A.mH @ estimate.factor
        captured = inner @ inner.mH + estimate.loading.view(-1, 1, 1) * gram
        projected, _ = torch.linalg.solve_ex(gram + torch.diag_embed(diagonal), captured)
        trace, _ = estimate.trace_and_norm
        return 1 - projected.diagonal(dim1=1, dim2=2).real.sum(dim=1) / trace

    def peak_contrast(self, estimate: Estimate, batch: Batch) -> Tensor:
        """Return the mean of the beam spectrum aᴴR̂a over 64 fixed positions, divided by its mean over the sources."""
        present = (batch.power > 0).to(batch.power.dtype)
        at_sources = (beam_power(batch.steering.mT, estimate) * present).sum(dim=1) / present.sum(dim=1)
        return beam_power(self.background, estimate).mean(dim=1) / at_sources

    def aux(self, estimate: Estimate, batch: Batch) -> Tensor:
        """Return the mean squared error of (φ, θ, log r) over the true sources, in the best-matching order."""
        guess = _head("lam_aux", "positions", estimate.positions)
        truth = torch.stack([batch.azimuth, batch.elevation, batch.range_m.log()], dim=2)
        present = (batch.power > 0).to(truth.dtype)
        # [B, true, guessed]
        cost = (truth.unsqueeze(2) - guess.unsqueeze(1)).square().mean(dim=3) * present.unsqueeze(2)
        matched = cost[:, torch.arange(cost.shape[1], device=cost.device), self.orders]  # [B, orders, K_max]
        return matched.sum(dim=2).min(dim=1).values / present.sum(dim=1)


def beam_power(steering: Tensor, estimate: Estimate) -> Tensor:
    """Return aᴴ R̂ a for the rows a of ``steering`` [..., positions, N] -> [B, positions]."""
    return torch.view_as_real(steering.conj() @ estimate.factor).square().sum(dim=(2, 3)) + steering.shape[
        -1
    ] * estimate.loading.unsqueeze(1)


def _head(weight: str, name: str, output: Tensor | None) -> Tensor:
    if output is None:
        raise ValueError(f"{weight} must be 0, because this estimate has no {name}")
    return output
