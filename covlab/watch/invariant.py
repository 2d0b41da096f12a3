"""What every invariant is made of, and how it remembers a run of any length in little room."""

from dataclasses import dataclass

from covlab.watch.finding import Finding
from covlab.watch.records import Cleared, Number, Site, Step


class Invariant:
    """Sees every step and every clearing; says at the end what it found, and why it could not look."""

    code = ""

    def __init__(self):
        self.places: dict[Site | None, list[int]] = {}

    def at(self, site: Site | None, step: int) -> None:
        self.places.setdefault(site, []).append(step)

    def findings(self, verdict: str, number: float | None, says: str, fix: str) -> list[Finding]:
        return [Finding(self.code, verdict, number, says, fix, site, len(at), at[0], at[-1]) for site, at in self.places.items()]

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
class Span:
    """Steps that showed something: how many, the first and the last. Nothing else is kept, for a run may be long."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, number: int) -> None:
        self.first = self.first or number  # steps count from 1
        self.count, self.last = self.count + 1, number


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
        self.running: dict[int, Streak] = {}
        self.longest: dict[int, Streak] = {}

    def go_on(self, step: Step, counts: bool = True) -> None:
        """One step more, if it ``counts`` or is the first."""
        streak = self.running.get(step.optimizer)
        if counts or streak is None:
            streak = self.running.setdefault(step.optimizer, Streak(step))
            streak.add(step)
            if step.optimizer not in self.longest or streak.length > self.longest[step.optimizer].length:
                self.longest[step.optimizer] = streak

    def end(self, optimizer: int) -> None:
        self.running.pop(optimizer, None)
