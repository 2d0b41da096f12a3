"""Laws of the grid and of covariances made of powers on it."""

import math

import pytest
import torch
from torch import Tensor

from covlab.networks.model import Estimate
from covlab.networks.source_grid import DictionaryEstimate, Grid, default_grid
from covlab.scenes.batch import Batch
from covlab.scenes.geometry import steering_vectors
from covlab.scenes.scenario import PRESETS, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.loss import Loss, LossWeights, nmse

STUDENT = preset("student")


def estimate_and_batch(name: str = "student", scenes: int = 8) -> tuple[DictionaryEstimate, Batch]:
    scenario = preset(name)
    grid, generator = default_grid(scenario), scene_generator(0, "test")
    power = torch.rand(scenes, len(grid), generator=generator) * (
        torch.rand(scenes, len(grid), generator=generator) < 0.05
    )
    return grid.estimate(power, torch.rand(scenes, generator=generator)), Simulator(scenario).draw(scenes, generator)


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("name", PRESETS)
def test_columns_are_the_steering_vectors_of_the_points(name: str, near: bool) -> None:
    grid = default_grid(preset(name), near)
    assert len(grid) == grid.steering.shape[1] == math.prod(grid.shape)
    expected = steering_vectors(grid.scenario, grid.azimuth.double(), grid.elevation.double(), grid.range_m.double()).T
    assert torch.allclose(grid.steering, expected.to(torch.complex64), atol=1e-4)
    assert torch.allclose(grid.steering.abs().square().sum(dim=0), torch.tensor(float(len(grid.steering))))
    assert near or grid.range_m.isinf().all()


@pytest.mark.parametrize("name", PRESETS)
def test_every_source_has_a_neighbour_on_the_grid(name: str) -> None:
    """A source lies at most half a step from a point along each axis, so its wave front is well correlated with one of
    them.
    """
    grid, batch = default_grid(preset(name)), Simulator(preset(name)).draw(200, scene_generator(0, "test"))
    waves = batch.steering.mT.reshape(-1, len(grid.steering))
    best = ((waves.conj() @ grid.steering).abs() / len(grid.steering)).square().max(dim=1).values
    assert best.min() > math.exp(-1)
    coarse = default_grid(preset(name), step=2.0)
    assert ((waves.conj() @ coarse.steering).abs() / len(grid.steering)).square().max(dim=1).values.mean() < best.mean()


def test_neighbours_in_angle_are_about_as_correlated_as_the_step_says() -> None:
    step = 0.6
    grid = default_grid(preset("full"), near=False, step=step)
    D = grid.steering.T.unflatten(0, grid.shape)[0] / 12
    for one, other in ((D[1:], D[:-1]), (D[:, 1:], D[:, :-1])):
        likeness = (one.conj() * other).sum(dim=-1).abs().square()
        assert likeness.min() > math.exp(-(step**2)) - 0.05 and likeness.max() < math.exp(-((0.75 * step) ** 2))


@pytest.mark.parametrize("name", PRESETS)
def test_error_from_powers_is_the_error_of_the_matrices(name: str) -> None:
    estimate, batch = estimate_and_batch(name)
    assert torch.allclose(estimate.nmse(batch), nmse(estimate.covariance(), batch.covariance()), atol=1e-5)
    trace, norm = estimate.trace_and_norm
    R = estimate.covariance()
    assert torch.allclose(trace, R.diagonal(dim1=1, dim2=2).real.sum(dim=1)) and torch.allclose(
        norm, torch.linalg.matrix_norm(R)
    )


def test_scale_of_the_powers_does_not_matter() -> None:
    estimate, batch = estimate_and_batch()
    scaled = estimate.grid.estimate(300 * estimate.power, 300 * estimate.loading)
    assert torch.allclose(estimate.nmse(batch), scaled.nmse(batch), rtol=1e-4)


def test_sources_on_the_grid_are_described_exactly() -> None:
    grid = default_grid(STUDENT)
    batch = Simulator(STUDENT).draw(4, scene_generator(0, "test"))
    chosen = torch.tensor([[3, 40], [5, 77], [60, 9], [100, 2]])
    power = torch.zeros(4, len(grid)).scatter(1, chosen, batch.power)
    object.__setattr__(batch, "steering", grid.steering.T[chosen].mT)
    assert grid.estimate(power, torch.zeros(4)).nmse(batch).abs().max() < 1e-5


def test_loss_of_powers_is_the_loss_of_their_factors() -> None:
    """Every term that asks for no head says the same of the two ways to write one matrix."""
    estimate, batch = estimate_and_batch()
    loss = Loss(STUDENT, LossWeights(lam_K=0.0))
    terms, expected = loss(estimate, batch).terms, loss(Estimate(estimate.factor, estimate.loading), batch).terms
    for name in terms:
        assert torch.allclose(terms[name], expected[name], rtol=1e-3, atol=1e-4), name
    for weight in ("lam_K", "lam_aux"):
        with pytest.raises(ValueError, match=f"{weight} must be 0, because this estimate has no"):
            Loss(STUDENT, LossWeights.only(lam_cov=1.0, **{weight: 0.1}))(estimate, batch)


@pytest.mark.parametrize(
    "axis, wrong",
    [
        ("azimuths", torch.tensor([2.0])),
        ("elevations", torch.zeros(2, 2)),
        ("ranges", torch.tensor([0.0])),
        ("ranges", torch.empty(0)),
    ],
)
def test_axis_that_is_none_is_refused_by_name(axis: str, wrong: Tensor) -> None:
    axes = {"azimuths": torch.zeros(1), "elevations": torch.zeros(1), "ranges": torch.ones(1)}
    with pytest.raises(ValueError, match=axis):
        Grid(STUDENT, **(axes | {axis: wrong}))
    with pytest.raises(ValueError, match="step"):
        default_grid(STUDENT, step=0.0)


def test_grid_moves_to_a_device_with_all_its_tensors() -> None:
    grid = default_grid(STUDENT)
    assert grid.overlap.device.type == "cpu"
    moved = grid.to("meta")
    assert {moved.steering.device.type, moved.azimuth.device.type, moved.overlap.device.type} == {"meta"}
    assert grid.steering.device.type == "cpu" and moved.shape == grid.shape
