"""Laws of the classical estimators, of calibration and of spectra."""

import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from covlab.cli.main import main
from covlab.estimators import Estimator, ladder
from covlab.estimators.bound import position_bound
from covlab.estimators.calibration import calibrate
from covlab.estimators.classical import (
    MeanCovariance,
    back_project,
    ledoit_wolf_share,
    noise_power,
    oas_share,
    scaled_identity,
)
from covlab.estimators.greedy import Genie, GreedyLikelihood, best_point, information
from covlab.estimators.grid import CovarianceFit, GridLikelihood, likelihood_steps, steering_at
from covlab.estimators.likelihood import CodedSnapshots
from covlab.estimators.spectra import locate, music, mvdr, peaks, source_count
from covlab.metrics import cartesian_positions, rmspe
from covlab.networks.source_grid import default_grid
from covlab.scenes.batch import CONTRACT, Batch
from covlab.scenes.channel import site_channel
from covlab.scenes.geometry import ris_positions, steering_vectors
from covlab.scenes.scenario import Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator

STUDENT = preset("student")
SITE = site_channel(STUDENT).to(torch.complex64)
LADDER = ladder(STUDENT)


@pytest.fixture(params=[name for name in LADDER if name != "genie"])
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return LADDER[request.param]


def draw(
    scenes: int, scenario: Scenario = STUDENT, dtype: torch.dtype = torch.complex64, stream: str = "test"
) -> Batch:
    return Simulator(scenario, dtype=dtype).draw(scenes, scene_generator(0, stream))


def blinded(batch: Batch) -> Batch:
    """The same measurements, and NaN for everything an estimator must not read."""
    truth = {f.name: getattr(batch, f.name) for f in fields(Batch) if f.name not in CONTRACT}
    blind: dict[str, Any] = {
        name: None if tensor is None else torch.full_like(tensor, math.nan) for name, tensor in truth.items()
    }
    return replace(batch, **blind)


def test_estimators_read_the_contract_and_nothing_else(estimator: Estimator) -> None:
    batch = draw(8)
    assert torch.equal(estimator(batch, SITE).covariance(), estimator(blinded(batch), SITE).covariance())


def test_the_genie_reads_the_truth() -> None:
    batch = draw(8)
    lied_to = LADDER["genie"](
        replace(batch, steering=batch.steering.roll(1, dims=0), azimuth=batch.azimuth.roll(1, dims=0)), SITE
    )
    assert lied_to.nmse(batch).mean() > 2 * LADDER["genie"](batch, SITE).nmse(batch).mean()


def test_snapshots_that_are_not_finite_are_refused() -> None:
    batch = draw(2)
    with pytest.raises(ValueError, match="batch.y must be finite, got 1 of 512 numbers that are not"):
        LADDER["grid ML"](
            replace(batch, y=batch.y.clone().index_put((torch.tensor(0),) * 4, torch.tensor(math.nan))), SITE
        )


def test_estimators_look_at_one_scene_at_a_time(estimator: Estimator) -> None:
    batch = draw(8)
    order = torch.tensor([5, 2, 7])
    expected, found = estimator(batch, SITE).covariance()[order], estimator(batch[order], SITE).covariance()
    assert torch.allclose(found, expected, atol=1e-3 * expected.abs().max().item())


def test_the_scale_of_snapshots_does_not_matter(estimator: Estimator) -> None:
    batch = draw(8)
    louder = replace(batch, y=10 * batch.y)
    assert torch.allclose(estimator(batch, SITE).nmse(batch), estimator(louder, SITE).nmse(batch), atol=2e-3)


def test_estimates_are_hermitian_and_positive_semidefinite(estimator: Estimator) -> None:
    R = estimator(draw(8), SITE).covariance()
    values = torch.linalg.eigvalsh(R)
    assert torch.allclose(R, R.mH, atol=1e-5)
    assert (values[:, 0] > -1e-5 * values[:, -1]).all()


