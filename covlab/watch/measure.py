"""What is read from tensors: always without changing them, always without waiting for the device."""

import sys
from collections import Counter
from dataclasses import fields, is_dataclass
from itertools import count

import torch
from torch import Tensor, nn

from covlab.watch.aside import plain
from covlab.watch.records import Forward, Pending, Site, caller

SAMPLED_PARAMETERS, SAMPLED_ELEMENTS = 16, 512
OUTPUTS = 8
SAMPLES = 100_000  # fingerprints that are remembered, of training and of evaluation each
ELEMENTS = 128  # of a sample that its fingerprint is made of
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_MIX = [((i + 1) * 0x9E3779B97F4A7C15 & 0x7FFFFFFFFFFFFFFF) | 1 for i in range(ELEMENTS)]
_numbers = count()


class Root:
    """A module that was called from outside every other module."""

    def __init__(self, module: nn.Module):
        self.number = next(_numbers)
        self.parameters = {id(parameter) for parameter in module.parameters()}
        kinds = list(module.modules())
        self.batch_statistics = any(isinstance(kind, nn.modules.batchnorm._BatchNorm) for kind in kinds)
        self.stochastic = self.batch_statistics or any(
            isinstance(kind, nn.modules.dropout._DropoutNd) and kind.p > 0 for kind in kinds
        )
        self._owned: bool | None = None

    def forget(self) -> None:
        self._owned = None

    def owned(self, optimizers: dict) -> bool:
        """Does an optimizer train any of its parameters?"""
        if self._owned is None:
            self._owned = any(
                id(parameter) in self.parameters
                for watched in optimizers.values()
                for parameter in watched.parameters()
            )
        return self._owned


def outputs(result, limit: int = OUTPUTS) -> list[Tensor]:
    """The tensors of what a module returned that a backward may come through, the first few."""
    found, waiting = [], [result]
    while waiting and len(found) < limit:
        item = waiting.pop(0)
        if isinstance(item, Tensor):
            if item.requires_grad and item.grad_fn is not None:
                found.append(item)
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
        elif is_dataclass(item) and not isinstance(item, type):
            waiting += [getattr(item, field.name) for field in fields(item)]
    return found


@torch.no_grad()
def size(gradients: list[Tensor], exact: bool) -> Tensor:
    """A number [] that is 0 if all are zero and not finite if one is not.

    The Euclidean norm, which takes a fifth of the time but overflows beyond 1e19 and vanishes below 1e-23; where that
    matters, ``exact``: the largest absolute value.
    """
    dense = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
    dense = [
        torch.view_as_real(gradient) if gradient.is_complex() else gradient for gradient in dense if gradient.numel()
    ]
    if not dense:
        return torch.zeros(())
    first = dense[0].device
    if exact:
        ends = [end.abs().to(first, torch.float32) for gradient in dense for end in torch.aminmax(gradient)]
        return torch.stack(ends).max()
    return torch.stack([norm.to(first, torch.float32) for norm in torch._foreach_norm(dense)]).norm()


