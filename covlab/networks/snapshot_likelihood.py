"""The likelihood of snapshots for sources at any position, with its derivatives and Fisher information; G is known.

The model is y_l ~ CN(0, S_l) with S_l = Σ_k p_k e_lk e_lkᴴ + ε G Gᴴ + σ²I and e_lk = G diag(c_l) a(x_k): the wave
from a source of power p_k at position x_k, as it arrives in snapshot l. Positions are (sin φ, sin θ, 1/r) in cells of
a grid. In these coordinates the phase of a steering vector is about linear, and steps of 1 are about equally large.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from covlab.networks.source_grid import Grid
from covlab.scenes.geometry import phasors, ris_positions
from covlab.scenes.scenario import Scenario

TRIED_POWERS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Powers of one more source, as shares of the total."""


class GridCoordinates(nn.Module):
    """Positions as (sin φ, sin θ, 1/r) in cells of an even ``grid``, such as ``default_grid`` makes.

    Attributes:
        cell: size of a cell in sin φ, sin θ and 1/r, the last in 1/m [3].
        points: the grid's points in these coordinates [3, G].
        low, high: limits of the positions that ``scenario`` draws [3, 1].
    """

    elements: Tensor
    cell: Tensor
    points: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, scenario: Scenario, grid: Grid):
        super().__init__()
        self.wavenumber, self.shape = scenario.wavenumber, grid.shape
        points = torch.stack([grid.azimuth.double().sin(), grid.elevation.double().sin(), 1 / grid.range_m.double()])
        counts = torch.tensor(grid.shape[::-1])
        # An axis of one point has cells of size 0, so nothing moves along it (plane waves have no range).
        cell = (points[:, -1] - points[:, 0]) / (counts - 1).clamp(min=1)
        unit = cell.where(counts > 1, 1.0).unsqueeze(1)
        reach = [1 / r if grid.scenario.near_field else 0.0 for r in scenario.range_m]
        ends = [(math.sin(scenario.azimuth[i]), math.sin(scenario.elevation[i]), reach[1 - i]) for i in (0, 1)]
        constants = {
            "elements": ris_positions(scenario)[:, 1:],  # y and z; x is 0
            "cell": cell,
            "points": points / unit,
            "low": torch.tensor(ends[0], dtype=torch.float64).unsqueeze(1) / unit,
            "high": torch.tensor(ends[1], dtype=torch.float64).unsqueeze(1) / unit,
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant.float(), persistent=False)

    def clamp(self, positions: Tensor) -> Tensor:
        """Move ``positions`` [B, 3, P] to the nearest positions that the scenario draws: [B, 3, P]."""
        return torch.minimum(torch.maximum(positions, self.low), self.high)

    def nearest(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices of the grid points nearest to ``positions`` [B, 3, P], and of their directions: [B, P]."""
        steps = (positions - self.points[:, :1]).round().unbind(1)
        azimuth, elevation, r = (step.clamp(0, n - 1).long() for step, n in zip(steps, self.shape[::-1], strict=True))
        direction = elevation * self.shape[2] + azimuth
        return r * self.shape[1] * self.shape[2] + direction, direction

    def parameters_of(self, positions: Tensor) -> Tensor:
        """Return (φ, θ, log r) of ``positions`` [B, 3, P] -> [B, P, 3], in radians and metres; r is at most 1 km."""
        s, v, w = (positions * self.cell.unsqueeze(1)).unbind(1)
        return torch.stack([s.asin(), v.asin(), -w.clamp(min=1e-3).log()], dim=2)

    def steering(self, positions: Tensor) -> Tensor:
        """Return the steering vectors of ``positions`` [B, 3, P] -> complex [B, N, P]."""
        return phasors(self._path(positions)[0])

    def steering_and_slopes(self, positions: Tensor) -> Tensor:
        """Return the steering vectors of ``positions`` [B, 3, P] and their three derivatives, complex [B, N, 4, P]."""
        phase, h, path, square, along, by_s, by_v, w = self._path(positions)
        by_w = (square - path * (w * square - along) / h) / (h + 1)
        slopes = torch.stack([-by_s / h, -by_v / h, by_w], dim=2) * self.cell.view(3, 1)
        wave = phasors(phase).unsqueeze(2)
        return torch.cat([wave, wave * torch.complex(torch.zeros_like(slopes), -self.wavenumber * slopes)], dim=2)

    def _path(self, positions: Tensor) -> tuple[Tensor, ...]:
        s, v, w = (positions * self.cell.unsqueeze(1)).unsqueeze(2).unbind(1)  # [B, 1, P] each
        y, z = self.elements.unsqueeze(2).unbind(1)  # [N, 1] each
        flat = (1 - v * v).clamp(min=1e-6).sqrt()
        along, square = flat * s * y + v * z, y * y + z * z
        h = (1 + w * w * square - 2 * w * along).sqrt()
        path = (w * square - 2 * along) / (h + 1)  # ‖p − q‖ − ‖p‖ = (h − 1)/w, without loss of digits
        return -self.wavenumber * path, h, path, square, along, flat * y, z - v / flat * s * y, w


class Explained(NamedTuple):
    """What P sources explain of the snapshots."""

    precision: Tensor  #: S_l⁻¹ [B, L, M, M]
    waves: Tensor  #: e_liᴴ S_l⁻¹ e_lj of sources i and j, complex [B, L, P, P]
    heard: Tensor  #: e_liᴴ S_l⁻¹ y_l, complex [B, L, P]

    @property
    def fit(self) -> Tensor:
        """log of Σ_l |e_lᴴ S_l⁻¹ y_l|² / Σ_l e_lᴴ S_l⁻¹ e_l (its expectation); about 0 at the correct power [B, P]."""
        expected = self.waves.diagonal(dim1=2, dim2=3).real.sum(dim=1)
        return ((torch.view_as_real(self.heard).square().sum(dim=(1, 3)) + 1e-3) / (expected + 1e-3)).log()


class LikelihoodSlope(NamedTuple):
    """Derivatives of the log-likelihood ℓ = −Σ_l (log det S_l + y_lᴴ S_l⁻¹ y_l) in (log p, x) of P sources."""

    score: Tensor  #: ∂ℓ/∂ log p, then ∂ℓ/∂x for each coordinate [B, 4, P]
    information: Tensor  #: Fisher information E[score scoreᵀ], in the order of ``score`` [B, 4P, 4P]


class Elimination(NamedTuple):
    """P sources, removed one by one: each time the one whose removal costs the least likelihood."""

    alone: Tensor  #: what ℓ loses if only this source is removed [B, P]
    in_turn: Tensor  #: what ℓ loses when this source is removed in its turn [B, P]
    turn: Tensor  #: 0 for the source that is removed first, P − 1 for the last [B, P]


class SnapshotLikelihood:
    """Snapshots with a known channel, scaled to a total source power of about 1.

    Args:
        G: the channel, complex [M, N].
        y: snapshots [B, L, M, 2].
        codes: RIS codes [B, L, N, 2].
        snr_db: signal-to-noise ratio in dB [B].

    Attributes:
        y: the scaled snapshots, complex [B, L, M].
        noise: σ² on this scale [B].
    """

    def __init__(self, G: Tensor, y: Tensor, codes: Tensor, snr_db: Tensor):
        snr = 10 ** (snr_db / 10)
        y = torch.view_as_complex(y.contiguous())
        signal = y.abs().square().mean(dim=(1, 2)) * snr / (1 + snr)
        self.y, self.noise = y / signal.sqrt().view(-1, 1, 1), 1 / snr
        self.G, self.gram = G, G @ G.mH
        self.codes = torch.view_as_complex(codes.contiguous())
        self.channel = (G * self.codes.unsqueeze(2)).flatten(1, 2)  # G diag(c_l) [B, L·M, N]

    def responses(self, steering: Tensor) -> Tensor:
        """Return G diag(c_l) a for waves a [B, N, T] -> [B, L, M, T]."""
        return (self.channel @ steering).unflatten(1, self.y.shape[1:])

    def precision(self, seen: Tensor | None, power: Tensor | None, loading: Tensor) -> Tensor:
        """Return S_l⁻¹ [B, L, M, M] for waves ``seen`` [B, L, M, T] with ``power`` [B, T] (or None) and ε [B]."""
        noise = torch.diag_embed(self.noise.unsqueeze(1).expand(-1, len(self.gram)))
        S = (loading.view(-1, 1, 1) * self.gram + noise).unsqueeze(1)
        if seen is not None and power is not None:
            S = (seen * power.view(len(power), 1, 1, -1)) @ seen.mH + S
        return torch.cholesky_inverse(torch.linalg.cholesky_ex(S)[0]).expand(-1, self.y.shape[1], -1, -1)

    def matched(self, precision: Tensor, steering: Tensor) -> Tensor:
        """Return the whitened matched filter at waves D [N, G]: log of Σ_l |e_lᴴ S_l⁻¹ y_l|² / mean -> [B, G].

        The mean Σ_l tr(S_l⁻¹ G Gᴴ) is the expectation for random waves or random codes. A twentieth of it is added to
        both, so that the logarithm stays finite.
        """
        whitened = (precision @ self.y.unsqueeze(-1)).squeeze(-1)
        back = self.codes.conj() * (whitened @ self.G.conj())
        # Sum over snapshots first, then over real and imaginary part: four times as fast as both at once.
        score = torch.view_as_real(back @ steering.conj()).square().sum(dim=1).sum(dim=2)
        mean = torch.view_as_real(precision * self.gram.T).sum(dim=(1, 2, 3))[:, :1]
        return (score / mean + 0.05).log() - math.log(1.05)

    def gain(self, precision: Tensor, steering: Tensor) -> Tensor:
        """Return what ℓ gains from one more source at each wave a [B, N, C], with the best of ``TRIED_POWERS`` [B, C].

        By the matrix determinant lemma and the Sherman-Morrison formula, S_l + p e_l e_lᴴ changes ℓ by
        Σ_l (p v_l/(1 + p u_l) − log(1 + p u_l)) with u_l = e_lᴴ S_l⁻¹ e_l and v_l = |e_lᴴ S_l⁻¹ y_l|².
        """
        seen = self.responses(steering)
        whitened = precision @ seen
        u = torch.view_as_real(seen * whitened.conj())[..., 0].sum(dim=2)  # [B, L, C]
        v = torch.view_as_real(self.y.unsqueeze(2).conj() @ whitened).square().sum(dim=4).squeeze(2)
        gains = [(p * v / (1 + p * u) - torch.log1p(p * u)).sum(dim=1) for p in TRIED_POWERS]
        return torch.stack(gains).amax(dim=0).clamp(min=0)

    def explained(self, steering: Tensor, log_power: Tensor, loading: Tensor) -> Explained:
        """Return what sources with waves a [B, N, P] and ``log_power`` [B, P] explain; ε [B]."""
        seen = self.responses(steering)
        precision = self.precision(seen, log_power.exp(), loading)
        whitened = precision @ seen
        return Explained(precision, seen.mH @ whitened, (whitened.mH @ self.y.unsqueeze(3)).squeeze(3))

    def slope(
        self, coordinates: GridCoordinates, positions: Tensor, log_power: Tensor, loading: Tensor
    ) -> LikelihoodSlope:
        """Return the derivatives of ℓ for sources at ``positions`` [B, 3, P] with ``log_power`` [B, P]; ε [B].

        The derivative of S_l by a parameter θ_i is c_i (u_i e_iᴴ + e_i u_iᴴ), where e_i is the wave that arrives from
        the source. For log p, u is e and c is p/2; for a coordinate, u is ∂e and c is p. It follows with w = S⁻¹y that
        score_i = 2 c_i Re Σ_l (u_iᴴw_l w_lᴴe_i − e_iᴴS⁻¹u_i) and information_ij = Σ_l tr(S⁻¹ dS_i S⁻¹ dS_j).
        """
        (B, P), power = log_power.shape, log_power.exp()
        c = torch.stack([power / 2, power, power, power], dim=1)  # [B, 4, P]
        u = self.responses(coordinates.steering_and_slopes(positions).flatten(2))  # e, then ∂e [B, L, M, 4P]
        whitened = self.precision(u[..., :P], power, loading) @ u
        heard = (whitened.mH @ self.y.unsqueeze(3)).unflatten(2, (4, P)).squeeze(4)
        products = (u.mH @ whitened).unflatten(3, (4, P)).unflatten(2, (4, P))  # u_akᴴ S⁻¹ u_bm [B, L, a, k, b, m]
        e_u = products[:, :, 0]  # e_kᴴ S⁻¹ u_bm [B, L, k, b, m]
        score = 2 * c * (heard.conj() * heard[:, :, :1] - e_u.diagonal(dim1=2, dim2=4)).real.sum(dim=1)
        # Σ_l Re(xy), one real matrix product per pair of sources (k, m): Re(xy) = (Re x, Im x)·(Re y, −Im y).
        last_first, first_last = e_u.permute(0, 4, 2, 3, 1).conj(), e_u.permute(0, 2, 4, 3, 1)  # [B, k, m, a or b, L]
        crossed = _as_real(last_first) @ _as_real(first_last).mT  # [B, k, m, a, b]
        e_e = _as_real(e_u[:, :, :, 0].permute(0, 2, 3, 1).unsqueeze(3))  # [B, k, m, 1, 2L]
        straight = e_e @ _as_real(products.permute(0, 3, 5, 2, 4, 1)).flatten(3, 4).mT  # [B, k, m, 1, 16]
        information = 2 * (crossed + straight.view(crossed.shape)).permute(0, 3, 1, 4, 2)  # [B, a, k, b, m]
        information = information * c.view(B, 4, P, 1, 1) * c.view(B, 1, 1, 4, P)
        return LikelihoodSlope(score, information.reshape(B, 4 * P, 4 * P))


def eliminate(explained: Explained, log_power: Tensor) -> Elimination:
    """Remove sources of ``log_power`` [B, P] one by one, the least useful one first; the others stay as they are.

    Without source k, S_l − p e_l e_lᴴ changes ℓ by −Σ_l (log(1 − p u_l) + p v_l/(1 − p u_l)), with u_l and v_l of
    :meth:`SnapshotLikelihood.gain`. The products of the other sources follow by the Sherman-Morrison formula. In single
    precision, the losses are exact to a few percent up to an SNR of about 20 dB.
    """
    waves, heard, power = explained.waves, explained.heard, log_power.exp()
    turn, removed = torch.zeros_like(log_power, dtype=torch.long), torch.zeros_like(log_power, dtype=torch.bool)
    alone, in_turn = torch.zeros_like(log_power), torch.zeros_like(log_power)
    for i in range(log_power.shape[1]):
        rest = (1 - power.unsqueeze(1) * waves.diagonal(dim1=2, dim2=3).real).clamp(min=1e-5)  # [B, L, P]
        loss = (rest.log() + power.unsqueeze(1) * torch.view_as_real(heard).square().sum(dim=3) / rest).sum(dim=1)
        alone = loss if i == 0 else alone
        k = loss.masked_fill(removed, torch.inf).argmin(dim=1, keepdim=True)
        in_turn, turn = in_turn.scatter(1, k, loss.gather(1, k)), turn.scatter(1, k, i)
        removed = removed.scatter(1, k, True)
        each = k.unsqueeze(1).expand(-1, waves.shape[1], -1)  # [B, L, 1]
        column = waves.gather(3, each.unsqueeze(2).expand(-1, -1, waves.shape[2], -1))  # eᵢᴴ S_l⁻¹ e_k [B, L, P, 1]
        column = column * (power.gather(1, k).unsqueeze(1) / rest.gather(2, each)).unsqueeze(3)
        row = waves.gather(2, each.unsqueeze(3).expand(-1, -1, -1, waves.shape[3]))
        heard = heard + (column * heard.gather(2, each).unsqueeze(3)).squeeze(3)
        waves = waves + column * row
    return Elimination(alone, in_turn, turn)


def _as_real(values: Tensor) -> Tensor:
    """Return complex numbers [..., n] as real ones [..., 2n]."""
    return torch.view_as_real(values.resolve_conj()).flatten(-2)
