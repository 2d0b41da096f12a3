"""Pictures of the museum of faults: what each one moves, and what convicts it."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from covlab.plots import COLOURS


def symptom_matrix(rows: Sequence[Mapping]) -> Figure:
    """The NMSE reached with each fault over that without it, by cell (``covlab.faults.matrix``).

    A dot: an observable convicts the fault there; a cross: some seeds were stopped for their losses.
    """
    cells = list(dict.fromkeys((row["optimizer"], row["clipping"], row["precision"]) for row in rows))
    names = list(dict.fromkeys(row["fault"] for row in rows))
    figure, axes = plt.subplots(figsize=(8.5, 0.27 * len(names) + 1.8), layout="constrained")
    places = {(row["fault"], (row["optimizer"], row["clipping"], row["precision"])): row for row in rows}
    ratios = [[math.log10(max(places[name, cell]["validation"], 1e-9) / places[name, cell]["clean_validation"]) for cell in cells] for name in names]
    image = axes.imshow(ratios, cmap=plt.get_cmap("PuOr_r").with_extremes(bad="black"), vmin=-math.log10(2), vmax=math.log10(2), aspect="auto")
    for y, name in enumerate(names):
        for x, cell in enumerate(cells):
            row = places[name, cell]
            ratio = row["validation"] / row["clean_validation"]
            mark = "×" if row["diverged"] else f"{ratio:.2f}" + (" •" if row["moved"] else "")
            dark = not math.isfinite(ratio) or not 0.65 < ratio < 1.5
            axes.text(x, y, mark, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(range(len(cells)), ["\n".join(cell) for cell in cells], fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.xaxis.tick_top()
    bar = figure.colorbar(image, label="NMSE reached, with the fault over without", ticks=(-math.log10(2), 0, math.log10(2)), shrink=0.4)
    bar.ax.set_yticklabels(["½", "1", "2"])
    return figure


def confusion_matrix(shares: Mapping[str, Mapping[str, float]], expected: Mapping[str, str]) -> Figure:
    """Which observable convicts which fault, as the share of seeds; ``expected`` {fault: observable} gets a frame."""
    observables = list(dict.fromkeys([*expected.values(), *(name for found in shares.values() for name in found)]))
    figure, axes = plt.subplots(figsize=(0.3 * len(observables) + 3.2, 0.27 * len(shares) + 2.2), layout="constrained")
    axes.imshow([[found.get(name, 0.0) for name in observables] for found in shares.values()], cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for y, (fault, found) in enumerate(shares.items()):
        for x, name in enumerate(observables):
            if found.get(name):
                axes.text(x, y, f"{found[name]:.0%}".removesuffix("%"), ha="center", va="center", fontsize=6, color="white")
            if expected.get(fault) == name:
                axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=1.5))
    axes.set_xticks(range(len(observables)), observables, rotation=90, fontsize=8)
    axes.set_yticks(range(len(shares)), shares, fontsize=8)
    axes.set_title("Per cent of seeds in which the observable convicts; framed: the exhibit's own", fontsize=9)
    return figure
