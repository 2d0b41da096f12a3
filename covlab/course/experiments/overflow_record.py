"""Which windows overflowed, whatever was done about it afterwards."""

from covlab.faults.observed_window import gradient_of
from covlab.faults.small_run import finish, small_run
from covlab.training.trainer import Trainer


def record_overflows(trainer: Trainer) -> list[bool]:
    """A list that will say, window by window, whether backward left a number that is not finite in ``trainer``'s
    gradient.

    It is asked before anything can be mended, and changes nothing.
    """
    overflowed: list[bool] = []
    sanitize = trainer.sanitize

    def watched() -> None:
        overflowed.append(not gradient_of(trainer).isfinite().all().item())
        sanitize()

    trainer.sanitize = watched  # type: ignore[method-assign]  # of this run alone
    return overflowed


def overflow_mystery_run(seed: int) -> Trainer:
    """Nine windows of a faulty run, whose fault is to be told from its ledger."""
    return finish(small_run("sanitize_after_unscale", seed=seed, precision="fp16", loss_scale=2.0**26, windows=9))
