"""Draw studies: which worker ran which trial when, and how each trial went."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from matplotlib.figure import Figure

from covlab.arguments import Allowed, checked, sequence
from covlab.plots import COLOURS, WHITE, plain_figures, subplots

FINISHED = sequence(Allowed("a finished trial", lambda trial: getattr(trial, "datetime_complete", None) is not None))


@checked
def trials_of(trials: Annotated[Sequence, FINISHED], workers: Mapping[str, set[int]]) -> Figure:
    """Draw each worker's trials over time (left), and each trial's held-out NMSE after each epoch (right).

    Args:
        trials: Optuna's, finished; pruned ones are dashed.
        workers: {worker: numbers of its trials}.
    """
    if not any(trial.state.name == "COMPLETE" for trial in trials):
        raise ValueError(f"trials must hold a complete one, got {len(trials)} others")
    figure, (time, error) = subplots(1, 2, size=(10.5, 3.4), width_ratios=(1.1, 1))
    winner = min((trial for trial in trials if trial.state.name == "COMPLETE"), key=lambda trial: trial.value)
    began = min(trial.datetime_start for trial in trials)
    hatches = ("", "//", "..", "xx")
    for lane, (numbers, colour, hatch) in enumerate(zip(workers.values(), COLOURS, hatches, strict=False)):
        for trial in (trial for trial in trials if trial.number in numbers):
            start = (trial.datetime_start - began).total_seconds()
            length = (trial.datetime_complete - trial.datetime_start).total_seconds()
            bar = time.barh(lane, length, left=start, color=colour, hatch=hatch, edgecolor="white", height=0.6)
            time.bar_label(bar, [str(trial.number)], label_type="center", fontsize=9, bbox=WHITE)
            epochs, values = zip(*sorted(trial.intermediate_values.items()), strict=True)
            line, mark = ("--", "x") if trial.state.name == "PRUNED" else ("-", "o")
            width = 3 if trial is winner else 1.2
            error.plot(epochs, values, line, marker=mark, markersize=4, color=colour, linewidth=width)
    time.set_yticks(range(len(workers)), workers)
    time.set_ylim(len(workers) - 0.5, -0.5)
    time.set(xlabel="seconds since the first trial began", title="one study, numbered trials")
    error.set(xlabel="epoch", ylabel="NMSE on held-out scenes", yscale="log")
    error.set_title(f"thick: trial {winner.number}, the best; dashed, ×: stopped early")
    plain_figures(error.yaxis)
    return figure
