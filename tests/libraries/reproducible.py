"""Seed a loop, and print a hash of what it trained: the same loop prints the same hash, also under the watch."""

import hashlib
import random

import numpy as np
import torch
from torch import Tensor, nn


def seed_everything(seed: int = 0) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)


def print_digest(*trained: nn.Module | Tensor) -> None:
    """Print a hash of all parameters and buffers, and of the random numbers that would come next."""
    tensors = [torch.get_rng_state()]
    for one in trained:
        tensors += [one] if isinstance(one, Tensor) else [value for _, value in sorted(one.state_dict().items())]
    digest = hashlib.sha256(repr((np.random.random(), random.random())).encode())
    for tensor in tensors:
        digest.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    print("digest", digest.hexdigest(), flush=True)
