"""Watch a training loop: check the invariants of a training step in unchanged code.

    with watch(model, optimizer) as w:
        train(...)
    w.report()

or, for a script, ``python -m covlab.watch train.py --its-arguments``. Needs PyTorch and nothing else.
"""

from covlab.watch.finding import Finding
from covlab.watch.invariants import TITLES
from covlab.watch.report import Report
from covlab.watch.seen.steps import StepLimitReached
from covlab.watch.session import watch

__all__ = ["TITLES", "Finding", "Report", "StepLimitReached", "watch"]
