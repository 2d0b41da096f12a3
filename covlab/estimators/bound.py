"""The stochastic Cramér-Rao bound for the positions of sources behind coded snapshots."""

import torch
from torch import Tensor

from covlab.arguments import checked
from covlab.estimators.classical import Channel
from covlab.estimators.greedy import information
from covlab.estimators.grid import coordinates_of
from covlab.estimators.likelihood import CodedSnapshots
from covlab.metrics import cartesian_positions
from covlab.scenes.batch import Batch, check_finite
from covlab.scenes.scenario import Scenario


@checked
def position_bound(batch: Batch, G: Channel, scenario: Scenario) -> Tensor:
    """Bound the standard deviation of unbiased position estimates, in metres [B, K_max]; NaN for absent sources.

    The bound is the root of the trace of a position's block of F⁻¹, in Cartesian coordinates. F is the Fisher
    information of all positions and powers from L snapshots y_l ~ CN(0, C_l), with K and σ² known (Stoica and Nehorai
    1990 for snapshots of one covariance). The bound reads the truth. It ignores the ranges that the scenario draws
    from, so for a far source it may be kilometres.

    Raises:
        ValueError: the scenario has plane waves, which carry no range.
    """
    if not scenario.near_field:
        raise ValueError(f"scenario must have near_field=True to bound positions, got '{scenario.name}' without")
    check_finite(batch, ("power", "noise_power", "azimuth", "elevation", "range_m"))
    scenes = CodedSnapshots(batch, G.to(torch.complex128), batch.noise_power)
    coordinates, sources = coordinates_of(batch).double(), batch.power.shape[1]
    _, fisher, _ = information(scenes, scenario, coordinates, batch.power.double())
    absent = (batch.power == 0).repeat_interleave(4, dim=1)
    fisher = fisher + torch.diag_embed(absent.double())  # so that F has an inverse
    scale = fisher.diagonal(dim1=1, dim2=2).rsqrt()
    row, column = scale.unsqueeze(1), scale.unsqueeze(2)
    covariance = torch.linalg.inv(fisher * row * column) * row * column
    blocks = torch.stack([covariance[:, k : k + 3, k : k + 3] for k in range(0, 4 * sources, 4)], dim=1)
    slopes = torch.func.vmap(torch.func.jacfwd(_cartesian))(coordinates.flatten(0, 1)).unflatten(0, (-1, sources))
    variance = (slopes @ blocks @ slopes.mT).diagonal(dim1=2, dim2=3).sum(dim=2)
    return torch.where(batch.power > 0, variance.sqrt().to(batch.power.dtype), torch.nan)


def _cartesian(coordinates: Tensor) -> Tensor:
    u, v, w = coordinates.unbind()
    return cartesian_positions(u.asin(), v.asin(), 1 / w)
