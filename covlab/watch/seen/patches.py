"""Replace functions of torch temporarily, in every module that has imported them, and restore them."""

import functools
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from types import FunctionType, ModuleType
from typing import cast

from torch.jit._builtins import _find_builtin, _get_builtin_table, _register_builtin

from covlab.watch.seen.isolation import hidden_from_warnings, skipped_by_compiler
from covlab.watch.seen.recorder import Decorator, Function


class Patches:
    """Methods and functions that are replaced, and how to restore them."""

    def __init__(self) -> None:
        self._methods = ExitStack()
        self._functions: list[tuple[Function, Function]] = []

    def method(self, owner: type, name: str, wrap: Decorator, compiled: bool = False) -> None:
        """Replace ``owner.name`` by ``wrap(original)``. With ``compiled``, torch.compile may compile its calls."""
        original = getattr(owner, name)
        if name in vars(owner):
            self._methods.callback(setattr, owner, name, original)
        else:
            self._methods.callback(delattr, owner, name)
        setattr(owner, name, _wrapped(original, wrap, compiled))

    def attribute(self, module: ModuleType, name: str, wrap: Decorator) -> None:
        """Replace a function where it is looked up as ``module.name``, and nowhere else."""
        original = getattr(module, name)
        self._methods.callback(setattr, module, name, original)
        setattr(module, name, _wrapped(original, wrap))

    def functions(self, wraps: Sequence[tuple[ModuleType, str, Decorator]]) -> None:
        """Replace functions of modules, also in every module that has imported them by name."""
        pairs = []
        for module, name, wrap in wraps:
            original = getattr(module, name)
            replacement = _wrapped(original, wrap)
            replacement.__module__, replacement.__qualname__ = module.__name__, name  # pickle looks it up there
            operator = _find_builtin(original)
            if operator is not None:  # torch.jit.script looks up an operator by its function
                _register_builtin(replacement, operator)
            pairs.append((original, replacement))
        self._functions += pairs
        _exchange(pairs)

    def restore(self) -> None:
        """Restore everything, also in modules that have imported a replacement by name since."""
        self._methods.close()
        _exchange([(replacement, original) for original, replacement in self._functions])
        while self._functions:
            _get_builtin_table().pop(id(self._functions.pop()[1]), None)
        rules = sys.modules.get("torch._dynamo.trace_rules")
        if rules is not None and hasattr(rules, "clear_lru_cache"):
            rules.clear_lru_cache()  # the compiler caches which function a name of torch stands for


def _wrapped(original: Function, wrap: Decorator, compiled: bool = False) -> Function:
    wrapper = cast(FunctionType, functools.wraps(original)(wrap(original)))
    hidden_from_warnings(wrapper)
    return wrapper if compiled else skipped_by_compiler(wrapper)


def _exchange(pairs: list[tuple[Function, Function]]) -> None:
    """Replace the first of each pair by the second in every module."""
    replacements = {id(old): new for old, new in pairs}
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict) and not replacements.keys().isdisjoint(map(id, names.values())):
            for key, value in list(names.items()):
                if id(value) in replacements:
                    setattr(module, key, replacements[id(value)])
