"""Pictures of where sources are: spectra over directions, beside the truth."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from covlab.networks.source_grid import Grid
from covlab.plots import COLOURS
from covlab.scenes.batch import Batch


def direction_spectra(spectra: Mapping[str, Tensor], grid: Grid, scene: Batch, floor_db: float = -20.0) -> Figure:
    """Maps over azimuth and elevation, a panel a spectrum, in dB below its own peak; a cross where a source is.

    Args:
        spectra: {title: spectrum of one scene over the grid [G]}; of all ranges of a direction the highest is drawn.
        scene: that scene alone.
    """
    figure, panels = plt.subplots(
        1, len(spectra), figsize=(2.7 * len(spectra) + 0.8, 2.9), layout="constrained", sharey=True, squeeze=False
    )
    azimuths, elevations = (torch.unique(axis) * 180 / math.pi for axis in (grid.azimuth, grid.elevation))
    present = scene.power[0] > 0
    places = (scene.azimuth[0][present] * 180 / math.pi, scene.elevation[0][present] * 180 / math.pi)
    for axes, (title, spectrum) in zip(panels[0], spectra.items(), strict=True):
        level = spectrum.view(grid.shape).amax(dim=0)
        decibels = (10 * (level / level.max()).log10()).clamp(min=floor_db)
        image = axes.pcolormesh(
            azimuths, elevations, decibels, cmap="cividis", vmin=floor_db, vmax=0, shading="nearest"
        )
        axes.plot(*places, "+", color="white", markersize=15, markeredgewidth=3.5)
        axes.plot(*places, "+", color=COLOURS[1], markersize=13, markeredgewidth=1.8)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("azimuth φ (°)")
    panels[0][0].set_ylabel("elevation θ (°)")
    figure.colorbar(image, ax=panels[0].tolist(), label="dB, 0 at its peak", shrink=0.9)
    return figure
