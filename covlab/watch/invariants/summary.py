"""Summarize many values in a finding."""

from collections.abc import Iterable, Sequence


def upper_median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def first_few(names: Iterable[str], most: int = 4) -> str:
    """Return the first names of an alphabetical list, and how many more there are."""
    ordered = sorted(names)
    return ", ".join(ordered[:most]) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")
