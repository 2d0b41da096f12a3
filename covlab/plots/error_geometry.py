"""Pictures of errors between covariances."""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.plots import COLOURS

TOP = 2.5
"""The largest error that is drawn over the scale; a triangle stands for what is larger."""


@dataclass(frozen=True)
class Plane:
    """An estimate in the plane of the truth R = (1, 0) and a direction of trace 0 at right angles to it, in lengths of
    R.
    """

    estimate: tuple[float, float]
    plain_pull: tuple[float, float]  #: against the gradient of the plain error
    normalized_pull: tuple[float, float]  #: against that of the normalized error
    plain: float
    normalized: float


def error_geometry(plane: Plane, scale: float) -> Figure:
    """Left the plane with both pulls on the estimate, right both errors over the estimate's scale."""
    figure = Figure(figsize=(9, 3.9))
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.075, right=0.975, bottom=0.14, top=0.86, wspace=0.2)
    _draw_plane(left, plane)
    _draw_errors(right, plane, scale)
    return figure


def _draw_plane(axes: Axes, plane: Plane) -> None:
    x, y = plane.estimate
    reach = max(1.6, 1.25 * math.hypot(x, y))
    side = 1 if y < 0 else -1  # the half without the estimate: room for words
    axes.set(
        xlim=(-1.1 * reach, 1.58 * reach),
        ylim=(-reach, reach),
        xlabel="along R, in lengths of R",
        ylabel="at right angles to R",
    )
    axes.set_aspect("equal")
    axes.axvline(1, color="0.4", linestyle=":", linewidth=1.2)
    axes.annotate(
        "trace N", (1, -side * 0.93 * reach), xytext=(4, -4), textcoords="offset points", fontsize=9, color="0.25"
    )
    axes.plot([0, 3 * x], [0, 3 * y], color="0.75", linewidth=1)
    axes.plot(0, 0, "+", color="black")
    axes.plot(1, 0, "*", color="black", markersize=13, label="truth R")
    axes.plot(x, y, "o", color=COLOURS[0], label="estimate R̂")
    if not math.isnan(plane.normalized):
        axes.plot(1, y / x, "D", markerfacecolor="none", color=COLOURS[2], label="R̂ at trace N")
    for (dx, dy), colour, line, name in (
        (plane.plain_pull, COLOURS[1], "--", "pull of the plain error"),
        (plane.normalized_pull, COLOURS[2], "-", "pull of the NMSE"),
    ):
        length = math.hypot(dx, dy)
        axes.plot([], [], line, color=colour, label=name)
        if length > 1e-9:  # all arrows are of one length: what counts is where they point
            stretch = 0.38 * reach / length
            arrow = {
                "arrowstyle": "-|>",
                "color": colour,
                "linestyle": line,
                "linewidth": 2,
                "shrinkA": 4,
                "shrinkB": 0,
            }
            axes.annotate("", (x + stretch * dx, y + stretch * dy), (x, y), arrowprops=arrow)
    axes.legend(fontsize=8, loc="upper left" if side > 0 else "lower left", ncols=2, borderaxespad=0.2)
    axes.set_title(
        f"plain error {plane.plain:.4g}, NMSE {'NaN' if math.isnan(plane.normalized) else f'{plane.normalized:.4g}'}",
        fontsize=10,
    )


def _draw_errors(axes: Axes, plane: Plane, scale: float) -> None:
    """‖s·u − R‖² is a parabola in s through what is known: its value at 0 is 1 and its slope there −2 ⟨u, R⟩."""
    scales = np.geomspace(0.05, 100, 200)
    along = plane.estimate[0] / scale
    square = (plane.plain - 1 + 2 * scale * along) / scale**2
    axes.plot(scales, 1 - 2 * scales * along + scales**2 * square, "--", color=COLOURS[1], label="plain error")
    _mark(axes, scale, plane.plain, "s", COLOURS[1])
    if not math.isnan(plane.normalized):
        axes.plot(scales, np.full_like(scales, plane.normalized), color=COLOURS[2], label="NMSE")
        _mark(axes, scale, plane.normalized, "o", COLOURS[2], lower=0.12)
    else:
        axes.text(
            0.7, 0.3, "NMSE: NaN\n(the trace is not positive)", transform=axes.transAxes, ha="center", fontsize=10
        )
    axes.set(
        xscale="log",
        xlabel="scale s of the estimate",
        ylabel="error, in squares of ‖R‖",
        ylim=(-0.1, 1.04 * TOP),
        xlim=(0.05, 100),
    )
    axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.minorticks_off()
    axes.set_title("over the scale", fontsize=10)
    axes.legend(fontsize=8, loc="upper left")


def _mark(axes: Axes, scale: float, error: float, marker: str, colour: str, lower: float = 0.0) -> None:
    """A mark at the error; above TOP a triangle with the number, ``lower`` than another's."""
    if error <= TOP:
        axes.plot(scale, error, marker, color=colour)
        return
    axes.plot(scale, TOP - lower, "^", color=colour)
    side = -1 if scale > 8 else 1
    axes.annotate(
        f"{error:.3g}",
        (scale, TOP - lower),
        xytext=(7 * side, 0),
        textcoords="offset points",
        ha="left" if side > 0 else "right",
        va="center",
        fontsize=8,
    )
