"""Draw scenes: positions, contract tensors, covariances, and spectra over the positions that sources may have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from covlab.arguments import Index, checked, whole_number
from covlab.plots import COLOURS, MAGNITUDES, PHASES, note, subplots
from covlab.scenes.batch import Batch
from covlab.scenes.simulator import Simulator

TOP_DB = 30.0  # peaks of the true R are infinitely high; they are cut off here


@dataclass(frozen=True)
class Spectra:
    """MUSIC spectra along one axis, in dB; 0 means that R's signal subspace has no part there."""

    axis: np.ndarray  #: [G]
    name: str  #: of the axis, with its unit
    levels: Mapping[str, np.ndarray]  #: {label: dB [G]}
    truth: Sequence[float]  #: the true positions of the sources


def covariance_and_spectra(R: np.ndarray, title: str, spectra: Sequence[Spectra]) -> Figure:
    """Draw |R| [N, N] and the spectra along each axis."""
    margins = {"left": 0.12, "right": 0.97, "bottom": 0.09, "top": 0.95, "hspace": 0.62}
    ratios = (1.5, *[1] * len(spectra))
    figure, (first, *panels) = subplots(len(ratios), 1, size=(5.2, 5.5), margins=margins, height_ratios=ratios)
    image = first.imshow(R, cmap=MAGNITUDES, vmin=0)
    bar = first.inset_axes((1.05, 0, 0.06, 1))
    figure.colorbar(image, cax=bar)
    bar.tick_params(labelsize=8)
    for axis in (first.xaxis, first.yaxis):
        axis.set_ticks([0, len(R) - 1], [1, len(R)])
    first.set(xlabel="element n′", ylabel="element n")
    first.xaxis.labelpad = -8
    first.set_title(title, fontsize=10)
    highest = max(level.max() for spectrum in spectra for level in spectrum.levels.values())
    top = min(TOP_DB, max(3.0, 1.15 * highest))
    for axes, spectrum in zip(panels, spectra, strict=True):
        for label, level in spectrum.levels.items():
            axes.plot(spectrum.axis, np.minimum(level, top), label=label, linewidth=1.6)
        for position in spectrum.truth:
            axes.axvline(position, color="black", linestyle=":", linewidth=1.2)
        axes.set(xlabel=spectrum.name, xlim=spectrum.axis[[0, -1]], ylabel="MUSIC (dB)", ylim=(0, 1.02 * top))
        axes.set_title("dotted: true sources", fontsize=9, loc="right")
        axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(-0.02, 0.98), borderaxespad=0, fontsize=8, frameon=False)
    return figure


