"""Watch somebody's training loop: the invariants of a training step, checked in their own code, unchanged.

    with watch(model, optimizer) as w:
        train(...)
    w.report()

or, for a script, ``python -m covlab.watch train.py --its-arguments``. Needs PyTorch and nothing else.
"""

from covlab.watch.finding import TITLES, Finding
from covlab.watch.observer import Enough
from covlab.watch.report import Report
from covlab.watch.session import watch

__all__ = ["TITLES", "Enough", "Finding", "Report", "watch"]
