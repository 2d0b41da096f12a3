"""What stands still while scenes are drawn: the arrays, the channel between them, the surface and its codebook;
and what the receiver believes of them.

The RIS lies in the y-z plane, centred at the origin, and looks along +x. The BS is a uniform linear array.
"""

import math

import numpy as np
import torch
from torch import Tensor

from covlab.scenario import Scenario

SCATTERER_RANGE_M = (1.0, 8.0)
"""How far from the RIS the scatterers are."""


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


def site_channel(scenario: Scenario) -> Tensor:
    """G, the fixed channel from RIS to BS [M, N], complex128, mean |G|² = 1/N.

    Line of sight between the RIS and a uniform linear BS array plus fixed point scatterers of complex
    gain CN(0, 1), every path a spherical wave, weighed by the Rician factor κ. ``scenario.site_seed``
    draws the scatterers, wherever the arrays stand.

    Raises:
        ValueError: every scene of the scenario has a site of its own.
    """
    if scenario.site != "fixed":
        raise ValueError(
            f"scenario.site must be 'fixed' for a channel that can be known, got {scenario.site!r}: what is known of a "
            "scene's own is its H"
        )
    rng = np.random.default_rng(scenario.site_seed)
    bearings = rng.standard_normal((scenario.scatterers, 3))
    bearings[:, 0] = abs(bearings[:, 0])
    bearings /= np.linalg.norm(bearings, axis=1, keepdims=True)
    scatterers = torch.from_numpy(bearings * rng.uniform(*SCATTERER_RANGE_M, (scenario.scatterers, 1)))
    gains = torch.view_as_complex(torch.from_numpy(rng.standard_normal((scenario.scatterers, 2))))
    return channel_of_scatterers(scenario, scatterers, gains)


def fresh_site_channels(scenario: Scenario, sites: int, generator: torch.Generator) -> Tensor:
    """G of so many sites with scatterers of their own, by the rule of :func:`site_channel` [sites, M, N],
    complex128.
    """
    shape, device = (sites, scenario.scatterers), generator.device
    bearings = torch.randn(*shape, 3, generator=generator, device=device, dtype=torch.float64)
    bearings[..., 0].abs_()
    bearings /= torch.linalg.vector_norm(bearings, dim=-1, keepdim=True)
    near, far = SCATTERER_RANGE_M
    distances = near + (far - near) * torch.rand(*shape, 1, generator=generator, device=device, dtype=torch.float64)
    gains = torch.randn(*shape, 2, generator=generator, device=device, dtype=torch.float64)
    return channel_of_scatterers(scenario, bearings * distances, torch.view_as_complex(gains))


def channel_of_scatterers(scenario: Scenario, scatterers: Tensor, gains: Tensor) -> Tensor:
    """G with scatterers at [..., S, 3] metres of complex ``gains`` [..., S]: [..., M, N]; each of its two parts alone
    has mean |G|² = 1/N.
    """
    elements = ris_positions(scenario).to(scatterers.device)
    antennas = torch.zeros(scenario.bs_antennas, 3, dtype=torch.float64, device=scatterers.device)
    antennas[:, 1] = scenario.spacing_m * (
        torch.arange(scenario.bs_antennas, device=scatterers.device) - (scenario.bs_antennas - 1) / 2
    )
    antennas += torch.tensor([4.0, -3.0, 1.0], dtype=torch.float64, device=scatterers.device)

    def wave(distance: Tensor) -> Tensor:
        return phasors(-scenario.wavenumber * distance)

    line_of_sight = wave(torch.cdist(antennas, elements))
    to_antennas, to_elements = wave(torch.cdist(antennas, scatterers)), wave(torch.cdist(scatterers, elements))
    scattered = (to_antennas * gains.unsqueeze(-2)) @ to_elements
    balance = math.tanh(scenario.rician_factor_db * math.log(10) / 20)  # (κ - 1) / (κ + 1), also for ±inf dB

    def scaled(share: float, path: Tensor) -> Tensor:
        level = path.abs().square().mean(dim=(-2, -1), keepdim=True).sqrt()
        return math.sqrt(share / scenario.ris_elements) * path / level

    return scaled((1 + balance) / 2, line_of_sight) + scaled((1 - balance) / 2, scattered)


