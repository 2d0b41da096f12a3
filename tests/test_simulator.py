"""Laws of the simulated physics."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from covlab.scenes.batch import Batch, concatenate
from covlab.scenes.channel import site_channel
from covlab.scenes.geometry import directions, ris_positions, steering_vectors
from covlab.scenes.scenario import PRESETS, Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes

STUDENT = preset("student")


def draw(scenes: int = 64, seed: int = 0, scenario: Scenario = STUDENT, dtype: torch.dtype = torch.complex128) -> Batch:
    return Simulator(scenario, dtype=dtype).draw(scenes, scene_generator(seed, "test"))


def snapshot_channels(batch: Batch, G: Tensor) -> Tensor:
    """G diag(c_l) for every snapshot [B, L, M, N]."""
    return G * torch.view_as_complex(batch.codes).unsqueeze(2)


def test_snapshots_have_the_covariance_of_the_model() -> None:
    """Whitened by (G diag(c) R diag(c)ᴴ Gᴴ + σ²I)^(-½), snapshots are CN(0, I), and independent of their neighbours."""
    simulator = Simulator(STUDENT, dtype=torch.complex128)
    batch = simulator.draw(4096, scene_generator(1, "test"))
    assert simulator.G is not None
    channels = snapshot_channels(batch, simulator.G)
    covariance = channels @ batch.covariance().unsqueeze(1) @ channels.mH
    covariance = covariance + batch.noise_power.view(-1, 1, 1, 1) * torch.eye(STUDENT.bs_antennas)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), torch.view_as_complex(batch.y).unsqueeze(-1), upper=False
    )
    white = white.squeeze(-1)
    count = white.shape[0] * white.shape[1]
    for other, expected in (
        (white, torch.eye(STUDENT.bs_antennas)),
        (white.roll(1, dims=1), torch.zeros(STUDENT.bs_antennas)),
    ):
        empirical = torch.einsum("blm,blk->mk", white, other.conj()) / count
        assert (empirical - expected).abs().max() < 5 / math.sqrt(count)
    pseudo = torch.einsum("blm,blk->mk", white, white) / count  # circular: E[z zᵀ] = 0
    assert pseudo.abs().max() < 6 / math.sqrt(count)


def test_snr_label_is_expected_signal_power_over_noise_power() -> None:
    simulator = Simulator(STUDENT, dtype=torch.complex128)
    batch = simulator.draw(32, scene_generator(2, "test"))
    assert simulator.G is not None
    channels = snapshot_channels(batch, simulator.G)
    power = (channels @ batch.covariance().unsqueeze(1) @ channels.mH).diagonal(dim1=-2, dim2=-1).real.mean(dim=(1, 2))
    assert torch.allclose(10 * torch.log10(power / batch.noise_power), batch.snr_db)


@pytest.mark.parametrize("name", PRESETS)
def test_covariance_is_hermitian_psd_of_rank_k_and_trace_n(name: str) -> None:
    batch = draw(scenario=preset(name))
    R = batch.covariance()
    values = torch.linalg.eigvalsh(R)
    assert torch.allclose(R, R.mH)
    assert values.min() > -1e-9
    assert torch.allclose(
        R.diagonal(dim1=1, dim2=2).sum(1).real, torch.full((len(batch),), float(R.shape[-1]), dtype=torch.float64)
    )
    assert ((values > 1e-9).sum(dim=1) <= batch.source_count).all()
    assert set(batch.source_count.tolist()) == set(range(1, preset(name).max_sources + 1))


def test_steering_is_the_spherical_wave() -> None:
    """Against the definition exp(-jk(‖p - q‖ - ‖p‖)), written out in NumPy."""
    azimuth, elevation, distance = 0.4, -0.2, 0.9
    p = distance * np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    q = ris_positions(STUDENT).numpy()
    expected = np.exp(-1j * STUDENT.wavenumber * (np.linalg.norm(p - q, axis=1) - distance))
    found = steering_vectors(STUDENT, *(torch.tensor(x, dtype=torch.float64) for x in (azimuth, elevation, distance)))
    assert np.allclose(found.numpy(), expected)
    assert not np.allclose(found.numpy(), expected.conj())


def test_spherical_wave_tends_to_the_plane_wave() -> None:
    azimuth, elevation = torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.3], dtype=torch.float64)
    plane = steering_vectors(replace(STUDENT, near_field=False), azimuth, elevation, torch.ones(1, dtype=torch.float64))
    errors = [
        (steering_vectors(STUDENT, azimuth, elevation, torch.tensor([r], dtype=torch.float64)) - plane)
        .abs()
        .max()
        .item()
        for r in (1.0, 10.0, 100.0, 1e6)
    ]
    assert all(far < 0.2 * near for near, far in itertools.pairwise(errors)) and errors[-1] < 1e-5
    direction = directions(azimuth, elevation)[0]
    assert torch.allclose(plane[0].angle().cos(), (STUDENT.wavenumber * ris_positions(STUDENT) @ direction).cos())
    assert torch.allclose(plane[0].angle().sin(), (STUDENT.wavenumber * ris_positions(STUDENT) @ direction).sin())


def test_single_precision_keeps_the_phase_of_far_sources() -> None:
    full = preset("full")
    places = [torch.tensor([x], dtype=torch.float64) for x in (0.5, 0.2, 1000.0)]
    double = steering_vectors(full, *places)
    single = steering_vectors(full, *(x.float() for x in places))
    assert (single.to(torch.complex128) - double).abs().max() < 1e-4


def test_same_seed_same_batch_and_any_other_key_unrelated_scenes() -> None:
    assert torch.equal(draw(seed=3).y, draw(seed=3).y)
    simulator = Simulator(STUDENT)
    keys = [
        (0, "training", 0, 1),
        (1, "training", 0, 0),
        (0, "training", 1, 0),
        (0, "validation", 0, 1),
        (0, "training", 0, 2),
    ]
    batch = concatenate([simulator.draw(256, scene_generator(*key)) for key in keys])
    assert len({round(x, 6) for x in batch.snr_db.tolist()}) > 0.99 * len(batch)
    assert torch.unique(batch.azimuth[:, 0]).numel() > 0.99 * len(batch)


def test_effective_channel_is_g_times_code() -> None:
    simulator = Simulator(STUDENT, dtype=torch.complex128)
    batch = simulator.draw(8, scene_generator(4, "test"))
    expected = torch.einsum("mn,bln->blm", simulator.G, torch.view_as_complex(batch.codes))
    assert torch.allclose(torch.view_as_complex(batch.H), expected)
    assert torch.allclose(torch.view_as_complex(batch.codes).abs(), torch.ones(()).double())


def test_site_is_fixed_by_its_seed_and_has_unit_mean_power() -> None:
    for name in PRESETS:
        G = site_channel(preset(name))
        assert torch.equal(G, site_channel(preset(name)))
        assert not torch.allclose(G, site_channel(replace(preset(name), site_seed=1)))
    rich = site_channel(replace(STUDENT, rician_factor_db=-200.0))
    assert torch.allclose(rich.abs().square().mean(), torch.tensor(1 / 16, dtype=torch.float64))
    sight = site_channel(replace(STUDENT, rician_factor_db=200.0))
    assert torch.allclose(sight.abs().square(), torch.full_like(sight.real, 1 / 16))


def test_fixed_scenes_come_once_an_epoch_and_can_be_taken_up_anywhere() -> None:
    source = FixedScenes(draw(50), micro_batch=16, seed=0)
    epoch = list(source.micro_batches(2))
    assert [len(batch) for batch in epoch] == [16, 16, 16, 2] and len(source) == 4
    assert torch.equal(concatenate(epoch).snr_db.sort().values, source.scenes.snr_db.sort().values)
    assert not torch.equal(epoch[0].snr_db, next(source.micro_batches(3)).snr_db)
    assert torch.equal(epoch[2].y, next(source.micro_batches(2, first=2)).y)


def test_fresh_scenes_never_repeat_and_can_be_taken_up_anywhere() -> None:
    source = FreshScenes(Simulator(STUDENT), micro_batch=8, micro_batches=3, seed=0)
    epochs = [list(source.micro_batches(epoch)) for epoch in (0, 1)]
    assert [len(epoch) for epoch in epochs] == [3, 3]
    seen = concatenate(epochs[0] + epochs[1]).snr_db
    assert torch.unique(seen).numel() == 48
    assert torch.equal(epochs[1][2].y, next(source.micro_batches(1, first=2)).y)


@pytest.mark.parametrize(
    "field, value",
    [
        ("ris_rows", 0),
        ("snapshots", 2.5),
        ("snr_db", (20.0, -5.0)),
        ("range_m", (0.0, 1.0)),
        ("azimuth", (-2.0, 2.0)),
        ("wavelength_m", float("nan")),
    ],
)
def test_scenario_refuses_by_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Scenario\.{field} .*got"):
        replace(STUDENT, **{field: value})
    assert isinstance(STUDENT, Scenario)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: preset("huge"), "name must be one of student, near_field, full, got 'huge'"),
        (lambda: scene_generator(-1, "test"), "seed must be a whole number from 0 to [0-9]+, got -1"),
        (
            lambda: Simulator(STUDENT).draw(0, scene_generator(0, "test")),
            "scenes must be a whole number from 1 to [0-9]+, got 0",
        ),
        (
            lambda: Simulator(STUDENT, dtype=torch.float32),
            "dtype must be one of torch.complex64, torch.complex128",
        ),
        (lambda: FixedScenes(draw(4)[:0], 2, 0), "scenes must not be empty, got B = 0"),
        (lambda: FreshScenes(Simulator(STUDENT), 8, 0, 0), "micro_batches must be"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_batch_refuses_mismatched_tensors() -> None:
    batch = draw(4)
    tensors = {name: getattr(batch, name) for name in Batch.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"Batch\.H must be .*= \[4, 16, 8, 2\], got \[3, 16, 8, 2\]"):
        Batch(**(tensors | {"H": batch.H[:3]}))
    with pytest.raises(ValueError, match=r"Batch\.codes must be \[B, L, N, 2\]"):
        Batch(**(tensors | {"codes": batch.codes[0]}))
