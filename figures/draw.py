"""Draws the pictures that README shows: `make figures`."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt  # torch and its kin come after covlab, which tells threads how to wait
import torch

from covlab import plots
from covlab.faults import FAULTS, inject, matrix
from covlab.networks.model import BackProjectionNet
from covlab.plots.estimator_scores import estimator_table, position_error_curves
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

HERE = Path(__file__).parent
NMSE = LossWeights.only(lam_cov=1.0)
STUDENT = preset("student")


def overfit_run(fault: str | None, **recipe: Any) -> Trainer:
    scenes = Simulator(STUDENT).draw(512, scene_generator(0, "overfit"))
    torch.manual_seed(0)
    with inject(fault) if fault else nullcontext():
        run = Trainer(
            BackProjectionNet(STUDENT),
            FixedScenes(scenes, 32, seed=0),
            scenes,
            Recipe(windows=120, clip=None, weight_decay=0.0, **recipe),
            weights=NMSE,
            progress=Silent(),
        )
    return run.fit()


def scaling_bug() -> None:
    optimizers: dict[str, dict[str, Any]] = {
        "AdamW": {"optimizer": "adamw"},
        "SGD": {"optimizer": "sgd", "learning_rate": 0.3},
    }
    runs = {
        title: {"right": overfit_run(None, **recipe), "with the bug": overfit_run("division_in_debug_block", **recipe)}
        for title, recipe in optimizers.items()
    }
    columns = {"loss": "loss as logged", "gradient_norm": "gradient norm", "update_norm": "norm of the update"}
    window_columns(runs, columns).savefig(HERE / "scaling_bug.png", dpi=110)


def trainer_benchmark() -> None:
    """What `covlab bench trainer --json benchmarks/results/trainer.json` measured."""
    results = json.loads((HERE.parent / "benchmarks" / "results" / "trainer.json").read_text())
    rows = results["rows"]
    figure, (cost, short) = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained", sharey=True)
    places = range(len(rows))
    ratios = [row["ratio"] for row in rows]
    spread = [[row["ratio"] - row["low"] for row in rows], [row["high"] - row["ratio"] for row in rows]]
    cost.barh(places, ratios, xerr=spread, color=plots.COLOURS[0], error_kw={"elinewidth": 1})
    cost.axvline(1, color="black", linewidth=0.8)
    cost.set(xlabel="processor time a window, over the raw loop's (10-90 %)", xlim=(0, None))
    short.barh(places, [row["short_window"] for row in rows], color=plots.COLOURS[1], hatch="//", edgecolor="white")
    short.axvline(1, color="black", linewidth=0.8)
    short.set(xlabel="gradient of a short last window (3 of 4), over the exact one", xlim=(0, 1.15))
    for row, place in zip(rows, places, strict=True):
        cost.annotate(f"{row['ratio']:.3f}  waits {row['waits']:.1f}", (0.03, place), va="center", color="white")
        short.annotate(
            f"{row['short_window']:.2f}",
            (0.03, place),
            va="center",
            color="white",
            bbox={"color": plots.COLOURS[1], "pad": 1},
        )
    cost.set_yticks(places, [row["loop"] for row in rows])
    cost.invert_yaxis()
    figure.savefig(HERE / "trainer.png", dpi=110)


def fault_matrices() -> None:
    """What `covlab faults matrix` measured, as published."""
    symptom_matrix(matrix.load_matrix()).savefig(HERE / "fault_matrix.png", dpi=110)
    expected = {fault.name: fault.observable for fault in FAULTS.values()}
    confusion_matrix(matrix.load_confusion(), expected).savefig(HERE / "fault_confusion.png", dpi=110)


def estimators() -> None:
    """What `covlab bench estimators` measured: the table at student size, and where one source's place was found."""
    results = {
        name: json.loads((HERE.parent / "benchmarks" / "results" / f"estimators_{name}.json").read_text())
        for name in PRESETS
    }
    estimator_table(results["student"]).savefig(HERE / "estimators.png", dpi=110)
    position_error_curves(list(results.values())).savefig(HERE / "positions.png", dpi=110)


def watch_matrices() -> None:
    """What `covlab bench watch --json benchmarks/results/watch.json` measured."""
    results = json.loads((HERE.parent / "benchmarks" / "results" / "watch.json").read_text())
    watch_confusion(results["trainer"], results["loops"], results["invariants"]).savefig(HERE / "watch.png", dpi=110)
    peers(results["loops"]).savefig(HERE / "watch_peers.png", dpi=110)


if __name__ == "__main__":
    scaling_bug()
    fault_matrices()
    trainer_benchmark()
    estimators()
    watch_matrices()
