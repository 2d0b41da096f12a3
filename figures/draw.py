"""Draws the pictures that README shows: `make figures`."""

from contextlib import nullcontext
from pathlib import Path

import torch

from covlab import plots
from covlab.faults import inject
from covlab.loss import LossWeights
from covlab.model import BackProjectionNet
from covlab.progress import Silent
from covlab.recipe import Recipe
from covlab.scenario import preset
from covlab.simulator import FixedScenes, Simulator, scene_generator
from covlab.trainer import Trainer

HERE = Path(__file__).parent
NMSE = LossWeights.only(lam_cov=1.0)
STUDENT = preset("student")


def overfit_run(fault: str | None, **recipe) -> Trainer:
    scenes = Simulator(STUDENT).draw(512, scene_generator(0, "overfit"))
    torch.manual_seed(0)
    with inject(fault) if fault else nullcontext():
        run = Trainer(
            BackProjectionNet(STUDENT), FixedScenes(scenes, 32, seed=0), scenes, Recipe(windows=120, clip=None, weight_decay=0.0, **recipe), weights=NMSE, progress=Silent()
        )
    return run.fit()


def scaling_bug() -> None:
    optimizers = {"AdamW": dict(optimizer="adamw"), "SGD": dict(optimizer="sgd", learning_rate=0.3)}
    runs = {
        title: {"right": overfit_run(None, **recipe), "with the bug": overfit_run("division_in_debug_block", **recipe)}
        for title, recipe in optimizers.items()
    }
    columns = {"loss": "loss as logged", "gradient_norm": "gradient norm", "update_norm": "norm of the update"}
    plots.window_columns(runs, columns).savefig(HERE / "scaling_bug.png", dpi=110)


if __name__ == "__main__":
    scaling_bug()
