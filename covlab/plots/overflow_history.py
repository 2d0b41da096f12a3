"""Draw what a run does about overflows."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from covlab.arguments import checked
from covlab.plots import COLOURS, check_lengths, legend_below, stamped, subplots
from covlab.training.trainer import Trainer


@checked
def overflow_history(runs: Mapping[str, tuple[Trainer, Sequence[bool]]]) -> Figure:
    """Draw loss scale, gradient norm and update over the windows, one row per run. Marks show overflows and skips.

    A gradient norm that is not finite is drawn at the top of its panel, and an update or norm of zero at the bottom.

    Args:
        runs: {label: (run, whether each window overflowed)}.
    """
    for label, (run, overflowed) in runs.items():
        check_lengths("runs", {label: overflowed}, len(run.ledger.columns()["window"]))
    height = 2.5 * len(runs) + 0.5
    figure, panels = subplots(len(runs), 3, size=(10, height), squeeze=False, sharex=True, sharey="col")
    for row, (label, (run, overflowed)) in zip(panels, runs.items(), strict=True):
        columns = run.ledger.columns()
        windows, ran, overflow = np.array(columns["window"]), np.array(columns["ran"]) == 1, np.array(overflowed)
        norms = np.clip(np.nan_to_num(columns["gradient_norm"], nan=math.inf), 1e-9, 1e3)
        values = np.log2(columns["loss_scale"]), norms, np.clip(columns["update_norm"], 1e-6, None)
        for axes, value in zip(row, values, strict=True):
            axes.plot(windows, value, "-", color="0.75", linewidth=1)
            for kind, which, mark, colour, size in (
                ("finite, the step ran", ~overflow & ran, "o", COLOURS[0], 4),
                ("overflow, the step was skipped", overflow & ~ran, "x", COLOURS[6], 7),
                ("overflow, the step ran", overflow & ran, "^", COLOURS[1], 7),
            ):
                style = {"color": colour, "markersize": size, "markeredgewidth": 1.6, "label": kind}
                axes.plot(windows[which], value[which], mark, **style)
        row[0].set_title(stamped(label, run), loc="left", fontsize=10)
        row[1].set(yscale="log", ylim=(3e-10, 3e3))
        row[1].set_yticks((1e-9, 1e-6, 1e-3, 1, 1e3), ("0", "1e-6", "1e-3", "1", "not finite"))
        row[2].set(yscale="log", ylim=(3e-7, 3))
        row[2].set_yticks((1e-6, 1e-4, 1e-2, 1), ("0", "1e-4", "1e-2", "1"))
    names = ("loss scale, log₂", "gradient norm before the step", "norm of the update")
    for axes, name, side in zip(panels[0], names, ("right", "center", "center"), strict=True):
        axes.set_title(name, loc=side, fontsize=10)
    plt.setp(panels[-1], xlabel="window (optimizer step)")
    legend_below(figure, panels[0, 0], 3)
    return figure
