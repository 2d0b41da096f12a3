"""Watch what a Trainer of Lightning fits.

trainer = Trainer(callbacks=[WatchCallback()])
"""

import sys
from importlib import import_module
from typing import Any

from covlab.watch.attach.training_watch import TrainingWatch, WatchFailed
from covlab.watch.report import Report

__all__ = ["WatchCallback", "WatchFailed"]

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")  # two names of one library, whose callbacks do not mix
_package = next((name for name in _PACKAGES if sys.modules.get(name)), None)
if _package is None:
    for _package in _PACKAGES:
        try:
            import_module(_package)
            break
        except ModuleNotFoundError as missing:
            if missing.name not in ("lightning", *_PACKAGES):
                raise
    else:
        raise ImportError("WatchCallback needs lightning: pip install lightning")
Callback: Any = import_module(_package).Callback


class WatchCallback(Callback):
    """Watch from the setup of a fit to the end of its training, then print the report to standard error.

    Args:
        fail_on: raise ``WatchFailed`` at the end for findings at least this bad: "never", "unseen", "fault" or
            "warning".
        options: of ``covlab.watch.watch``, such as ``steps=20``, ``light=True`` or ``ignore=["W13"]``.
    """

    def __init__(self, fail_on: str = "never", **options: Any) -> None:
        super().__init__()
        self.training = TrainingWatch(fail_on, **options)

    @property
    def report(self) -> Report | None:
        """The report of the last training; None before its end."""
        return self.training.report

    def setup(self, trainer: Any, pl_module: Any, **what: str) -> None:
        if what["stage"] == "fit":
            self.training.begin(prints=trainer.is_global_zero)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if self.training.has_enough():
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.training.end_or_fail(prints=trainer.is_global_zero)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.training.end(trainer.is_global_zero, exception)

    def teardown(self, trainer: Any, pl_module: Any, **what: str) -> None:
        if what["stage"] == "fit":  # one with nothing to train has no on_train_end
            self.training.end_or_fail(prints=trainer.is_global_zero)
