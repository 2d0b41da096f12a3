"""Laws of the laws: right data fit, and any axis that means something else is noticed."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from covlab.course.experiments import swapped_axes
from covlab.scenes.batch import Batch
from covlab.scenes.consistency import channel_residual, whitened_power
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator

SIMULATOR = Simulator(preset("student"))
SCENES = SIMULATOR.draw(1024, scene_generator(0, "consistency"))
CONJUGATE = torch.tensor([1.0, -1.0])


def test_right_data_fit_together() -> None:
    assert SIMULATOR.G is not None
    assert channel_residual(SCENES.H, SCENES.codes, SIMULATOR.G) < 1e-5
    # y^H C^-1 y / M has mean 1 and, over 1024 x 16 x 8 independent numbers, deviation 1 / sqrt(131072).
    assert whitened_power(SCENES, SIMULATOR.G) == pytest.approx(1, abs=5 / 131072**0.5)


@pytest.mark.parametrize("name", ["near_field", "full"])
def test_they_fit_at_every_size(name: str) -> None:
    simulator = Simulator(preset(name))
    scenes = simulator.draw(64, scene_generator(1, "consistency"))
    assert simulator.G is not None
    assert channel_residual(scenes.H, scenes.codes, simulator.G) < 1e-5
    assert whitened_power(scenes, simulator.G) == pytest.approx(
        1, abs=5 / (64 * 16 * simulator.scenario.bs_antennas) ** 0.5
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: {"codes": b.codes.transpose(1, 2)},
        lambda b: {"codes": b.codes * CONJUGATE},
        lambda b: {"codes": b.codes.unflatten(2, (4, 4)).transpose(2, 3).flatten(2, 3)},
        lambda b: {"y": b.y.flip(-1)},
        lambda b: {"y": b.y.flip(2)},
        lambda b: {"y": b.y.roll(1, 1)},
        lambda b: {"y": b.y.roll(1, 0)},
        lambda b: {"y": b.y.transpose(1, 2).reshape(b.y.shape)},
        lambda b: {"noise_power": b.noise_power.roll(1)},
    ],
)
def test_whatever_passes_for_an_axis_is_noticed(spoil: Callable[[Batch], dict[str, Tensor]]) -> None:
    assert SIMULATOR.G is not None
    spoilt = replace(SCENES, **spoil(SCENES))  # every shape is as it was
    assert whitened_power(spoilt, SIMULATOR.G) > 5
    if "codes" in spoil(SCENES):
        assert channel_residual(SCENES.H, spoilt.codes, SIMULATOR.G) > 0.5


def test_a_transposed_label_is_noticed() -> None:
    assert SIMULATOR.G is not None
    assert whitened_power(SCENES, SIMULATOR.G, SCENES.covariance().mT) > 5


def test_the_stated_snr_is_tested_where_the_noise_power_follows_from_it() -> None:
    assert SIMULATOR.G is not None
    right = whitened_power(SCENES, SIMULATOR.G)
    assert swapped_axes.whitened_power(SCENES, SIMULATOR.G) == pytest.approx(right, rel=1e-3)
    shuffled = replace(SCENES, snr_db=SCENES.snr_db.roll(1))
    assert whitened_power(shuffled, SIMULATOR.G) == right  # it takes the noise power from the simulator
    assert swapped_axes.whitened_power(shuffled, SIMULATOR.G) > 5
