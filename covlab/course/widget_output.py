"""Show a widget, and leave a still of it for readers without a kernel.

A widget lives as long as its kernel. In a notebook that is opened again, JupyterLab shows "Error displaying widget" in
its place, and ignores other forms in the same output. So the still is an output of its own, and ``widgets.js`` shows
either the still or the widget.
"""

from importlib import resources
from typing import Any

import IPython.display

SCRIPT = "widgets.js"


def show_widget(widget: Any, still: str, plain: str) -> None:
    """Display ``widget`` in a notebook where its kernel runs, and ``still`` where it does not.

    Args:
        still: HTML.
        plain: the same as text, for a reader that shows no HTML.
    """
    widget.add_class("covlab-live")
    script = resources.files("covlab.course").joinpath(SCRIPT).read_text(encoding="utf-8")
    IPython.display.display({"application/javascript": script, "text/plain": ""}, raw=True)
    IPython.display.display({"text/html": f'<div class="covlab-still">{still}</div>', "text/plain": plain}, raw=True)
    IPython.display.display(widget._repr_mimebundle_() | {"text/plain": ""}, raw=True)
