"""The site channel from data: G is known to estimators because the contract tensors hold it."""

import torch
from torch import Tensor

from covlab.scenes.batch import Batch


def calibrate(batch: Batch) -> Tensor:
    """G [M, N] from the pooled (codes, H) of all scenes by least squares, for H_l = G c_l is linear in G.

    B scenes give B·L equations for each antenna's N unknowns; solved in complex128, returned in the precision of H.

    Raises:
        ValueError: the pooled codes do not span all N elements (too few scenes, or one codebook for all).
    """
    codes = torch.view_as_complex(batch.codes).flatten(0, 1).to(torch.complex128)  # [B·L, N]
    channels = torch.view_as_complex(batch.H).flatten(0, 1)
    elements = codes.shape[1]
    # The bar is the precision the codes came in: below it a direction is rounding and not data.
    rank = torch.linalg.matrix_rank(codes, rtol=max(codes.shape) * torch.finfo(batch.codes.dtype).eps).item()
    if rank < elements:
        raise ValueError(
            f"batch must hold codes of rank N = {elements} to determine G, got rank {rank} from {len(codes)} "
            "snapshots: pool more scenes, with fresh codes"
        )
    return (
        torch.linalg.lstsq(codes, channels.to(torch.complex128), driver="gels" if batch.y.is_cuda else "gelsd")
        .solution.mT.to(channels.dtype)
        .contiguous()
    )
