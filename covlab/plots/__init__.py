"""Every picture, drawn from the project's own data objects, by subject; here what they share, and the one way to show
one.
"""

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from covlab.markup import marked

# Okabe and Ito's palette: told apart by every kind of colour vision; line styles repeat the difference.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
NUMBER = re.compile(r"[-−+]?\d[\d.,]*(e[-+]?\d+)?\s?[%×]?")  # in a table's cell, alone


def show(figure: Figure, alt: str, *, width: int | None = None) -> None:
    """Show ``figure`` in a notebook with ``alt``, a text that says what the picture shows, and close it.

    Args:
        width: of the picture on the page, in pixels; None: as wide as it was drawn.

    Raises:
        ValueError: ``alt`` is empty.
    """
    _display(image(figure, alt, width=width, bbox_inches="tight"))


def image(figure: Figure, alt: str, *, width: int | None = None, **saving: Any) -> str:
    """``figure`` as an HTML image that says ``alt``; the figure is closed. ``saving``: as of ``Figure.savefig``.

    Raises:
        ValueError: ``alt`` is empty.
    """
    if not alt.strip():
        raise ValueError("alt must say what the picture shows, got an empty text")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110, **saving)
    plt.close(figure)
    size = f' width="{width}"' if width else ""
    picture = base64.b64encode(png.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}"{size} style="max-width: 100%" src="data:image/png;base64,{picture}">'


def table(header: Sequence[str], rows: Iterable[Sequence], caption: str = "") -> None:
    """Show a small table; numbers are right-aligned, with the name of a column of them, and written as they come."""
    rows = [tuple(row) for row in rows]

    def side(*values: object) -> str:
        return (
            "right"
            if values and all(isinstance(value, int | float) or NUMBER.fullmatch(str(value)) for value in values)
            else "left"
        )

    def cell(value: object) -> str:
        return f'<td style="text-align: {side(value)}">{marked(str(value))}</td>'

    sides = [side(*(row[column] for row in rows)) for column in range(len(header))]
    head = "".join(
        f'<th scope="col" style="text-align: {where}">{marked(name)}</th>'
        for where, name in zip(sides, header, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    _display(
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def plain_figures(axis: Axis) -> None:
    """Label a logarithmic axis, whose limits are set, with 0.2, 0.5, 1, … in place of powers of ten."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 12 * low else (1, 1.5, 2, 3, 4, 5, 6, 8)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _display(content: str) -> None:
    from IPython.display import HTML, display  # pictures can be drawn, and saved, where there is no notebook

    display(HTML(content))
