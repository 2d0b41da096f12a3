"""Pictures of training runs."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.plots import COLOURS, LINES
from covlab.trainer import Trainer


def learning_curves(runs: Mapping[str, Trainer]) -> Figure:
    """Train and validation NMSE of each run over the epochs, on a logarithmic axis."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (label, run), colour in zip(runs.items(), COLOURS, strict=False):
        epochs = [row["epoch"] + 1 for row in run.history]
        for line, value in zip(LINES, ("validation", "train"), strict=False):
            axes.plot(epochs, [row[value] for row in run.history], line, color=colour, label=f"{_stamped(label, run)}: {value}")
    axes.set(xlabel="epoch", ylabel="NMSE (1 = knows nothing)", yscale="log")
    axes.legend()
    return figure


def window_columns(groups: Mapping[str, Mapping[str, Trainer]], columns: Mapping[str, str]) -> Figure:
    """Ledger columns over the windows, one row of panels a group of runs, one panel a column.

    Where the runs clip, the threshold is drawn into their panels of a gradient norm.

    Args:
        groups: {row title: {label: run}}.
        columns: {ledger column: axis label}.
    """
    figure, panels = plt.subplots(
        len(groups), len(columns), figsize=(4.6 * len(columns), 3.2 * len(groups)), layout="constrained", squeeze=False, sharex=True, sharey="col"
    )
    for row, (title, runs) in zip(panels, groups.items(), strict=True):
        for axes, (column, name) in zip(row, columns.items(), strict=True):
            for (label, run), colour, line in zip(runs.items(), COLOURS, LINES, strict=False):
                values = run.ledger.columns()
                axes.plot(values["window"], values[column], line, color=colour, label=_stamped(label, run), linewidth=1.3)
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
    figure = Figure(figsize=(9.6 * size**0.5, 3.4 * size**0.5))
    *panels, last = figure.subplots(1, len(runs) + 1, width_ratios=(*[1] * len(runs), 1.15))
    figure.subplots_adjust(left=0.065, right=0.98, bottom=0.16, top=0.85, wspace=0.26)
    values = [value for run in runs.values() for row in run.history for value in (row["train"], row["validation"]) if 0 < value < math.inf]
    low, high = (min(values) * 0.5, max(values) * 1.35) if values else (0.1, 1)
    for axes, (label, run), colour in zip(panels, runs.items(), COLOURS, strict=False):
        places = [row["epoch"] + 1 for row in run.history]
        axes.plot(places, [row["train"] for row in run.history], "--", color=colour, linewidth=1.4 * size, label="train, as logged")
        axes.plot(places, [row["validation"] for row in run.history], "-o", color=colour, linewidth=1.8 * size, markersize=3 * size, label="NMSE, measured")
        axes.set(yscale="log", ylim=(low, high), xlim=(0.5, epochs + 0.5), xlabel="epoch")
        axes.set_xticks([1, *range(4, epochs + 1, 4)])
        _plain_log_ticks(axes, low, high)
        axes.set_title(_stamped(label, run), fontsize=10 * size**0.5)
        axes.legend(fontsize=8 * size**0.5, loc="lower left")
    for (label, run), colour, line in zip(runs.items(), COLOURS, LINES, strict=False):
        norms = [row["gradient_norm"] for row in run.ledger.rows]
        last.plot(range(1, len(norms) + 1), norms, line, color=colour, linewidth=1.4 * size, label=_stamped(label, run))
    first = next(iter(runs.values()))
    shown = [row["gradient_norm"] for run in runs.values() for row in run.ledger.rows if 0 < row["gradient_norm"] < math.inf]
    if first.recipe.clip is not None:
        shown.append(first.recipe.clip)
        last.axhline(first.recipe.clip, color="black", linewidth=0.9)
        last.annotate("clip", (0.99, first.recipe.clip), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8 * size**0.5)
    low, high = (min(shown) * 0.4, max(shown) * 1.5) if shown else (0.1, 1)
    last.set(yscale="log", ylim=(low, high), xlim=(0, first.recipe.windows + 1), xlabel="window (optimizer step)")
    _plain_log_ticks(last, low, high)
    last.set_title("gradient norm before clipping", fontsize=10 * size**0.5)
    last.legend(fontsize=8 * size**0.5, loc="lower left")
    return figure


def _plain_log_ticks(axes: Axes, low: float, high: float) -> None:
    """1, 2, 5, … in plain figures: matplotlib's own labels are superscripts, and slow to set."""
    ticks = [float(f"{digit}e{power}") for power in range(-6, 7) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    if len(shown) > 7:
        shown = [tick for tick in shown if f"{tick:e}"[0] == "1"]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()


def _stamped(label: str, run: Trainer) -> str:
    return f"{label} (BUGGED)" if run.faults else label
