"""Draw where sources are: spectra over directions, with the true positions."""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from matplotlib.figure import Figure
from torch import Tensor

from covlab.arguments import checked, number
from covlab.networks.source_grid import Grid
from covlab.plots import COLOURS, MAGNITUDES, subplots
from covlab.scenes.batch import Batch
from covlab.tensor_arguments import tensor


@checked
def direction_spectra(
    spectra: Mapping[str, Annotated[Tensor, tensor("G")]],
    grid: Grid,
    scene: Batch,
    floor_db: Annotated[float, number(below=0)] = -20.0,
) -> Figure:
    """Draw each spectrum over azimuth and elevation, in dB below its own peak, with a cross at each true source.

    Args:
        spectra: {title: spectrum of one scene over the grid [G]}; the highest value of all ranges is drawn.
        scene: a batch with only that scene.
        floor_db: lowest level drawn, in dB.
    """
    figure, panels = subplots(1, len(spectra), size=(2.7 * len(spectra) + 0.8, 2.9), sharey=True, squeeze=False)
    azimuths, elevations = (torch.unique(axis) * 180 / math.pi for axis in (grid.azimuth, grid.elevation))
    present = scene.power[0] > 0
    directions = (scene.azimuth[0][present] * 180 / math.pi, scene.elevation[0][present] * 180 / math.pi)
    for axes, (title, spectrum) in zip(panels[0], spectra.items(), strict=True):
        level = spectrum.view(grid.shape).amax(dim=0)
        decibels = (10 * (level / level.max()).log10()).clamp(min=floor_db)
        image = axes.pcolormesh(
            azimuths, elevations, decibels, cmap=MAGNITUDES, vmin=floor_db, vmax=0, shading="nearest"
        )
        axes.plot(*directions, "+", color="white", markersize=15, markeredgewidth=3.5)
        axes.plot(*directions, "+", color=COLOURS[1], markersize=13, markeredgewidth=1.8)
        axes.set_title(title, fontsize=10)
        axes.set(xlabel="azimuth φ (°)", ylabel="elevation θ (°)")
        axes.label_outer()
    figure.colorbar(image, ax=panels, label="dB below the peak", shrink=0.9)
    return figure
