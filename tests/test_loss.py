"""Laws of the loss and guards of its weights."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from covlab.loss import LossWeights, losses, nmse
from covlab.model import Estimate
from covlab.scenario import preset
from covlab.simulator import Simulator, scene_generator

scales = st.floats(1e-6, 1e6)
seeds = st.integers(0, 2**31)


def covariances(seed, scenes=3, size=5):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(scenes, size, size, generator=generator, dtype=torch.complex128)
    return factor @ factor.mH + 0.1 * torch.eye(size)


@given(seeds, scales, scales)
@settings(max_examples=50, deadline=None)
def test_scale_of_either_matrix_does_not_matter(seed, a, b):
    estimate, truth = covariances(seed), covariances(seed + 1)
    assert torch.allclose(nmse(a * estimate, b * truth), nmse(estimate, truth), rtol=1e-9)


@given(seeds, scales)
@settings(max_examples=50, deadline=None)
def test_zero_at_equality_and_only_there(seed, a):
    truth = covariances(seed)
    assert nmse(a * truth, truth).max() < 1e-20
    assert nmse(covariances(seed + 1), truth).min() > 1e-3


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_gradient_is_orthogonal_to_the_estimate(seed):
    estimate = covariances(seed).requires_grad_()
    nmse(estimate, covariances(seed + 1)).sum().backward()
    radial = (estimate.grad.conj() * estimate).sum(dim=(1, 2)).real
    size = estimate.grad.norm(dim=(1, 2)) * estimate.detach().norm(dim=(1, 2))
    assert (radial.abs() / size).max() < 1e-12


@given(seeds)
@settings(max_examples=50, deadline=None)
def test_skew_part_of_the_estimate_does_not_matter(seed):
    estimate, truth = covariances(seed), covariances(seed + 1)
    skew = torch.triu(covariances(seed + 2), diagonal=1)
    assert torch.allclose(nmse(estimate + skew - skew.mH, truth), nmse(estimate, truth))


def test_agrees_with_numpy():
    estimate, truth = covariances(0, scenes=1), covariances(1, scenes=1)
    a, b = (5 * R[0].numpy() / np.trace(R[0].numpy()).real for R in (estimate, truth))
    assert nmse(estimate, truth).item() == pytest.approx(np.linalg.norm(a - b, "fro") ** 2 / np.linalg.norm(b, "fro") ** 2)


@pytest.mark.parametrize("trace", [-1.0, 0.0, 1e-6])
def test_a_trace_that_is_not_positive_is_nan_for_its_scene_alone(trace):
    estimate, truth = covariances(0), covariances(1)
    traceless = torch.diag(torch.tensor([3.0, -3.0, 1.0, -1.0, trace], dtype=torch.complex128))
    estimate[1] = 1e3 * traceless
    assert torch.isnan(nmse(estimate, truth)).tolist() == [False, True, False]


def test_shapes_are_named():
    with pytest.raises(ValueError, match=r"both be \[B, N, N\], got \[3, 5, 5\] and \[2, 5, 5\]"):
        nmse(covariances(0), covariances(1)[:2])


def test_losses_stay_in_single_precision_under_autocast():
    batch = Simulator(preset("student")).draw(4, scene_generator(0, "test"))
    estimate = Estimate(torch.randn(4, 16, 3, dtype=torch.complex64), torch.ones(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = losses(estimate, batch, LossWeights(lam_cov=2.0))
    assert torch.equal(inside.total, 2 * estimate.nmse(batch)) and inside.total.dtype == torch.float32
    assert (inside.relative_trace >= 1).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, 100.0, True, "1"])
def test_weights_refuse(value):
    with pytest.raises(ValueError, match="lam_cov must be"):
        LossWeights(lam_cov=value)


def test_guards_survive_optimized_python():
    code = "from covlab.loss import LossWeights; LossWeights(lam_cov=0)"
    run = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "lam_cov must be above 0" in run.stderr


def test_weights_remember_where_they_came_from():
    assert LossWeights().provenance["lam_cov"] == "default"
    assert LossWeights(lam_cov=0.5).provenance["lam_cov"] == "argument"
    tuned = LossWeights().updated("study ris, trial 7", lam_cov=0.5)
    assert tuned.lam_cov == 0.5 and tuned.provenance["lam_cov"] == "study ris, trial 7"
