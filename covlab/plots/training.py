"""Pictures of training runs."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
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


def _stamped(label: str, run: Trainer) -> str:
    return f"{label} (BUGGED)" if run.faults else label