@torch.no_grad()
def underflow(gradients: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Share of exact zeros [], and of numbers below float16's normal ones among the others [].

    Of matrices and kernels; rows that are zero throughout, as of an embedding that was not looked up, are left out.
    """
    rows = [gradient.flatten(1) for gradient in gradients if gradient.dim() > 1 and not gradient.is_sparse]
    if not rows:
        return torch.zeros(()), torch.zeros(())
    alive = torch.stack([(row != 0).any(dim=1).sum() * row.shape[1] for row in rows]).sum()
    nonzero = torch.stack([(row != 0).sum() for row in rows]).sum()
    tiny = torch.stack([((row != 0) & (row.abs() < torch.finfo(torch.float16).tiny)).sum() for row in rows]).sum()
    return 1 - nonzero / alive.clamp(min=1), tiny / nonzero.clamp(min=1)


@torch.no_grad()
def snapshot(parameters: list[Tensor], whole: bool) -> list[tuple[Tensor, Tensor]]:
    """[(parameter, copy of it)]; of a sample of its elements unless ``whole``."""
    parameters = [parameter for parameter in map(plain, parameters) if parameter is not None and parameter.numel()]
    if whole:
        return [(parameter, parameter.clone()) for parameter in parameters]
    chosen = sorted(parameters, key=Tensor.numel, reverse=True)[:SAMPLED_PARAMETERS]
    return [(parameter, sample(parameter).clone()) for parameter in chosen]


@torch.no_grad()
def factor(before: Tensor, after: Tensor) -> Tensor:
    """How many times ``before`` [n] is ``after`` [n], by least squares; NaN of zeros or of what is not finite []."""
    wide = torch.complex128 if before.is_complex() else torch.float64
    before, after = before.to(wide), after.to(wide)
    return (torch.linalg.vecdot(before, after) / torch.linalg.vecdot(before, before)).real


def sample(parameter: Tensor) -> Tensor:
    flat = parameter.reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLED_ELEMENTS)]


@torch.no_grad()
def moved(before: list[tuple[Tensor, Tensor]]) -> Tensor:
    """How many of the parameters are not what they were []."""
    changed = [
        (kept != (parameter if kept.shape == parameter.shape else sample(parameter))).any()
        for parameter, kept in before
    ]
    return torch.stack([one.to(changed[0].device) for one in changed]).sum()


def outside(file: str) -> Site | None:
    """The caller's place, or None if the call came from ``file`` itself: a schedule within a schedule."""
    frame = sys._getframe(1)
    while frame is not None and "covlab/watch" in frame.f_code.co_filename.replace("\\", "/"):
        frame = frame.f_back
    return None if frame is None or frame.f_code.co_filename == file else caller()


class Inputs:
    """Fingerprints of the samples that a model was trained on and evaluated on.

    A fingerprint is an exact sum over the bits of 128 elements of a sample, so that the same sample has the same one
    in every batch. Samples with few distinct values are no evidence and are left out.
    """

    def __init__(self):
        self.trained: set[int] = set()
        self.evaluated: list[list[int]] = []
        self.met: set[int] = (
            set()
        )  # evaluated after they had been trained on; before, it may be an action whose outcome is learned
        self.place = 0  # batches evaluated since the last one of training
        self.places: Counter[tuple[int, bool]] = Counter()  # {(place, was a sample of the batch trained on?): batches}
        self.size = 0
        self.full = False
        self.unfit: str | None = None
        self._mix: dict[torch.device, Tensor] = {}

    def see(self, args: tuple, kwargs: dict, pending: Pending, training: bool, forward: Forward | None = None) -> None:
        codes = self._codes(next((item for item in (*args, *kwargs.values()) if isinstance(item, Tensor)), None))
        if codes is None:
            return

        def receive(values: list[int]) -> None:
            if forward is not None:
                forward.print = values[:4]
            self.place = 0 if training else self.place + 1
            if training and len(self.trained) < SAMPLES:
                self.trained.update(values)
            elif not training and self.size < SAMPLES:
                self.evaluated.append(values)
                self.size += len(values)
                met = self.trained.intersection(values)
                self.met |= met
                self.places[self.place, bool(met)] += 1
            else:
                self.full = True

        pending.vector(codes, receive)

    @torch.no_grad()
    def _codes(self, tensor: Tensor | None) -> Tensor | None:
        flat = plain(tensor)
        if flat is None or flat.dim() < 2 or flat.shape[0] == 0:
            self.unfit = "the model's first input is no tensor of samples"
            return None
        flat = (torch.view_as_real(flat.resolve_conj()) if flat.is_complex() else flat).reshape(len(flat), -1)
        if flat.shape[1] < (3 if flat.is_floating_point() else 16):
            self.unfit = "a sample is too small to be told from another"
            return None
        flat = flat[:, :: max(1, flat.shape[1] // ELEMENTS)][:, :ELEMENTS].contiguous()
        if flat.is_floating_point():
            flat = flat.view(_INTEGERS[flat.element_size()])
        mix = self._mix.get(flat.device)
        if mix is None:
            mix = self._mix[flat.device] = torch.tensor(_MIX, device=flat.device)
        return (flat.to(torch.int64) * mix[: flat.shape[1]]).sum(dim=1)
