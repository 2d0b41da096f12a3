"""Remember a run of any length in bounded memory."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from covlab.watch.seen.deferred import DeferredNumber, value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation

KEYS_KEPT = 256  # optimizers, and their locations
VALUES_KEPT = 1024  # of which a median is taken

K = TypeVar("K")
V = TypeVar("V")


@dataclass
class Occurrences:
    """The steps in which something was seen: how many, the first and the last; and the line where."""

    location: CodeLocation | None = None
    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, step_number: int) -> None:
        self.first = self.first or step_number  # steps count from 1
        self.count, self.last = self.count + 1, step_number


class BoundedDefaultDict(dict[K, V]):
    """A dict that makes a value for a missing key, and forgets the oldest key when it has too many.

    Some loops make an optimizer per task.
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
    """The steps in which something was seen, by line."""

    def __missing__(self, location: CodeLocation | None) -> Occurrences:
        occurrences = self[location] = Occurrences(location)
        return occurrences


def recent_values() -> deque[Any]:
    """Return a list that keeps only its latest values."""
    return deque(maxlen=VALUES_KEPT)


def learning_rates(step: Step) -> list[float | None]:
    return [value_of(rate) if isinstance(rate, DeferredNumber) else rate for rate in step.learning_rates]


@dataclass
class ConsecutiveSteps(Occurrences):
    """Steps of one optimizer in a row."""

    #: line of the last backward of the first step; the step's if it has none
    first_backward: CodeLocation | None = None
    largest_learning_rate: float = 0.0
    latest_loss: float | None = None

    def extend(self, step: Step) -> None:
        if not self.count:
            self.location = step.location
            self.first_backward = step.backwards[-1].location if step.backwards else step.location
        self.add(step.number)
        rates = [abs(rate) for rate in learning_rates(step) if rate is not None]
        self.largest_learning_rate = max([self.largest_learning_rate, *rates])
        losses = [backward.loss for backward in step.backwards if backward.loss is not None]
        self.latest_loss = losses[-1].value if losses else self.latest_loss


class LongestRuns:
    """The longest run of consecutive steps of each optimizer."""

    def __init__(self) -> None:
        self._running: dict[int, ConsecutiveSteps | None] = BoundedDefaultDict(lambda: None)
        self._longest: dict[int, ConsecutiveSteps | None] = BoundedDefaultDict(lambda: None)

    def extend(self, step: Step, can_continue: bool = True) -> None:
        """Count one step more. One that cannot continue a run can only begin it."""
        run, longest = self._running[step.optimizer], self._longest[step.optimizer]
        if can_continue or run is None:
            run = self._running[step.optimizer] = run or ConsecutiveSteps()
            run.extend(step)
            if longest is None or run.count > longest.count:
                self._longest[step.optimizer] = run

    def interrupt(self, optimizer: int) -> None:
        self._running.pop(optimizer, None)

    def all(self) -> list[ConsecutiveSteps]:
        return [run for run in self._longest.values() if run is not None]
