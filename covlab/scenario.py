"""What is simulated: array sizes, geometry, and the ranges scenes are drawn from.

Symbols used throughout covlab: ``M`` base-station (BS) antennas, ``N`` elements of the
reconfigurable intelligent surface (RIS), ``L`` snapshots, ``K`` sources. (Beware: much of
the array-processing literature writes N for sensors and M for sources.)
"""

import math
from dataclasses import dataclass


def check_whole_number(name: str, number: int, least: int) -> None:
    """Raises ValueError, naming ``name``, unless ``number`` is a whole number of at least ``least``."""
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {number!r}")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything that is fixed while scenes are drawn at random.

    Lengths are in metres, angles in radians, powers and SNR as named. A scenario is a value:
    use ``dataclasses.replace`` for a variation of one.

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
    near_field: bool = True
    rician_factor_db: float = 0.0
    scatterers: int = 64
    site_seed: int = 0

    def __post_init__(self):
        for field in ("ris_rows", "ris_columns", "bs_antennas", "snapshots", "max_sources", "scatterers"):
            check_whole_number(f"Scenario.{field}", getattr(self, field), least=1)
        for field in ("wavelength_m", "spacing_wavelengths"):
            length = getattr(self, field)
            if not 0 < length < math.inf:
                raise ValueError(f"Scenario.{field} must be positive and finite, got {length!r}")
        for field, least, most in (
            ("azimuth", -math.pi / 2, math.pi / 2),
            ("elevation", -math.pi / 2, math.pi / 2),
            ("range_m", 0.0, math.inf),
            ("snr_db", -math.inf, math.inf),
            ("power", 0.0, math.inf),
        ):
            low, high = getattr(self, field)
            if not (least <= low <= high <= most and math.isfinite(low) and math.isfinite(high)):
                raise ValueError(
                    f"Scenario.{field} must be (low, high) with {least:g} <= low <= high <= {most:g}, got ({low}, {high})"
                )
        for field in ("range_m", "power"):
            if getattr(self, field)[0] <= 0:
                raise ValueError(f"Scenario.{field} must start above 0, got {getattr(self, field)}")

    @property
    def ris_elements(self) -> int:
        """N, the number of RIS elements."""
        return self.ris_rows * self.ris_columns

    @property
    def spacing_m(self) -> float:
        """Distance between neighbouring RIS elements, and between neighbouring BS antennas, in metres."""
        return self.spacing_wavelengths * self.wavelength_m

    @property
    def wavenumber(self) -> float:
        """k = 2π/λ in radians per metre."""
        return 2 * math.pi / self.wavelength_m

    @property
    def fraunhofer_distance_m(self) -> float:
        """d_F = 2D²/λ with D the diagonal of the aperture: nearer than this, wave fronts arrive curved."""
        diagonal = self.spacing_m * math.hypot(self.ris_rows - 1, self.ris_columns - 1)
        return 2 * diagonal**2 / self.wavelength_m


_PRESETS = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="student", ris_rows=4, ris_columns=4, bs_antennas=8, snapshots=16, max_sources=2),
        Scenario(name="near_field", ris_rows=6, ris_columns=6, bs_antennas=8, snapshots=16, max_sources=3),
        Scenario(name="full", ris_rows=12, ris_columns=12, bs_antennas=16, snapshots=16, max_sources=5),
    )
}
PRESETS = tuple(_PRESETS)


def preset(name: str) -> Scenario:
    """The scenario called ``name``: 'student', 'near_field' or 'full'.

    Raises:
        ValueError: there is no such preset.
    """
    if name not in _PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return _PRESETS[name]
