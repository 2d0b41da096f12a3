"""An estimator that knows the site: a few looks at a grid of places, then steps off it by maximum likelihood.

Read :meth:`UnrolledNet.forward` first. The statistics are exact and have no parameters (:mod:`covlab.sight`);
the network learns what a whitened matched filter looks like where sources are, and how far to trust what was found.
"""

import math
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covlab.checkpoint import load_parameters, read_checkpoint
from covlab.grid import DictionaryEstimate, default_grid
from covlab.model import Estimate, check_contract
from covlab.scenario import Scenario, check_whole_number, preset
from covlab.sight import Chart, Sight, Slope
from covlab.simulator import Batch, Simulator, scene_generator
from covlab.site import believed_site

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SCORED_SCENES = 2048


class Look(nn.Module):
    """A picture of the grid [B, channels, n_θ, n_φ] -> features [B, width, n_θ, n_φ] and a number for every point [B, n_r, n_θ, n_φ]."""

    def __init__(self, channels: int, width: int, ranges: int):
        super().__init__()
        self.entry = nn.Conv2d(channels, width, 3, padding=1)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.out = _quiet(nn.Conv2d(width, ranges, 3, padding=1))

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        features = F.gelu(self.entry(picture))
        features = features + F.gelu(self.inner(features))
        return features, self.out(features).float()


class Verdict(nn.Module):
    """How far to trust each source found, how much power is elsewhere, and how many sources there are."""

    def __init__(self, width: int, found: int, max_sources: int, hidden: int = 48):
        super().__init__()
        self.source = nn.Sequential(
            nn.Linear(width + 10, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), _quiet(nn.Linear(hidden, 2))
        )  # fmt: skip
        self.scene = nn.Sequential(nn.Linear(width + found + 2, hidden), nn.GELU(), _quiet(nn.Linear(hidden, 2 + max_sources)))

    def forward(self, sources: Tensor, scene: Tensor) -> tuple[Tensor, Tensor]:
        return self.source(sources).float(), self.scene(scene).float()


def _quiet(layer: nn.Module) -> nn.Module:
    """Start near zero: an untrained network changes little of what the statistics say."""
    with torch.no_grad():
        layer.weight.mul_(0.1)
        layer.bias.zero_()
    return layer


