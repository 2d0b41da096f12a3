"""Find sources from any R: MUSIC and MVDR spectra over a grid, their peaks, and the number of sources.

Spectra need R [B, N, N] and steering vectors D [N, G] with ‖d‖² = N. They are never negative.
"""

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from covlab.arguments import Count, checked, number, one_of, sequence
from covlab.estimators.grid import coordinates_of
from covlab.networks.source_grid import Grid
from covlab.tensor_arguments import tensor

Matrices = Annotated[Tensor, tensor("B N N", "complex", finite=True)]
Steering = Annotated[Tensor, tensor("N G", "complex")]
Spectrum = Annotated[Tensor, tensor("B G", finite=True)]


@checked
def music(R: Matrices, sources: Annotated[Tensor, tensor("B", "whole")], steering: Steering) -> Tensor:
    """Return N / ‖U_nᴴ d‖² ≥ 1, U_n the noise subspace of R: [B, N, N], K [B], [N, G] -> [B, G] (Schmidt 1986).

    Raises:
        ValueError: ``sources`` holds a K that is not in 1 … N − 1.
    """
    elements, least, most = R.shape[-1], sources.min().item(), sources.max().item()
    if least < 1 or most >= elements:
        raise ValueError(f"sources must lie in 1 … {elements - 1} for R of {elements} elements, got {least} … {most}")
    _, vectors = torch.linalg.eigh((R + R.mH) / 2)
    rank = torch.arange(elements, device=R.device)
    noise = vectors * (rank < elements - sources.unsqueeze(1)).unsqueeze(1)
    residual = (noise.mH @ steering).abs().square().sum(dim=1)
    return elements / residual.clamp(min=elements * torch.finfo(residual.dtype).eps)


@checked
def mvdr(R: Matrices, steering: Steering, loading: Annotated[float, number(least=0)] = 1e-3) -> Tensor:
    """Return 1 / dᴴ(R + εI)⁻¹d: [B, N, N], [N, G] -> [B, G] (Capon 1969).

    Args:
        loading: ε as a share of the mean of R's diagonal. It must be above 0 for a covariance of rank K < N.
    """
    elements = R.shape[-1]
    level = loading * R.diagonal(dim1=1, dim2=2).real.mean(dim=1)
    loaded = (R + R.mH) / 2 + level.view(-1, 1, 1) * torch.eye(elements, device=R.device)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(loaded), steering.expand(len(R), -1, -1), upper=False)
    return 1 / white.abs().square().sum(dim=1)


@checked
def peaks(
    spectrum: Spectrum, axes: Annotated[tuple[Tensor, ...], sequence(tensor("n", finite=True), tuple)], count: Count
) -> Tensor:
    """Find the ``count`` highest local maxima of a spectrum over a product grid, highest first [B, count, len(axes)].

    A peak is at least as high as its neighbors (3 points per axis, diagonals included). Its position is refined on each
    axis by the parabola through the reciprocals of three points, since MUSIC and MVDR are reciprocals of quadratic
    forms. If a scene has fewer peaks, the rest are NaN.

    Args:
        spectrum: [B, G], where G is the product of the axes' lengths, and the last axis runs fastest.
        axes: one, two or three increasing tensors.
    """
    shape = tuple(len(axis) for axis in axes)
    if len(shape) > 3 or math.prod(shape) != spectrum.shape[1]:
        raise ValueError(f"axes must be one to three, with G = {spectrum.shape[1]} points, got lengths {shape}")
    level = spectrum.unflatten(1, shape)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(axes) - 1]
    # The pool pads with -inf, so an axis may have one point.
    is_peak = (level == pool(level.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)).flatten(1)
    heights = torch.where(is_peak, spectrum, -torch.inf)
    highest, points = heights.topk(min(count, heights.shape[1]), dim=1)
    found = []
    for position, axis in enumerate(axes):
        stride = math.prod(shape[position + 1 :])
        found.append(_parabola(1 / spectrum, points, points // stride % shape[position], axis, stride))
    result = torch.where((highest > -torch.inf).unsqueeze(2), torch.stack(found, dim=2), torch.nan)
    return F.pad(result, (0, 0, 0, count - result.shape[1]), value=torch.nan)


@checked
def locate(spectrum: Spectrum, grid: Grid, count: Count) -> Tensor:
    """Return (φ, θ, r) of the ``count`` highest peaks of a spectrum [B, G] over ``grid`` [B, count, 3], or NaN.

    Positions are in radians and metres. They are refined in sin φ, sin θ and 1/r, in which the grid is about even.

    Raises:
        ValueError: ``grid`` holds plane waves.
    """
    if grid.range_m.isinf().any():
        raise ValueError("grid must have ranges to locate sources, got a grid of plane waves")
    u, v, w = coordinates_of(grid).to(spectrum).unflatten(0, grid.shape).unbind(dim=3)
    w, v, u = peaks(spectrum, (w[:, 0, 0], v[0, :, 0], u[0, 0, :]), count).unbind(dim=2)
    return torch.stack([u.asin(), v.asin(), 1 / w], dim=2)


def _parabola(valley: Tensor, points: Tensor, index: Tensor, axis: Tensor, stride: int) -> Tensor:
    """Return where the parabola through a point and its neighbors on ``axis`` is lowest; at an end, the point."""
    if len(axis) < 3:
        return axis[index]
    inner = (index > 0) & (index < len(axis) - 1)
    middle = index.clamp(1, len(axis) - 2)
    x0, x1, x2 = axis[middle - 1], axis[middle], axis[middle + 1]
    center = points + (middle - index) * stride
    y0, y1, y2 = (valley.gather(1, center + step) for step in (-stride, 0, stride))
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    curvature = (right - left) / (x2 - x0)
    vertex = (x0 + x1) / 2 - left / (2 * curvature.clamp(min=torch.finfo(valley.dtype).tiny))
    vertex = torch.where(curvature > 0, vertex, x1).clamp(min=x0, max=x2)
    return torch.where(inner, vertex, axis[index])


@checked
def source_count(
    eigenvalues: Annotated[Tensor, tensor("B N", finite=True)],
    snapshots: Count,
    criterion: Annotated[str, one_of(("mdl", "aic"))] = "mdl",
) -> Tensor:
    """Estimate K = 0 … N − 1 from the eigenvalues [B, N] of a sample covariance -> [B] (Wax and Kailath 1985).

    This holds for L = ``snapshots`` > N snapshots of one covariance with white noise. It does not hold for snapshots
    with changing codes: the greedy estimator counts their sources by the likelihood of its own model.

    Raises:
        ValueError: ``criterion`` is neither "mdl" nor "aic", or L ≤ N.
    """
    N = eigenvalues.shape[1]
    if snapshots <= N:
        raise ValueError(f"snapshots must be more than the {N} eigenvalues, got {snapshots}")
    values = eigenvalues.sort(dim=1, descending=True).values.clamp(min=torch.finfo(eigenvalues.dtype).tiny)
    K = torch.arange(N, device=values.device)
    tail = N - K
    arithmetic = values.flip(1).cumsum(dim=1).flip(1) / tail
    geometric = values.log().flip(1).cumsum(dim=1).flip(1) / tail
    cost = snapshots * tail * (arithmetic.log() - geometric)
    penalty = K * (2 * N - K) * (0.5 * torch.log(torch.tensor(float(snapshots))) if criterion == "mdl" else 1.0)
    return (cost + penalty).argmin(dim=1)
