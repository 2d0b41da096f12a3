"""Runs that train at the same time."""

import os
import signal
import time

import pytest
import torch

from covlab.faults.small_run import small_run
from covlab.scenes.batch import Batch
from covlab.training.nan_diagnosis import NonFiniteLoss
from covlab.training.progress import Lines
from covlab.training.together import train_together
from covlab.training.trainer import Trainer


class Counted(Lines):
    """What a bar is told."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.said: list[str] = []
        super().__init__(self.said.append)

    def begin(self, done: int, total: int) -> None:
        self.began = (done, total)

    def count(self, windows: int, status: str = "") -> None:
        self.counts.append(windows)


def some_runs() -> list[Trainer]:
    """Runs of different lengths, one with a fault, more than there are threads."""
    faulty = small_run("missing_division", seed=1, windows=9)
    return [faulty, *(small_run(seed=seed, windows=windows) for seed, windows in enumerate([12, 3, 20, 7, 12, 5]))]


def test_each_run_ends_as_it_does_alone() -> None:
    alone, together, bar = some_runs(), some_runs(), Counted()
    for run in alone:
        run.fit()
    train_together(*together, progress=bar)
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.vector, other.vector)
        assert one.history == other.history
    assert bar.began == (0, sum(bar.counts))
    assert not bar.said


def test_no_runs_and_finished_runs_are_done() -> None:
    run = small_run(windows=2).fit()
    train_together()
    train_together(run)
    assert run.window == 2


def test_the_error_of_a_run_stops_the_others() -> None:
    runs = [small_run(windows=5000), small_run(windows=40, learning_rate=1e30, nonfinite_limit=2, clip=None)]
    with pytest.raises(NonFiniteLoss):
        train_together(*runs)
    assert runs[0].window < 5000


def test_an_interrupted_training_goes_on_to_the_same_end() -> None:
    alone, together, bar = small_run(windows=60).fit(), small_run(windows=60), Counted()
    train_window = together.train_window

    def interrupted(window: list[Batch]) -> None:
        train_window(window)
        if together.window == 10:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    together.train_window = interrupted  # type: ignore[method-assign]
    train_together(together, progress=bar)
    assert 10 <= together.window < 60
    assert "Interrupted" in bar.said[0]
    together.train_window = train_window  # type: ignore[method-assign]
    train_together(together)
    assert torch.equal(alone.vector, together.vector)


def test_a_run_given_twice_is_refused() -> None:
    run = small_run(windows=2)
    with pytest.raises(ValueError, match="runs"):
        train_together(run, run)
    assert run.window == 0