class UnrolledNet(nn.Module):
    """Looks at the grid in stages, takes the peaks, steps off the grid by Fisher scoring, and looks again at what is left.

    A *look* is a small convolution over the angles of the grid (ranges are its channels). What it sees is the matched
    filter, whitened by the covariance S_l of y_l under the current estimate. The first looks update log-powers
    of all points. Then sources stand at the peaks, and (log p, φ, θ, 1/r) of all of them climb the likelihood
    together. Each later look sees what these sources leave unexplained, and its peaks join them. In the end each
    source is spread over its own uncertainty (the inverse of Fisher's information), and some power stays on the grid.

    No gradient flows through the statistics: each stage's estimate has a loss of its own (``Estimate.stages``,
    weighed by ``lam_cov_pred``), which trains as well at half the cost.

    Args:
        scenario: sizes, and the site whose channel G is known.
        looks: at the grid before any source stands.
        found: sources taken at the peaks of each round; the number of rounds is its length.
        steps: of Fisher scoring after each round.
        width: channels of a look.
        atoms: grid points, strongest first, that make a covariance; the power of all others is white.

    Raises:
        ValueError: a number is not a positive whole number, or every scene of the scenario has a site of its own.
    """

    def __init__(self, scenario: Scenario, looks: int = 2, found: tuple[int, ...] | None = None, steps: int = 3, width: int = 24, atoms: int = 32):
        super().__init__()
        found = (scenario.max_sources + 1, 2) if found is None else found
        for name, number in (("looks", looks), ("steps", steps), ("width", width), ("atoms", atoms), *(("found", number) for number in found)):
            check_whole_number(name, number, least=1)
        self.scenario, self.width, self.found, self.steps = scenario, width, found, steps
        self.grid = default_grid(scenario)
        self.atoms = min(atoms, len(self.grid))
        self.chart = Chart(scenario, self.grid)
        self.register_buffer("site", torch.view_as_real(believed_site(scenario).to(torch.complex64)), persistent=False)
        ranges = self.grid.shape[0]
        self.looks = nn.ModuleList(Look(3 * ranges + 2, width, ranges) for _ in range(looks))
        self.floors = nn.ModuleList(nn.Linear(width + 1, 1) for _ in range(looks))
        self.rounds = nn.ModuleList(Look(3 * ranges + 2, width, ranges) for _ in found)
        verdicts = [Verdict(width, sum(found[: i + 1]), scenario.max_sources) for i in range(len(found))]
        self.verdicts, self.head = nn.ModuleList(verdicts[:-1]), verdicts[-1]

    def forward(self, y: Tensor, H: Tensor, codes: Tensor, snr_db: Tensor) -> Estimate:
        """y [B, L, M, 2], H [B, L, M, 2] (not needed: the site is known), codes [B, L, N, 2], snr_db [B]."""
        check_contract(self.scenario, y, H, codes, snr_db)
        with self.exact():
            if self.grid.steering.device != y.device:
                self.grid = self.grid.to(y.device)
            sight = Sight(torch.view_as_complex(self.site), y, codes, snr_db)
            on_grid = self.grid.estimate(torch.full((len(y), len(self.grid)), 0.5 / len(self.grid), device=y.device), torch.full_like(snr_db, 0.5))
            precision = sight.precision(None, None, torch.ones_like(snr_db))
        logits, stages = 0, []
        for number, (look, floor) in enumerate(zip(self.looks, self.floors, strict=True)):
            matched = self.matched(sight, precision)
            features, change = look(self.picture(matched, on_grid, snr_db))
            level = floor(torch.cat([features.mean(dim=(2, 3)), snr_db.unsqueeze(1) / 10], dim=1)).float()
            with self.exact():
                logits = logits + matched + change.flatten(1)
                share = torch.cat([logits, level + math.log(len(self.grid))], dim=1).softmax(dim=1)
                on_grid = self.grid.estimate(share[:, :-1], share[:, -1])
                if number + 1 < len(self.looks):
                    precision = self.whitening(sight, on_grid)
            stages.append(on_grid)

        power, places, log_power, left = on_grid.power, None, None, None
        for number, (look, verdict) in enumerate(zip(self.rounds, [*self.verdicts, self.head], strict=True)):
            with self.exact(), torch.no_grad():
                places, log_power, left = self.join(places, log_power, left, power, self.found[number])
                places, log_power, slope, spread = self.climb(sight, places, log_power, left)
                nearest, direction = self.chart.nearest(places)
            matched = self.matched(sight, slope.precision)
            features, change = look(self.picture(matched, on_grid, snr_db))
            with self.exact():
                about = self.about_sources(features, direction, log_power, slope, spread, snr_db, on_grid.power.gather(1, nearest), left)
                overall = torch.cat([features.float().mean(dim=(2, 3)), log_power.sort(dim=1, descending=True).values, snr_db.unsqueeze(1) / 10, left.unsqueeze(1)], dim=1)
            trust, scene = verdict(about, overall)
            with self.exact():
                power, estimate = self.compose(places, log_power, spread, trust, logits + change.flatten(1), scene)
            stages.append(estimate)
        with self.exact():
            best = log_power.topk(self.scenario.max_sources, dim=1).indices
            positions = self.chart.parameters_of(places.gather(2, best.unsqueeze(1).expand(-1, 3, -1)))
        return replace(estimate, source_logits=scene[:, 2:], positions=positions, stages=tuple(stages[:-1]))

    def exact(self):
        """Statistics are computed in single precision, whatever the layers use."""
        return torch.autocast(self.site.device.type, enabled=False)

    def matched(self, sight: Sight, precision: Tensor) -> Tensor:
        with self.exact(), torch.no_grad():
            return sight.matched(precision, self.grid.steering)

    def whitening(self, sight: Sight, on_grid: DictionaryEstimate) -> Tensor:
        """S_l⁻¹ under the strongest points of the grid, the power of all others taken as white."""
        with torch.no_grad():
            power, index = on_grid.power.topk(self.atoms, dim=1)
            seen = sight.see(self.grid.steering.T[index].mT)
            return sight.precision(seen, power, 1 - power.sum(dim=1))

    def picture(self, matched: Tensor, on_grid: DictionaryEstimate, snr_db: Tensor) -> Tensor:
        """What a look sees [B, 3 n_r + 2, n_θ, n_φ]: the matched filter, the powers, their beam spectrum; SNR and white power."""
        with self.exact():
            power, spectrum, G, N = on_grid.power.detach(), on_grid.beam_spectrum.detach(), len(self.grid), self.scenario.ris_elements
            maps = torch.cat([matched, (power * G + 1e-3).log(), (spectrum / N**2 + 1e-3).log()], dim=1)
            scene = torch.stack([snr_db / 10, on_grid.loading.detach()], dim=1).view(-1, 2, 1, 1).expand(-1, -1, *self.grid.shape[1:])
            return torch.cat([maps.view(len(power), -1, *self.grid.shape[1:]), scene], dim=1)

    def join(self, places: Tensor | None, log_power: Tensor | None, left: Tensor | None, power: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Let ``count`` more sources stand at the peaks of ``power`` [B, G]: places, log-powers, and the white power left [B].

        A source's place is the centre of the power around its peak, so it starts off the grid.
        """
        cube = power.view(-1, 1, *self.grid.shape)
        peak = cube == F.max_pool3d(cube, 3, 1, padding=1)
        index = torch.where(peak, cube, 1e-6 * cube).flatten(1).topk(count, dim=1).indices
        moments = torch.cat([cube, cube * self.chart.points.view(3, *self.grid.shape)], dim=1)
        around = 27 * F.avg_pool3d(F.pad(moments, (1,) * 6), 3, 1).flatten(2)  # padded first: plane waves have one range
        around = around.gather(2, index.unsqueeze(1).expand(-1, 4, -1))
        mass = around[:, :1].clamp(min=1e-9)
        new_places, new_log_power = around[:, 1:] / mass, mass.squeeze(1).log().clamp(min=-10)
        if places is None:
            return new_places, new_log_power, (1 - mass.sum(dim=(1, 2))).clamp(min=1e-3)
        return torch.cat([places, new_places], dim=2), torch.cat([log_power, new_log_power], dim=1), left

    def climb(self, sight: Sight, places: Tensor, log_power: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Slope, Tensor]:
        """Fisher scoring: every source's log-power and place at once, by at most 1.5 a step; and the spread they end with [B, P, 4, 4]."""
        P = log_power.shape[1]
        # What is known before any snapshot, as precisions: log-power within about 2, a place within about 4 cells.
        prior = torch.cat([torch.full((P,), 0.3), torch.full((3 * P,), 0.06)]).to(places)
        for _ in range(self.steps):
            slope = sight.slope(self.chart, places, log_power, left)
            ridge = torch.diag_embed(0.5 * slope.information.diagonal(dim1=1, dim2=2) + prior)
            step = torch.linalg.solve_ex(slope.information + ridge, slope.score.flatten(1).unsqueeze(2))[0].view(-1, 4, P)
            step = 1.5 * torch.tanh(step / 1.5)
            log_power, places = (log_power + step[:, 0]).clamp(-12, 2), self.chart.clamp(places + step[:, 1:])
        slope = sight.slope(self.chart, places, log_power, left)
        spread = torch.linalg.inv_ex(slope.information + torch.diag_embed(prior))[0]
        return places, log_power, slope, spread.unflatten(1, (4, P)).unflatten(3, (4, P)).diagonal(dim1=2, dim2=4).movedim(3, 1)

    def about_sources(self, features, direction, log_power, slope, spread, snr_db, on_grid, left) -> Tensor:
        """All that is known of each source found [B, P, width + 10]."""
        seen = features.flatten(2).gather(2, direction.unsqueeze(1).expand(-1, features.shape[1], -1)).mT.float()
        deviations = spread.diagonal(dim1=2, dim2=3).clamp(min=1e-9).log() / 2
        scene = torch.stack([snr_db / 10, left, log_power.exp().sum(dim=1)], dim=1).unsqueeze(1).expand(-1, log_power.shape[1], -1)
        return torch.cat([seen, deviations, scene, torch.stack([log_power, slope.fit, on_grid.clamp(min=1e-9).log()], dim=2)], dim=2)

    def compose(self, places: Tensor, log_power: Tensor, spread: Tensor, trust: Tensor, logits: Tensor, scene: Tensor) -> tuple[Tensor, Estimate]:
        """The sources, each spread over its uncertainty, the strongest points of the grid, and white power; and the grid's powers.

        A source is six waves, √3 standard deviations from its place either way along the columns of a root of its
        covariance: mean and covariance are those of the Gaussian (the sigma points of the unscented transform).
        """
        root = torch.linalg.cholesky_ex(spread[:, :, 1:, 1:] + 1e-6 * torch.eye(3, device=places.device))[0]  # [B, P, 3, 3]
        reach = math.sqrt(3) * 1.5 * torch.tanh(root / 1.5) * (trust[..., 1] / 2).exp().unsqueeze(2).unsqueeze(3)
        centre = places.mT.unsqueeze(3)
        points = torch.cat([centre + reach, centre - reach], dim=3).permute(0, 2, 1, 3).flatten(2)  # [B, 3, 6P]
        amplitude = ((log_power + trust[..., 0]).exp() / 6).sqrt().repeat_interleave(6, dim=1)
        strongest, index = logits.topk(self.atoms, dim=1)
        power = strongest.softmax(dim=1) * F.softplus(scene[:, :1] - 1)
        factor = torch.cat([self.chart.waves(self.chart.clamp(points)) * amplitude.unsqueeze(1), self.grid.steering.T[index].mT * power.sqrt().unsqueeze(1)], dim=2)
        return torch.zeros_like(logits).scatter(1, index, power), Estimate(factor, F.softplus(scene[:, 1] - 2))


def pretrained(name: str, scenario: Scenario | None = None) -> UnrolledNet:
    """The network trained for the preset ``name``, in evaluation mode, as it comes with the package.

    ``scenario`` puts it elsewhere without training it again: a variation of the preset with another site or other codes,
    say. (What it learned are looks at a grid, and no site.)

    Its ``card`` tells how it was made and what it reaches: ``command`` (which trains it again), ``seconds`` (of
    processor time, one thread), ``scores`` (NMSE of every scene of :func:`scored_scenes`), ``versions``.

    Raises:
        ValueError: there is no such preset.
        CheckpointError: the file is missing or damaged, or does not fit ``scenario``.
    """
    network, path = UnrolledNet(scenario or preset(name)), CHECKPOINTS / f"{name}.pt"
    load_parameters(network, path)
    network.card = read_checkpoint(path)["card"]
    return network.eval()


def scored_scenes(name: str) -> Batch:
    """The scenes that a pretrained network's card gives the scores of: of a stream that nothing was trained or chosen on."""
    return Simulator(preset(name)).draw(SCORED_SCENES, scene_generator(0, "score"))