def believed_site(scenario: Scenario) -> Tensor:
    """Ĝ, the channel that the receiver and its estimators take for G [M, N], complex128.

    Ĝ = G + E with E of independent complex normal entries, fixed like the site, and of exactly the relative power
    ‖E‖²_F / ‖G‖²_F that ``scenario.calibration_error_db`` names.

    Raises:
        ValueError: every scene of the scenario has a site of its own.
    """
    G = site_channel(scenario)
    if scenario.calibration_error_db is None:
        return G
    error = _still(scenario, "calibration").standard_normal((*G.shape, 2))
    return miscalibrated(scenario, G, torch.view_as_complex(torch.from_numpy(error)))


def miscalibrated(scenario: Scenario, G: Tensor, error: Tensor) -> Tensor:
    """G plus ``error`` scaled to the power of ``scenario.calibration_error_db`` relative to G, both [..., M, N];
    G itself where the scenario has no such error.
    """
    if scenario.calibration_error_db is None:
        return G
    scale = 10 ** (scenario.calibration_error_db / 20) * torch.linalg.matrix_norm(G) / torch.linalg.matrix_norm(error)
    return G + scale[..., None, None] * error


def codebook(scenario: Scenario) -> Tensor | None:
    """The codes that a scene's L are taken from, complex128, unit modulus: None where they are drawn at random for
    every scene.

    "fixed": the one set of L random codes [L, N]. "dft": the N columns of the two-dimensional DFT over rows
    and columns of the surface [N, N], orthogonal unless ``phase_bits`` rounds them (a 4×4 surface needs 2 bits).
    """
    if scenario.codebook == "random":
        return None
    if scenario.codebook == "fixed":
        turns = torch.from_numpy(_still(scenario, "codebook").random((scenario.snapshots, scenario.ris_elements)))
    else:
        rows, columns = (torch.arange(size, dtype=torch.float64) for size in (scenario.ris_rows, scenario.ris_columns))
        rows, columns = (
            torch.outer(rows, rows) / scenario.ris_rows,
            torch.outer(columns, columns) / scenario.ris_columns,
        )
        turns = (rows[:, None, :, None] + columns[None, :, None, :]).reshape(scenario.ris_elements, -1)
    return phasors(to_surface_phases(scenario, 2 * math.pi * turns))


def to_surface_phases(scenario: Scenario, phase: Tensor) -> Tensor:
    """``phase`` in radians, rounded to the nearest of the 2^b phases that the surface knows."""
    if scenario.phase_bits is None:
        return phase
    levels = 2**scenario.phase_bits
    return (phase * (levels / (2 * math.pi))).round() % levels * (2 * math.pi / levels)


def faulty_elements(scenario: Scenario) -> tuple[Tensor, Tensor]:
    """Which elements are faulty [N], bool, and what those reflect instead of their code [N], complex128: e^jψ if stuck,
    0 if dead.
    """
    rng = _still(scenario, "faulty elements")
    stuck, dead = scenario.stuck_elements, scenario.dead_elements
    order = torch.from_numpy(rng.permutation(scenario.ris_elements))
    reflection = phasors(to_surface_phases(scenario, torch.from_numpy(2 * math.pi * rng.random(scenario.ris_elements))))
    reflection[order[stuck : stuck + dead]] = 0
    faulty = torch.zeros(scenario.ris_elements, dtype=torch.bool)
    faulty[order[: stuck + dead]] = True
    return faulty, reflection


def _still(scenario: Scenario, purpose: str) -> np.random.Generator:
    """Random numbers of the site for one purpose, unrelated to those for any other."""
    return np.random.default_rng(np.random.SeedSequence(scenario.site_seed, spawn_key=tuple(purpose.encode())))
