"""Pictures of runs that should be the same run."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from covlab.plots import COLOURS


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
