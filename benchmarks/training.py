"""What the back-projecting network reaches, and in how long: held out, and in the overfit test.

    covlab bench training [--windows 1500] [--seed 0]

Times are of this machine, as it is now; compare them only within one run.
"""

import argparse
import time

import torch

from covlab.networks.model import BackProjectionNet
from covlab.scenes.scenario import preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.loss import LossWeights
from covlab.training.progress import Silent
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

NMSE = LossWeights.only(lam_cov=1.0)


def held_out(name: str, windows: int, seed: int) -> None:
    scenario = preset(name)
    simulator = Simulator(scenario)
    validation = simulator.draw(2048, scene_generator(seed, "validation"))
    torch.manual_seed(seed)
    run = Trainer(
        BackProjectionNet(scenario),
        FreshScenes(simulator, 32, 400, seed),
        validation,
        Recipe(windows=windows),
        weights=NMSE,
        progress=Silent(),
    )
    start, began = run.evaluate().mean().item(), time.perf_counter()
    run.fit()
    seconds = time.perf_counter() - began
    scores = run.evaluate()
    print(
        f"{name}, held out: NMSE {start:.3f} -> {scores.mean():.3f} (median {scores.median():.3f}) in {windows} "
        f"windows, {seconds:.0f} s"
    )
    for low, high in ((-5, 0), (0, 5), (5, 10), (10, 15), (15, 20)):
        inside = (validation.snr_db >= low) & (validation.snr_db < high)
        print(f"    SNR {low:3d} to {high:2d} dB: {scores[inside].mean():.3f}")


def overfit(name: str, seed: int) -> None:
    scenario = preset(name)
    simulator = Simulator(scenario)
    scenes = simulator.draw(512, scene_generator(seed, "overfit"))
    torch.manual_seed(seed)
    run = Trainer(
        BackProjectionNet(scenario),
        FixedScenes(scenes, 32, seed),
        scenes,
        Recipe(windows=120),
        weights=NMSE,
        progress=Silent(),
    )
    began = time.perf_counter()
    run.fit()
    memorized, seconds = run.history[-1]["validation"], time.perf_counter() - began
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
