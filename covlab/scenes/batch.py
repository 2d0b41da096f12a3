"""A batch of scenes: the four tensors that a network may read, and the truth."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import reduce

import torch
from torch import Tensor

CONTRACT = ("y", "H", "codes", "snr_db")
"""The tensors of a batch that a network may read."""


@dataclass(frozen=True)
class Batch:
    """B scenes: the four contract tensors a network may read, and the truth behind them.

    Real pairs stand at the border (last axis: real, imaginary part); complex numbers inside.
    Slots of absent sources (K < K_max) have power 0.
    """

    y: Tensor  #: snapshots at the BS [B, L, M, 2]
    H: Tensor  #: effective channel Ĝ c_l of each snapshot, as the receiver believes it [B, L, M, 2]
    codes: Tensor  #: RIS phase codes c_l, as asked for [B, L, N, 2]
    snr_db: Tensor  #: signal-to-noise ratio in dB [B]
    weight: Tensor  #: weight of each scene in any mean over scenes; 1 as drawn [B]
    noise_power: Tensor  #: σ² [B]
    azimuth: Tensor  #: φ in radians [B, K_max]
    elevation: Tensor  #: θ in radians [B, K_max]
    range_m: Tensor  #: r in metres [B, K_max]
    power: Tensor  #: source powers, such that tr(R) = N; so they sum to 1 where sources are uncorrelated [B, K_max]
    steering: Tensor  #: A, complex, ‖a_k‖² = N [B, N, K_max]
    #: W, complex, W Wᴴ the sources' correlation [B, K_max, K_max]; None: uncorrelated, W = I
    mixing: Tensor | None = None

    def __post_init__(self) -> None:
        scenes, snapshots, antennas = _shape_of("y", self.y, "[B, L, M, 2]")[:3]
        elements = _shape_of("codes", self.codes, "[B, L, N, 2]")[2]
        sources = _shape_of("power", self.power, "[B, K_max]")[1]
        expected: dict[str, tuple[int, ...]] = {
            "H": (scenes, snapshots, antennas, 2),
            "codes": (scenes, snapshots, elements, 2),
            "snr_db": (scenes,),
            "weight": (scenes,),
            "noise_power": (scenes,),
            "azimuth": (scenes, sources),
            "elevation": (scenes, sources),
            "range_m": (scenes, sources),
            "power": (scenes, sources),
            "steering": (scenes, elements, sources),
        }
        if self.mixing is not None:
            expected["mixing"] = (scenes, sources, sources)
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(
                    f"Batch.{name} must be {list(shape)} beside y {list(self.y.shape)}, got "
                    f"{list(getattr(self, name).shape)}"
                )

    def __len__(self) -> int:
        return self.y.shape[0]

    def __getitem__(self, scenes: slice | Tensor) -> "Batch":
        """The chosen scenes, by slice or by index tensor [b]."""
        return self._each(lambda tensor: tensor[scenes])

    def to(self, device: str | torch.device) -> "Batch":
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: function(tensor) for name, tensor in tensors.items() if tensor is not None})

    @property
    def source_count(self) -> Tensor:
        """K of each scene [B]."""
        return (self.power > 0).sum(dim=1)

    def factor(self) -> Tensor:
        """F = A diag(p)^½ W, so that R = F Fᴴ [B, N, K_max]."""
        factor = self.steering * self.power.sqrt().unsqueeze(1)
        return factor if self.mixing is None else factor @ self.mixing

    def covariance(self) -> Tensor:
        """R = A P Aᴴ, the population covariance at the RIS, trace N [B, N, N]."""
        factor = self.factor()
        return factor @ factor.mH


def _shape_of(name: str, tensor: Tensor, expected: str) -> torch.Size:
    if tensor.ndim != expected.count(",") + 1:
        raise ValueError(f"Batch.{name} must be {expected}, got {list(tensor.shape)}")
    return tensor.shape


def concatenate(batches: list[Batch]) -> Batch:
    """One batch of all the scenes of ``batches``, in order."""
    columns = {field.name: [getattr(batch, field.name) for batch in batches] for field in fields(Batch)}
    absent = [tensor is None for tensor in columns["mixing"]]
    if any(absent) != all(absent):
        raise ValueError("batches must all have correlated sources or none of them, got both")
    return Batch(**{name: torch.cat(tensors) for name, tensors in columns.items() if tensors[0] is not None})


def total_weight(window: Iterable[Batch]) -> Tensor:
    """The weights of all scenes of a window's micro-batches, added up: a scalar on their device []."""
    return reduce(torch.add, (micro_batch.weight.sum() for micro_batch in window))
