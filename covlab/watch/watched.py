"""An optimizer that is watched, and what its gradients are made of."""

import weakref

import torch
from torch import Tensor

from covlab.watch import measure
from covlab.watch.aside import plain, unseen
from covlab.watch.records import Backward, Number, Pending, Site, Step


class Watched:
    """An optimizer, and what its gradients are made of now."""

    def __init__(self, optimizer: torch.optim.Optimizer, number: int):
        self.ref, self.number, self.name = weakref.ref(optimizer), number, type(optimizer).__name__
        self.pending: list[Backward] = []  # since the gradients were cleared
        self.taken = 0  # of these, by steps already
        self.touched = False  # by the backward that is running
        self.got: set[int] = set()  # ids of the parameters that ever got a gradient
        self.consumed = self.skipped = self.unscaled = self.scaling = False  # scaling: within the scaler's step
        self.expected = 0  # attempts before the scaler's step
        self.carried: Number | None = None
        self.attempts = 0
        self.schedules: list[tuple[int, Site | None]] = []
        self.clips: list[list] = []  # [where, scale, is it known that the scale was still in?]
        self.written: int | None = None
        self.handles, self.hooked = [], set()
        self.trainable: set[int] = set()  # ids of parameters, as last looked at
        self.ran: set[int] = set()  # of these, whose modules ran
        self.names: dict[int, str] = {}
        self.suspect = False  # no sampled parameter moved: compare them all
        self.exact = False  # gradients were all zero, or not all finite: measure them without overflow
        self.before: list[tuple[Tensor, Tensor]] = []
        self.step: Step | None = None
        self.last: Step | None = None
        self.pointers: set[int] | None = None  # of the gradients' storage
        self.accumulates = False  # some window had several backwards
        self.sample: tuple[Tensor, Tensor] | None = (
            None  # (parameter, some of its gradient's elements as the last backward left them)
        )
        self.left: int | None = None  # id of the first gradient, as the last backward left it
        self.factors: list[Number] = []  # by which they were multiplied by hand since
        self.norm: tuple[Tensor, int] | None = (
            None  # of the gradients, as clipping measured it, and their versions then
        )
        self.hook()

    def hook(self) -> None:
        """See which parameters get gradients, also those that were added later."""
        got, reference = self.got, weakref.ref(self)

        @unseen
        def arrived(parameter):
            got.add(id(parameter))
            watched = reference()
            if watched is not None:
                watched.touched = True

        for parameter in self.parameters():
            if id(parameter) not in self.hooked and parameter.requires_grad and parameter.is_leaf:
                self.hooked.add(id(parameter))
                self.handles.append(parameter.register_post_accumulate_grad_hook(arrived))

    def parameters(self) -> list[Tensor]:
        optimizer = self.ref()
        return (
            []
            if optimizer is None
            else [parameter for group in optimizer.param_groups for parameter in group["params"]]
        )

    def versions(self) -> int:
        return sum(parameter._version for parameter in self.parameters())

    def first(self) -> int | None:
        return next((id(parameter.grad) for parameter in self.parameters() if parameter.grad is not None), None)

    def keep(self) -> None:
        """Take a sample of the gradients, to see later what was done to them."""
        found = [
            parameter for parameter in self.parameters() if parameter.grad is not None and not parameter.grad.is_sparse
        ]
        largest = max(found, key=Tensor.numel, default=None)
        gradient = None if largest is None else plain(largest.grad)
        self.sample = None if gradient is None or not gradient.numel() else (largest, measure.sample(gradient).clone())

    def compare(self, pending: Pending) -> None:
        """How many times the sample are the gradients now? From here on it is of these."""
        if self.sample is not None:
            parameter, before = self.sample
            after = plain(parameter.grad)
            if after is not None and not after.is_sparse and after.numel():
                self.sample = parameter, measure.sample(after).clone()
                self.factors.append(pending.number(measure.factor(before, self.sample[1])))


def versions(watched: Watched) -> int:
    return sum(gradient._version for gradient in gradients(watched))


def gradients(watched: Watched) -> list[Tensor]:
    """As far as they can be read."""
    found = (plain(parameter.grad) for parameter in watched.parameters() if parameter.grad is not None)
    return [gradient for gradient in found if gradient is not None]
