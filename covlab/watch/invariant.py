"""What every invariant is made of, and how it remembers a run of any length in little room."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from covlab.watch.finding import Finding
from covlab.watch.records import Cleared, Number, Site, Step

OPTIMIZERS = 256  # that are remembered, and their places


@dataclass
class Span:
    """Steps that showed something: how many, the first and the last. Nothing else is kept, for a run may be long."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, number: int) -> None:
        self.first = self.first or number  # steps count from 1
        self.count, self.last = self.count + 1, number


class Last(dict):
    """A dict that makes what it lacks, and forgets the oldest beyond so many: some loops make an optimizer a task."""

    def __init__(self, make: Callable):
        super().__init__()
        self.make = make

    def __missing__(self, key):
        if len(self) >= OPTIMIZERS:
            del self[next(iter(self))]
        value = self[key] = self.make()
        return value


class Invariant:
    """Sees every step and every clearing; says at the end what it found, and why it could not look."""

    code = ""

    def __init__(self):
        self.places: dict[Site | None, Span] = defaultdict(Span)

    def at(self, site: Site | None, step: int) -> None:
        self.places[site].add(step)

    def findings(self, verdict: str, number: float | None, says: str, fix: str) -> list[Finding]:
        return [
            Finding(self.code, verdict, number, says, fix, site, at.count, at.first, at.last)
            for site, at in self.places.items()
        ]

    def step(self, step: Step) -> None: ...

    def cleared(self, cleared: Cleared) -> None: ...

    def finish(self, observer) -> list[Finding]:
        return []

    def unchecked(self) -> str | None:
        return None


def value(number: Number | None) -> float | None:
    return None if number is None else number.value


def rates_of(step: Step) -> list[float]:
    return [rate.value if isinstance(rate, Number) else rate for rate in step.rates]


@dataclass
class Streak:
    """Steps in a row, of which only the first is kept."""

    first: Step
    length: int = 0
    last: int = 0
    rate: float = 0.0  #: the largest learning rate
    loss: float | None = None  #: the last one

    def add(self, step: Step) -> None:
        self.length, self.last = self.length + 1, step.number
        self.rate = max([self.rate, *map(abs, rates_of(step))])
        losses = [backward.loss for backward in step.backwards if backward.loss is not None]
        self.loss = losses[-1].value if losses else self.loss


class Streaks:
    """The longest streak of each optimizer."""

    def __init__(self):
        self.running: dict[int, Streak] = Last(lambda: None)
        self.longest: dict[int, Streak] = Last(lambda: None)

    def go_on(self, step: Step, counts: bool = True) -> None:
        """One step more, if it ``counts`` or is the first."""
        streak, longest = self.running[step.optimizer], self.longest[step.optimizer]
        if counts or streak is None:
            streak = self.running[step.optimizer] = streak or Streak(step)
            streak.add(step)
            if longest is None or streak.length > longest.length:
                self.longest[step.optimizer] = streak

    def end(self, optimizer: int) -> None:
        self.running.pop(optimizer, None)
