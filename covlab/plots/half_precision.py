"""Pictures of what half precision does to a gradient, over the scale of the numbers."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from covlab.plots import COLOURS, LINES


def error_over_scale(powers: Sequence[int], errors: Mapping[str, Sequence[float]], what: str, names: Mapping[int, str]) -> Figure:
    """Relative gradient error over ``what``, 2^power, both logarithmic; an error that is not finite is a cross at the top.

    Args:
        powers: of two.
        errors: {line: an error for each power}.
        names: {power: what it is called}, marked on the axis.
    """
    figure, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for number, ((label, values), colour, line) in enumerate(zip(errors.items(), COLOURS, LINES, strict=False)):
        finite = [value if math.isfinite(value) else math.nan for value in values]
        axes.plot(powers, finite, line, marker="o", markersize=4, color=colour, label=label)
        lost = [power for power, value in zip(powers, values, strict=True) if not math.isfinite(value)]
        if lost:
            axes.plot(lost, [20 * 2.2**number] * len(lost), "x", color=colour, markersize=8, markeredgewidth=2, label=f"{label}: infinite or NaN")
    for power, name in names.items():
        axes.axvline(power, color="black", linewidth=0.8, linestyle=":")
        axes.annotate(name, (power, 2.4e-4), xytext=(3, 0), textcoords="offset points", fontsize=8)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.annotate("as wrong as no gradient at all", (powers[-1], 1), ha="right", va="bottom", fontsize=8)
    axes.set(yscale="log", ylim=(2e-4, 150), xlabel=f"{what}, log₂", ylabel="error of the gradient, ‖g₁ − g₂‖ / ‖g₂‖")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure
