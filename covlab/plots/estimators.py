"""Pictures of estimators: error by SNR, and what it costs."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from covlab.plots import COLOURS, LINES

CURVES = ("scaled identity", "sample covariance", "grid ML, far field", "grid ML", "grid ML, refined", "greedy ML, off grid", "genie")


def estimator_table(results: Mapping) -> Figure:
    """What `covlab bench estimators` stored: NMSE by SNR with 95 % intervals, and mean NMSE against time a scene.

    Drawn as curves: the networks and a selection of the ladder (``CURVES``); as points: everything.
    """
    rows = results["rows"]
    figure, (by_snr, by_time) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    curves = [row for row in rows if row["name"] in CURVES or row["parameters"]]
    for number, row in enumerate(curves):
        middle = [(part["low_db"] + part["high_db"]) / 2 for part in row["by_snr"]]
        colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
        by_snr.plot(middle, [part["mean"] for part in row["by_snr"]], line, marker="o", markersize=4, color=colour, label=row["name"])
        low, high = zip(*(part["mean_95"] for part in row["by_snr"]), strict=True)
        by_snr.fill_between(middle, low, high, color=colour, alpha=0.15, linewidth=0)
    by_snr.set(xlabel="SNR (dB), bins of 5 dB", ylabel="mean NMSE (1 = knows nothing)", yscale="log")
    by_snr.legend(fontsize=8)
    _points(by_time, rows)
    by_time.set(xlabel="processor time a scene, one thread (ms)", ylabel="mean NMSE", xscale="log", yscale="log")
    scenes = max(row["scenes"] for row in rows)
    figure.suptitle(f"{results['preset']}: {scenes} unseen scenes, SNR -5 to 20 dB", fontsize=11)
    return figure


def _points(axes, rows: Sequence[Mapping]) -> None:
    for row in rows:
        colour, marker = (COLOURS[1], "s") if row["parameters"] else (COLOURS[0], "o")
        low, high = row["mean_95"]
        axes.errorbar(row["milliseconds"], row["mean"], [[row["mean"] - low], [high - row["mean"]]], fmt=marker, color=colour, markersize=5, linewidth=1)
        axes.annotate(row["name"], (row["milliseconds"], row["mean"]), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.margins(x=0.25)


def position_errors(rows: Sequence[Mapping]) -> Figure:
    """Position error against SNR under the Cramér-Rao bound; rows of {"snr_db", "bound", estimator: error}, all in metres."""
    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    snr = [row["snr_db"] for row in rows]
    for number, name in enumerate(name for name in rows[0] if name not in ("snr_db", "bound")):
        axes.plot(snr, [row[name] for row in rows], LINES[number], marker="o", markersize=4, color=COLOURS[number], label=name)
    axes.plot(snr, [row["bound"] for row in rows], color="black", label="Cramér-Rao bound")
    axes.set(xlabel="SNR (dB)", ylabel="median position error (m)", yscale="log")
    axes.legend()
    return figure
