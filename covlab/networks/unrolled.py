"""A network that knows the channel G. It finds sources on a grid, then moves them off the grid by maximum likelihood.

Read :meth:`UnrolledNet.forward` first. The statistics are exact and have no parameters
(:mod:`covlab.networks.snapshot_likelihood`). The network learns what a whitened matched filter looks like at sources,
and how far to trust the sources that it finds.
"""

import math
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covlab.arguments import MOST, Size, checked, number, sequence, whole_number
from covlab.networks.model import Estimate, Network, start_small
from covlab.networks.snapshot_likelihood import (
    Elimination,
    Explained,
    GridCoordinates,
    SnapshotLikelihood,
    eliminate,
)
from covlab.networks.source_grid import DictionaryEstimate, default_grid
from covlab.scenes.channel import believed_channel
from covlab.scenes.scenario import Scenario


class GridPass(nn.Module):
    """Turn a picture of the grid [B, channels, n_θ, n_φ] into features [B, width, n_θ, n_φ], [B, n_r, n_θ, n_φ]."""

    def __init__(self, channels: int, width: int, ranges: int):
        super().__init__()
        self.entry = nn.Conv2d(channels, width, 3, padding=1)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.out = start_small(nn.Conv2d(width, ranges, 3, padding=1))

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        features = F.gelu(self.entry(picture))
        features = features + F.gelu(self.inner(features))
        return features, self.out(features).float()


class SourceTrust(nn.Module):
    """Predict how far to trust each source found [B, P, 2]; power elsewhere and number of sources [B, 2 + K_max].

    Each source is judged with a summary of all of them, as in deep sets (Zaheer et al. 2017).
    """

    def __init__(self, width: int, found: int, max_sources: int, hidden: int = 64):
        super().__init__()
        self.source = nn.Sequential(nn.Linear(width + 12, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU())
        self.scene = nn.Sequential(nn.Linear(width + 2 * found + 2 + hidden, hidden), nn.GELU())
        self.trust = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.GELU(), start_small(nn.Linear(hidden, 2)))
        self.rest = start_small(nn.Linear(hidden, 2 + max_sources))

    def forward(self, sources: Tensor, scene: Tensor) -> tuple[Tensor, Tensor]:
        each = self.source(sources)
        whole = self.scene(torch.cat([scene, each.mean(dim=1).to(scene.dtype)], dim=1))
        together = torch.cat([each, whole.unsqueeze(1).expand(-1, each.shape[1], -1)], dim=2)
        return self.trust(together).float(), self.rest(whole).float()


class Sources(NamedTuple):
    """P sources off the grid."""

    positions: Tensor  #: in cells of the grid [B, 3, P]
    log_power: Tensor  #: [B, P]
    left: Tensor  #: power that no source explains, treated as white [B]


class Settled(NamedTuple):
    """P sources off the grid after Fisher scoring, and what they explain."""

    positions: Tensor  #: in cells of the grid [B, 3, P]
    log_power: Tensor  #: [B, P]
    left: Tensor  #: power that no source explains, treated as white [B]
    explained: Explained
    elimination: Elimination
    #: covariance of each source's (log p, position), from a wide prior and the Fisher information that the last step
    #: used [B, P, 4, 4]
    spread: Tensor


