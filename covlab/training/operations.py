"""Count the operations that PyTorch runs, and those that make the host wait for the device; or forbid the latter."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "_linalg_check_errors", "masked_select", "_unique2")


class Operations(TorchDispatchMode):
    """Count the operations that run inside ``with``, by name, and their processor time in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, function: OpOverload, types: Sequence, args: Any = (), kwargs: Any = None) -> Any:
        began = time.process_time()
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        self.seconds[name] += time.process_time() - began
        self.calls[name] += 1
        return result

    @property
    def waits(self) -> int:
        """Number of operations that make the host wait for the device."""
        return sum(self.calls[name] for name in WAITING)


@contextmanager
def host_may_not_wait(device: str) -> Iterator[None]:
    """On CUDA, let PyTorch raise where the host waits for the device, also where it copies something to the host."""
    if device == "cpu":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
