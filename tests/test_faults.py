"""Faults as switches."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from covlab.cli.main import main
from covlab.faults import FAULTS, GROUPS, inject
from covlab.faults.evidence import OBSERVABLES
from covlab.faults.small_run import exhibit, finish, in_turn, small_run
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FreshScenes
from covlab.training.checkpoint import CheckpointError, load_parameters
from covlab.training.loss import Loss, LossWeights
from covlab.training.progress import Lines

STUDENT = preset("student")


def test_the_museum_is_as_large_as_promised() -> None:
    assert len(FAULTS) >= 24
    assert {fault.group for fault in FAULTS.values()} == set(GROUPS)


def test_a_fault_lives_in_the_trainers_made_inside_and_nowhere_else() -> None:
    lines: list[str] = []
    inside, outside = small_run("missing_division", progress=Lines(lines.append)), small_run()
    assert inside.faults == ("missing_division",) and outside.faults == ()
    inside.fit(), outside.fit()
    assert lines and all(line.endswith("BUG") for line in lines)
    ratio = inside.ledger.rows[0]["gradient_norm"] / outside.ledger.rows[0]["gradient_norm"]
    assert ratio == pytest.approx(4, rel=1e-4)


def test_a_fault_stays_in_its_thread() -> None:
    made = {}
    ready, go_on = threading.Event(), threading.Event()

    def other() -> None:
        ready.wait()
        made["clean"] = small_run()
        go_on.set()

    thread = threading.Thread(target=other)
    thread.start()
    with inject("missing_division"):
        ready.set()
        go_on.wait()
        made["buggy"] = small_run()
    thread.join()
    assert made["clean"].faults == () and made["buggy"].faults == ("missing_division",)


def test_the_reviewed_bug_does_nothing_when_one_micro_batch_makes_a_window() -> None:
    buggy, clean = (
        small_run(*faults, accumulation=1, windows=30).fit() for faults in (("division_in_debug_block",), ())
    )
    assert torch.equal(buggy.vector, clean.vector)


def test_the_reviewed_bug_divides_the_first_micro_batch_alone() -> None:
    buggy, clean = (small_run(*faults).fit().ledger.columns()["loss"] for faults in (("division_in_debug_block",), ()))
    assert buggy[0] / clean[0] == pytest.approx(3.25, rel=0.05)
    assert buggy[1] / clean[1] == pytest.approx(4, rel=0.05)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="fault must be one of .*got 'nonsense'"), inject("nonsense"):
        pass
    with (
        pytest.raises(ValueError, match="both replace Trainer.weigh"),
        inject("missing_division", "division_in_debug_block"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="both replace Loss.cov"),
        inject("loss_inside_autocast"),
        inject("loading_on_prediction_alone"),
    ):
        pass
    assert small_run().faults == ()


def test_faults_of_different_methods_compose() -> None:
    run = small_run("missing_division", "constant_symbols", "main_weight_zero", "schedule_per_epoch")
    assert run.faults == ("constant_symbols", "main_weight_zero", "missing_division", "schedule_per_epoch")
    run.fit()
    assert run.history[-1]["train"] == 0 and run.counters["schedule_count"] == 4
    symbols = Simulator(STUDENT).symbols(3, scene_generator(0, "test"))
    assert not torch.equal(symbols[:, 0], symbols[:, 1])  # and none of it is left


@pytest.mark.parametrize("name", FAULTS)
def test_exhibits_are_complete_and_their_difference_is_short(name: str) -> None:
    fault = FAULTS[name]
    assert all(getattr(fault, text) for text in ("title", "changes", "unaffected", "seen_in"))
    assert fault.observable in OBSERVABLES
    assert fault.original.__name__ == fault.seam.split(".")[1] and "\n" not in fault.title
    changed = [line for line in fault.diff().splitlines()[3:] if line[0] in "+-"]
    assert 1 <= len(changed) <= 24


@pytest.mark.parametrize("name", FAULTS)
def test_every_faulty_run_is_stamped(name: str, tmp_path: Path) -> None:
    """In the trainer, its log, its ledger and its checkpoints, wherever the fault sits."""
    lines: list[str] = []
    run = exhibit(name, progress=Lines(lines.append), windows=4, folder=tmp_path)
    finish(run)
    assert run.faults == (name,)
    assert lines and all("BUG" in line for line in lines if line.startswith("Epoch"))
    assert all(row["buggy"] for row in run.ledger.rows)
    if (tmp_path / "best.pt").exists():
        with pytest.raises(CheckpointError, match=f"BUG, made with the fault {name}"):
            load_parameters(run.model, tmp_path / "best.pt")
    if (tmp_path / "last.pt").exists():
        with pytest.raises(CheckpointError, match="BUG"):
            exhibit(name, without=True, windows=4, folder=tmp_path).resume()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_raises_an_exception(name: str, precision: str) -> None:
    run = exhibit(name, precision=precision, windows=2).fit()
    assert run.window == 2


def test_a_trainer_of_a_faulty_stream_is_stamped_wherever_it_is_made() -> None:
    with inject("constant_symbols"):
        scenes = FreshScenes(Simulator(STUDENT), 8, 4, seed=0)
    run = small_run()
    again = type(run)(run.model, scenes, run.validation, run.recipe, run.weights, progress=run.progress)
    assert again.faults == ("constant_symbols",)


def test_held_out_scenes_are_no_training_scenes() -> None:
    scenes = FreshScenes(Simulator(STUDENT), 8, 16, seed=0)
    trained = torch.cat([batch.snr_db for epoch in range(10) for batch in scenes.micro_batches(epoch)])
    assert not torch.isin(scenes.held_out(16).snr_db, trained).any()


def test_a_guard_that_is_an_assert_is_no_guard() -> None:
    """python -O removes an assert; a correct guard raises an exception."""
    code = """
