"""Record which windows overflow, before the trainer cleans their gradients."""

from covlab.arguments import Seed, checked
from covlab.faults.observed_window import gradient_of
from covlab.faults.small_run import finish, small_run
from covlab.training.trainer import Trainer


@checked
def record_overflows(trainer: Trainer) -> list[bool]:
    """Return a list. Each window of ``trainer`` then appends to it whether the window's gradient was not finite."""
    overflowed: list[bool] = []
    sanitize = trainer.sanitize

    def watched() -> None:
        overflowed.append(not gradient_of(trainer).isfinite().all().item())
        sanitize()

    trainer.sanitize = watched  # type: ignore[method-assign]  # only of this run
    return overflowed


@checked
def overflow_mystery_run(seed: Seed) -> Trainer:
    """Return a faulty run of nine windows, whose fault the student identifies from the ledger."""
    return finish(small_run("sanitize_after_unscale", seed=seed, precision="fp16", loss_scale=2.0**26, windows=9))
