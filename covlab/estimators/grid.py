"""Estimators on a grid of possible sources: R̂ = D diag(p) Dᴴ with a power p ≥ 0 for each point.

They fit all powers at once; ``greedy.py`` adds one point at a time. σ² comes from the SNR. All are deterministic, and
ten times y gives a hundred times R̂.
"""

import math

import torch
from torch import Tensor

from covlab.arguments import Count, Size, checked
from covlab.estimators.classical import Channel
from covlab.estimators.likelihood import CodedSnapshots, pieces, square
from covlab.networks.model import Estimate
from covlab.networks.source_grid import DictionaryEstimate, Grid, default_grid
from covlab.scenes.batch import Batch
from covlab.scenes.geometry import steering_vectors
from covlab.scenes.scenario import Scenario


class CovarianceFit:
    """Nonnegative least squares on the grid: min Σ_l ‖y_l y_lᴴ − σ²I − Σ_g p_g d_lg d_lgᴴ‖²_F over p ≥ 0.

    Each step applies p_g ← p_g · Σ_l |d_lgᴴ y_l|² / Σ_l d_lgᴴ C_l d_lg, which always lowers the sum (Lee and Seung
    2001). ``iterations``: number of steps.
    """

    @checked
    def __init__(self, grid: Grid, iterations: Count = 30):
        self.grid, self.iterations = grid, iterations

    @checked
    def __call__(self, batch: Batch, G: Channel) -> DictionaryEstimate:
        grid, found = self.grid.to(batch.y.device), []
        for scenes in pieces(batch, G, len(grid)):
            responses = scenes.responses(grid.steering)
            data = square(responses.mH @ scenes.y).sum(dim=(1, 3))
            power = _even_power(scenes, len(grid))
            for _ in range(self.iterations):
                root = scenes.cholesky(responses, power)
                power = power * data / square(root.mH @ responses).sum(dim=(1, 2))
            found.append(power)
        return grid.estimate(torch.cat(found), torch.zeros_like(batch.snr_db))


class GridLikelihood:
    """Maximum likelihood on the grid (sparse Bayesian learning): min Σ_l log det C_l + y_lᴴ C_l⁻¹ y_l over p ≥ 0.

    Each step applies p_g ← p_g · Σ_l |d_lgᴴ C_l⁻¹ y_l|² / Σ_l d_lgᴴ C_l⁻¹ d_lg (Abeida, Zhang, Li and Merabtine 2013,
    for snapshots of one covariance). LIKES (Stoica and Babu 2012) multiplies by the square root of this factor, which
    is monotone but takes twice the steps. After a few steps only the strongest points are kept. More steps raise the
    likelihood but not the accuracy, because stopping early regularizes.

    Args:
        iterations: number of steps in all.
        full: number of steps on the whole grid.
        keep: number of points kept after those.
    """

    @checked
    def __init__(self, grid: Grid, iterations: Count = 20, full: Count = 4, keep: Count = 200):
        self.grid, self.iterations, self.full, self.keep = grid, iterations, full, min(keep, len(grid))

    @checked
    def __call__(self, batch: Batch, G: Channel) -> DictionaryEstimate:
        grid, found = self.grid.to(batch.y.device), []
        for scenes in pieces(batch, G, len(grid)):
            responses = scenes.responses(grid.steering)
            power = likelihood_steps(scenes, responses, _even_power(scenes, len(grid)), self.full)
            power, kept = power.topk(self.keep, dim=1)
            responses = responses.gather(3, kept[:, None, None, :].expand(*responses.shape[:3], -1))
            power = likelihood_steps(scenes, responses, power, self.iterations - self.full)
            found.append(torch.zeros(len(scenes), len(grid), device=power.device).scatter(1, kept, power))
        return grid.estimate(torch.cat(found), torch.zeros_like(batch.snr_db))


