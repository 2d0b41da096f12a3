"""Pictures of training runs."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.plots import COLOURS, LINES, plain_figures
from covlab.training.trainer import Trainer

if TYPE_CHECKING:
    pass


Room = Literal["lower left", "lower right"]


def learning_curves(runs: Mapping[str, Trainer]) -> Figure:
    """Train and validation NMSE of each run over the epochs, on a logarithmic axis."""
    figure, axes = plt.subplots(figsize=(9.5, 4), layout="constrained")
    for (label, run), colour in zip(runs.items(), COLOURS, strict=False):
        epochs = [row["epoch"] + 1 for row in run.history]
        for line, value in zip(LINES, ("validation", "train"), strict=False):
            axes.plot(
                epochs,
                [row[value] for row in run.history],
                line,
                color=colour,
                label=f"{_stamped(label, run)}: {value}",
            )
    axes.set(xlabel="epoch", ylabel="NMSE (1 = knows nothing)", yscale="log")
    plain_figures(axes.yaxis)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


def window_columns(groups: Mapping[str, Mapping[str, Trainer]], columns: Mapping[str, str]) -> Figure:
    """Ledger columns over the windows, one row of panels a group of runs, one panel a column.

    Where the runs clip, the threshold is drawn into their panels of a gradient norm.

    Args:
        groups: {row title: {label: run}}.
        columns: {ledger column: axis label}.
    """
    figure, panels = plt.subplots(
        len(groups),
        len(columns),
        figsize=(4.6 * len(columns), 3.2 * len(groups)),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey="col",
    )
    for row, (title, runs) in zip(panels, groups.items(), strict=True):
        for axes, (column, name) in zip(row, columns.items(), strict=True):
            for (label, run), colour, line in zip(runs.items(), COLOURS, LINES, strict=False):
                run.ledger.flush()
                # a long run does not measure all in each window
                measured = [(row["window"], row[column]) for row in run.ledger.rows if column in row]
                axes.plot(*zip(*measured, strict=True), line, color=colour, label=_stamped(label, run), linewidth=1.3)
            clip = next(iter(runs.values())).recipe.clip
            if clip is not None and column.startswith("gradient_norm"):
                axes.axhline(clip, color="black", linewidth=0.8)
                axes.annotate("clip", (1, clip), xycoords=("axes fraction", "data"), ha="right", va="bottom")
            axes.set(title=title, ylabel=name, yscale="log")
        row[0].legend()
    for axes in panels[-1]:
        axes.set_xlabel("window (optimizer step)")
    return figure


def side_by_side(runs: Mapping[str, Trainer], epochs: int, size: float = 1.0) -> Figure:
    """Two runs: logged loss and validation of each in a panel of its own, and both gradient norms in a third.

    Args:
        runs: {label: run}.
        epochs: how far the axes reach.
        size: of letters and lines; 2 can be read from the back row.
    """
    letters, wide = 9 * size, 1 + 0.55 * (size - 1)
    figure = Figure(figsize=(9.6 * wide, 3.4 * wide))
    *panels, last = figure.subplots(1, len(runs) + 1, width_ratios=(*[1] * len(runs), 1.15))
    more = size / wide
    figure.subplots_adjust(left=0.06 * more, right=0.98, bottom=0.15 * more, top=1 - 0.14 * more, wspace=0.25 * more)
    values = [value for run in runs.values() for row in run.history for value in (row["train"], row["validation"])]
    for axes, (label, run), colour in zip(panels, runs.items(), COLOURS, strict=False):
        places = [row["epoch"] + 1 for row in run.history]
        axes.plot(
            places,
            [row["train"] for row in run.history],
            "--",
            color=colour,
            linewidth=1.4 * size,
            label="train, as logged",
        )
        axes.plot(
            places,
            [row["validation"] for row in run.history],
            "-o",
            color=colour,
            linewidth=1.8 * size,
            markersize=3 * size,
            label="NMSE, measured",
        )
        axes.set(xlim=(0.5, epochs + 0.5))
        axes.set_xticks([1, *range(4, epochs + 1, 4)])
        _log_axis(axes, values, _stamped(label, run), "epoch", letters)
    for (label, run), colour, line in zip(runs.items(), COLOURS, LINES, strict=False):
        norms = [row["gradient_norm"] for row in run.ledger.rows]
        last.plot(range(1, len(norms) + 1), norms, line, color=colour, linewidth=1.4 * size, label=_stamped(label, run))
    clip, windows = (getattr(next(iter(runs.values())).recipe, name) for name in ("clip", "windows"))
    norms = [row["gradient_norm"] for run in runs.values() for row in run.ledger.rows]
    if clip is not None:
        norms.append(clip)
        last.axhline(clip, color="black", linewidth=0.9 * size, label=f"clipped at {clip:g}")
    last.set(xlim=(0, windows + 1))
    _log_axis(last, norms, "gradient norm before clipping", "window", letters, room="lower right")
    return figure


def _log_axis(
    axes: Axes, values: Sequence[float], title: str, below: str, letters: float, room: Room = "lower left"
) -> None:
    """A logarithmic axis around ``values``, labelled 1, 2, 5, … in plain figures: matplotlib's own superscripts are
    slow to set.
    """
    shown = [value for value in values if 0 < value < math.inf]
    low, high = (min(shown) * 0.4, max(shown) * 1.5) if shown else (0.1, 1)
    axes.set(yscale="log", ylim=(low, high))
    ticks = [float(f"{digit}e{power}") for power in range(-6, 7) for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) > 7:
        ticks = [tick for tick in ticks if f"{tick:e}"[0] == "1"]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(labelsize=letters)
    axes.set_xlabel(below, fontsize=letters)
    axes.set_title(title, fontsize=1.1 * letters)
    axes.legend(fontsize=0.9 * letters, loc=room)


def _stamped(label: str, run: Trainer) -> str:
    return f"{label} (BUGGED)" if run.faults else label


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


def same_run(runs: Mapping[str, Sequence[dict]], column: str, name: str) -> Figure:
    """Above, a ledger column of two runs, window by window; below, how far the second is from the first, relative to
    it.

    Args:
        runs: {label: ledger rows}, two of them.
        column: of the ledger, and its ``name`` for the reader.
    """
    (first_label, first), (second_label, second) = runs.items()
    windows, values = [row["window"] for row in first], [row[column] for row in first]
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 4.6), layout="constrained", sharex=True, height_ratios=(2, 1)
    )
    above.plot(windows, values, "-", color=COLOURS[0], linewidth=3, alpha=0.5, label=first_label)
    above.plot(windows, [row[column] for row in second], "x", color=COLOURS[1], markersize=5, label=second_label)
    above.set_ylabel(name)
    above.legend(frameon=False)
    difference = [abs(mine[column] - its[column]) / abs(its[column]) for mine, its in zip(second, first, strict=True)]
    least = 1e-8  # below the rounding of single precision; where both are equal to the bit there is nothing to draw
    below.semilogy(windows, [max(value, least) for value in difference], "o", color="black", markersize=3)
    below.axhline(2**-23, color="0.6", linestyle="--", linewidth=1)
    below.annotate(
        "a single\nrounding",
        (1.01, 2**-23),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=9,
        color="0.3",
        annotation_clip=False,
    )
    below.set(ylim=(least / 2, 1e-2), xlabel="window (optimizer step)", ylabel="relative\ndifference")
    below.grid(axis="y", color="0.88")
    return figure


def over_band(
    bands: Mapping, curves: Mapping[str, Sequence[float]], kinds: Mapping[str, str], *, bugged: bool = False
) -> Figure:
    """One panel a column: the run's curve over the band of right runs, on a logarithmic axis.

    Args:
        bands: {column: covlab.course.reference_band.Band}.
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
