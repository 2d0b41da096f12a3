"""Pictures of studies: who ran which trial when, and how each went."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from covlab.plots import COLOURS, plain_figures


def trials_of(trials: Sequence, workers: Mapping[str, set[int]]) -> Figure:
    """Left, the trials of each worker over time; right, each trial's held-out error after each epoch, pruned ones
    dashed.

    Args:
        trials: Optuna's, finished.
        workers: {worker: numbers of its trials}.
    """
    figure, (time, error) = plt.subplots(1, 2, figsize=(10.5, 3.4), layout="constrained", width_ratios=(1.1, 1))
    winner = min((trial for trial in trials if trial.state.name == "COMPLETE"), key=lambda trial: trial.value)
    began = min(trial.datetime_start for trial in trials)
    for lane, (numbers, colour, hatch) in enumerate(
        zip(workers.values(), COLOURS, ("", "//", "..", "xx"), strict=False)
    ):
        for trial in (trial for trial in trials if trial.number in numbers):
            start = (trial.datetime_start - began).total_seconds()
            length = (trial.datetime_complete - trial.datetime_start).total_seconds()
            time.barh(lane, length, left=start, color=colour, hatch=hatch, edgecolor="white", height=0.6)
            time.annotate(
                str(trial.number),
                (start + length / 2, lane),
                ha="center",
                va="center",
                fontsize=9,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85},
            )
            epochs, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
            pruned = trial.state.name == "PRUNED"
            error.plot(
                epochs,
                values,
                "--" if pruned else "-",
                marker="x" if pruned else "o",
                markersize=4,
                color=colour,
                linewidth=3 if trial is winner else 1.2,
            )
    time.set_yticks(range(len(workers)), workers)
    time.set_ylim(len(workers) - 0.5, -0.5)
    time.set(xlabel="seconds since the first trial began", title="one study, numbered trials")
    error.set(
        xlabel="epoch",
        ylabel="NMSE on held-out scenes",
        title=f"thick: trial {winner.number}, the best; dashed, ×: stopped early",
        yscale="log",
    )
    plain_figures(error.yaxis)
    return figure
