"""A small network with its batches, and the loops of tests/loops, for tests that watch from within."""

import runpy
from pathlib import Path
from typing import Any

import torch
from torch import nn

LOOPS = Path(__file__).parent / "loops"


def network(dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 4))


def batches(count: int, size: int = 6, seed: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 8, generator=generator), torch.randint(4, (size,), generator=generator))
        for _ in range(count)
    ]


def run_loop(name: str) -> dict[str, Any]:
    """Run a loop of tests/loops in this process, and return its variables."""
    return runpy.run_path(str(LOOPS / f"{name}.py"), run_name="__main__")
