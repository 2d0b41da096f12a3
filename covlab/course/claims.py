"""Claims: numbers that a lesson's text states and its code measures. They are kept in lessons/claims.toml.

["06.gradient_ratio"]
value = 4.0
tolerance = 0.1
reason = "five seeds spread 0.04"
profile = "cpu"        # optional; without it, the claim applies to every profile
"""

import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from pathlib import Path

from covlab.course.lesson_parameters import PROFILES
from covlab.course.lesson_sources import lessons_folder
from covlab.course.prose import Stated


class ClaimError(ValueError):
    """lessons/claims.toml breaks a rule; the message names the claim."""


@dataclass(frozen=True)
class Claim:
    """value ± tolerance, in the unit of the prose. reason: where the tolerance comes from."""

    id: str
    value: float
    tolerance: float
    reason: str
    profile: str | None = None

    def applies_to(self, profile: str) -> bool:
        return self.profile in (None, profile)

    def holds(self, measured: float) -> bool:
        # A value exactly at the limit must not fail because of a rounding error.
        return abs(measured - self.value) <= self.tolerance * (1 + 1e-9) + 1e-12


def read_claims(root: Path) -> dict[str, Claim]:
    """Return the claims of lessons/claims.toml by id; none if there is no such file. Raises ClaimError."""
    path = lessons_folder(root) / "claims.toml"
    if not path.exists():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ClaimError(f"{path}: {error}") from error
    return {name: _claim(name, table) for name, table in tables.items()}


def claims_of(lesson: str, profile: str, claims: dict[str, Claim]) -> list[Claim]:
    """Return the claims that a lesson must measure with this profile: their ids begin with its number."""
    return [claim for claim in claims.values() if claim.id.startswith(f"{lesson[:2]}.") and claim.applies_to(profile)]


def prose_complaints(stated: Iterable[Stated], claims: dict[str, Claim]) -> list[tuple[str | None, str]]:
    """Return (claim or None, what is wrong) for each number of prose that no run could confirm: it has no claim, or
    lies outside of its claim.
    """
    complaints: list[tuple[str | None, str]] = []
    for number in stated:
        text, claim = number.text, number.claim
        if claim is None:
            wrong = (
                f"the number {text} has no marker: wrap it in "
                f'<span data-claim="…">{text}</span>, or data-quoted="source"'
            )
        elif claim not in claims:
            wrong = f"prose marks {text} as claim {claim!r}, which lessons/claims.toml does not have"
        elif not _within(number, claims[claim]):
            known, is_range = claims[claim], len(number.ends) > 1
            wrong = f"prose prints {text}, but claim {claim} is {known.value:g} ± {known.tolerance:g}" + (
                f": write at most {_range(_limits(known), number)}, or correct the claim" if is_range else ""
            )
        else:
            continue
        complaints.append((claim, wrong))
    return complaints


def print_complaints(
    stated: Iterable[Stated], measured: dict[str, list[float]], *, default_run: bool
) -> list[tuple[str, str]]:
    """Return (claim, what is wrong) for each number of prose that is not what the run measured, as printed.

    A range must contain the measurements of every run. A single number must equal those of the default run (default
    seed and profile), rounded to its digits; other seeds may measure something else.
    """
    complaints = []
    for number in stated:
        values = measured.get(number.claim, []) if number.claim else []
        if len(number.ends) > 1:
            differing = [value for value in values if not _contains(number, value)]
        else:
            differing = [value for value in values if default_run and not _is_printed(number, value)]
        if differing and number.claim:
            complaints.append((number.claim, f"prose prints {number.text}, {_instead(number, values, differing)}"))
    return complaints


def prints_over_seeds(number: Stated, values: list[float]) -> str:
    """Say how a number of prose prints over several seeds, and propose a range if it differs."""
    if len(number.ends) > 1:
        outside = [value for value in values if not _contains(number, value)]
        if not outside:
            return f"prose prints {number.text}, which contains every seed"
        return f"prose prints {number.text}, {_instead(number, values, outside)}"
    prints = list(dict.fromkeys(_rounded(value, number.ends[0]) for value in sorted(values)))
    if len(prints) == 1 and _is_printed(number, values[0]):
        return f"prose prints {number.text}, as every seed does"
    seeds = f"the seeds print {', '.join(prints)}"
    write = prints[0] if len(prints) == 1 else _range(values, number)
    return f'prose prints {number.text}; {seeds}: write <span data-claim="{number.claim}">{write}</span>'


def _is_printed(number: Stated, value: float) -> bool:
    """Return whether a single number of prose is ``value``, rounded to as many digits (half of a unit either way)."""
    return abs(number.ends[0] - Decimal(repr(value))) <= _unit(number.ends[0]) / 2


def _contains(number: Stated, value: float) -> bool:
    low, high = number.ends
    return low <= Decimal(repr(value)) <= high


