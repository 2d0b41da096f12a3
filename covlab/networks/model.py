"""Snapshots in, covariance out: the networks, and the estimate they return.

Networks read only the four contract tensors of a batch. Real layers may run in half precision under autocast. Complex
tensors stay complex64, and complex parameters are stored as real pairs, because a ``GradScaler`` refuses complex ones.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from covlab.arguments import Size, checked, described, number
from covlab.networks.source_grid import DictionaryEstimate, FactoredEstimate, squared_norm, trace
from covlab.scenes.batch import check_shapes
from covlab.scenes.channel import believed_channel
from covlab.scenes.scenario import Scenario

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class Estimate(FactoredEstimate):
    """An estimate R̂ = F Fᴴ + εI, kept as its factors: Hermitian and positive definite by construction."""

    factor: Tensor  #: F, complex [B, N, r]
    loading: Tensor  #: ε > 0 [B]
    source_logits: Tensor | None = None  #: logits of K = 1 … K_max [B, K_max]; None if the network has no such output
    positions: Tensor | None = None  #: (φ, θ, log r) of each source, in any order [B, K_max, 3]; None as above
    unblended: "Estimate | None" = None  #: the network's own R_pred, if this estimate is a blend
    #: estimates of the earlier stages of a network with stages
    stages: "tuple[Estimate | DictionaryEstimate, ...]" = ()

    @property
    def axis_lengths(self) -> dict[str, int]:
        return {"B": self.factor.shape[0], "N": self.factor.shape[1]}

    @property
    def device(self) -> torch.device:
        return self.factor.device

    @property
    def prediction(self) -> "Estimate":
        """R_pred, the network's estimate before any blend."""
        return self.unblended or self

    def blend(self, snapshots: Tensor, share: float) -> "Estimate":
        """Return R̂ = (1 - β) R_pred + β R_samp with β = ``share``, both scaled to trace N first.

        ``snapshots`` [B, N, L] are estimates of x_l at the RIS; R_samp is their sample covariance.
        """
        N = self.factor.shape[1]
        own = (1 - share) * N / self.trace_and_norm[0]
        sample = share * N / squared_norm(snapshots)
        factors = [self.factor * own.sqrt().view(-1, 1, 1), snapshots * sample.sqrt().view(-1, 1, 1)]
        return replace(self, factor=torch.cat(factors, dim=2), loading=own * self.loading, unblended=self)

    def covariance(self) -> Tensor:
        """Form R̂ [B, N, N]."""
        identity = torch.eye(self.factor.shape[1], device=self.factor.device)
        return self.factor @ self.factor.mH + self.loading.view(-1, 1, 1) * identity

    def signal_moments(self) -> tuple[int, Tensor, Tensor]:
        """Return N, tr(F Fᴴ) [B] and ‖F Fᴴ‖²_F [B], from the small Gram matrix FᴴF."""
        gram = self.factor.mH @ self.factor
        return self.factor.shape[1], trace(gram), squared_norm(gram)

    def signal_inner(self, truth: Tensor) -> Tensor:
        """Return ⟨F Fᴴ, T Tᴴ⟩ = ‖FᴴT‖²_F for T = ``truth``."""
        return squared_norm(self.factor.mH @ truth)


def check_contract(scenario: Scenario, y: Tensor, H: Tensor, codes: Tensor, snr_db: Tensor) -> None:
    """Check the four contract tensors: y, H [B, L, M, 2], codes [B, L, N, 2], snr_db [B], sizes as in ``scenario``.

    Raises:
        ValueError: a tensor has another shape, is not float32, or is on another device than y.
    """
    tensors = {"y": y, "H": H, "codes": codes, "snr_db": snr_db}
    sizes = {"L": scenario.snapshots, "M": scenario.bs_antennas, "N": scenario.ris_elements}
    check_shapes(tensors, sizes, context=f" for scenario '{scenario.name}'")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be torch.float32, got {tensor.dtype}")
        if tensor.device != y.device:
            raise ValueError(f"{name} must be on {y.device}, like y, got {described(tensor)}")


class Network(nn.Module):
    """A network for one scenario, with a head that may have its own learning rate."""

    scenario: Scenario
    head: nn.Module

    @property
    def axis_lengths(self) -> dict[str, int]:
        return self.scenario.axis_lengths

    def check(self, y: Tensor, H: Tensor, codes: Tensor, snr_db: Tensor) -> None:
        """Check the contract tensors, and that this network is in single precision and on their device.

        Raises:
            ValueError: a tensor does not fit, see :func:`check_contract`, or the network has other parameters.
        """
        check_contract(self.scenario, y, H, codes, snr_db)
        own = next(self.parameters())
        if own.dtype != torch.float32 or own.device != y.device:
            raise ValueError(
                f"the network must be torch.float32 on {y.device}, like y, got {own.dtype} on {own.device}"
            )


def start_small(layer: Layer) -> Layer:
    """Scale the weights by 0.1 and clear the bias, so that an untrained layer adds little."""
    with torch.no_grad():
        layer.weight.mul_(0.1)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


class EstimateHead(nn.Module):
    """Map features [B, features] to an :class:`Estimate`. Before training, it is near the scaled identity."""

    def __init__(self, features: int, scenario: Scenario, rank: int):
        super().__init__()
        self.factor_shape = (scenario.ris_elements, rank, 2)
        self.sizes = [2 * scenario.ris_elements * rank, 1, scenario.max_sources, 3 * scenario.max_sources]
        self.linear = start_small(nn.Linear(features, sum(self.sizes)))

    def forward(self, features: Tensor) -> Estimate:
        factor, loading, source_logits, positions = self.linear(features).float().split(self.sizes, dim=1)
        pairs = factor.unflatten(1, self.factor_shape)
        return Estimate(
            torch.complex(pairs[..., 0], pairs[..., 1]),
            F.softplus(loading.squeeze(1)),
            source_logits,
            positions.unflatten(1, (-1, 3)),
        )


