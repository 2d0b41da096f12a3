"""The Bayes estimate: the density, the sampler against integration over a grid, calibration, and the prior's limit."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from covlab.estimators.posterior import (
    SnapshotDensity,
    _Sampler,
    expected_nmse,
    product,
    reflect,
    sample_posterior,
)
from covlab.scenes.batch import Batch
from covlab.scenes.channel import site_channel
from covlab.scenes.geometry import steering_vectors
from covlab.scenes.scenario import Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.loss import nmse

STUDENT = preset("student")


def draw(scenario: Scenario, scenes: int) -> tuple[Batch, Tensor]:
    """Return scenes, and the channel."""
    batch = Simulator(scenario).draw(scenes, scene_generator(3, "posterior"))
    return batch, site_channel(scenario).to(torch.complex64)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def log_density(batch: Batch, G: Tensor, steering: Tensor, power: Tensor) -> Tensor:
    """Evaluate the sampler's density for candidates: waves [B, K, N, P] with power [B, K, P]."""
    density = SnapshotDensity(G, batch)
    e = [density.responses(wave) for wave in steering.unbind(dim=1)]
    gram = [[product(e[i], e[j]) for j in range(i + 1)] for i in range(len(e))]
    return density.log_density(gram, [density.matched(one) for one in e], power)


@pytest.mark.parametrize("name", ["student", "near_field", "full"])
def test_density_is_the_complex_gaussian_one(name: str) -> None:
    """log p(y) = −Σ_l (log det S_l + yᴴ S_l⁻¹ y), with σ² the mean received power over the SNR."""
    scenario = preset(name)
    batch, G = draw(scenario, 3)
    other = Simulator(scenario).draw(3, scene_generator(4, "posterior"))
    for candidate in (batch, other):
        power = candidate.power.clamp(min=0.01)
        found = log_density(batch, G, candidate.steering.mT.unsqueeze(3), power.unsqueeze(2)).squeeze(1)
        codes, y = torch.view_as_complex(batch.codes.double()), torch.view_as_complex(batch.y.double())
        columns = (candidate.steering * power.sqrt().unsqueeze(1)).to(codes.dtype)
        F = (G.to(codes.dtype) * codes.unsqueeze(2)) @ columns.unsqueeze(1)
        noise = F.abs().square().sum(dim=3).mean(dim=(1, 2)) / 10 ** (batch.snr_db.double() / 10)
        S = F @ F.mH + noise.view(-1, 1, 1, 1) * torch.eye(G.shape[0])
        fit = (y.unsqueeze(2).conj() @ torch.linalg.solve(S, y.unsqueeze(3))).real.sum(dim=(1, 2, 3))
        torch.testing.assert_close(found.double(), -fit - torch.linalg.slogdet(S)[1].sum(dim=1), rtol=1e-3, atol=0.05)
    assert torch.allclose(noise_at_truth(batch, G), batch.noise_power, rtol=1e-3)


def noise_at_truth(batch: Batch, G: Tensor) -> Tensor:
    """Return σ² as the density infers it from the true sources [B]."""
    codes = torch.view_as_complex(batch.codes)
    F = (G * codes.unsqueeze(2)) @ (batch.steering * batch.power.sqrt().unsqueeze(1)).unsqueeze(1)
    return F.abs().square().sum(dim=3).mean(dim=(1, 2)) / 10 ** (batch.snr_db / 10)


def test_one_source_agrees_with_integration_over_a_grid() -> None:
    """The posterior mean of one source, and the evidence, are those of a fine grid over its three coordinates."""
    scenario = replace(STUDENT, max_sources=1, snr_db=(-5.0, 5.0))
    batch, G = draw(scenario, 6)
    limits, counts = (scenario.azimuth, scenario.elevation, scenario.range_m), (48, 24, 40)
    axes = [
        low + (high - low) * (torch.arange(count) + 0.5) / count
        for (low, high), count in zip(limits, counts, strict=True)
    ]
    points = torch.cartesian_prod(*axes)
    steering = steering_vectors(scenario, *points.unbind(dim=1)).T  # [N, T]
    scores = log_density(batch, G, steering.expand(6, 1, -1, -1), torch.ones(1, 1, 1))
    probability = scores.softmax(dim=1)
    mean = (steering * probability.unsqueeze(1)) @ steering.mH  # w is the same for all, as R has rank 1
    posterior = sample_posterior(scenario, batch, generator(0), draws=256, sweeps=16)
    assert nmse(posterior.covariance(), mean).max() < 0.01
    evidence = scores.logsumexp(dim=1) - math.log(len(points))
    # With 16 sweeps, one run's log evidence has a standard deviation of about 0.2; with 4 sweeps, 0.5.
    assert (posterior.populations[0].log_evidence - evidence).abs().max() < 1.0


def test_two_runs_agree() -> None:
    batch, _ = draw(STUDENT, 6)
    one, other = (sample_posterior(STUDENT, batch, generator(seed), draws=64) for seed in (0, 1))
    limit = expected_nmse(one, other)
    apart = nmse(one.covariance(), other.covariance())
    assert apart.mean() < 0.3 * limit.mean()
    assert (limit > -0.01).all()
    torch.testing.assert_close(one.covariance().diagonal(dim1=1, dim2=2).real.sum(dim=1), torch.full((6,), 16.0))


