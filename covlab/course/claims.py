"""A claim: a number that prose states, code measures, and lessons/claims.toml keeps.

["06.gradient_ratio"]
value = 4.0
tolerance = 0.1
reason = "five seeds spread 0.04"
profile = "cpu"        # optional: without it, the claim holds for every profile
"""

import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from covlab.course.lesson_parameters import PROFILES
from covlab.course.prose import Stated


class ClaimError(ValueError):
    """lessons/claims.toml breaks a rule; the message names the claim."""


@dataclass(frozen=True)
class Claim:
    """value ± tolerance, in the unit that prose uses; reason: where the tolerance comes from."""

    id: str
    value: float
    tolerance: float
    reason: str
    profile: str | None = None

    def holds(self, measured: float) -> bool:
        # The last bits of a decimal fraction must not decide at the very edge.
        return abs(measured - self.value) <= self.tolerance * (1 + 1e-9) + 1e-12

    def printed_as(self, text: str) -> bool:
        """Whether `text`, such as '0.19', is the value rounded to as many digits."""
        printed = Decimal(text.replace("−", "-"))
        exponent = printed.as_tuple().exponent
        if not isinstance(exponent, int):
            return False  # NaN or an infinity, which no claim is
        half = Decimal(5).scaleb(exponent - 1)
        return abs(printed - Decimal(repr(self.value))) <= half


def read_claims(root: Path) -> dict[str, Claim]:
    """The claims of root/lessons/claims.toml by id; none when there is no such file. Raises ClaimError."""
    path = root / "lessons" / "claims.toml"
    if not path.exists():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ClaimError(f"{path}: {error}") from error
    return {name: _claim(name, table) for name, table in tables.items()}


def claims_of(lesson: str, profile: str, claims: dict[str, Claim]) -> list[Claim]:
    """The claims that a lesson's run on this profile must measure: their ids begin with its number."""
    return [
        claim for claim in claims.values() if claim.id.startswith(f"{lesson[:2]}.") and claim.profile in (None, profile)
    ]


def prose_complaints(stated: Iterable[Stated], claims: dict[str, Claim]) -> list[tuple[str | None, str]]:
    """(claim or None, what is wrong) for each number of some prose that does not agree with the claims."""
    complaints: list[tuple[str | None, str]] = []
    for each in stated:
        if each.claim is None:
            complaints.append(
                (
                    None,
                    (
                        f"the decimal {each.text} stands in prose without a marker: wrap it in "
                        f'<span data-claim="…">{each.text}</span>, or data-quoted="source"'
                    ),
                )
            )
        elif each.claim not in claims:
            complaints.append(
                (
                    each.claim,
                    f"prose marks {each.text} as claim {each.claim!r}, which lessons/claims.toml does not have",
                )
            )
        elif not claims[each.claim].printed_as(each.text):
            complaints.append(
                (each.claim, f"prose prints {each.text}, but claim {each.claim} is {claims[each.claim].value!r}")
            )
    return complaints


def measurement_complaints(
    due: list[Claim], known: dict[str, Claim], measured: dict[str, list[float]]
) -> list[tuple[str, str]]:
    """(claim, what is wrong) for claims never measured or out of tolerance, and measurements without a claim."""
    complaints = [(claim.id, f"claim {claim.id} was never measured") for claim in due if claim.id not in measured]
    for claim in due:
        complaints += [
            (claim.id, f"claim {claim.id} is {claim.value:g} ± {claim.tolerance:g}, measured {value:.6g}")
            for value in measured.get(claim.id, [])
            if not claim.holds(value)
        ]
    complaints += [
        (name, f"measured {name!r}, which lessons/claims.toml does not have") for name in measured if name not in known
    ]
    return complaints


def proposal(claim: Claim, measured: list[float]) -> Claim:
    """What measurements suggest: their mean, and a tolerance of twice the largest deviation, both
    rounded to what the tolerance can tell apart. A person decides."""
    mean = sum(measured) / len(measured)
    reach = 2 * max(abs(value - mean) for value in measured)
    if reach < 1e-300:  # nothing, or so little that it has no two digits
        return Claim(claim.id, mean, claim.tolerance, claim.reason, claim.profile)
    unit = 10.0 ** (math.floor(math.log10(reach)) - 1)
    digits = max(0, -round(math.log10(unit)))
    return Claim(
        claim.id,
        round(mean, digits),
        round(math.ceil(reach / unit - 1e-6) * unit, digits),
        f"twice the largest deviation over {len(measured)} seeds",
        claim.profile,
    )


def as_toml(claim: Claim) -> str:
    lines = [
        f'["{claim.id}"]',
        f"value = {claim.value!r}",
        f"tolerance = {claim.tolerance!r}",
        f'reason = "{claim.reason}"',
    ]
    return "\n".join(lines + ([f'profile = "{claim.profile}"'] if claim.profile else [])) + "\n"


def _claim(name: str, table: object) -> Claim:
    keys = {"value", "tolerance", "reason", "profile"}
    if not isinstance(table, dict) or not {"value", "tolerance", "reason"} <= table.keys() <= keys:
        raise ClaimError(f"claim {name!r}: expected value, tolerance, reason and perhaps profile, got {table!r}")
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