class BackProjectionNet(Network):
    """Back-project the snapshots, apply learned beams, square, average over snapshots, and predict the factors of R.

    R is a second-order quantity of the snapshots, so the beams are squared. The product with conj(c_l) must come before
    the beams, because random codes scramble the phases of y.

    Args:
        scenario: sizes, and the channel Ĝ that the receiver knows.
        beams: number C of learned beams.
        width: width of the two hidden layers.
        rank: r of the predicted factor.
        blend: β, the share of the back-projected sample covariance in the final estimate.

    Raises:
        ValueError: an argument is not what its annotation allows, or the scenario has a new channel in every scene.
    """

    back_projection: Tensor

    @checked
    def __init__(
        self,
        scenario: Scenario,
        beams: Size = 256,
        width: Size = 512,
        rank: Size = 16,
        blend: Annotated[float, number(least=0, below=1)] = 0.0,
    ):
        super().__init__()
        self.scenario, self.width, self.blend = scenario, width, blend
        G = believed_channel(scenario)
        # The matrix of the regularized least-squares estimate of diag(c_l) x_l from y_l.
        back_projection = G.mH @ torch.linalg.inv(G @ G.mH + 0.1 * torch.eye(scenario.bs_antennas))
        self.register_buffer("back_projection", torch.view_as_real(back_projection.to(torch.complex64)))
        self.beams = nn.Parameter(torch.randn(beams, scenario.ris_elements, 2) / math.sqrt(2 * scenario.ris_elements))
        first = (nn.Linear(beams + 1, width), nn.LayerNorm(width), nn.GELU())
        self.backbone = nn.Sequential(*first, nn.Linear(width, width), nn.LayerNorm(width), nn.GELU())
        self.head = EstimateHead(width, scenario, rank)

    def forward(self, y: Tensor, H: Tensor, codes: Tensor, snr_db: Tensor) -> Estimate:
        """y [B, L, M, 2], H [B, L, M, 2] (unused: Ĝ is known), codes [B, L, N, 2], snr_db [B]."""
        self.check(y, H, codes, snr_db)
        y, codes = torch.view_as_complex(y), torch.view_as_complex(codes)
        x = codes.conj() * (y @ torch.view_as_complex(self.back_projection).T)  # [B, L, N]
        power = beam_powers(x, torch.view_as_complex(self.beams))
        power = power / power.mean(dim=1, keepdim=True)
        features = torch.cat([power - 1, snr_db.unsqueeze(1) / 10], dim=1)
        estimate = self.head(self.backbone(features))
        return estimate.blend(x.mT, self.blend) if self.blend else estimate


def beam_powers(snapshots: Tensor, beams: Tensor) -> Tensor:
    """Return (1/L) Σ_l |b_cᵀx_l|² of complex snapshots x_l [B, L, N] and beams b_c [C, N] -> [B, C]."""
    L, N = snapshots.shape[1:]
    if N > 2 * L:
        return torch.view_as_real(snapshots @ beams.T).square().sum(dim=-1).mean(dim=1)
    # With few elements, half the time: the inner product of b bᴴ with the sample covariance, and no [B, L, C].
    sample = (snapshots.mH @ snapshots / L).flatten(1)
    products = (beams.unsqueeze(2) * beams.conj().unsqueeze(1)).flatten(1)
    with torch.autocast(snapshots.device.type, enabled=False):  # it would round these real numbers, not complex ones
        return torch.view_as_real(sample).flatten(1) @ torch.view_as_real(products).flatten(1).T


class SnapshotConvNet(Network):
    """The network of the reviewed pipeline: separate convolutions along the snapshots of y, H and the codes.

    Each branch takes its tensor as a sequence of L snapshots [B, 2·M or 2·N, L]: pointwise → depthwise → pointwise
    convolutions with GELU, then the mean over snapshots. The network never multiplies y with conj(codes).
    """

    @checked
    def __init__(self, scenario: Scenario, channels: Size = 64, width: Size = 256, rank: Size = 16):
        super().__init__()
        self.scenario, self.width = scenario, width
        M, N = scenario.bs_antennas, scenario.ris_elements
        self.y_branch = _snapshot_branch(2 * M, channels)
        self.H_branch = _snapshot_branch(2 * M, channels)
        self.codes_branch = _snapshot_branch(2 * N, channels)
        self.backbone = nn.Sequential(nn.Linear(3 * channels + 1, width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        self.head = EstimateHead(width, scenario, rank)

    def forward(self, y: Tensor, H: Tensor, codes: Tensor, snr_db: Tensor) -> Estimate:
        """y [B, L, M, 2], H [B, L, M, 2], codes [B, L, N, 2], snr_db [B]."""
        self.check(y, H, codes, snr_db)
        branches = ((self.y_branch, y), (self.H_branch, H), (self.codes_branch, codes))
        features = [branch(tensor.flatten(2).mT).mean(dim=2) for branch, tensor in branches]
        return self.head(self.backbone(torch.cat([*features, snr_db.unsqueeze(1) / 10], dim=1)))


def _snapshot_branch(inputs: int, channels: int) -> nn.Sequential:
    pointwise, depthwise = nn.Conv1d(inputs, channels, 1), nn.Conv1d(channels, channels, 3, padding=1, groups=channels)
    return nn.Sequential(pointwise, nn.GELU(), depthwise, nn.GELU(), nn.Conv1d(channels, channels, 1), nn.GELU())
