"""Scenes and a small network, as the lessons on gradients compare them."""

import torch

from covlab.arguments import Count, Seed, Text, checked
from covlab.networks.model import BackProjectionNet
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import Scenario
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.tensor_arguments import Device


@checked
def scenes_and_network(
    scenario: Scenario, device: Device, seed: Seed, stream: Text, count: Count = 128
) -> tuple[Batch, BackProjectionNet]:
    """Draw ``count`` scenes from the random numbers named ``stream``, and make an untrained network for them."""
    scenes = Simulator(scenario, device).draw(count, scene_generator(seed, stream, device=device))
    torch.manual_seed(seed)
    return scenes, BackProjectionNet(scenario, beams=32, width=64, rank=4).to(device)
