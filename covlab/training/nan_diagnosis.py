"""Refuse inputs that are NaN or infinite, and explain losses that are NaN or infinite."""

import math
from dataclasses import fields

import torch

from covlab.scenes.batch import Batch


class NonFiniteLoss(RuntimeError):
    """The loss stayed NaN or infinite; the message names the first bad window, term and scene."""


def check_inputs(window: list[Batch], name: str, device: torch.device) -> None:
    """Raise ValueError, with tensor and scene, if ``window`` holds NaN or infinity, or is not on ``device``."""
    for micro_batch in window:
        if micro_batch.y.device.type != device.type:
            raise ValueError(f"scenes must be on the model's device {device}, got {micro_batch.y.device}")
        for field in fields(micro_batch):
            tensor = getattr(micro_batch, field.name)
            if tensor is None:
                continue
            finite = tensor.isfinite().reshape(len(micro_batch), -1).all(dim=1)
            if not finite.all():
                raise ValueError(
                    f"{field.name} of {name} holds NaN or inf, first in scene {(~finite).nonzero()[0].item()} of "
                    f"{len(finite)}"
                )


def explain(streak: list[dict[str, float]]) -> str:
    """Return a message that says where non-finite losses began. ``streak`` holds the ledger rows of these windows."""
    first, taken = streak[0], sum(row["ran"] == 1 for row in streak)
    terms = [name for name in first if name.startswith("term_") and not math.isfinite(first[name])]
    culprit = f"the term {terms[0].removeprefix('term_')}" if terms else "the weighting, since every term is finite"
    return (
        f"the loss was not finite for {len(streak)} consecutive windows: first in window {first['window']}, in "
        f"{culprit}, in scene {int(first['bad_scene'])} of {first['scenes']}; {taken} of these steps were taken"
    )
