"""Replace functions of torch for a while, everywhere they are known by name, and put them back."""

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.jit._builtins import _find_builtin, _get_builtin_table, _register_builtin
from torch.optim import lr_scheduler

from covlab.watch.seen.isolation import skipped_by_compiler
from covlab.watch.seen.recorder import Function

if TYPE_CHECKING:
    from covlab.watch.seen.observer import Observer


def patch_torch(patches: "Patches", observer: "Observer") -> None:
    """Replace everything in torch that the watch observes."""
    around = observer.recorder.around
    patches.function(torch.autograd, "backward", observer.backwards.wrap_backward)
    patches.method(nn.Module, "__call__", observer.forwards.wrap_call)
    patches.method(nn.Module, "zero_grad", around("clear", before=observer.clearing.before_module_zero_grad))

    optimizer = torch.optim.Optimizer
    patches.method(optimizer, "__init__", around("optimizer", after=lambda own, *_, **__: observer.adopt(own)))
    patches.method(optimizer, "zero_grad", around("clear", before=observer.clearing.before_optimizer_zero_grad))
    for name in ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_"):
        if hasattr(torch.nn.utils, name):
            patches.function(torch.nn.utils, name, observer.clipping.wrap_clip)

    scaler, hooks = torch.amp.GradScaler, observer.scaler
    patches.method(scaler, "scale", hooks.wrap_scale)
    patches.method(scaler, "unscale_", around("scaler", before=hooks.before_unscale, after=hooks.after_unscale))
    patches.method(scaler, "step", around("scaler", before=hooks.before_step, after=hooks.after_step))
    patches.method(scaler, "update", around("scaler", before=hooks.before_update))

    for schedule in {kind for kind in vars(lr_scheduler).values() if isinstance(kind, type) and "step" in vars(kind)}:
        patches.method(schedule, "step", around("schedule", before=observer.schedules.before_step))
    for name in ("nan_to_num", "nan_to_num_"):
        patches.function(torch, name, around("replacement", before=observer.replacements.before_nan_to_num))
        patches.method(Tensor, name, around("replacement", before=observer.replacements.before_nan_to_num))


class Patches:
    """What was replaced, and by what it is put back."""

    def __init__(self) -> None:
        self._methods: list[tuple[type, str, Any, bool]] = []
        self._functions: list[tuple[Function, Function]] = []

    def method(self, owner: type, name: str, wrap: Callable[[Function], Function]) -> None:
        """Replace ``owner.name`` by ``wrap(original)``."""
        is_own = name in vars(owner)
        original = getattr(owner, name)
        self._methods.append((owner, name, original, is_own))
        setattr(owner, name, skipped_by_compiler(functools.wraps(original)(wrap(original))))

    def function(self, module: ModuleType, name: str, wrap: Callable[[Function], Function]) -> None:
        """Replace a module's function, also where another module has imported it by name."""
        original = getattr(module, name)
        replacement = skipped_by_compiler(functools.wraps(original)(wrap(original)))
        replacement.__module__, replacement.__qualname__ = module.__name__, name  # by which it is pickled
        operator = _find_builtin(original)
        if operator is not None:  # torch.jit.script knows an operator by its function
            _register_builtin(replacement, operator)
        self._functions.append((original, replacement))
        _exchange([(original, replacement)])

    def restore(self) -> None:
        """Put everything back, the latest first, also where it was imported by name since."""
        while self._methods:
            owner, name, original, is_own = self._methods.pop()
            if is_own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)
        _exchange([(replacement, original) for original, replacement in self._functions])
        while self._functions:
            _get_builtin_table().pop(id(self._functions.pop()[1]), None)
        rules = sys.modules.get("torch._dynamo.trace_rules")
        if rules is not None and hasattr(rules, "clear_lru_cache"):
            rules.clear_lru_cache()  # the compiler remembers what torch's names meant when it first looked


def _exchange(pairs: list[tuple[Function, Function]]) -> None:
    """Replace the first by the second of each pair in every module."""
    replacements = {id(old): new for old, new in pairs}
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict):
            for key, value in list(names.items()):
                if id(value) in replacements:
                    setattr(module, key, replacements[id(value)])
