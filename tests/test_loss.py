"""Laws of the loss and guards of its weights."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from covlab.networks.model import Estimate
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.loss import Loss, LossWeights, nmse

scales = st.floats(1e-6, 1e6)
seeds = st.integers(0, 2**31)


def covariances(seed: int, scenes: int = 3, size: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(scenes, size, size, generator=generator, dtype=torch.complex128)
    return factor @ factor.mH + 0.1 * torch.eye(size)


@given(seeds, scales, scales)
@settings(max_examples=50)
def test_scale_of_either_matrix_does_not_matter(seed: int, a: float, b: float) -> None:
    estimate, truth = covariances(seed), covariances(seed + 1)
    assert torch.allclose(nmse(a * estimate, b * truth), nmse(estimate, truth), rtol=1e-9)


@given(seeds, scales)
@settings(max_examples=50)
def test_zero_at_equality_and_only_there(seed: int, a: float) -> None:
    truth = covariances(seed)
    assert nmse(a * truth, truth).max() < 1e-20
    assert nmse(covariances(seed + 1), truth).min() > 1e-3


@given(seeds)
@settings(max_examples=50)
def test_gradient_is_orthogonal_to_the_estimate(seed: int) -> None:
    estimate = covariances(seed).requires_grad_()
    nmse(estimate, covariances(seed + 1)).sum().backward()
    assert estimate.grad is not None
    radial = (estimate.grad.conj() * estimate).sum(dim=(1, 2)).real
    size = estimate.grad.norm(dim=(1, 2)) * estimate.detach().norm(dim=(1, 2))
    assert (radial.abs() / size).max() < 1e-12


@given(seeds)
@settings(max_examples=50)
def test_skew_part_of_the_estimate_does_not_matter(seed: int) -> None:
    estimate, truth = covariances(seed), covariances(seed + 1)
    skew = torch.triu(covariances(seed + 2), diagonal=1)
    assert torch.allclose(nmse(estimate + skew - skew.mH, truth), nmse(estimate, truth))


def test_agrees_with_numpy() -> None:
    estimate, truth = covariances(0, scenes=1), covariances(1, scenes=1)
    a, b = (5 * R[0].numpy() / np.trace(R[0].numpy()).real for R in (estimate, truth))
    assert nmse(estimate, truth).item() == pytest.approx(
        np.linalg.norm(a - b, "fro") ** 2 / np.linalg.norm(b, "fro") ** 2
    )


@pytest.mark.parametrize("trace", [-1.0, 0.0, 1e-6])
def test_a_trace_that_is_not_positive_is_nan_for_its_scene_alone(trace: float) -> None:
    estimate, truth = covariances(0), covariances(1)
    traceless = torch.diag(torch.tensor([3.0, -3.0, 1.0, -1.0, trace], dtype=torch.complex128))
    estimate[1] = 1e3 * traceless
    assert torch.isnan(nmse(estimate, truth)).tolist() == [False, True, False]


def test_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"truth must be of B = 3, like estimate, got B = 2"):
        nmse(covariances(0), covariances(1)[:2])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0, 100.0, True, "1"])
def test_weights_refuse(value: Any) -> None:
    with pytest.raises(ValueError, match="lam_cov must be"):
        LossWeights(lam_cov=value)


def test_weights_remember_where_they_came_from() -> None:
    assert LossWeights().provenance["lam_cov"] == "default"
    assert LossWeights(lam_cov=0.5).provenance["lam_cov"] == "argument"
    tuned = LossWeights().updated("study ris, trial 7", lam_cov=0.5)
    assert tuned.lam_cov == 0.5 and tuned.provenance["lam_cov"] == "study ris, trial 7"


# ------------------------------------------------------------------ the other terms

STUDENT = preset("student")
ALL = dict.fromkeys(LossWeights().values(), 1.0)


def scenes_and_guess(count: int = 6, rank: int = 5, seed: int = 0) -> tuple[Batch, Estimate]:
    batch = Simulator(STUDENT).draw(count, scene_generator(seed, "test"))
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(count, 16, rank, dtype=torch.complex64, generator=generator)
    return batch, Estimate(
        factor,
        torch.rand(count, generator=generator),
        torch.randn(count, 2, generator=generator),
        torch.randn(count, 2, 3, generator=generator),
    )


def term(name: str, estimate: Estimate, batch: Batch) -> Tensor:
    return getattr(Loss(STUDENT, LossWeights()), name)(estimate, batch)


def normalized(estimate: Estimate) -> Tensor:
    R = estimate.covariance()
    return 16 * R / R.diagonal(dim1=1, dim2=2).real.sum(1).view(-1, 1, 1)


def perfect(batch: Batch) -> Estimate:
    return Estimate(
        batch.factor(), torch.zeros(len(batch)), 100.0 * torch.nn.functional.one_hot(batch.source_count - 1, 2)
    )


@pytest.mark.parametrize("name", ["cov", "cov_pred", "cross", "gap", "subspace_align", "peak_contrast", "ortho"])
def test_no_term_changes_with_the_scale_of_the_estimate(name: str) -> None:
    batch, estimate = scenes_and_guess()
    larger = Estimate(30 * estimate.factor, 900 * estimate.loading)
    assert torch.allclose(term(name, larger, batch), term(name, estimate, batch), rtol=1e-4, atol=1e-6)


def test_cross_is_the_off_diagonal_error() -> None:
    batch, estimate = scenes_and_guess()
    error = (normalized(estimate) - batch.covariance()).abs().square() * (1 - torch.eye(16))
    assert torch.allclose(
        term("cross", estimate, batch), error.sum((1, 2)) / batch.covariance().abs().square().sum((1, 2)), rtol=1e-4
    )


def test_gap_is_a_hinge_on_the_eigenvalues_of_the_whole_matrix() -> None:
    batch, estimate = scenes_and_guess(count=64)
    values = torch.linalg.eigvalsh(normalized(estimate) / 16).flip(1)
    K = batch.source_count
    gaps = torch.stack([values[i, K[i] - 1] - values[i, K[i]] for i in range(64)])
    assert torch.allclose(term("gap", estimate, batch), (0.03 - gaps).clamp(min=0), atol=1e-6)
    assert (term("gap", estimate, batch) > 0).any()


def test_subspace_term_is_the_power_outside_the_sources() -> None:
    batch, estimate = scenes_and_guess()
    for i in range(len(batch)):
        A = batch.steering[i, :, : batch.source_count[i]]
        Q, _ = torch.linalg.qr(A)
        R = estimate.covariance()[i]
        expected = 1 - (Q.mH @ R @ Q).diagonal().real.sum() / R.diagonal().real.sum()
        assert term("subspace_align", estimate, batch)[i].item() == pytest.approx(expected.item(), abs=2e-3)
    assert term("subspace_align", perfect(batch), batch).abs().max() < 2e-3


def test_peak_contrast_compares_the_beam_spectrum() -> None:
    batch, estimate = scenes_and_guess()
    background = Loss(STUDENT, LossWeights()).background
    R = estimate.covariance()
    for i in range(len(batch)):
        at_sources = [(a.conj() @ R[i] @ a).real for a in batch.steering[i, :, : batch.source_count[i]].T]
        elsewhere = torch.stack([(a.conj() @ R[i] @ a).real for a in background]).mean()
        assert term("peak_contrast", estimate, batch)[i].item() == pytest.approx(
            (elsewhere / (sum(at_sources) / len(at_sources))).item(), rel=1e-4
        )
    assert (term("peak_contrast", perfect(batch), batch) < term("peak_contrast", estimate, batch)).all()


def test_ortho_vanishes_for_orthogonal_columns_of_any_length() -> None:
    batch, _ = scenes_and_guess()
    Q = torch.linalg.qr(torch.randn(6, 16, 4, dtype=torch.complex64))[0] * torch.tensor([1.0, 20.0, 0.3, 5.0])
    assert term("ortho", Estimate(Q, torch.ones(6)), batch).max() < 1e-9
    parallel = torch.cat([Q[:, :, :1], 3 * Q[:, :, :1]], dim=2)
    assert torch.allclose(term("ortho", Estimate(parallel, torch.ones(6)), batch), torch.full((6,), 2.0))


def test_position_error_does_not_depend_on_the_order_of_the_guess() -> None:
    batch, _ = scenes_and_guess(count=32)
    truth = torch.stack([batch.azimuth, batch.elevation, batch.range_m.log()], dim=2)
    factor, loading = torch.zeros(32, 16, 1, dtype=torch.complex64), torch.ones(32)
    off = truth + torch.tensor([0.3, 0.0, 0.0])
    assert term("aux", Estimate(factor, loading, positions=truth.flip(1)), batch).max() < 1e-12
    assert torch.allclose(
        term("aux", Estimate(factor, loading, positions=off[:, :1].expand(-1, 2, -1)), batch)[batch.source_count == 1],
        torch.tensor(0.03),
    )


def test_count_term_is_cross_entropy_of_the_number_of_sources() -> None:
    batch, estimate = scenes_and_guess()
    assert estimate.source_logits is not None
    expected = -torch.stack(
        [estimate.source_logits[i].log_softmax(0)[batch.source_count[i] - 1] for i in range(len(batch))]
    )
    assert torch.allclose(term("K", estimate, batch), expected)


def test_total_is_the_weighted_sum_and_zero_switches_off() -> None:
    batch, estimate = scenes_and_guess()
    weights = LossWeights.only(**(ALL | {"lam_gap": 0.0, "lam_K": 2.0}))
    result = Loss(STUDENT, weights)(estimate, batch)
    assert set(result.terms) == {name.removeprefix("lam_") for name in ALL} - {"gap"}
    assert torch.allclose(result.total, sum(result.terms.values()) + result.terms["K"])


@pytest.mark.parametrize("weight, head", [("lam_K", "source_logits"), ("lam_aux", "positions")])
def test_a_term_without_its_head_is_refused(weight: str, head: str) -> None:
    batch, estimate = scenes_and_guess()
    bare = Estimate(estimate.factor, estimate.loading)
    with pytest.raises(ValueError, match=f"{weight} must be 0, because this estimate has no {head}"):
        Loss(STUDENT, LossWeights.only(lam_cov=1.0, **{weight: 0.1}))(bare, batch)


def test_gradient_is_finite_where_eigenvalues_coincide() -> None:
    """A scaled identity and a perfect estimate have whole groups of equal eigenvalues; no term may mind."""
    batch, _ = scenes_and_guess()
    equal = torch.eye(16, dtype=torch.complex64).expand(6, 16, 16)
    for values in (equal, batch.factor()):
        factor = values.clone().requires_grad_()
        estimate = Estimate(factor, torch.full((6,), 0.1), torch.zeros(6, 2), torch.zeros(6, 2, 3))
        Loss(STUDENT, LossWeights.only(**ALL))(estimate, batch).total.sum().backward()
        assert factor.grad is not None
        assert torch.isfinite(torch.view_as_real(factor.grad)).all()


def test_blend_mixes_trace_normalized_matrices() -> None:
    batch, estimate = scenes_and_guess()
    snapshots = 100 * torch.randn(6, 16, 7, dtype=torch.complex64)
    sample = snapshots @ snapshots.mH
    sample = 16 * sample / sample.diagonal(dim1=1, dim2=2).real.sum(1).view(-1, 1, 1)
    blended = estimate.blend(snapshots, 0.3)
    assert torch.allclose(blended.covariance(), 0.7 * normalized(estimate) + 0.3 * sample, atol=1e-4)
    assert blended.prediction is estimate
    assert torch.allclose(term("cov_pred", blended, batch), estimate.nmse(batch)) and not torch.allclose(
        term("cov", blended, batch), estimate.nmse(batch)
    )


def test_unknown_provenance_is_refused() -> None:
    with pytest.raises(ValueError, match="provenance must be a dict .* of the weights lam_cov, .*got .*lam_typo"):
        LossWeights(provenance={"lam_typo": "argument"})


def test_a_scene_gone_bad_is_nan_in_every_term_and_leaves_the_others_alone() -> None:
    batch, estimate = scenes_and_guess()

    def spoil(tensor: Tensor | None) -> Tensor:
        assert tensor is not None
        return tensor.index_fill(0, torch.tensor([2]), math.nan)

    spoiled = Estimate(
        spoil(estimate.factor), spoil(estimate.loading), spoil(estimate.source_logits), spoil(estimate.positions)
    )
    bad, good = (Loss(STUDENT, LossWeights.only(**ALL))(guess, batch) for guess in (spoiled, estimate))
    others = torch.arange(6) != 2
    for name in good.terms:
        assert torch.isnan(bad.terms[name][2]), name
        assert torch.allclose(bad.terms[name][others], good.terms[name][others]), name
