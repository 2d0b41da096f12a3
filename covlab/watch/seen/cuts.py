"""Find where gradients are cut off from parameters that never get one: modules that run without gradients, and
operations whose result requires no gradient although it depends on these parameters and is trained on.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from traceback import walk_stack
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _get_current_function_mode
from torch.utils import checkpoint

from covlab.watch.seen.graph import leaves
from covlab.watch.seen.isolation import function_mode_may_begin, function_modes, hidden_from_torch
from covlab.watch.seen.location import CodeLocation, caller_location
from covlab.watch.seen.models import tensors_in

CALLS_SEEN = 50_000  # per search
WINDOWS_LOCATED = 3  # the line of the third run counts: an evaluation may come first
TO_PYTHON = ("tolist", "numpy", "item", "__array__", "__float__")


@dataclass
class RunsWithoutGradient:
    """Runs of one module without gradients, since it last ran with them."""

    location: CodeLocation | None = None
    in_checkpoint: bool = False  #: in the forward of a reentrant checkpoint
    steps: int = 0  #: in how many different windows
    window: int = -1  #: the latest

    def count(self, window: int) -> None:
        self.steps, self.window = self.steps + 1, window
        if self.steps <= WINDOWS_LOCATED:
            self.location, self.in_checkpoint = caller_location(), runs_in_checkpoint()


def runs_in_checkpoint() -> bool:
    """Return whether the running call is made by the forward of a reentrant checkpoint."""
    code = checkpoint.CheckpointFunction.forward.__code__
    return any(frame.f_code is code for frame, _ in walk_stack(sys._getframe(1)))


@dataclass(frozen=True)
class Cut:
    """An operation whose result requires no gradient, although it depends on parameters that need one."""

    operation: str
    location: CodeLocation | None
    parameters: frozenset[int] = field(compare=False)  #: their ids


class CutSearch(TorchFunctionMode):
    """Look for cuts among the operations of one window.

    What a cut returns is followed until an operation combines it with something that requires a gradient: only then is
    it trained on. An output that nobody uses, or that is only logged, is no cut.

    Args:
        missing: ids of parameters that get no gradient.
        found: receives the cuts.
    """

    def __init__(self, missing: set[int], found: Callable[[Cut], None]) -> None:
        super().__init__()
        self.missing, self.found = missing, found
        self.calls = 0
        self.cut_from: dict[int, tuple[Tensor, Cut]] = {}  # {id of a tensor: (the tensor, where it was cut off)}
        self.known: dict[int, Tensor] = {}  # tensors without gradient that were seen before, by id
        self.left_torch: list[tuple[Tensor, Cut]] = []  # tensors that became Python or NumPy values
        self.numbers: list[tuple[Tensor, Cut]] = []  # the same, of one element

    def start(self) -> bool:
        """Begin, unless another mode of the loop's could end first."""
        if not function_mode_may_begin():
            return False
        self.__enter__()
        return True

    def stop(self) -> bool:
        """End and release all tensors. Return whether that was possible: no other mode runs inside this one."""
        self.calls = CALLS_SEEN
        self.cut_from.clear()
        self.known.clear()
        self.left_torch.clear()
        self.numbers.clear()
        if not function_modes():
            return True
        if _get_current_function_mode() is not self:
            return False
        self.__exit__(None, None, None)
        return True

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.calls >= CALLS_SEEN:
            return function(*args, **kwargs)
        self.calls += 1
        inputs = list(tensors_in((*args, *kwargs.values())))
        sources = [self._cut_of(one) for one in inputs if not one.requires_grad]  # before a call that changes it
        result = function(*args, **kwargs)
        try:
            self._see(_name(function), inputs, next((cut for cut in sources if cut is not None), None), result)
        except Exception:  # noqa: BLE001 - the loop continues without the search
            self.calls = CALLS_SEEN
        return result

    @hidden_from_torch
    def _see(self, name: str, inputs: list[Tensor], source: Cut | None, result: object) -> None:
        outputs = [] if name == "grad" else list(tensors_in((result,)))
        if not inputs:
            source = next((cut for one in outputs if (cut := self._returned(one)) is not None), None)
        if any(one.requires_grad for one in outputs):
            if source is not None and torch.is_grad_enabled():
                self.found(source)
            return
        if source is None and (outputs or name in TO_PYTHON):
            sources = [one for one in inputs if one.requires_grad]
            parameters = self.missing.intersection(map(id, [*sources, *leaves(*sources)]))
            if parameters:
                source = Cut(_described(name), caller_location(), frozenset(parameters))
        if source is not None:
            self.cut_from.update((id(one), (one, source)) for one in outputs)
            if name in TO_PYTHON and inputs:
                left = self.numbers if inputs[0].numel() == 1 else self.left_torch
                left.append((inputs[0].detach().clone(), source))
        self.known.update((id(one), one) for one in (*inputs, *outputs) if not one.requires_grad)

    def _cut_of(self, tensor: Tensor) -> Cut | None:
        if id(tensor) in self.cut_from:
            return self.cut_from[id(tensor)][1]
        if id(tensor) in self.known:
            return None
        cut = self._returned(tensor)
        if cut is not None:
            self.cut_from[id(tensor)] = tensor, cut
        return cut

    @hidden_from_torch
    def _returned(self, tensor: Tensor) -> Cut | None:
        """Return where the values of a new tensor were cut off, if it holds what left torch, scaled or not."""
        numbers = self.numbers[-tensor.numel() :] if 0 < tensor.numel() <= len(self.numbers) else []
        joined = [(torch.stack([one.reshape(()) for one, _ in numbers]), numbers[0][1])] if numbers else []
        for original, cut in self.left_torch + joined:
            if tensor.numel() == original.numel() and tensor.device == original.device and _follows(tensor, original):
                return cut
        return None


def frames_compiled() -> int:
    """Return how many frames torch.compile met so far. It would compile them again under another mode."""
    utils = sys.modules.get("torch._dynamo.utils")
    return 0 if utils is None else utils.counters["frames"]["total"]


def _name(function: Any) -> str:
    """Return the name of a function of torch; that of the attribute if it reads one."""
    name = getattr(function, "__name__", "")
    return str(getattr(getattr(function, "__self__", None), "__name__", "") if name == "__get__" else name)


def _described(name: str) -> str:
    if not torch.is_grad_enabled():
        return "no_grad()"
    return {"data": ".data", "tensor": "torch.tensor()"}.get(name, f"{name}()")


@torch.no_grad()
def _follows(tensor: Tensor, original: Tensor) -> bool:
    """Return whether the values of ``tensor`` are those of ``original``, up to a scale and an offset."""
    one, other = (each.detach().reshape(-1).to(torch.float64) for each in (tensor, original))
    if len(one) < 3:
        return bool(torch.allclose(one, other, rtol=1e-5))
    one, other = one - one.mean(), other - other.mean()
    return bool((one @ other).abs() > 0.9 * one.norm() * other.norm() and one.norm() > 0)
