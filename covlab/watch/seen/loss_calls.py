"""Record the calls of torch that lead from one backward to the next, to name the lines that made the nodes of a graph.

A graph says what a loss is made of, but not where. The recorder runs only where a graph looks suspicious.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode, _len_torch_function_stack
from torch.utils.weak import WeakTensorKeyDictionary

from covlab.watch.seen.deferred import DeferredNumber, DeferredReads
from covlab.watch.seen.graph import sequence_number
from covlab.watch.seen.isolation import (
    FASTER_WITHOUT_MODES,
    calls_are_compiled,
    hidden_from_torch,
    readable_tensor,
)
from covlab.watch.seen.location import CodeLocation, caller_location
from covlab.watch.seen.models import tensors_in

CALLS_SEEN = 50_000  # per search
LOSS_FUNCTIONS = (
    "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "kl_div", "l1_loss", "mse_loss", "nll_loss",
    "poisson_nll_loss", "smooth_l1_loss",
)  # fmt: skip
# What was computed before these functions says nothing about what the loss does with their results.
NEW_VALUES = ("linear", "conv", "embedding", "softmax", "log_softmax", "sigmoid", "tanh", "relu", "dropout",
              "layer_norm", "batch_norm", "group_norm", "matmul", "bmm", "mm", "einsum",
              "scaled_dot_product")  # fmt: skip


class Operand(NamedTuple):
    """A tensor that was passed to a call."""

    shape: torch.Size
    node: int | None  #: sequence number of the node that made it, if it requires a gradient
    requires_grad: bool
    value: DeferredNumber | None  #: of one element that requires no gradient
    #: names of the functions that made it since the last backward, if it requires no gradient; None: another origin
    made_by: frozenset[str] | None
    checksum: DeferredNumber | None  #: of more elements that require no gradient


@dataclass(frozen=True)
class Call:
    """One call of a function of torch whose result requires a gradient."""

    name: str
    location: CodeLocation | None
    operands: tuple[Operand, ...]
    #: of the input of a loss: its largest element, its smallest, and how far the sums over its classes are from 1
    largest: DeferredNumber | None = None
    smallest: DeferredNumber | None = None
    sums_off: DeferredNumber | None = None
    target_sums_off: DeferredNumber | None = None


Calls = dict[int, Call]  # by the sequence number of the node that the call made


class CallRecorder(TorchFunctionMode):
    """Record calls, from where the mode is entered to ``stop``."""

    def __init__(self, reads: DeferredReads) -> None:
        super().__init__()
        self.reads = reads
        self.calls: Calls = {}
        self.seen = 0
        self.error: Exception | None = None
        self.made = WeakTensorKeyDictionary()  # {tensor without gradient: names of the functions that made it}
        self.ended = self.paused = self.is_gone = False

    def stop(self) -> None:
        """Record nothing from now on, and release everything."""
        self.calls, self.made, self.seen, self.ended = {}, WeakTensorKeyDictionary(), CALLS_SEEN, True
        self.leave()

    def leave(self) -> bool:
        """Leave the stack of modes, once it has ended. Return whether that is done.

        It is impossible while another mode runs inside this one, and in ``loss.backward()``, which this one handles.
        """
        if self.ended and not self.paused and _len_torch_function_stack() and _get_current_function_mode() is self:
            self.__exit__(None, None, None)
            self.is_gone = True
        return self.is_gone

    def runs_apart(self, module: nn.Module) -> bool:
        """Return whether a module computes otherwise, or is compiled again, while a mode is active."""
        if isinstance(module, FASTER_WITHOUT_MODES) and not module.training:
            return True
        return calls_are_compiled(module)

    def pause(self) -> bool:
        """Take the mode away. Return whether ``resume`` must bring it back."""
        if self.paused or not _len_torch_function_stack() or _get_current_function_mode() is not self:
            return False
        self.__exit__(None, None, None)
        self.paused = True
        return True

    def resume(self) -> None:
        self.paused = False
        if self.ended:
            self.is_gone = True
        else:
            self.__enter__()

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.seen >= CALLS_SEEN or torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        self.seen += torch.is_grad_enabled()
        try:
            operands = self._operands(function, args, kwargs)  # before a call that changes them
        except Exception as error:  # noqa: BLE001 - the loop continues without the recording
            self.error, self.seen, operands = error, CALLS_SEEN, ()
        result = function(*args, **kwargs)
        if self.error is None:
            try:
                self._record(function, operands, args, kwargs, result)
            except Exception as error:  # noqa: BLE001 - the loop continues without the recording
                self.error, self.seen = error, CALLS_SEEN
        return result

    @hidden_from_torch
    def _operands(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Operand, ...]:
        if getattr(function, "__name__", "") == "__get__":
            return ()
        tensors = list(tensors_in((*args, *kwargs.values())))
        is_broadcast = torch.is_grad_enabled() and len(tensors) == 2 and tensors[0].shape != tensors[1].shape
        return tuple(self._operand(one, is_broadcast) for one in tensors)

    def _operand(self, tensor: Tensor, is_broadcast: bool) -> Operand:
        value = checksum = None
        node = None if tensor.grad_fn is None else sequence_number(tensor.grad_fn)
        made_by = None if tensor.requires_grad else self.made.get(tensor)
        if not tensor.requires_grad and tensor.layout == torch.strided:
            readable = readable_tensor(tensor)
            if readable is not None and not readable.is_complex() and readable.numel():
                if readable.numel() == 1:
                    value = self.reads.number(readable.clone())
                elif is_broadcast and readable.is_floating_point():
                    checksum = self.reads.number(readable.to(torch.float64).sum())
        return Operand(tensor.shape, node, tensor.requires_grad, value, made_by, checksum)

    @hidden_from_torch
    def _record(
        self,
        function: Any,
        operands: tuple[Operand, ...],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: object,
    ) -> None:
        name = str(getattr(function, "__name__", ""))
        if name == "__get__":
            return
        outputs = list(tensors_in((result,)))
        with_gradient = [one for one in outputs if one.grad_fn is not None]
        if not with_gradient:
            made_by = frozenset([name])
            if not name.startswith(NEW_VALUES):
                made_by = made_by.union(*(one.made_by for one in operands if one.made_by is not None))
            for one in outputs:
                if not one.requires_grad:
                    self.made[one] = made_by
            return
        call = Call(name, caller_location(), operands)
        if name in LOSS_FUNCTIONS:
            call = self._with_values(call, args, kwargs)
        for one in with_gradient:
            if one.grad_fn is not None:
                self.calls[sequence_number(one.grad_fn)] = call

    @torch.no_grad()
    def _with_values(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return the call of a loss with what its input and its target are like."""
        tensors = [readable_tensor(one) for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        given = tensors[0] if tensors else None
        target = tensors[1] if len(tensors) > 1 else None
        if given is None or not given.numel() or not given.is_floating_point():
            return call
        number, classes = self.reads.number, given.dim() - 1 if call.name == "kl_div" else min(1, given.dim() - 1)
        target_sums_off = None
        if call.name == "kl_div" and target is not None and target.is_floating_point() and target.shape == given.shape:
            goal = target.double().exp() if kwargs.get("log_target") else target.double()
            sums = [goal.flatten(1).sum(1)] if goal.dim() else []
            sums += [goal.sum(dim) for dim in range(goal.dim())] + [goal.sum().reshape(1)]
            target_sums_off = number(torch.stack([(one - 1).abs().max() for one in sums]).min())
        wide = given.double()
        off = (wide.sum(classes) - 1).abs().max() if given.dim() else wide - 1
        return replace(
            call,
            largest=number(wide.max()),
            smallest=number(wide.min()),
            sums_off=number(off),
            target_sums_off=target_sums_off,
        )
