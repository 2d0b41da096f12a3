"""Distances between covariances, subspaces and places, against the libraries that define them."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from covlab.metrics import (
    SNR_BINS_DB,
    assign,
    bures_wasserstein,
    cartesian_positions,
    position_errors,
    principal_angles,
    rmspe,
    snr_bins,
    subspace_overlap,
)
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator

try:
    from pyriemann.geometry.distance import distance_wasserstein
except ModuleNotFoundError:  # before pyriemann 0.12, which needs numpy 2
    from pyriemann.utils.distance import distance_wasserstein

STUDENT = preset("student")


def scenes(count: int = 32) -> Batch:
    return Simulator(STUDENT, dtype=torch.complex128).draw(count, scene_generator(0, "test"))


def random_complex(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def covariances(seed: int, rank: int = 8, count: int = 6, elements: int = 8) -> Tensor:
    factor = random_complex(seed, count, elements, rank)
    R = factor @ factor.mH
    return R * (elements / R.diagonal(dim1=1, dim2=2).real.sum(dim=1)).view(-1, 1, 1)


def test_wasserstein_distance_is_pyriemanns() -> None:
    one, other = covariances(0), covariances(1)
    expected = [distance_wasserstein(a, b) for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    assert np.allclose(bures_wasserstein(one, other), expected)


def test_wasserstein_distance_takes_any_rank_and_scale() -> None:
    """Rank one has a closed form, d² = 2N − 2|aᴴb|; a full-rank matrix of nearly that rank tends to it."""
    a, b = covariances(2, rank=1), covariances(3, rank=1)
    fidelity = (a * b.mT).sum(dim=(1, 2)).real.sqrt()
    assert torch.allclose(bures_wasserstein(a, b), (16 - 2 * fidelity).sqrt())
    nearly = b + 1e-12 * torch.eye(8)
    assert torch.allclose(bures_wasserstein(a, nearly), bures_wasserstein(a, b), atol=1e-4)
    assert torch.allclose(bures_wasserstein(a, 7 * b), bures_wasserstein(a, b))
    assert bures_wasserstein(a, a).max() < 1e-6
    assert torch.allclose(bures_wasserstein(a, b), bures_wasserstein(b, a))


@pytest.mark.parametrize("p, q", [(1, 1), (3, 3), (2, 4), (4, 2)])
def test_principal_angles_are_scipys(p: int, q: int) -> None:
    one, other = random_complex(0, 5, 16, p), random_complex(1, 5, 16, q)
    expected = [np.sort(scipy.linalg.subspace_angles(a, b)) for a, b in zip(one.numpy(), other.numpy(), strict=True)]
    assert np.allclose(principal_angles(one, other), expected)


def test_tiny_angles_keep_their_digits() -> None:
    one = torch.eye(4, 1, dtype=torch.complex128).unsqueeze(0)
    other = torch.tensor([[[1.0], [1e-9], [0], [0]]], dtype=torch.complex128)
    assert principal_angles(one, other).item() == pytest.approx(1e-9)


def test_subspace_overlap_is_the_mean_squared_cosine_of_principal_angles() -> None:
    batch = scenes()
    R = batch.covariance() + 0.5 * covariances(4, rank=16, count=32, elements=16)
    _, vectors = torch.linalg.eigh(R)
    for scene, overlap in enumerate(subspace_overlap(R, batch)):
        K = int(batch.source_count[scene])
        angles = scipy.linalg.subspace_angles(batch.steering[scene, :, :K].numpy(), vectors[scene, :, -K:].numpy())
        assert overlap.item() == pytest.approx(np.mean(np.cos(angles) ** 2))
    assert torch.allclose(subspace_overlap(batch.covariance(), batch), torch.ones(32, dtype=torch.float64))


@settings(max_examples=40)
@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 2**31))
def test_assignment_is_scipys(true: int, surplus: int, seed: int) -> None:
    guessed = min(true + surplus, 6)
    cost = torch.rand(3, true, guessed, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    least, order = assign(cost)
    for scene in range(3):
        rows, columns = linear_sum_assignment(cost[scene].numpy())
        assert least[scene].item() == pytest.approx(cost[scene].numpy()[rows, columns].sum())
        assert order[scene].tolist() == columns.tolist()


def test_position_error_is_a_distance_whatever_the_order() -> None:
    batch = scenes()
    truth = torch.stack([batch.azimuth, batch.elevation, batch.range_m], dim=2)
    assert torch.nan_to_num(position_errors(truth.flip(1), batch)).max() < 1e-6
    nearer = truth.clone()
    nearer[:, :, 2] -= 0.25
    assert torch.allclose(rmspe(nearer.flip(1), batch), torch.full((32,), 0.25, dtype=torch.float64))
    assert (position_errors(truth, batch).isnan() == (batch.power == 0)).all()


def test_a_missed_source_costs_its_range() -> None:
    batch = scenes()
    nothing = torch.full((32, 2, 3), math.nan, dtype=torch.float64)
    errors = position_errors(nothing, batch)
    present = batch.power > 0
    assert torch.allclose(errors[present], batch.range_m[present])
    assert torch.allclose(cartesian_positions(batch.azimuth, batch.elevation, batch.range_m).norm(dim=2), batch.range_m)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: bures_wasserstein(covariances(0), covariances(0)[:, :4]),
            r"other must be a finite complex tensor \[B, N, N\], got torch.complex128 \[6, 4, 8\]",
        ),
        (lambda: assign(torch.zeros(1, 3, 2)), r"true <= guessed <= 6, got \[1, 3, 2\]"),
        (lambda: assign(torch.zeros(1, 2, 7)), r"true <= guessed <= 6, got \[1, 2, 7\]"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_scene_at_the_edge_of_two_snr_bins_is_in_one_of_them() -> None:
    batch = replace(scenes(len(SNR_BINS_DB)), snr_db=torch.tensor(SNR_BINS_DB))
    masks = torch.stack([inside for _, _, inside in snr_bins(batch)])
    assert (masks.sum(dim=0) == 1).all()
