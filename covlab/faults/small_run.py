"""Small runs that show a fault: `student` size, trained within seconds."""

from collections.abc import Generator
from typing import Annotated, Any

import torch

from covlab.arguments import LARGEST, Count, Folder, Seed, checked, number, one_of
from covlab.faults.switch import FAULTS, inject
from covlab.networks.model import BackProjectionNet
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.loss import LossWeights
from covlab.training.nan_diagnosis import NonFiniteLoss
from covlab.training.progress import Lines, Silent
from covlab.training.recipe import Recipe
from covlab.training.together import threads_for_runs
from covlab.training.trainer import Trainer

MICRO_BATCH = 8
MICRO_BATCHES = 15
"""Micro-batches per epoch: with four per window, the last window is short."""

FaultName = Annotated[str, one_of(FAULTS)]

LEARNING_RATES = {"adamw": 3e-3, "sgd": 0.3}
"""A learning rate at which each optimizer trains this network."""


@checked
def small_run(
    *faults: FaultName,
    seed: Seed = 0,
    scenes: Count = MICRO_BATCHES * MICRO_BATCH,
    micro_batch: Count = MICRO_BATCH,
    weights: dict[str, float] | None = None,
    fresh: bool = False,
    blend: Annotated[float, number(least=0, below=1)] = 0.0,
    frozen: Annotated[str | None, one_of(("backbone", "head")).or_none("none")] = None,
    loss_scale: Annotated[float | None, number(above=0, most=LARGEST).or_none("the scaler's default")] = None,
    progress: Lines | None = None,
    folder: Folder | None = None,
    **recipe: Any,
) -> Trainer:
    """Return a trainer of a small network with the named faults, ready to ``fit``.

    Args:
        faults: names of faults that replace different methods.
        seed: of the scenes and initial parameters; runs with the same seed differ only by their faults.
        scenes: number of scenes to memorize and validate on, or, if ``fresh``, to draw per epoch.
        micro_batch: scenes per micro-batch.
        weights: of the loss terms that are switched on; None: only the NMSE.
        fresh: train on new scenes every epoch and validate on held-out ones.
        blend: share of the sample covariance in the final estimate.
        frozen: name of a parameter group that is not trained.
        loss_scale: initial loss scale, in half precision.
        recipe: fields of :class:`covlab.training.recipe.Recipe` that differ from its defaults.
    """
    with inject(*faults):
        simulator = Simulator(preset("student"))
        source: FreshScenes | FixedScenes
        if fresh:
            source = stream = FreshScenes(simulator, micro_batch, scenes // micro_batch, seed)
            validation = stream.held_out(12)
        else:
            validation = simulator.draw(scenes, scene_generator(seed, "museum"))
            source = FixedScenes(validation, micro_batch, seed)
        torch.manual_seed(seed)
        network = BackProjectionNet(simulator.scenario, beams=32, width=64, rank=4, blend=blend)
        trainer = Trainer(
            network,
            source,
            validation,
            Recipe(**({"windows": 16, "warmup": 4} | recipe)),
            LossWeights.only(**(weights or {"lam_cov": 1.0})),
            folder,
            progress or Silent(),
        )
    if frozen is not None:
        for parameter in trainer.groups[frozen]:
            parameter.requires_grad_(False)
    if loss_scale is not None and trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(trainer.scaler.state_dict() | {"scale": loss_scale})
    return trainer


@checked
def exhibit(name: FaultName, seed: Seed = 0, without: bool = False, **setting: Any) -> Trainer:
    """Return a trainer that shows the fault ``name``, or the same trainer ``without`` it.

    ``setting`` overrides the setting that the fault needs.
    """
    return small_run(*(() if without else (name,)), seed=seed, **(FAULTS[name].setting | setting))


@checked
def in_turn(*runs: Trainer) -> Generator[float, None, None]:
    """Train ``runs`` window by window in turn, so that their curves grow together; yield the smallest share done.

    If a run is stopped because of its losses, its last epoch is validated and the others continue. It is not trained
    again.
    """
    going = {run: run.windows() for run in runs if not run.stopped}
    while going:
        for run, windows in list(going.items()):
            try:
                next(windows)
            except (StopIteration, NonFiniteLoss):
                del going[run]
                if run.stopped and run.window_of_epoch:
                    run.end_epoch()
        yield min((run.window / run.recipe.windows for run in going), default=1.0)


@checked
def finish(run: Trainer) -> Trainer:
    """Train ``run`` to its end, or until it is stopped because of its losses; return it."""
    for _ in in_turn(run):
        pass
    return run


@checked
def finish_together(*runs: Trainer) -> list[Trainer]:
    """Do with each of ``runs`` what ``finish`` does, as many at a time as there are cores; return them."""
    with threads_for_runs() as pool:
        return list(pool.map(finish, runs))
