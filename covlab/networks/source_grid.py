"""A grid of possible sources, and the covariance of sources with given powers on it: R̂ = D diag(p) Dᴴ + εI."""

import math
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import checked, number
from covlab.scenes.batch import Batch
from covlab.scenes.geometry import ris_positions, steering_vectors
from covlab.scenes.scenario import Scenario
from covlab.tensor_arguments import anywhere, tensor

MOST_POINTS = 2**20


@checked
def default_step(scenario: Scenario) -> float:
    """Return the RMS phase in radians between neighbors on the default grid. At `full` it is coarser, to save time.

    :class:`covlab.networks.unrolled.UnrolledNet` has an even coarser grid there, because its sources leave it.
    """
    return 0.9 if scenario.name == "full" else 0.6


class Grid:
    """The product of some ranges, elevations and azimuths, numbered in this order (azimuth runs fastest).

    Args:
        scenario: the array that receives.
        azimuths: φ in radians [n_φ].
        elevations: θ in radians [n_θ].
        ranges: r in metres [n_r]; None: plane waves from those directions, even if the scenario has spherical waves.

    Attributes:
        shape: (n_r, n_θ, n_φ); n_r = 1 for plane waves. The product of the three is G, the number of points.
        azimuth, elevation, range_m: of every point [G]; the range of a plane wave is inf.
        steering: D, complex64, one column per point, ‖d‖² = N [N, G].

    Raises:
        ValueError: an axis is not 1-D, is empty, or holds an angle beyond ±π/2 or a range that is not above 0, or
            there are more than ``MOST_POINTS`` points.
    """

    @checked
    def __init__(
        self,
        scenario: Scenario,
        azimuths: Annotated[Tensor, tensor("azimuths", finite=True)],
        elevations: Annotated[Tensor, tensor("elevations", finite=True)],
        ranges: Annotated[Tensor | None, tensor("ranges", finite=True).or_none("plane waves")],
    ):
        self.scenario = scenario if ranges is not None else replace(scenario, near_field=False)
        ranges = torch.tensor([math.inf], dtype=torch.float64) if ranges is None else ranges.double()
        for name, axis, valid in (
            ("azimuths", azimuths, azimuths.abs() <= math.pi / 2),
            ("elevations", elevations, elevations.abs() <= math.pi / 2),
            ("ranges", ranges, ranges > 0),
        ):
            if not valid.all():
                raise ValueError(f"{name} must hold angles within ±π/2, or ranges above 0, got {axis[~valid][0]:g}")
        self.shape = (len(ranges), len(elevations), len(azimuths))
        if len(self) > MOST_POINTS:
            raise ValueError(f"azimuths, elevations and ranges must make at most {MOST_POINTS} points, got {len(self)}")
        points = torch.meshgrid(ranges, elevations.double(), azimuths.double(), indexing="ij")
        r, theta, phi = (axis.reshape(-1) for axis in points)
        self.steering = steering_vectors(self.scenario, phi, theta, r).T.contiguous().to(torch.complex64)
        self.azimuth, self.elevation, self.range_m = phi.float(), theta.float(), r.float()

    def __len__(self) -> int:
        """G, the number of points."""
        return math.prod(self.shape)

    @property
    def axis_lengths(self) -> dict[str, int]:
        return {"G": len(self), "N": len(self.steering)}

    @checked
    def to(self, device: Annotated[str | torch.device, anywhere]) -> "Grid":
        """Return the grid with its tensors on ``device``: itself if they are there already."""
        if self.steering.device == torch.device(device):
            return self
        moved = copy(self)
        vars(moved).update({name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)})
        return moved

    @cached_property
    def overlap(self) -> Tensor:
        """|DᴴD|² of each element: the inner product ⟨d_g d_gᴴ, d_h d_hᴴ⟩ of any two points [G, G]."""
        # All columns at once would take three times the memory of the result.
        return torch.cat([(columns.mH @ self.steering).abs().square() for columns in self.steering.split(1024, dim=1)])

    @checked
    def estimate(
        self, power: Annotated[Tensor, tensor("B G")], loading: Annotated[Tensor, tensor("B")]
    ) -> "DictionaryEstimate":
        """Return R̂ = D diag(p) Dᴴ + εI for ``power`` p ≥ 0 [B, G] and ``loading`` ε ≥ 0 [B]."""
        return DictionaryEstimate(self, power, loading)


