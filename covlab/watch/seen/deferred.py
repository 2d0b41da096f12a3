"""Read numbers from tensors later and together, so that no step waits for its device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from covlab.watch.seen.isolation import readable_tensor


@dataclass(slots=True, eq=False)
class DeferredNumber:
    """A number that may still be on its device; ``value`` is None until it has been read."""

    value: float | None = None


class DeferredReads:
    """Scalars and vectors that stay on their devices until all are read together, so many windows need one wait."""

    def __init__(self) -> None:
        self.scalars: list[tuple[Tensor, DeferredNumber]] = []
        self.failure_of_vectors: Exception | None = None
        self.vectors: list[tuple[Tensor, Callable[[list[int]], None]]] = []

    def __len__(self) -> int:
        return len(self.scalars) + len(self.vectors)

    def number(self, tensor: Tensor, number: DeferredNumber | None = None) -> DeferredNumber:
        """Return ``number`` (None: a new one), which gets the value of ``tensor`` [] or [1] at the next flush.

        Do not write into ``tensor`` until then. The value stays None if it cannot be read.
        """
        number = DeferredNumber() if number is None else number
        readable = readable_tensor(tensor)
        if readable is not None:
            self.scalars.append((readable, number))
        return number

    def vector(self, tensor: Tensor, receive: Callable[[list[int]], None]) -> None:
        """Call ``receive`` with the values of ``tensor`` [n] at the next flush."""
        self.vectors.append((tensor, receive))

    @torch.no_grad()
    def flush(self) -> None:
        """Wait for every device once and deliver all values."""
        scalars, self.scalars = self.scalars, []
        vectors, self.vectors = self.vectors, []
        for device in {tensor.device for tensor, _ in scalars}:
            there = [(tensor, number) for tensor, number in scalars if tensor.device == device]
            try:
                values = torch.stack([tensor.reshape(()).to(torch.float64) for tensor, _ in there]).tolist()
            except Exception:  # noqa: BLE001 - one tensor that cannot be read leaves the others alone
                values = [_read(tensor) for tensor, _ in there]
            for (_, number), value in zip(there, values, strict=True):
                number.value = value
        for tensor, receive in vectors:
            try:
                receive(tensor.tolist())
            except Exception as error:  # noqa: BLE001 - the other numbers are delivered
                self.failure_of_vectors = error


def _read(tensor: Tensor) -> float | None:
    try:
        return float(tensor)
    except Exception:  # noqa: BLE001 - the number stays unknown
        return None


def value_of(number: DeferredNumber | None) -> float | None:
    return None if number is None else number.value
