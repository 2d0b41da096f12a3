"""Explorers: controls, and a picture that changes with them. Every explorer is used in the same three ways.

    NMSEExplorer().show()      # controls and live picture
    NMSEExplorer().still()     # the same picture for a few settings, for readers without a kernel
    explorer.state             # {control: value}; assign to it to move the controls

An explorer's module is imported when its name is first used.
"""

import html
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from covlab import plots
from covlab.arguments import Allowed, text
from covlab.course import WIDGET_ERROR
from covlab.course.widget_output import show_widget

EXPLORERS = {
    "FaultMuseumExplorer": "fault_museum",
    "LossScaleExplorer": "loss_scale",
    "LossWeightsExplorer": "loss_weights",
    "NMSEExplorer": "nmse",
    "ScalingBugExplorer": "scaling_bug",
    "SceneExplorer": "scene",
}
"""{class: its module}"""

SETTINGS = Allowed("a dictionary {control: value}", lambda value: isinstance(value, Mapping))

__all__ = ["EXPLORERS", "Explorer", *EXPLORERS]  # noqa: PLE0604 - all are strings


def __getattr__(name: str) -> Any:
    if name not in EXPLORERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{EXPLORERS[name]}"), name)


class Explorer:
    """Base class of the explorers. A subclass defines ``title``, ``STILLS``, ``draw`` and its controls.

    Attributes:
        controls: {name: control}.
        picture: the HTML widget that holds the image.
        note: the HTML widget for a message or an error.
        extra, below: more widgets, between controls and picture and below the picture.
    """

    title: str
    STILLS: tuple[tuple[str, dict], ...]
    """(title, {control: value}) of each picture that ``still`` shows."""

    def __init__(self, controls: dict):
        self.controls = controls
        self.picture, self.note = ipywidgets.HTML(), ipywidgets.HTML()
        self.extra: list[ipywidgets.Widget] = []
        self.below: list[ipywidgets.Widget] = []
        self._moving_several = False
        longest = max(len(control.box.description) for control in controls.values())
        for control in controls.values():
            control.set_label_width(longest)
            control.observe(self._moved)

    def draw(self, state: dict) -> tuple[Figure, str]:
        """Return the picture of a state, {control: value}, and its alternative text."""
        raise NotImplementedError

    # ---------------------------------------------------------------- for lessons

    def show(self) -> None:
        """Show the controls and the picture in a notebook."""
        self.guarded(self.first_draw)()
        heading = ipywidgets.HTML(f"<b>{html.escape(self.title)}</b>")
        controls = ipywidgets.Box([each.widget for each in self.controls.values()], layout={"flex_flow": "row wrap"})
        whole = ipywidgets.VBox([heading, controls, *self.extra, self.note, self.picture, *self.below])
        whole.add_class("covlab-explorer")
        still = f"<p><b>{html.escape(self.title)}</b></p>{self.picture.value}<p>Run this cell to use it.</p>"
        show_widget(whole, still, f"{self.title}. Run this cell to use it.")

    def still(self) -> None:
        """Show the picture for a few settings, for readers without a kernel."""
        for title, settings in self.STILLS:
            self.still_of(title, settings)

    def still_of(self, title: str, settings: dict) -> None:
        """Show the picture for one setting, {control: value}; for the other controls, use their current values.

        Raises:
            ValueError: there is no such control, or it cannot take that value.
        """
        text.check("title", title)
        self._check("settings", settings)
        figure, alt = self.draw(self.state | settings)
        figure.suptitle(title)
        plots.show(figure, f"{title}. {alt}")

    @property
    def state(self) -> dict:
        """{control: value}. Assign some of these entries to move only those controls.

        Raises:
            ValueError: there is no such control, or it cannot take that value.
        """
        return {name: control.value for name, control in self.controls.items()}

    @state.setter
    def state(self, values: dict) -> None:
        self._check("state", values)
        before, self._moving_several = self.state, True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._moving_several = False
        if self.state != before:
            self._moved()

    def _check(self, argument: str, settings: Mapping[str, Any]) -> None:
        """Raise ValueError unless every control can take its value; so either all of them are set, or none."""
        SETTINGS.check(argument, settings)
        if unknown := [str(name) for name in settings if name not in self.controls]:
            raise ValueError(f"{argument} may have only {', '.join(self.controls)}, got {', '.join(sorted(unknown))}")
        for name, value in settings.items():
            self.controls[name].check(value, f"{argument}[{name!r}]")

    # ---------------------------------------------------------------- for subclasses

    def _moved(self) -> None:
        if not self._moving_several:
            self.guarded(self.redraw)()

    def first_draw(self) -> None:
        """Draw the picture that ``show`` starts with. This may take longer than a redraw."""
        self.redraw()

    def redraw(self) -> None:
        """Update the picture after a control has moved."""
        self._paint(*self.draw(self.state))

    def _paint(self, figure: Figure, alt: str) -> None:
        self.picture.value = plots.image(figure, alt, pil_kwargs={"compress_level": 1})

    def say(self, text: str = "") -> None:
        """Show a plain-text note above the picture; an empty text removes it."""
        note = f'<p role="status" style="border-left: 4px solid; padding-left: 8px">{html.escape(text)}</p>'
        self.note.value = note if text else ""

    def guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return ``callback``, with its errors shown in the explorer. The course's runner reports them from there."""

        def careful(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except Exception as error:  # noqa: BLE001 - shown in the widget, and fails the lesson
                self.fail(error)

        return careful

    def fail(self, error: Exception) -> None:
        """Show an error above the picture."""
        headline = html.escape(f"{type(error).__name__}: {error}", quote=True)
        trace = html.escape("".join(traceback.format_exception(error)))
        self.note.value = (
            f'<div role="alert" {WIDGET_ERROR}="{headline}" style="border-left: 4px solid #a3151f; padding-left: 8px">'
            "<b>This explorer failed.</b> "
            f"{headline}<details><summary>Where</summary><pre>{trace}</pre></details></div>"
        )