def test_without_signal_the_limit_is_that_of_the_prior() -> None:
    """At a very low SNR, the posterior is the prior, weighted by what the level of the snapshots says about it.

    The SNR is known, and the powers sum to 1. So the level of noise alone still says how much of the sources arrives.
    """
    scenario = replace(STUDENT, snr_db=(-80.0, -80.0))
    batch, G = draw(scenario, 16)
    one, other = (sample_posterior(scenario, batch, generator(seed), draws=128, sweeps=2) for seed in (0, 1))
    limit = expected_nmse(one, other).mean()

    prior = Simulator(scenario).draw(2000, generator(2))
    R = (prior.steering * prior.power.unsqueeze(1)) @ prior.steering.mH
    w = 1 / R.abs().square().sum(dim=(1, 2))
    steering = prior.steering.permute(2, 1, 0).unsqueeze(0).expand(16, -1, -1, -1)  # [B, K, N, P]
    weights = log_density(batch, G, steering, prior.power.T.unsqueeze(0)).softmax(dim=1) * w
    weighted = (weights.to(R.dtype) @ R.flatten(1)).unflatten(1, R.shape[1:])
    by_weights = (1 - weighted.abs().square().sum(dim=(1, 2)) / weights.sum(dim=1)).mean()
    assert abs(limit / by_weights - 1) < 0.02
    blind = 1 - (w.view(-1, 1, 1) * R).mean(dim=0).abs().square().sum() / w.mean()
    assert limit < 1.01 * blind  # the level can only help


@pytest.mark.parametrize("K", [1, 2, 3])
def test_what_the_sampler_keeps_is_that_of_its_sources(K: int) -> None:
    """After all moves and resampling, every draw's density is the one computed again from its sources."""
    scenario = preset("near_field")
    batch, G = draw(scenario, 2)
    sampler = _Sampler(scenario, G, batch, K, draws=16, generator=generator(0))
    sources = sampler.run(sweeps=2)[0]
    azimuth, elevation, range_m, power = sources.unbind(dim=2)
    steering = steering_vectors(scenario, azimuth, elevation, range_m).mT
    again = log_density(batch, G, steering, power)
    torch.testing.assert_close(sampler.log_density, again, rtol=1e-3, atol=0.05)


def test_steps_stay_in_the_cube() -> None:
    steps = torch.tensor([-0.25, 0.5, 1.25, 2.5, -3.0])
    torch.testing.assert_close(reflect(steps), torch.tensor([0.25, 0.5, 0.75, 0.5, 1.0]))


@pytest.mark.parametrize(
    "change",
    [{"source_correlation": 0.5}, {"site": "per_scene"}, {"calibration_error_db": -20.0}, {"dead_elements": 1}],
)
def test_another_likelihood_is_refused(change: dict[str, Any]) -> None:
    scenario = replace(STUDENT, **change)
    batch = Simulator(scenario).draw(1, generator(0))
    with pytest.raises(ValueError, match=f"scenario.{next(iter(change))}"):
        sample_posterior(scenario, batch, generator(0))


@pytest.mark.slow
def test_ranks_of_the_truth_are_uniform() -> None:
    """Simulation-based calibration (Talts et al. 2018): the truth is one more draw from its own posterior."""
    scenes = 192
    batch, _ = draw(STUDENT, scenes)
    posterior = sample_posterior(STUDENT, batch, generator(0), draws=128, sweeps=6)
    chance = posterior.count_probability

    def uniform(ranks: Tensor) -> bool:
        """Is the Kolmogorov-Smirnov distance below its 99.9 % quantile?"""
        ranks = ranks.sort().values
        steps = torch.arange(scenes + 1) / scenes
        distance = torch.maximum((ranks - steps[:-1]).abs().max(), (ranks - steps[1:]).abs().max())
        return distance.item() < 1.95 / math.sqrt(scenes)

    def entries(steering: Tensor, power: Tensor) -> Tensor:
        """Functions of R: |R|² of waves [B, P, N, K], and R at two pairs of elements [B, P, 3]."""
        R = (steering * power.unsqueeze(2)) @ steering.mH
        return torch.stack([R.abs().square().sum(dim=(2, 3)), R[..., 0, 5].real, R[..., 0, 15].imag], dim=2)

    truth = entries(batch.steering.unsqueeze(1), batch.power.unsqueeze(1))
    ranks, jitter = torch.zeros(scenes, 3), torch.rand(scenes, 1, generator=generator(1))
    for K, population in enumerate(posterior.populations):
        azimuth, elevation, range_m, power = population.sources.permute(2, 0, 3, 1)
        drawn = entries(steering_vectors(STUDENT, azimuth, elevation, range_m).mT, power)
        close = (drawn - truth).abs() < 1e-4  # |R|² of one source is always N²
        below = torch.where(close, jitter.unsqueeze(1), (drawn < truth).float()).mean(dim=1)
        ranks += chance[:, K : K + 1] * below
    for index in range(3):
        assert uniform(ranks[:, index])
    # Each K is as frequent as its probabilities say.
    for K, probability in enumerate(chance.unbind(dim=1), start=1):
        surprise = (batch.source_count == K).float() - probability
        spread = (probability * (1 - probability)).sum().sqrt()
        assert surprise.sum().abs() < 3.3 * spread + 0.5
