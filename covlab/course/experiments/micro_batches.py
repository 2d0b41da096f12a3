"""Windows cut in different ways, and networks that notice how they were cut."""

import copy

from torch import nn

from covlab.networks.model import BackProjectionNet
from covlab.scenes.batch import Batch


def cut(scenes: Batch, counts: list[int]) -> list[Batch]:
    """The first ``sum(counts)`` scenes, in micro-batches of so many scenes each.

    Raises:
        ValueError: there are not that many scenes.
    """
    if sum(counts) > len(scenes):
        raise ValueError(f"counts must sum to at most {len(scenes)} scenes, got {sum(counts)}")
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    return [scenes[end - count : end] for count, end in zip(counts, ends, strict=True)]


def with_batch_norm(model: BackProjectionNet) -> BackProjectionNet:
    """A copy of ``model`` that normalizes over the scenes of a micro-batch where the original does so over features."""
    copied = copy.deepcopy(model)
    for number, layer in enumerate(copied.backbone):
        if isinstance(layer, nn.LayerNorm):
            copied.backbone[number] = nn.BatchNorm1d(layer.normalized_shape[0])
    return copied
