"""The positions of the RIS elements, and the steering vectors of sources.

The RIS lies in the y-z plane, centered at the origin, and faces +x.
"""

import torch
from torch import Tensor

from covlab.scenes.scenario import Scenario


def ris_positions(scenario: Scenario) -> Tensor:
    """Return q_n, the positions (x, y, z) of the RIS elements in metres, row by row [N, 3], float64."""
    rows = torch.arange(scenario.ris_rows, dtype=torch.float64) - (scenario.ris_rows - 1) / 2
    columns = torch.arange(scenario.ris_columns, dtype=torch.float64) - (scenario.ris_columns - 1) / 2
    z, y = torch.meshgrid(rows, columns, indexing="ij")
    return scenario.spacing_m * torch.stack([torch.zeros_like(y), y, z], dim=-1).reshape(-1, 3)


def directions(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Return the unit vectors (cos θ cos φ, cos θ sin φ, sin θ) of φ and θ in radians: [...] each -> [..., 3]."""
    return torch.stack([elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], dim=-1)


def phasors(phase: Tensor, out: Tensor | None = None) -> Tensor:
    """Return e^jφ of ``phase`` φ in radians, in ``out`` if given. On a CPU, ``torch.polar`` is three times as slow."""
    return torch.complex(phase.cos(), phase.sin(), out=out)


def steering_vectors(scenario: Scenario, azimuth: Tensor, elevation: Tensor, range_m: Tensor) -> Tensor:
    """Return the steering vectors of sources at (φ, θ, r) in radians and metres: [...] each -> [..., N], complex.

    A source at p sends a spherical wave: a_n = exp(-jk(‖p - q_n‖ - ‖p‖)). With ``scenario.near_field`` off, it is a
    plane wave from the direction u, whatever ``range_m`` is: a_n = exp(jk u·q_n), the limit for r -> ∞.
    """
    # All lengths are times k, so that they are phases.
    elements = scenario.wavenumber * ris_positions(scenario).to(azimuth, non_blocking=True)  # does not wait for a GPU
    with torch.autocast(azimuth.device.type, enabled=False):  # phases of many turns need every digit
        along = directions(azimuth, elevation) @ elements.T
    if not scenario.near_field:
        return phasors(along)
    # ‖p‖ - ‖p - q‖, written as a quotient: a difference of nearly equal lengths would lose digits in float32.
    r = scenario.wavenumber * range_m.unsqueeze(-1)
    lead = torch.addcmul(-(elements**2).sum(dim=-1), r, along, value=2)  # ‖p‖² - ‖p - q‖²
    return phasors(lead / (r + (r**2 - lead).sqrt()))
