"""Another worker for a study: a process of its own, as a second shell or a second machine would be."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def another_worker(study: str, storage: str, trials: int) -> Iterator[list[str]]:
    """Let a second process join ``study`` until it holds ``trials`` finished trials; the list holds what it said, once
    it has ended.

    Raises:
        RuntimeError: the worker failed; the message is what it wrote.
    """
    command = [
        sys.executable,
        "-m",
        "covlab",
        "tune",
        "--study",
        study,
        "--storage",
        storage,
        "--trials",
        str(trials),
        "--device",
        "cpu",
    ]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said: list[str] = []
    try:
        yield said
        out, problem = worker.communicate()
        if worker.returncode:
            raise RuntimeError(f"the second worker failed: {problem.strip()}")
        said += out.splitlines()
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.communicate()
