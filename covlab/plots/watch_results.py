"""Draw results of covlab.watch: how much each loss counts, which invariant detects which bug, and how peers compare."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from covlab.arguments import Count, checked
from covlab.arguments import rows as columns
from covlab.plots import COLOURS, cells, subplots

VERDICTS = {"fault": COLOURS[1], "warning": COLOURS[4], "note": COLOURS[5]}


@checked
def window_shares(rows: Mapping[str, Annotated[Sequence[Mapping], columns("event")]], windows: Count = 6) -> Figure:
    """Draw how much each micro-batch's loss counts in the first windows of some loops, stacked by window.

    Args:
        rows: {title: the ledger of its watch, ``w.rows``}.
    """
    figure, panels = subplots(1, len(rows), size=(2.6 * len(rows) + 0.6, 2.9), sharey=True, squeeze=False)
    for axes, (title, ledger) in zip(panels[0], rows.items(), strict=True):
        steps = [row for row in ledger if row["event"] == "step"][:windows]
        for x, row in enumerate(steps, 1):
            bottom = 0.0
            for number, weight in enumerate(row["weights"]):
                axes.bar(x, weight, bottom=bottom, color=COLOURS[5 if number % 2 else 0], edgecolor="white", width=0.8)
                bottom += weight
        axes.axhline(1, color="black", linewidth=0.9, linestyle="--")
        axes.set(xlabel="window", xticks=range(1, len(steps) + 1), ylabel="weight of each loss")
        axes.set_title(title, fontsize=10)
        axes.label_outer()
    return figure


def detections(trainer: Sequence[Mapping], loops: Sequence[Mapping]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (fault, where, invariant, verdict) of every finding that the same loop without the fault does not get.

    A fault without a finding gets one row with the invariant "" and the verdict "no trace".

    Args:
        trainer, loops: as `covlab bench watch` writes them.
    """
    correct = {row["fault"]: row["found"] for row in trainer if not row["injected"]}
    for row in trainer:
        if row["injected"]:
            found = [item for item in row["found"].items() if item not in correct[row["fault"]].items()]
            yield from ((row["fault"], "trainer", *item) for item in found or [("", "no trace")])
    for row in loops:
        if row["bug"]:
            findings = sorted({*row["new"].get("covlab.watch", []), row["expected"] or ""} - {""})
            for finding in findings or [" no trace"]:  # "CODE verdict"; an empty code for no trace
                code, verdict = finding.split(" ", 1)
                yield row["loop"], "textbook loop", code, verdict


def watch_confusion(trainer: Sequence[Mapping], loops: Sequence[Mapping], invariants: Mapping[str, str]) -> Figure:
    """Draw which invariant detects which fault of the museum: T in the trainer, L in a textbook loop.

    Args:
        trainer, loops: as `covlab bench watch` writes them.
        invariants: {code: title}.
    """
    faults, codes, order = [row["fault"] for row in trainer if row["injected"]], list(invariants), list(VERDICTS)
    values = np.full((len(faults), len(codes)), np.nan)
    texts: dict[tuple[int, int], str] = {}
    for fault, where, code, verdict in detections(trainer, loops):
        if code and fault in faults:
            cell = faults.index(fault), codes.index(code)
            values[cell] = np.fmin(values[cell], order.index(verdict))  # the worst verdict colors the cell
            texts[cell] = texts.get(cell, "") + ("T" if where == "trainer" else "L")
    figure, axes = subplots(size=(0.42 * len(codes) + 3.6, 0.27 * len(faults) + 1.5))
    cells(axes, values, texts, faults, codes, cmap=ListedColormap(list(VERDICTS.values())), vmin=0, vmax=2)
    axes.tick_params(axis="x", rotation=90)
    for y in np.flatnonzero(np.isnan(values).all(axis=1)):
        axes.text(len(codes) - 0.6, y, "no trace in a step", ha="right", va="center", fontsize=7, color="0.35")
    axes.xaxis.tick_top()
    axes.grid(True, color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    patches = [Patch(color=colour, label=verdict) for verdict, colour in VERDICTS.items()]
    title = {"title": "T: in covlab's trainer, L: in a textbook loop", "title_fontsize": 8}
    figure.legend(handles=patches, loc="outside lower center", ncols=3, fontsize=8, **title)
    return figure


def peers(loops: Sequence[Mapping]) -> Figure:
    """Draw which tool finds which bug in the same loops, and below which tool warns about correct ones."""
    tools = list(loops[0]["new"])
    rows = sorted(loops, key=lambda row: not row["bug"])
    values = [[int(not row["bug"]) if row["new"][tool] else np.nan for tool in tools] for row in rows]
    hits = zip(*np.nonzero(~np.isnan(values)), strict=True)
    texts = {(row, column): "found" if rows[row]["bug"] else "warns" for row, column in hits}
    names = [row["loop"] if row["bug"] else f"correct: {row['loop']}" for row in rows]
    figure, axes = subplots(size=(1.25 * len(tools) + 3.2, 0.24 * len(rows) + 1.2))
    cells(axes, values, texts, names, tools, cmap=ListedColormap([COLOURS[2], COLOURS[1]]), vmin=0, vmax=1)
    axes.set_xlabel("TrainCheck was not run: it needs the trace of a correct run of each script", fontsize=8)
    axes.axhline(sum(row["bug"] for row in rows) - 0.5, color="black", linewidth=1)
    axes.xaxis.tick_top()
    axes.set_xticks([x + 0.5 for x in range(len(tools) - 1)], minor=True)
    axes.grid(True, which="minor", axis="x", color="0.8")
    return figure
