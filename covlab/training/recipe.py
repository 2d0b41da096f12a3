"""How to train: every setting of a run besides the network and the scenes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from covlab.arguments import check_fields, number, one_of, whole_number

PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
OPTIMIZERS = ("adamw", "sgd")

MOST_WINDOWS = 10_000_000
"""A trainer keeps a learning rate and a row of its ledger per window in memory."""

LARGEST = torch.finfo(torch.float32).max  # a larger number is infinite on the device

FIELDS = {
    "windows": whole_number(1, MOST_WINDOWS),
    "accumulation": whole_number(1, 100_000),
    "optimizer": one_of(OPTIMIZERS),
    "learning_rate": number(above=0, most=LARGEST),
    "head_learning_rate": number(above=0, most=LARGEST).or_none("the learning rate of all"),
    "momentum": number(least=0, below=1),
    "weight_decay": number(least=0, most=LARGEST),
    "clip": number(above=0, most=LARGEST).or_none("no clipping"),
    "precision": one_of(PRECISIONS),
    "warmup": whole_number(0, MOST_WINDOWS),
    "ema_decay": number(least=0, below=1).or_none("no average"),
    "patience": whole_number(1, MOST_WINDOWS).or_none("no early stopping"),
    "nonfinite_limit": whole_number(1),
}
"""What each field of a recipe may be."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The budget is in windows, not in time, so a run is the same on a fast and on a slow machine.

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
    ema_decay: float | None = None  #: decay of the parameters' moving average, which is validated; None: no average
    fused: bool = True  #: use the optimizer's fused kernel, which never waits for the device
    patience: int | None = None  #: epochs without a better validation before stopping early; None: never
    nonfinite_limit: int = 10  #: consecutive windows of non-finite loss that stop the run

    def __post_init__(self) -> None:
        check_fields(self, FIELDS)


def make_optimizer(recipe: Recipe, groups: dict[str, list[nn.Parameter]]) -> torch.optim.Optimizer:
    """Make the recipe's optimizer for ``groups``, {"backbone": parameters, "head": parameters}."""
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
        # Without these zeros, the fused kernel uses uninitialized memory as momentum after a skipped first step.
        for parameter in (parameter for group in settings for parameter in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer
