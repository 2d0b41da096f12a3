"""The unrolled network: its laws in the trainer, what it is blind to by construction, and what it must not be blind
to.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from covlab.networks.model import Estimate
from covlab.networks.snapshot_likelihood import SnapshotLikelihood
from covlab.networks.source_grid import default_grid
from covlab.networks.unrolled import Settled, Sources, UnrolledNet
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import PRESETS, Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.loss import nmse
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer, gradients

STUDENT = preset("student")
SIMULATOR = Simulator(STUDENT)


def network_of(scenario: Scenario = STUDENT, **arguments: Any) -> UnrolledNet:
    torch.manual_seed(0)
    return UnrolledNet(scenario, **arguments)


def batch_of(scenes: int, scenario: Scenario = STUDENT) -> Batch:
    return Simulator(scenario).draw(scenes, scene_generator(0, "test"))


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    return {"y": batch.y, "H": batch.H, "codes": batch.codes, "snr_db": batch.snr_db}


def estimate_of(network: UnrolledNet, batch: Batch, **changed: Tensor) -> Estimate:
    with torch.no_grad():
        return network.eval()(**(inputs_of(batch) | changed))


def trainer(
    network: UnrolledNet,
    scenes: FixedScenes | FreshScenes,
    validation: Batch | None = None,
    folder: Path | None = None,
    **recipe: Any,
) -> Trainer:
    return Trainer(
        network,
        scenes,
        batch_of(8) if validation is None else validation,
        Recipe(**({"windows": 4, "accumulation": 3} | recipe)),
        folder=folder,
        progress=Silent(),
    )


@pytest.mark.parametrize("name", PRESETS)
def test_estimate_is_a_covariance_and_its_error_that_of_the_matrices(name: str) -> None:
    batch = batch_of(4, preset(name))
    estimate = estimate_of(network_of(preset(name)), batch)
    R = estimate.covariance()
    assert torch.allclose(R, R.mH, atol=1e-5) and torch.linalg.eigvalsh(R).min() > 0
    for stage in (*estimate.stages, estimate):
        assert torch.allclose(stage.nmse(batch), nmse(stage.covariance(), batch.covariance()), atol=1e-5)


@pytest.mark.parametrize(
    "scenario",
    [STUDENT, preset("near_field"), replace(STUDENT, near_field=False)],
    ids=lambda s: f"{s.name}-{s.near_field}",
)
def test_every_parameter_gets_a_finite_gradient_from_the_default_loss(scenario: Scenario) -> None:
    network, batch = network_of(scenario), batch_of(8, scenario)
    run = trainer(network, FixedScenes(batch, 8, seed=0), batch)
    run.losses(batch).total.mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


def test_untrained_it_is_maximum_likelihood_and_better_than_knowing_nothing() -> None:
    batch = batch_of(128)
    assert estimate_of(network_of(), batch).nmse(batch).mean() < 0.5


def test_scenes_do_not_look_at_each_other() -> None:
    network, batch = network_of(), batch_of(6)
    together = estimate_of(network, batch).covariance()
    alone = torch.cat([estimate_of(network, batch[i : i + 1]).covariance() for i in range(6)])
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["phase", "scale", "order of snapshots", "phase of each code"])
def test_what_says_nothing_about_the_covariance_changes_nothing(name: str) -> None:
    """A phase or a gain of all of y, the order of snapshots, and a phase of one snapshot and its code."""
    network, batch = network_of(), batch_of(32)
    phases = torch.polar(torch.ones(32, 16), 6.3 * torch.rand(32, 16, generator=scene_generator(0, "phases"))).view(
        32, 16, 1
    )

    def turned(pairs: Tensor, by: Tensor) -> Tensor:
        return torch.view_as_real(torch.view_as_complex(pairs) * by)

    changed = {
        "phase": {"y": turned(batch.y, torch.exp(torch.tensor(0.7j)))},
        "scale": {"y": 300 * batch.y},
        "order of snapshots": {name: getattr(batch, name).flip(1) for name in ("y", "H", "codes")},
        "phase of each code": {"y": turned(batch.y, phases), "codes": turned(batch.codes, phases)},
    }[name]
    before, after = estimate_of(network, batch), estimate_of(network, batch, **changed)
    # Rounding may turn a near tie of two peaks; everything else must agree.
    assert nmse(after.covariance(), before.covariance()).median() < 1e-6
    assert (before.nmse(batch) - after.nmse(batch)).abs().mean() < 1e-3


def test_accumulated_gradient_of_ragged_micro_batches_is_that_of_the_whole_batch() -> None:
    batch = batch_of(11)
    whole, parts = network_of(), network_of()
    grads = []
    for network, windows in ((whole, [batch]), (parts, [batch[:5], batch[5:6], batch[6:]])):
        run = trainer(network, FixedScenes(batch, 11, seed=0))
        weight = sum((piece.weight.sum() for piece in windows), torch.zeros(()))
        for piece in windows:
            run.backward(run.weigh(run.losses(piece), piece, weight))
        grads.append(torch.cat([gradient.flatten() for gradient in gradients(run.parameters)]))
    assert torch.linalg.vector_norm(grads[0] - grads[1]) / torch.linalg.vector_norm(grads[0]) < 1e-4


def test_resumed_run_ends_with_the_very_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(folder: Path, windows: int = 6) -> Trainer:
        return trainer(
            network_of(), FreshScenes(SIMULATOR, 4, 9, seed=0), folder=folder, windows=windows, ema_decay=0.9
        )

    straight = run(tmp_path / "straight").fit()
    halted = run(tmp_path / "halted")
    honest = halted.end_epoch

    def end_epoch() -> None:
        if halted.epoch:
            raise KeyboardInterrupt
        honest()

    monkeypatch.setattr(halted, "end_epoch", end_epoch)
    with pytest.raises(KeyboardInterrupt):
        halted.fit()
    resumed = run(tmp_path / "halted").resume()
    assert 0 < resumed.window < 6
    resumed.fit()
    for one, other in zip(straight.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert straight.average is not None and resumed.average is not None
    assert torch.equal(straight.average, resumed.average)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_runs_the_real_layers_only_and_trains(precision: str) -> None:
    batch = batch_of(16)
    network = network_of()
    run = trainer(network, FixedScenes(batch, 4, seed=0), batch, precision=precision, windows=6)
    half, full = run.evaluate(), estimate_of(network, batch).nmse(batch)
    assert not torch.equal(half, full) and (half - full).abs().median() < 0.02
    run.fit()
    assert all(row["loss"] < 10 for row in run.ledger.rows) and sum(row["ran"] for row in run.ledger.rows) >= 5


def test_stages_have_a_loss_of_their_own() -> None:
    batch = batch_of(8)
    run = trainer(network_of(), FixedScenes(batch, 8, seed=0), batch)
    estimate = run.estimate(run.model, batch)
    mean = sum((stage.nmse(batch) for stage in estimate.stages), torch.zeros(())) / len(estimate.stages)
    assert len(estimate.stages) == 3 and torch.equal(run.loss.cov_pred(estimate, batch), mean)
    perfect = run.loss.at_truth(run.estimate(run.model, batch), batch)
    assert perfect.terms["cov"].abs().max() < 1e-5 and perfect.terms["cov_pred"].abs().max() < 1e-5


def test_last_round_keeps_the_true_sources_and_drops_weak_ones_that_are_not_there() -> None:
    scenario = replace(preset("near_field"), snr_db=(20.0, 20.0))
    network, batch = network_of(scenario), batch_of(64, scenario)
    batch = batch[batch.source_count == scenario.max_sources]
    likelihood = SnapshotLikelihood(torch.view_as_complex(network.site), batch.y, batch.codes, batch.snr_db)
    coordinates = network.coordinates
    true = torch.stack([batch.azimuth.sin(), batch.elevation.sin(), 1 / batch.range_m], dim=1)
    true = true / coordinates.cell.view(1, 3, 1)
    random = torch.rand(len(batch), 3, 3, generator=scene_generator(0, "not there"))
    positions = torch.cat([coordinates.low + (coordinates.high - coordinates.low) * random, true], dim=2)
    log_power = torch.cat([torch.full((len(batch), 3), 0.01), batch.power], dim=1).log()
    found = network.climb(likelihood, Sources(positions, log_power, torch.full((len(batch),), 0.01)), 1)
    kept = network.prune(found)
    assert kept.log_power.shape == batch.power.shape
    there = found.log_power[:, 3:].unsqueeze(2) == kept.log_power.unsqueeze(1)
    # A random position may be near a true one, and then it takes its place.
    assert there.any(dim=2).float().mean() > 0.9


def test_elimination_decides_which_sources_stay_not_their_power() -> None:
    network, batch = network_of(), batch_of(2)
    likelihood = SnapshotLikelihood(torch.view_as_complex(network.site), batch.y, batch.codes, batch.snr_db)
    random = torch.rand(2, 3, 4, generator=scene_generator(0, "positions"))
    positions = network.coordinates.low + (network.coordinates.high - network.coordinates.low) * random
    found = network.climb(likelihood, Sources(positions, torch.zeros(2, 4), torch.ones(2)), 1)
    turn = found.log_power.argsort(dim=1, descending=True).argsort(dim=1)  # the strongest source goes first
    kept = network.prune(found._replace(elimination=found.elimination._replace(turn=turn)))
    weakest = found.log_power.sort(dim=1).values[:, : STUDENT.max_sources]
    assert torch.equal(kept.log_power.sort(dim=1).values, weakest)
    index = torch.where(kept.log_power.unsqueeze(2) == found.log_power.unsqueeze(1))[2].view(2, -1)
    assert torch.equal(kept.positions, found.positions.gather(2, index.unsqueeze(1).expand(-1, 3, -1)))


def test_fewer_sources_than_a_scene_may_have_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found must add up to at least max_sources = 2, got \(1,\)"):
        UnrolledNet(STUDENT, found=(1,))


@pytest.mark.parametrize("argument", ["passes", "steps", "width", "atoms"])
def test_number_out_of_range_is_refused_by_name(argument: str) -> None:
    wrong: dict[str, Any] = {argument: 0}
    with pytest.raises(ValueError, match=f"{argument} must be a whole number from 1 to [0-9]+, got 0"):
        UnrolledNet(STUDENT, **wrong)
    with pytest.raises(
        ValueError, match=r"found must be .* each entry a whole number from 1 to [0-9]+, .*got \(3, 0\)"
    ):
        UnrolledNet(STUDENT, found=(3, 0))


def test_gain_is_seen_at_the_highest_points_of_the_matched_filter_only() -> None:
    network, batch = network_of(), batch_of(4)
    likelihood = SnapshotLikelihood(torch.view_as_complex(network.site), batch.y, batch.codes, batch.snr_db)
    precision = likelihood.precision(None, None, torch.ones(4))
    everywhere = likelihood.gain(precision, network.grid.steering.expand(4, -1, -1)).log1p()
    matched, gain = network.evidence(likelihood, precision, 5)
    seen = torch.zeros_like(gain).scatter(1, matched.topk(5, dim=1).indices, 1.0)
    assert torch.allclose(gain, seen * everywhere, rtol=1e-3, atol=1e-4) and gain.count_nonzero() > 4
    assert len(network.evidence(likelihood, precision, 0)) == 1


def test_each_pass_has_its_own_number_of_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = network_of(candidates=(5, 0, 7, 10**6)), []
    honest = network.evidence

    def evidence(likelihood: SnapshotLikelihood, precision: Tensor, candidates: int) -> list[Tensor]:
        asked.append(candidates)
        return honest(likelihood, precision, candidates)

    monkeypatch.setattr(network, "evidence", evidence)
    batch = batch_of(4)
    assert estimate_of(network, batch).nmse(batch).isfinite().all() and asked == [5, 0, 7, 10**6]
    with pytest.raises(ValueError, match=r"candidates must have 4 entries, one for each pass, got \(96,\)"):
        UnrolledNet(STUDENT, candidates=(96,))
    with pytest.raises(ValueError, match=r"candidates must be .* each entry a whole number from 0 to .*, got \(-1,"):
        UnrolledNet(STUDENT, candidates=(-1, 0, 0, 0))


def test_first_round_and_last_sources_make_all_steps_other_rounds_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network, made = network_of(steps=3, found=(2, 1, 1)), []
    honest = network.climb

    def climb(likelihood: SnapshotLikelihood, sources: Sources, steps: int) -> Settled:
        made.append((sources.log_power.shape[1], steps))
        return honest(likelihood, sources, steps)

    monkeypatch.setattr(network, "climb", climb)
    estimate_of(network, batch_of(2))
    assert made == [(2, 3), (3, 1), (4, 1), (STUDENT.max_sources, 3)]


def test_a_grid_of_its_own_step_has_as_many_points_as_that_step_makes() -> None:
    assert network_of(step=0.9).grid.shape == default_grid(STUDENT, step=0.9).shape != network_of().grid.shape
    with pytest.raises(ValueError, match="step must be .*above 0.*, got 0"):
        UnrolledNet(STUDENT, step=0)


@pytest.mark.parametrize("scenario", [preset("near_field"), replace(STUDENT, near_field=False)], ids=["near", "plane"])
def test_source_starts_at_the_center_of_mass_around_its_peak(scenario: Scenario) -> None:
    network = network_of(scenario)
    shape, points = network.grid.shape, network.coordinates.points.view(3, *network.grid.shape)
    power = torch.rand(64, len(network.grid), generator=scene_generator(0, "power")) ** 8 / len(network.grid)
    found = network.join(None, power, 3)
    cubes, inside = power.view(-1, *shape), [torch.arange(n) for n in shape]
    for scene in range(64):
        cube = cubes[scene]
        expected = []
        for place in torch.cartesian_prod(*inside):
            part = tuple(slice(max(int(i) - 1, 0), int(i) + 2) for i in place)
            if cube[tuple(place)] == cube[part].max():
                mass = cube[part].sum()
                center = (cube[part] * points[(slice(None), *part)]).sum(dim=(1, 2, 3)) / mass
                expected.append((cube[tuple(place)].item(), mass.log().item(), center))
        for k, (_, log_mass, center) in enumerate(sorted(expected, key=lambda peak: -peak[0])[:3]):
            assert found.log_power[scene, k].item() == pytest.approx(max(log_mass, -10), abs=1e-4)
            assert torch.allclose(found.positions[scene, :, k], center, atol=1e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_fisher_scoring_ends_near_the_maximum_where_there_is_little_noise(name: str) -> None:
    """At 30 dB, three steps reach the truth, and seventeen more change almost nothing."""
    scenario = replace(preset(name), snr_db=(30.0, 30.0))
    network, batch = network_of(scenario), batch_of(64, scenario)
    batch = batch[batch.source_count == 1]
    likelihood = SnapshotLikelihood(torch.view_as_complex(network.site), batch.y, batch.codes, batch.snr_db)
    coordinates = network.coordinates
    true = torch.stack([batch.azimuth.sin(), batch.elevation.sin(), 1 / batch.range_m], dim=1)[:, :, :1]
    true = true / coordinates.cell.view(1, 3, 1)
    start = Sources(coordinates.clamp(true + 0.4), batch.power[:, :1].log(), torch.full((len(batch),), 1e-3))
    after = [network.climb(likelihood, start, steps).positions for steps in (3, 20)]
    assert (after[0] - true).abs().median() < 0.01 and (after[0] - after[1]).abs().median() < 0.005


def test_site_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="site"):
        UnrolledNet(replace(STUDENT, site="per_scene"))


@pytest.mark.parametrize("tensor", ["y", "codes"])
def test_contract_names_the_tensor_that_breaks_it(tensor: str) -> None:
    batch = batch_of(4, preset("near_field"))
    with pytest.raises(ValueError, match=rf"^{tensor} must be \[B"):
        network_of(preset("near_field"))(**(inputs_of(batch) | {tensor: getattr(batch, tensor).transpose(1, 2)}))
