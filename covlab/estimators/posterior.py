"""The Bayes estimate of R: no estimator that reads the same snapshots has a lower mean NMSE.

The prior is what :meth:`covlab.scenes.simulator.Simulator.draw` draws: the number of sources K, and their positions and
powers. The data are what a network reads (y, codes, snr_db) and the channel G. A receiver knows snr_db, not σ²,
so σ² follows from the sources: y_l ~ CN(0, F_l F_lᴴ + σ²I), where column k of F_l is p_k^½ G diag(c_l) a_k, and σ² is
the mean power of the F_l at an antenna divided by the SNR.

The NMSE of an estimate R̂ is ‖R̂ − R‖²/‖R‖². Its posterior mean is least for R̂ = E[wR | y] / E[w | y], w = 1/‖R‖², and
is then 1 − ‖E[wR | y]‖² / E[w | y].

For each K, a sequential Monte Carlo sampler (Del Moral, Doucet and Jasra 2006) moves a population from the prior to the
posterior. It raises the likelihood to a power β that grows from 0 to 1, and its weights give the evidence of K.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import Count, checked, whole_number
from covlab.estimators.likelihood import CodedSnapshots
from covlab.scenes.batch import Batch, check_finite
from covlab.scenes.channel import site_channel
from covlab.scenes.geometry import steering_vectors
from covlab.scenes.scenario import Scenario

SCENES_AT_ONCE = 16
"""How many scenes are sampled together: their responses stay in a core's cache."""

FRESH = 0.15
"""The share of proposals that draw the position from the prior again, which lets a source leave a local maximum."""

EFFECTIVE = 0.5
"""The effective share of the population that is left when β grows."""

ACCEPTED = 0.3
"""The share of random-walk proposals to accept; step sizes adapt to it."""

POWER = 3
"""The coordinate of a source that is its power before normalization; 0 to 2 are azimuth, elevation and range."""


@dataclass(frozen=True, eq=False)
class Population:
    """Equally likely draws from the posterior of B scenes, given K sources."""

    sources: Tensor  #: (φ, θ, r, power) of each source in each draw; powers sum to 1 [B, K, 4, P]
    log_evidence: Tensor  #: log p(y | K) up to a constant of the scene [B]
    weight: Tensor  #: E[w | y, K] [B]
    weighted: Tensor  #: E[wR | y, K] [B, N, N]


@dataclass(frozen=True, eq=False)
class Posterior:
    """The posterior of B scenes, and the Bayes estimate."""

    populations: tuple[Population, ...]  #: of K = 1, 2, … sources

    @property
    def count_probability(self) -> Tensor:
        """P(K | y) [B, K_max]; K is uniform a priori."""
        return torch.stack([one.log_evidence for one in self.populations], dim=1).softmax(dim=1)

    @property
    def weight(self) -> Tensor:
        """E[w | y] [B]."""
        return (self.count_probability * torch.stack([one.weight for one in self.populations], dim=1)).sum(dim=1)

    @property
    def weighted(self) -> Tensor:
        """E[wR | y] [B, N, N]."""
        probability = self.count_probability.unbind(dim=1)
        terms = (p.view(-1, 1, 1) * one.weighted for p, one in zip(probability, self.populations, strict=True))
        return torch.stack(list(terms)).sum(dim=0)

    def covariance(self) -> Tensor:
        """Return the Bayes estimate, of trace N [B, N, N]."""
        return self.weighted / self.weight.view(-1, 1, 1)


def expected_nmse(one: Posterior, other: Posterior) -> Tensor:
    """Return the posterior mean of the Bayes estimate's NMSE, from two independent samples of a posterior [B].

    The square of one noisy mean would be too large on average. The product of two means is not.
    """
    product = (one.weighted.conj() * other.weighted).real.sum(dim=(1, 2))
    return 1 - product / (one.weight * other.weight).sqrt()


