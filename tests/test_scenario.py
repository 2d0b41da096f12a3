"""Laws of the simulator's settings: codebooks, correlated sources, sites, calibration error, faulty elements."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from covlab.networks.model import BackProjectionNet, Estimate
from covlab.scenes.batch import Batch, concatenate
from covlab.scenes.channel import believed_channel, site_channel
from covlab.scenes.codebook import codebook
from covlab.scenes.scenario import PRESETS, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.loss import nmse

STUDENT = preset("student")
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "plane waves": {"near_field": False},
    "line of sight": {"rician_factor_db": math.inf},
    "scattered": {"rician_factor_db": -math.inf},
    "fixed codes": {"codebook": "fixed"},
    "DFT codes": {"codebook": "dft"},
    "one bit": {"phase_bits": 1},
    "partly coherent": {"source_correlation": 0.7},
    "coherent": {"source_correlation": 1.0},
    "site per scene": {"site": "per_scene"},
    "believed wrongly": {"calibration_error_db": -10.0},
    "stuck": {"stuck_elements": 5},
    "dead": {"dead_elements": 3, "stuck_elements": 1},
    "all at once": {
        "codebook": "dft",
        "phase_bits": 2,
        "source_correlation": 0.9,
        "site": "per_scene",
        "stuck_elements": 2,
        "dead_elements": 2,
    },
}


def draw(
    scenes: int = 64, seed: int = 0, dtype: torch.dtype = torch.complex128, **settings: Any
) -> tuple[Simulator, Batch]:
    simulator = Simulator(replace(STUDENT, **settings), dtype=dtype)
    return simulator, simulator.draw(scenes, scene_generator(seed, "test"))


def true_channels(simulator: Simulator, batch: Batch) -> Tensor:
    """G diag(what the surface reflects) of every snapshot [B, L, M, N]; a scene's own G is what takes its N = L codes
    to H.
    """
    codes, H = torch.view_as_complex(batch.codes), torch.view_as_complex(batch.H)
    G = torch.linalg.solve(codes, H).mT.unsqueeze(1) if simulator.G is None else simulator.G
    return G * simulator.reflected(codes).unsqueeze(2)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_snapshots_have_the_covariance_and_the_snr_of_the_model(settings: dict[str, Any]) -> None:
    """Whitened by what the model says of them, snapshots are CN(0, I); the label is expected signal power over σ²."""
    simulator, batch = draw(1000, seed=1, **settings)
    channels = true_channels(simulator, batch)
    signal = channels @ batch.covariance().unsqueeze(1) @ channels.mH
    power = signal.diagonal(dim1=-2, dim2=-1).real.mean(dim=(1, 2))
    assert torch.allclose(10 * torch.log10(power / batch.noise_power), batch.snr_db)

    covariance = signal + batch.noise_power.view(-1, 1, 1, 1) * torch.eye(STUDENT.bs_antennas)
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(covariance), torch.view_as_complex(batch.y).unsqueeze(-1), upper=False
    ).squeeze(-1)
    count = white.shape[0] * white.shape[1]
    empirical = torch.einsum("blm,blk->mk", white, white.conj()) / count
    assert (empirical - torch.eye(STUDENT.bs_antennas)).abs().max() < 5 / math.sqrt(count)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in ("line of sight", "dead", "all at once")])
def test_waves_at_the_surface_have_covariance_r(name: str) -> None:
    """With M = N antennas and no noise, x_l = diag(c)⁻¹ G⁻¹ y_l, and E‖R̂ − R‖²_F = tr(R)²/L for the sample covariance.

    A dead element and a pure line of sight are left out: either hides a part of x.
    """
    simulator, batch = draw(2000, seed=2, bs_antennas=16, snr_db=(200.0, 200.0), **SETTINGS[name])
    x = torch.linalg.solve(true_channels(simulator, batch), torch.view_as_complex(batch.y).unsqueeze(-1)).squeeze(-1)
    error = torch.linalg.matrix_norm(x.mT @ x.conj() / STUDENT.snapshots - batch.covariance()) ** 2
    share = error * STUDENT.snapshots / STUDENT.ris_elements**2
    assert abs(share.mean() - 1) < 5 * share.std() / math.sqrt(len(batch))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_factor_and_powers_agree_with_the_covariance(settings: dict[str, Any]) -> None:
    """R = A P Aᴴ is Hermitian, of trace N, and equal to F Fᴴ; both ways to the normalized error agree on it."""
    _, batch = draw(**settings)
    amplitude = batch.power.sqrt().to(torch.complex128)
    mixing = torch.eye(STUDENT.max_sources).to(amplitude) if batch.mixing is None else batch.mixing
    P = torch.diag_embed(amplitude) @ mixing @ mixing.mH @ torch.diag_embed(amplitude)
    R = batch.covariance()
    assert torch.allclose(P.diagonal(dim1=1, dim2=2).real, batch.power)
    assert torch.allclose(batch.steering @ P @ batch.steering.mH, R)
    assert torch.allclose(R.diagonal(dim1=1, dim2=2).sum(dim=1).real, torch.tensor(16.0).double())
    estimate = Estimate(torch.randn(len(batch), 16, 3, dtype=torch.complex128), torch.rand(len(batch)).double())
    assert torch.allclose(estimate.nmse(batch), nmse(estimate.covariance(), R))


@pytest.mark.parametrize("correlation, rank", [(0.0, "K"), (0.6, "K"), (0.999, "K"), (1.0, "one")])
def test_coherent_sources_leave_one_dimension(correlation: float, rank: str) -> None:
    scenario = replace(preset("near_field"), source_correlation=correlation)
    batch = Simulator(scenario, dtype=torch.complex128).draw(200, scene_generator(3, "test"))
    # a covariance's rank is seen in the small K×K matrix, whose conditioning does not depend on how near the sources
    # are
    amplitude = batch.power.sqrt().unsqueeze(2).to(torch.complex128)
    root = amplitude * (torch.eye(3).to(amplitude) if batch.mixing is None else batch.mixing)
    expected = batch.source_count if rank == "K" else torch.ones_like(batch.source_count)
    assert torch.equal(torch.linalg.matrix_rank(root @ root.mH, hermitian=True, rtol=1e-10), expected)
    values = torch.linalg.eigvalsh(batch.covariance())
    if rank == "one":
        assert (values[:, :-1].abs() < 1e-10 * values[:, -1:]).all()


def test_correlation_coefficients_are_as_asked() -> None:
    rho = 0.8
    _, batch = draw(2000, source_correlation=rho, correlation_phase=(0.5, 1.0))
    both = batch[batch.source_count == 2]
    assert both.mixing is not None
    correlation = both.mixing @ both.mixing.mH
    assert torch.allclose(correlation.diagonal(dim1=1, dim2=2), torch.ones(()).to(correlation))
    assert torch.allclose(correlation[:, 1, 0].abs(), torch.tensor(rho).double())
    phase = correlation[:, 1, 0].angle()
    assert 0.5 <= phase.min() < 0.51 and 0.99 < phase.max() <= 1.0
    _, free = draw(2000, source_correlation=rho)
    assert free.mixing is not None
    turn = torch.polar(torch.ones(()).double(), (free.mixing @ free.mixing.mH)[:, 1, 0].angle()).mean()
    assert turn.abs() < 5 / math.sqrt(2000)


def test_quantized_codes_take_every_phase_of_the_surface_alike_and_no_other() -> None:
    _, any_phase = draw()
    for bits in (1, 2, 3):
        _, batch = draw(phase_bits=bits)
        codes = torch.view_as_complex(batch.codes)
        values, counts = np.unique(codes.numpy(), return_counts=True)
        share = 2.0**-bits
        assert len(values) == 2**bits
        assert abs(counts - share * codes.numel()).max() < 5 * math.sqrt(share * (1 - share) * codes.numel())
        assert np.allclose(values ** (2**bits), 1)
        rounding = (codes * torch.view_as_complex(any_phase.codes).conj()).angle().abs().max()
        assert 0.9 * math.pi * share < rounding <= math.pi * share + 1e-9


@pytest.mark.parametrize("name", PRESETS)
def test_dft_codes_are_orthogonal_columns_of_the_two_dimensional_dft(name: str) -> None:
    scenario = replace(preset(name), codebook="dft")
    codes = torch.view_as_complex(Simulator(scenario, dtype=torch.complex128).draw(8, scene_generator(0, "test")).codes)
    N, L = scenario.ris_elements, scenario.snapshots
    assert torch.allclose(codes @ codes.mH, N * torch.eye(L).to(codes))
    asked = codebook(scenario)
    assert asked is not None
    kronecker = np.kron(
        *(np.fft.ifft(np.eye(size), norm="forward") for size in (scenario.ris_rows, scenario.ris_columns))
    )
    assert np.allclose(asked.numpy(), kronecker)
    assert not torch.equal(codes[0], codes[1])


def test_a_small_dft_survives_two_bits_and_a_larger_one_does_not() -> None:
    for name, exact in (("student", True), ("near_field", False)):
        codes = codebook(replace(preset(name), codebook="dft", phase_bits=2))
        assert codes is not None
        assert torch.allclose(codes @ codes.mH, codes.shape[0] * torch.eye(codes.shape[0]).to(codes)) == exact


def test_a_fixed_codebook_is_shared_by_all_scenes_and_simulators() -> None:
    batches = [draw(4, seed=seed, codebook="fixed")[1] for seed in (0, 1)]
    codes = torch.cat([batch.codes for batch in batches])
    assert torch.equal(codes, codes[:1].expand_as(codes))
    assert not torch.allclose(codes, draw(8, codebook="fixed", site_seed=1)[1].codes)
    assert len(torch.unique(codes[0])) > 400


@pytest.mark.parametrize("error_db", [-30.0, -10.0, 3.0])
def test_the_believed_channel_errs_by_what_is_stated_and_only_the_receiver_sees_it(error_db: float) -> None:
    scenario = replace(STUDENT, calibration_error_db=error_db)
    G, believed = site_channel(scenario), believed_channel(scenario)
    assert torch.equal(G, site_channel(STUDENT)) and torch.equal(believed_channel(STUDENT), G)
    assert math.isclose(10 * torch.log10((believed - G).abs().square().sum() / G.abs().square().sum()).item(), error_db)
    (_, clean), (_, batch) = draw(), draw(calibration_error_db=error_db)
    assert torch.equal(batch.y, clean.y)
    codes, H = (torch.view_as_complex(tensor).flatten(0, 1) for tensor in (batch.codes, batch.H))
    assert torch.allclose(torch.linalg.lstsq(codes, H).solution.T, believed)

    per_scene = replace(scenario, site="per_scene")
    G, believed = Simulator(per_scene, dtype=torch.complex128).channel(50, scene_generator(0, "test"))
    relative = (believed - G).abs().square().sum(dim=(1, 2)) / G.abs().square().sum(dim=(1, 2))
    assert torch.allclose(10 * torch.log10(relative), torch.tensor(error_db).double())


class SiteKeeper(Simulator):
    def channel(self, scenes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        self.kept = super().channel(scenes, generator)
        return self.kept


def test_a_scene_of_its_own_site_is_known_from_h_if_and_only_if_there_are_n_codes() -> None:
    """Random phases have no preferred direction: of what L < N codes miss, E‖G − Ĝ‖² / ‖G‖² = 1 − L/N."""
    for L in (4, 8, 16, 20):
        simulator = SiteKeeper(replace(STUDENT, site="per_scene", snapshots=L), dtype=torch.complex128)
        batch = simulator.draw(400, scene_generator(0, "test"))
        G, _ = simulator.kept
        found = (
            torch.linalg.pinv(torch.view_as_complex(batch.codes)) @ torch.view_as_complex(batch.H)
        ).mT  # the least G that explains H
        missed = (found - G).abs().square().sum(dim=(1, 2)) / G.abs().square().sum(dim=(1, 2))
        if L >= 16:
            assert missed.max() < 1e-8
        else:
            assert abs(missed.mean() - (1 - L / 16)) < 5 * missed.std() / math.sqrt(400)
        assert torch.allclose(G.abs().square().mean(), torch.tensor(1 / 16).double(), rtol=0.05)
        assert not torch.allclose(G[0], G[1])


def test_a_network_knows_the_channel_that_the_receiver_believes_in() -> None:
    wrong = replace(STUDENT, calibration_error_db=-10.0)
    G = believed_channel(wrong)
    expected = G.mH @ torch.linalg.inv(G @ G.mH + 0.1 * torch.eye(STUDENT.bs_antennas))
    assert torch.allclose(torch.view_as_complex(BackProjectionNet(wrong).back_projection), expected.to(torch.complex64))


def test_only_one_site_can_be_known_beforehand() -> None:
    for use in (site_channel, believed_channel, BackProjectionNet):
        with pytest.raises(ValueError, match="scenario.site must be 'fixed' for a known channel G, got 'per_scene'"):
            use(replace(STUDENT, site="per_scene"))


def test_faulty_elements_ignore_their_code_and_the_receiver_does_not_know() -> None:
    (_, clean), (simulator, batch) = draw(), draw(stuck_elements=4, dead_elements=3)
    asked = torch.view_as_complex(batch.codes)
    shown = simulator.reflected(asked)
    assert (
        torch.equal(batch.codes, clean.codes) and torch.equal(batch.H, clean.H) and not torch.allclose(batch.y, clean.y)
    )
    constant = (shown == shown[:1, :1]).all(dim=(0, 1))
    assert constant.sum() == 7 and torch.equal(shown[:, :, ~constant], asked[:, :, ~constant])
    assert (shown[0, 0] == 0).sum() == 3 and torch.allclose(
        shown[0, 0, constant].abs().sum(), torch.tensor(4.0).double()
    )
    few = Simulator(replace(STUDENT, stuck_elements=6, phase_bits=2), dtype=torch.complex128)
    assert few.reflection is not None
    assert torch.allclose(few.reflection[few.faulty] ** 4, torch.ones(()).to(few.reflection))


@pytest.mark.parametrize("name", ["one bit", "partly coherent", "site per scene", "believed wrongly", "stuck", "dead"])
def test_an_imperfection_leaves_everything_else_in_the_scene_as_it_was(name: str) -> None:
    (_, clean), (_, batch) = draw(), draw(**SETTINGS[name])
    for same in ("snr_db", "azimuth", "elevation", "range_m", "steering", "source_count"):
        assert torch.equal(getattr(batch, same), getattr(clean, same))
    assert name == "one bit" or torch.equal(batch.codes, clean.codes)


@pytest.mark.parametrize("settings", [{}, {"site": "per_scene"}, {"phase_bits": 2}])
def test_scenes_do_not_depend_on_the_pieces_they_are_worked_out_in(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = draw(50, **settings)
    monkeypatch.setattr("covlab.scenes.simulator.CACHE_BYTES", 7 * 16 * 16 * 2 * 16)  # seven scenes' products
    _, pieces = draw(50, **settings)
    assert torch.allclose(pieces.y, whole.y) and torch.allclose(pieces.noise_power, whole.noise_power)
    assert torch.equal(pieces.codes, whole.codes)


def test_the_noise_power_is_as_exact_for_many_numbers_as_for_few() -> None:
    """Half a million powers are added up per scene. Adding one after another in float32 would lose two digits."""
    simulator, batch = draw(3, dtype=torch.complex64, bs_antennas=512, snapshots=256, ris_rows=2, ris_columns=2)
    assert simulator.G is not None
    products = torch.view_as_complex(batch.codes).unsqueeze(2) * batch.factor().mT.unsqueeze(1)
    arrivals = products.to(torch.complex128) @ simulator.G.mT.to(torch.complex128)
    expected = arrivals.abs().square().sum(dim=2).mean(dim=(1, 2)) / 10 ** (batch.snr_db.double() / 10)
    assert torch.allclose(batch.noise_power.double(), expected, rtol=2e-6)


@pytest.mark.parametrize("settings", [{}, {"near_field": False}, {"site": "per_scene"}, {"source_correlation": 0.5}])
def test_scenes_are_the_same_under_autocast(settings: dict[str, Any]) -> None:
    """Autocast is for the network. In bfloat16, waves would come from other directions."""
    _, outside = draw(dtype=torch.complex64, **settings)
    with torch.autocast("cpu", torch.bfloat16):
        _, inside = draw(dtype=torch.complex64, **settings)
    for name in Batch.__dataclass_fields__:
        found, expected = getattr(inside, name), getattr(outside, name)
        assert found is expected is None or torch.equal(found, expected), name


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_draws_what_its_definition_says_bit_for_bit(name: str) -> None:
    """The order of the random numbers is a promise: measured results, and resumed runs, depend on it."""
    scenario, B = preset(name), 20
    N, L, M, K = scenario.ris_elements, scenario.snapshots, scenario.bs_antennas, scenario.max_sources
    batch = Simulator(scenario).draw(B, scene_generator(7, "test"))
    generator = scene_generator(7, "test")

    def uniform(bounds: tuple[float, float], *shape: int) -> Tensor:
        return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(*shape, generator=generator)

    for field in ("azimuth", "elevation", "range_m"):
        assert torch.equal(getattr(batch, field), uniform(getattr(scenario, field), B, K))
    power, snr_db = uniform(scenario.power, B, K), uniform(scenario.snr_db, B)
    power = power * (torch.arange(K) < torch.randint(1, K + 1, (B, 1), generator=generator))
    assert torch.equal(batch.power, power / power.sum(dim=1, keepdim=True)) and torch.equal(batch.snr_db, snr_db)
    phase = uniform((0.0, 2 * math.pi), B, L, N)
    codes = torch.complex(phase.cos(), phase.sin())
    assert torch.equal(torch.view_as_complex(batch.codes), codes)
    symbols = torch.randn(B, L, 1, K, generator=generator, dtype=torch.complex64)
    noise = torch.randn(B, L, M, generator=generator, dtype=torch.complex64)
    x = (symbols @ batch.factor().mT.unsqueeze(1)).squeeze(2)
    y = (codes * x) @ site_channel(scenario).to(torch.complex64).T + batch.noise_power.sqrt().view(B, 1, 1) * noise
    assert torch.allclose(torch.view_as_complex(batch.y), y, atol=1e-5)
    assert batch.mixing is None


def test_student_scenes_are_those_of_every_other_machine() -> None:
    """Recorded values: float32 arithmetic may differ in its last digits between processors, and in nothing else."""
    batch = Simulator(STUDENT).draw(2, scene_generator(0, "validation"))
    found = torch.cat([batch.snr_db, batch.azimuth[0], batch.codes[0, 0, 0], batch.y[0, 0, 0], batch.y[1, 15, 7]])
    assert torch.allclose(found, torch.tensor(RECORDED), atol=1e-4)


RECORDED = [19.4131, 14.48145, 0.82061, 0.25674, 0.06013, -0.99819, -0.39251, 0.6773, -1.66715, 0.53654]


def test_a_batch_keeps_its_correlation_wherever_it_goes() -> None:
    _, batch = draw(source_correlation=0.5)
    again = concatenate([batch[:10], batch[10:]])
    assert batch.mixing is not None and again.mixing is not None
    assert torch.equal(again.mixing, batch.mixing)
    assert torch.equal(batch[torch.tensor([3, 1])].to("cpu").covariance(), batch.covariance()[[3, 1]])
    with pytest.raises(ValueError, match="batches must all have correlated sources or none of them, got both"):
        concatenate([batch, draw()[1]])
    tensors = {name: getattr(batch, name) for name in Batch.__dataclass_fields__}
    with pytest.raises(ValueError, match=r"Batch\.mixing must be .*= \[64, 2, 2\], got \[10, 2, 2\]"):
        Batch(**(tensors | {"mixing": batch.mixing[:10]}))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"codebook": "hadamard"}, "codebook must be one of random, fixed, dft, got 'hadamard'"),
        ({"site": "moving"}, "site must be one of fixed, per_scene, got 'moving'"),
        ({"near_field": "no"}, "near_field must be one of True, False, got 'no'"),
        ({"phase_bits": 0}, "phase_bits must be a whole number from 1 to 16, or None for any phase, got 0"),
        ({"phase_bits": True}, "phase_bits must be .* got True"),
        ({"phase_bits": 2.0}, "phase_bits must be .* got 2.0"),
        ({"rician_factor_db": math.nan}, r"rician_factor_db must be a number \(±inf allowed\), got nan"),
        ({"rician_factor_db": "high"}, "rician_factor_db must be a number .* got 'high'"),
        ({"source_correlation": 1.1}, "source_correlation must be .* at least 0 and at most 1, got 1.1"),
        (
            {"source_correlation": 0.5, "correlation_phase": (0.0, 4.0)},
            r"correlation_phase must be \(low, high\) .* got \(0.0, 4.0\)",
        ),
        (
            {"calibration_error_db": -math.inf},
            "calibration_error_db must be a finite number .*, or None for no error, got -inf",
        ),
        ({"stuck_elements": -1}, "stuck_elements must be a whole number from 0 to [0-9]+, got -1"),
        ({"site_seed": 0.5}, "site_seed must be a whole number from 0 to [0-9]+, got 0.5"),
        ({"range_m": 5.0}, r"range_m must be \(low, high\) .* got 5.0"),
        ({"snr_db": (0.0, math.inf)}, r"snr_db must be \(low, high\) .* got \(0.0, inf\)"),
        ({"wavelength_m": "0.3"}, "wavelength_m must be a finite number .* got '0.3'"),
        # contradictions
        ({"codebook": "dft", "snapshots": 17}, "snapshots must be at most N = 16 with codebook 'dft', .* got 17"),
        ({"source_correlation": 0.5, "max_sources": 1}, "source_correlation must be 0 with max_sources 1, got 0.5"),
        ({"correlation_phase": (0.0, 0.0)}, "correlation_phase must be left out with source_correlation 0"),
        (
            {"site": "per_scene", "rician_factor_db": math.inf},
            "site must be 'fixed' with rician_factor_db inf",
        ),
        (
            {"stuck_elements": 10, "dead_elements": 7},
            "stuck_elements must be at most N = 16 together with dead_elements 7, got 10",
        ),
        ({"dead_elements": 16}, "dead_elements must be below N = 16"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^Scenario\.{message}"):
        replace(STUDENT, **settings)
