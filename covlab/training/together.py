"""Train independent runs at the same time."""

import os
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import closing
from threading import Event

from covlab.arguments import checked
from covlab.training.progress import Lines, interrupt_as_flag, suited
from covlab.training.trainer import Trainer

MOST_THREADS = 4
"""More threads would only wait for Python's global lock, which PyTorch releases inside its operations alone."""


def threads_for_runs() -> ThreadPoolExecutor:
    """Return an executor with a thread for each core, up to ``MOST_THREADS``."""
    return ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1))


@checked
def train_together(*runs: Trainer, progress: Lines | None = None) -> None:
    """Train ``runs`` to their ends, each in a thread of its own, as many at a time as there are cores.

    Every run gets the result that it has alone. One bar counts the windows of all. An interrupt stops each run after
    its current window; call this again to continue.

    Args:
        runs: trainers that share nothing.
        progress: reports progress; None: a bar or nothing, whichever suits the output.

    Raises:
        ValueError: a run is given twice.
        ValueError, NonFiniteLoss, FileExistsError, CheckpointError: as ``Trainer.windows`` does. The other runs stop
            after their current windows.
    """
    stop = Event()
    if len(set(runs)) < len(runs):
        raise ValueError("runs must be different trainers, got one of them twice")
    progress = progress or suited()

    def train(run: Trainer) -> None:
        with closing(run.windows()) as windows:
            while not stop.is_set() and next(windows, None) is not None:
                pass

    done = sum(run.window for run in runs)
    progress.begin(done, sum(run.recipe.windows for run in runs))
    try:
        with interrupt_as_flag() as interrupted, threads_for_runs() as pool:
            training = {pool.submit(train, run) for run in runs}
            try:
                while training:
                    ended, training = wait(training, timeout=0.2, return_when=FIRST_COMPLETED)
                    for run in ended:
                        run.result()
                    now = sum(run.window for run in runs)
                    progress.count(now - done)
                    done = now
                    if interrupted() and not stop.is_set():
                        stop.set()
                        progress.say(f"Interrupted after {done} windows of all runs; they can continue from here.")
            finally:
                stop.set()  # an exception must not wait for the ends of the other runs
    finally:
        progress.end()
