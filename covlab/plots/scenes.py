"""Pictures of scenes: covariances, and spectra over the places where sources may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from covlab.plots import COLOURS, LINES

if TYPE_CHECKING:
    from covlab.scenes.batch import Batch
    from covlab.scenes.simulator import Simulator


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


def scene_from_above(simulator: "Simulator", batch: "Batch", scene: int = 0) -> Figure:
    """The site in plan: RIS at the origin, BS, and where this scene's sources stand."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    scenario = simulator.scenario
    low, high = scenario.azimuth
    reach = np.linspace(low, high, 60)
    edge = scenario.range_m[1] * np.stack([np.cos(reach), np.sin(reach)])
    axes.fill(
        np.append(edge[0], 0), np.append(edge[1], 0), color=COLOURS[5], alpha=0.15, label="where sources may stand"
    )
    axes.plot(0, 0, "s", color=COLOURS[0], markersize=9, label=f"RIS, N = {scenario.ris_elements} elements")
    axes.plot(4.0, -3.0, "^", color=COLOURS[1], markersize=9, label=f"BS, M = {scenario.bs_antennas} antennas")
    axes.plot([0, 4.0], [0, -3.0], ":", color=COLOURS[6], linewidth=1.5, label="channel G, the same in all scenes")
    here = batch.power[scene] > 0
    level = batch.range_m[scene] * batch.elevation[scene].cos()
    x, y = (level * batch.azimuth[scene].cos())[here].tolist(), (level * batch.azimuth[scene].sin())[here].tolist()
    axes.plot(x, y, "o", color=COLOURS[2], label=f"sources, K = {len(x)} in this scene")
    for k, (one, other) in enumerate(zip(x, y, strict=True)):
        axes.plot([one, 0], [other, 0], "--", color=COLOURS[2], linewidth=1, label="their waves, A" if k == 0 else None)
        up = 1 if other > 0 else -1  # away from the RIS
        axes.annotate(
            f"power {batch.power[scene][here][k]:.2f}",
            (one, other),
            xytext=(0, 7 * up),
            textcoords="offset points",
            ha="center",
            va="bottom" if up > 0 else "top",
            fontsize="small",
        )
    axes.set(xlabel="x in m (the RIS looks this way)", ylabel="y in m", aspect="equal", xlim=(-1, 12))
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def contract_tensors(batch: "Batch", scene: int = 0) -> Figure:
    """One scene as the network gets it, and the label: |y|, |H|, the phase of the codes, |R|."""
    y, H, codes = (
        np.asarray(tensor[scene][..., 0] + 1j * tensor[scene][..., 1]) for tensor in (batch.y, batch.H, batch.codes)
    )
    R = np.asarray(batch.covariance()[scene])
    figure, panels = plt.subplots(1, 4, figsize=(11, 3.7), layout="constrained")
    shown = (
        ("y: what the BS received", np.abs(y).T, "snapshot l", "antenna m", "viridis", "|y|", None),
        (
            "H: what it would receive from\nevery element at once",
            np.abs(H).T,
            "snapshot l",
            "antenna m",
            "viridis",
            "|H|",
            None,
        ),
        ("codes: what the RIS did", np.angle(codes).T, "snapshot l", "element n", "twilight", "phase in rad", np.pi),
        ("R: what is to be estimated", np.abs(R), "element n", "element n′", "viridis", "|R|", None),
    )
    for axes, (title, values, across, up, colours, unit, limit) in zip(panels, shown, strict=True):
        image = axes.imshow(
            values,
            origin="lower",
            cmap=colours,
            vmin=-limit if limit else 0,
            vmax=limit,
            aspect="auto",
            interpolation="nearest",
        )
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel=across, ylabel=up)
        axes.set_title(f"{title}\n[{values.shape[1]} × {values.shape[0]}]", fontsize=10)
        figure.colorbar(image, ax=axes, label=unit, location="bottom", shrink=0.8)
    return figure
