"""Laws of the training loop."""

import functools
import math
import operator
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from covlab.faults import inject
from covlab.networks.model import BackProjectionNet, Estimate
from covlab.plots.training import window_columns
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.checkpoint import read_checkpoint
from covlab.training.loss import LossWeights
from covlab.training.nan_diagnosis import NonFiniteLoss
from covlab.training.operations import Operations, host_may_not_wait
from covlab.training.progress import Lines, Pace, Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer, gradients

NMSE = LossWeights.only(lam_cov=1.0)
STUDENT = preset("student")
SCENES = Simulator(STUDENT).draw(100, scene_generator(0, "test"))


def trainer(
    scenes: Batch = SCENES,
    micro_batch: int = 16,
    seed: int = 0,
    width: int = 32,
    weights: LossWeights | None = None,
    folder: Path | None = None,
    device: str = "cpu",
    **recipe: Any,
) -> Trainer:
    torch.manual_seed(seed)
    model = BackProjectionNet(STUDENT, beams=32, width=width, rank=4).to(device)
    return Trainer(
        model,
        FixedScenes(scenes.to(device), micro_batch, seed=0),
        SCENES[:8].to(device),
        Recipe(**({"windows": 4, "warmup": 0} | recipe)),
        weights,
        folder,
        progress=Silent(),
    )


def accumulated_gradient(run: Trainer, window: list[Batch]) -> Tensor:
    """The gradient of one window, before anything is done to it."""
    weight = sum((micro_batch.weight.sum() for micro_batch in window), torch.zeros((), device=run.device))
    for micro_batch in window:
        run.backward(run.weigh(run.losses(micro_batch), micro_batch, weight))
    return torch.cat([gradient.flatten() for gradient in gradients(run.parameters)])


def relative_distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def with_weights(scenes: Batch) -> Batch:
    return replace(scenes, weight=torch.linspace(0.1, 3.0, len(scenes)))


@pytest.mark.parametrize("scenes", [SCENES, with_weights(SCENES)], ids=["plain", "weighted"])
@pytest.mark.parametrize("sizes", [[25, 25, 25, 25], [40, 40, 20], [1, 97, 2], [100]], ids=str)
def test_accumulated_gradient_is_the_full_batch_gradient(scenes: Batch, sizes: list[int], device: str) -> None:
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    parts = accumulated_gradient(trainer(device=device), [scenes[part].to(device) for part in order.split(sizes)])
    whole = accumulated_gradient(trainer(device=device), [scenes.to(device)])
    assert relative_distance(parts, whole) <= 1e-5


def test_short_last_window_counts_for_what_it_holds(device: str) -> None:
    """100 scenes in micro-batches of 16, four to a window: the last window is 16 + 16 + 4 scenes."""
    run = trainer(device=device)
    windows = list(run.draw_windows(0))
    assert [[len(micro_batch) for micro_batch in window] for window in windows] == [[16] * 4, [16, 16, 4]]
    scenes = SCENES[torch.cat([_places(b) for b in windows[1]])]
    whole = accumulated_gradient(trainer(device=device), [scenes.to(device)])
    assert relative_distance(accumulated_gradient(run, windows[1]), whole) <= 1e-5


def _places(micro_batch: Batch) -> Tensor:
    return torch.cat([(SCENES.snr_db == snr).nonzero()[0] for snr in micro_batch.snr_db.cpu()])


