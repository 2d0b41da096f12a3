"""Functions replaced for a while, everywhere they are known by name, and put back."""

import functools
import sys
from collections.abc import Callable
from typing import Any

from torch.jit._builtins import _find_builtin, _get_builtin_table, _register_builtin

from covlab.watch.aside import uncompiled


class Patches:
    """What was replaced, and by what it is put back."""

    def __init__(self):
        self._methods: list[tuple[object, str, Any, bool]] = []
        self._functions: list[tuple[Callable, Callable]] = []

    def method(self, owner: type | object, name: str, wrap: Callable[[Callable], Callable]) -> None:
        """Replace ``owner.name`` by ``wrap(original)``."""
        own = name in vars(owner)
        original = getattr(owner, name)
        self._methods.append((owner, name, original, own))
        setattr(owner, name, uncompiled(functools.wraps(original)(wrap(original))))

    def function(self, module: object, name: str, wrap: Callable[[Callable], Callable]) -> None:
        """The same for a module's function, also where another module has imported it by name."""
        original = getattr(module, name)
        replacement = uncompiled(functools.wraps(original)(wrap(original)))
        replacement.__module__, replacement.__qualname__ = module.__name__, name  # by which it is pickled
        operator = _find_builtin(original)
        if operator is not None:  # torch.jit.script knows an operator by its function
            _register_builtin(replacement, operator)
        self._functions.append((original, replacement))
        _exchange([(original, replacement)])

    def restore(self) -> None:
        """Put everything back, the latest first, also where it was imported by name since."""
        while self._methods:
            owner, name, original, own = self._methods.pop()
            if own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)
        _exchange([(replacement, original) for original, replacement in self._functions])
        while self._functions:
            _get_builtin_table().pop(id(self._functions.pop()[1]), None)
        rules = sys.modules.get("torch._dynamo.trace_rules")
        if hasattr(
            rules, "clear_lru_cache"
        ):  # of functions that a compiler knows by what torch's names meant when it first looked
            rules.clear_lru_cache()


def _exchange(pairs: list[tuple[Callable, Callable]]) -> None:
    """The new for the old in every module."""
    instead = {id(old): new for old, new in pairs}
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict):
            for key, value in list(names.items()):
                if id(value) in instead:
                    setattr(module, key, instead[id(value)])
