"""Measure the NMSE of the back-projection network and its training time, on held-out scenes and in the overfit test.

    covlab bench training [--windows 1500] [--seed 0]

Compare times only within one run: they depend on the machine and on what else it does.
"""

import argparse
import time

import covlab  # noqa: F401  (sets the thread policy, which must happen before torch loads)

# isort: split

import torch

from covlab.metrics import by_snr
from covlab.networks.model import BackProjectionNet
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import Scenario, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.loss import LossWeights
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer


def fitted(run: Trainer) -> float:
    """Train ``run`` to its end, and return the seconds that this takes."""
    began = time.perf_counter()
    run.fit()
    return time.perf_counter() - began


def new_run(
    scenario: Scenario, scenes: FreshScenes | FixedScenes, validation: Batch, windows: int, seed: int
) -> Trainer:
    torch.manual_seed(seed)
    network, recipe = BackProjectionNet(scenario), Recipe(windows=windows)
    return Trainer(network, scenes, validation, recipe, weights=LossWeights.only(lam_cov=1.0), progress=Silent())


def held_out(name: str, windows: int, seed: int) -> None:
    scenario = preset(name)
    simulator = Simulator(scenario)
    validation = simulator.draw(2048, scene_generator(seed, "validation"))
    run = new_run(scenario, FreshScenes(simulator, 32, 400, seed), validation, windows, seed)
    start, seconds, scores = run.evaluate().mean().item(), fitted(run), run.evaluate()
    print(
        f"{name}, held out: NMSE {start:.3f} -> {scores.mean():.3f} (median {scores.median():.3f}) in {windows} "
        f"windows, {seconds:.0f} s"
    )
    for row in by_snr(validation, scores):
        print(f"    SNR {row['low_db']:3.0f} to {row['high_db']:2.0f} dB: {row['mean']:.3f}")


def overfit(name: str, seed: int) -> None:
    scenario = preset(name)
    simulator = Simulator(scenario)
    scenes = simulator.draw(512, scene_generator(seed, "overfit"))
    run = new_run(scenario, FixedScenes(scenes, 32, seed), scenes, 120, seed)
    seconds, memorized = fitted(run), run.history[-1]["validation"]
    run.validation = simulator.draw(2048, scene_generator(seed, "validation"))
    print(
        f"{name}, overfit test: NMSE {memorized:.4f} on its own 512 scenes after 30 epochs, "
        f"{run.evaluate().mean():.3f} held out, {seconds:.0f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=1500, help="optimizer steps of the held-out run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    held_out("student", options.windows, options.seed)
    for size in ("student", "full"):
        overfit(size, options.seed)
