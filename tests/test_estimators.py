"""Laws of the classical estimators, of calibration and of spectra."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage

from covlab.estimators.calibration import calibrate
from covlab.estimators.classical import (
    MeanCovariance,
    back_project,
    ledoit_wolf,
    ledoit_wolf_share,
    noise_power,
    oas,
    oas_share,
    sample_covariance,
    scaled_identity,
)
from covlab.estimators.spectra import music, mvdr, peaks, source_count
from covlab.metrics import places
from covlab.scenario import preset
from covlab.simulator import CONTRACT, Batch, Simulator, ris_positions, scene_generator, site_channel, steering_vectors

STUDENT = preset("student")
SITE = site_channel(STUDENT).to(torch.complex64)
ESTIMATORS = {
    "scaled_identity": scaled_identity,
    "MeanCovariance": MeanCovariance(STUDENT),
    "sample_covariance": sample_covariance,
    "ledoit_wolf": ledoit_wolf,
    "oas": oas,
}


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return ESTIMATORS[request.param]


def draw(scenes, scenario=STUDENT, dtype=torch.complex64, stream="test"):
    return Simulator(scenario, dtype=dtype).draw(scenes, scene_generator(0, stream))


def blinded(batch):
    """The same measurements, and NaN for everything an estimator must not read."""
    return Batch(**{f.name: getattr(batch, f.name) if f.name in CONTRACT else torch.full_like(getattr(batch, f.name), math.nan) for f in fields(Batch)})


def same(one, other):
    """Two estimates are the same matrices, up to rounding."""
    one, other = one.covariance(), other.covariance()
    return ((one - other).abs().amax(dim=(1, 2)) < 2e-4 * one.abs().amax(dim=(1, 2))).all()


def test_estimators_read_the_contract_and_nothing_else(estimator):
    batch = draw(8)
    assert same(estimator(batch, SITE), estimator(blinded(batch), SITE))


def test_estimators_look_at_one_scene_at_a_time(estimator):
    batch = draw(8)
    order = torch.tensor([5, 2, 7])
    expected, found = estimator(batch, SITE).covariance()[order], estimator(batch[order], SITE).covariance()
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max())


def test_the_scale_of_snapshots_does_not_matter(estimator):
    batch = draw(8)
    louder = replace(batch, y=10 * batch.y)
    assert torch.allclose(estimator(batch, SITE).nmse(batch), estimator(louder, SITE).nmse(batch), atol=2e-3)


def test_estimates_are_hermitian_and_positive_semidefinite(estimator):
    R = estimator(draw(8), SITE).covariance()
    values = torch.linalg.eigvalsh(R)
    assert torch.allclose(R, R.mH, atol=1e-5)
    assert (values[:, 0] > -1e-5 * values[:, -1]).all()


def test_a_site_that_does_not_fit_is_refused(estimator):
    with pytest.raises(ValueError, match=r"site must be G, complex \[M, N\] = \[8, 16\] beside this batch, got torch.complex64 \[16, 8\]"):
        estimator(draw(2), SITE.mH)


def test_noise_power_is_unbiased():
    batch = draw(4096)
    assert (noise_power(batch) / batch.noise_power).mean().item() == pytest.approx(1, abs=0.02)


def test_back_projection_inverts_the_channel_where_it_can():
    """With as many antennas as elements and no noise, x̂_l is x_l."""
    scenario = replace(STUDENT, bs_antennas=16, snr_db=(200.0, 200.0))
    batch = draw(4, scenario, torch.complex128)
    site = site_channel(scenario)
    x = back_project(batch, site)
    y = (torch.view_as_complex(batch.codes) * x.mT) @ site.T
    assert torch.allclose(y, torch.view_as_complex(batch.y), atol=1e-6)
    inside = torch.linalg.lstsq(batch.steering * (batch.power > 0).unsqueeze(1), x, driver="gelsd").solution
    assert torch.allclose(batch.steering @ inside, x, atol=1e-4)  # x_l lies in the sources' span


def test_mean_covariance_is_the_best_constant():
    batch = draw(2048, dtype=torch.complex64)
    best = MeanCovariance(STUDENT)(batch, SITE)
    assert torch.allclose(best.covariance()[0], batch.covariance().mean(dim=0), atol=0.1)
    assert best.nmse(batch).mean() < scaled_identity(batch, SITE).nmse(batch).mean() - 0.02


def test_ledoit_wolf_share_is_scikit_learns_on_real_data():
    """The formula is the same for real and complex snapshots, so real ones hold it against scikit-learn."""
    X = torch.randn(5, 12, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.2, 2, 12, dtype=torch.float64).view(-1, 1)
    expected = [ledoit_wolf_shrinkage(x.T.numpy(), assume_centered=True) for x in X]
    assert np.allclose(ledoit_wolf_share(X.to(torch.complex128)), expected)


@pytest.mark.parametrize("share", [ledoit_wolf_share, oas_share])
def test_shrinkage_comes_near_the_oracles(share):
    """Against the share that minimizes E‖(1−ρ)S + ρμI − Σ‖² for complex Gaussian snapshots, found by Monte Carlo."""
    generator = torch.Generator().manual_seed(0)
    N, L, draws = 12, 8, 4000
    root = torch.diag(torch.linspace(0.3, 1.7, N, dtype=torch.float64)).to(torch.complex128)
    X = root @ torch.randn(draws, N, L, dtype=torch.complex128, generator=generator)
    S, truth, identity = X @ X.mH / L, root @ root.mH, torch.eye(N, dtype=torch.complex128)
    target = S.diagonal(dim1=1, dim2=2).real.mean(dim=1).view(-1, 1, 1) * identity
    towards = target - S
    oracle = (towards.conj() * (truth - S)).sum().real / towards.abs().square().sum()

    def risk(rho):
        return (S + rho.view(-1, 1, 1) * towards - truth).abs().square().sum(dim=(1, 2)).mean()

    unshrunk, best = risk(torch.zeros(1)), risk(oracle)
    assert risk(share(X)) - best < 0.05 * (unshrunk - best)
    assert share(X).mean().item() == pytest.approx(oracle.item(), abs=0.12)


def test_more_snapshots_need_less_shrinkage():
    for share in (ledoit_wolf_share, oas_share):
        few, many = (share(torch.randn(1, 8, L, dtype=torch.complex128, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 9).view(-1, 1)).item()
                     for L in (8, 4096))
        assert many < 0.02 < few <= 1


@pytest.mark.parametrize("name, scenes", [("student", 1), ("near_field", 3), ("full", 9)])
def test_the_fewest_scenes_that_can_calibrate_do(name, scenes):
    """B·L >= N scenes give G to the precision of the contract tensors; one scene fewer is refused."""
    scenario = preset(name)
    batch = draw(scenes, scenario)
    G = site_channel(scenario).to(torch.complex64)
    assert torch.linalg.norm(calibrate(batch) - G) < 1e-4 * torch.linalg.norm(G)
    if scenes > 1:
        with pytest.raises(ValueError, match=f"codes of rank N = {scenario.ris_elements} .*got rank {16 * (scenes - 1)}"):
            calibrate(batch[: scenes - 1])


def test_one_codebook_for_all_scenes_cannot_calibrate():
    scenario = preset("near_field")
    batch = draw(8, scenario)
    fixed = replace(batch, codes=batch.codes[:1].expand_as(batch.codes), H=batch.H[:1].expand_as(batch.H))
    with pytest.raises(ValueError, match="got rank 16 from 128 snapshots"):
        calibrate(fixed)


AXES = tuple(torch.linspace(low, high, 15, dtype=torch.float64) for low, high in ((-1.0, 1.0), (-0.5, 0.5)))


def grid_steering(*axes, range_m=2.0):
    azimuth, elevation = torch.meshgrid(*axes, indexing="ij")
    return steering_vectors(STUDENT, azimuth.flatten(), elevation.flatten(), torch.full_like(azimuth.flatten(), range_m)).mT


def test_music_and_mvdr_peak_at_the_sources_of_the_true_covariance():
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
def test_mvdr_is_acoulars_near_field_beamformer():
    """Acoular's Capon beamformer on our covariance. Its 'classic' steering vectors are phases of a spherical wave over M, and it multiplies M² back."""
    import acoular

    acoular.config.global_caching = "none"
    scenario = replace(STUDENT, wavelength_m=0.25)
    batch = draw(1, scenario, torch.complex128)
    R = batch.covariance() + 0.1 * torch.eye(16)
    azimuth, elevation, range_m = (torch.rand(20, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) + 0.5 for i in range(3))
    steering = steering_vectors(scenario, azimuth, elevation - 1, range_m).mT
    speed = 343.0
    frequency = speed / scenario.wavelength_m
    spectra = acoular.PowerSpectraImport(csm=R.numpy(), frequencies=np.array([frequency]))
    grid = acoular.ImportGrid(pos=places(azimuth, elevation - 1, range_m).T.numpy().copy())
    vectors = acoular.SteeringVector(
        grid=grid, mics=acoular.MicGeom(pos_total=ris_positions(scenario).T.numpy().copy()), env=acoular.Environment(c=speed), steer_type="classic"
    )
    theirs = acoular.BeamformerCapon(freq_data=spectra, steer=vectors, cached=False).synthetic(frequency, 0)
    assert np.allclose(mvdr(R, steering, loading=0.0)[0], theirs, rtol=1e-6)


