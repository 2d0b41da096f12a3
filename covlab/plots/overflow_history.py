"""Pictures of what a run does about overflows."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from covlab.plots import COLOURS
from covlab.training.trainer import Trainer

KINDS = (
    ("finite, the step ran", "o", COLOURS[0], 4),
    ("overflow, the step was skipped", "x", COLOURS[6], 7),
    ("overflow, the step ran", "^", COLOURS[1], 7),
)


def overflow_history(runs: Mapping[str, tuple[Trainer, Sequence[bool]]]) -> Figure:
    """Loss scale, gradient norm and update over the windows: a row of panels a run, a mark for what became of each
    window.

    A gradient norm that is not finite stands at the top of its panel, and an update or norm of zero at the bottom.

    Args:
        runs: {label: (run, whether each window overflowed)}.
    """
    figure, panels = plt.subplots(
        len(runs),
        3,
        figsize=(10, 2.5 * len(runs) + 0.5),
        layout="constrained",
        squeeze=False,
        sharex=True,
        sharey="col",
    )
    for row, (label, (run, overflowed)) in zip(panels, runs.items(), strict=True):
        columns = run.ledger.columns()
        windows, ran, overflow = np.array(columns["window"]), np.array(columns["ran"]) == 1, np.array(overflowed)
        values = (
            np.log2(columns["loss_scale"]),
            np.clip(np.nan_to_num(columns["gradient_norm"], nan=math.inf), 1e-9, 1e3),
            np.clip(columns["update_norm"], 1e-6, None),
        )
        for axes, value in zip(row, values, strict=True):
            axes.plot(windows, value, "-", color="0.75", linewidth=1)
            for (kind, mark, colour, size), which in zip(
                KINDS, (~overflow & ran, overflow & ~ran, overflow & ran), strict=True
            ):
                axes.plot(
                    windows[which], value[which], mark, color=colour, markersize=size, markeredgewidth=1.6, label=kind
                )
        row[0].set_title(f"{label} (BUGGED)" if run.faults else label, loc="left", fontsize=10)
    for axes, name in zip(
        panels[0], ("loss scale, log₂", "gradient norm that the gate judges", "norm of the update"), strict=True
    ):
        axes.set_title(name, loc="right" if axes is panels[0, 0] else "center", fontsize=10)
    for row in panels:
        row[1].set(yscale="log", ylim=(3e-10, 3e3))
        row[1].set_yticks((1e-9, 1e-6, 1e-3, 1, 1e3), ("0", "1e-6", "1e-3", "1", "not finite"))
        row[2].set(yscale="log", ylim=(3e-7, 3))
        row[2].set_yticks((1e-6, 1e-4, 1e-2, 1), ("0", "1e-4", "1e-2", "1"))
    for axes in panels[-1]:
        axes.set_xlabel("window (optimizer step)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure
