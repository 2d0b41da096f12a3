"""Pictures of scenes: covariances, and spectra over the places where sources may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from covlab.plots import COLOURS, LINES

TOP_DB = 30.0
"""Peaks of the true R have no end: they are cut here."""


@dataclass(frozen=True)
class Spectra:
    """MUSIC spectra along one axis, in dB; 0: nothing of R's signal subspace there."""

    axis: np.ndarray  #: [G]
    name: str  #: of the axis, with its unit
    levels: Mapping[str, np.ndarray]  #: {label: dB [G]}
    truth: Sequence[float]  #: where the sources really are


def covariance_and_spectra(R: np.ndarray, title: str, spectra: Sequence[Spectra]) -> Figure:
    """|R| [N, N], and beside it the spectra along each axis."""
    figure = Figure(figsize=(9.4, 3.7))
    first, *panels = figure.subplots(1, 1 + len(spectra), width_ratios=(1, *[1.15] * len(spectra)))
    figure.subplots_adjust(left=0.05, right=0.975, bottom=0.25, top=0.86, wspace=0.3)
    image = first.imshow(R, cmap="cividis", vmin=0)
    bar = figure.colorbar(image, ax=first, orientation="horizontal", pad=0.22, fraction=0.06)
    bar.ax.tick_params(labelsize=8)
    ticks = [0, len(R) - 1]
    first.set_xticks(ticks, [1, len(R)])
    first.set_yticks(ticks, [1, len(R)])
    first.set(xlabel="element n")
    first.set_title(title, fontsize=10)
    highest = max(level.max() for spectrum in spectra for level in spectrum.levels.values())
    top = min(TOP_DB, max(3.0, 1.15 * highest))
    for axes, spectrum in zip(panels, spectra, strict=True):
        for (label, level), colour, line in zip(spectrum.levels.items(), COLOURS, LINES, strict=False):
            axes.plot(spectrum.axis, np.minimum(level, top), line, color=colour, label=label, linewidth=1.6)
        for place in spectrum.truth:
            axes.axvline(place, color="black", linestyle=":", linewidth=1.2)
        axes.set(
            xlabel=spectrum.name, ylabel="MUSIC, dB", xlim=(spectrum.axis[0], spectrum.axis[-1]), ylim=(0, 1.02 * top)
        )
        axes.set_title("dotted: the true sources", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize=9, loc="lower right", ncols=len(labels), bbox_to_anchor=(0.96, 0.0), frameon=False
    )
    return figure