class RefinedGridLikelihood:
    """Maximum likelihood on a coarse grid that is refined where the power is (Malioutov, Çetin and Willsky 2005).

    It takes the steps of :class:`GridLikelihood`. After a few it splits each of the strongest points into eight, half a
    cell apart in sin φ, sin θ and 1/r, and drops the others. The spectrum is sharper than on a fixed grid of the same
    cost, but at low SNR it may be wrong.

    Args:
        levels: how many times points are split.
        steps: number of steps on each grid except the last.
        last: number of steps on the last grid.
        keep: number of points that are split.
    """

    @checked
    def __init__(self, scenario: Scenario, levels: Size = 2, steps: Count = 4, last: Count = 12, keep: Count = 60):
        self.scenario, self.levels, self.steps, self.last, self.keep = scenario, levels, steps, last, keep
        self.grid = default_grid(scenario)
        self.low, self.high = phase_bounds(scenario)
        ranges, elevations, azimuths = self.grid.shape
        self.cell = (self.high - self.low) / torch.tensor([azimuths, elevations, max(1, ranges - 1)])
        self.children = torch.cartesian_prod(*[torch.tensor([-0.25, 0.25])] * 3)

    @checked
    def __call__(self, batch: Batch, G: Channel) -> Estimate:
        found = [self._piece(scenes) for scenes in pieces(batch, G, len(self.grid))]
        return Estimate(torch.cat(found), torch.zeros_like(batch.snr_db))

    def _piece(self, scenes: CodedSnapshots) -> Tensor:
        """Return F = D diag(√p) on the last grid [B, N, A]."""
        grid, device = self.grid, scenes.y.device
        low, high, children = self.low.to(device), self.high.to(device), self.children.to(device)
        coordinates = coordinates_of(grid).to(device).expand(len(scenes), -1, -1)
        cell, steering = self.cell.to(device), grid.steering.to(device)
        power = likelihood_steps(scenes, scenes.responses(steering), _even_power(scenes, len(grid)), self.steps)
        for level in range(1, self.levels + 1):
            power, kept = power.topk(min(self.keep, power.shape[1]), dim=1)
            centers = coordinates.gather(1, kept.unsqueeze(2).expand(-1, -1, 3)).unsqueeze(2)
            coordinates = (centers + children * cell).clamp(low, high).flatten(1, 2)
            power, cell = (power / len(children)).repeat_interleave(len(children), dim=1), cell / 2
            steering = steering_at(self.scenario, coordinates).mT
            steps = self.last if level == self.levels else self.steps
            power = likelihood_steps(scenes, scenes.responses(steering), power, steps)
        return steering * power.sqrt().unsqueeze(1)


def likelihood_steps(scenes: CodedSnapshots, responses: Tensor, power: Tensor, steps: int) -> Tensor:
    """Improve the powers [B, A] by ``steps`` multiplicative steps towards maximum likelihood; return them."""
    for _ in range(steps):
        T, _ = scenes.whitener(responses, power)
        white = T @ responses
        power = power * square(white.mH @ (T @ scenes.y)).sum(dim=(1, 3)) / square(white).sum(dim=(1, 2))
    return power


def phase_bounds(scenario: Scenario) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest (sin φ, sin θ, 1/r) of the scenario's sources, [3] each."""
    (a, b), (c, d), (near, far) = scenario.azimuth, scenario.elevation, scenario.range_m
    return torch.tensor([math.sin(a), math.sin(c), 1 / far]), torch.tensor([math.sin(b), math.sin(d), 1 / near])


def coordinates_of(points: Batch | Grid) -> Tensor:
    """Return (sin φ, sin θ, 1/r) of a batch's sources [B, K_max, 3], or of a grid's points [G, 3]."""
    return torch.stack([points.azimuth.sin(), points.elevation.sin(), 1 / points.range_m], dim=-1)


def steering_at(scenario: Scenario, coordinates: Tensor) -> Tensor:
    """Return the steering vectors at (sin φ, sin θ, 1/r) [..., 3] -> [..., N]."""
    u, v, w = coordinates.unbind(dim=-1)
    return steering_vectors(scenario, u.asin(), v.asin(), 1 / w)


def _even_power(scenes: CodedSnapshots, points: int) -> Tensor:
    """Spread the snapshots' power evenly over the points [B, A]."""
    return (scenes.power / points).unsqueeze(1).expand(-1, points)
