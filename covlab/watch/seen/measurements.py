"""Measure gradients and parameters without changing them and without waiting for the device."""

import torch
from torch import Tensor

from covlab.watch.seen.isolation import readable_tensor

SAMPLED_PARAMETERS, SAMPLED_ELEMENTS = 16, 512


@torch.no_grad()
def gradient_size(gradients: list[Tensor], exact: bool) -> Tensor:
    """Return a number [] that is 0 if all gradients are zero, and not finite if an element is not.

    With ``exact``, it is the largest absolute value. Otherwise it is the Euclidean norm, which takes a fifth of the
    time, but overflows beyond 1e19 and vanishes below 1e-23.
    """
    dense = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
    dense = [torch.view_as_real(one) if one.is_complex() else one for one in dense if one.numel()]
    if not dense:
        return torch.zeros(())
    first = dense[0].device
    if exact:
        ends = [end.abs().to(first, torch.float32) for gradient in dense for end in torch.aminmax(gradient)]
        return torch.stack(ends).max()
    return torch.stack([norm.to(first, torch.float32) for norm in torch._foreach_norm(dense)]).norm()


@torch.no_grad()
def float16_underflow(gradients: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the fraction of exact zeros [], and the fraction of subnormal float16 numbers among the others [].

    Only matrices and kernels count. Rows that are all zero, as of an embedding that was not looked up, are left out.
    """
    rows = [gradient.flatten(1) for gradient in gradients if gradient.dim() > 1 and not gradient.is_sparse]
    if not rows:
        return torch.zeros(()), torch.zeros(())
    elements = torch.stack([(row != 0).any(dim=1).sum() * row.shape[1] for row in rows]).sum()
    nonzero = torch.stack([(row != 0).sum() for row in rows]).sum()
    tiny = torch.stack([((row != 0) & (row.abs() < torch.finfo(torch.float16).tiny)).sum() for row in rows]).sum()
    return 1 - nonzero / elements.clamp(min=1), tiny / nonzero.clamp(min=1)


@torch.no_grad()
def copy_samples(parameters: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return [(parameter, copy of some of its elements)] for the largest parameters."""
    readable = [one for one in map(readable_tensor, parameters) if one is not None and one.numel()]
    chosen = sorted(readable, key=Tensor.numel, reverse=True)[:SAMPLED_PARAMETERS]
    return [(parameter, sample_elements(parameter).clone()) for parameter in chosen]


@torch.no_grad()
def count_moved(copies: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return how many of the parameters differ from their copied elements []."""
    changed = [(copy != sample_elements(parameter)).any() for parameter, copy in copies]
    return torch.stack([one.to(changed[0].device) for one in changed]).sum()


@torch.no_grad()
def least_squares_factor(before: Tensor, after: Tensor) -> Tensor:
    """Return the least-squares factor [] from ``before`` [n] to ``after`` [n]; NaN for zeros and non-finite values."""
    wide = torch.complex128 if before.is_complex() else torch.float64
    before, after = before.to(wide), after.to(wide)
    return (torch.linalg.vecdot(before, after) / torch.linalg.vecdot(before, before)).real


def sample_numbers(tensor: Tensor) -> Tensor:
    """Return some elements as numbers [n] in float64; a complex element is two of them."""
    sample = sample_elements(tensor)
    return (torch.view_as_real(sample).reshape(-1) if sample.is_complex() else sample).double()


def sample_elements(tensor: Tensor) -> Tensor:
    flat = tensor.reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLED_ELEMENTS)]
