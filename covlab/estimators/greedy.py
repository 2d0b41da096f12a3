"""Estimators of the sources themselves: greedy maximum likelihood on the grid and off it, and the genie."""

import math

import torch
from torch import Tensor

from covlab.arguments import Count, checked
from covlab.estimators.classical import Channel
from covlab.estimators.grid import coordinates_of, phase_bounds, steering_at
from covlab.estimators.likelihood import CodedSnapshots, pieces, square
from covlab.networks.model import Estimate
from covlab.networks.source_grid import default_grid
from covlab.scenes.batch import Batch, check_finite
from covlab.scenes.scenario import Scenario

STRAYS = 1e-6
"""The least power of a source, as a share of the snapshots' power. At power 0, the derivatives would be zero too."""


class MatchingPursuit:
    """Covariance learning by orthogonal matching pursuit (Ollila 2024), for coded snapshots: greedy, on the grid.

    Each new source is at the grid point that raises the likelihood most, at the best power for that point. Then the
    powers of all sources so far are fitted again. K minimizes −log likelihood + 2 K log(L M) (BIC: four real numbers
    per source, L M complex samples). ``positions`` of the estimate are NaN after the first K.
    """

    off_grid = False

    @checked
    def __init__(self, scenario: Scenario, scoring_steps: Count = 6):
        self.scenario, self.scoring_steps, self.grid = scenario, scoring_steps, default_grid(scenario)

    @checked
    def __call__(self, batch: Batch, G: Channel) -> Estimate:
        found = [self._piece(scenes) for scenes in pieces(batch, G, len(self.grid))]
        coordinates, power = (torch.cat(column) for column in zip(*found, strict=True))
        factor = steering_at(self.scenario, coordinates).mT * power.sqrt().unsqueeze(1)
        u, v, w = coordinates.unbind(dim=2)
        positions = torch.stack([u.asin(), v.asin(), -w.log()], dim=2)
        positions = torch.where((power > 0).unsqueeze(2), positions, torch.nan)
        return Estimate(factor, torch.zeros_like(batch.snr_db), positions=positions)

    def _piece(self, scenes: CodedSnapshots) -> tuple[Tensor, Tensor]:
        """Return (sin φ, sin θ, 1/r) [B, K_max, 3] and powers [B, K_max], which are 0 beyond the K-th source."""
        B, (L, M), most = len(scenes), scenes.y.shape[1:3], self.scenario.max_sources
        grid = coordinates_of(self.grid).to(scenes.y.device)
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
    """Like :class:`MatchingPursuit`, but after each new source, improve all positions and powers.

    This is damped Fisher scoring of (sin φ, sin θ, 1/r, log p), within the scenario's ranges.
    """

    off_grid = True


class Genie:
    """A reference that reads the true positions of the sources, and estimates their powers by maximum likelihood.

    Its remaining error comes from the random symbols and noise of L snapshots. (Shrinking the powers towards the
    scenario's range may give a slightly smaller error at high SNR.)
    """

    @checked
    def __init__(self, scenario: Scenario, scoring_steps: Count = 10):
        self.scenario, self.scoring_steps = scenario, scoring_steps

    @checked
    def __call__(self, batch: Batch, G: Channel) -> Estimate:
        check_finite(batch, ("power", "steering"))
        scenes = CodedSnapshots(batch, G)
        present = (batch.power > 0).to(batch.power.dtype)
        power = present * (scenes.power / present.sum(dim=1)).unsqueeze(1)
        _, power, _ = scoring(
            scenes, self.scenario, coordinates_of(batch), power, self.scoring_steps, move_positions=False
        )
        return Estimate(batch.steering * (power * present).sqrt().unsqueeze(1), torch.zeros_like(batch.snr_db))


def best_point(scenes: CodedSnapshots, responses: Tensor, taken: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """Find the grid point where one more source lowers the cost most, and its power [B] each.

    A source of power γ at point g changes the cost by Σ_l log(1 + γ s_l) − γ q_l / (1 + γ s_l), with s_l = dᴴC_l⁻¹d and
    q_l = |dᴴC_l⁻¹y_l|². A few scoring steps in γ ≥ 0 minimize it, for all points at once.
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
    """Return the gradient of the cost Σ_l log det C_l + y_lᴴ C_l⁻¹ y_l, the Fisher information, and the cost.

    Its parameters are (sin φ, sin θ, 1/r, log p) of each source; σ² is known. The derivative of C_l by parameter i, of
    source k, is ∂C_i = x_i d_kᴴ + d_k x_iᴴ, where x_i is p_k ∂d_k for a coordinate and p_k d_k / 2 for log p_k. After
    whitening (z is the whitened y_l), the gradient is Σ_l tr ∂C_i − zᴴ ∂C_i z, the information Σ_l tr(∂C_i ∂C_j).

    Args:
        coordinates: (sin φ, sin θ, 1/r) [B, K, 3].
        power: p [B, K].

    Returns:
        [B, 4K], [B, 4K, 4K] and [B]; the four parameters of a source are next to each other.
    """

    def steer(at: Tensor) -> Tensor:
        return torch.view_as_real(steering_at(scenario, at))

    steering = steering_at(scenario, coordinates)
    along = torch.eye(3, dtype=coordinates.dtype, device=coordinates.device).expand(*coordinates.shape, 3).unbind(-1)
    slopes = [torch.view_as_complex(torch.func.jvp(steer, (coordinates,), (axis,))[1]) for axis in along]
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
    """Improve powers [B, K] and, with ``move_positions``, coordinates [B, K, 3]; return both and the cost [B].

    This is damped Fisher scoring (Levenberg and Marquardt). A scene takes a step only if that lowers its cost;
    otherwise its next step is damped more.
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
    """Return −(F + μ diag F)⁻¹ g, in units in which diag F = 1; without ``move_positions`` only the powers move."""
    moves = (torch.arange(gradient.shape[1], device=gradient.device) % 4 == 3) | move_positions
    scale = fisher.diagonal(dim1=1, dim2=2).clamp(min=1e-12).rsqrt() * moves
    scaled = fisher * scale.unsqueeze(1) * scale.unsqueeze(2)
    loading = damping.unsqueeze(1) + 1e-6 + (~moves).to(scale.dtype)
    return -scale * torch.linalg.solve(scaled + torch.diag_embed(loading.expand_as(scale)), scale * gradient)