def _within(number: Stated, claim: Claim) -> bool:
    """Return whether prose prints nothing outside of the claim's limits.

    A single number may be rounded, so half a unit of its last digit is allowed; the ends of a range may be rounded
    outwards, so a whole unit is.
    """
    low, high = (Decimal(repr(limit)) for limit in _limits(claim))
    first, last = number.ends[0], number.ends[-1]
    allowed = Decimal(1) if len(number.ends) > 1 else Decimal("0.5")
    return low - allowed * _unit(first) <= first and last <= high + allowed * _unit(last)


def _limits(claim: Claim) -> tuple[float, float]:
    return claim.value - claim.tolerance, claim.value + claim.tolerance


def _instead(number: Stated, values: list[float], differing: list[float]) -> str:
    measured = ", ".join(dict.fromkeys(f"{value:.6g}" for value in differing))
    prints = {_rounded(value, number.ends[0]) for value in values}
    single = len(number.ends) == 1 and len(prints) == 1
    write = prints.pop() if single else _range([*values, *map(float, number.ends[1:] and number.ends)], number)
    return f"but this run measured {measured}: write {write}"


def _range(values: Iterable[float], number: Stated) -> str:
    """Return the smallest range of as many digits as ``number`` prints that contains all values."""
    unit = min(map(_unit, number.ends))
    low, high = min(values := list(values)), max(values)
    ends = [
        Decimal(repr(value)).quantize(unit, rounding) for value, rounding in ((low, ROUND_FLOOR), (high, ROUND_CEILING))
    ]
    return " to ".join(_printed(end) for end in ends)


def _rounded(value: float, like: Decimal) -> str:
    return _printed(Decimal(repr(value)).quantize(_unit(like), ROUND_HALF_EVEN))


def _printed(number: Decimal) -> str:
    return f"{number or abs(number):f}".replace("-", "−")  # zero has no sign


def _unit(printed: Decimal) -> Decimal:
    """Return one unit of the last digit of a printed number."""
    exponent = printed.as_tuple().exponent
    return Decimal(1).scaleb(exponent if isinstance(exponent, int) else 0)  # prose has neither NaN nor infinity


def measurement_complaints(
    due: list[Claim], known: dict[str, Claim], measured: dict[str, list[float]], profile: str = "cpu"
) -> list[tuple[str, str]]:
    """Return (claim, what is wrong) for claims not measured or out of tolerance, and for unknown measurements.

    due: the claims that must be measured. A claim that is not due, such as another lesson's, must also hold if it is
    measured and applies to the profile.
    """
    missing = [(claim.id, f"claim {claim.id} was never measured") for claim in due if claim.id not in measured]
    judged = [known[name] for name in measured if name in known and known[name].applies_to(profile)]
    wrong = [
        (claim.id, f"claim {claim.id} is {claim.value:g} ± {claim.tolerance:g}, measured {value:.6g}")
        for claim in judged
        for value in measured[claim.id]
        if not claim.holds(value)
    ]
    unknown = [name for name in measured if name not in known]
    return missing + wrong + [(name, f"measured {name!r}, which lessons/claims.toml does not have") for name in unknown]


def proposal(claim: Claim, measured: list[float]) -> Claim:
    """Propose a claim from measurements: their mean, and a tolerance of twice the largest deviation.

    Both are rounded to two digits of the tolerance. A person decides whether to accept it.
    """
    mean = sum(measured) / len(measured)
    reach = 2 * max(abs(value - mean) for value in measured)
    if reach < 1e-300:  # zero, or too small to have two digits
        return replace(claim, value=mean)
    unit = 10.0 ** (math.floor(math.log10(reach)) - 1)
    digits = max(0, -round(math.log10(unit)))
    return replace(
        claim,
        value=round(mean, digits),
        tolerance=round(math.ceil(reach / unit - 1e-6) * unit, digits),
        reason=f"twice the largest deviation over {len(measured)} seeds",
    )


def as_toml(claim: Claim) -> str:
    table = f'["{claim.id}"]\nvalue = {claim.value!r}\ntolerance = {claim.tolerance!r}\nreason = "{claim.reason}"\n'
    return table + (f'profile = "{claim.profile}"\n' if claim.profile else "")


def _claim(name: str, table: object) -> Claim:
    keys = {"value", "tolerance", "reason", "profile"}
    if not isinstance(table, dict) or not {"value", "tolerance", "reason"} <= table.keys() <= keys:
        raise ClaimError(f"claim {name!r}: expected value, tolerance, reason and optionally profile, got {table!r}")
    for key in ("value", "tolerance"):
        number = table[key]
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
            raise ClaimError(f"claim {name!r}: {key} is {number!r}, expected a finite number")
    if table["tolerance"] < 0:
        raise ClaimError(f"claim {name!r}: tolerance is {table['tolerance']!r}, expected 0 or more")
    if not isinstance(table["reason"], str) or not table["reason"].strip():
        raise ClaimError(f"claim {name!r}: reason is {table['reason']!r}, expected where the tolerance comes from")
    if table.get("profile", "cpu") not in PROFILES:
        raise ClaimError(f"claim {name!r}: profile is {table['profile']!r}, expected one of {', '.join(PROFILES)}")
    return Claim(name, float(table["value"]), float(table["tolerance"]), table["reason"], table.get("profile"))
