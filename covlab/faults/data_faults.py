"""Faults of scenes and evaluation: wrong data, or a validation of the wrong thing."""

from collections.abc import Callable

import torch
from torch import Tensor

from covlab.faults.switch import fault
from covlab.networks.model import Estimate
from covlab.scenes.batch import Batch
from covlab.scenes.simulator import Simulator
from covlab.scenes.streams import FreshScenes
from covlab.training.loss import Loss, beam_power
from covlab.training.trainer import Trainer


@fault(
    "FreshScenes.generator",
    title="The seeds seed + i of training and validation overlap",
    changes="every validation scene becomes a training scene some epochs later",
    unaffected="each single scene; the training",
    observable="validation_seen",
    seen_in="the reviewed pipeline: seed + i and seed + 123 + i, 512 of 512 scenes; asked in mll-lab-nu/RAGEN#101",
    setting={"fresh": True, "windows": 40},
)
def validation_in_training(self: FreshScenes, stream: str, epoch: int, index: int) -> torch.Generator:
    first = self.seed + (123 if stream == "validation" else 0)
    return torch.Generator(self.simulator.device).manual_seed(first + epoch * len(self) + index)


@fault(
    "Simulator.symbols",
    title="The symbols are the same in every snapshot",
    changes="L snapshots show the sources only once, so no network can average over them",
    unaffected="every shape, every power, the true R",
    observable="symbols_alike",
    seen_in="the reviewed pipeline: 16 snapshots that carried the information of one",
)
def constant_symbols(self: Simulator, scenes: int, generator: torch.Generator) -> Tensor:
    shape = (scenes, 1, 1, self.scenario.max_sources)
    return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype).expand(
        -1, self.scenario.snapshots, -1, -1
    )


@fault(
    "Loss.peak_contrast",
    title="The steering vectors of one loss term are conjugated",
    changes="the term pulls the beam towards the mirror image of every source",
    unaffected="the data, the other terms; sources straight ahead",
    observable="contrast_at_truth",
    seen_in="the reviewed pipeline: overlap 0.037 with the simulator's vectors, instead of 1",
    setting={"weights": {"lam_cov": 1.0, "lam_peak_contrast": 0.1}},
)
def conjugated_steering(self: Loss, estimate: Estimate, batch: Batch) -> Tensor:
    present = (batch.power > 0).to(batch.power.dtype)
    at_sources = (beam_power(batch.steering.mT.conj(), estimate) * present).sum(dim=1) / present.sum(dim=1)
    return beam_power(self.background, estimate).mean(dim=1) / at_sources


@fault(
    "Trainer.score",
    title="Validation scores a different estimate than training",
    changes="validation scores the network's own prediction; training scores the blend that is used",
    unaffected="the training; networks without a blend",
    observable="validation_path",
    seen_in="the reviewed pipeline, whose validation built its covariance in separate code",
    setting={"blend": 0.3},
)
def another_validation_path(self: Trainer, model: Callable[..., Estimate], batch: Batch) -> Tensor:
    return self.estimate(model, batch).prediction.nmse(batch)


@fault(
    "Trainer.best_parameters",
    title="The averaged parameters are validated, but the current ones are saved",
    changes="the best checkpoint is not the network whose score it carries",
    unaffected="the training, the validation, the checkpoint to resume from; runs without an average",
    observable="best_checkpoint",
    seen_in="wandb/senpai#709; facebookresearch/fairchem#289 is similar",
    setting={"ema_decay": 0.9},
)
def checkpoint_without_average(self: Trainer) -> dict[str, Tensor]:
    return self.model.state_dict()
