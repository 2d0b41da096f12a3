"""Draw random cases, and train a linear regression on them, for the exercises of several lessons."""

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]  # a micro-batch: inputs and targets


def integer(generator: torch.Generator, low: int, high: int) -> int:
    """Draw an integer from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def complex_normal(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.complex64) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=dtype)


def pairs(generator: torch.Generator, count: int) -> list[Pair]:
    """Draw micro-batches of four scenes each: inputs [4, 3] and targets [4]."""
    return [(torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator)) for _ in range(count)]


def mean_gradient(parameter: Tensor, micro_batches: list[Pair]) -> Tensor:
    """Return the gradient of the mean squared error over all scenes [3]."""
    inputs, targets = (torch.cat(parts) for parts in zip(*micro_batches, strict=True))
    return 2 * inputs.T @ (inputs @ parameter.detach() - targets) / len(targets)


def clip(gradient: Tensor, most: float) -> Tensor:
    """Shorten a gradient to the length ``most`` if it is longer."""
    return gradient * min(1.0, most / float(gradient.norm()))
