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
    ratios = [
        [
            math.log10(max(places[name, cell]["validation"], 1e-9) / places[name, cell]["clean_validation"])
            for cell in cells
        ]
        for name in names
    ]
    image = axes.imshow(
        ratios,
        cmap=plt.get_cmap("PuOr_r").with_extremes(bad="black"),
        vmin=-math.log10(2),
        vmax=math.log10(2),
        aspect="auto",
    )
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
    bar = figure.colorbar(
        image, label="NMSE reached, with the fault over without", ticks=(-math.log10(2), 0, math.log10(2)), shrink=0.4
    )
    bar.ax.set_yticklabels(["½", "1", "2"])
    return figure


def confusion_matrix(shares: Mapping[str, Mapping[str, float]], expected: Mapping[str, str]) -> Figure:
    """Which observable convicts which fault, as the share of seeds; ``expected`` {fault: observable} gets a frame."""
    observables = list(dict.fromkeys([*expected.values(), *(name for found in shares.values() for name in found)]))
    figure, axes = plt.subplots(figsize=(0.3 * len(observables) + 3.2, 0.27 * len(shares) + 2.2), layout="constrained")
    axes.imshow(
        [[found.get(name, 0.0) for name in observables] for found in shares.values()],
        cmap="Blues",
        vmin=0,
        vmax=1.3,
        aspect="auto",
    )
    for y, (fault, found) in enumerate(shares.items()):
        for x, name in enumerate(observables):
            if found.get(name):
                axes.text(
                    x, y, f"{found[name]:.0%}".removesuffix("%"), ha="center", va="center", fontsize=6, color="white"
                )
            if expected.get(fault) == name:
                axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=1.5))
    axes.set_xticks(range(len(observables)), observables, rotation=90, fontsize=8)
    axes.set_yticks(range(len(shares)), shares, fontsize=8)
    axes.set_title("Per cent of seeds in which the observable convicts; framed: the exhibit's own", fontsize=9)
    return figure


def one_fault(name: str, rows: Sequence[Mapping], detected: Mapping[str, float], expected: str) -> Figure:
    """One fault's rows of both matrices: the NMSE reached over that without it, and the observables that convict."""
    figure = Figure(figsize=(9.4, 3.6))
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.17, right=0.975, bottom=0.16, top=0.87, wspace=0.75)
    ratios = [row["validation"] / row["clean_validation"] for row in rows]
    reach = max(2.0, *(max(ratio, 1 / ratio) for ratio in ratios if 0 < ratio < math.inf)) * 1.6
    for place, (row, ratio) in enumerate(zip(rows, ratios, strict=True)):
        stopped = row["diverged"] or not math.isfinite(ratio)
        if not stopped:
            left.plot([1, ratio], [place, place], color=COLOURS[0], linewidth=2)
            left.plot(ratio, place, "o", color=COLOURS[0])
        text = "× stopped" if stopped else f"{ratio:.2f}" + (" •" if row["moved"] else "")
        left.text(1.02, place, text, transform=left.get_yaxis_transform(), va="center", fontsize=9)
    left.axvline(1, color="black", linewidth=1)
    left.set(
        xscale="log",
        xlim=(1 / reach, reach),
        ylim=(len(rows) - 0.5, -0.5),
        xlabel="NMSE reached, with the fault over without",
    )
    ticks = [value for value in (0.01, 0.1, 0.5, 1, 2, 10, 100) if 1 / reach < value < reach]
    left.set_xticks(ticks, [f"{value:g}" for value in ticks])
    left.minorticks_off()
    left.set_yticks(
        range(len(rows)), [f"{row['optimizer']}, {row['clipping']}, {row['precision']}" for row in rows], fontsize=8
    )
    left.set_title(f"{name}   (•: convicted)", fontsize=10)
    names = sorted({expected, *detected}, key=lambda one: (one != expected, -detected.get(one, 0.0)))
    shares = [100 * detected.get(one, 0.0) for one in names]
    bars = right.barh(range(len(names)), shares, color=COLOURS[5], height=0.6)
    bars[0].set(edgecolor=COLOURS[1], linewidth=2.5, linestyle="--")
    for place, share in enumerate(shares):
        right.text(share + 2, place, f"{share:.0f}", va="center", fontsize=9)
    right.set(xlim=(0, 118), ylim=(max(len(names), 4) - 0.5, -0.5), xlabel="per cent of seeds in which it convicts")
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.set_title("observables (framed: the exhibit's own)", fontsize=10)
    return figure
