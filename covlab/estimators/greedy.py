"""Estimators that name their sources: greedy maximum likelihood on the grid and off it, and the genie's."""

import math

import torch
from torch import Tensor

from covlab.estimators.grid import phase_bounds, steering_at
from covlab.estimators.likelihood import CodedSnapshots, pieces, square
from covlab.networks.model import Estimate
from covlab.networks.source_grid import default_grid
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import Scenario

STRAYS = 1e-6
"""The least power of a source, in shares of the snapshots' power: an absent one keeps a derivative."""


class MatchingPursuit:
    """Greedy maximum likelihood on the grid: covariance learning by orthogonal matching pursuit (Ollila 2024), for
    coded snapshots.

    Source by source, the grid point that raises the likelihood most at its own best power is taken, and the powers of
    all sources taken so far are fitted anew. K is where −log likelihood + 2 K log(L M) is least (BIC: four real numbers
    a source, L M complex samples).
    """

    off_grid = False

    def __init__(self, scenario: Scenario, step: float | None = None, scoring_steps: int = 6):
        self.scenario, self.scoring_steps = scenario, scoring_steps
        self.grid = default_grid(scenario, step=step)

    def __call__(self, batch: Batch, G: Tensor) -> Estimate:
        found = [self._piece(CodedSnapshots(piece, G)) for piece in pieces(batch, len(self.grid))]
        coordinates, power = (torch.cat(column) for column in zip(*found, strict=True))
        factor = steering_at(self.scenario, coordinates).mT * power.sqrt().unsqueeze(1)
        u, v, w = coordinates.unbind(dim=2)
        positions = torch.stack([u.asin(), v.asin(), -w.log()], dim=2)
        positions = torch.where((power > 0).unsqueeze(2), positions, torch.nan)
        return Estimate(factor, torch.zeros_like(batch.snr_db), positions=positions)

    def _piece(self, scenes: CodedSnapshots) -> tuple[Tensor, Tensor]:
        """(sin φ, sin θ, 1/r) [B, K_max, 3] and powers [B, K_max], 0 for the sources that do not pay."""
        B, (L, M), most = len(scenes), scenes.y.shape[1:3], self.scenario.max_sources
        grid = torch.stack([self.grid.azimuth.sin(), self.grid.elevation.sin(), 1 / self.grid.range_m], dim=1).to(
            scenes.y.device
        )
        responses = scenes.responses(self.grid.steering.to(scenes.y.device))
        coordinates, power = grid.new_zeros(B, 0, 3), grid.new_zeros(B, 0)
        best = torch.full_like(scenes.noise, torch.inf)  # there is at least one source
        chosen, chosen_power = grid.new_ones(B, most, 3), grid.new_zeros(B, most)
        for K in range(1, most + 1):
            taken = scenes.responses(steering_at(self.scenario, coordinates).mT) if K > 1 else responses[..., :0]
            point, added = best_point(scenes, responses, taken, power)
            coordinates = torch.cat([coordinates, grid[point].unsqueeze(1)], dim=1)
            power = torch.cat([power, added.unsqueeze(1)], dim=1)
            coordinates, power, cost = scoring(
                scenes, self.scenario, coordinates, power, self.scoring_steps, move_positions=self.off_grid
            )
            cost = cost + 2 * K * math.log(L * M)
            better = cost < best
            best = torch.where(better, cost, best)
            chosen[:, :K] = torch.where(better.view(-1, 1, 1), coordinates, chosen[:, :K])
            chosen_power[:, :K] = torch.where(better.view(-1, 1), power, chosen_power[:, :K])
        return chosen, chosen_power


class GreedyLikelihood(MatchingPursuit):
    """Greedy maximum likelihood off the grid: as :class:`MatchingPursuit`, but after each new source all places and
    powers are refined together.

    Refined by Fisher scoring of (sin φ, sin θ, 1/r, log p), damped, within the scenario's ranges. ``positions`` of the
    estimate holds the sources; NaN where fewer than K_max were found.
    """

    off_grid = True


class Genie:
    """Reads the truth: the true places of the sources are given, and only their powers are estimated, by maximum
    likelihood.

    A yardstick and no estimator: what is left is the error that L snapshots' symbols make. (Whoever shrinks powers
    towards what scenes are drawn from may do a little better at high SNR.)
    """

    def __init__(self, scenario: Scenario, scoring_steps: int = 10):
        self.scenario, self.scoring_steps = scenario, scoring_steps

    def __call__(self, batch: Batch, G: Tensor) -> Estimate:
        scenes = CodedSnapshots(batch, G)
        present = (batch.power > 0).to(batch.power.dtype)
        power = present * (scenes.power / present.sum(dim=1)).unsqueeze(1)
        coordinates = torch.stack([batch.azimuth.sin(), batch.elevation.sin(), 1 / batch.range_m], dim=2)
        _, power, _ = scoring(scenes, self.scenario, coordinates, power, self.scoring_steps, move_positions=False)
        return Estimate(batch.steering * (power * present).sqrt().unsqueeze(1), torch.zeros_like(batch.snr_db))


