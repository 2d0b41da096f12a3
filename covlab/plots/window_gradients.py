"""Pictures of windows: how far an accumulated gradient is from that of one batch, and what a step makes of it."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from covlab.plots import COLOURS, LINES
from covlab.training.trainer import Trainer

MARKS = "osD^v"


def gradient_errors(errors: Mapping[str, Mapping[str, float]], equal: float) -> Figure:
    """Relative gradient errors as dots on a logarithmic axis, with the line below which two gradients are ``equal``.

    Args:
        errors: {rule: {window: error}}; a line of dots a rule, from the top.
    """
    figure, axes = plt.subplots(figsize=(8, 0.65 * len(errors) + 1.6), layout="constrained")
    windows = list(next(iter(errors.values())))
    for number, (window, colour, mark) in enumerate(zip(windows, COLOURS, MARKS, strict=False)):
        shift = 0.18 * (number - (len(windows) - 1) / 2)  # dots of equal error stay apart
        places = [row + shift for row in range(len(errors))]
        axes.plot([of[window] for of in errors.values()], places, mark, color=colour, label=window, markersize=7)
    axes.axvspan(equal / 1e4, equal, color="0.92")
    axes.text(equal, -0.62, "← equal, but for rounding  ", ha="right", va="bottom", fontsize=9)
    axes.text(equal, -0.62, "  another gradient →", ha="left", va="bottom", fontsize=9)
    axes.set(
        xscale="log",
        xlim=(equal / 1e4, 20),
        ylim=(len(errors) - 0.5, -0.5),
        xlabel="error of the window's gradient, ‖g₁ − g₂‖ / ‖g₂‖",
    )
    axes.set_yticks(range(len(errors)), errors)
    axes.grid(axis="x", color="0.85")
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=len(windows), title="window", frameon=False)
    return figure


def ratios_by_window(groups: Mapping[str, tuple[Trainer, Mapping[str, Trainer]]], columns: Mapping[str, str]) -> Figure:
    """Ledger columns of faulty runs over those of the right run, window by window: a row of panels a group.

    Args:
        groups: {row title: (right run, {label: faulty run})}.
        columns: {ledger column: its name}.
    """
    figure, panels = plt.subplots(
        len(groups),
        len(columns),
        figsize=(4.4 * len(columns), 2.7 * len(groups)),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    for row, (title, (right, faulty)) in zip(panels, groups.items(), strict=True):
        reference = right.ledger.columns()
        for axes, (column, name) in zip(row, columns.items(), strict=True):
            axes.axhline(1, color="black", linewidth=0.8)
            for (label, run), colour, line, mark in zip(faulty.items(), COLOURS[1:], LINES, MARKS, strict=False):
                ratios = [mine / its for mine, its in zip(run.ledger.columns()[column], reference[column], strict=True)]
                axes.plot(
                    reference["window"],
                    ratios,
                    line,
                    marker=mark,
                    markersize=4,
                    color=colour,
                    label=f"{label} (BUGGED)",
                    linewidth=1.2,
                )
            axes.set_yscale("log", base=2)
            axes.set_yticks((0.5, 1, 2, 4), ("½", "1", "2", "4"))
            axes.set(title=f"{title}: {name}", ylim=(0.4, 5.5))
            axes.grid(axis="y", color="0.85")
    for axes in panels[-1]:
        axes.set_xlabel("window (optimizer step)")
    for row in panels:
        row[0].set_ylabel("with the bug, over right")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure
