"""Watch a training loop and check the invariants of its steps, without changing its code.

In your own code::

    with watch(model, optimizer) as w:
        train(...)
    w.report()

For a script, run ``python -m covlab.watch train.py --its-arguments``. It needs only PyTorch.
"""

from covlab.watch.finding import Finding
from covlab.watch.invariants import TITLES
from covlab.watch.report import Report
from covlab.watch.seen.step_limit import StepLimitReached
from covlab.watch.session import watch

__all__ = ["TITLES", "Finding", "Report", "StepLimitReached", "watch"]
