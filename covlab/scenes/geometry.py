"""Where the elements of the RIS are, and the steering vectors of sources as they see them.

The RIS lies in the y-z plane, centred at the origin, and looks along +x. The BS is a uniform linear array.
"""

import torch
from torch import Tensor

from covlab.scenes.scenario import Scenario


def ris_positions(scenario: Scenario) -> Tensor:
    """q_n, the RIS elements, row by row, in metres [N, 3], float64."""
    rows = torch.arange(scenario.ris_rows, dtype=torch.float64) - (scenario.ris_rows - 1) / 2
    columns = torch.arange(scenario.ris_columns, dtype=torch.float64) - (scenario.ris_columns - 1) / 2
    z, y = torch.meshgrid(rows, columns, indexing="ij")
    return scenario.spacing_m * torch.stack([torch.zeros_like(y), y, z], dim=-1).reshape(-1, 3)


def directions(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Unit vectors (cos θ cos φ, cos θ sin φ, sin θ) [..., 3]."""
    return torch.stack([elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()], dim=-1)


def phasors(phase: Tensor) -> Tensor:
    """e^jφ of ``phase`` in radians, complex, of its shape. (On a CPU ``torch.polar`` takes three times as long, ``exp``
    eleven times.)
    """
    return torch.complex(phase.cos(), phase.sin())


def steering_vectors(scenario: Scenario, azimuth: Tensor, elevation: Tensor, range_m: Tensor) -> Tensor:
    """Steering vectors of sources at (φ, θ, r) in radians and metres: [...] each -> [..., N], complex.

    Spherical wave: a_n = exp(-jk(‖p - q_n‖ - ‖p‖)); with ``scenario.near_field`` off, its limit for
    r -> ∞, the plane wave a_n = exp(jk u·q_n), and ``range_m`` does not matter.
    """
    elements = ris_positions(scenario).to(azimuth, non_blocking=True)  # a GPU is not waited for
    along = directions(azimuth, elevation) @ elements.T
    if scenario.near_field:
        # ‖p - q‖ - ‖p‖ as a quotient: the plain difference of two nearly equal lengths loses
        # digits in float32 as r grows.
        r = range_m.unsqueeze(-1)
        square = (elements**2).sum(dim=-1) - 2 * r * along
        path = square / ((r**2 + square).sqrt() + r)
    else:
        path = -along
    return phasors(-scenario.wavenumber * path)
