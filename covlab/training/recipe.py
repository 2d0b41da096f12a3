"""How to train: every setting of a run besides the network and the scenes."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from covlab.scenes.scenario import check_whole_number

PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The budget is in windows, so that a run is the same on a fast and a slow machine.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    windows: int  #: optimizer steps to attempt
    accumulation: int = 4  #: micro-batches per window
    optimizer: str = "adamw"  #: "adamw" or "sgd"
    learning_rate: float = 3e-3
    head_learning_rate: float | None = None  #: of the model's ``head``; None: the same as ``learning_rate``
    momentum: float = 0.9  #: sgd only
    weight_decay: float = 1e-2
    clip: float | None = 1.0  #: largest gradient norm; None: never clip
    precision: str = "fp32"  #: "fp32", "bf16" or "fp16" (with a loss scale) for the network's real layers
    warmup: int = 20  #: executed steps of linear warm-up
    ema_decay: float | None = None  #: of the averaged parameters that are validated and saved; None: no average
    fused: bool = True  #: the optimizer's fused kernel, which never waits for the device
    patience: int | None = None  #: epochs without a better validation before stopping early; None: never
    nonfinite_limit: int = 10  #: consecutive windows of non-finite loss that stop the run

    def __post_init__(self) -> None:
        for name, least in (
            ("windows", 1),
            ("accumulation", 1),
            ("warmup", 0),
            ("patience", 1),
            ("nonfinite_limit", 1),
        ):
            if not (self.patience is None and name == "patience"):
                check_whole_number(name, getattr(self, name), least)
        for name, choices in (("optimizer", OPTIMIZERS), ("precision", tuple(PRECISIONS))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("learning_rate", "head_learning_rate", "clip"):
            number = getattr(self, name)
            if not (number is None and name != "learning_rate") and not 0 < number < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {number!r}")
        for name, most in (("momentum", 1), ("weight_decay", math.inf), ("ema_decay", 1)):
            number = getattr(self, name)
            if not (number is None and name == "ema_decay") and not 0 <= number < most:
                raise ValueError(f"{name} must be at least 0 and below {most}, got {number!r}")


def make_optimizer(recipe: Recipe, groups: dict[str, list[nn.Parameter]]) -> torch.optim.Optimizer:
    """Make the recipe's optimizer of ``groups``, {"backbone": parameters, "head": parameters}."""
    peaks = {"backbone": recipe.learning_rate, "head": recipe.head_learning_rate or recipe.learning_rate}
    settings: list[dict[str, Any]] = []
    for name, parameters in groups.items():
        # A learning rate on the device follows the schedule there; only the fused kernels can read it.
        rate = torch.tensor(peaks[name], device=parameters[0].device) if recipe.fused else peaks[name]
        settings.append({"params": parameters, "name": name, "peak": peaks[name], "lr": rate})
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(settings, weight_decay=recipe.weight_decay, fused=recipe.fused)
    optimizer = torch.optim.SGD(
        settings, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=recipe.fused
    )
    if recipe.momentum:
        # Otherwise, the fused kernel uses uninitialized memory as momentum after a skipped first step.
        for parameter in (parameter for group in settings for parameter in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
