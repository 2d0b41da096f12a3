"""The channel G between the RIS and the base station, and the receiver's version Ĝ of it."""

import math

import numpy as np
import torch
from torch import Tensor

from covlab.arguments import checked
from covlab.scenes.geometry import phasors, ris_positions
from covlab.scenes.scenario import Scenario, fixed_random_numbers

SCATTERER_RANGE_M = (1.0, 8.0)
"""Least and greatest distance of a scatterer from the RIS."""


@checked
def site_channel(scenario: Scenario) -> Tensor:
    """Return G, the fixed channel from RIS to BS [M, N], complex128, mean |G|² = 1/N.

    G is the sum of the line of sight to a uniform linear BS array, and of fixed point scatterers of complex gain
    CN(0, 1). Every path is a spherical wave, and the Rician factor κ weights the two parts. The scatterers depend only
    on ``scenario.site_seed`` and their number, not on the sizes of the arrays.

    Raises:
        ValueError: the scenario has a new channel in every scene.
    """
    if scenario.site != "fixed":
        raise ValueError(f"scenario.site must be 'fixed' for a known channel G, got {scenario.site!r}")
    rng = np.random.default_rng(scenario.site_seed)
    bearings = rng.standard_normal((scenario.scatterers, 3))
    distances = rng.uniform(*SCATTERER_RANGE_M, (scenario.scatterers, 1))
    gains = rng.standard_normal((scenario.scatterers, 2))
    return channel_of_scatterers(scenario, *map(torch.from_numpy, (bearings, distances, gains)))


def fresh_site_channels(scenario: Scenario, count: int, generator: torch.Generator) -> Tensor:
    """Draw G of ``count`` sites with different scatterers, as in :func:`site_channel` [count, M, N], complex128."""
    shape, device = (count, scenario.scatterers), generator.device
    bearings = torch.randn(*shape, 3, generator=generator, device=device, dtype=torch.float64)
    near, far = SCATTERER_RANGE_M
    distances = near + (far - near) * torch.rand(*shape, 1, generator=generator, device=device, dtype=torch.float64)
    gains = torch.randn(*shape, 2, generator=generator, device=device, dtype=torch.float64)
    return channel_of_scatterers(scenario, bearings, distances, gains)


def channel_of_scatterers(scenario: Scenario, bearings: Tensor, distances: Tensor, gains: Tensor) -> Tensor:
    """Return G [..., M, N] for scatterers in the directions of ``bearings`` [..., S, 3], at ``distances`` [..., S, 1].

    Distances are in metres; ``gains`` [..., S, 2] are real pairs. The line of sight and the scattered part each have
    mean |G|² = 1/N before κ weights them.
    """
    M, device = scenario.bs_antennas, bearings.device
    bearings = torch.cat([bearings[..., :1].abs(), bearings[..., 1:]], dim=-1)
    scatterers = bearings / torch.linalg.vector_norm(bearings, dim=-1, keepdim=True) * distances
    elements = ris_positions(scenario).to(device)
    antennas = torch.zeros(M, 3, dtype=torch.float64, device=device)
    antennas[:, 1] = scenario.spacing_m * (torch.arange(M, device=device) - (M - 1) / 2)
    antennas += torch.tensor([4.0, -3.0, 1.0], dtype=torch.float64, device=device)

    def wave(distance: Tensor) -> Tensor:
        return phasors(-scenario.wavenumber * distance)

    line_of_sight = wave(torch.cdist(antennas, elements))
    to_antennas, to_elements = wave(torch.cdist(antennas, scatterers)), wave(torch.cdist(scatterers, elements))
    scattered = (to_antennas * torch.view_as_complex(gains).unsqueeze(-2)) @ to_elements
    balance = math.tanh(scenario.rician_factor_db * math.log(10) / 20)  # (κ - 1) / (κ + 1), also for ±inf dB

    def scaled(share: float, path: Tensor) -> Tensor:
        level = path.abs().square().mean(dim=(-2, -1), keepdim=True).sqrt()
        return math.sqrt(share / scenario.ris_elements) * path / level

    return scaled((1 + balance) / 2, line_of_sight) + scaled((1 - balance) / 2, scattered)


@checked
def believed_channel(scenario: Scenario) -> Tensor:
    """Return Ĝ, the channel that the receiver and its estimators use for G [M, N], complex128.

    Ĝ = G + E. E is fixed like G, has independent complex normal entries, and is scaled so that its relative power
    ‖E‖²_F / ‖G‖²_F is exactly ``scenario.calibration_error_db``.

    Raises:
        ValueError: the scenario has a new channel in every scene.
    """
    G = site_channel(scenario)
    error = fixed_random_numbers(scenario, "calibration").standard_normal((*G.shape, 2))
    return miscalibrated(scenario, G, torch.view_as_complex(torch.from_numpy(error)))


def miscalibrated(scenario: Scenario, G: Tensor, error: Tensor) -> Tensor:
    """Return G plus ``error``, scaled to ``scenario.calibration_error_db`` (None: G itself): both [..., M, N]."""
    if scenario.calibration_error_db is None:
        return G
    scale = 10 ** (scenario.calibration_error_db / 20) * torch.linalg.matrix_norm(G) / torch.linalg.matrix_norm(error)
    return G + scale[..., None, None] * error
