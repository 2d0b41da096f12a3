"""Pictures of the course: a run over its reference band, and the tensors of lesson 01."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from covlab.plots import COLOURS

if TYPE_CHECKING:
    from covlab.simulator import Batch, Simulator


def over_band(
    bands: Mapping, curves: Mapping[str, Sequence[float]], kinds: Mapping[str, str], *, bugged: bool = False
) -> Figure:
    """One panel a column: the run's curve over the band of right runs, on a logarithmic axis.

    Args:
        bands: {column: covlab.course.bands.Band}.
        curves: {column: one value an epoch}; values that are not finite, or not above 0, are left out and marked at the
            top.
        kinds: {column: the verdict in a word}.
    """
    figure, panels = plt.subplots(1, len(curves), figsize=(4.8 * len(curves), 3.6), layout="constrained", squeeze=False)
    for axes, (column, curve) in zip(panels[0], curves.items(), strict=True):
        band = bands[column]
        epochs = np.arange(1, len(band.middle) + 1)
        axes.fill_between(
            epochs,
            np.exp(band.middle - band.half),
            np.exp(band.middle + band.half),
            color=COLOURS[5],
            alpha=0.35,
            label="right runs",
        )
        axes.plot(epochs, np.exp(band.middle), "--", color=COLOURS[0], linewidth=1, label="their mean")
        values = np.asarray(curve, dtype=float)
        drawn = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        axes.plot(
            epochs[: len(values)],
            drawn,
            color=COLOURS[1],
            linewidth=2,
            marker="o",
            markersize=3,
            label="your run" + " (BUGGED)" * bugged,
        )
        missing = epochs[: len(values)][np.isnan(drawn)]
        if len(missing):
            top = axes.get_xaxis_transform()
            axes.plot(
                missing,
                np.full(len(missing), 0.97),
                "x",
                color=COLOURS[1],
                transform=top,
                label="not finite, or not above 0",
            )
        axes.set(
            xlabel="epoch",
            ylabel=f"{column} NMSE (1 = knows nothing)",
            yscale="log",
            title=f"{column}: {kinds[column]}",
        )
        axes.legend(fontsize="small")
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


def memorized_and_held_out(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """Dots on a logarithmic axis: for each network its error on the scenes it learned from and on others; 1 knows
    nothing.

    Args:
        scores: {network: {what on: NMSE}}.
    """
    figure, axes = plt.subplots(figsize=(7.5, 0.8 + 0.75 * len(scores)), layout="constrained")
    for row, errors in enumerate(scores.values()):
        axes.plot(list(errors.values()), [row] * len(errors), "-", color=COLOURS[6], linewidth=0.8, zorder=1)
        for (what, error), colour, marker in zip(errors.items(), COLOURS, "osD^", strict=False):
            axes.plot(error, row, marker, color=colour, markersize=9, label=what if row == 0 else None)
            axes.annotate(
                f"{error:.2g}",
                (error, row),
                xytext=(0, 9),
                textcoords="offset points",
                ha="center",
                fontsize="small",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
    axes.axvline(1, color=COLOURS[6], linestyle=":", linewidth=1)
    axes.annotate(
        "knows nothing",
        (1, len(scores) - 0.55),
        ha="right",
        rotation=0,
        fontsize="small",
        xytext=(-4, 0),
        textcoords="offset points",
    )
    axes.set(
        xscale="log",
        xlabel="NMSE (0 = perfect)",
        yticks=range(len(scores)),
        yticklabels=list(scores),
        ylim=(len(scores) - 0.4, -0.6),
    )
    figure.legend(fontsize="small", loc="outside upper center", ncols=2)
    return figure
