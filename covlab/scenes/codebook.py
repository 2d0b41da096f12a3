"""The phase codes of the RIS, and its faulty elements."""

import math

import torch
from torch import Tensor

from covlab.scenes.geometry import phasors
from covlab.scenes.scenario import Scenario, fixed_random_numbers


def codebook(scenario: Scenario) -> Tensor | None:
    """Return the codes that a scene's L codes are chosen from, complex128; None if every scene draws random codes.

    "fixed": one set of L random codes [L, N]. "dft": the N columns of the two-dimensional DFT over rows and columns of
    the RIS [N, N]. They are orthogonal unless ``phase_bits`` is too small (a 4×4 RIS needs 2 bits).
    """
    if scenario.codebook == "random":
        return None
    if scenario.codebook == "fixed":
        shape = (scenario.snapshots, scenario.ris_elements)
        turns = torch.from_numpy(fixed_random_numbers(scenario, "codebook").random(shape))
    else:
        indices = (torch.arange(size, dtype=torch.float64) for size in (scenario.ris_rows, scenario.ris_columns))
        rows, columns = (torch.outer(index, index) / len(index) for index in indices)
        turns = (rows[:, None, :, None] + columns[None, :, None, :]).reshape(scenario.ris_elements, -1)
    return phasors(to_surface_phases(scenario, 2 * math.pi * turns))


def to_surface_phases(scenario: Scenario, phase: Tensor) -> Tensor:
    """Round ``phase`` in radians to the nearest of the RIS's 2^b phases; do nothing if ``phase_bits`` is None."""
    if scenario.phase_bits is None:
        return phase
    levels = 2**scenario.phase_bits
    return (phase * (levels / (2 * math.pi))).round() % levels * (2 * math.pi / levels)


def faulty_elements(scenario: Scenario) -> tuple[Tensor, Tensor]:
    """Return a mask of the faulty elements [N], and their reflection [N], complex128: e^jψ if stuck, 0 if dead."""
    rng = fixed_random_numbers(scenario, "faulty elements")
    stuck, dead = scenario.stuck_elements, scenario.dead_elements
    order = torch.from_numpy(rng.permutation(scenario.ris_elements))
    reflection = phasors(to_surface_phases(scenario, torch.from_numpy(2 * math.pi * rng.random(scenario.ris_elements))))
    reflection[order[stuck : stuck + dead]] = 0
    faulty = torch.zeros(scenario.ris_elements, dtype=torch.bool)
    faulty[order[: stuck + dead]] = True
    return faulty, reflection
