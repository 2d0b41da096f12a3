"""Describe a run in plain values, as its folder's ``config.json`` does, and build its trainer from them."""

import time
from dataclasses import asdict
from itertools import islice
from typing import Any

import torch

from covlab.arguments import MOST, SEED, number, whole_number
from covlab.networks.model import BackProjectionNet, Network, SnapshotConvNet
from covlab.networks.unrolled import UnrolledNet
from covlab.scenes.scenario import Scenario
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.training.loss import LossWeights
from covlab.training.progress import Silent
from covlab.training.ranks import ALONE, Ranks
from covlab.training.recipe import Recipe
from covlab.training.trainer import Trainer

NETWORKS: dict[str, type[Network]] = {
    "back-projection": BackProjectionNet,
    "snapshot-conv": SnapshotConvNet,
    "unrolled": UnrolledNet,
}
VALIDATION_SCENES = 2048
OVERFIT_SCENES = 512
WARM_UP_SECONDS = 3.0

WIDTH = whole_number(1, 2**14)
FIELDS = {
    "seed": SEED,
    "micro_batch": whole_number(1, 2**20),
    "windows_per_epoch": whole_number(1, MOST),
    "width": WIDTH.or_none("the default of the network"),
}
"""What each setting of a run may be, besides those of its recipe and its weights."""

MINUTES = number(above=0, most=525_600)
"""A budget in minutes: at most a year."""


def configure(
    scenario: Scenario,
    network: str,
    overfit: bool,
    seed: int,
    micro_batch: int,
    windows_per_epoch: int,
    recipe: Recipe,
    weights: LossWeights,
    width: int | None = None,
) -> dict[str, Any]:
    """Return the configuration that :func:`build` takes. ``network``: name of its class; ``width`` None: its default.

    With ``overfit``, a run trains on a few fixed scenes, which are also its validation.

    Raises:
        ValueError: a setting is out of its range; the message names it.
    """
    given = {"seed": seed, "micro_batch": micro_batch, "windows_per_epoch": windows_per_epoch, "width": width}
    for name, allowed in FIELDS.items():
        allowed.check(name, given[name])
    scenes: dict[str, str | int] = {"micro_batch": micro_batch, "seed": seed}
    if overfit:
        scenes |= {"kind": "fixed", "scenes": OVERFIT_SCENES}
    else:
        scenes |= {"kind": "fresh", "micro_batches": windows_per_epoch * recipe.accumulation}
    return {
        "scenario": asdict(scenario),
        "scenes": scenes,
        "network": network,
        "width": width,
        "recipe": asdict(recipe),
        "weights": asdict(weights),
    }


def build(config: dict[str, Any], device: str, **trainer: Any) -> Trainer:
    """Build the trainer that ``config`` describes. ``trainer`` holds further arguments of ``Trainer``."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in config["scenario"].items()
    }
    scenario = Scenario(**fields)
    simulator, scenes = Simulator(scenario, device), config["scenes"]
    seed = scenes["seed"]
    source: FreshScenes | FixedScenes
    if scenes["kind"] == "fixed":
        validation = simulator.draw(scenes["scenes"], scene_generator(seed, "overfit", device=device))
        source = FixedScenes(validation, scenes["micro_batch"], seed)
    else:
        validation = simulator.draw(VALIDATION_SCENES, scene_generator(seed, "validation", device=device))
        source = FreshScenes(simulator, scenes["micro_batch"], scenes["micro_batches"], seed)
    torch.manual_seed(seed)
    kind = {network.__name__: network for network in NETWORKS.values()}[config["network"]]
    network = kind(scenario, **({} if config["width"] is None else {"width": config["width"]})).to(device)
    return Trainer(network, source, validation, Recipe(**config["recipe"]), LossWeights(**config["weights"]), **trainer)


def windows_within(config: dict[str, Any], minutes: float, device: str, ranks: Ranks = ALONE) -> int:
    """Measure with a throwaway trainer how many windows, validations included, fit into ``minutes`` on this machine.

    Raises:
        ValueError: ``minutes`` is out of range.
    """
    MINUTES.check("minutes", minutes)
    probe = build(config, device, progress=Silent(), ranks=ranks)
    windows = list(islice(probe.draw_windows(0), 2))
    probe.train_window(windows[0])
    began, count = time.perf_counter(), 0
    while not ranks.any(time.perf_counter() - began >= WARM_UP_SECONDS):
        probe.train_window(windows[-1])
        count += 1
        probe.ledger.flush()
    per_window = (time.perf_counter() - began) / count
    began = time.perf_counter()
    probe.evaluate().mean().item()
    per_epoch = time.perf_counter() - began
    return ranks.once(lambda: max(1, int(60 * minutes / (per_window + per_epoch / probe.windows_per_epoch))))
