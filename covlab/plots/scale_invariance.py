"""Pictures of trace normalization: what it does to an error, to training, and where it ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from covlab.plots import COLOURS, LINES

SMOOTHED = 25
"""Steps over which a turn is averaged."""


@dataclass(frozen=True)
class Surfaces:
    """Both errors of R̂ = x R + y R' against R."""

    x: np.ndarray  #: [points]
    y: np.ndarray  #: [points]
    plain: np.ndarray  #: [y, x]
    normalized: np.ndarray  #: [y, x]


@dataclass(frozen=True)
class Walk:
    """A training of R̂, step by step."""

    norms: list[float]  #: ‖R̂‖_F before the first step, and after each
    turns: list[float]  #: angle between R̂ before and after each step, in degrees
    gradients: list[float]  #: ‖∇‖ of each step
    radial: float  #: the largest |cosine| between any step's ∇ and R̂
    validation: dict[int, float]  #: {steps taken: mean NMSE over held-out scenes}


def error_surfaces(seen: Surfaces) -> Figure:
    """Contours of the plain and of the normalized error over x R + y R', with steepest descent as arrows."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharex=True, sharey=True)
    levels = np.linspace(0, 1.4, 15)
    for axes, title, error in (
        (panels[0], "plain: ‖R̂ − R‖² / ‖R‖²", seen.plain),
        (panels[1], "both scaled to trace N first", seen.normalized),
    ):
        filled = axes.contourf(seen.x, seen.y, error, levels, cmap="cividis", extend="max")
        axes.contour(seen.x, seen.y, error, levels, colors="black", linewidths=0.4)
        down_y, down_x = (-part for part in np.gradient(error, seen.y, seen.x))
        some = slice(8, None, 11)
        length = np.hypot(down_x, down_y)[some, some]
        axes.quiver(
            seen.x[some],
            seen.y[some],
            down_x[some, some] / length,
            down_y[some, some] / length,
            angles="xy",
            scale=20,
            width=0.008,
            color="white",
            edgecolor="black",
            linewidth=0.6,
        )
        axes.plot(1, 0.03, "*", color=COLOURS[1], markersize=16, clip_on=False, zorder=5)
        axes.annotate("truth", (1, 0.03), xytext=(6, 8), textcoords="offset points", color="white", fontweight="bold")
        axes.set(title=title, xlabel="x, the share of R", aspect="equal")
    panels[0].set_ylabel("y, the share of R'")
    figure.colorbar(filled, ax=panels, label="error")
    return figure


def walks(runs: Mapping[str, Sequence[Walk]], labels: Sequence[str]) -> Figure:
    """Norm, turn of each step and held-out NMSE over the steps.

    Args:
        runs: {optimizer: walks}, a colour each.
        labels: what tells an optimizer's walks apart, a line style each.
    """
    figure, (norm, turn, error) = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
    for (name, several), colour in zip(runs.items(), COLOURS, strict=False):
        for each, label, line in zip(several, labels, LINES, strict=False):
            style = {"color": colour, "linestyle": line, "linewidth": 1.6}
            norm.plot(each.norms, label=f"{name}, {label}", **style)
            smooth = np.convolve(each.turns, np.ones(SMOOTHED) / SMOOTHED, "valid")
            turn.plot(np.arange(len(smooth)) + SMOOTHED / 2, smooth, **style)
            error.plot(list(each.validation), list(each.validation.values()), **style)
    norm.set(yscale="log", ylabel="norm of R̂", title="the norm …")
    norm.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    norm.yaxis.set_major_formatter("{x:g}")
    norm.yaxis.set_minor_formatter("{x:g}")
    turn.set(
        yscale="log", ylabel=f"turn of a step, degrees (mean of {SMOOTHED})", title="… decides how far a step turns …"
    )
    error.set(ylabel="held-out NMSE", title="… and so how fast it learns")
    for axes in (norm, turn, error):
        axes.set_xlabel("step")
    figure.legend(*norm.get_legend_handles_labels(), loc="outside lower center", ncols=len(runs))
    return figure


def scale_range(curves: Mapping[str, Mapping[float, float]]) -> Figure:
    """The computed error of a right estimate over its scale, one panel a precision; what is not finite is marked at the
    top.
    """
    figure, panels = plt.subplots(
        1, len(curves), figsize=(3.6 * len(curves), 3.6), layout="constrained", sharey=True, squeeze=False
    )
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
    panels[0, 0].annotate(
        "1: knows nothing",
        (scales[-1], 1),
        ha="right",
        va="top",
        fontsize=9,
        xytext=(0, -3),
        textcoords="offset points",
    )
    panels[0, 0].set_ylabel("computed NMSE (should be 0)")
    return figure


def trace_crossing(traces: Sequence[float], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Errors over the trace of R̂, in shares of N, from a covariance to what is none; NaN leaves a gap."""
    figure, axes = plt.subplots(figsize=(8.5, 4), layout="constrained")
    for (name, values), colour, line, width in zip(errors.items(), COLOURS, LINES, (1.8, 1.8, 5.0), strict=False):
        axes.plot(
            traces,
            values,
            line if width < 3 else "-",
            color=colour,
            linewidth=width,
            label=name,
            alpha=1 if width < 3 else 0.45,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    _words(axes, "no covariance can be here", 0.03)
    axes.set(yscale="log", xlabel="trace of R̂ = R − shift · I, in shares of N", ylabel="NMSE")
    axes.invert_xaxis()
    axes.legend(loc="upper left")
    return figure


def _words(axes: Axes, text: str, height: float) -> None:
    axes.annotate(
        text + " →",
        (0, height),
        xycoords=("data", "axes fraction"),
        xytext=(6, 0),
        textcoords="offset points",
        fontsize=9,
    )
