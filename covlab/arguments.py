"""Check arguments. Every error names the argument, the values it may have and the value it got.

A class with many fields has a table with one line for each field::

    FIELDS = {"windows": whole_number(1), "clip": number(above=0).or_none("no clipping")}
    check_fields(recipe, FIELDS)
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Allowed(NamedTuple):
    """The values that an argument may have."""

    expected: str  #: what an error says after "must be"
    accepts: Callable[[Any], bool]
    unless_none: "Allowed | None" = None  #: the same without None, if None is allowed

    def or_none(self, meaning: str) -> "Allowed":
        """Allow None as well, which means ``meaning``."""
        return Allowed(
            f"{self.expected}, or None for {meaning}", lambda value: value is None or self.accepts(value), self
        )

    def check(self, name: str, value: object) -> None:
        """Raise ValueError unless the argument ``name`` may have this value."""
        if not self.accepts(value):
            raise ValueError(f"{name} must be {self.expected}, got {value!r}")


def check_fields(owner: object, table: Mapping[str, Allowed], prefix: str = "") -> None:
    """Check every attribute of ``owner`` that ``table`` lists. Raise ValueError; ``prefix`` precedes the name in it."""
    for name, allowed in table.items():
        allowed.check(prefix + name, getattr(owner, name))


def whole_number(least: int, most: float = math.inf) -> Allowed:
    """An int from ``least`` to ``most``."""
    limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    return Allowed(f"a whole number {limits}", lambda value: type(value) is int and least <= value <= most)


SEED = whole_number(0, 2**63 - 1)
"""A seed, as large as torch can take."""


def number(
    above: float = -math.inf, least: float = -math.inf, below: float = math.inf, most: float = math.inf
) -> Allowed:
    """A finite int or float. ``above`` and ``below`` exclude the limit itself; ``least`` and ``most`` include it."""
    limits = {"above": above, "of at least": least, "below": below, "at most": most}
    text = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit))

    def accepts(value: Any) -> bool:
        real = isinstance(value, int | float) and not isinstance(value, bool)
        return real and above < value < below and least <= value <= most

    return Allowed(f"a finite number {text}".strip(), accepts)


def interval(end: Allowed) -> Allowed:
    """A tuple (low, high) with low <= high; ``end`` says what each of them may be."""

    def accepts(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == 2 and all(map(end.accepts, value)) and value[0] <= value[1]

    return Allowed(f"(low, high) with low <= high, each {end.expected}", accepts)


def one_of(choices: Iterable[object]) -> Allowed:
    """One of a few values."""
    known = tuple(choices)
    return Allowed(f"one of {', '.join(map(str, known))}", lambda value: value in known)