from covlab.faults import inject
from covlab.training.loss import LossWeights
with inject("guard_by_assert"):
    LossWeights(lam_cov=0.0)
print("accepted by an assert")
LossWeights(lam_cov=0.0)
print("accepted")
"""
    result = subprocess.run([sys.executable, "-O", "-c", code], check=False, capture_output=True, text=True)
    assert result.stdout.splitlines() == ["accepted by an assert"]
    assert result.returncode == 1 and "lam_cov must be above 0" in result.stderr
    with pytest.raises(AssertionError), inject("guard_by_assert"):
        LossWeights(lam_cov=0.0)


def test_autocast_leaves_the_complex_loss_alone() -> None:
    """As the exhibit says about covlab's own loss."""
    batch = Simulator(STUDENT).draw(32, scene_generator(0, "test"))
    run = small_run()
    loss = Loss(STUDENT, LossWeights.only(**dict.fromkeys(LossWeights.names(), 0.1)))
    estimate = run.model(batch.y, batch.H, batch.codes, batch.snr_db)
    with torch.autocast("cpu", dtype=torch.float16):
        inside = loss(estimate, batch)
    assert torch.equal(inside.total, loss(estimate, batch).total)


def test_catalogue_and_exhibit_from_a_shell() -> None:
    catalogue = CliRunner().invoke(main, ["faults"])
    assert catalogue.exit_code == 0 and all(name in catalogue.output for name in FAULTS)
    exhibit = CliRunner().invoke(main, ["faults", "show", "clip_before_unscale", "--measure"])
    assert exhibit.exit_code == 0
    assert "--- Trainer.unscale_and_clip" in exhibit.output and "+++ clip_before_unscale" in exhibit.output
    assert "clip_share" in exhibit.output and "Pytorch-UNet#468" in exhibit.output
    nothing = CliRunner().invoke(main, ["faults", "show", "nonsense"])
    assert nothing.exit_code == 2 and "no fault 'nonsense'" in nothing.output


def test_a_diverged_run_is_not_trained_again_and_the_others_continue() -> None:
    diverged, healthy = (exhibit("missing_division", 0, True, windows=36, learning_rate=rate) for rate in (1e30, 1e-3))
    next(in_turn(healthy))
    finish(diverged)
    assert diverged.stopped
    before = diverged.window, list(diverged.history)
    assert diverged.window < 36
    for _ in in_turn(diverged, healthy):
        pass
    assert (diverged.window, len(diverged.history)) == (before[0], len(before[1])) and healthy.window == 36
