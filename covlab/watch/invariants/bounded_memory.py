"""Summarize a run of any length in bounded memory, as counts and lines of code."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from covlab.watch.seen.deferred import DeferredNumber, value_of
from covlab.watch.seen.events import Event, Step
from covlab.watch.seen.location import CodeLocation

KEYS_KEPT = 256  # per dictionary: optimizers, or pairs of an optimizer and a line
VALUES_KEPT = 1024  # per list of which a median is taken

K = TypeVar("K")
V = TypeVar("V")


@dataclass
class Occurrences:
    """The steps in which something was seen: the line of code, the number of steps, the first and the last one."""

    location: CodeLocation | None = None
    count: int = 0
    first: int | None = None
    last: int | None = None

    def add(self, step_number: int, location: CodeLocation | None = None) -> None:
        """Count one more step. Keep the first location that is known."""
        self.location = self.location or location
        self.first = self.first or step_number  # steps count from 1
        self.count, self.last = self.count + 1, step_number


class BoundedDefaultDict(dict[K, V]):
    """A ``defaultdict`` that forgets its oldest key when it has too many.

    Some loops make a new optimizer for every task, so the number of keys has no limit.
    """

    def __init__(self, make: Callable[[], V]) -> None:
        super().__init__()
        self.make = make

    def __missing__(self, key: K) -> V:
        if len(self) >= KEYS_KEPT:
            del self[next(iter(self))]
        value = self[key] = self.make()
        return value


class OccurrencesByLocation(dict[CodeLocation | None, Occurrences]):
    """The steps in which something was seen, by line of code."""

    def __missing__(self, location: CodeLocation | None) -> Occurrences:
        occurrences = self[location] = Occurrences(location)
        return occurrences


def recent_values() -> deque[Any]:
    """Return an empty list that will keep only its latest ``VALUES_KEPT`` values."""
    return deque(maxlen=VALUES_KEPT)


def last_backward_location(event: Event) -> CodeLocation | None:
    """Return the line of the event's last backward; the event's own line if it has none."""
    return (event.backwards[-1] if event.backwards else event).location


def learning_rates(step: Step) -> list[float | None]:
    return [value_of(rate) if isinstance(rate, DeferredNumber) else rate for rate in step.learning_rates]


def gradient_factor(step: Step) -> float | None:
    """Return the factor by which the loop multiplied the gradients, or None if it is unknown."""
    factor = math.prod(math.nan if number.value is None else number.value for number in step.gradient_factors)
    return factor if step.gradient_factors and math.isfinite(factor) else None


@dataclass
class ConsecutiveSteps(Occurrences):
    """Consecutive steps of one optimizer."""

    first_backward: CodeLocation | None = None  #: line of the last backward of the first step
    largest_learning_rate: float = 0.0
    latest_loss: float | None = None

    def extend(self, step: Step) -> None:
        if not self.count:
            self.first_backward = last_backward_location(step)
        self.add(step.number, step.location)
        rates = [abs(rate) for rate in learning_rates(step) if rate is not None]
        self.largest_learning_rate = max([self.largest_learning_rate, *rates])
        losses = [backward.loss for backward in step.backwards if backward.loss is not None]
        self.latest_loss = losses[-1].value if losses else self.latest_loss


class LongestRuns:
    """The longest run of consecutive steps of each optimizer."""

    def __init__(self) -> None:
        self._running: dict[int, ConsecutiveSteps] = BoundedDefaultDict(ConsecutiveSteps)
        self._longest: dict[int, ConsecutiveSteps] = BoundedDefaultDict(ConsecutiveSteps)

    def add(self, step: Step, amount: float | None, can_continue: bool = True) -> None:
        """Count a step whose ``amount`` is 0. Any other amount ends the run, but an unknown one (None) does not.

        Without ``can_continue``, the step can begin a run but not continue one.
        """
        if amount:
            self._running.pop(step.optimizer, None)
        elif amount is not None:
            run = self._running[step.optimizer]
            if can_continue or not run.count:
                run.extend(step)
            if run.count > self._longest[step.optimizer].count:
                self._longest[step.optimizer] = run

    def all(self) -> list[ConsecutiveSteps]:
        return list(self._longest.values())