@checked
def default_grid(
    scenario: Scenario,
    near: bool = True,
    step: Annotated[float | None, number(above=0).or_none("the default")] = None,
) -> Grid:
    """Make a grid over all positions that ``scenario`` draws; of plane waves unless ``near`` and its near field are on.

    It is even in sin φ, sin θ and 1/r, in which the phase of a steering vector is about linear. Neighbors along any
    axis differ in phase by at most ``step`` radians RMS over the aperture (seen from broadside, up to a common phase),
    so |d_gᴴd_h|²/N² ≈ exp(−step²). ``step`` None: :func:`default_step`. Angles are the centers of their cells; ranges
    include both ends, since most sources are far away.

    Raises:
        ValueError: ``step`` is not positive, or so small that there are more than ``MOST_POINTS`` points.
    """
    step = default_step(scenario) if step is None else step
    _, y, z = ris_positions(scenario).T
    k = scenario.wavenumber

    def cells(slope: Tensor, low: float, high: float) -> int:
        """Return how many steps go from low to high, if a change of 1 turns the phase of element n by ``slope[n]``."""
        count = (high - low) * slope.std(correction=0).item() / step - 1e-9
        if count > MOST_POINTS:
            raise ValueError(f"step must leave at most {MOST_POINTS} points in the grid, got {step!r}")
        return max(1, math.ceil(count))

    def angles(bounds: tuple[float, float], slope: Tensor) -> Tensor:
        low, high = map(math.sin, bounds)
        count = cells(slope, low, high)
        return (low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count).asin()

    near_end, far_end = scenario.range_m
    count = cells(k * (y**2 + z**2) / 2, 1 / far_end, 1 / near_end)
    ranges = 1 / torch.linspace(1 / far_end, 1 / near_end, count + 1, dtype=torch.float64)
    azimuths, elevations = angles(scenario.azimuth, k * y), angles(scenario.elevation, k * z)
    return Grid(scenario, azimuths, elevations, ranges if near and scenario.near_field else None)


def trace(matrix: Tensor) -> Tensor:
    """Return the real part of the trace of each matrix [B, n, n] -> [B]."""
    return matrix.diagonal(dim1=1, dim2=2).real.sum(dim=1)


def squared_norm(matrix: Tensor) -> Tensor:
    """Return the squared Frobenius norm of each complex matrix [B, n, m] -> [B]."""
    return torch.view_as_real(matrix).square().sum(dim=(1, 2, 3))


class FactoredEstimate:
    """An estimate R̂ = S + εI. Its trace, norm and error are computed without forming an N×N matrix for each scene."""

    loading: Tensor  #: ε ≥ 0 [B]

    def signal_moments(self) -> tuple[int, Tensor, Tensor]:
        """Return N, tr(S) [B] and ‖S‖²_F [B]."""
        raise NotImplementedError

    def signal_inner(self, truth: Tensor) -> Tensor:
        """Return ⟨S, T Tᴴ⟩ for T = ``truth`` [B, N, K] -> [B]."""
        raise NotImplementedError

    @cached_property
    def trace_and_norm(self) -> tuple[Tensor, Tensor]:
        """tr(R̂) and ‖R̂‖_F [B] each."""
        N, signal, square = self.signal_moments()
        square = square + 2 * self.loading * signal + N * self.loading**2
        return signal + N * self.loading, square.sqrt()

    @checked
    def nmse(self, batch: Batch) -> Tensor:
        """Return ``loss.nmse(self.covariance(), batch.covariance())``, computed from the factors [B].

        With R̂ scaled to trace N and R = T Tᴴ, the squared error is ‖R̂‖² − 2⟨R̂, R⟩ + ‖R‖².
        """
        truth = batch.factor()
        R_trace, norm = self.trace_and_norm
        scale = truth.shape[1] / R_trace
        gram = truth.mH @ truth
        inner = self.signal_inner(truth) + self.loading * trace(gram)
        truth_square = squared_norm(gram)
        return ((scale * norm) ** 2 - 2 * scale * inner + truth_square) / truth_square


@dataclass(frozen=True)
class DictionaryEstimate(FactoredEstimate):
    """An estimate R̂ = D diag(p) Dᴴ + εI: nonnegative powers on a grid.

    It has the methods of :class:`covlab.networks.model.Estimate`, except ``blend``.
    """

    grid: Grid
    power: Tensor  #: p ≥ 0 [B, G]
    loading: Tensor  #: ε ≥ 0 [B]

    source_logits = None
    positions = None
    stages = ()

    @property
    def axis_lengths(self) -> dict[str, int]:
        return {"B": len(self.power), "N": len(self.grid.steering)}

    @property
    def device(self) -> torch.device:
        return self.power.device

    @property
    def prediction(self) -> "DictionaryEstimate":
        """The estimate itself, because it is never a blend."""
        return self

    @property
    def factor(self) -> Tensor:
        """F with R̂ = F Fᴴ + εI, for loss terms that need it [B, N, G]. It is wide, so it is not stored."""
        return self.grid.steering * self.power.sqrt().unsqueeze(1)

    def covariance(self) -> Tensor:
        """Form R̂ [B, N, N]."""
        D = self.grid.steering
        return (D * self.power.unsqueeze(1)) @ D.mH + self.loading.view(-1, 1, 1) * torch.eye(len(D), device=D.device)

    def signal_moments(self) -> tuple[int, Tensor, Tensor]:
        """Return N, N Σ p [B] and ‖D diag(p) Dᴴ‖² = pᵀ|DᴴD|²p [B]."""
        N = len(self.grid.steering)
        return N, N * self.power.sum(dim=1), torch.einsum("bg,bg->b", self.power @ self.grid.overlap, self.power)

    def signal_inner(self, truth: Tensor) -> Tensor:
        """Return Σ_g p_g ‖d_gᴴT‖² [B]."""
        # One product for the whole batch. The sum over sources and over real and imaginary parts avoids a copy.
        along = (truth.mT.flatten(0, 1) @ self.grid.steering.conj()).unflatten(0, (len(truth), -1))
        return torch.einsum("bg,bg->b", self.power, torch.view_as_real(along).square().sum(dim=(1, 3)))
