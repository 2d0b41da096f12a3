"""A batch of scenes: the four tensors that a network may read, and the truth."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import Allowed, checked, described
from covlab.tensor_arguments import KINDS, anywhere

CONTRACT = ("y", "H", "codes", "snr_db")
"""The tensors of a batch that a network may read."""

AXES = {"y": "B L M 2", "H": "B L M 2", "codes": "B L N 2", "steering": "B N K_max", "mixing": "B K_max K_max"}
AXES |= dict.fromkeys(("snr_db", "weight", "noise_power"), "B")
AXES |= dict.fromkeys(("azimuth", "elevation", "range_m", "power"), "B K_max")
"""The axes of each tensor of a batch: B scenes, L snapshots, M antennas, N elements, up to K_max sources."""

Scenes = Allowed(
    "a slice, or an index tensor [b] of whole numbers or truth values",
    lambda value: (
        isinstance(value, slice)
        or (isinstance(value, Tensor) and value.ndim == 1 and value.dtype in (torch.int64, torch.int32, torch.bool))
    ),
)


@dataclass(frozen=True)
class Batch:
    """B scenes: the four contract tensors that a network may read, and the truth behind them.

    Contract tensors hold complex numbers as real pairs (last axis: real part, imaginary part). If a scene has fewer
    than K_max sources, the absent ones have power 0.

    Raises:
        ValueError: a tensor's shape, kind of numbers or device does not fit the others; the message names the tensor.
    """

    y: Tensor  #: snapshots at the BS [B, L, M, 2]
    H: Tensor  #: effective channel Ĝ c_l of each snapshot, as the receiver knows it [B, L, M, 2]
    codes: Tensor  #: RIS phase codes c_l, as asked for [B, L, N, 2]
    snr_db: Tensor  #: signal-to-noise ratio in dB [B]
    weight: Tensor  #: weight of each scene in any mean over scenes; 1 as drawn [B]
    noise_power: Tensor  #: σ² [B]
    azimuth: Tensor  #: φ in radians [B, K_max]
    elevation: Tensor  #: θ in radians [B, K_max]
    range_m: Tensor  #: r in metres [B, K_max]
    power: Tensor  #: source powers, such that tr(R) = N: they sum to 1 if sources are uncorrelated [B, K_max]
    steering: Tensor  #: A, complex, ‖a_k‖² = N [B, N, K_max]
    #: W, complex, where W Wᴴ is the sources' correlation [B, K_max, K_max]; None: uncorrelated, W = I
    mixing: Tensor | None = None

    def __post_init__(self) -> None:
        tensors = {name: getattr(self, name) for name in AXES}
        given = {name: tensor for name, tensor in tensors.items() if tensor is not None or name != "mixing"}
        check_shapes(given, {}, "Batch.")
        for name, tensor in given.items():
            kind = "complex" if name in ("steering", "mixing") else "real"
            if tensor.dtype not in KINDS[kind]:
                raise ValueError(f"Batch.{name} must be a {kind} tensor, got {described(tensor)}")
            if tensor.device != self.y.device:
                raise ValueError(f"Batch.{name} must be on {self.y.device}, like y, got {described(tensor)}")

    def __len__(self) -> int:
        return self.y.shape[0]

    @property
    def axis_lengths(self) -> dict[str, int]:
        (B, L, M, _), N, K = self.y.shape, self.codes.shape[2], self.power.shape[1]
        return {"B": B, "L": L, "M": M, "N": N, "K_max": K}

    @property
    def device(self) -> torch.device:
        return self.y.device

    @checked
    def __getitem__(self, scenes: Annotated[slice | Tensor, Scenes]) -> "Batch":
        """Return the chosen scenes, by slice or by index tensor [b]."""
        return self._each(lambda tensor: tensor[scenes])

    @checked
    def to(self, device: Annotated[str | torch.device, anywhere]) -> "Batch":
        return self._each(lambda tensor: tensor.to(device))

    def _each(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return Batch(**{name: function(tensor) for name, tensor in tensors.items() if tensor is not None})

    @property
    def source_count(self) -> Tensor:
        """K of each scene [B]."""
        return (self.power > 0).sum(dim=1)

    def factor(self) -> Tensor:
        """Return F = A diag(p)^½ W, so that R = F Fᴴ [B, N, K_max]."""
        factor = self.steering * self.power.sqrt().unsqueeze(1)
        return factor if self.mixing is None else factor @ self.mixing

    def covariance(self) -> Tensor:
        """Return R = A P Aᴴ, the population covariance at the RIS, of trace N [B, N, N]."""
        factor = self.factor()
        return factor @ factor.mH


def check_shapes(tensors: Mapping[str, Tensor], sizes: Mapping[str, int], prefix: str = "", context: str = "") -> None:
    """Check that tensors of a batch, {name: tensor}, have the axes of ``AXES``; ``sizes`` holds known lengths of axes.

    Raises:
        ValueError: a tensor has other axes, or another length of an axis than ``sizes`` or an earlier tensor.
    """
    known = {"2": 2, **sizes}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"{prefix}{name} must be a tensor [{', '.join(AXES[name].split())}], got {described(tensor)}"
            )
        axes, shape = AXES[name].split(), list(tensor.shape)
        if len(axes) == len(shape):
            known = dict(zip(axes, shape, strict=True)) | known
        expected = [known.get(axis, axis) for axis in axes]
        if shape != expected:
            raise ValueError(f"{prefix}{name} must be [{', '.join(axes)}] = {expected}{context}, got {shape}")


def check_finite(batch: Batch, names: tuple[str, ...] = CONTRACT) -> None:
    """Refuse NaN and infinities in these tensors of ``batch``. The host waits for the device, so not in training."""
    for name in names:
        if bad := (~getattr(batch, name).isfinite()).sum().item():
            total = getattr(batch, name).numel()
            raise ValueError(f"batch.{name} must be finite, got {bad} of {total} numbers that are not")


@checked
def concatenate(batches: list[Batch]) -> Batch:
    """Return one batch with all scenes of ``batches``; ValueError if only some have correlated sources."""
    sizes = [(*list(batch.axis_lengths.values())[1:], str(batch.device)) for batch in batches]
    if len({*sizes}) > 1:
        raise ValueError(f"batches must all have the same L, M, N, K_max and device, got {sorted({*sizes})}")
    columns = {field.name: [getattr(batch, field.name) for batch in batches] for field in fields(Batch)}
    absent = [tensor is None for tensor in columns["mixing"]]
    if any(absent) != all(absent):
        raise ValueError("batches must all have correlated sources or none of them, got both")
    return Batch(**{name: torch.cat(tensors) for name, tensors in columns.items() if tensors[0] is not None})


def total_weight(window: Iterable[Batch]) -> Tensor:
    """Return the sum of the weights of all scenes of a window's micro-batches [], on their device."""
    return reduce(torch.add, (micro_batch.weight.sum() for micro_batch in window))