def test_the_bug_is_caught_by_the_same_law() -> None:
    with inject("missing_division"):
        buggy = trainer()
    parts = [SCENES[part] for part in torch.arange(100).split(25)]
    factor = accumulated_gradient(buggy, parts).norm() / accumulated_gradient(trainer(), parts).norm()
    assert factor.item() == pytest.approx(4, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_fused_and_unfused_optimizers_take_the_same_steps(optimizer: str, device: str) -> None:
    fused, unfused = (
        trainer(optimizer=optimizer, fused=choice, warmup=2, windows=6, device=device).fit() for choice in (True, False)
    )
    assert relative_distance(fused.vector, unfused.vector) < 1e-5


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_step_runs_if_and_only_if_the_gradient_is_finite(
    optimizer: str, fused: bool, precision: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window with a gradient of inf moves neither parameters, momenta, schedule nor average, even as the first."""
    setting: dict[str, Any] = {
        "optimizer": optimizer,
        "fused": fused,
        "precision": precision,
        "ema_decay": 0.5,
        "device": device,
    }
    run = trainer(**setting)
    windows, honest = list(run.draw_windows(0)), run.backward
    assert run.average is not None
    before, average = run.vector.clone(), run.average.clone()

    def overflow(loss: Tensor) -> None:
        honest(loss)
        gradients(run.parameters)[3][0] = torch.inf

    monkeypatch.setattr(run, "backward", overflow)
    run.train_window(windows[0])
    assert torch.equal(run.vector, before) and torch.equal(run.average, average)
    assert run.counters["executed"] == run.counters["schedule_count"] == 0
    monkeypatch.setattr(run, "backward", honest)
    run.train_window(windows[1])
    assert not torch.equal(run.vector, before) and run.counters["executed"] == 1

    fresh = trainer(**setting)
    fresh.train_window(windows[1])
    assert relative_distance(run.vector, fresh.vector) < 1e-6
    rows = run.ledger.flush()
    assert [row["ran"] for row in rows] == [0, 1]
    assert rows[0]["update_norm"] == 0 < rows[1]["update_norm"]
    if precision == "fp16":
        assert rows[0]["loss_scale"] == 2**15  # halved after the overflow
    assert all(torch.isfinite(state).all() for states in run.optimizer.state.values() for state in states.values())


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_network_runs_in_half_precision_and_the_loss_in_single(precision: str, device: str) -> None:
    run, full, scenes = trainer(precision=precision, device=device), trainer(device=device), SCENES.to(device)
    losses = run.losses(scenes)
    assert all(term.dtype == torch.float32 for term in losses.terms.values())
    assert not torch.equal(losses.total, full.losses(scenes).total)
    assert torch.allclose(losses.total, full.losses(scenes).total, atol=0.05)
    assert torch.equal(losses.terms["cov"], run.estimate(run.model, scenes).nmse(scenes))


def test_clipping_sees_unscaled_gradients(device: str) -> None:
    rows = []
    for precision in ("fp32", "fp16"):
        run = trainer(precision=precision, clip=0.01, windows=1, device=device)
        stepped_with: list[float] = []
        run.optimizer.register_step_pre_hook(
            lambda *_, run=run, norms=stepped_with: norms.append(get_total_norm(gradients(run.parameters)).item())
        )
        rows += run.fit().ledger.rows
        # what the optimizer got, not only what the ledger says of it
        assert stepped_with == [pytest.approx(0.01, rel=1e-4)]
    plain, scaled = rows
    assert scaled["gradient_norm"] == pytest.approx(plain["gradient_norm"], rel=0.02)
    assert plain["gradient_norm_clipped"] == pytest.approx(0.01, rel=1e-4)
    assert scaled["gradient_norm_clipped"] == pytest.approx(0.01, rel=1e-4)


def test_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    run = trainer(windows=8, warmup=4, learning_rate=0.5, optimizer="sgd").fit()
    expected = [0.5 * min(1, (n + 1) / 4) * 0.5 * (1 + math.cos(math.pi * n / 8)) for n in range(9)]
    assert run.ledger.columns()["learning_rate_head"] == pytest.approx(expected[:-1])
    assert float(run.optimizer.param_groups[0]["lr"]) == pytest.approx(expected[-1], abs=1e-7)


def test_average_is_what_is_validated() -> None:
    run = trainer(ema_decay=0.9, windows=4, learning_rate=0.05).fit()
    expected, decay = trainer(ema_decay=0.9).vector, 0.9
    again = trainer(ema_decay=0.9, windows=4, learning_rate=0.05)
    for window in [window for epoch in (0, 1) for window in again.draw_windows(epoch)]:
        again.train_window(window)
        expected = decay * expected + (1 - decay) * again.vector
    assert run.average is not None
    assert relative_distance(run.average, expected) < 1e-6
    torch.nn.utils.vector_to_parameters(expected, again.model.parameters())
    again.average = None
    assert torch.allclose(run.evaluate(), again.evaluate(), atol=1e-5)


def test_train_value_is_the_mean_over_scenes_of_every_window() -> None:
    run = trainer(windows=2, learning_rate=1e-12, optimizer="sgd").fit()
    assert run.history[0]["train"] == pytest.approx(run.losses(SCENES).total.mean().item(), rel=1e-5)
    assert run.history[0]["skipped"] == run.history[0]["nonfinite"] == 0


def test_a_nonfinite_window_makes_the_epoch_nonfinite_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(windows=2)
    honest = run.weigh
    monkeypatch.setattr(run, "weigh", lambda *args: honest(*args) * (torch.nan if run.window == 1 else 1.0))
    run.fit()
    assert math.isnan(run.history[0]["train"]) and run.history[0]["nonfinite"] == run.history[0]["skipped"] == 1
    assert torch.isfinite(run.vector).all()


def test_same_seed_same_run() -> None:
    assert torch.equal(trainer(seed=1).fit().vector, trainer(seed=1).fit().vector)


@pytest.mark.parametrize("stop", range(1, 8))
def test_a_run_stopped_at_any_window_continues_to_the_same_end(stop: int) -> None:
    """Seven windows, four to an epoch: also where the budget or an epoch has just ended."""
    straight, halted = (
        trainer(windows=7, micro_batch=7, ema_decay=0.9).fit(),
        trainer(windows=7, micro_batch=7, ema_decay=0.9),
    )
    shares = list(islice(halted.windows(), stop))
    assert shares == [number / 7 for number in range(1, stop + 1)] and halted.window == stop
    halted.fit()
    assert halted.window == 7 and torch.equal(halted.vector, straight.vector)
    assert halted.history == straight.history
    assert halted.ledger.rows == straight.ledger.rows


def test_overfit_test_memorizes() -> None:
    """The source promised .187 after 30 epochs on 512 fixed scenes; goal at student size: at most .03."""
    scenes = Simulator(STUDENT).draw(512, scene_generator(0, "overfit"))
    torch.manual_seed(0)
    run = Trainer(
        BackProjectionNet(STUDENT),
        FixedScenes(scenes, 32, seed=0),
        scenes,
        Recipe(windows=120),
        weights=NMSE,
        progress=Silent(),
    )
    assert run.fit().history[-1]["validation"] <= 0.03


@pytest.mark.slow
def test_overfit_test_memorizes_at_full_size() -> None:
    full = preset("full")
    scenes = Simulator(full).draw(512, scene_generator(0, "overfit"))
    torch.manual_seed(0)
    run = Trainer(
        BackProjectionNet(full),
        FixedScenes(scenes, 32, seed=0),
        scenes,
        Recipe(windows=120),
        weights=NMSE,
        progress=Silent(),
    )
    assert run.fit().history[-1]["validation"] <= 0.05


def test_held_out_error_falls_from_knowing_nothing() -> None:
    """A quarter of the budget that reaches .18 (benchmarks/training.py)."""
    simulator = Simulator(STUDENT)
    torch.manual_seed(0)
    held_out = simulator.draw(512, scene_generator(0, "validation"))
    run = Trainer(
        BackProjectionNet(STUDENT),
        FreshScenes(simulator, 32, 400, seed=0),
        held_out,
        Recipe(windows=300),
        weights=NMSE,
        progress=Silent(),
    )
    assert run.evaluate().mean() >= 0.9
    assert run.fit().history[-1]["validation"] <= 0.28


@pytest.mark.parametrize(
    "setting",
    [
        {"accumulation": 0},
        {"learning_rate": 0.0},
        {"learning_rate": -1.0},
        {"precision": "fp8"},
        {"optimizer": "lion"},
        {"clip": 0.0},
        {"windows": 0},
        {"warmup": -1},
        {"momentum": 1.0},
        {"ema_decay": 1.0},
        {"weight_decay": math.nan},
        {"patience": 0},
        {"nonfinite_limit": 0},
        {"head_learning_rate": -1.0},
    ],
    ids=str,
)
def test_recipe_refuses_by_name(setting: dict[str, Any]) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"^{name} must be .*got {value!r}"):
        Recipe(**({"windows": 1} | setting))


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_no_window_waits_for_the_device(optimizer: str, precision: str, device: str) -> None:
    """With scaler, clipping, schedule, average and ledger on; only the eigengap must ask LAPACK whether it
    converged.
    """
    weights = LossWeights.only(**(dict.fromkeys(LossWeights.names(), 0.1) | {"lam_gap": 0.0}))
    run = trainer(optimizer=optimizer, precision=precision, ema_decay=0.9, windows=8, weights=weights, device=device)
    windows = list(run.draw_windows(0))
    run.train_window(windows[0])
    with Operations() as operations:
        with host_may_not_wait(device):
            run.train_window(windows[1])
        assert operations.waits == 0
        run.ledger.flush()
        assert operations.waits <= 1
    with Operations() as operations:
        trainer(optimizer=optimizer, fused=False, device=device).train_window(windows[1])
    assert operations.waits > 0  # the count can count


def test_ledger_has_a_column_for_everything() -> None:
    weights = LossWeights.only(**(dict.fromkeys(LossWeights.names(), 0.1) | {"lam_gap": 0.0}))
    columns = trainer(precision="fp16", ema_decay=0.9, weights=weights).fit().ledger.columns()
    terms = {f"term_{name.removeprefix('lam_')}" for name in weights.values()} - {"term_gap"}
    groups = {f"{kind}_{name}" for kind in ("gradient_norm", "learning_rate") for name in ("backbone", "head")}
    assert set(columns) == terms | groups | set(weights.values()) | {
        "window",
        "epoch",
        "scenes",
        "micro_batches",
        "buggy",
        "loss",
        "ran",
        "loss_scale",
        "gradient_norm",
        "gradient_norm_clipped",
        "update_norm",
        "parameter_norm",
        "executed",
        "schedule_count",
        "average_count",
        "smallest_relative_trace",
        "bad_scene",
    }
    assert columns["loss"] == pytest.approx([sum(0.1 * columns[term][i] for term in terms) for i in range(4)], rel=1e-4)
    assert columns["scenes"] == [64, 36, 64, 36] and columns["micro_batches"] == [4, 3, 4, 3]
    assert min(columns["smallest_relative_trace"]) >= 1


def test_a_long_run_measures_its_steps_as_a_short_one_does_but_not_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it measures, the norms are those that every window's measurement gives; and a picture joins what was
    measured.
    """
    dense = trainer(windows=6).fit().ledger.rows
    monkeypatch.setattr("covlab.training.trainer.NORMS_PER_RUN", 3)
    run = trainer(windows=6).fit()
    measured = [int(row["window"]) for row in run.ledger.rows if "update_norm" in row]
    assert measured == [1, 3, 5]
    for name in ("update_norm", "parameter_norm"):
        assert [run.ledger.rows[window - 1][name] for window in measured] == [
            dense[window - 1][name] for window in measured
        ]
    (line,) = window_columns({"": {"run": run}}, {"update_norm": "norm"}).axes[0].lines
    assert list(np.asarray(line.get_xdata())) == measured


# ------------------------------------------------------------------ runs that go wrong


def spoiled(name: str, scene: int = 70, value: float = math.nan) -> Batch:
    tensor = getattr(SCENES, name).clone()
    tensor[scene] = value
    return replace(SCENES, **{name: tensor})


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["y", "H", "codes", "snr_db"])
def test_bad_input_in_the_first_window_stops_before_any_step(name: str, value: float) -> None:
    run = trainer(spoiled(name, value=value), micro_batch=100)
    before = run.vector.clone()
    with pytest.raises(ValueError, match=f"^{name} of the first window holds NaN or inf, first in scene [0-9]+ of 100"):
        run.fit()
    assert run.window == 0 and torch.equal(run.vector, before)


def test_bad_input_in_a_later_window_is_named_at_the_next_flush() -> None:
    order = torch.randperm(100, generator=scene_generator(0, "order", 0))
    run = trainer(spoiled("y", scene=int(order[70])))
    with pytest.raises(ValueError, match="^y of window 2 holds NaN or inf, first in scene 6 of 16"):
        run.fit()
    assert torch.isfinite(run.vector).all()


def test_wrong_dtype_is_refused_before_any_step() -> None:
    doubled = replace(SCENES, y=SCENES.y.double())
    run = trainer(doubled)
    with pytest.raises(ValueError, match="y must be torch.float32, got torch.float64"):
        run.fit()
    assert run.window == 0


@pytest.mark.parametrize("setting", [{"windows": 1}, {"windows": 5}, {"windows": 40, "patience": 1}], ids=str)
def test_a_run_that_ends_while_its_loss_is_not_finite_is_an_error(
    setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the windows or the patience end before ``nonfinite_limit``."""
    run = trainer(**setting)
    honest = run.loss.cov
    monkeypatch.setattr(run.loss, "cov", lambda *arguments: honest(*arguments) * torch.nan)
    with pytest.raises(NonFiniteLoss, match="first in window 1, in the term cov"):
        run.fit()


@pytest.mark.parametrize("name", ["y", "snr_db", "steering", "power", "weight"])
def test_validation_that_is_not_finite_is_refused_before_any_step(name: str) -> None:
    run = trainer()
    broken = getattr(SCENES[:8], name).clone()
    broken[3] = torch.nan
    run.validation = replace(SCENES[:8], **{name: broken})
    with pytest.raises(ValueError, match=f"{name} of validation holds NaN or inf, first in scene 3 of 8"):
        run.fit()
    assert run.window == 0


def test_run_whose_loss_stays_nonfinite_stops_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows 1 and 3 on are bad: the first of the streak is named, not the first ever.

    A NaN that is written over one scene's term leaves the others' gradient finite, so steps run, and the message says
    so.
    """
    run = trainer(windows=40, nonfinite_limit=3, folder=tmp_path)
    honest = run.loss.subspace_align

    def fails_but_in_window_2(estimate: Estimate, batch: Batch) -> Tensor:
        term = honest(estimate, batch)
        return term if run.window == 1 else term.index_fill(0, torch.tensor([1]), math.nan)

    monkeypatch.setattr(run.loss, "subspace_align", fails_but_in_window_2)
    with pytest.raises(
        NonFiniteLoss,
        match=r"3 consecutive windows: first in window 3, in the term subspace_align, in scene 1 of 64; 3 of these "
        r"steps were taken; .*last\.pt is from before",
    ):
        run.fit()
    assert torch.isfinite(run.vector).all()
    assert read_checkpoint(tmp_path / "last.pt")["position"]["window"] <= 2
    assert [path.name for path in tmp_path.glob(".*")] == [".lock"]


def test_a_stopped_run_is_not_trained_on_until_it_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(windows=8, nonfinite_limit=2, folder=tmp_path)
    honest = run.weigh
    monkeypatch.setattr(run, "weigh", lambda *args: honest(*args) * (torch.nan if run.window >= 4 else 1.0))
    with pytest.raises(NonFiniteLoss):
        run.fit()
    window = run.window
    monkeypatch.setattr(run, "weigh", honest)
    with pytest.raises(NonFiniteLoss, match="this run was stopped and is not continued: the loss was not finite"):
        run.fit()
    assert run.window == window
    assert run.resume().fit().window == 8 and run.stopped == ""


def test_a_trainer_has_one_open_iterator_and_keeps_its_budget() -> None:
    run = trainer(windows=6)
    first, second = run.windows(), run.windows()
    next(first)
    for other in (second, run.windows()):
        with pytest.raises(RuntimeError, match="another iterator over its windows is open"):
            next(other)
    with pytest.raises(RuntimeError, match="another iterator over its windows is open"):
        run.fit()
    del first
    assert run.fit().window == 6 == len(run.ledger.rows)


def test_a_few_nonfinite_windows_do_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(windows=12, nonfinite_limit=3)
    honest = run.weigh
    monkeypatch.setattr(run, "weigh", lambda *args: honest(*args) * (1.0 if run.window % 3 == 2 else torch.nan))
    run.fit()
    assert run.window == 12 and run.counters["executed"] == 4


def test_early_stopping_counts_epochs_without_gain() -> None:
    run = trainer(windows=40, learning_rate=1e-30, patience=3).fit()
    assert len(run.history) == 4 and run.window == 8


# ------------------------------------------------------------------ what a person reads


def test_log_tells_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    torch.manual_seed(0)
    model = BackProjectionNet(STUDENT, beams=32, width=32, rank=4)
    run = Trainer(
        model,
        FixedScenes(SCENES, 16, seed=0),
        SCENES[:8],
        Recipe(windows=4, warmup=0),
        progress=Lines(lines.append),
        debug=True,
    )
    honest = run.gate
    monkeypatch.setattr(run, "gate", lambda norm: honest(norm) & (run.window != 1))
    run.fit()
    assert re.fullmatch(r"\[DEBUG\] Loss is finite: 1\.\d{6} in the first window", lines[0])
    assert re.fullmatch(r"\[GRAD\] backbone=\S+ head=\S+ ok=1/2", lines[1])
    first, last = run.history
    assert lines[2] == f"Epoch 001/002: train {first['train']:.6f} val {first['validation']:.6f} skipped 1"
    assert lines[4] == f"Epoch 002/002: train {last['train']:.6f} val {last['validation']:.6f}"
    assert lines[3].endswith("ok=2/2")


def test_progress_bar_follows_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Recorder(Silent):
        def begin(self, done: int, total: int) -> None:
            shown.append((done, total))

        def advance(self, rows: list[dict[str, float]]) -> None:
            shown.append([row["window"] for row in rows])

        def end(self) -> None:
            shown.append("end")

    torch.manual_seed(0)
    model = BackProjectionNet(STUDENT, beams=32, width=32, rank=4)
    Trainer(model, FixedScenes(SCENES, 16, seed=0), SCENES[:8], Recipe(windows=5), progress=Recorder()).fit()
    assert shown[0] == (0, 5) and shown[-1] == "end"
    assert functools.reduce(operator.iadd, shown[1:-1], []) == [1, 2, 3, 4, 5]


def test_status_line() -> None:
    status = Pace().status([{"loss": 0.5, "term_cov": 0.1, "scenes": 128}])
    assert re.fullmatch(r"loss 0\.5000  NMSE -10\.0 dB  [\d,]+ scenes/s", status)


def test_empty_loader_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scenes must be a FreshScenes or a FixedScenes, got \[\]"):
        Trainer(BackProjectionNet(STUDENT), [], SCENES, Recipe(windows=1))  # type: ignore[arg-type]  # empty on purpose
