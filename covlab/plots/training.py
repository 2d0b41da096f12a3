"""Draw training runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.arguments import Real, Text, checked, rows
from covlab.plots import (
    COLOURS,
    LINES,
    MARKS,
    WHITE,
    check_lengths,
    note,
    over_epochs,
    plain_figures,
    stamped,
    subplots,
)
from covlab.training.trainer import Trainer


@checked
def learning_curves(runs: Mapping[str, Trainer]) -> Figure:
    """Draw train and validation NMSE of each run over the epochs, on a logarithmic axis."""
    figure, axes = subplots(size=(9.5, 4))
    for (label, run), colour in zip(runs.items(), COLOURS, strict=False):
        for line, value in zip(LINES, ("validation", "train"), strict=False):
            axes.plot(*over_epochs(run, value), line, color=colour, label=f"{stamped(label, run)}: {value}")
    axes.set(xlabel="epoch", ylabel="NMSE (1 = knows nothing)", yscale="log")
    plain_figures(axes.yaxis)
    figure.legend(loc="outside right upper", fontsize=9)
    return figure


@checked
def window_columns(groups: Mapping[str, Mapping[str, Trainer]], columns: Mapping[str, str]) -> Figure:
    """Draw ledger columns over the windows, one row of panels per group of runs, one panel per column.

    Panels of a gradient norm show the clipping threshold of runs that clip.

    Args:
        groups: {row title: {label: run}}.
        columns: {ledger column: axis label}.
    """
    size = (3.6 * len(columns), 2.8 * len(groups))
    figure, panels = subplots(len(groups), len(columns), size=size, squeeze=False, sharex=True, sharey="col")
    for row, (title, runs) in zip(panels, groups.items(), strict=True):
        for axes, (column, name) in zip(row, columns.items(), strict=True):
            for label, run in runs.items():
                run.ledger.flush()
                # a long run does not measure every column in every window
                measured = [(row["window"], row[column]) for row in run.ledger.rows if column in row]
                axes.plot(*zip(*measured, strict=True), label=stamped(label, run), linewidth=1.3)
            clip = next(iter(runs.values())).recipe.clip
            if clip is not None and column.startswith("gradient_norm"):
                axes.axhline(clip, color="black", linewidth=0.8)
                axes.text(1, clip, "clip ", transform=axes.get_yaxis_transform(), ha="right", va="bottom")
            axes.set(title=title, ylabel=name, yscale="log")
        row[0].legend()
    plt.setp(panels[-1], xlabel="window (optimizer step)")
    return figure


def side_by_side(runs: Mapping[str, Trainer], epochs: int) -> Figure:
    """Draw logged loss and validation NMSE of each run in its own panel, and all gradient norms in the last one.

    Args:
        runs: {label: run}.
        epochs: number of epochs on the axes.
    """
    letters = 9.0
    ratios = (*[1] * len(runs), 1.15)
    margins = {"left": 0.11, "right": 0.97, "bottom": 0.08, "top": 0.95, "hspace": 0.62}
    figure, (*panels, last) = subplots(len(ratios), 1, size=(5.2, 5.5), margins=margins, height_ratios=ratios)
    recipe = next(iter(runs.values())).recipe
    # The axes hold what a run usually reaches, so that they do not move while it goes on. A bug often sums over the
    # micro-batches of a window.
    usual = 0.1, 1.5 * max(2, recipe.accumulation)
    values = [value for run in runs.values() for row in run.history for value in (row["train"], row["validation"])]
    for axes, (label, run), colour in zip(panels, runs.items(), COLOURS, strict=False):
        for column, line, width, name in (
            ("train", "--", 1.4, "train, as logged"),
            ("validation", "-o", 1.8, "NMSE, measured"),
        ):
            style = {"color": colour, "linewidth": width, "markersize": 3, "label": name}
            axes.plot(*over_epochs(run, column), line, **style)
        axes.set_xlim(0.5, epochs + 0.5)
        axes.set_xticks([1, *range(4, epochs + 1, 4)])
        _log_axis(axes, usual, values, stamped(label, run), "epoch", letters, "lower left")
    norms = []
    for label, run in runs.items():
        own = [row["gradient_norm"] for row in run.ledger.rows]
        last.plot(range(1, len(own) + 1), own, linewidth=1.4, label=stamped(label, run))
        norms += own
    if recipe.clip is not None:
        norms.append(recipe.clip)
        last.axhline(recipe.clip, color="black", linewidth=0.9, label=f"clipped at {recipe.clip:g}")
    last.set_xlim(0, recipe.windows + 1)
    _log_axis(last, (0.015, 8), norms, "gradient norm before clipping", "window", letters, "lower right")
    return figure


def _log_axis(
    axes: Axes, usual: tuple[float, float], values: Sequence[float], title: str, below: str, letters: float, corner: Any
) -> None:
    """Label a logarithmic axis with the ``usual`` limits, which more extreme ``values`` push outwards.

    The labels have none of matplotlib's superscripts, which are slow to draw.
    """
    shown = [value for value in values if 0 < value < math.inf]
    low = min((0.7 * value for value in shown if value < usual[0]), default=usual[0])
    high = max((1.3 * value for value in shown if value > usual[1]), default=usual[1])
    axes.set(yscale="log", ylim=(low, high))
    for line in axes.lines:  # a logarithmic axis has no zero, and a curve of zeros is the symptom to look for
        curve, floor = np.asarray(line.get_ydata(), dtype=float), axes.get_ylim()[0]
        if np.any(curve == 0):
            line.set(ydata=np.where(curve == 0, floor, curve), clip_on=False, zorder=3)
            x, side = (0.97, "right") if corner == "lower left" else (0.03, "left")  # where the legend is not
            note(axes, "exactly 0", (x, 0), (0, 4), xycoords="axes fraction", ha=side, fontsize=letters)
    plain_figures(axes.yaxis)
    axes.minorticks_off()
    axes.tick_params(labelsize=letters)
    axes.set_xlabel(below, fontsize=letters)
    axes.set_title(title, fontsize=1.1 * letters)
    axes.legend(fontsize=0.9 * letters, loc=corner)


@checked
def memorized_and_held_out(scores: Mapping[str, Mapping[str, Real]]) -> Figure:
    """Draw each network's error on the scenes it learned from and on others as dots; an NMSE of 1 knows nothing.

    Args:
        scores: {network: {which scenes: NMSE}}.
    """
    figure, axes = subplots(size=(7.5, 0.8 + 0.75 * len(scores)))
    for row, errors in enumerate(scores.values()):
        axes.plot(list(errors.values()), [row] * len(errors), "-", color=COLOURS[6], linewidth=0.8, zorder=1)
        for (what, error), colour, mark in zip(errors.items(), COLOURS, MARKS, strict=False):
            axes.plot(error, row, mark, color=colour, markersize=9, label=what if row == 0 else None)
            note(axes, f"{error:.2g}", (error, row), (0, 9), ha="center", bbox=WHITE)
    axes.axvline(1, color=COLOURS[6], linestyle=":", linewidth=1)
    note(axes, "knows nothing", (1, len(scores) - 0.55), (-4, 0), ha="right")
    axes.set(xscale="log", xlabel="NMSE (0 = perfect)", ylim=(len(scores) - 0.4, -0.6))
    axes.set_yticks(range(len(scores)), scores)
    figure.legend(fontsize="small", loc="outside upper center", ncols=2)
    return figure


@checked
def same_run(runs: Mapping[str, Sequence[dict]], column: Text, name: Text) -> Figure:
    """Draw a ledger column of two runs (above) and the relative difference of the second from the first (below).

    Args:
        runs: {label: ledger rows}, two of them.
        column: of the ledger.
        name: of that column, for the reader.
    """
    if len(runs) != 2:
        raise ValueError(f"runs must be two, got {', '.join(runs)}")
    (first_label, first), (second_label, second) = runs.items()
    rows("window", column).check("runs", [*first, *second])
    check_lengths("runs", runs, len(first))
    windows = [row["window"] for row in first]
    one, two = [row[column] for row in first], [row[column] for row in second]
    figure, (above, below) = subplots(2, size=(8, 4.6), sharex=True, height_ratios=(2, 1))
    above.plot(windows, one, "-", color=COLOURS[0], linewidth=3, alpha=0.5, label=first_label)
    above.plot(windows, two, "x", color=COLOURS[1], markersize=5, label=second_label)
    above.set_ylabel(name)
    above.legend(frameon=False)
    least = 1e-8  # below the rounding of single precision; equal values are drawn here
    difference = [max(abs(mine - its) / abs(its), least) for mine, its in zip(two, one, strict=True)]
    below.semilogy(windows, difference, "o", color="black", markersize=3)
    below.axhline(2**-23, color="0.6", linestyle="--", linewidth=1)
    beside = {"transform": below.get_yaxis_transform(), "va": "center", "fontsize": 9, "color": "0.3"}
    below.text(1.01, 2**-23, "a single\nrounding", **beside)
    below.set(ylim=(least / 2, 1e-2), xlabel="window (optimizer step)", ylabel="relative\ndifference")
    below.grid(axis="y", color="0.88")
    return figure


def over_band(
    bands: Mapping, curves: Mapping[str, Sequence[float]], kinds: Mapping[str, str], *, buggy: bool = False
) -> Figure:
    """Draw a run's curves over the band of correct runs, one panel per column, on a logarithmic axis.

    Args:
        bands: {column: covlab.course.reference_band.Band}.
        curves: {column: one value per epoch}; a cross at the top marks a value that is not finite or not above 0.
        kinds: {column: the verdict in a word}.
        buggy: whether a bug is switched on in the run.
    """
    figure, panels = subplots(1, len(curves), size=(4.8 * len(curves), 3.6), squeeze=False)
    for axes, (column, curve) in zip(panels[0], curves.items(), strict=True):
        middle, half = bands[column].middle, bands[column].half
        epochs, values = np.arange(1, len(middle) + 1), np.asarray(curve, dtype=float)
        band = {"color": COLOURS[5], "alpha": 0.35, "label": "correct runs"}
        axes.fill_between(epochs, np.exp(middle - half), np.exp(middle + half), **band)
        axes.plot(epochs, np.exp(middle), "--", color=COLOURS[0], linewidth=1, label="their mean")
        epochs, shown = epochs[: len(values)], np.isfinite(values) & (values > 0)
        yours = "your run (BUG)" if buggy else "your run"
        axes.plot(
            epochs, np.where(shown, values, np.nan), "-o", color=COLOURS[1], linewidth=2, markersize=3, label=yours
        )
        if not shown.all():
            top = {"transform": axes.get_xaxis_transform(), "color": COLOURS[1], "label": "not finite, or not above 0"}
            axes.plot(epochs[~shown], np.full((~shown).sum(), 0.97), "x", **top)
        axes.set(xlabel="epoch", yscale="log", ylabel=f"{column} NMSE (1 = knows nothing)")
        axes.set_title(f"{column}: {kinds[column]}")
        axes.legend(fontsize="small")
    return figure
