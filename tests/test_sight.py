"""The statistics of a known site, against their definitions: slopes by automatic differentiation, matrices by forming
them.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from covlab.grid import default_grid
from covlab.scenario import PRESETS, Scenario, preset
from covlab.sight import Chart, Sight
from covlab.simulator import Batch, Simulator, scene_generator
from covlab.site import site_channel, steering_vectors

NEAR = preset("near_field")
FAR = replace(NEAR, near_field=False)


def chart_and_places(scenario: Scenario, sources: int = 3, scenes: int = 2) -> tuple[Chart, Tensor]:
    chart = Chart(scenario, default_grid(scenario)).double()
    places = chart.low + (chart.high - chart.low) * torch.rand(
        scenes, 3, sources, dtype=torch.float64, generator=scene_generator(0, "places")
    )
    return chart, places


def sight_of(scenario: Scenario, scenes: int = 2) -> tuple[Sight, Batch]:
    batch = Simulator(scenario, dtype=torch.complex128).draw(scenes, scene_generator(0, "test"))
    return Sight(site_channel(scenario), batch.y, batch.codes, batch.snr_db), batch


@pytest.mark.parametrize(
    "scenario", [*map(preset, PRESETS), FAR], ids=lambda scenario: f"{scenario.name}-{scenario.near_field}"
)
def test_waves_are_the_steering_vectors_and_slopes_their_derivatives(scenario: Scenario) -> None:
    chart, places = chart_and_places(scenario)
    phi, theta, log_r = chart.parameters_of(places).unbind(2)
    expected = steering_vectors(scenario, phi, theta, log_r.exp()).mT
    assert torch.allclose(chart.waves(places), expected, atol=1e-6)
    waves = chart.waves_and_slopes(places)
    assert torch.allclose(waves[:, :, 0], expected, atol=1e-6)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: torch.view_as_real(chart.waves(x)).sum(dim=0), places
    )  # [N, P, 2, B, 3, P]
    slopes = torch.view_as_complex(jacobian.diagonal(dim1=1, dim2=5).permute(2, 0, 3, 4, 1).contiguous())
    assert torch.allclose(waves[:, :, 1:], slopes, atol=1e-9)


def test_coordinates_of_the_grid_are_its_points() -> None:
    grid = default_grid(NEAR)
    chart = Chart(NEAR, grid)
    phi, theta, log_r = chart.parameters_of(chart.points.unsqueeze(0)).unbind(2)
    for coordinate, expected in ((phi, grid.azimuth), (theta, grid.elevation), (log_r.exp(), grid.range_m)):
        assert torch.allclose(coordinate[0], expected, rtol=1e-4, atol=1e-5)
    jitter = 0.4 * (2 * torch.rand(1, 3, len(grid), generator=scene_generator(0, "jitter")) - 1)
    point, direction = chart.nearest(chart.points + jitter)
    assert torch.equal(point[0], torch.arange(len(grid))) and torch.equal(
        direction, point % (grid.shape[1] * grid.shape[2])
    )
    neighbours = chart.points.view(3, *grid.shape)
    assert torch.allclose(neighbours[0, :, :, 1:] - neighbours[0, :, :, :-1], torch.ones(()), atol=1e-4)


def likelihood(sight: Sight, chart: Chart, loading: Tensor, theta: Tensor) -> Tensor:
    """ℓ of (log p, x) [B, 4, P], with every S_l formed and its determinant taken."""
    S = covariance(sight, chart, loading, theta)
    quadratic = (sight.y.unsqueeze(2).conj() @ torch.linalg.solve(S, sight.y.unsqueeze(3))).real
    return -(torch.linalg.slogdet(S)[1].sum(dim=1) + quadratic.sum(dim=(1, 2, 3)))


def covariance(sight: Sight, chart: Chart, loading: Tensor, theta: Tensor) -> Tensor:
    elements = sight.codes.shape[2]
    R = chart.waves(theta[:, 1:]) * theta[:, :1].exp() @ chart.waves(theta[:, 1:]).mH + loading.view(
        -1, 1, 1
    ) * torch.eye(elements)
    C = torch.diag_embed(sight.codes)
    return sight.G @ C @ R.unsqueeze(1) @ C.mH @ sight.G.mH + sight.noise.view(-1, 1, 1, 1) * torch.eye(len(sight.G))


def test_score_is_the_slope_of_the_likelihood_and_information_its_variance() -> None:
    chart, places = chart_and_places(NEAR)
    sight, _ = sight_of(NEAR)
    loading, log_power = (
        torch.tensor([0.3, 0.01], dtype=torch.float64),
        torch.tensor([[-1.0, 0.2, -3.0], [0.0, -2.0, -1.0]], dtype=torch.float64),
    )
    slope = sight.slope(chart, places, log_power, loading)
    theta = torch.cat([log_power.unsqueeze(1), places], dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood(sight, chart, loading, theta).sum(), theta)
    assert torch.allclose(slope.score, gradient, rtol=1e-7, atol=1e-7 * gradient.abs().max().item())
    S = covariance(sight, chart, loading, theta)
    assert torch.allclose(slope.precision @ S, torch.eye(len(sight.G), dtype=S.dtype).expand_as(S), atol=1e-8)
    # Fisher's information of a complex normal vector: Σ_l tr(S⁻¹ ∂S S⁻¹ ∂S).
    for scene in range(2):
        own = [tensor[scene : scene + 1] for tensor in (sight.y, sight.codes, sight.noise)]
        alone = Sight.__new__(Sight)
        alone.G, (alone.y, alone.codes, alone.noise) = sight.G, own
        level, at = loading[scene : scene + 1], theta[scene : scene + 1].detach()
        jacobian = torch.autograd.functional.jacobian(
            lambda x, alone=alone, level=level: torch.view_as_real(covariance(alone, chart, level, x)), at
        )
        dS = torch.view_as_complex(jacobian.squeeze(5).squeeze(0).movedim(3, -1).contiguous()).flatten(
            3, 4
        )  # [L, M, M, 4P]
        white = torch.einsum("lab,lbci->liac", slope.precision[scene], dS)
        expected = torch.einsum("liac,ljca->ij", white, white).real
        assert torch.allclose(slope.information[scene], expected, rtol=1e-6, atol=1e-8 * expected.abs().max().item())


def test_matched_filter_is_its_definition() -> None:
    sight, batch = sight_of(NEAR)
    grid = default_grid(NEAR)
    D = grid.steering.to(torch.complex128)
    seen = sight.see(batch.steering)
    precision = sight.precision(seen, batch.power, torch.zeros(2, dtype=torch.float64))
    waves = torch.einsum("mn,bln,ng->blmg", sight.G, sight.codes, D)
    score = torch.einsum("blmg,blmk,blk->blg", waves.conj(), precision, sight.y).abs().square().sum(dim=1)
    level = torch.einsum("blkm,mn,kn->b", precision, sight.G, sight.G.conj()).real
    assert torch.allclose(sight.matched(precision, D).exp() * 1.05, score / level.unsqueeze(1) + 0.05, rtol=1e-6)


def test_matched_filter_is_one_on_average_where_the_covariance_is_right() -> None:
    scenario = preset("student")
    batch = Simulator(scenario).draw(2000, scene_generator(0, "test"))
    sight = Sight(site_channel(scenario).to(torch.complex64), batch.y, batch.codes, batch.snr_db)
    sight.y, sight.noise = (
        torch.view_as_complex(batch.y),
        batch.noise_power,
    )  # the exact scale, where the estimated one is 4 % off on average
    phases = 6.3 * torch.rand(scenario.ris_elements, 400, generator=scene_generator(0, "waves"))
    waves = torch.polar(torch.ones_like(phases), phases)
    precision = sight.precision(sight.see(batch.steering), batch.power, torch.zeros(2000))
    ratio = sight.matched(precision, waves).exp() * 1.05 - 0.05
    assert ratio.mean().item() == pytest.approx(1, abs=0.03)
