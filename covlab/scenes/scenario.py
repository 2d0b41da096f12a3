"""What is simulated: array sizes, geometry, and the ranges from which scenes are drawn.

Symbols in covlab: ``M`` antennas of the base station (BS), ``N`` elements of the reconfigurable intelligent surface
(RIS), ``L`` snapshots, ``K`` sources. (Much of the literature writes N for sensors and M for sources.)
"""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from covlab.arguments import SEED, Allowed, check_fields, checked, interval, number, one_of, text, whole_number

ANY_PHASE = (-math.pi, math.pi)

MOST_ELEMENTS = 4096
"""The most elements, antennas, snapshots or scatterers. R of one scene then takes 128 MiB."""

FIELDS = {
    "name": text,
    **dict.fromkeys(
        ("ris_rows", "ris_columns", "bs_antennas", "snapshots", "scatterers"), whole_number(1, MOST_ELEMENTS)
    ),
    "max_sources": whole_number(1, 8),  # the loss of the positions tries all orders
    "site_seed": SEED,
    **dict.fromkeys(("stuck_elements", "dead_elements"), whole_number(0, MOST_ELEMENTS)),
    **dict.fromkeys(("wavelength_m", "spacing_wavelengths"), number(least=1e-6, most=1e6)),
    **dict.fromkeys(("azimuth", "elevation"), interval(number(least=-math.pi / 2, most=math.pi / 2))),
    "range_m": interval(number(least=1e-3, most=1e6)),
    "power": interval(number(least=1e-6, most=1e6)),
    "snr_db": interval(number(least=-200, most=200)),
    "near_field": one_of((True, False)),
    "rician_factor_db": Allowed(
        "a number (±inf allowed)", lambda value: number().accepts(value) or value in (-math.inf, math.inf)
    ),
    "codebook": one_of(("random", "fixed", "dft")),
    "phase_bits": whole_number(1, 16).or_none("any phase"),
    "source_correlation": number(least=0, most=1),
    "correlation_phase": interval(number(least=-math.pi, most=math.pi)),
    "site": one_of(("fixed", "per_scene")),
    "calibration_error_db": number(least=-200, most=200).or_none("no error"),
}
"""What each field of a scenario may be."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything that is fixed while scenes are drawn at random.

    Lengths are in metres, angles in radians. Fields that end in ``_db`` are in dB. Each scene draws its azimuths,
    elevations, ranges, powers and SNR from the (low, high) given here. ``dataclasses.replace`` makes a variation.

    Raises:
        ValueError: a field is out of its range; the message names the field.
    """

    name: str
    ris_rows: int
    ris_columns: int
    bs_antennas: int
    snapshots: int
    max_sources: int
    wavelength_m: float = 0.3
    spacing_wavelengths: float = 0.5
    azimuth: tuple[float, float] = (-math.pi / 3, math.pi / 3)
    elevation: tuple[float, float] = (-math.pi / 6, math.pi / 6)
    range_m: tuple[float, float] = (0.5, 10.0)
    snr_db: tuple[float, float] = (-5.0, 20.0)
    power: tuple[float, float] = (0.2, 1.0)
    near_field: bool = True  #: spherical waves; False: plane waves, whatever the range
    #: κ of the channel, line of sight over scattered power; -inf: no line of sight, +inf: no scatterers
    rician_factor_db: float = 0.0
    scatterers: int = 64  #: of the site channel
    site_seed: int = 0  #: draws what is fixed: scatterers, fixed codebook, faulty elements, calibration error

    #: "random": new codes in every scene; "fixed": the same in all scenes; "dft": L of the N orthogonal DFT codes
    codebook: str = "random"
    phase_bits: int | None = None  #: b: codes are rounded to the 2^b phases of the RIS; None: any phase
    source_correlation: float = 0.0  #: |ρ| between the symbols of any two sources of a scene; 1 is coherent
    correlation_phase: tuple[float, float] = ANY_PHASE  #: phase of each source's symbols relative to the first source's
    #: "fixed": one channel G, which estimators know; "per_scene": new scatterers in every scene; estimators know only H
    site: str = "fixed"
    #: ‖Ĝ − G‖²/‖G‖² of the channel Ĝ that the receiver uses; None: Ĝ = G
    calibration_error_db: float | None = None
    stuck_elements: int = 0  #: RIS elements that keep one random phase, whatever the code
    dead_elements: int = 0  #: RIS elements that reflect nothing

    def __post_init__(self) -> None:
        check_fields(self, FIELDS, "Scenario.")
        N, stuck, dead = self.ris_elements, self.stuck_elements, self.dead_elements

        def refuse(field: str, expected: str) -> None:
            raise ValueError(f"Scenario.{field} must be {expected}, got {getattr(self, field)!r}")

        if N > MOST_ELEMENTS:
            refuse("ris_rows", f"at most {MOST_ELEMENTS} / ris_columns = {MOST_ELEMENTS // self.ris_columns}")
        if self.codebook == "dft" and self.snapshots > N:
            refuse("snapshots", f"at most N = {N} with codebook 'dft', which has no more orthogonal codes")
        if self.source_correlation > 0 and self.max_sources == 1:
            refuse("source_correlation", "0 with max_sources 1")
        if self.source_correlation == 0 and self.correlation_phase != ANY_PHASE:
            refuse("correlation_phase", "left out with source_correlation 0")
        if self.site == "per_scene" and self.rician_factor_db == math.inf:
            refuse("site", "'fixed' with rician_factor_db inf, since scenes would differ only by their scatterers")
        if stuck + dead > N:
            refuse("stuck_elements", f"at most N = {N} together with dead_elements {dead}")
        if dead == N:
            refuse("dead_elements", f"below N = {N}, or nothing reaches the receiver")

    @property
    def axis_lengths(self) -> dict[str, int]:
        """The lengths of those axes of a batch that estimates depend on."""
        return {"M": self.bs_antennas, "N": self.ris_elements, "K_max": self.max_sources}

    @property
    def ris_elements(self) -> int:
        """N, the number of RIS elements."""
        return self.ris_rows * self.ris_columns

    @property
    def spacing_m(self) -> float:
        """Distance between neighboring RIS elements, and between neighboring BS antennas, in metres."""
        return self.spacing_wavelengths * self.wavelength_m

    @property
    def wavenumber(self) -> float:
        """k = 2π/λ in radians per metre."""
        return 2 * math.pi / self.wavelength_m

    @property
    def fraunhofer_distance_m(self) -> float:
        """d_F = 2D²/λ in metres, D the diagonal of the aperture. The wave fronts of nearer sources are curved."""
        diagonal = self.spacing_m * math.hypot(self.ris_rows - 1, self.ris_columns - 1)
        return 2 * diagonal**2 / self.wavelength_m


PRESETS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="student", ris_rows=4, ris_columns=4, bs_antennas=8, snapshots=16, max_sources=2),
        Scenario(name="near_field", ris_rows=6, ris_columns=6, bs_antennas=8, snapshots=16, max_sources=3),
        Scenario(name="full", ris_rows=12, ris_columns=12, bs_antennas=16, snapshots=16, max_sources=5),
    )
}


@checked
def preset(name: Annotated[str, one_of(PRESETS)]) -> Scenario:
    """Return the scenario called ``name``: 'student', 'near_field' or 'full'.

    Raises:
        ValueError: there is no such preset.
    """
    return PRESETS[name]


def fixed_random_numbers(scenario: Scenario, purpose: str) -> np.random.Generator:
    """Return a generator of the site's random numbers for one purpose, unrelated to those for any other purpose."""
    return np.random.default_rng(np.random.SeedSequence(scenario.site_seed, spawn_key=tuple(purpose.encode())))