@checked
def sample_posterior(
    scenario: Scenario,
    batch: Batch,
    generator: torch.Generator,
    draws: Annotated[int, whole_number(2, 2**20)] = 128,
    sweeps: Count = 4,
) -> Posterior:
    """Sample the posterior of every scene of ``batch``, with ``draws`` draws for each K.

    Args:
        sweeps: proposals for every source at each β.

    Raises:
        ValueError: the scenario has correlated sources, a channel per scene, a calibration error or faulty elements;
            or a snapshot is not finite.
    """
    for name, expected in {
        "source_correlation": 0,
        "site": "fixed",
        "calibration_error_db": None,
        "stuck_elements": 0,
        "dead_elements": 0,
    }.items():
        if getattr(scenario, name) != expected:
            raise ValueError(f"scenario.{name} must be {expected!r} for the posterior, got {getattr(scenario, name)!r}")
    check_finite(batch)
    G = site_channel(scenario).to(torch.complex64)
    populations = []
    for sources in range(1, scenario.max_sources + 1):
        pieces = [
            _Sampler(scenario, G, batch[start : start + SCENES_AT_ONCE], sources, draws, generator).run(sweeps)
            for start in range(0, len(batch), SCENES_AT_ONCE)
        ]
        populations.append(Population(*(torch.cat(parts) for parts in zip(*pieces, strict=True))))
    return Posterior(tuple(populations))


class SnapshotDensity:
    """The density of the snapshots of B scenes for P candidates each: K waves and their powers.

    ``responses`` of a wave are complex [B, L, M, P]; products of responses are sums over the antennas [B, L, P].
    """

    def __init__(self, G: Tensor, batch: Batch):
        snapshots = CodedSnapshots(batch, G)
        self.y, self.responses = snapshots.y, snapshots.responses
        self.energy = self.y.abs().square().sum(dim=(2, 3)).unsqueeze(2)  # [B, L, 1]
        self.snr = (10 ** (batch.snr_db / 10)).unsqueeze(1)

    def matched(self, response: Tensor) -> Tensor:
        """Return eᴴy [B, L, P]."""
        return product(response, self.y)

    def log_density(self, gram: list[list[Tensor]], matched: list[Tensor], power: Tensor) -> Tensor:
        """Return log p(y), without the constant π, for eᵢᴴeⱼ (j ≤ i), eᵢᴴy and ``power`` [B, K, P] -> [B, P].

        With F = (p^½ e), the inverse and determinant of FFᴴ + σ²I follow from A = FᴴF + σ²I, which is only K × K.
        """
        K, (_, L, M, _) = len(matched), self.y.shape
        level = torch.stack([gram[k][k].real.sum(dim=1) for k in range(K)], dim=1) / (L * M)
        noise = ((power * level).sum(dim=1) / self.snr).unsqueeze(1)  # σ² [B, 1, P]
        root = power.sqrt().unsqueeze(2).unbind(dim=1)
        A = [[gram[i][j] * (root[i] * root[j]) for j in range(i + 1)] for i in range(K)]
        b = [matched[i] * root[i] for i in range(K)]
        log_det, fit = (M - K) * noise.log(), -self.energy / noise
        for k in range(K):  # Gaussian elimination
            pivot = A[k][k].real + noise
            log_det = log_det + pivot.log()
            fit = fit + (b[k].real.square() + b[k].imag.square()) / (pivot * noise)
            for i in range(k + 1, K):
                factor = A[i][k] / pivot
                b[i] = b[i] - factor * b[k]
                for j in range(k + 1, i + 1):
                    A[i][j] = A[i][j] - factor * A[j][k].conj()
        return (fit - log_det).sum(dim=1)


def product(one: Tensor, other: Tensor) -> Tensor:
    """Return the inner products over the antennas: [B, L, M, P] -> [B, L, P]."""
    return (one.conj() * other).sum(dim=2)