@checked
def scene_from_above(simulator: Simulator, batch: Batch, scene: Index = 0) -> Figure:
    """Draw RIS (at the origin), BS and the sources of one scene from above, in meters."""
    whole_number(0, len(batch) - 1).check("scene", scene)
    figure, axes = subplots(size=(6.4, 4.2))
    scenario = simulator.scenario
    angles = np.linspace(*scenario.azimuth, 60)
    edge = scenario.range_m[1] * np.stack([np.cos(angles), np.sin(angles)])
    axes.fill([*edge[0], 0], [*edge[1], 0], color=COLOURS[5], alpha=0.15, label="where sources may stand")
    axes.plot(0, 0, "s", color=COLOURS[0], markersize=9, label=f"RIS, N = {scenario.ris_elements} elements")
    axes.plot(4.0, -3.0, "^", color=COLOURS[1], markersize=9, label=f"BS, M = {scenario.bs_antennas} antennas")
    axes.plot([0, 4.0], [0, -3.0], ":", color=COLOURS[6], linewidth=1.5, label="channel G, the same in all scenes")
    here = batch.power[scene] > 0
    level = batch.range_m[scene] * batch.elevation[scene].cos()
    x, y = (level * batch.azimuth[scene].cos())[here].tolist(), (level * batch.azimuth[scene].sin())[here].tolist()
    axes.plot(x, y, "o", color=COLOURS[2], label=f"sources, K = {len(x)} in this scene")
    for k, (one, other) in enumerate(zip(x, y, strict=True)):
        axes.plot([one, 0], [other, 0], "--", color=COLOURS[2], linewidth=1, label="their waves, A" if k == 0 else None)
        up, align = (7, "bottom") if other > 0 else (-7, "top")  # away from the RIS
        note(axes, f"power {batch.power[scene][here][k]:.2f}", (one, other), (0, up), ha="center", va=align)
    axes.set(xlabel="x in m (the RIS faces this way)", ylabel="y in m", aspect="equal", xlim=(-1, 12))
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@checked
def contract_tensors(batch: Batch, scene: Index = 0) -> Figure:
    """Draw one scene's input tensors and the label: |y|, |H|, the phase of the codes in rad, and |R|.

    A row of y, H and codes is a snapshot; the first one is at the top.
    """
    whole_number(0, len(batch) - 1).check("scene", scene)
    y, H, codes = (
        np.asarray(tensor[scene][..., 0] + 1j * tensor[scene][..., 1]) for tensor in (batch.y, batch.H, batch.codes)
    )
    size, phase = {"cmap": MAGNITUDES, "vmin": 0}, {"cmap": PHASES, "vmin": -np.pi, "vmax": np.pi}
    R = np.abs(np.asarray(batch.covariance()[scene]))
    figure, panels = subplots(1, 4, size=(11, 4.3))
    for axes, title, values, across, down, unit, style in (
        (panels[0], "y: what the BS received", np.abs(y), "antenna m", "snapshot l", "|y|", size),
        (
            panels[1],
            "H: what it would receive\nfrom all elements at once",
            np.abs(H),
            "antenna m",
            "snapshot l",
            "|H|",
            size,
        ),
        (panels[2], "codes: what the RIS did", np.angle(codes), "element n", "snapshot l", "phase in rad", phase),
        (panels[3], "R: what the network\nestimates", R, "element n′", "element n", "|R|", size),
    ):
        image = axes.imshow(values, aspect="equal" if axes is panels[3] else "auto", interpolation="nearest", **style)
        rows, columns = values.shape
        axes.set_xticks(range(0, columns, 1 + columns // 8))
        axes.set_yticks(range(0, rows, 1 + rows // 8))
        axes.set(xlabel=across, ylabel=down)
        axes.set_title(f"{title}\n[{rows} × {columns}]", fontsize=10)
        figure.colorbar(image, ax=axes, label=unit, location="bottom", shrink=0.8)
    return figure


@checked
def way_of_a_wave() -> Figure:
    """Draw the way of a wave from the sources over the surface to the antennas, with the symbol of each stage.

    The drawing is narrow, so that a phone shows all of it.
    """
    figure, axes = subplots(size=(3.4, 4.6))
    axes.set(xlim=(-1.2, 6.2), ylim=(-0.2, 9.8), aspect="equal")
    axes.axis("off")
    arrow = {"arrowstyle": "-|>", "linewidth": 2, "mutation_scale": 14}
    for x, name in ((0.2, "source 1"), (4.8, "source 2")):
        axes.plot(x, 8.8, "o", color=COLOURS[2], markersize=13)
        note(axes, name, (x, 8.8), (0, 10), ha="center", fontsize=10, fontweight="bold")
        axes.annotate("", (2.5 + 0.3 * (x - 2.5), 5.7), (x, 8.4), arrowprops=arrow | {"color": COLOURS[2]})
    for row in range(4):
        for column in range(4):
            axes.plot(1.9 + 0.42 * column, 4.1 + 0.42 * row, "s", color=COLOURS[0], markersize=7)
    axes.annotate("", (2.5, 1.3), (2.5, 3.7), arrowprops=arrow | {"color": COLOURS[1]})
    for antenna in range(8):
        axes.plot(0.4 + 0.6 * antenna, 0.9, "v", color=COLOURS[1], markersize=8)
    for x, y, text, weight in (
        (2.5, 7.6, "send s", "normal"),
        (-1.1, 6.6, "waves\narrive: x", "normal"),
        (3.9, 5.1, "surface (RIS)", "bold"),
        (3.9, 4.35, "16 elements\nwith code c", "normal"),
        (2.8, 2.5, "channel G", "normal"),
        (-1.1, 0.1, "base station", "bold"),
        (2.2, 0.1, "8 antennas receive y", "normal"),
    ):
        axes.text(x, y, text, ha="center" if y == 7.6 else "left", va="center", fontsize=10, fontweight=weight)
    return figure