def test_peaks_between_grid_points_are_found():
    """A parabola in the logarithm is exact for a Gaussian hill; a scene with one hill has no second peak."""
    x, y = torch.meshgrid(*AXES, indexing="ij")
    hill = torch.exp(-((x - 0.123) ** 2) / 0.1 - (y + 0.21) ** 2 / 0.05).flatten().unsqueeze(0)
    found = peaks(hill, AXES, 3)
    assert torch.allclose(found[0, 0], torch.tensor([0.123, -0.21], dtype=torch.float64), atol=1e-6)
    assert found[0, 1:].isnan().all()


def test_peaks_on_the_rim_stay_on_it():
    axis = torch.linspace(0, 1, 5, dtype=torch.float64)
    assert peaks(torch.tensor([[5.0, 4, 3, 2, 3]], dtype=torch.float64), (axis,), 2)[0].flatten().tolist() == [0.0, 1.0]
    flat = peaks(torch.rand(1, 5, dtype=torch.float64), (axis, torch.zeros(1, dtype=torch.float64)), 1)
    assert flat.shape == (1, 1, 2) and flat[0, 0, 1] == 0


def test_mdl_counts_sources_when_snapshots_abound():
    """MDL is consistent: 2,000 ordinary snapshots of K sources give K, every time; AIC may count more, never fewer."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.arange(4).repeat(20)
    A = steering_vectors(STUDENT, *(torch.tensor(v, dtype=torch.float64) for v in ([-0.8, 0.0, 0.7], [-0.3, 0.2, 0.4], [1.0, 2.0, 3.0]))).mT
    values = []
    for K in counts.tolist():
        X = A[:, :K] @ torch.randn(K, 2000, dtype=torch.complex128, generator=generator) + torch.randn(16, 2000, dtype=torch.complex128, generator=generator)
        values.append(torch.linalg.eigvalsh(X @ X.mH / 2000))
    assert torch.equal(source_count(torch.stack(values), 2000), counts)
    assert (source_count(torch.stack(values), 2000, "aic") >= counts).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: music(torch.eye(4).expand(2, 4, 4), torch.tensor([1, 4]), torch.ones(4, 3)), "sources must lie in 1 … 3 .*got 1 … 4"),
        (lambda: source_count(torch.ones(1, 4), 10, "bic"), "criterion must be 'mdl' or 'aic', got 'bic'"),
        (lambda: source_count(torch.ones(1, 4), 4), "snapshots must be more than the 4 eigenvalues, got 4"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
