"""Refuse inputs that are NaN or infinite; explain losses that are."""

import math

import torch

from covlab.scenes.batch import CONTRACT, Batch


class NonFiniteLoss(RuntimeError):
    """The loss stayed NaN or infinite; the message names the first bad window, term and scene."""


def check_inputs(window: list[Batch], name: str, device: torch.device) -> None:
    """Raise ValueError, naming tensor and scene, if ``window`` is not finite or not on ``device``."""
    for micro_batch in window:
        if micro_batch.y.device.type != device.type:
            raise ValueError(f"scenes must be on the model's device {device}, got {micro_batch.y.device}")
        for tensor in CONTRACT:
            finite = getattr(micro_batch, tensor).isfinite().view(len(micro_batch), -1).all(dim=1)
            if not finite.all():
                raise ValueError(
                    f"{tensor} of {name} holds NaN or inf, first in scene {(~finite).nonzero()[0].item()} of a "
                    f"micro-batch of {len(finite)}"
                )


def explain(streak: list[dict[str, float]]) -> str:
    """Say where a streak of non-finite losses began, from the ledger's ``streak`` rows."""
    first, taken = streak[0], sum(row["ran"] == 1 for row in streak)
    terms = [name for name in first if name.startswith("term_") and not math.isfinite(first[name])]
    culprit = f"the term {terms[0].removeprefix('term_')}" if terms else "the weighting, since every term is finite"
    return (
        f"the loss was not finite for {len(streak)} consecutive windows: first in window {first['window']}, in "
        f"{culprit}, in scene {int(first['bad_scene'])} of {first['scenes']}; {taken} of these steps were taken"
    )
