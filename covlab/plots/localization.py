"""Pictures of where sources are: spectra over directions, beside the truth."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from covlab.grid import Grid
from covlab.plots import COLOURS
from covlab.simulator import Batch


def direction_spectra(spectra: Mapping[str, Tensor], grid: Grid, scene: Batch, floor_db: float = -20.0) -> Figure:
    """Maps over azimuth and elevation, a panel a spectrum, in dB below its own peak; a cross where a source is.

    Args:
        spectra: {title: spectrum of one scene over the grid [G]}; of all ranges of a direction the highest is drawn.
        scene: that scene alone.
    """
    figure, panels = plt.subplots(1, len(spectra), figsize=(2.7 * len(spectra) + 0.8, 2.9), layout="constrained", sharey=True, squeeze=False)
    azimuths, elevations = (torch.unique(axis) * 180 / math.pi for axis in (grid.azimuth, grid.elevation))
    present = scene.power[0] > 0
    places = (scene.azimuth[0][present] * 180 / math.pi, scene.elevation[0][present] * 180 / math.pi)
    for axes, (title, spectrum) in zip(panels[0], spectra.items(), strict=True):
        level = spectrum.view(grid.shape).amax(dim=0)
        decibels = (10 * (level / level.max()).log10()).clamp(min=floor_db)
        image = axes.pcolormesh(azimuths, elevations, decibels, cmap="cividis", vmin=floor_db, vmax=0, shading="nearest")
        axes.plot(*places, "+", color="white", markersize=15, markeredgewidth=3.5)
        axes.plot(*places, "+", color=COLOURS[1], markersize=13, markeredgewidth=1.8)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("azimuth φ (°)")
    panels[0][0].set_ylabel("elevation θ (°)")
    figure.colorbar(image, ax=panels[0].tolist(), label="dB below the peak", shrink=0.9)
    return figure


def ladder(rows: Mapping[str, tuple[float, float]], lines: Mapping[str, float]) -> Figure:
    """Mean (bar) and median (diamond) error of each estimator, in the given order.

    Args:
        rows: {estimator: (mean NMSE, median NMSE)}.
        lines: {label: NMSE} of vertical lines to compare with.
    """
    figure, axes = plt.subplots(figsize=(7.5, 0.38 * len(rows) + 1.2), layout="constrained")
    places = range(len(rows))
    means, medians = zip(*rows.values(), strict=True)
    axes.barh(places, means, color=COLOURS[5], edgecolor=COLOURS[0], label="mean")
    axes.plot(medians, places, "D", color=COLOURS[1], label="median")
    for place, mean, median in zip(places, means, medians, strict=True):
        axes.annotate(f"{mean:.3f}", (max(mean, median), place), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9)
    for (label, value), line in zip(lines.items(), ("--", ":"), strict=False):
        axes.axvline(value, color="black", linestyle=line, linewidth=1, label=label)
    axes.set_yticks(places, rows)
    axes.invert_yaxis()
    axes.set(xlabel="NMSE on scenes nobody has seen", xlim=(0, 1.12 * max(means)))
    axes.legend(loc="lower right", fontsize=9)
    return figure
