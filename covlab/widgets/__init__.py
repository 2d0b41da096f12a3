"""Explorers: a few controls, and a picture that follows them. Each has the same three verbs.

    NMSEExplorer().show()      # controls and live picture
    NMSEExplorer().still()     # the same picture for a few settings, for a reader without a kernel
    explorer.state             # {control: value}; assign to it to move the controls

An explorer's module is imported when its name is first asked for.
"""

import html
import traceback
from collections.abc import Callable
from functools import wraps
from importlib import import_module, resources
from typing import Any, ParamSpec, TypeVar

import ipywidgets
from matplotlib.figure import Figure

from covlab import plots
from covlab.course import WIDGET_ERROR

P = ParamSpec("P")
T = TypeVar("T")

EXPLORERS = {
    "FaultMuseumExplorer": "fault_museum",
    "LossScaleExplorer": "loss_scale",
    "LossWeightsExplorer": "loss_weights",
    "NMSEExplorer": "nmse",
    "ScalingBugExplorer": "scaling_bug",
    "SceneExplorer": "scene",
}
"""{class: its module}"""

__all__ = ["EXPLORERS", "Explorer", *EXPLORERS]  # noqa: PLE0604 - strings all


def __getattr__(name: str) -> Any:
    if name not in EXPLORERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{EXPLORERS[name]}"), name)


class Explorer:
    """What all explorers share. One of its own gives its controls to ``__init__``, and ``draw`` and ``STILLS``.

    Attributes:
        controls: {name: control}.
        picture: the HTML widget that holds the image.
        note: the HTML widget for what is to be said beside it: a refusal, an error.
    """

    title: str
    STILLS: tuple[tuple[str, dict], ...]
    """(what is special about it, {control: value}): the settings of ``still``."""

    def __init__(self, controls: dict):
        self.controls = controls
        self.picture, self.note = ipywidgets.HTML(), ipywidgets.HTML()
        self.extra: list[ipywidgets.Widget] = []  # between controls and picture
        self.below: list[ipywidgets.Widget] = []  # below the picture
        self._moving_several = False
        for control in controls.values():
            control.observe(self._moved)

    def draw(self, state: dict) -> tuple[Figure, str]:
        """The picture of a state, and the text that says what it shows."""
        raise NotImplementedError

    # ---------------------------------------------------------------- the three verbs

    def show(self) -> None:
        """Show the controls and the picture, in a notebook."""
        from IPython.display import display

        self.guarded(self.first_draw)()
        controls = ipywidgets.Box(
            [control.widget for control in self.controls.values()], layout={"flex_flow": "row wrap"}
        )
        heading = ipywidgets.HTML(f"<b>{html.escape(self.title)}</b>")
        whole = ipywidgets.VBox([heading, controls, *self.extra, self.note, self.picture, *self.below])
        whole.add_class("covlab-explorer")
        display(whole)
        names = resources.files("covlab.widgets").joinpath("names.js").read_text(encoding="utf-8")
        display({"application/javascript": names, "text/plain": ""}, raw=True)

    def still(self) -> None:
        """Show the picture for each of a few settings: what a reader without a kernel is to see."""
        for title, settings in self.STILLS:
            self.still_of(title, settings)

    def still_of(self, title: str, settings: dict) -> None:
        """Show the picture for one setting, {control: value}; what it leaves out is as the controls stand."""
        figure, alt = self.draw(self.state | settings)
        figure.suptitle(title)
        plots.show(figure, f"{title}. {alt}")

    @property
    def state(self) -> dict:
        """{control: value}. Assigning a part of it moves these controls.

        Raises:
            ValueError: there is no such control, or it cannot have that value.
        """
        return {name: control.value for name, control in self.controls.items()}

    @state.setter
    def state(self, values: dict) -> None:
        if unknown := set(values) - set(self.controls):
            raise ValueError(f"state must be of {', '.join(self.controls)}, got {', '.join(sorted(unknown))}")
        before, self._moving_several = self.state, True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._moving_several = False
        if self.state != before:
            self._moved()

    # ---------------------------------------------------------------- for explorers

    def _moved(self) -> None:
        if not self._moving_several:
            self.guarded(self.redraw)()

    def first_draw(self) -> None:
        """The picture as ``show`` finds it. It may take its time: nobody waits at a control."""
        self.redraw()

    def redraw(self) -> None:
        """Bring the picture up to date."""
        self._paint(*self.draw(self.state))

    def _paint(self, figure: Figure, alt: str) -> None:
        self.picture.value = plots.image(figure, alt, pil_kwargs={"compress_level": 1})

    def say(self, text: str = "") -> None:
        """A note beside the picture, in plain text; nothing to take it away."""
        self.note.value = (
            f'<p role="status" style="border-left: 4px solid; padding-left: 8px">{html.escape(text)}</p>'
            if text
            else ""
        )

    def guarded(self, callback: Callable[P, T]) -> Callable[P, T | None]:
        """``callback``, whose errors are shown in the explorer. They make a lesson's run fail."""

        @wraps(callback)
        def careful(*arguments: P.args, **named: P.kwargs) -> T | None:
            try:
                return callback(*arguments, **named)
            except Exception as error:  # noqa: BLE001 - shown in the widget, and fails the lesson
                self.fail(error)
                return None

        return careful

    def fail(self, error: Exception) -> None:
        """Show an error where the student looks."""
        headline = html.escape(f"{type(error).__name__}: {error}", quote=True)
        trace = html.escape("".join(traceback.format_exception(error)))
        self.note.value = (
            f'<div role="alert" {WIDGET_ERROR}="{headline}" style="border-left: 4px solid #a3151f; padding-left: 8px">'
            "<b>This explorer failed.</b> "
            f"{headline}<details><summary>Where</summary><pre>{trace}</pre></details></div>"
        )
