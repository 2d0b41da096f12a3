"""What is NaN or infinite: refused in the inputs, and explained in the losses."""

import math

import torch

from covlab.scenes.batch import CONTRACT, Batch


class NonFiniteLoss(RuntimeError):
    """The loss stayed NaN or infinite; the message names the first bad window, term and scene."""


def check_inputs(window: list[Batch], name: str, device: torch.device) -> None:
    """Raises ValueError, naming tensor and scene, where ``window`` is not on ``device``, or not finite."""
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
    """What the ledger's rows of windows in a row, none of finite loss, say of where it began."""
    first, taken = streak[0], sum(row["ran"] == 1 for row in streak)
    terms = [
        name.removeprefix("term_") for name in first if name.startswith("term_") and not math.isfinite(first[name])
    ]
    culprit = f"the term {terms[0]}" if terms else "the weighing, since every term is finite"
    return (
        f"the loss was not finite for {len(streak)} windows running; first in window {first['window']}, by {culprit}, "
        f"in scene {int(first['bad_scene'])} of {first['scenes']}; {taken} of these steps were taken"
    )
