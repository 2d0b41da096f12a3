"""One finding of the watch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from covlab.watch.seen.location import CodeLocation

Verdict = Literal["fault", "warning", "note"]
VERDICTS: tuple[Verdict, ...] = ("fault", "warning", "note")  # worst first


def counted(count: int, noun: str) -> str:
    """Return the count and the noun, in the plural unless the count is 1."""
    ending = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count} {noun}{ending}"


def ranks_text(ranks: Iterable[int], of: int) -> str:
    """Return the ranks of a job of so many, as in "all 4 ranks" or "ranks 0 to 2 and 5"."""
    ordered = sorted(ranks)
    if len(ordered) == of:
        return "both ranks" if of == 2 else f"all {of} ranks"
    runs: list[list[int]] = []
    for rank in ordered:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    parts = [part for run in runs for part in (map(str, run) if len(run) < 3 else [f"{run[0]} to {run[-1]}"])]
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"rank{'s' * (len(ordered) > 1)} {listed}"


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
    ranks: tuple[int, ...] = ()  #: those that found it, in a report of several ranks; (): it is about the whole job
    ranks_of_job: int = 1

    @property
    def on_ranks(self) -> str:
        """On which ranks it was found, as text; "" if it is about the whole job, or the job is one process."""
        return f"on {ranks_text(self.ranks, self.ranks_of_job)}" if self.ranks else ""

    @property
    def when(self) -> str:
        """In which steps, and on which ranks, it was seen, as text; "" if that is unknown."""
        return "; ".join(filter(None, (self._steps, self.on_ranks)))

    @property
    def _steps(self) -> str:
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
            "ranks": list(self.ranks),
            "follows": [finding.row() for finding in self.follows],
        }

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> "Finding":
        """Return the finding that has this row."""
        values = {name: value for name, value in row.items() if name != "site"}
        number, location = row["number"], row["site"]
        values |= {
            "number": None if number is None else float(number),
            "location": None if location is None else CodeLocation.of_row(location),
            "follows": [cls.of_row(one) for one in row["follows"]],
            "ranks": tuple(row["ranks"]),
        }
        return cls(**values)
