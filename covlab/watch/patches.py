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
        self._undo: list[tuple[object, str, Any, bool]] = []
        self._operators: list[Callable] = []

    def method(self, owner: type | object, name: str, wrap: Callable[[Callable], Callable]) -> None:
        """Replace ``owner.name`` by ``wrap(original)``."""
        own = name in vars(owner)
        original = getattr(owner, name)
        replacement = uncompiled(functools.wraps(original)(wrap(original)))
        self._undo.append((owner, name, original, own))
        setattr(owner, name, replacement)

    def function(self, module: object, name: str, wrap: Callable[[Callable], Callable]) -> None:
        """The same for a module's function, also where another module has imported it by name."""
        original = getattr(module, name)
        replacement = uncompiled(functools.wraps(original)(wrap(original)))
        replacement.__module__, replacement.__qualname__ = module.__name__, name  # by which it is pickled
        operator = _find_builtin(original)
        if operator is not None:  # torch.jit.script knows an operator by its function
            _register_builtin(replacement, operator)
            self._operators.append(replacement)
        for other in list(sys.modules.values()):
            names = getattr(other, "__dict__", None)
            if isinstance(names, dict):
                for key in [key for key, value in list(names.items()) if value is original]:
                    self._undo.append((other, key, original, True))
                    setattr(other, key, replacement)

    def restore(self) -> None:
        """Put everything back, the latest first."""
        while self._operators:
            _get_builtin_table().pop(id(self._operators.pop()), None)
        while self._undo:
            owner, name, original, own = self._undo.pop()
            if own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)
