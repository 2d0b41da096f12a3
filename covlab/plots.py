"""Every picture, drawn from the project's own data objects, and the one way to show it."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from covlab.trainer import Trainer

# Okabe and Ito's palette: told apart by every kind of colour vision; line styles repeat the difference.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")


def show(figure: Figure, alt: str, *, width: int | None = None) -> None:
    """Show ``figure`` in a notebook with ``alt``, a text that says what the picture shows, and close it.

    Args:
        width: of the picture on the page, in pixels; None: as wide as it was drawn.

    Raises:
        ValueError: ``alt`` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what the picture shows, got an empty text")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    size = f' width="{width}"' if width else ""
    picture = base64.b64encode(png.getvalue()).decode()
    _display(f'<img alt="{html.escape(alt)}"{size} style="max-width: 100%" src="data:image/png;base64,{picture}">')


def table(header: Sequence[str], rows: Iterable[Sequence], caption: str = "") -> None:
    """Show a small table; numbers are right-aligned, and written as they come."""

    def cell(value) -> str:
        side = "right" if isinstance(value, int | float) or str(value)[:1].isdigit() else "left"
        return f'<td style="text-align: {side}">{html.escape(str(value))}</td>'

    head = "".join(f'<th scope="col" style="text-align: left">{html.escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    _display(f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _display(content: str) -> None:
    from IPython.display import HTML, display  # pictures can be drawn, and saved, where there is no notebook

    display(HTML(content))


def learning_curves(runs: Mapping[str, Trainer]) -> Figure:
    """Train and validation NMSE of each run over the epochs, on a logarithmic axis."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (label, run), colour in zip(runs.items(), COLOURS, strict=False):
        epochs = [row["epoch"] + 1 for row in run.history]
        for line, value in zip(LINES, ("validation", "train"), strict=False):
            axes.plot(epochs, [row[value] for row in run.history], line, color=colour, label=f"{_stamped(label, run)}: {value}")
    axes.set(xlabel="epoch", ylabel="NMSE (1 = knows nothing)", yscale="log")
    axes.legend()
    return figure


def window_columns(groups: Mapping[str, Mapping[str, Trainer]], columns: Mapping[str, str]) -> Figure:
    """Ledger columns over the windows, one row of panels a group of runs, one panel a column.

    Where the runs clip, the threshold is drawn into their panels of a gradient norm.

    Args:
        groups: {row title: {label: run}}.
        columns: {ledger column: axis label}.
    """
    figure, panels = plt.subplots(
        len(groups), len(columns), figsize=(4.6 * len(columns), 3.2 * len(groups)), layout="constrained", squeeze=False, sharex=True, sharey="col"
    )
    for row, (title, runs) in zip(panels, groups.items(), strict=True):
        for axes, (column, name) in zip(row, columns.items(), strict=True):
            for (label, run), colour, line in zip(runs.items(), COLOURS, LINES, strict=False):
                values = run.ledger.columns()
                axes.plot(values["window"], values[column], line, color=colour, label=_stamped(label, run), linewidth=1.3)
            clip = next(iter(runs.values())).recipe.clip
            if clip is not None and column.startswith("gradient_norm"):
                axes.axhline(clip, color="black", linewidth=0.8)
                axes.annotate("clip", (1, clip), xycoords=("axes fraction", "data"), ha="right", va="bottom")
            axes.set(title=title, ylabel=name, yscale="log")
        row[0].legend()
    for axes in panels[-1]:
        axes.set_xlabel("window (optimizer step)")
    return figure


def _stamped(label: str, run: Trainer) -> str:
    return f"{label} (BUGGED)" if run.faults else label


def symptom_matrix(rows: Sequence[Mapping]) -> Figure:
    """The NMSE reached with each fault over that without it, by cell (``covlab.faults.matrix``).

    A dot: an observable convicts the fault there; a cross: some seeds were stopped for their losses.
    """
    cells = list(dict.fromkeys((row["optimizer"], row["clipping"], row["precision"]) for row in rows))
    names = list(dict.fromkeys(row["fault"] for row in rows))
    figure, axes = plt.subplots(figsize=(8.5, 0.27 * len(names) + 1.8), layout="constrained")
    places = {(row["fault"], (row["optimizer"], row["clipping"], row["precision"])): row for row in rows}
    ratios = [[math.log10(max(places[name, cell]["validation"], 1e-9) / places[name, cell]["clean_validation"]) for cell in cells] for name in names]
    image = axes.imshow(ratios, cmap=plt.get_cmap("PuOr_r").with_extremes(bad="black"), vmin=-math.log10(2), vmax=math.log10(2), aspect="auto")
    for y, name in enumerate(names):
        for x, cell in enumerate(cells):
            row = places[name, cell]
            ratio = row["validation"] / row["clean_validation"]
            mark = "×" if row["diverged"] else f"{ratio:.2f}" + (" •" if row["moved"] else "")
            dark = not math.isfinite(ratio) or not 0.65 < ratio < 1.5
            axes.text(x, y, mark, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    axes.set_xticks(range(len(cells)), ["\n".join(cell) for cell in cells], fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.xaxis.tick_top()
    bar = figure.colorbar(image, label="NMSE reached, with the fault over without", ticks=(-math.log10(2), 0, math.log10(2)), shrink=0.4)
    bar.ax.set_yticklabels(["½", "1", "2"])
    return figure


def confusion_matrix(shares: Mapping[str, Mapping[str, float]], expected: Mapping[str, str]) -> Figure:
    """Which observable convicts which fault, as the share of seeds; ``expected`` {fault: observable} gets a frame."""
    observables = list(dict.fromkeys([*expected.values(), *(name for found in shares.values() for name in found)]))
    figure, axes = plt.subplots(figsize=(0.3 * len(observables) + 3.2, 0.27 * len(shares) + 2.2), layout="constrained")
    axes.imshow([[found.get(name, 0.0) for name in observables] for found in shares.values()], cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for y, (fault, found) in enumerate(shares.items()):
        for x, name in enumerate(observables):
            if found.get(name):
                axes.text(x, y, f"{found[name]:.0%}".removesuffix("%"), ha="center", va="center", fontsize=6, color="white")
            if expected.get(fault) == name:
                axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=1.5))
    axes.set_xticks(range(len(observables)), observables, rotation=90, fontsize=8)
    axes.set_yticks(range(len(shares)), shares, fontsize=8)
    axes.set_title("Per cent of seeds in which the observable convicts; framed: the exhibit's own", fontsize=9)
    return figure
