"""Check with the equations of the model whether the tensors of a batch belong together.

A shape check cannot detect swapped axes of equal length, or conjugated or shuffled values. These equations can.
"""

from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import checked
from covlab.scenes.batch import Batch
from covlab.tensor_arguments import tensor

Channel = Annotated[Tensor, tensor("M N", "complex")]


@checked
def channel_residual(
    H: Annotated[Tensor, tensor("B L M 2")], codes: Annotated[Tensor, tensor("B L N 2")], G: Channel
) -> float:
    """Return ‖H − G c‖ / ‖H‖ over all scenes and snapshots, which is 0 (up to rounding) if H_l = G c_l.

    H [B, L, M, 2] and codes [B, L, N, 2] are real pairs; G [M, N] is complex.
    """
    expected = torch.view_as_complex(codes.contiguous()) @ G.T
    H = torch.view_as_complex(H.contiguous())
    return ((H - expected).norm() / H.norm()).item()


@checked
def whitened_power(
    batch: Batch,
    G: Channel,
    covariance: Annotated[Tensor | None, tensor("B N N", "complex").or_none("the batch's own R")] = None,
) -> float:
    """Return the mean over scenes and snapshots of y_lᴴ C_l⁻¹ y_l / M, C_l = G diag(c_l) R diag(c_l)ᴴ Gᴴ + σ²I.

    It is about 1 if the data belong together, since y_l ~ CN(0, C_l). It is larger if an axis of y, codes, G or R is
    wrong. G [M, N] is complex; ``covariance`` is R [B, N, N] to test instead of the batch's own.
    """
    double = torch.complex128
    R = (batch.covariance() if covariance is None else covariance).to(double)
    y = torch.view_as_complex(batch.y.contiguous()).to(double)
    codes, antennas = torch.view_as_complex(batch.codes.contiguous()).to(double), y.shape[2]
    responses = G.to(double) * codes.unsqueeze(2)  # G diag(c_l) [B, L, M, N]
    noise = batch.noise_power.to(double).view(-1, 1, 1, 1) * torch.eye(antennas, device=y.device)
    white = torch.linalg.solve(responses @ R.unsqueeze(1) @ responses.mH + noise, y.unsqueeze(-1)).squeeze(-1)
    return ((y.conj() * white).real.sum(dim=-1).mean() / antennas).item()
