"""Draw trace normalization: what it does to an error and to training, and where it fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from covlab.arguments import Real, checked
from covlab.plots import COLOURS, LINES, MAGNITUDES, check_lengths, legend_below, note, subplots

SMOOTHED = 25  # steps over which a turn is averaged


@dataclass(frozen=True)
class Surfaces:
    """Both errors between R̂ = x R + y R' and R."""

    x: np.ndarray  #: [points]
    y: np.ndarray  #: [points]
    plain: np.ndarray  #: [y, x]
    normalized: np.ndarray  #: [y, x]


@dataclass(frozen=True)
class Walk:
    """The training of a matrix R̂, step by step."""

    norms: list[float]  #: ‖R̂‖_F before the first step, and after each
    turns: list[float]  #: angle between R̂ before and after each step, in degrees
    gradients: list[float]  #: ‖∇‖ of each step
    radial: float  #: the largest |cosine| between any step's ∇ and R̂
    validation: dict[int, float]  #: {steps taken: mean NMSE over held-out scenes}


@checked
def error_surfaces(seen: Surfaces) -> Figure:
    """Draw contours of the plain and the normalized error over x R + y R', with arrows of steepest descent."""
    figure, panels = subplots(1, 2, size=(10, 4.4), sharex=True, sharey=True)
    levels, some = np.linspace(0, 1.4, 15), slice(8, None, 11)
    for axes, title, error in (
        (panels[0], "plain: ‖R̂ − R‖² / ‖R‖²", seen.plain),
        (panels[1], "both scaled to trace N first", seen.normalized),
    ):
        filled = axes.contourf(seen.x, seen.y, error, levels, cmap=MAGNITUDES, extend="max")
        axes.contour(seen.x, seen.y, error, levels, colors="black", linewidths=0.4)
        down = -np.stack(np.gradient(error, seen.y, seen.x))[:, some, some]
        down_y, down_x = down / np.hypot(*down)
        arrows = {"angles": "xy", "scale": 20, "width": 0.008, "color": "white", "edgecolor": "black", "linewidth": 0.6}
        axes.quiver(seen.x[some], seen.y[some], down_x, down_y, **arrows)
        axes.plot(1, 0.03, "*", color=COLOURS[1], markersize=16, clip_on=False, zorder=5)
        note(axes, "truth", (1, 0.03), (6, 8), fontsize="medium", color="white", fontweight="bold")
        axes.set(title=title, xlabel="x, the share of R", ylabel="y, the share of R'", aspect="equal")
        axes.label_outer()
    figure.colorbar(filled, ax=panels, label="error")
    return figure


@checked
def walks(runs: Mapping[str, Sequence[Walk]], labels: Sequence[str]) -> Figure:
    """Draw the norm, the turn of each step and the held-out NMSE over the steps.

    Args:
        runs: {optimizer: walks}, one color per optimizer.
        labels: of an optimizer's walks, one line style each.
    """
    figure, (norm, turn, error) = subplots(1, 3, size=(11, 4))
    for (name, several), colour in zip(runs.items(), COLOURS, strict=False):
        for each, label, line in zip(several, labels, LINES, strict=False):
            style = {"color": colour, "linestyle": line, "linewidth": 1.6}
            norm.plot(each.norms, label=f"{name}, {label}", **style)
            smooth = np.convolve(each.turns, np.ones(SMOOTHED) / SMOOTHED, "valid")
            turn.plot(np.arange(len(smooth)) + SMOOTHED / 2, smooth, **style)
            error.plot(list(each.validation), list(each.validation.values()), **style)
    norm.set(yscale="log", ylabel="norm of R̂", title="The norm …")
    norm.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    norm.yaxis.set_major_formatter("{x:g}")
    norm.yaxis.set_minor_formatter("{x:g}")
    turn.set(yscale="log", ylabel=f"turn per step (°, mean of {SMOOTHED})", title="… decides how far a step turns R̂ …")
    error.set(ylabel="held-out NMSE", title="… and so how fast it learns")
    plt.setp((norm, turn, error), xlabel="step")
    legend_below(figure, norm, len(runs))
    return figure


@checked
def scale_range(curves: Mapping[str, Mapping[Real, Real]]) -> Figure:
    """Draw the computed error of a correct estimate over its scale, one panel per precision.

    A cross at the top marks an error that is not finite.
    """
    figure, panels = subplots(1, len(curves), size=(3.6 * len(curves), 3.6), sharey=True, squeeze=False)
    for axes, (title, curve), colour in zip(panels[0], curves.items(), COLOURS, strict=False):
        scales, errors = np.array(list(curve)), np.array(list(curve.values()))
        finite = np.isfinite(errors)
        axes.plot(scales[finite], np.maximum(errors[finite], 1e-16), "o-", color=colour, markersize=4)
        if not finite.all():
            axes.plot(scales[~finite], np.full((~finite).sum(), 30.0), "x", color=COLOURS[1], label="NaN or infinite")
            axes.legend(loc="lower center", fontsize=9)
        axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set(xscale="log", yscale="log", ylim=(3e-17, 300), title=title, xlabel="scale s of R̂ = s R")
        axes.set_xticks([1e-12, 1e-8, 1e-4, 1, 1e4, 1e8])
    note(panels[0, 0], "1: knows nothing", (scales[-1], 1), (0, -3), fontsize=9, ha="right", va="top")
    panels[0, 0].set_ylabel("computed NMSE (should be 0)")
    return figure


@checked
def trace_crossing(traces: Sequence[Real], errors: Mapping[str, Sequence[Real]]) -> Figure:
    """Draw errors over the trace of R̂, in units of N, across zero, where R̂ stops being a covariance; NaN is a gap."""
    check_lengths("errors", errors, len(traces))
    figure, axes = subplots(size=(8.5, 4))
    for (name, values), line, width, alpha in zip(
        errors.items(), ("-", "--", "-"), (1.8, 1.8, 5), (1, 1, 0.45), strict=False
    ):
        axes.plot(traces, values, line, linewidth=width, alpha=alpha, label=name)
    axes.axvline(0, color="black", linewidth=0.8)
    note(axes, "no covariance has such a trace →", (0, 0.03), (6, 0), xycoords=axes.get_xaxis_transform(), fontsize=9)
    axes.set(yscale="log", xlabel="trace of R̂ = R − shift · I, in units of N", ylabel="NMSE")
    axes.invert_xaxis()
    axes.legend(loc="upper left")
    return figure
