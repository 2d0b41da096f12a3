"""Start a second worker for a study in its own process, as from a second shell or machine."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from covlab.arguments import Count, Text, checked


@contextmanager
@checked
def another_worker(study: Text, storage: Text, trials: Count) -> Iterator[list[str]]:
    """Let a second process join ``study`` until it holds ``trials`` finished trials.

    The list that this yields is empty at first; it gets the lines of the worker's output when the worker has ended.

    Raises:
        RuntimeError: the worker failed; the message is its error output.
    """
    command = [sys.executable, "-m", "covlab", "tune", "--study", study, "--storage", storage]
    command += ["--trials", str(trials), "--device", "cpu"]
    output: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        try:
            yield output
            out, problem = worker.communicate()
        finally:
            worker.kill()  # does nothing to a worker that has ended
    if worker.returncode:
        raise RuntimeError(f"the second worker failed: {problem.strip()}")
    output += out.splitlines()
