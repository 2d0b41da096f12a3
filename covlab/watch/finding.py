"""One finding of the watch."""

import math
from dataclasses import dataclass, field
from typing import Literal

from covlab.watch.seen.location import CodeLocation

Verdict = Literal["fault", "warning", "note"]
VERDICTS: tuple[Verdict, ...] = ("fault", "warning", "note")  # worst first


def counted(count: int, noun: str) -> str:
    """Return the count and the noun, in the plural unless the count is 1."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count} {noun}{ending}"


@dataclass
class Finding:
    """One invariant that does not hold, or may not hold."""

    title: str  #: of the invariant
    code: str  #: of the invariant, such as "W01"
    verdict: Verdict
    number: float | None  #: the number that ``says`` explains
    says: str  #: what was seen, with the arithmetic that explains it
    fix: str
    location: CodeLocation | None = None
    times: int = 1  #: how often it was seen
    first: int | None = None  #: first step of the optimizer in which it was seen, from 1
    last: int | None = None  #: last such step; None: the watch looks at a few steps, and does not know
    follows: list["Finding"] = field(default_factory=list)  #: findings that this one explains

    @property
    def when(self) -> str:
        """In which steps it was seen, as text; "" if that is unknown."""
        if self.first is None:
            return ""
        if self.last is None:
            return f"first seen in step {self.first}"
        steps = f"step {self.first}" if self.first == self.last else f"steps {self.first} to {self.last}"
        return f"{self.times} times, {steps}" if self.times > 1 else steps

    def row(self) -> dict[str, object]:
        """Return the finding as plain values."""
        location = self.location
        return {
            "title": self.title,
            "code": self.code,
            "verdict": self.verdict,
            # JSON has no infinity and no NaN
            "number": self.number if self.number is None or math.isfinite(self.number) else str(self.number),
            "says": self.says,
            "fix": self.fix,
            "site": None if location is None else location.row(),
            "times": self.times,
            "first": self.first,
            "last": self.last,
            "follows": [finding.row() for finding in self.follows],
        }
