"""Follow every tensor of an optimizer: whether it changes, and whether its gradient is exactly zero.

Looks are rare, and most tensors are no longer looked at once they have changed and have had a gradient.
"""

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from covlab.watch.seen import measurements
from covlab.watch.seen.deferred import DeferredReads
from covlab.watch.seen.isolation import readable_tensor

FIRST_LOOKS = (1, 4, 12, 20)  # before these steps; then before every fourth
WHOLE_COPY, WHOLE_GRADIENT = 4096, 65536  # elements: larger tensors are sampled until they seem not to change


@dataclass(eq=False)
class TensorHistory:
    """What was seen of one tensor."""

    reference: "weakref.ref[Tensor]"
    name: int  #: its id
    group: int  #: its parameter group
    copy: Tensor | None  #: all of its elements or a sample of them, before step ``first``
    is_whole: bool  #: ``copy`` has all elements
    first: int
    dtype: torch.dtype
    is_matrix: bool
    moved: bool = False
    still_before: int = 0  #: the last look, if it has not changed by then
    gradient_share: float = 0.0  #: its largest gradient's element, divided by that of all tensors, in the first looks
    nonzero_gradients: int = 0  #: looks at a gradient that was not zero
    first_zero: int | None = None
    last_zero: int | None = None  #: the last look, if every gradient so far was zero in all its elements
    all_zero: bool = False  #: all of its own elements are zero, too

    @property
    def steps_still(self) -> int:
        """The steps that certainly left every element as it was; 0 if it changed."""
        return 0 if self.moved or not self.is_whole else max(0, self.still_before - self.first)

    @property
    def steps_with_zero_gradient(self) -> int:
        if self.nonzero_gradients or self.first_zero is None or self.last_zero is None:
            return 0
        return self.last_zero - self.first_zero + 1


class TensorHistories(dict[int, TensorHistory]):
    """The histories of an optimizer's tensors, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.was_read = False  # some looks have been read, so it is known which tensors are worth another one

    @torch.no_grad()
    def inspect(self, groups: list[list[Tensor]], attempt: int, reads: DeferredReads, is_last: bool = False) -> None:
        """Look at the tensors before step ``attempt``, if it is time to."""
        if not (is_last or attempt in FIRST_LOOKS or (self.was_read and attempt % 4 == 0)):
            return
        looked: list[tuple[TensorHistory, list[Tensor]]] = []
        for number, group in enumerate(groups):
            for parameter in group:
                history = self.get(id(parameter))
                if history is None or history.reference() is not parameter:
                    if parameter.grad is None or not parameter.requires_grad:
                        continue
                    history = self[id(parameter)] = _first_history(parameter, number, attempt)
                if not history.moved or not history.nonzero_gradients:
                    looked.append((history, _flags(history, parameter)))
        looked = [(history, flags) for history, flags in looked if flags]
        if not looked:
            return
        is_complete = not self.was_read
        device = looked[0][1][0].device
        together = torch.stack([flag.to(device, torch.int64) for _, flags in looked for flag in flags])

        def receive(values: list[int]) -> None:
            self.was_read = True
            for index, (history, _) in enumerate(looked):
                changed, has_gradient, has_values, share = values[4 * index : 4 * index + 4]
                if is_complete:
                    largest = max(values[3::4])
                    history.gradient_share = max(history.gradient_share, share / max(largest, 1))
                _learn(history, attempt, attempt - is_last, changed, has_gradient, has_values)

        reads.vector(together, receive)

    def renew_copies(self, attempt: int) -> None:
        """Take whole copies of the large tensors whose sample has not changed."""
        if self.was_read:
            for history in self.values():
                if not history.is_whole and not history.moved and history.still_before:
                    values = readable_tensor(history.reference())
                    if values is not None:
                        history.copy, history.is_whole, history.first = values.clone(), True, attempt
                        history.still_before = 0

    def forget(self) -> None:
        """Release all copies."""
        for history in self.values():
            history.copy = None


def _first_history(parameter: Tensor, group: int, attempt: int) -> TensorHistory:
    values = readable_tensor(parameter)
    is_whole = values is not None and values.numel() <= WHOLE_COPY
    copy = None
    if values is not None and values.numel():
        copy = values.clone() if is_whole else measurements.sample_elements(values).clone()
    return TensorHistory(
        weakref.ref(parameter), id(parameter), group, copy, is_whole, attempt, parameter.dtype, parameter.dim() > 1
    )


def _flags(history: TensorHistory, parameter: Tensor) -> list[Tensor]:
    """Return whether the tensor changed, whether its gradient has a nonzero element, and whether it has one itself.

    The second is 2 if the gradient cannot be read, and 3 if only a sample of it is zero.
    """
    values, gradient = readable_tensor(parameter), readable_tensor(parameter.grad)
    if values is None or history.copy is None:
        return []
    if history.moved:
        history.copy = history.copy[:0]
    now = values if history.is_whole else measurements.sample_elements(values)
    same_kind = now.shape == history.copy.shape and now.dtype == history.copy.dtype
    changed = (now != history.copy).any() if same_kind else torch.ones((), dtype=torch.bool, device=values.device)
    if gradient is None or gradient.is_sparse or not gradient.numel():
        has_gradient = torch.full((), 2, device=values.device)
    else:
        large = gradient.numel() > WHOLE_GRADIENT and not history.still_before and history.last_zero is None
        has_gradient = (measurements.sample_elements(gradient) if large else gradient).any()
        if large:
            has_gradient = torch.where(has_gradient, 1, 3)
    some = measurements.sample_elements(values) if values.numel() > WHOLE_COPY else values
    return [changed, has_gradient, some.any(), _size(gradient)]


def _size(gradient: Tensor | None) -> Tensor:
    """Return the largest element of (a sample of) a gradient, as a whole number of 1e-12; 0 if it cannot be read."""
    if gradient is None or gradient.is_sparse or gradient.is_complex() or not gradient.numel():
        return torch.zeros(())
    values = measurements.sample_elements(gradient) if gradient.numel() > WHOLE_GRADIENT else gradient
    return (values.detach().abs().amax().double() * 1e12).nan_to_num(0.0, 0.0, 0.0).clamp(max=1e18)


def _learn(
    history: TensorHistory, attempt: int, gradient_of: int, changed: int, has_gradient: int, has_values: int
) -> None:
    """Add a look before step ``attempt``, at the gradient of step ``gradient_of``."""
    history.all_zero = not has_values
    if changed:
        history.moved = True
    else:
        history.still_before = attempt
    if has_gradient == 1:
        history.nonzero_gradients += 1
    elif has_gradient in (0, 3):  # 3: a sample is zero, so the next look is at all elements
        history.first_zero = history.first_zero or gradient_of
        history.last_zero = gradient_of
