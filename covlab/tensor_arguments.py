"""What an argument may be that is a tensor, such as ``Annotated[Tensor, tensor("B N N", "complex")]``, or a device."""

from typing import Annotated, Any

import torch

from covlab.arguments import Allowed

KINDS = {
    "real": (torch.float32, torch.float64),
    "complex": (torch.complex64, torch.complex128),
    "whole": (torch.int32, torch.int64),
}
"""The dtypes of a tensor's numbers."""


def tensor(axes: str, kind: str = "real", finite: bool = False) -> Allowed:
    """A tensor with the named axes, as in "B N N", none of length 0. A digit is the length of an axis.

    kind: "real" (float32 or float64), "complex" (complex64 or complex128) or "whole" (integers).
    finite: refuse NaN and infinities. The host waits for the device to see them, so this is not for training.
    """
    names, kinds = tuple(axes.split()), KINDS[kind]

    def accepts(value: Any) -> bool:
        if not isinstance(value, torch.Tensor) or value.dtype not in kinds or value.ndim != len(names):
            return False
        lengths = dict(zip(names, value.shape, strict=True))  # the last of equal names
        fits = all(lengths[name] == length > 0 for name, length in zip(names, value.shape, strict=True))
        digits = all(length == int(name) for name, length in lengths.items() if name.isdigit())
        return fits and digits and not (finite and not value.isfinite().all())

    known = f"a {'finite ' if finite else ''}{kind} tensor [{', '.join(names)}]"
    return Allowed(known if kind != "whole" else f"a tensor of whole numbers [{', '.join(names)}]", accepts, names)


def _device_is_here(value: Any) -> bool:
    """Return whether PyTorch can make tensors on a device."""
    if not isinstance(value, str | torch.device):
        return False
    try:
        return torch.empty(0, device=value) is not None
    except (RuntimeError, AssertionError, NotImplementedError):  # the type depends on how torch was built
        return False


anywhere = Allowed("a device of this machine, or 'meta'", _device_is_here)
device = Allowed(
    "a device of this machine, such as 'cpu' or 'cuda'",
    lambda value: _device_is_here(value) and torch.device(value).type != "meta",
)

Device = Annotated[str | torch.device, device]
