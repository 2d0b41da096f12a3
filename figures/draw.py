"""Draw the pictures that README, docs/ and benchmarks/ show: `make figures`."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch
from matplotlib.figure import Figure

from covlab import plots
from covlab.faults import FAULTS, inject, matrix
from covlab.networks.model import BackProjectionNet
from covlab.plots.estimator_scores import estimator_table, limit_curves, position_error_curves
from covlab.plots.fault_matrices import confusion_matrix, symptom_matrix
from covlab.plots.training import window_columns
from covlab.plots.watch_results import peers, watch_confusion
from covlab.scenes.scenario import PRESETS, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes
from covlab.training.loss import LossWeights
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer
from covlab.widgets.dashboard import Dashboard

HERE = Path(__file__).parent
NMSE = LossWeights.only(lam_cov=1.0)
STUDENT = preset("student")


def measured(name: str) -> dict[str, Any]:
    """Return what a benchmark wrote to benchmarks/results/."""
    return json.loads((HERE.parent / "benchmarks" / "results" / f"{name}.json").read_text())


def save(figure: Figure, name: str) -> None:
    figure.savefig(HERE / f"{name}.png", dpi=110)


def overfit_run(fault: str | None, **recipe: Any) -> Trainer:
    scenes = Simulator(STUDENT).draw(512, scene_generator(0, "overfit"))
    torch.manual_seed(0)
    setting = Recipe(windows=120, clip=None, weight_decay=0.0, **recipe)
    with inject(fault) if fault else nullcontext():
        network, stream = BackProjectionNet(STUDENT), FixedScenes(scenes, 32, seed=0)
        return Trainer(network, stream, scenes, setting, weights=NMSE, progress=Silent()).fit()


def scaling_bug() -> None:
    optimizers: dict[str, dict[str, Any]] = {"AdamW": {}, "SGD": {"optimizer": "sgd", "learning_rate": 0.3}}
    runs = {
        title: {
            "correct": overfit_run(None, **recipe),
            "division in debug block": overfit_run("division_in_debug_block", **recipe),
        }
        for title, recipe in optimizers.items()
    }
    columns = {"loss": "loss as logged", "gradient_norm": "gradient norm", "update_norm": "norm of the update"}
    save(window_columns(runs, columns), "scaling_bug")


def dashboard() -> None:
    """Draw what `make dashboard` shows of the scaling bug, in a light frame for pages with a dark background."""
    shown = Dashboard()
    figure, _ = shown.draw(shown.state)
    figure.set(linewidth=2, edgecolor="#d0d7de")
    save(figure, "dashboard")


def trainer_benchmark() -> None:
    """Draw what `covlab bench trainer --json benchmarks/results/trainer.json` measured."""
    rows = measured("trainer")["rows"]
    names = [row["loop"] for row in rows]
    figure, (cost, short) = plots.subplots(1, 2, size=(10, 2.8), sharey=True)
    spread = [[row["ratio"] - row["low"] for row in rows], [row["high"] - row["ratio"] for row in rows]]
    cost.barh(names, [row["ratio"] for row in rows], xerr=spread, color=plots.COLOURS[0], error_kw={"elinewidth": 1})
    cost.set(xlabel="processor time per window, raw loop = 1 (10-90 %)", xlim=(0, None))
    short.barh(names, [row["short_window"] for row in rows], color=plots.COLOURS[1], hatch="//", edgecolor="white")
    short.set(xlabel="gradient of a short last window (3 of 4), exact = 1", xlim=(0, 1.15))
    for axes in (cost, short):
        axes.axvline(1, color="black", linewidth=0.8)
    box = {"color": plots.COLOURS[1], "pad": 1}
    for y, row in enumerate(rows):
        cost.text(0.03, y, f"{row['ratio']:.3f}  waits {row['waits']:.1f}", va="center", color="white")
        short.text(0.03, y, f"{row['short_window']:.2f}", va="center", color="white", bbox=box)
    cost.invert_yaxis()
    save(figure, "trainer")


def fault_matrices() -> None:
    """Draw what `covlab faults matrix` measured, as published."""
    save(symptom_matrix(matrix.load_matrix()), "fault_matrix")
    expected = {fault.name: fault.observable for fault in FAULTS.values()}
    save(confusion_matrix(matrix.load_confusion(), expected), "fault_confusion")


def estimators() -> None:
    """Draw what `covlab bench estimators` measured: the student table, and position errors of one source."""
    results = {name: measured(f"estimators_{name}") for name in PRESETS}
    save(estimator_table(results["student"]), "estimators")
    save(position_error_curves(list(results.values())), "positions")


def limit() -> None:
    """Draw what `covlab bench limit` measured."""
    results = measured("limit")
    save(limit_curves({name: results[name] for name in PRESETS}), "limit")


def watch_matrices() -> None:
    """Draw what `covlab bench watch --json benchmarks/results/watch.json` measured."""
    results = measured("watch")
    save(watch_confusion(results["trainer"], results["loops"], results["invariants"]), "watch")
    save(peers(results["loops"], results["not_run"]), "watch_peers")


if __name__ == "__main__":
    dashboard()
    scaling_bug()
    fault_matrices()
    trainer_benchmark()
    estimators()
    limit()
    watch_matrices()