class UnrolledNet(Network):
    """Find sources with passes over a grid, improve them off the grid by Fisher scoring, and look for more.

    A *pass* is a small convolutional network over the angles of the grid (ranges are its channels). Its input is the
    powers on the grid, the matched filter, whitened by the covariance S_l of y_l under the current estimate, and, in
    most passes, the gain: how much the likelihood gains from one more source at a point. The first passes update the
    log-powers of all points. Then sources start at the peaks, and Fisher scoring (a Newton step with the Fisher
    information) improves (log p, sin φ, sin θ, 1/r) of all of them together. Each later pass sees what these sources
    leave unexplained, and its peaks become more sources. In the last round, the sources that the likelihood misses
    least are removed until ``max_sources`` are left, and Fisher scoring improves those again. At the end each source is
    spread over its uncertainty (about the inverse of the Fisher information), and some power stays on the grid.

    No gradient flows through the statistics. Instead each stage's estimate has its own loss (``Estimate.stages``,
    weighted by ``lam_cov_pred``), which trains equally well at about half the cost.

    Args:
        scenario: sizes, and the channel G.
        passes: passes over the grid before there are sources.
        found: number of new sources in each round; its length is the number of rounds, its sum at least max_sources.
        steps: steps of Fisher scoring in the first round, and in the last one after sources were removed. Otherwise, a
            round makes one step.
        width: channels of a pass.
        candidates: for each pass, at how many points, the highest of the matched filter, the gain is computed; it is 0
            at the other points. 0: this pass does not see the gain.
        atoms: how many of the strongest grid points enter a covariance; all other power is treated as white.
        step: phase in radians between neighbors on the grid, see :func:`covlab.networks.source_grid.default_grid`.

    Raises:
        ValueError: an argument is not what its annotation allows, ``found`` adds up to too few sources, or the scenario
            has a new channel in every scene.
    """

    site: Tensor
    neighbors: Tensor  #: steps in range, elevation and azimuth to a point and its 26 neighbors [27, 3]
    card: dict[str, Any]  #: of a pretrained network, see :func:`pretrained`

    @checked
    def __init__(
        self,
        scenario: Scenario,
        passes: Size = 2,
        found: Annotated[
            tuple[int, ...] | None, sequence(whole_number(1, MOST), tuple).or_none("max_sources + 1, then 2")
        ] = None,
        steps: Size = 2,
        width: Size = 24,
        candidates: Annotated[
            tuple[int, ...] | None,
            sequence(whole_number(0, MOST), tuple).or_none(
                "96 in each pass; at `full`, to save time, 48, and 0 in the first and the last"
            ),
        ] = None,
        atoms: Size = 32,
        step: Annotated[float | None, number(above=0).or_none("the default; 1.05 at `full`, to save time")] = None,
    ):
        super().__init__()
        found = (scenario.max_sources + 1, 2) if found is None else found
        fast, passes_in_all = scenario.name == "full", passes + len(found)
        if candidates is None:
            candidates = (0, *[48] * (passes_in_all - 2), 0) if fast else (96,) * passes_in_all
        if len(candidates) != passes_in_all:
            raise ValueError(f"candidates must have {passes_in_all} entries, one for each pass, got {candidates!r}")
        self.grid = default_grid(scenario, step=1.05 if step is None and fast else step)
        for count in found:  # the sources of a round start at different points
            whole_number(1, len(self.grid)).check("found", count)
        if sum(found) < scenario.max_sources:
            raise ValueError(f"found must add up to at least max_sources = {scenario.max_sources}, got {found!r}")
        self.scenario, self.width, self.found, self.steps = scenario, width, found, steps
        self.candidates, self.atoms = (candidates[:passes], candidates[passes:]), min(atoms, len(self.grid))
        self.coordinates = GridCoordinates(scenario, self.grid)
        G = torch.view_as_real(believed_channel(scenario).to(torch.complex64))
        self.register_buffer("site", G, persistent=False)
        neighbors = torch.cartesian_prod(*[torch.arange(-1, 2)] * 3)
        self.register_buffer("neighbors", neighbors, persistent=False)
        ranges = self.grid.shape[0]
        # Every checkpoint of this network contains the names ``looks`` and ``verdicts``, so they must stay.
        grid_passes = [GridPass((3 if points else 2) * ranges + 2, width, ranges) for points in candidates]
        self.looks, self.rounds = nn.ModuleList(grid_passes[:passes]), nn.ModuleList(grid_passes[passes:])
        self.floors = nn.ModuleList(nn.Linear(width + 1, 1) for _ in range(passes))
        judged = [*(sum(found[:i]) for i in range(1, len(found))), scenario.max_sources]
        trusts = [SourceTrust(width, count, scenario.max_sources) for count in judged]
        self.verdicts, self.head = nn.ModuleList(trusts[:-1]), trusts[-1]

    def forward(self, y: Tensor, H: Tensor, codes: Tensor, snr_db: Tensor) -> Estimate:
        """y [B, L, M, 2], H [B, L, M, 2] (unused: G is known), codes [B, L, N, 2], snr_db [B]."""
        self.check(y, H, codes, snr_db)
        self.grid = self.grid.to(y.device)
        with self.exact():
            likelihood = SnapshotLikelihood(torch.view_as_complex(self.site), y, codes, snr_db)
            precision = likelihood.precision(None, None, torch.ones_like(snr_db))
        points = len(self.grid)
        on_grid = self.grid.estimate(y.new_full((len(y), points), 0.5 / points), torch.full_like(snr_db, 0.5))

        logits = torch.zeros_like(on_grid.power)
        stages: list[Estimate | DictionaryEstimate] = []
        early, late = self.candidates
        for candidates, grid_pass, floor in zip(early, self.looks, self.floors, strict=True):
            if stages:
                precision = self.whitening(likelihood, on_grid)
            maps = self.evidence(likelihood, precision, candidates)
            features, change = grid_pass(self.picture(maps, on_grid, snr_db))
            level = floor(torch.cat([features.mean(dim=(2, 3)), snr_db.unsqueeze(1) / 10], dim=1)).float()
            logits = logits + maps[0] + change.flatten(1)
            share = torch.cat([logits, level + math.log(points)], dim=1).softmax(dim=1)
            on_grid = self.grid.estimate(share[:, :-1], share[:, -1])
            stages.append(on_grid)

        power, sources = on_grid.power, None
        verdicts = [*self.verdicts, self.head]
        for candidates, count, grid_pass, assess in zip(late, self.found, self.rounds, verdicts, strict=True):
            sources = self.climb(likelihood, self.join(sources, power, count), self.steps if sources is None else 1)
            if assess is self.head and sources.log_power.shape[1] > self.scenario.max_sources:
                sources = self.climb(likelihood, self.prune(sources), self.steps)
            maps = self.evidence(likelihood, sources.explained.precision, candidates)
            features, change = grid_pass(self.picture(maps, on_grid, snr_db))
            trust, scene = assess(*self.about(sources, features, on_grid, snr_db))
            power, estimate = self.compose(sources, trust, logits + change.flatten(1), scene)
            stages.append(estimate)
        assert sources is not None  # there is at least one round
        strongest = sources.log_power.topk(self.scenario.max_sources, dim=1).indices
        found = sources.positions.gather(2, strongest.unsqueeze(1).expand(-1, 3, -1))
        positions = self.coordinates.parameters_of(found)
        return replace(estimate, source_logits=scene[:, 2:], positions=positions, stages=tuple(stages[:-1]))

    def exact(self) -> torch.autocast:
        """Return a context in which statistics have single precision, whatever precision the layers use."""
        return torch.autocast(self.site.device.type, enabled=False)

    @torch.no_grad()
    def evidence(self, likelihood: SnapshotLikelihood, precision: Tensor, candidates: int) -> list[Tensor]:
        """Return the whitened matched filter [B, G]. With ``candidates``, also log(1 + gain) [B, G] at that many points
        where the matched filter is highest, and 0 at all other points.
        """
        with self.exact():
            matched = likelihood.matched(precision, self.grid.steering)
            if not candidates:
                return [matched]
            index = matched.topk(min(candidates, len(self.grid)), dim=1).indices
            gain = likelihood.gain(precision, self.grid.steering.T[index].mT)
            return [matched, torch.zeros_like(matched).scatter(1, index, gain.log1p())]

    def whitening(self, likelihood: SnapshotLikelihood, on_grid: DictionaryEstimate) -> Tensor:
        """Return S_l⁻¹ [B, L, M, M] from the strongest points of the grid; all other power is treated as white."""
        with self.exact(), torch.no_grad():
            power, index = on_grid.power.topk(self.atoms, dim=1)
            seen = likelihood.responses(self.grid.steering.T[index].mT)
            return likelihood.precision(seen, power, 1 - power.sum(dim=1))

    def picture(self, maps: list[Tensor], on_grid: DictionaryEstimate, snr_db: Tensor) -> Tensor:
        """Return a pass's input [B, channels, n_θ, n_φ]: each of ``maps`` [B, G], power; SNR and white power."""
        with self.exact(), torch.no_grad():
            images = torch.cat([*maps, (on_grid.power * len(self.grid) + 1e-3).log()], dim=1)
            scene = torch.stack([snr_db / 10, on_grid.loading], dim=1).view(-1, 2, 1, 1)
            scene = scene.expand(-1, -1, *self.grid.shape[1:])
            return torch.cat([images.view(len(images), -1, *self.grid.shape[1:]), scene], dim=1)

    @torch.no_grad()
    def join(self, sources: Settled | None, power: Tensor, count: int) -> Sources:
        """Add ``count`` sources at the peaks of ``power`` [B, G]. The first time, the rest of a total of 1 is white.

        A source starts at the center of mass of the power around its peak, which is off the grid.
        """
        cube = power.view(-1, 1, *self.grid.shape)
        peak = cube == F.max_pool3d(cube, 3, 1, padding=1)
        index = torch.where(peak, cube, 1e-6 * cube).flatten(1).topk(count, dim=1).indices
        (_, elevations, azimuths), shifts = self.grid.shape, self.neighbors
        r, elevation, azimuth = index // (elevations * azimuths), index // azimuths % elevations, index % azimuths
        peaks = torch.stack([r, elevation, azimuth], dim=2) + 1  # in the cube, padded by one on all sides [B, count, 3]
        r, elevation, azimuth = (peaks.unsqueeze(2) + shifts).unbind(3)  # [B, count, 27]
        around = (r * (elevations + 2) + elevation) * (azimuths + 2) + azimuth
        around = F.pad(cube, (1,) * 6).flatten(1).gather(1, around.flatten(1)).view(around.shape)
        mass = around.sum(dim=2).clamp(min=1e-9)
        offset = (around.unsqueeze(3) * shifts.flip(1)).sum(dim=2) / mass.unsqueeze(2)  # azimuth, elevation, range
        positions, log_power = (self.coordinates.points.T[index] + offset).mT, mass.log().clamp(min=-10)
        if sources is None:
            return Sources(positions, log_power, (1 - mass.sum(dim=1)).clamp(min=1e-3))
        positions = torch.cat([sources.positions, positions], dim=2)
        return Sources(positions, torch.cat([sources.log_power, log_power], dim=1), sources.left)

    @torch.no_grad()
    def climb(self, likelihood: SnapshotLikelihood, sources: Sources, steps: int) -> Settled:
        """Improve log-powers and positions of all sources by Fisher scoring, each number by at most 1.5 per step.

        The damping (of Levenberg and Marquardt) is smaller at a higher SNR: 0.5 in pure noise, half of that at 10 dB,
        0.005 at 30 dB. With much noise, longer steps leap too far; with little, shorter ones end too early
        (benchmarks/README.md, "What was tried").
        """
        with self.exact():
            (positions, log_power, left), P = sources, sources.log_power.shape[1]
            # The prior as precisions: a log-power is known to about 2, a position to about 4 cells.
            prior = torch.cat([torch.full((P,), 0.3), torch.full((3 * P,), 0.06)]).to(positions)
            damping = (0.5 / (1 + 0.1 / likelihood.noise)).unsqueeze(1)
            for _ in range(steps):
                score, information = likelihood.slope(self.coordinates, positions, log_power, left)
                damped = information + torch.diag_embed(damping * information.diagonal(dim1=1, dim2=2) + prior)
                step, _ = torch.linalg.solve_ex(damped, score.flatten(1).unsqueeze(2))
                step = 1.5 * torch.tanh(step.view(-1, 4, P) / 1.5)
                log_power = (log_power + step[:, 0]).clamp(-12, 2)
                positions = self.coordinates.clamp(positions + step[:, 1:])
            inverse, _ = torch.linalg.inv_ex(information + torch.diag_embed(prior))
            spread = inverse.unflatten(1, (4, P)).unflatten(3, (4, P)).diagonal(dim1=2, dim2=4).movedim(3, 1)
            explained = likelihood.explained(self.coordinates.steering(positions), log_power, left)
            return Settled(positions, log_power, left, explained, eliminate(explained, log_power), spread)

    @torch.no_grad()
    def prune(self, sources: Settled) -> Sources:
        """Keep the ``max_sources`` sources that are eliminated last."""
        kept = sources.elimination.turn.topk(self.scenario.max_sources, dim=1).indices
        positions = sources.positions.gather(2, kept.unsqueeze(1).expand(-1, 3, -1))
        return Sources(positions, sources.log_power.gather(1, kept), sources.left)

    def about(
        self, sources: Settled, features: Tensor, on_grid: DictionaryEstimate, snr_db: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what is known about each source [B, P, width + 12], and about the scene [B, width + 2 P + 2]."""
        features, power, left = features.float(), sources.log_power, sources.left
        point, direction = self.coordinates.nearest(sources.positions)
        seen = features.flatten(2).gather(2, direction.unsqueeze(1).expand(-1, features.shape[1], -1)).mT
        deviations = sources.spread.diagonal(dim1=2, dim2=3).clamp(min=1e-9).log() / 2
        common = torch.stack([snr_db / 10, left, power.exp().sum(dim=1)], dim=1)
        common = common.unsqueeze(1).expand(-1, power.shape[1], -1)
        alone, in_turn = (loss.clamp(min=0).log1p() for loss in sources.elimination[:2])
        nearby = on_grid.power.gather(1, point).clamp(min=1e-9).log()
        own = torch.stack([power, sources.explained.fit, nearby, alone, in_turn], dim=2)
        ranked = power.sort(dim=1, descending=True).values
        missed = in_turn.gather(1, sources.elimination.turn.argsort(dim=1))
        scene = torch.cat(
            [features.mean(dim=(2, 3)), ranked, missed, snr_db.unsqueeze(1) / 10, left.unsqueeze(1)], dim=1
        )
        return torch.cat([seen, deviations, common, own], dim=2), scene

    def compose(self, sources: Settled, trust: Tensor, logits: Tensor, scene: Tensor) -> tuple[Tensor, Estimate]:
        """Return the grid's powers [B, G], and R̂ from the sources, the grid and the white power.

        A source becomes six waves. They lie √3 standard deviations from its position, in both directions along each
        column of a root of its covariance. These sigma points of the unscented transform have the mean and covariance
        of the Gaussian.
        """
        with self.exact():
            eye = torch.eye(3, device=logits.device)
            root, _ = torch.linalg.cholesky_ex(sources.spread[:, :, 1:, 1:] + 1e-6 * eye)  # [B, P, 3, 3]
            reach = math.sqrt(3) * 1.5 * torch.tanh(root / 1.5) * (trust[..., 1] / 2).exp().unsqueeze(2).unsqueeze(3)
            center = sources.positions.mT.unsqueeze(3)
            points = torch.cat([center + reach, center - reach], dim=3).permute(0, 2, 1, 3).flatten(2)  # [B, 3, 6P]
            amplitude = ((sources.log_power + trust[..., 0]).exp() / 6).sqrt().repeat_interleave(6, dim=1)
            strongest, index = logits.topk(self.atoms, dim=1)
            power = strongest.softmax(dim=1) * F.softplus(scene[:, :1] - 1)
            spread_out = self.coordinates.steering(self.coordinates.clamp(points)) * amplitude.unsqueeze(1)
            on_grid = self.grid.steering.T[index].mT * power.sqrt().unsqueeze(1)
            estimate = Estimate(torch.cat([spread_out, on_grid], dim=2), F.softplus(scene[:, 1] - 2))
            return torch.zeros_like(logits).scatter(1, index, power), estimate
