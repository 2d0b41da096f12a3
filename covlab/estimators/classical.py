"""Estimators of R without a grid: constants, and the sample covariance of back-projected snapshots.

Call them with a batch and the channel G [M, N]; they read only the four contract tensors of the batch. The scale of y
changes only the scale of R̂, and scenes do not affect each other.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import Seed, checked
from covlab.networks.model import Estimate
from covlab.scenes.batch import Batch, check_finite
from covlab.scenes.scenario import Scenario
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.tensor_arguments import tensor

PRIOR_SCENES = 4096
"""Scenes that the mean covariance is computed from."""


Channel = Annotated[Tensor, tensor("M N", "complex", finite=True)]
Snapshots = Annotated[Tensor, tensor("B N L", "complex")]


def snr(batch: Batch) -> Tensor:
    """Return the signal-to-noise ratio as a plain ratio, not in dB [B]."""
    return 10 ** (batch.snr_db / 10)


def noise_power(batch: Batch) -> Tensor:
    """Return σ̂² = mean |y|² / (1 + SNR) [B], since the expected power of y is (1 + SNR) σ².

    The mean over L snapshots varies with their symbols: by a quarter for one source, 16 snapshots and no noise.
    """
    return batch.y.square().sum(dim=3).mean(dim=(1, 2)) / (1 + snr(batch))


@checked
def back_project(batch: Batch, G: Channel) -> Tensor:
    """Estimate x_l at the RIS: x̂_l = diag(c_l)ᴴ Gᴴ (G Gᴴ + ρ I)⁻¹ y_l [B, N, L].

    With the ridge ρ = ‖G‖²_F / (M · SNR) it is the linear estimate of least mean squared error for white x_l.
    """
    check_finite(batch)
    y, codes = torch.view_as_complex(batch.y), torch.view_as_complex(batch.codes)
    gram, antennas = G @ G.mH, G.shape[0]
    ridge = gram.diagonal().real.mean() / snr(batch)
    inverse = torch.linalg.inv(gram + ridge.view(-1, 1, 1) * torch.eye(antennas, device=G.device))
    return (codes.conj() * (y @ (G.mH @ inverse).mT)).mT


@checked
def scaled_identity(batch: Batch, G: Channel) -> Estimate:
    """Return R̂ = I for every scene: the baseline that has learned nothing."""
    factor = torch.zeros(len(batch), G.shape[1], 1, dtype=G.dtype, device=G.device)
    return Estimate(factor, torch.ones_like(batch.snr_db))


class MeanCovariance:
    """R̂ = mean of R over ``PRIOR_SCENES`` scenes of the scenario, the best estimate that ignores the snapshots."""

    @checked
    def __init__(self, scenario: Scenario, seed: Seed = 0):
        factor = Simulator(scenario, dtype=torch.complex128).draw(PRIOR_SCENES, scene_generator(seed, "prior")).factor()
        columns = factor.movedim(1, 0).flatten(1)
        values, vectors = torch.linalg.eigh(columns @ columns.mH / PRIOR_SCENES)
        self.factor = vectors * values.clamp(min=0).sqrt()  # [N, N]

    @property
    def axis_lengths(self) -> dict[str, int]:
        return {"N": len(self.factor)}

    @checked
    def __call__(self, batch: Batch, G: Channel) -> Estimate:
        factor = self.factor.to(G).expand(len(batch), -1, -1)
        return Estimate(factor, torch.zeros_like(batch.snr_db))


@checked
def sample_covariance(batch: Batch, G: Channel) -> Estimate:
    """Return R̂ = (1/L) Σ x̂_l x̂_lᴴ of the back-projected snapshots. At ``full`` size it is worse than the identity."""
    snapshots = back_project(batch, G)
    return Estimate(snapshots / snapshots.shape[2] ** 0.5, torch.zeros_like(batch.snr_db))


@checked
def ledoit_wolf(batch: Batch, G: Channel) -> Estimate:
    """Return the sample covariance of back-projected snapshots, shrunk to the identity as in Ledoit and Wolf (2004)."""
    return _shrunk(back_project(batch, G), ledoit_wolf_share)


@checked
def oas(batch: Batch, G: Channel) -> Estimate:
    """Return the same, shrunk by the oracle-approximating share (Chen, Wiesel, Eldar and Hero 2010)."""
    return _shrunk(back_project(batch, G), oas_share)


@checked
def ledoit_wolf_share(snapshots: Snapshots) -> Tensor:
    """Return ρ = min(1, (1/L²) Σ_l ‖x_l x_lᴴ − S‖² / ‖S − μI‖²) for zero-mean snapshots [B, N, L] -> [B].

    From Ledoit and Wolf (2004); the formula is the same for real and complex data.
    """
    N, L = snapshots.shape[1:]
    trace, square = _moments(snapshots)
    fourth = snapshots.abs().square().sum(dim=1).square().sum(dim=1)
    return ((fourth / L - square) / L / (square - trace**2 / N)).clamp(0, 1)


@checked
def oas_share(snapshots: Snapshots) -> Tensor:
    """Return ρ = min(1, (tr²S − tr(S²)/N) / ((L − 1/N) (tr(S²) − tr²S/N))) for zero-mean snapshots [B, N, L] -> [B].

    It is the fixed point of the oracle share when Σ is replaced by its own estimate. Chen et al. derive the real case.
    This is their derivation with the moments of a complex Gaussian, E tr(S²) = tr(Σ²) + tr²Σ/L and E tr²S = tr²Σ +
    tr(Σ²)/L.
    """
    N, L = snapshots.shape[1:]
    trace, square = _moments(snapshots)
    return ((trace**2 - square / N) / ((L - 1 / N) * (square - trace**2 / N))).clamp(max=1)


def _moments(snapshots: Tensor) -> tuple[Tensor, Tensor]:
    """Return tr S and tr(S²) of the sample covariance S [B] each; ‖S − μI‖² is tr(S²) − tr²S/N."""
    gram = snapshots.mH @ snapshots / snapshots.shape[2]
    return gram.diagonal(dim1=1, dim2=2).real.sum(dim=1), gram.abs().square().sum(dim=(1, 2))


def _shrunk(snapshots: Tensor, share_of: Callable[[Tensor], Tensor]) -> Estimate:
    (N, L), share = snapshots.shape[1:], share_of(snapshots)
    mean = snapshots.abs().square().sum(dim=1).mean(dim=1) / N
    return Estimate(snapshots * ((1 - share) / L).sqrt().view(-1, 1, 1), share * mean)
