"""Summarize an event, or many names, for a finding."""

import math
from collections.abc import Iterable

from covlab.watch.seen.deferred import DeferredNumber, value_of
from covlab.watch.seen.events import Event, Step
from covlab.watch.seen.location import CodeLocation


def last_backward_location(event: Event) -> CodeLocation | None:
    """Return the line of the event's last backward; the event's own line if it has none."""
    return (event.backwards[-1] if event.backwards else event).location


def learning_rates(step: Step) -> list[float | None]:
    return [value_of(rate) if isinstance(rate, DeferredNumber) else rate for rate in step.learning_rates]


def gradient_factor(step: Step) -> float | None:
    """Return the factor by which the loop multiplied the gradients, or None if it is not known."""
    factor = math.prod(math.nan if number.value is None else number.value for number in step.gradient_factors)
    return factor if step.gradient_factors and math.isfinite(factor) else None


def first_few(names: Iterable[str], most: int = 4) -> str:
    """Return the first names in alphabetical order, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")
