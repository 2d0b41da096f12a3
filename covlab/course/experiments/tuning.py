"""Short training runs that differ in their loss weights, and a second worker for a study."""

import atexit
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from covlab.arguments import Count, Seed, Text, checked
from covlab.networks.model import BackProjectionNet
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import Scenario
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FreshScenes
from covlab.tensor_arguments import Device
from covlab.training.loss import LossWeights
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

WINDOWS = 60


@checked
def unseen_scenes(scenario: Scenario, seed: Seed, device: Device) -> Batch:
    """Draw 1,024 scenes that neither a run nor a study of this lesson trains on or validates with."""
    return Simulator(scenario, device).draw(1024, scene_generator(seed, "final judgement", device=device))


@checked
def short_run(
    scenario: Scenario,
    held_out: Batch,
    weights: LossWeights,
    *,
    learning_rate: float = 3e-3,
    windows: Count = WINDOWS,
    seed: Seed,
) -> Trainer:
    """Return a trainer for a small network, on the device of ``held_out``: four micro-batches of 32 scenes per window.

    It validates on ``held_out``, and is silent.
    """
    device = held_out.y.device
    torch.manual_seed(seed)
    scenes = FreshScenes(Simulator(scenario, device), micro_batch=32, micro_batches=4 * windows, seed=seed)
    recipe = Recipe(windows=windows, learning_rate=learning_rate)
    return Trainer(BackProjectionNet(scenario).to(device), scenes, held_out, recipe, weights, progress=Silent())


@checked
def temporary_storage() -> str:
    """Return the address of a new storage for studies. It is a file, and is deleted when this process ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return f"sqlite:///{Path(folder.name) / 'study.db'}"


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
