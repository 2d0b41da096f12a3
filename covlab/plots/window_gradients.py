"""Draw windows: how far an accumulated gradient is from that of one batch, and the effect on the step."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from covlab.arguments import Positive, Real, checked
from covlab.plots import COLOURS, LINES, MARKS, legend_below, stamped, subplots
from covlab.training.trainer import Trainer


@checked
def gradient_errors(errors: Mapping[str, Mapping[str, Real]], equal: Positive) -> Figure:
    """Draw relative gradient errors as dots on a logarithmic axis; below ``equal``, two gradients count as equal.

    Args:
        errors: {rule: {window: error}}; one row of dots per rule, from the top.
    """
    windows = list(next(iter(errors.values())))
    for rule, by_window in errors.items():
        if {*by_window} != {*windows}:
            raise ValueError(f"errors must be of the same windows for each rule, got {list(by_window)} for {rule!r}")
    figure, axes = subplots(size=(8, 0.65 * len(errors) + 1.6))
    for number, (window, colour, mark) in enumerate(zip(windows, COLOURS, MARKS, strict=False)):
        shift = 0.18 * (number - (len(windows) - 1) / 2)  # keeps dots of equal error apart
        rows = [row + shift for row in range(len(errors))]
        values = [by_window[window] for by_window in errors.values()]
        axes.plot(values, rows, mark, color=colour, label=window, markersize=7)
    axes.axvspan(equal / 1e4, equal, color="0.92")
    axes.text(equal, -0.62, "← equal, up to rounding  ", ha="right", va="bottom", fontsize=9)
    axes.text(equal, -0.62, "  another gradient →", ha="left", va="bottom", fontsize=9)
    axes.set(xscale="log", xlim=(equal / 1e4, 20), xlabel="error of the window's gradient, ‖g₁ − g₂‖ / ‖g₂‖")
    axes.set_ylim(len(errors) - 0.5, -0.5)
    axes.set_yticks(range(len(errors)), errors)
    axes.grid(axis="x", color="0.85")
    axes.set_axisbelow(True)
    legend_below(figure, axes, len(windows), title="window")
    return figure


@checked
def ratios_by_window(groups: Mapping[str, tuple[Trainer, Mapping[str, Trainer]]], columns: Mapping[str, str]) -> Figure:
    """Draw ledger columns of faulty runs relative to the correct run, window by window: one row of panels per group.

    Args:
        groups: {row title: (correct run, {label: faulty run})}.
        columns: {ledger column: its name}.
    """
    size = (4.4 * len(columns), 2.7 * len(groups))
    figure, panels = subplots(len(groups), len(columns), size=size, squeeze=False, sharex=True, sharey=True)
    for row, (title, (correct, faulty)) in zip(panels, groups.items(), strict=True):
        reference = correct.ledger.columns()
        for axes, (column, name) in zip(row, columns.items(), strict=True):
            axes.axhline(1, color="black", linewidth=0.8)
            for (label, run), colour, line, mark in zip(faulty.items(), COLOURS[1:], LINES, MARKS, strict=False):
                ratios = np.divide(run.ledger.columns()[column], reference[column])
                style = {
                    "color": colour,
                    "marker": mark,
                    "markersize": 4,
                    "linewidth": 1.2,
                    "label": stamped(label, run),
                }
                axes.plot(reference["window"], ratios, line, **style)
            axes.set_yscale("log", base=2)
            axes.set_yticks((0.5, 1, 2, 4), ("½", "1", "2", "4"))
            axes.set(title=f"{title}: {name}", ylim=(0.4, 5.5))
            axes.grid(axis="y", color="0.85")
    plt.setp(panels[:, 0], ylabel="with the bug / correct")
    plt.setp(panels[-1], xlabel="window (optimizer step)")
    legend_below(figure, panels[0, 0], 2)
    return figure
