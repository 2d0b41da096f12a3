"""Watch a training loop and check the invariants of its steps, without changing its code.

In your own code::

    with watch(model, optimizer) as w:
        train(...)
    w.report()

For a script, run ``python -m covlab.watch train.py --its-arguments``. It needs only PyTorch. PyTorch is loaded when one
of these names is first used, because pytest loads the plugin in ``attach`` in every run, also where nothing is watched.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covlab.watch.finding import Finding
    from covlab.watch.invariants import TITLES
    from covlab.watch.report import Report
    from covlab.watch.seen.step_limit import StepLimitReached
    from covlab.watch.session import watch

__all__ = ["TITLES", "Finding", "Report", "StepLimitReached", "watch"]

_DEFINED_IN = {
    "TITLES": "invariants",
    "Finding": "finding",
    "Report": "report",
    "StepLimitReached": "seen.step_limit",
    "watch": "session",
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
