"""Draw results of covlab.watch: how much each loss counts, which invariant detects which bug, and how peers compare."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from covlab.arguments import Count, checked
from covlab.arguments import rows as columns
from covlab.plots import COLOURS, cells, subplots

GROUPS = ("public reports", "real repositories", "libraries", "textbook bugs", "our own loops", "correct idioms", "all")
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
        if row["bug"] and row["group"] == "textbook bugs":
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
        if code in codes and fault in faults:  # W00 is no invariant
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


def counts_by_group(loops: Sequence[Mapping]) -> dict[str, dict[str, Any]]:
    """Count the findings of `covlab bench watch` by what a loop stands for, and for "all".

    Returns:
        {group: {"bugs": loops with something to find, "named": of these, where covlab.watch gives the right verdict,
        code and line, "correct": loops without, "found": {tool: bugs of which it says something new}, "alarms":
        {tool: correct loops of which it does}}}.
    """
    groups = [*dict.fromkeys(row["group"] for row in loops), "all"]
    groups.sort(key=GROUPS.index)
    counts = {}
    for group in groups:
        rows = [row for row in loops if group in (row["group"], "all")]
        bugs, correct = [row for row in rows if row["bug"]], [row for row in rows if not row["bug"]]
        counts[group] = {
            "bugs": len(bugs),
            "named": sum(row["named"] for row in bugs),
            "correct": len(correct),
            "found": {tool: sum(bool(row["new"][tool]) for row in bugs) for tool in loops[0]["new"]},
            "alarms": {tool: sum(bool(row["new"][tool]) for row in correct) for tool in loops[0]["new"]},
        }
    return counts


def peers(loops: Sequence[Mapping], not_run: Mapping[str, str]) -> Figure:
    """Draw how many bugs each tool finds by what the loops stand for, and on how many correct loops it warns.

    Args:
        loops: as `covlab bench watch` writes them.
        not_run: {tool: why it has no results}.
    """
    counts = counts_by_group(loops)
    tools = list(loops[0]["new"])
    where = f"{tools[0]}: right\nverdict, code, line"
    halves = {
        "bugs": (
            "bugs found",
            {group: {where: row["named"]} | row["found"] for group, row in counts.items()},
            COLOURS[0],
        ),
        "correct": (
            "correct loops with a warning",
            {group: row["alarms"] for group, row in counts.items()},
            COLOURS[1],
        ),
    }
    shown = {total: [group for group, row in counts.items() if row[total]] for total in halves}
    height = [len(groups) for groups in shown.values()]
    figure, panels = subplots(
        2, 1, size=(1.0 * len(tools) + 3.2, 0.3 * sum(height) + 1.9), gridspec_kw={"height_ratios": height}
    )
    columns = [tools[0], where, *tools[1:]]
    for axes, (total, (title, found, colour)) in zip(panels, halves.items(), strict=True):
        groups = shown[total]
        values = [[found[group].get(tool, np.nan) / counts[group][total] for tool in columns] for group in groups]
        texts = {
            (row, column): f"{found[group][tool]}"
            for row, group in enumerate(groups)
            for column, tool in enumerate(columns)
            if tool in found[group]
        }
        names = [f"{group}: {counts[group][total]}" for group in groups]
        shades = LinearSegmentedColormap.from_list(total, ["white", colour])
        cells(axes, values, texts, names, columns, letters=8, cmap=shades, vmin=0, vmax=1)
        axes.set_title(title, fontsize=10, loc="left")
        axes.axhline(len(groups) - 1.5, color="black", linewidth=1)
        axes.set_xticks([x + 0.5 for x in range(len(columns) - 1)], minor=True)
        axes.set_yticks([y + 0.5 for y in range(len(groups) - 1)], minor=True)
        axes.grid(True, which="minor", color="0.8")
        axes.tick_params(which="both", length=0)
    missing = "\n".join(textwrap.fill(f"{tool} was not run: {why}", 130) for tool, why in not_run.items())
    panels[1].set_xlabel(missing, fontsize=8)
    return figure
