"""Estimate the channel G from the contract tensors, which determine it."""

import torch
from torch import Tensor

from covlab.arguments import checked
from covlab.scenes.batch import Batch, check_finite


@checked
def calibrate(batch: Batch) -> Tensor:
    """Estimate G [M, N] from (codes, H) of all scenes by least squares, since H_l = G c_l is linear in G.

    B scenes give B·L equations for the N unknowns of each antenna. They are solved in complex128; G has H's precision.

    Raises:
        ValueError: the codes do not span all N elements (too few scenes, or one codebook for all).
    """
    check_finite(batch, ("H", "codes"))
    codes = torch.view_as_complex(batch.codes).flatten(0, 1).to(torch.complex128)  # [B·L, N]
    channels = torch.view_as_complex(batch.H).flatten(0, 1)
    elements = codes.shape[1]
    # Singular values below the precision of the given codes are rounding errors.
    rank = torch.linalg.matrix_rank(codes, rtol=max(codes.shape) * torch.finfo(batch.codes.dtype).eps).item()
    if rank < elements:
        raise ValueError(
            f"batch must hold codes of rank N = {elements} to determine G, got rank {rank} from {len(codes)} "
            "snapshots: pool more scenes, with fresh codes"
        )
    driver = "gels" if batch.y.is_cuda else "gelsd"
    G = torch.linalg.lstsq(codes, channels.to(torch.complex128), driver=driver).solution.mT
    return G.to(channels.dtype).contiguous()
