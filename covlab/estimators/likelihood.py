"""The likelihood of coded snapshots: y_l ~ CN(0, C_l), C_l = G diag(c_l) R diag(c_l)ᴴ Gᴴ + σ²I.

Each snapshot has its own covariance, so a sample covariance cannot replace the data. With R = A diag(p) Aᴴ, C_l is
Σ_k p_k d_lk d_lkᴴ + σ²I, where d_lk = G diag(c_l) a_k is the response of snapshot l to a source at position k.
"""

import math
from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import checked
from covlab.estimators.classical import Channel, noise_power
from covlab.scenes.batch import Batch, check_finite
from covlab.tensor_arguments import tensor

RESPONSES_AT_ONCE = 2**22
"""How many complex numbers a tensor of responses may hold. Larger batches are processed in pieces."""


class CodedSnapshots:
    """The data of B scenes that their likelihood needs, in the precision of ``G``.

    Args:
        noise: σ² [B]; None: estimated by :func:`covlab.estimators.classical.noise_power`.

    Raises:
        ValueError: ``G`` does not fit the batch, or a snapshot is not finite.
    """

    @checked
    def __init__(
        self,
        batch: Batch,
        G: Channel,
        noise: Annotated[Tensor | None, tensor("B").or_none("an estimate")] = None,
    ):
        check_finite(batch)
        self.y = torch.view_as_complex(batch.y).to(G.dtype).unsqueeze(-1)  # [B, L, M, 1]
        self.channels = G * torch.view_as_complex(batch.codes).unsqueeze(2)  # G diag(c_l) [B, L, M, N]
        self.noise = (noise_power(batch) if noise is None else noise).to(G.real.dtype)  # [B]
        self.eye = torch.eye(G.shape[0], dtype=G.dtype, device=G.device)

    def __len__(self) -> int:
        return self.y.shape[0]

    @property
    def power(self) -> Tensor:
        """Mean power of the snapshots without noise, SNR · σ̂² [B]."""
        return self.y.abs().square().mean(dim=(1, 2, 3)) - self.noise

    def responses(self, steering: Tensor) -> Tensor:
        """Return the responses d_lk to sources with ``steering`` vectors [N, A] or [B, N, A] -> [B, L, M, A]."""
        B, L, M, N = self.channels.shape
        return (self.channels.view(B, L * M, N) @ steering).view(B, L, M, -1)

    def cholesky(self, responses: Tensor, power: Tensor) -> Tensor:
        """Return the Cholesky factors of C_l for ``responses`` [B, L, M, A] with ``power`` [B, A] -> [B, L, M, M]."""
        covariance = (responses * power[:, None, None, :]) @ responses.mH + self.noise.view(-1, 1, 1, 1) * self.eye
        return torch.linalg.cholesky(covariance)

    def whitener(self, responses: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
        """Return T_l with T_l C_l T_lᴴ = I [B, L, M, M], and Σ_l log det C_l [B]."""
        root = self.cholesky(responses, power)
        log_det = 2 * root.diagonal(dim1=2, dim2=3).real.log().sum(dim=(1, 2))
        return torch.linalg.solve_triangular(root, self.eye.expand_as(root), upper=False), log_det


def square(tensor: Tensor) -> Tensor:
    """Return the squared magnitude of each complex element."""
    return torch.view_as_real(tensor).square().sum(dim=-1)


def pieces(batch: Batch, G: Tensor, points: int) -> Iterator[CodedSnapshots]:
    """Yield the batch in pieces of scenes, so that a tensor of the responses to ``points`` points stays small."""
    scenes = max(1, RESPONSES_AT_ONCE // (math.prod(batch.y.shape[1:3]) * points))
    for start in range(0, len(batch), scenes):
        yield CodedSnapshots(batch[start : start + scenes], G)
