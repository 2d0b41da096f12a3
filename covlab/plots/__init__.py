"""Draw every picture, one file per subject. This file holds what they share, and shows pictures in a notebook."""

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from covlab.arguments import Text, checked, whole_number
from covlab.markup import marked

if TYPE_CHECKING:
    from covlab.training.trainer import Trainer

# Okabe and Ito's palette, which every kind of color vision can tell apart; line styles repeat the difference.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKS = "osD^vP*X"
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # a box behind text that lies on lines
DPI = 110  # of a figure on a page; a picture has ``SHARPNESS`` times as many, for screens with small pixels
SHARPNESS = 2
LEGIBLE = 0.6  # a narrow page shrinks a picture to this share of its width; then it scrolls
MAGNITUDES, PHASES = "cividis", "twilight"  # color maps of |y|, |R|, … and of angles, in every picture
NUMBER = re.compile(  # a whole table cell that is a number, or two with a word between them, and perhaps a unit
    r"[<>≤≥≈×]?\s?{0}(\s?(±|to|of|/|…|–)\s?{0})?\s?([%×°]|[a-zµ]{{1,3}})?".format(
        r"[-−+]?(\d[\d.,]*(e[-+]?\d+)?|nan|inf|∞)"
    ),
    re.IGNORECASE,
)


Width = Annotated[int | None, whole_number(1, 2**14).or_none("as it was drawn")]


@checked
def show(figure: Figure, alt: Text, *, width: Width = None) -> None:
    """Show ``figure`` in a notebook with the alternative text ``alt``, which describes the picture.

    Args:
        width: of the picture on the page, in pixels; None: as wide as it was drawn.

    Raises:
        ValueError: ``alt`` is empty.
    """
    _display(scrollable(image(figure, alt, width=width, bbox_inches="tight")))
    plt.close(figure)  # or a notebook shows a figure of pyplot a second time


@checked
def image(figure: Figure, alt: Text, *, width: Width = None, **saving: Any) -> str:
    """Return ``figure`` as an HTML image with the alternative text ``alt``.

    Args:
        saving: options of ``Figure.savefig``.

    Raises:
        ValueError: ``alt`` is empty.
    """
    data, drawn_width = picture_data(figure, **saving)
    width = width or drawn_width // SHARPNESS
    style = f"max-width: 100%; min-width: {int(LEGIBLE * width)}px; height: auto; background-color: white"
    return f'<img alt="{html.escape(alt)}" width="{width}" style="{style}" src="{data}">'


def picture_data(figure: Figure, **saving: Any) -> tuple[str, int]:
    """Return ``figure`` as a data URI, and its width in pixels."""
    drawn, png = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=SHARPNESS * DPI, pil_kwargs={"compress_level": 1}, **saving)
    picture = Image.open(drawn).convert("RGB")
    # 256 colors are enough for a drawing, and make the file smaller than one of half the resolution in full color.
    picture.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(png, "png")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}", picture.width


def scrollable(content: str) -> str:
    """Return HTML that scrolls sideways where the page is too narrow for it."""
    return f'<div tabindex="0" style="max-width: 100%; overflow-x: auto">{content}</div>'


@checked
def table(header: Sequence[str], rows: Iterable[Sequence], caption: str = "", *, folded: str = "") -> None:
    """Show a small table; numbers, and headings of columns that hold only numbers, are aligned to the right.

    folded: if not empty, the table is folded away under this line.
    """
    rows = [tuple(row) if isinstance(row, Iterable) else (row,) for row in rows]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"rows must have {len(header)} cells each, like the header, got {row!r}")

    def cell(tag: str, text: object, values: Sequence) -> str:
        numeric = values and all(isinstance(value, int | float) or NUMBER.fullmatch(str(value)) for value in values)
        return f'<{tag} style="text-align: {"right" if numeric else "left"}">{marked(str(text))}</{tag.split()[0]}>'

    head = "".join(cell('th scope="col"', name, [row[column] for row in rows]) for column, name in enumerate(header))
    body = "".join(f"<tr>{''.join(cell('td', value, [value]) for value in row)}</tr>" for row in rows)
    title = f'<caption style="color: inherit">{html.escape(caption)}</caption>'  # or a dark page makes it pale
    whole = f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    _display(f"<details><summary>{html.escape(folded)}</summary>{whole}</details>" if folded else whole)


def subplots(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float], margins: Mapping | None = None, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure and its panels, whose lines differ in color and in style.

    Args:
        size: width and height of the figure in inches.
        margins: as of ``Figure.subplots_adjust``, in place of a layout. An explorer needs them: a layout takes most
            of the drawing time.
        options: of ``Figure.subplots``.
    """
    figure = Figure(figsize=size, layout=None if margins else "constrained")  # pyplot would keep it in memory
    panels = figure.subplots(rows, columns, **options)
    if margins:
        figure.subplots_adjust(**margins)
    for axes in figure.axes:
        axes.set_prop_cycle(color=COLOURS, linestyle=(*LINES, *LINES[:3]))
    return figure, panels


def note(axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write a small text beside a point, ``offset`` from it by (right, up) in points of 1/72 inch."""
    axes.annotate(text, point, xytext=offset, textcoords="offset points", **{"fontsize": 8, **style})


def cells(
    axes: Axes,
    values: Any,
    texts: Mapping[tuple[int, int], str],
    rows: Sequence[str],
    columns: Sequence[str],
    letters: float = 7,
    **style: Any,
) -> AxesImage:
    """Draw a matrix [rows, columns] as colored cells with ``texts`` {(row, column): text} in them.

    Args:
        letters: size of the texts in points.
        style: of ``Axes.imshow``.
    """
    image = axes.imshow(values, aspect="auto", zorder=1, **style)  # above a grid
    for (row, column), text in texts.items():
        dark = image.to_rgba(values[row][column])[:3] @ np.array((0.299, 0.587, 0.114)) < 0.45  # luma, ITU-R BT.601
        axes.text(column, row, text, ha="center", va="center", fontsize=letters, color="white" if dark else "black")
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    return image


def legend_below(figure: Figure, axes: Axes, columns: int, **style: Any) -> None:
    """Draw the legend of ``axes`` below all panels of ``figure``."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, **style)


def plain_figures(axis: Axis) -> None:
    """Label a logarithmic axis, whose limits are set, with 0.2, 0.5, 1, … in place of powers of ten."""
    low, high = sorted(axis.get_view_interval())
    subs = (1, 1.5, 2, 3, 4, 5, 6, 8) if high <= 12 * low else (1, 2, 5) if high <= 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def check_lengths(name: str, series: Mapping[str, Sequence], length: int) -> None:
    """Raise ValueError unless every series has ``length`` entries."""
    for label, values in series.items():
        if len(values) != length:
            raise ValueError(f"{name} must hold {length} entries for each label, got {len(values)} for {label!r}")


def stamped(label: str, run: "Trainer") -> str:
    """Return the label of a run, which shows whether the run has a bug switched on."""
    return f"{label} (BUG)" if run.faults else label


def over_epochs(run: "Trainer", column: str) -> tuple[list[int], list[float]]:
    """Return the epochs of a run, from 1, and a column of its history."""
    return [row["epoch"] + 1 for row in run.history], [row[column] for row in run.history]


def _display(content: str) -> None:
    from IPython.display import HTML, display  # pictures can be drawn and saved without a notebook

    display(HTML(content))