class _Sampler:
    """Populations of B scenes on their way from the prior (β = 0) to the posterior (β = 1), for K sources."""

    def __init__(self, scenario: Scenario, G: Tensor, batch: Batch, K: int, draws: int, generator: torch.Generator):
        self.scenario, self.generator, self.shape = scenario, generator, (len(batch), draws)
        self.density = SnapshotDensity(G, batch)
        ranges = torch.tensor([scenario.azimuth, scenario.elevation, scenario.range_m, scenario.power])
        self.low, self.width = ranges[:, :1], ranges[:, 1:] - ranges[:, :1]
        self.unit = self._uniform(len(batch), K, 4, draws)  # a source is a point of the unit cube, uniform a priori
        self.waves = [self.steering(self.unit[:, k]) for k in range(K)]
        self.e = [self.density.responses(wave) for wave in self.waves]
        self.matched = [self.density.matched(e) for e in self.e]
        self.gram = [[product(self.e[i], self.e[j]) for j in range(i + 1)] for i in range(K)]
        self.log_density = self.density.log_density(self.gram, self.matched, self.power(self.unit))
        self.beta, self.log_evidence = torch.zeros(len(batch)), torch.zeros(len(batch))
        self.log_step = torch.full((len(batch), 4), math.log(0.3))

    def run(self, sweeps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the fields of a :class:`Population`; the moments are means over the sweeps at β = 1."""
        while (self.beta < 1).any():
            self.resample()
            for _ in range(sweeps):
                self.sweep()
        moments = []
        for _ in range(2 * sweeps):
            self.sweep()
            moments.append(self.moments())
        weight, weighted = (torch.stack(parts).mean(dim=0) for parts in zip(*moments, strict=True))
        sources = self.low + self.width * self.unit
        sources[:, :, POWER] = self.power(self.unit)
        return sources, self.log_evidence, weight, weighted

    def power(self, unit: Tensor) -> Tensor:
        """Return the powers, which sum to 1 [B, K, P]."""
        power = self.low[POWER] + self.width[POWER] * unit[:, :, POWER]
        return power / power.sum(dim=1, keepdim=True)

    def steering(self, unit: Tensor) -> Tensor:
        """Return the steering vectors of one source [B, 4, P] -> [B, N, P]."""
        azimuth, elevation, range_m = (self.low + self.width * unit)[:, :POWER].unbind(dim=1)
        return steering_vectors(self.scenario, azimuth, elevation, range_m).mT.contiguous()

    def resample(self) -> None:
        """Raise β as far as ``EFFECTIVE`` allows, and draw the population again by its weights."""
        least, most = self.beta, torch.ones_like(self.beta)
        enough = self._effective(most) >= EFFECTIVE
        for _ in range(20):
            middle = (least + most) / 2
            fine = self._effective(middle) >= EFFECTIVE
            least, most = middle.where(fine, least), most.where(fine, middle)
        beta = torch.where(enough, 1.0, least)
        log_weight = (beta - self.beta).unsqueeze(1) * self.log_density
        self.log_evidence = self.log_evidence + log_weight.logsumexp(dim=1) - math.log(self.shape[1])
        # Systematic resampling: one random offset per scene.
        edges = log_weight.softmax(dim=1).cumsum(dim=1)
        points = (torch.arange(self.shape[1]) + self._uniform(self.shape[0], 1)) / self.shape[1]
        chosen = torch.searchsorted(edges, points).clamp(max=self.shape[1] - 1)
        self.beta = beta

        def pick(values: Tensor) -> Tensor:
            return values.gather(-1, chosen.view(len(chosen), *[1] * (values.ndim - 2), -1).expand_as(values))

        self.unit, self.log_density = pick(self.unit), pick(self.log_density)
        self.waves, self.e, self.matched = (list(map(pick, of)) for of in (self.waves, self.e, self.matched))
        self.gram = [list(map(pick, row)) for row in self.gram]

    def sweep(self) -> None:
        """Propose a new position for each source in turn, and new powers after each."""
        for k in range(len(self.e)):
            self.move_position(k)
            if len(self.e) > 1:
                self.move_power(k)

    def move_position(self, k: int) -> None:
        """Propose a position of source k: from the prior, or a step along one coordinate or along all."""
        B, P = self.shape
        kind, alone = self._uniform(B, 1, P), torch.randint(3, (B, 1, P), generator=self.generator)
        one = torch.arange(4).view(1, 4, 1) == alone
        fresh, single = kind < FRESH, kind > 0.5 + FRESH / 2
        step = self._step(B, 4, P) * torch.where(single, one.float(), torch.tensor(0.6))
        step[:, POWER] = 0
        there = torch.where(fresh, self._uniform(B, 4, P), reflect(self.unit[:, k] + step))
        there[:, POWER] = self.unit[:, k, POWER]
        wave = self.steering(there)
        e = self.density.responses(wave)
        matched, gram = [*self.matched], [[*row] for row in self.gram]
        matched[k] = self.density.matched(e)
        for j in range(len(self.e)):
            with_j = product(e, e if j == k else self.e[j])
            gram[max(j, k)][min(j, k)] = with_j.conj() if j > k else with_j
        accept = self._accept(gram, matched, there, k)
        self._adapt((single & one)[:, :POWER], accept.unsqueeze(1), slice(0, POWER))
        new = accept.unsqueeze(1)
        self.waves[k] = wave.where(new, self.waves[k])
        self.e[k] = e.where(new.unsqueeze(1), self.e[k])
        self.matched[k] = matched[k].where(new, self.matched[k])
        for j in range(len(self.e)):
            row, column = max(j, k), min(j, k)
            self.gram[row][column] = gram[row][column].where(new, self.gram[row][column])

    def move_power(self, k: int) -> None:
        """Propose a power of source k."""
        B, P = self.shape
        there = self.unit[:, k].clone()
        there[:, POWER] = reflect(there[:, POWER] + self._step(B, 4, P)[:, POWER])
        accept = self._accept(self.gram, self.matched, there, k)
        self._adapt(torch.ones(B, 1, P, dtype=torch.bool), accept.unsqueeze(1), slice(POWER, 4))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the means of w and wR over the population: [B], [B, N, N]."""
        power = self.power(self.unit).unbind(dim=1)
        factor = torch.stack([w * p.sqrt().unsqueeze(1) for w, p in zip(self.waves, power, strict=True)], dim=3)
        factor = factor.permute(0, 2, 1, 3)  # [B, P, N, K]
        w = 1 / (factor.mH @ factor).abs().square().sum(dim=(2, 3))
        columns = (factor * w.sqrt().view(*self.shape, 1, 1)).permute(0, 2, 1, 3).flatten(2)
        return w.mean(dim=1), columns @ columns.mH / self.shape[1]

    def _accept(self, gram: list[list[Tensor]], matched: list[Tensor], there: Tensor, k: int) -> Tensor:
        """Accept the proposal ``there`` for source k or not (Metropolis); return which draws did [B, P]."""
        unit = self.unit.clone()
        unit[:, k] = there
        log_density = self.density.log_density(gram, matched, self.power(unit))
        gain = self.beta.unsqueeze(1) * (log_density - self.log_density)
        accept = self._uniform(*self.shape).log() < gain
        self.unit = unit.where(accept.view(self.shape[0], 1, 1, -1), self.unit)
        self.log_density = log_density.where(accept, self.log_density)
        return accept

    def _adapt(self, tried: Tensor, accepted: Tensor, coordinates: slice) -> None:
        """Change the step sizes of ``coordinates`` so that ``ACCEPTED`` of the steps [B, ·, P] are accepted."""
        count = tried.sum(dim=2)
        share = (tried & accepted).sum(dim=2) / count.clamp(min=1)
        self.log_step[:, coordinates] += torch.where(count > 0, 0.7 * (share - ACCEPTED), 0.0)
        self.log_step.clamp_(max=0.0)

    def _effective(self, beta: Tensor) -> Tensor:
        """Return the effective share of the population if β rises to ``beta`` [B]."""
        weight = ((beta - self.beta).unsqueeze(1) * self.log_density).softmax(dim=1)
        return 1 / weight.square().sum(dim=1) / self.shape[1]

    def _step(self, *shape: int) -> Tensor:
        """Draw random-walk steps of all sizes around the adapted one [B, 4, P]."""
        size = self.log_step.unsqueeze(2) + torch.randn(shape[0], 1, shape[2], generator=self.generator)
        return torch.randn(shape, generator=self.generator) * size.exp()

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)


def reflect(unit: Tensor) -> Tensor:
    """Reflect steps at the walls of [0, 1], which keeps a random walk symmetric."""
    unit = unit.remainder(2)
    return torch.where(unit > 1, 2 - unit, unit)
