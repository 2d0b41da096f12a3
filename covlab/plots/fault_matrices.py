"""Draw the fault museum: what each fault changes, and which observable detects it."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from covlab.plots import COLOURS, cells, subplots

RATIO = "NMSE with the fault, relative to without"


def symptom_matrix(rows: Sequence[Mapping]) -> Figure:
    """Draw the NMSE with each fault relative to without it, by cell (``covlab.faults.matrix``).

    A dot: an observable detects the fault in this cell. A cross: some seeds were stopped because of their losses.
    """
    by_name: dict[str, dict[tuple[str, ...], Mapping]] = {}
    for row in rows:
        by_name.setdefault(row["fault"], {})[row["optimizer"], row["clipping"], row["precision"]] = row
    columns = list(dict.fromkeys(cell for row in by_name.values() for cell in row))
    ordered = [[found[cell] for cell in columns] for found in by_name.values()]
    figure, axes = subplots(size=(8.5, 0.27 * len(by_name) + 1.8))
    image = cells(
        axes,
        [[math.log2(max(row["validation"], 1e-9) / row["clean_validation"]) for row in line] for line in ordered],
        {(y, x): _result(row) for y, line in enumerate(ordered) for x, row in enumerate(line)},
        list(by_name),
        ["\n".join(cell) for cell in columns],
        cmap=plt.get_cmap("PuOr_r").with_extremes(bad="black"),
        vmin=-1,
        vmax=1,
    )
    axes.xaxis.tick_top()
    bar = figure.colorbar(image, label=RATIO, ticks=(-1, 0, 1), shrink=0.4)
    bar.ax.set_yticklabels(["½", "1", "2"])
    return figure


def confusion_matrix(shares: Mapping[str, Mapping[str, float]], expected: Mapping[str, str]) -> Figure:
    """Draw the share of seeds in which each observable detects each fault.

    Args:
        shares: {fault: {observable: share from 0 to 1}}.
        expected: {fault: its own observable}, which gets a frame.
    """
    observables = list(dict.fromkeys([*expected.values(), *(name for found in shares.values() for name in found)]))
    values = [[found.get(name, 0.0) for name in observables] for found in shares.values()]
    texts = {(y, x): f"{100 * value:.0f}" for y, line in enumerate(values) for x, value in enumerate(line) if value}
    figure, axes = subplots(size=(0.3 * len(observables) + 3.2, 0.27 * len(shares) + 2.2))
    cells(axes, values, texts, list(shares), observables, cmap="Blues", vmin=0, vmax=1.3)
    axes.tick_params(axis="x", rotation=90)
    for y, fault in enumerate(shares):
        if fault in expected:
            corner = observables.index(expected[fault]) - 0.5, y - 0.5
            axes.add_patch(plt.Rectangle(corner, 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=1.5))
    axes.set_title("Percent of seeds in which the observable detects the fault; framed: its own observable", fontsize=9)
    return figure


def one_fault(name: str, rows: Sequence[Mapping], detected: Mapping[str, float], expected: str) -> Figure:
    """Draw one fault's rows of both matrices: the relative NMSE (above), and the observables that detect it (below)."""
    margins = {"left": 0.31, "right": 0.87, "bottom": 0.11, "top": 0.93, "hspace": 0.6}
    figure, (above, below) = subplots(2, 1, size=(5.2, 4.3), margins=margins)
    ratios = [row["validation"] / row["clean_validation"] for row in rows]
    reach = max(2.0, *(max(ratio, 1 / ratio) for ratio in ratios if 0 < ratio < math.inf)) * 1.6
    for y, (row, ratio) in enumerate(zip(rows, ratios, strict=True)):
        text = _result(row)
        if text == "×":
            text = "× stopped"
        else:
            above.plot([1, ratio], [y, y], "-", color=COLOURS[0], linewidth=2)
            above.plot(ratio, y, "o", color=COLOURS[0])
        above.text(1.02, y, text, transform=above.get_yaxis_transform(), va="center", fontsize=9)
    above.axvline(1, color="black", linewidth=1)
    above.set(xscale="log", xlim=(1 / reach, reach), ylim=(len(rows) - 0.5, -0.5), xlabel=RATIO)
    ticks = [value for value in (0.01, 0.1, 0.5, 1, 2, 10, 100) if 1 / reach < value < reach]
    above.set_xticks(ticks, [f"{value:g}" for value in ticks])
    above.minorticks_off()
    settings = [f"{row['optimizer']}, {row['clipping']}, {row['precision']}" for row in rows]
    above.set_yticks(range(len(rows)), settings, fontsize=8)
    above.set_title(f"{name}   (•: detected)", fontsize=10)
    names = sorted({expected, *detected}, key=lambda one: (one != expected, -detected.get(one, 0.0), one))
    bars = below.barh(range(len(names)), [100 * detected.get(one, 0.0) for one in names], color=COLOURS[5], height=0.6)
    bars[0].set(edgecolor=COLOURS[1], linewidth=2.5, linestyle="--")
    below.bar_label(bars, fmt="%.0f", padding=4, fontsize=9)
    below.set(xlim=(0, 118), ylim=(max(len(names), 4) - 0.5, -0.5), xlabel="seeds in which it detects the fault (%)")
    below.set_yticks(range(len(names)), names, fontsize=8)
    below.set_title("observables (framed: the fault's own)", fontsize=10)
    return figure


def _result(row: Mapping) -> str:
    ratio = row["validation"] / row["clean_validation"]
    if row["diverged"] or not math.isfinite(ratio):
        return "×"
    return f"{ratio:.2f}" + (" •" if row["moved"] else "")