def test_a_site_that_does_not_fit_is_refused(estimator: Estimator) -> None:
    with pytest.raises(
        ValueError,
        match="G must be of M = 8, like batch, got M = 16",
    ):
        estimator(draw(2), SITE.mH)


def test_noise_power_is_unbiased() -> None:
    batch = draw(4096)
    assert (noise_power(batch) / batch.noise_power).mean().item() == pytest.approx(1, abs=0.02)


def test_back_projection_inverts_the_channel_where_it_can() -> None:
    """With as many antennas as elements and no noise, x̂_l is x_l."""
    scenario = replace(STUDENT, bs_antennas=16, snr_db=(200.0, 200.0))
    batch = draw(4, scenario, torch.complex128)
    site = site_channel(scenario)
    x = back_project(batch, site)
    y = (torch.view_as_complex(batch.codes) * x.mT) @ site.T
    assert torch.allclose(y, torch.view_as_complex(batch.y), atol=1e-6)
    inside = torch.linalg.lstsq(batch.steering * (batch.power > 0).unsqueeze(1), x, driver="gelsd").solution
    assert torch.allclose(batch.steering @ inside, x, atol=1e-4)  # x_l lies in the sources' span


def test_mean_covariance_is_the_best_constant() -> None:
    batch = draw(2048, dtype=torch.complex64)
    best = MeanCovariance(STUDENT)(batch, SITE)
    assert torch.allclose(best.covariance()[0], batch.covariance().mean(dim=0), atol=0.1)
    assert best.nmse(batch).mean() < scaled_identity(batch, SITE).nmse(batch).mean() - 0.02


