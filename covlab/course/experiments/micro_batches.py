"""Cut windows into micro-batches in different ways, and build networks whose results depend on the cut."""

import copy
from itertools import accumulate

from torch import nn

from covlab.arguments import Count, checked
from covlab.networks.model import BackProjectionNet
from covlab.scenes.batch import Batch


@checked
def cut(scenes: Batch, counts: list[Count]) -> list[Batch]:
    """Return the first ``sum(counts)`` scenes in micro-batches of ``counts`` scenes.

    Raises:
        ValueError: there are fewer scenes.
    """
    if sum(counts) > len(scenes):
        raise ValueError(f"counts must sum to at most {len(scenes)} scenes, got {sum(counts)}")
    return [scenes[end - count : end] for count, end in zip(counts, accumulate(counts), strict=True)]


@checked
def with_batch_norm(model: BackProjectionNet) -> BackProjectionNet:
    """Return a copy of ``model`` with batch normalization in place of layer normalization."""
    copied = copy.deepcopy(model)
    for number, layer in enumerate(copied.backbone):
        if isinstance(layer, nn.LayerNorm):
            copied.backbone[number] = nn.BatchNorm1d(layer.normalized_shape[0])
    return copied
