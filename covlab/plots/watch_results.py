"""Pictures of covlab.watch: how much each loss of a window counts, what convicts which bug, and who finds it."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from covlab.plots import COLOURS

VERDICTS = {"fault": COLOURS[1], "warning": COLOURS[4], "note": COLOURS[5]}


def window_shares(rows: Mapping[str, Sequence[Mapping]], windows: int = 6) -> Figure:
    """How much each micro-batch's loss counts in the first windows of some loops, stacked by window.

    rows: {title: the ledger of its watch, ``w.rows``}.
    """
    figure, places = plt.subplots(
        1, len(rows), figsize=(2.6 * len(rows) + 0.6, 2.9), layout="constrained", sharey=True, squeeze=False
    )
    for axes, (title, ledger) in zip(places[0], rows.items(), strict=True):
        steps = [row for row in ledger if row["event"] == "step"][:windows]
        for x, row in enumerate(steps, 1):
            bottom = 0.0
            for number, weight in enumerate(row["weights"]):
                axes.bar(x, weight, bottom=bottom, color=COLOURS[5 if number % 2 else 0], edgecolor="white", width=0.8)
                bottom += weight
        axes.axhline(1, color="black", linewidth=0.9, linestyle="--")
        axes.set(title=title, xlabel="window", xticks=range(1, len(steps) + 1))
        axes.title.set_fontsize(10)
    places[0][0].set_ylabel("what its losses count")
    return figure


def watch_confusion(trainer: Sequence[Mapping], loops: Sequence[Mapping], invariants: Mapping[str, str]) -> Figure:
    """Which invariant convicts which fault of the museum: T in the trainer, L in a textbook loop; what a right run gets
    too is left out.

    trainer, loops: as `covlab bench watch` writes them.
    """
    right = {row["fault"]: row["found"] for row in trainer if not row["injected"]}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in trainer:
        if row["injected"]:
            for code, verdict in row["found"].items():
                if right[row["fault"]].get(code) != verdict:
                    cells.setdefault((row["fault"], code), {})["T"] = verdict
    textbook = {row["loop"]: row for row in loops if row["bug"]}
    faults = [row["fault"] for row in trainer if row["injected"]]
    for fault in faults:
        loop = textbook.get(fault, {})
        for finding in [*loop.get("new", {}).get("covlab.watch", []), loop.get("expected") or ""]:
            if finding:
                code, verdict = finding.split()
                cells.setdefault((fault, code), {})["L"] = verdict
    codes = list(invariants)
    figure, axes = plt.subplots(figsize=(0.42 * len(codes) + 3.6, 0.27 * len(faults) + 1.5), layout="constrained")
    order = list(VERDICTS)
    for (fault, code), marks in cells.items():
        x, y = codes.index(code), faults.index(fault)
        worst = min(marks.values(), key=order.index)
        axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, color=VERDICTS[worst]))
        axes.text(x, y, "".join(sorted(marks, reverse=True)), ha="center", va="center", fontsize=8, color="black")
    for y, fault in enumerate(faults):
        if not any(name == fault for name, _ in cells):
            axes.text(len(codes) - 0.6, y, "no trace in a step", ha="right", va="center", fontsize=7, color="0.35")
    axes.set(xlim=(-0.5, len(codes) - 0.5), ylim=(len(faults) - 0.5, -0.5))
    axes.set_xticks(range(len(codes)), codes, fontsize=8, rotation=90)
    axes.set_yticks(range(len(faults)), faults, fontsize=8)
    axes.xaxis.tick_top()
    axes.grid(True, color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    figure.legend(
        handles=[Patch(color=colour, label=verdict) for verdict, colour in VERDICTS.items()],
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        title="T: in covlab's trainer, L: in a textbook loop",
        title_fontsize=8,
    )
    return figure


def peers(loops: Sequence[Mapping]) -> Figure:
    """Which tool finds which bug in the same loops; below, what each says of correct ones."""
    tools = list(loops[0]["new"])
    rows = [row for row in loops if row["bug"]] + [row for row in loops if not row["bug"]]
    figure, axes = plt.subplots(figsize=(1.25 * len(tools) + 3.2, 0.24 * len(rows) + 1.2), layout="constrained")
    for y, row in enumerate(rows):
        for x, tool in enumerate(tools):
            if row["new"][tool]:
                axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, color=COLOURS[2 if row["bug"] else 1]))
                axes.text(x, y, "found" if row["bug"] else "warns", ha="center", va="center", fontsize=7, color="white")
    axes.set_xlabel("TrainCheck was not run: it needs the trace of a right run of each script", fontsize=8)
    border = sum(row["bug"] for row in rows) - 0.5
    axes.axhline(border, color="black", linewidth=1)
    axes.set(xlim=(-0.5, len(tools) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xticks(range(len(tools)), tools, fontsize=9)
    axes.set_yticks(
        range(len(rows)), [row["loop"] if row["bug"] else f"correct: {row['loop']}" for row in rows], fontsize=8
    )
    axes.xaxis.tick_top()
    axes.set_xticks([x + 0.5 for x in range(len(tools) - 1)], minor=True)
    axes.grid(True, which="minor", axis="x", color="0.8")
    return figure
