"""The statistics of a known site, against their definitions: slopes by automatic differentiation, matrices by forming
them.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from covlab.networks.snapshot_likelihood import TRIED_POWERS, GridCoordinates, SnapshotLikelihood, eliminate
from covlab.networks.source_grid import default_grid
from covlab.scenes.batch import Batch
from covlab.scenes.channel import site_channel
from covlab.scenes.geometry import steering_vectors
from covlab.scenes.scenario import PRESETS, Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator

NEAR = preset("near_field")
FAR = replace(NEAR, near_field=False)


def coordinates_and_positions(scenario: Scenario, sources: int = 3, scenes: int = 2) -> tuple[GridCoordinates, Tensor]:
    coordinates = GridCoordinates(scenario, default_grid(scenario)).double()
    positions = coordinates.low + (coordinates.high - coordinates.low) * torch.rand(
        scenes, 3, sources, dtype=torch.float64, generator=scene_generator(0, "places")
    )
    return coordinates, positions


def likelihood_of(scenario: Scenario, scenes: int = 2) -> tuple[SnapshotLikelihood, Batch]:
    batch = Simulator(scenario, dtype=torch.complex128).draw(scenes, scene_generator(0, "test"))
    return SnapshotLikelihood(site_channel(scenario), batch.y, batch.codes, batch.snr_db), batch


@pytest.mark.parametrize(
    "scenario", [*map(preset, PRESETS), FAR], ids=lambda scenario: f"{scenario.name}-{scenario.near_field}"
)
def test_waves_are_the_steering_vectors_and_slopes_their_derivatives(scenario: Scenario) -> None:
    coordinates, positions = coordinates_and_positions(scenario)
    phi, theta, log_r = coordinates.parameters_of(positions).unbind(2)
    expected = steering_vectors(scenario, phi, theta, log_r.exp()).mT
    assert torch.allclose(coordinates.steering(positions), expected, atol=1e-6)
    steering = coordinates.steering_and_slopes(positions)
    assert torch.allclose(steering[:, :, 0], expected, atol=1e-6)
    # [N, P, 2, B, 3, P]
    jacobian = torch.autograd.functional.jacobian(
        lambda x: torch.view_as_real(coordinates.steering(x)).sum(dim=0), positions
    )
    slopes = torch.view_as_complex(jacobian.diagonal(dim1=1, dim2=5).permute(2, 0, 3, 4, 1).contiguous())
    assert torch.allclose(steering[:, :, 1:], slopes, atol=1e-9)


def test_coordinates_of_the_grid_are_its_points() -> None:
    grid = default_grid(NEAR)
    coordinates = GridCoordinates(NEAR, grid)
    phi, theta, log_r = coordinates.parameters_of(coordinates.points.unsqueeze(0)).unbind(2)
    for coordinate, expected in ((phi, grid.azimuth), (theta, grid.elevation), (log_r.exp(), grid.range_m)):
        assert torch.allclose(coordinate[0], expected, rtol=1e-4, atol=1e-5)
    jitter = 0.4 * (2 * torch.rand(1, 3, len(grid), generator=scene_generator(0, "jitter")) - 1)
    point, direction = coordinates.nearest(coordinates.points + jitter)
    assert torch.equal(point[0], torch.arange(len(grid))) and torch.equal(
        direction, point % (grid.shape[1] * grid.shape[2])
    )
    neighbours = coordinates.points.view(3, *grid.shape)
    assert torch.allclose(neighbours[0, :, :, 1:] - neighbours[0, :, :, :-1], torch.ones(()), atol=1e-4)


def log_likelihood(
    likelihood: SnapshotLikelihood, coordinates: GridCoordinates, loading: Tensor, theta: Tensor
) -> Tensor:
    """ℓ of (log p, x) [B, 4, P], with every S_l formed and its determinant taken."""
    S = covariance(likelihood, coordinates, loading, theta)
    quadratic = (likelihood.y.unsqueeze(2).conj() @ torch.linalg.solve(S, likelihood.y.unsqueeze(3))).real
    return -(torch.linalg.slogdet(S)[1].sum(dim=1) + quadratic.sum(dim=(1, 2, 3)))


def covariance(likelihood: SnapshotLikelihood, coordinates: GridCoordinates, loading: Tensor, theta: Tensor) -> Tensor:
    elements = likelihood.codes.shape[2]
    R = coordinates.steering(theta[:, 1:]) * theta[:, :1].exp() @ coordinates.steering(theta[:, 1:]).mH + loading.view(
        -1, 1, 1
    ) * torch.eye(elements)
    C = torch.diag_embed(likelihood.codes)
    return likelihood.G @ C @ R.unsqueeze(1) @ C.mH @ likelihood.G.mH + likelihood.noise.view(-1, 1, 1, 1) * torch.eye(
        len(likelihood.G)
    )


def test_score_is_the_slope_of_the_likelihood_and_information_its_variance() -> None:
    coordinates, positions = coordinates_and_positions(NEAR)
    likelihood, _ = likelihood_of(NEAR)
    loading, log_power = (
        torch.tensor([0.3, 0.01], dtype=torch.float64),
        torch.tensor([[-1.0, 0.2, -3.0], [0.0, -2.0, -1.0]], dtype=torch.float64),
    )
    slope = likelihood.slope(coordinates, positions, log_power, loading)
    theta = torch.cat([log_power.unsqueeze(1), positions], dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(log_likelihood(likelihood, coordinates, loading, theta).sum(), theta)
    assert torch.allclose(slope.score, gradient, rtol=1e-7, atol=1e-7 * gradient.abs().max().item())
    explained = likelihood.explained(coordinates.steering(positions), log_power, loading)
    S = covariance(likelihood, coordinates, loading, theta)
    assert torch.allclose(explained.precision @ S, torch.eye(len(likelihood.G), dtype=S.dtype).expand_as(S), atol=1e-8)
    # Fisher's information of a complex normal vector: Σ_l tr(S⁻¹ ∂S S⁻¹ ∂S).
    for scene in range(2):
        own = [tensor[scene : scene + 1] for tensor in (likelihood.y, likelihood.codes, likelihood.noise)]
        alone = SnapshotLikelihood.__new__(SnapshotLikelihood)
        alone.G, (alone.y, alone.codes, alone.noise) = likelihood.G, own
        level, at = loading[scene : scene + 1], theta[scene : scene + 1].detach()
        jacobian = torch.autograd.functional.jacobian(
            lambda x, alone=alone, level=level: torch.view_as_real(covariance(alone, coordinates, level, x)), at
        )
        # [L, M, M, 4P]
        dS = torch.view_as_complex(jacobian.squeeze(5).squeeze(0).movedim(3, -1).contiguous()).flatten(3, 4)
        white = torch.einsum("lab,lbci->liac", explained.precision[scene], dS)
        expected = torch.einsum("liac,ljca->ij", white, white).real
        assert torch.allclose(slope.information[scene], expected, rtol=1e-6, atol=1e-8 * expected.abs().max().item())


def test_sources_explain_what_their_waves_do_in_each_snapshot() -> None:
    likelihood, coordinates, sources, loading = three_sources(NEAR)
    steering = coordinates.steering(sources[:, 1:])
    explained = likelihood.explained(steering, sources[:, 0], loading)
    S = covariance(likelihood, coordinates, loading, sources)
    e = torch.einsum("mn,bln,bnp->blmp", likelihood.G, likelihood.codes, steering)
    assert torch.allclose(explained.waves, e.mH @ torch.linalg.solve(S, e), rtol=1e-8)
    heard = (e.mH @ torch.linalg.solve(S, likelihood.y.unsqueeze(3))).squeeze(3)
    assert torch.allclose(explained.heard, heard, rtol=1e-8)
    fit = heard.abs().square().sum(dim=1) / (e.mH @ torch.linalg.solve(S, e)).diagonal(dim1=2, dim2=3).real.sum(dim=1)
    assert torch.allclose(explained.fit.exp(), fit, rtol=1e-2)


def test_matched_filter_is_its_definition() -> None:
    likelihood, batch = likelihood_of(NEAR)
    grid = default_grid(NEAR)
    D = grid.steering.to(torch.complex128)
    seen = likelihood.responses(batch.steering)
    precision = likelihood.precision(seen, batch.power, torch.zeros(2, dtype=torch.float64))
    steering = torch.einsum("mn,bln,ng->blmg", likelihood.G, likelihood.codes, D)
    score = torch.einsum("blmg,blmk,blk->blg", steering.conj(), precision, likelihood.y).abs().square().sum(dim=1)
    level = torch.einsum("blkm,mn,kn->b", precision, likelihood.G, likelihood.G.conj()).real
    assert torch.allclose(likelihood.matched(precision, D).exp() * 1.05, score / level.unsqueeze(1) + 0.05, rtol=1e-6)


def test_matched_filter_is_one_on_average_where_the_covariance_is_right() -> None:
    scenario = preset("student")
    batch = Simulator(scenario).draw(2000, scene_generator(0, "test"))
    likelihood = SnapshotLikelihood(site_channel(scenario).to(torch.complex64), batch.y, batch.codes, batch.snr_db)
    # the exact scale, where the estimated one is 4 % off on average
    likelihood.y, likelihood.noise = (
        torch.view_as_complex(batch.y),
        batch.noise_power,
    )
    phases = 6.3 * torch.rand(scenario.ris_elements, 400, generator=scene_generator(0, "waves"))
    steering = torch.polar(torch.ones_like(phases), phases)
    precision = likelihood.precision(likelihood.responses(batch.steering), batch.power, torch.zeros(2000))
    ratio = likelihood.matched(precision, steering).exp() * 1.05 - 0.05
    assert ratio.mean().item() == pytest.approx(1, abs=0.03)


def three_sources(scenario: Scenario) -> tuple[SnapshotLikelihood, GridCoordinates, Tensor, Tensor]:
    """Return a likelihood, coordinates, and (log p, x) [B, 4, P] of three sources with loading [B]."""
    coordinates, positions = coordinates_and_positions(scenario)
    log_power = torch.tensor([[-1.0, -0.2, -3.0], [0.0, -2.0, -1.0]], dtype=torch.float64)
    loading = torch.tensor([0.3, 0.01], dtype=torch.float64)
    return likelihood_of(scenario)[0], coordinates, torch.cat([log_power.unsqueeze(1), positions], dim=1), loading


@pytest.mark.parametrize("scenario", [NEAR, FAR], ids=["near", "far"])
def test_gain_is_what_the_likelihood_gains_from_one_more_source(scenario: Scenario) -> None:
    likelihood, coordinates, sources, loading = three_sources(scenario)
    before = sources[:, :, :2]
    explained = likelihood.explained(coordinates.steering(before[:, 1:]), before[:, 0], loading)
    gains = []
    for power in TRIED_POWERS:
        more = sources[:, :, 2:].clone()
        more[:, 0] = math.log(power)
        after = log_likelihood(likelihood, coordinates, loading, torch.cat([before, more], dim=2))
        gains.append(after - log_likelihood(likelihood, coordinates, loading, before))
    gain = likelihood.gain(explained.precision, coordinates.steering(sources[:, 1:, 2:])).squeeze(1)
    assert torch.allclose(gain, torch.stack(gains).amax(dim=0).clamp(min=0), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scenario", [NEAR, FAR], ids=["near", "far"])
def test_elimination_removes_the_least_useful_source_first(scenario: Scenario) -> None:
    likelihood, coordinates, sources, loading = three_sources(scenario)
    explained = likelihood.explained(coordinates.steering(sources[:, 1:]), sources[:, 0], loading)
    found = eliminate(explained, sources[:, 0])
    for scene in range(2):
        own = SnapshotLikelihood.__new__(SnapshotLikelihood)
        own.G, part = likelihood.G, slice(scene, scene + 1)
        own.y, own.codes, own.noise = (x[part] for x in (likelihood.y, likelihood.codes, likelihood.noise))

        def value(left: list[int], own: SnapshotLikelihood = own, part: slice = part) -> float:
            return log_likelihood(own, coordinates, loading[part], sources[part][:, :, left]).item()

        left = [0, 1, 2]
        for turn in range(3):
            losses = {k: value(left) - value([j for j in left if j != k]) for k in left}
            if turn == 0:
                assert found.alone[scene].tolist() == pytest.approx(list(losses.values()), rel=1e-8)
            least = min(losses, key=losses.__getitem__)
            assert found.turn[scene, least] == turn
            assert found.in_turn[scene, least].item() == pytest.approx(losses[least], rel=1e-8)
            left.remove(least)