def test_ledoit_wolf_share_is_scikit_learns_on_real_data() -> None:
    """The formula is the same for real and complex snapshots, so real ones hold it against scikit-learn."""
    X = torch.randn(5, 12, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.linspace(
        0.2, 2, 12, dtype=torch.float64
    ).view(-1, 1)
    expected = [ledoit_wolf_shrinkage(x.T.numpy(), assume_centered=True) for x in X]
    assert np.allclose(ledoit_wolf_share(X.to(torch.complex128)), expected)


@pytest.mark.parametrize("share", [ledoit_wolf_share, oas_share])
def test_shrinkage_comes_near_the_oracles(share: Callable[[Tensor], Tensor]) -> None:
    """Against the share that minimizes E‖(1−ρ)S + ρμI − Σ‖² for complex Gaussian snapshots, found by Monte Carlo."""
    generator = torch.Generator().manual_seed(0)
    N, L, draws = 12, 8, 4000
    root = torch.diag(torch.linspace(0.3, 1.7, N, dtype=torch.float64)).to(torch.complex128)
    X = root @ torch.randn(draws, N, L, dtype=torch.complex128, generator=generator)
    S, truth, identity = X @ X.mH / L, root @ root.mH, torch.eye(N, dtype=torch.complex128)
    target = S.diagonal(dim1=1, dim2=2).real.mean(dim=1).view(-1, 1, 1) * identity
    towards = target - S
    oracle = (towards.conj() * (truth - S)).sum().real / towards.abs().square().sum()

    def risk(rho: Tensor) -> Tensor:
        return (S + rho.view(-1, 1, 1) * towards - truth).abs().square().sum(dim=(1, 2)).mean()

    unshrunk, best = risk(torch.zeros(1)), risk(oracle)
    assert risk(share(X)) - best < 0.05 * (unshrunk - best)
    assert share(X).mean().item() == pytest.approx(oracle.item(), abs=0.12)


def test_more_snapshots_need_less_shrinkage() -> None:
    for share in (ledoit_wolf_share, oas_share):
        few, many = (
            share(
                torch.randn(1, 8, L, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
                * torch.arange(1, 9).view(-1, 1)
            ).item()
            for L in (8, 4096)
        )
        assert many < 0.02 < few <= 1


@pytest.mark.parametrize("name, scenes", [("student", 1), ("near_field", 3), ("full", 9)])
def test_the_fewest_scenes_that_can_calibrate_do(name: str, scenes: int) -> None:
    """B·L >= N scenes give G to the precision of the contract tensors; one scene fewer is refused."""
    scenario = preset(name)
    batch = draw(scenes, scenario)
    G = site_channel(scenario).to(torch.complex64)
    assert torch.linalg.norm(calibrate(batch) - G) < 1e-4 * torch.linalg.norm(G)
    if scenes > 1:
        with pytest.raises(
            ValueError, match=f"codes of rank N = {scenario.ris_elements} .*got rank {16 * (scenes - 1)}"
        ):
            calibrate(batch[: scenes - 1])


def test_one_codebook_for_all_scenes_cannot_calibrate() -> None:
    scenario = preset("near_field")
    batch = draw(8, scenario)
    fixed = replace(batch, codes=batch.codes[:1].expand_as(batch.codes), H=batch.H[:1].expand_as(batch.H))
    with pytest.raises(ValueError, match="got rank 16 from 128 snapshots"):
        calibrate(fixed)


def test_calibrated_and_true_site_give_the_same_estimate() -> None:
    scenario = preset("near_field")
    batch, site = draw(4, scenario), site_channel(scenario).to(torch.complex64)
    found = GridLikelihood(default_grid(scenario))
    assert torch.allclose(
        found(batch, site).nmse(batch),
        found(batch, calibrate(draw(16, scenario, stream="calibration"))).nmse(batch),
        atol=1e-3,
    )


def double(scenes: int, **changes: Any) -> tuple[Batch, CodedSnapshots]:
    """Scenes in double precision, and what their likelihood sees."""
    scenario = replace(STUDENT, **changes)
    batch = draw(scenes, scenario, torch.complex128)
    return batch, CodedSnapshots(batch, site_channel(scenario))


def parameters(batch: Batch) -> Tensor:
    """(sin φ, sin θ, 1/r, log p) of all slots, also of absent sources, somewhat off the truth [B, K, 4]."""
    exact = torch.stack(
        [batch.azimuth.sin(), batch.elevation.sin(), 1 / batch.range_m, torch.full_like(batch.power, -0.7)], dim=2
    )
    return (0.95 * exact).requires_grad_()


def snapshot_covariances(scenes: CodedSnapshots, theta: Tensor) -> Tensor:
    """C_l written out for one scenario of sources: [B, L, M, M]."""
    A = steering_at(STUDENT, theta[..., :3]).mT
    R = (A * theta[..., 3].exp().unsqueeze(1)) @ A.mH
    return scenes.channels @ R.unsqueeze(1) @ scenes.channels.mH + scenes.noise.view(-1, 1, 1, 1) * scenes.eye


def cost_of(scenes: CodedSnapshots, responses: Tensor, power: Tensor) -> Tensor:
    """Return −log likelihood up to a constant, Σ_l log det C_l + y_lᴴ C_l⁻¹ y_l [B]."""
    T, log_det = scenes.whitener(responses, power)
    return log_det + (T @ scenes.y).abs().square().sum(dim=(1, 2, 3))


def test_gradient_and_information_are_those_of_the_likelihood() -> None:
    """Against automatic differentiation of −log likelihood and of C_l, written out: F_ij = Σ_l tr(C⁻¹ ∂_iC C⁻¹
    ∂_jC).
    """
    batch, scenes = double(3)
    theta = parameters(batch)
    gradient, fisher, cost = information(scenes, STUDENT, theta[..., :3].detach(), theta[..., 3].exp().detach())
    C = snapshot_covariances(scenes, theta)
    expected = torch.linalg.slogdet(C).logabsdet.sum(dim=1) + (scenes.y.mH @ torch.linalg.solve(C, scenes.y)).real.sum(
        dim=(1, 2, 3)
    )
    assert torch.allclose(cost, expected) and torch.allclose(
        cost, cost_of(scenes, scenes.responses(steering_at(STUDENT, theta[..., :3]).mT), theta[..., 3].exp())
    )
    assert torch.allclose(gradient, torch.autograd.grad(expected.sum(), theta)[0].flatten(1), rtol=1e-6, atol=1e-6)

    # scenes do not mix
    pairs = torch.autograd.functional.jacobian(
        lambda t: torch.view_as_real(snapshot_covariances(scenes, t)).sum(dim=0), theta.detach()
    )
    # [L, M, M, B, ...] after the pair axis has moved
    slopes = torch.view_as_complex(pairs.movedim(3, -1).contiguous()).flatten(4)
    slopes = slopes.movedim(3, 0).movedim(-1, 1)  # [B, 4K, L, M, M]
    solved = torch.linalg.solve(C.detach().unsqueeze(1), slopes)
    assert torch.allclose(fisher, torch.einsum("bilmn,bjlnm->bij", solved, solved).real, rtol=1e-6)


def test_information_is_the_covariance_of_the_gradient_at_the_truth() -> None:
    """E[g] = 0 and E[g gᵀ] = F: the score of 4,000 draws of the snapshots of one scene."""
    batch = replace_sources(draw(4000, dtype=torch.complex128))
    scenes = CodedSnapshots(batch, site_channel(STUDENT), batch.noise_power)
    coordinates = torch.stack([batch.azimuth.sin(), batch.elevation.sin(), 1 / batch.range_m], dim=2)
    gradient, fisher, _ = information(scenes, STUDENT, coordinates, batch.power)
    scale = fisher.mean(dim=0).diagonal().rsqrt()
    score = gradient * scale
    assert score.mean(dim=0).abs().max() < 4 / math.sqrt(4000)
    assert torch.allclose(score.T @ score / 4000, fisher.mean(dim=0) * scale * scale.unsqueeze(1), atol=0.12)


def replace_sources(batch: Batch) -> Batch:
    """New snapshots of the first scene's sources behind every scene's own codes, at 5 dB."""
    first = next(i for i in range(len(batch)) if batch.source_count[i] == 2)
    still = {
        name: getattr(batch, name)[first].expand_as(getattr(batch, name))
        for name in ("azimuth", "elevation", "range_m", "power", "steering")
    }
    generator, site = torch.Generator().manual_seed(0), site_channel(STUDENT)
    arrivals = (
        torch.view_as_complex(batch.codes).unsqueeze(2)
        * (still["steering"] * still["power"].sqrt().unsqueeze(1)).mT.unsqueeze(1)
    ) @ site.T
    noise_power = arrivals.abs().square().sum(dim=2).mean(dim=(1, 2)) / 10**0.5
    symbols = torch.randn(*arrivals.shape[:2], 1, 2, dtype=torch.complex128, generator=generator)
    noise = torch.randn(*arrivals.shape[:2], 8, dtype=torch.complex128, generator=generator) * noise_power.sqrt().view(
        -1, 1, 1
    )
    y = (symbols @ arrivals).squeeze(2) + noise
    return replace(
        batch, y=torch.view_as_real(y), snr_db=torch.full_like(batch.snr_db, 5.0), noise_power=noise_power, **still
    )


def test_the_best_point_is_the_best_of_all_points_and_powers() -> None:
    """Compare with trying every point with many powers, and computing the cost from scratch for each."""
    _batch, scenes = double(2)
    grid = default_grid(STUDENT, step=1.2)
    responses = scenes.responses(grid.steering.to(torch.complex128))
    taken, power = responses[..., 7:8], 0.3 * torch.ones(2, 1, dtype=torch.float64)
    point, added = best_point(scenes, responses, taken, power)

    def cost(g: int, p: Tensor) -> Tensor:
        return cost_of(
            scenes, torch.cat([taken, responses[..., g : g + 1]], dim=3), torch.cat([power, p.view(2, 1)], dim=1)
        )

    tried = torch.stack(
        [
            torch.stack([cost(g, torch.full((2,), p, dtype=torch.float64)) for p in torch.logspace(-3, 1, 40)])
            for g in range(len(grid))
        ]
    )
    least = tried.flatten(0, 1).min(dim=0).values
    found = torch.stack([cost(int(point[i]), added)[i] for i in range(2)])
    assert (found <= least + 0.05).all()


def test_covariance_fit_lowers_its_sum_of_squares_in_every_step() -> None:
    batch, grid = draw(4), default_grid(STUDENT)
    scenes = CodedSnapshots(batch, SITE)
    responses = scenes.responses(grid.steering)

    def misfit(power: Tensor) -> Tensor:
        C = (responses * power[:, None, None, :]) @ responses.mH + scenes.noise.view(-1, 1, 1, 1) * scenes.eye
        return (C - scenes.y @ scenes.y.mH).abs().square().sum(dim=(1, 2, 3))

    values = torch.stack(
        [misfit(CovarianceFit(grid, iterations)(batch, SITE).power) for iterations in (1, 2, 4, 8, 16)]
    )
    assert (values[1:] < values[:-1]).all()


def test_likelihood_steps_raise_the_likelihood() -> None:
    scenes = CodedSnapshots(draw(8), SITE)
    responses = scenes.responses(default_grid(STUDENT).steering)
    power = torch.full((8, responses.shape[3]), 1e-2)
    costs = []
    for steps in (0, 5, 15):
        power = likelihood_steps(scenes, responses, power, steps)
        costs.append(cost_of(scenes, responses, power))
    assert (costs[1] < costs[0]).all() and (costs[2] < costs[1]).all()


LOUD = replace(STUDENT, snr_db=(20.0, 20.0))


@cache
def loud() -> tuple[Batch, torch.Tensor]:
    """Scenes of high SNR, and the error of the genie in them."""
    batch = draw(64, LOUD)
    return batch, LADDER["genie"](batch, SITE).nmse(batch).mean()


def test_no_estimator_beats_the_genie_at_high_snr(estimator: Estimator) -> None:
    batch, genies_error = loud()
    assert genies_error < estimator(batch, SITE).nmse(batch).mean()


def test_the_genies_error_falls_as_one_over_the_snapshots() -> None:
    """Only the powers are unknown, and their squared error falls as 1/L."""
    errors = []
    for L in (16, 128):
        scenario = replace(LOUD, snapshots=L)
        batch = draw(256, scenario)
        batch = batch[batch.source_count == 2]
        errors.append(Genie(scenario)(batch, SITE).nmse(batch).mean().item())
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.4)


def test_greedy_likelihood_finds_one_loud_source_where_it_is() -> None:
    """Consistent: at 40 dB a single near source is placed to centimetres, and counted as one."""
    scenario = replace(STUDENT, max_sources=1, snr_db=(40.0, 40.0), range_m=(0.5, 1.5))
    batch = draw(32, scenario)
    estimate = GreedyLikelihood(scenario)(batch, SITE)
    assert estimate.positions is not None
    found = torch.cat([estimate.positions[..., :2], estimate.positions[..., 2:].exp()], dim=2)
    assert rmspe(found, batch).median() < 0.02
    assert estimate.nmse(batch).median() < 1e-3


def test_greedy_likelihood_counts_loud_sources() -> None:
    batch = draw(64, LOUD)
    positions = GreedyLikelihood(LOUD)(batch, SITE).positions
    assert positions is not None
    found = (~positions[..., 0].isnan()).sum(dim=1)
    assert (found == batch.source_count).float().mean() > 0.8


def test_bound_is_the_closed_form_of_stoica_and_nehorai_for_one_source_and_one_code() -> None:
    """With the same code in all snapshots, C_l = C. The place's block of F⁻¹ is then (2L/σ² · p² dᴴC⁻¹d · Re DᴴΠ⊥D)⁻¹,
    also for plane waves.
    """
    for near_field in (True, False):
        scenario = replace(STUDENT, max_sources=1, near_field=near_field)
        batch, site = draw(8, scenario, torch.complex128), site_channel(scenario)
        batch = replace(batch, codes=batch.codes[:, :1].expand_as(batch.codes))
        scenes = CodedSnapshots(batch, site, batch.noise_power)
        coordinates = torch.stack([batch.azimuth.sin(), batch.elevation.sin(), 1 / batch.range_m], dim=2)
        _, fisher, _ = information(scenes, scenario, coordinates, batch.power)
        free = [0, 1, 2, 3] if near_field else [0, 1, 3]  # a plane wave has no range
        found = torch.linalg.inv(fisher[:, free][:, :, free])[:, :-1, :-1]
        channel = scenes.channels[:, 0]
        for i in range(8):
            slopes = torch.autograd.functional.jacobian(
                lambda c, scenario=scenario: torch.view_as_real(steering_at(scenario, c)), coordinates[i, 0]
            )
            D = channel[i] @ torch.view_as_complex(slopes.movedim(1, 2).contiguous())[:, free[:-1]]
            d = channel[i] @ batch.steering[i]
            projector = torch.eye(8) - d @ d.mH / (d.mH @ d)
            C = batch.power[i] * d @ d.mH + batch.noise_power[i] * torch.eye(8)
            weight = batch.power[i] ** 2 * (d.mH @ torch.linalg.solve(C, d)).real
            closed = torch.linalg.inv(2 * 16 / batch.noise_power[i] * weight * (D.mH @ projector @ D).real)
            assert torch.allclose(found[i], closed, rtol=1e-6)


def test_position_bound_falls_with_snapshots_and_noise_and_greedy_comes_near_it() -> None:
    """Var ∝ 1/L and, far above the noise, ∝ σ². The greedy estimate of a loud near source has about the error of the
    bound.
    """
    scenario = replace(STUDENT, max_sources=1, snr_db=(30.0, 30.0), range_m=(0.5, 1.5))
    batch, site = draw(128, scenario), site_channel(scenario)
    bound = position_bound(batch, site, scenario)
    twice = replace(batch, **{name: torch.cat([getattr(batch, name)] * 2, dim=1) for name in ("y", "H", "codes")})
    assert torch.allclose(position_bound(twice, site, scenario), bound / 2**0.5, rtol=1e-6)
    quieter = replace(batch, noise_power=batch.noise_power / 100)
    assert torch.allclose(position_bound(quieter, site, scenario), bound / 10, rtol=0.05)
    found = GreedyLikelihood(scenario)(batch, SITE).positions
    assert found is not None
    found = torch.cat([found[..., :2], found[..., 2:].exp()], dim=2)
    ratio = (rmspe(found, batch) / bound.squeeze(1)).square()
    # Normal errors at the bound have a weighted χ² of mean 1 here: its median lies between 0.455 (one axis) and 0.79
    # (three alike).
    assert 0.3 < ratio.median() < 1.1


def test_bound_needs_ranges_and_is_nan_for_absent_sources() -> None:
    batch = draw(16)
    assert torch.equal(position_bound(batch, SITE, STUDENT).isnan(), batch.power == 0)
    with pytest.raises(ValueError, match="near_field=True"):
        position_bound(batch, SITE, replace(STUDENT, near_field=False))


AXES = tuple(torch.linspace(low, high, 15, dtype=torch.float64) for low, high in ((-1.0, 1.0), (-0.5, 0.5)))


def grid_steering(*axes: Tensor, range_m: float = 2.0) -> Tensor:
    azimuth, elevation = torch.meshgrid(*axes, indexing="ij")
    return steering_vectors(
        STUDENT, azimuth.flatten(), elevation.flatten(), torch.full_like(azimuth.flatten(), range_m)
    ).mT


def test_music_and_mvdr_peak_at_the_sources_of_the_true_covariance() -> None:
    """Sources on grid points: MUSIC's two highest peaks are they, exactly; MVDR's lie at the same points."""
    steering = grid_steering(*AXES)
    chosen = [4 * 15 + 3, 11 * 15 + 10]
    A = steering[:, chosen]
    R = (A @ torch.diag(torch.tensor([0.7, 0.3], dtype=torch.complex128)) @ A.mH).unsqueeze(0)
    spectrum = music(R, torch.tensor([2]), steering)
    assert spectrum.topk(2).indices.squeeze(0).sort().values.tolist() == chosen
    for values in (spectrum, mvdr(R, steering)):
        found = peaks(values, AXES, 2)[0]
        expected = torch.stack([torch.stack([AXES[0][g // 15], AXES[1][g % 15]]) for g in chosen])
        found = found[found[:, 0].argsort()]
        assert torch.allclose(found, expected, atol=0.03)
    assert (spectrum >= 1 - 1e-9).all()


@pytest.mark.filterwarnings("ignore:We detected that Numpy")  # on its own threads, which are not the subject
def test_mvdr_is_acoulars_near_field_beamformer() -> None:
    """Acoular's Capon beamformer on our covariance. Its 'classic' steering vectors are phases of a spherical wave over
    M, and it multiplies M² back.
    """
    import acoular

    acoular.config.global_caching = "none"
    scenario = replace(STUDENT, wavelength_m=0.25)
    batch = draw(1, scenario, torch.complex128)
    R = batch.covariance() + 0.1 * torch.eye(16)
    azimuth, elevation, range_m = (
        torch.rand(20, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) + 0.5 for i in range(3)
    )
    steering = steering_vectors(scenario, azimuth, elevation - 1, range_m).mT
    speed = 343.0
    frequency = speed / scenario.wavelength_m
    spectra = acoular.PowerSpectraImport(csm=R.numpy(), frequencies=np.array([frequency]))
    grid = acoular.ImportGrid(pos=cartesian_positions(azimuth, elevation - 1, range_m).T.numpy().copy())
    vectors = acoular.SteeringVector(
        grid=grid,
        mics=acoular.MicGeom(pos_total=ris_positions(scenario).T.numpy().copy()),
        env=acoular.Environment(c=speed),
        steer_type="classic",
    )
    theirs = acoular.BeamformerCapon(freq_data=spectra, steer=vectors, cached=False).synthetic(frequency, 0)
    assert np.allclose(mvdr(R, steering, loading=0.0)[0], theirs, rtol=1e-6)


def test_peaks_between_grid_points_are_found() -> None:
    """The parabola is exact where the reciprocal is one; a scene with one hill has no second peak."""
    x, y = torch.meshgrid(*AXES, indexing="ij")
    hill = 1 / (0.01 + (x - 0.123) ** 2 + 2 * (y + 0.21) ** 2).flatten().unsqueeze(0)
    found = peaks(hill, AXES, 3)
    assert torch.allclose(found[0, 0], torch.tensor([0.123, -0.21], dtype=torch.float64), atol=1e-6)
    assert found[0, 1:].isnan().all()


def test_peaks_on_the_rim_stay_on_it() -> None:
    axis = torch.linspace(0, 1, 5, dtype=torch.float64)
    assert peaks(torch.tensor([[5.0, 4, 3, 2, 3]], dtype=torch.float64), (axis,), 2)[0].flatten().tolist() == [0.0, 1.0]
    flat = peaks(torch.rand(1, 5, dtype=torch.float64), (axis, torch.zeros(1, dtype=torch.float64)), 1)
    assert flat.shape == (1, 1, 2) and flat[0, 0, 1] == 0


def test_peaks_on_a_grid_are_places() -> None:
    """MUSIC on the true covariance of one source, over a grid it is no point of: its place, to a part of a cell."""
    scenario = replace(preset("full"), range_m=(0.5, 3.0), max_sources=1)
    batch, grid = draw(8, scenario), default_grid(scenario, step=0.6)
    found = locate(music(batch.covariance(), batch.source_count, grid.steering), grid, 2)
    assert found.shape == (8, 2, 3)
    truth = torch.stack([batch.azimuth.sin(), batch.elevation.sin(), 1 / batch.range_m], dim=2)
    found = torch.cat([found[..., :2].sin(), 1 / found[..., 2:]], dim=2)[:, :1]
    cells = torch.tensor([3**0.5 / grid.shape[2], 1 / grid.shape[1], (2 - 1 / 3) / (grid.shape[0] - 1)])
    assert ((found - truth).abs() / cells).median() < 0.1


def test_a_grid_of_plane_waves_has_no_places() -> None:
    grid = default_grid(STUDENT, near=False)
    with pytest.raises(ValueError, match="grid must have ranges"):
        locate(torch.ones(1, len(grid)), grid, 1)


def test_mdl_counts_sources_when_snapshots_abound() -> None:
    """MDL is consistent: 2,000 ordinary snapshots of K sources give K, every time; AIC may count more, never fewer."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.arange(4).repeat(20)
    A = steering_vectors(
        STUDENT, *(torch.tensor(v, dtype=torch.float64) for v in ([-0.8, 0.0, 0.7], [-0.3, 0.2, 0.4], [1.0, 2.0, 3.0]))
    ).mT
    values = []
    for K in counts.tolist():
        X = A[:, :K] @ torch.randn(K, 2000, dtype=torch.complex128, generator=generator) + torch.randn(
            16, 2000, dtype=torch.complex128, generator=generator
        )
        values.append(torch.linalg.eigvalsh(X @ X.mH / 2000))
    assert torch.equal(source_count(torch.stack(values), 2000), counts)
    assert (source_count(torch.stack(values), 2000, "aic") >= counts).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: music(torch.eye(4).expand(2, 4, 4) + 0j, torch.tensor([1, 4]), torch.ones(4, 3) + 0j),
            "sources must lie in 1 … 3 .*got 1 … 4",
        ),
        (lambda: source_count(torch.ones(1, 4), 10, "bic"), "criterion must be one of mdl, aic, got 'bic'"),
        (lambda: source_count(torch.ones(1, 4), 4), "snapshots must be more than the 4 eigenvalues, got 4"),
    ],
)
def test_bad_input_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_the_benchmark_stores_every_scene_once(tmp_path: Path) -> None:
    """Bins of SNR and of K are partitions of the scenes, means lie in their intervals, and --only keeps the other
    rows.
    """
    target = tmp_path / "results.json"

    def bench(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(
            main, ["bench", "estimators", "--scenes", "24", "--json", str(target), *arguments], catch_exceptions=False
        )
        assert result.exit_code == 0
        return json.loads(target.read_text())

    bench("--only", "scaled identity", "--only", "OAS")
    found = bench("--only", "OAS", "--only", "genie")
    assert [row["name"] for row in found["rows"]] == ["scaled identity", "OAS", "genie"]
    for row in found["rows"]:
        assert (
            row["scenes"]
            == 24
            == sum(part["scenes"] for part in row["by_snr"])
            == sum(part["scenes"] for part in row["by_sources"])
        )
        assert row["mean_95"][0] <= row["mean"] <= row["mean_95"][1]
        mean = sum(part["mean"] * part["scenes"] for part in row["by_snr"]) / 24
        assert mean == pytest.approx(row["mean"])
    assert [row["scenes"] for row in found["calibration"]] == [1, 2, 64] and max(
        row["error"] for row in found["calibration"]
    ) < 1e-5
