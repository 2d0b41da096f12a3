"""One row a window, kept on the device and brought to the host in blocks."""

import json
from pathlib import Path

import torch
from torch import Tensor


class Ledger:
    """What happened, window by window.

    ``append`` never waits for the device; ``flush`` waits once for all rows since the last flush.

    Args:
        path: a JSON-lines file that every flushed row is also written to; None keeps rows in memory only.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._pending: list[tuple[dict[str, float], list[str], Tensor]] = []

    def append(self, host: dict[str, float], device: dict[str, Tensor]) -> None:
        """A row of numbers known on the host and of scalar tensors still on their way."""
        self._pending.append((host, list(device), torch.stack([value.double() for value in device.values()])))

    @property
    def pending(self) -> int:
        """Rows appended since the last flush."""
        return len(self._pending)

    def flush(self) -> list[dict[str, float]]:
        """Bring the pending rows to the host (one synchronization); returns these rows."""
        if not self._pending:
            return []
        values = torch.stack([row for _, _, row in self._pending]).tolist()
        fresh = [host | dict(zip(names, row, strict=True)) for (host, names, _), row in zip(self._pending, values, strict=True)]
        self._pending.clear()
        self.rows += fresh
        if self.path is not None:
            with self.path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in fresh)
        return fresh

    def columns(self) -> dict[str, list[float]]:
        """{column: values}, as ``pandas.DataFrame`` takes it. A column a row lacks is NaN there."""
        self.flush()
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name, float("nan")) for row in self.rows] for name in names}