def best_point(scenes: CodedSnapshots, responses: Tensor, taken: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """The grid point that lowers the cost most beside the sources already taken, and its power [B] each.

    A source of power γ at point g changes the cost by Σ_l log(1 + γ s_l) − γ q_l / (1 + γ s_l), with s_l = dᴴC_l⁻¹d and
    q_l = |dᴴC_l⁻¹y_l|². Its least is found by a few scoring steps in γ ≥ 0, for all points at once.
    """
    T, _ = scenes.whitener(taken, power)
    white = T @ responses
    s, q = square(white).sum(dim=2), square(white.mH @ (T @ scenes.y)).squeeze(3)  # [B, L, G]
    gamma = ((q - s).sum(dim=1) / (s * s).sum(dim=1)).clamp(min=0)
    for _ in range(4):
        share = s / (1 + gamma.unsqueeze(1) * s)
        slope = (share - q * (share / s) ** 2).sum(dim=1)
        gamma = (gamma - slope / (share * share).sum(dim=1)).clamp(min=0)
    gain = 1 + gamma.unsqueeze(1) * s
    change = (gain.log() - gamma.unsqueeze(1) * q / gain).sum(dim=1)
    point = change.argmin(dim=1)
    added = gamma.gather(1, point.unsqueeze(1)).squeeze(1)
    return point, torch.maximum(added, STRAYS * scenes.power)


def information(
    scenes: CodedSnapshots, scenario: Scenario, coordinates: Tensor, power: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the cost, Fisher information and cost at (sin φ, sin θ, 1/r, log p), σ² known.

    ∂C_l/∂θ_i = x_i d_kᴴ + d_k x_iᴴ, with x_i = p_k ∂d_k/∂θ_i for a coordinate of the place and x_i = p_k d_k / 2 for
    log p_k. After whitening, the gradient is Σ_l tr ∂C − zᴴ ∂C z and the information Σ_l tr(∂C_i ∂C_j).

    Args:
        coordinates: [B, K, 3].
        power: [B, K].

    Returns:
        [B, 4K], [B, 4K, 4K], [B]; the four numbers of a source stand together.
    """
    _B, _K = power.shape
    along = [
        torch.zeros_like(coordinates).index_fill(2, torch.tensor(axis, device=coordinates.device), 1.0)
        for axis in range(3)
    ]

    def steer(at: Tensor) -> Tensor:
        return torch.view_as_real(steering_at(scenario, at))

    steering = steering_at(scenario, coordinates)
    slopes = [torch.view_as_complex(torch.func.jvp(steer, (coordinates,), (direction,))[1]) for direction in along]
    stack = torch.stack([*slopes, steering / 2], dim=2) * power[:, :, None, None]  # [B, K, 4, N]
    d = scenes.responses(steering.mT)
    T, log_det = scenes.whitener(d, power)
    w, z = T @ d, T @ scenes.y
    x = T @ scenes.responses(stack.flatten(1, 2).mT)  # [B, L, M, 4K]
    w = w.repeat_interleave(4, dim=3)
    gradient = 2 * ((x.conj() * w).sum(dim=2) - (x.mH @ z).squeeze(3) * (w.mH @ z).squeeze(3).conj()).real.sum(dim=1)
    cross, like = w.mH @ x, (w.mH @ w) * (x.mH @ x).mT
    fisher = 2 * (cross * cross.mT + like).real.sum(dim=1)
    return gradient, fisher, log_det + square(z).sum(dim=(1, 2, 3))


def scoring(
    scenes: CodedSnapshots, scenario: Scenario, coordinates: Tensor, power: Tensor, steps: int, move_positions: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Damped Fisher scoring of powers [B, K] and, with ``move_positions``, of coordinates [B, K, 3]; also the cost
    reached [B].

    A step that does not lower a scene's cost is not taken, and damps the next one more (Levenberg and Marquardt).
    """
    low, high = (bound.to(coordinates) for bound in phase_bounds(scenario))
    floor = (STRAYS * scenes.power).clamp(min=torch.finfo(power.dtype).tiny).unsqueeze(1)
    damping = torch.full_like(scenes.noise, 1e-2)
    power = torch.maximum(power, floor)
    gradient, fisher, cost = information(scenes, scenario, coordinates, power)
    for _ in range(steps):
        moved = _step(gradient, fisher, damping, move_positions).unflatten(1, (-1, 4))
        there = (coordinates + moved[..., :3]).clamp(low, high) if move_positions else coordinates
        louder = torch.maximum(power * moved[..., 3].clamp(-2, 2).exp(), floor)
        trial = information(scenes, scenario, there, louder)
        better = trial[2] < cost
        coordinates = torch.where(better.view(-1, 1, 1), there, coordinates)
        power = torch.where(better.view(-1, 1), louder, power)
        gradient = torch.where(better.view(-1, 1), trial[0], gradient)
        fisher = torch.where(better.view(-1, 1, 1), trial[1], fisher)
        cost = torch.where(better, trial[2], cost)
        damping = torch.where(better, damping / 5, damping * 8).clamp(1e-5, 1e5)
    return coordinates, power, cost


def _step(gradient: Tensor, fisher: Tensor, damping: Tensor, move_positions: bool) -> Tensor:
    """−(F + μ diag F)⁻¹ g, in units in which diag F = 1; without ``move_positions`` only the powers move."""
    moves = torch.arange(gradient.shape[1], device=gradient.device) % 4 == 3
    moves = moves | move_positions
    scale = fisher.diagonal(dim1=1, dim2=2).clamp(min=1e-12).rsqrt() * moves
    scaled = fisher * scale.unsqueeze(1) * scale.unsqueeze(2)
    loading = damping.unsqueeze(1) + 1e-6 + (~moves).to(scale.dtype)
    return -scale * torch.linalg.solve(scaled + torch.diag_embed(loading.expand_as(scale)), scale * gradient)
