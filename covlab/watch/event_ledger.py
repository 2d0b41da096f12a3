"""The ledger of a watch: one row of plain values per event."""

import math

from covlab.watch.seen.deferred import DeferredNumber, value_of
from covlab.watch.seen.events import Event, GradientsCleared
from covlab.watch.seen.losses import micro_batch_weight

Row = dict[str, object]


def ledger_row(event: Event) -> Row:
    """Return the row of a step, or of gradients that were cleared before a step used them."""
    common: Row = {
        "optimizer": event.optimizer,
        "site": str(event.location) if event.location else None,
        "micro_batches": len(event.backwards),
    }
    size = _json_number(event.gradient_size)
    if isinstance(event, GradientsCleared):
        return {"event": "cleared", **common, "after_step": event.steps_before, "gradient_size": size}
    weights = [micro_batch_weight(backward) for backward in event.backwards]
    loss_scales = (backward.loss_scale for backward in event.backwards if backward.loss_scale is not None)
    moved = value_of(event.tensors_moved)
    return {
        "event": "step",
        "step": event.number,
        **common,
        "ran": event.ran,
        "losses": [_json_number(backward.loss) for backward in event.backwards],
        "loss_scale": _json_number(next(loss_scales, None)),
        "weights": [None if weight is None else weight.value for weight in weights],
        "gradient_size": size,
        "gradient_norm": _json_number(event.gradient_norm),
        "moved": None if moved is None else bool(moved),
        "tensors_moved": None if moved is None else int(moved),
        "learning_rates": [_json_number(rate) for rate in event.learning_rates],
        "schedule_calls": len(event.schedule_calls),
    }


def _json_number(number: DeferredNumber | float | None) -> float | str | None:
    """Return the number, or its text if it is not finite, because JSON has neither NaN nor infinity."""
    value = number.value if isinstance(number, DeferredNumber) else number
    if value is None:
        return None
    return float(value) if math.isfinite(value) else str(float(value))
