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
from decimal import Decimal
from pathlib import Path

from covlab.course.lesson_parameters import PROFILES
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

    def printed_as(self, text: str) -> bool:
        """Return whether ``text``, such as '0.19', is the value rounded to as many digits."""
        printed = Decimal(text.replace("−", "-"))
        exponent = printed.as_tuple().exponent
        if not isinstance(exponent, int):
            return False  # a claim is never NaN or infinite
        return abs(printed - Decimal(repr(self.value))) <= Decimal(5).scaleb(exponent - 1)


def read_claims(root: Path) -> dict[str, Claim]:
    """Return the claims of root/lessons/claims.toml by id; none if there is no such file. Raises ClaimError."""
    path = root / "lessons" / "claims.toml"
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
    """Return (claim or None, what is wrong) for each number of prose that does not agree with the claims."""
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
        elif not claims[claim].printed_as(text):
            wrong = f"prose prints {text}, but claim {claim} is {claims[claim].value!r}"
        else:
            continue
        complaints.append((claim, wrong))
    return complaints


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
