"""The ledger of a watch: one row of plain values per event."""

import math

from covlab.watch.seen.deferred import DeferredNumber, value_of
from covlab.watch.seen.events import Event, GradientsCleared, Step
from covlab.watch.seen.losses import micro_batch_weight

Row = dict[str, object]


def ledger_row(event: Event) -> Row:
    common: Row = {
        "optimizer": event.optimizer,
        "site": str(event.location) if event.location else None,
        "micro_batches": len(event.backwards),
    }
    if isinstance(event, GradientsCleared):
        size = _json_number(event.gradient_size)
        return {"event": "cleared", **common, "after_step": event.steps_before, "gradient_size": size}
    return {"event": "step", "step": event.number, **common, **_step(event)}


def _step(step: Step) -> Row:
    weights = [micro_batch_weight(backward) for backward in step.backwards]
    loss_scales = (backward.loss_scale for backward in step.backwards if backward.loss_scale is not None)
    moved = value_of(step.tensors_moved)
    return {
        "ran": step.ran,
        "losses": [_json_number(backward.loss) for backward in step.backwards],
        "loss_scale": _json_number(next(loss_scales, None)),
        "weights": [None if weight is None else weight.value for weight in weights],
        "gradient_size": _json_number(step.gradient_size),
        "moved": None if moved is None else bool(moved),
        "learning_rates": [_json_number(rate) for rate in step.learning_rates],
        "schedule_calls": len(step.schedule_calls),
    }


def _json_number(number: DeferredNumber | float | None) -> float | str | None:
    """Return a number, or as text one that is not finite, because JSON has no NaN."""
    value = number.value if isinstance(number, DeferredNumber) else number
    if value is None:
        return None
    return float(value) if math.isfinite(value) else str(float(value))
