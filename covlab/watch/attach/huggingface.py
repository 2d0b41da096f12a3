"""Watch what the Trainer of transformers trains, or a trainer of TRL.

trainer = Trainer(model, arguments, train_dataset=data, callbacks=[WatchCallback()])
"""

from functools import wraps
from typing import Any

from covlab.watch.attach.training_watch import TrainingWatch, WatchFailed
from covlab.watch.report import Report

try:
    from transformers import Trainer, TrainerCallback
except ModuleNotFoundError as missing:
    raise ImportError(f"WatchCallback needs {missing.name}: pip install 'transformers[torch]'") from missing

__all__ = ["WatchCallback", "WatchFailed"]


class WatchCallback(TrainerCallback):
    """Watch from the begin of a training to its end, then print the report to standard error.

    Args:
        fail_on: raise ``WatchFailed`` at the end for findings at least this bad: "never", "unseen", "fault" or
            "warning".
        options: of ``covlab.watch.watch``, such as ``steps=20``, ``light=True`` or ``ignore=["W13"]``.
    """

    def __init__(self, fail_on: str = "never", **options: Any) -> None:
        self.training = TrainingWatch(fail_on, **options)
        _report_after_exceptions()

    @property
    def report(self) -> Report | None:
        """The report of the last training; None before its end."""
        return self.training.report

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        optimizers = [] if optimizer is None else [optimizer]
        self.training.begin(*optimizers, prints=state.is_world_process_zero)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop |= self.training.has_enough()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.training.end_or_fail(prints=state.is_world_process_zero)


def _report_after_exceptions() -> None:
    """Let ``Trainer.train`` end the watch after an exception, of which it tells no callback."""
    train = Trainer.train
    if hasattr(train, "ends_the_watch"):
        return

    @wraps(train)
    def ends_the_watch(self: Any, *args: Any, **kwargs: Any) -> Any:
        error: BaseException | None = None
        try:
            return train(self, *args, **kwargs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, WatchCallback):
                    callback.training.end(self.is_world_process_zero(), error)

    ends_the_watch.ends_the_watch = True  # type: ignore[attr-defined]
    Trainer.train = ends_the_watch
