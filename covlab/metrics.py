"""Distances between an estimate and the truth, for covariances, subspaces and positions; and scores by SNR.

All errors are per scene. The main error, the NMSE, is elsewhere: :func:`covlab.training.loss.nmse` for two matrices,
:meth:`covlab.networks.source_grid.FactoredEstimate.nmse` for an estimate, from its factors.
"""

import itertools
from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import checked
from covlab.scenes.batch import Batch
from covlab.scenes.geometry import directions
from covlab.tensor_arguments import tensor
from covlab.training.loss import normalize_trace

SNR_BINS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
MOST_SOURCES = 6


Matrices = Annotated[Tensor, tensor("B N N", "complex", finite=True)]
Guess = Annotated[Tensor, tensor("B K_max 3")]


@checked
def snr_bins(batch: Batch) -> Iterator[tuple[float, float, Tensor]]:
    """Yield the edges in dB and a mask of the scenes [B] of each SNR bin that holds any. A scene is in one bin."""
    for low, high in itertools.pairwise(SNR_BINS_DB):
        upper = batch.snr_db <= high if high == SNR_BINS_DB[-1] else batch.snr_db < high
        inside = (batch.snr_db >= low) & upper
        if inside.any():
            yield low, high, inside


@checked
def by_snr(batch: Batch, scores: Annotated[Tensor, tensor("B")]) -> list[dict[str, float]]:
    """Return a row per SNR bin: edges in dB, number of scenes, mean and median of ``scores`` [B]; no empty bins."""
    rows = []
    for low, high, mask in snr_bins(batch):
        inside = scores[mask]
        row = {"low_db": low, "high_db": high, "scenes": len(inside)}
        rows.append(row | {"mean": inside.mean().item(), "median": inside.median().item()})
    return rows


@checked
def bures_wasserstein(one: Matrices, other: Matrices) -> Tensor:
    """Return the Bures–Wasserstein distance of two covariances, both scaled to trace N first: two [B, N, N] -> [B].

    d² = tr R₁ + tr R₂ − 2 tr (R₁^½ R₂ R₁^½)^½ (Bhatia, Jain and Lim 2019). It is finite for any rank, and d is at most
    (2N)^½ here. The last trace is the sum of the singular values of F₁ᴴF₂ with R = F Fᴴ.

    Raises:
        ValueError: the shapes differ or are not [B, N, N], or a matrix is not complex or not finite.
    """
    first, second = _root(normalize_trace(one)), _root(normalize_trace(other))
    fidelity = torch.linalg.svdvals(first.mH @ second).sum(dim=1)
    return (2 * one.shape[1] - 2 * fidelity).clamp(min=0).sqrt()


def _root(R: Tensor) -> Tensor:
    """Return a factor F of R = F Fᴴ [B, N, N]; eigenvalues that rounding made negative count as zero."""
    values, vectors = torch.linalg.eigh(R)
    return vectors * values.clamp(min=0).sqrt().unsqueeze(1)


@checked
def principal_angles(
    one: Annotated[Tensor, tensor("B N p", "complex", finite=True)],
    other: Annotated[Tensor, tensor("B N q", "complex", finite=True)],
) -> Tensor:
    """Return the angles between two column spaces in radians, smallest first: [B, N, p], [B, N, q] -> [B, min(p, q)].

    Small angles come from their sines and large ones from their cosines, which keeps their digits (Björck and Golub
    1973). The columns of each must be linearly independent.
    """
    first, second = torch.linalg.qr(one).Q, torch.linalg.qr(other).Q
    if first.shape[2] < second.shape[2]:
        first, second = second, first
    cosines = torch.linalg.svdvals(first.mH @ second)
    sines = torch.linalg.svdvals(second - first @ (first.mH @ second)).flip(1)
    return torch.where(cosines**2 < 0.5, cosines.clamp(max=1).acos(), sines.clamp(max=1).asin())


@checked
def subspace_overlap(R: Matrices, batch: Batch) -> Tensor:
    """Return ‖ÛᴴU‖²_F / K for the true subspace and R's K leading eigenvectors: [B, N, N] -> [B]; chance is K/N."""
    elements = R.shape[-1]
    K = batch.source_count
    present = (batch.power > 0).unsqueeze(1)
    A = batch.steering * present
    # Absent sources get a diagonal entry, so that one solve serves every K.
    gram = A.mH @ A + torch.diag_embed(elements * (~present.squeeze(1)).to(A.real.dtype))
    _, vectors = torch.linalg.eigh((R + R.mH) / 2)
    leading = vectors * (torch.arange(elements, device=R.device) >= elements - K.unsqueeze(1)).unsqueeze(1)
    inner = A.mH @ leading
    captured = torch.linalg.solve(gram, inner @ inner.mH)
    return captured.diagonal(dim1=1, dim2=2).real.sum(dim=1) / K


def cartesian_positions(azimuth: Tensor, elevation: Tensor, range_m: Tensor) -> Tensor:
    """Return Cartesian positions in metres for (φ, θ, r) in radians and metres: [...] each -> [..., 3]."""
    return range_m.unsqueeze(-1) * directions(azimuth, elevation)


@checked
def assign(cost: Annotated[Tensor, tensor("B true guessed")]) -> tuple[Tensor, Tensor]:
    """Find the assignment of one guess to each true source that costs least, by trying all of them.

    ``cost`` [B, true, guessed] -> least total [B], and the guess of each true source [B, true].

    Raises:
        ValueError: there are fewer guesses than true sources, or more than ``MOST_SOURCES`` guesses.
    """
    true, guessed = cost.shape[1:]
    if not true <= guessed <= MOST_SOURCES:
        raise ValueError(
            f"cost must be [B, true, guessed] with true <= guessed <= {MOST_SOURCES}, got {list(cost.shape)}"
        )
    orders = torch.tensor(list(itertools.permutations(range(guessed), true)), device=cost.device)
    totals = cost[:, torch.arange(true, device=cost.device), orders].sum(dim=2)
    least, best = totals.min(dim=1)
    return least, orders[best]


@checked
def position_errors(guess: Guess, batch: Batch) -> Tensor:
    """Return the distance in metres from each true source to its guess [B, K_max]; NaN for absent sources.

    Guesses are assigned to sources so that the sum of squared errors is least.

    Args:
        guess: (φ, θ, r) in radians and metres [B, K_max, 3], in any order. NaN means no guess. It counts as the origin,
            so the error of a missed source is its range.
    """
    found = cartesian_positions(*guess.nan_to_num(0.0).unbind(dim=2))
    truth = cartesian_positions(batch.azimuth, batch.elevation, batch.range_m)
    present = batch.power > 0
    square = (truth.unsqueeze(2) - found.unsqueeze(1)).square().sum(dim=3)
    _, order = assign(square * present.unsqueeze(2))
    matched = square.gather(2, order.unsqueeze(2)).squeeze(2).sqrt()
    return torch.where(present, matched, torch.nan)


@checked
def rmspe(guess: Guess, batch: Batch) -> Tensor:
    """Return each scene's root mean square position error in metres, from :func:`position_errors` [B]."""
    return position_errors(guess, batch).square().nanmean(dim=1).sqrt()
