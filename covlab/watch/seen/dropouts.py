"""Look for dropout that drops while the module that calls it is in evaluation mode."""

import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode

from covlab.watch.seen.isolation import FASTER_WITHOUT_MODES, hidden_from_torch
from covlab.watch.seen.location import CodeLocation, caller_location
from covlab.watch.seen.observation import ActiveDropout
from covlab.watch.seen.recorder import Recorder

EVALUATIONS_SEARCHED = 8  # per module
# {function: (position of the probability, its name, position of the flag, its name)}
_SIGNATURES = {
    **dict.fromkeys(
        ("dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "alpha_dropout_",
         "feature_alpha_dropout", "feature_dropout", "feature_dropout_"),
        (1, "p", 2, "training"),
    ),
    "scaled_dot_product_attention": (4, "dropout_p", None, ""),
    "multi_head_attention_forward": (10, "dropout_p", 13, "training"),
}  # fmt: skip


class DropoutObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self.trains_in_training_mode = False  # so that eval() makes a difference to the loop
        self._searched: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()

    def begin(self, module: nn.Module) -> "DropoutSearch | None":
        """Start to search the call of ``module`` that begins, if it is one of the first evaluations."""
        if module.training:
            self.trains_in_training_mode |= torch.is_grad_enabled()
            return None
        times = self._searched.get(module, 0)
        if times >= EVALUATIONS_SEARCHED or not self.trains_in_training_mode or not self.seen.counts["steps"]:
            return None
        self._searched[module] = times + 1
        parts = list(module.modules())
        has_fast_path = any(isinstance(one, FASTER_WITHOUT_MODES) for one in parts)
        if has_fast_path or self.seen.is_compiled(module) or not self._is_trained(module):
            return None
        registered = set(map(id, parts))
        evaluation = caller_location()
        search = DropoutSearch(lambda function, p: self._found(function, p, module, registered, evaluation))
        search.__enter__()
        return search

    def _is_trained(self, module: nn.Module) -> bool:
        """Return whether an optimizer holds some of its parameters, or those of a module of its class."""
        held = self.seen.ever_held()
        if any(id(one) in held for one in module.parameters()):
            return True
        return any(type(one) is type(module) and called.trained for one, called in list(self.seen.models.items()))

    def _found(
        self, function: str, p: float, model: nn.Module, registered: set[int], evaluation: CodeLocation | None
    ) -> None:
        running = list(_running_modules())
        owner = next((one for one in running if id(one) in registered), None)
        if owner is None or owner.training:  # switched on by itself, as for Monte Carlo dropout
            return
        location = caller_location()
        found = self.seen.active_dropouts.setdefault(location, ActiveDropout(location, function, p))
        found.calls += 1
        found.evaluations.add(evaluation)
        inner = running[0] if running else owner
        found.unregistered = type(inner).__name__ if id(inner) not in registered else None
        found.classes.update(type(one).__name__ for one in running)
        called = self.seen.models.get(model)
        if called is not None:
            called.drops_in_evaluation = True


class DropoutSearch(TorchFunctionMode):
    """Tell ``found`` the name and the probability of every dropout that drops."""

    def __init__(self, found: Callable[[str, float], None]) -> None:
        super().__init__()
        self.found: Callable[[str, float], None] | None = found

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if name in _SIGNATURES and self.found is not None:
            self._see(name, args, kwargs)
        return function(*args, **kwargs)

    @hidden_from_torch
    def _see(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        position, key, flag_position, flag_key = _SIGNATURES[name]
        try:
            p = _argument(args, kwargs, position, key, 0.5 if key == "p" else 0.0)
            drops = True
            if flag_position is not None:
                drops = _argument(args, kwargs, flag_position, flag_key, kwargs.get("train", True))
            if drops and isinstance(p, int | float) and p > 0 and self.found is not None:
                self.found(name.rstrip("_"), float(p))
        except Exception:  # noqa: BLE001 - the loop continues without the search
            self.found = None

    def stop(self) -> None:
        """End, unless the call has left another mode open inside this one."""
        self.found = None
        if _get_current_function_mode() is self:
            self.__exit__(None, None, None)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, otherwise: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, otherwise)


def _running_modules() -> Iterator[nn.Module]:
    """Yield the modules whose methods are running, the innermost first."""
    frame: Any = sys._getframe(1)
    latest: nn.Module | None = None
    while frame is not None:
        arguments = frame.f_code.co_varnames[:1] if frame.f_code.co_argcount else ()
        first = frame.f_locals.get(arguments[0]) if arguments else None
        if isinstance(first, nn.Module) and first is not latest:
            latest = first
            yield first
        frame = frame.f_back
