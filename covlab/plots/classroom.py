"""Draw two runs for a classroom screen, in large type, on axes that never move."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.arguments import Count, checked
from covlab.plots import COLOURS, WHITE, note, over_epochs, plain_figures, stamped, subplots
from covlab.training.trainer import Trainer

LOSSES, NORMS = (0.2, 12.0), (0.03, 12.0)
"""What the axes hold, whatever the runs reach: an axis that moves while a class looks at it misleads."""

LETTERS = 11


@checked
def classroom(runs: Mapping[str, Trainer], epochs: Count, *, wide: bool = True) -> Figure:
    """Draw logged loss and NMSE of each of two runs in its own panel, and both gradient norms in the last one.

    A value outside the axes is drawn at their edge, and a note says so.

    Args:
        runs: {label: run}.
        epochs: number of epochs on the axes.
        wide: draw the panels beside each other; or else the last one below the others, to fill a square.
    """
    if wide:
        margins = {"left": 0.05, "right": 0.99, "bottom": 0.17, "top": 0.9, "wspace": 0.24}
        figure, (*panels, last) = subplots(1, 3, size=(8.8, 3.3), margins=margins)
    else:
        margins = {"left": 0.09, "right": 0.98, "bottom": 0.12, "top": 0.93, "wspace": 0.26, "hspace": 0.55}
        figure, grid = subplots(2, 2, size=(5.2, 4.3), margins=margins, height_ratios=(1.1, 1))
        panels, last = grid[0], grid[1, 0]
        last.set_subplotspec(last.get_gridspec()[1, :])
        grid[1, 1].remove()
    for axes, (label, run), colour in zip(panels, runs.items(), COLOURS, strict=False):
        for column, line, width, name in (("train", "--", 2, "logged"), ("validation", "-o", 2.4, "NMSE")):
            axes.plot(*over_epochs(run, column), line, color=colour, linewidth=width, markersize=4, label=name)
        axes.set(xlim=(0.5, epochs + 0.5), xticks=[1, *range(4, epochs + 1, 4)])
        _finish(axes, LOSSES, stamped(label, run), "epoch")
        if run.stopped:
            _say(axes, "stopped: loss not finite", 0.5)
    for label, run in runs.items():
        norms = [row["gradient_norm"] for row in run.ledger.rows]
        last.plot(range(1, len(norms) + 1), norms, linewidth=2, label=stamped(label, run))
    recipe = next(iter(runs.values())).recipe
    if recipe.clip is not None:
        last.axhline(recipe.clip, color="black", linewidth=1.2, linestyle=":", label=f"clipped at {recipe.clip:g}")
    last.set_xlim(0, recipe.windows + 1)
    _finish(last, NORMS, "gradient norm", "window", legend="lower right", columns=1 if wide else 3)
    return figure


def _finish(
    axes: Axes, limits: tuple[float, float], title: str, below: str, legend: Any = "upper right", columns: int = 1
) -> None:
    """Fix a logarithmic axis; move the points outside onto its edge, and say so."""
    low, high = limits
    axes.set(yscale="log", ylim=limits)
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axes.lines])
    for line in axes.lines:
        line.set(ydata=np.clip(np.asarray(line.get_ydata(), dtype=float), low, high), clip_on=False, zorder=3)
    if (values > high).any():
        _say(axes, f"off the axis: up to {values.max():.2g}", 0.93)
    if (values < low).any():
        least = np.nanmin(values)
        _say(axes, "exactly 0" if least == 0 else f"off the axis: down to {least:.2g}", 0.07)
    plain_figures(axes.yaxis)
    axes.minorticks_off()
    axes.tick_params(labelsize=LETTERS)
    axes.set_xlabel(below, fontsize=LETTERS, labelpad=1)
    axes.set_title(title, fontsize=1.1 * LETTERS)
    axes.legend(fontsize=0.9 * LETTERS, loc=legend, ncols=columns, borderpad=0.3, labelspacing=0.2, columnspacing=0.8)


def _say(axes: Axes, text: str, height: float) -> None:
    note(axes, text, (0.03, height), (0, 0), xycoords="axes fraction", va="center", fontsize=LETTERS, bbox=WHITE)
