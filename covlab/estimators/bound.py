"""How well places can be estimated at all: the stochastic Cramér-Rao bound for coded snapshots."""

import torch
from torch import Tensor

from covlab.estimators.greedy import information
from covlab.estimators.likelihood import CodedSnapshots
from covlab.metrics import cartesian_positions
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import Scenario


def position_bound(batch: Batch, G: Tensor, scenario: Scenario) -> Tensor:
    """The least standard deviation in metres of an unbiased estimate of each source's place [B, K_max]; NaN for absent
    sources.

    The root of the trace of a place's block of F⁻¹ in Cartesian coordinates, F the Fisher information of all places and
    powers from L snapshots, y_l ~ CN(0, C_l), with K and σ² known (Stoica and Nehorai 1990 for snapshots of one
    covariance). Reads the truth, and knows nothing of the ranges the scenario draws from: for a far source the bound
    may be kilometres.

    Raises:
        ValueError: the scenario's waves are plane, and tell no range.
    """
    if not scenario.near_field:
        raise ValueError(
            f"scenario must have near_field on for places to be estimated, got '{scenario.name}' with plane waves"
        )
    scenes = CodedSnapshots(batch, G.to(torch.complex128), batch.noise_power)
    coordinates = torch.stack([batch.azimuth.sin(), batch.elevation.sin(), 1 / batch.range_m], dim=2).double()
    _, fisher, _ = information(scenes, scenario, coordinates, batch.power.double())
    absent = (batch.power == 0).repeat_interleave(4, dim=1)
    fisher = fisher + torch.diag_embed(absent.double())  # rows of zeros, otherwise
    scale = fisher.diagonal(dim1=1, dim2=2).rsqrt()
    covariance = (
        torch.linalg.inv(fisher * scale.unsqueeze(1) * scale.unsqueeze(2)) * scale.unsqueeze(1) * scale.unsqueeze(2)
    )
    blocks = torch.stack(
        [covariance[:, 4 * k : 4 * k + 3, 4 * k : 4 * k + 3] for k in range(batch.power.shape[1])], dim=1
    )
    slopes = torch.func.vmap(torch.func.jacfwd(_cartesian))(coordinates.flatten(0, 1)).unflatten(
        0, coordinates.shape[:2]
    )
    variance = (slopes @ blocks @ slopes.mT).diagonal(dim1=2, dim2=3).sum(dim=2)
    return torch.where(batch.power > 0, variance.sqrt().to(batch.power.dtype), torch.nan)


def _cartesian(coordinates: Tensor) -> Tensor:
    u, v, w = coordinates.unbind()
    return cartesian_positions(u.asin(), v.asin(), 1 / w)
