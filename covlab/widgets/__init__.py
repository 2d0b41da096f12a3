"""Explorers: controls, and a picture that changes with them. Every explorer is used in the same three ways.

    explorer.show()                                # controls and live picture; a still for readers without a kernel
    explorer.still_of("No noise", {"noise": 0.0})  # the picture for one setting
    explorer.state                                 # {control: value}; assign to it to move the controls

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


def __dir__() -> list[str]:
    return sorted({*globals(), *EXPLORERS})


class Explorer:
    """Base class of the explorers. A subclass defines ``title``, ``draw`` and its controls.

    Attributes:
        controls: {name: control}.
        picture: the HTML widget that holds the image.
        note: the HTML widget for a message or an error, below the controls.
        pictures: the picture, and more below it.
        extra, below: more widgets, below the controls and below everything.
    """

    title: str

    def __init__(self, controls: dict):
        self.controls = controls
        self.picture, self.note = ipywidgets.HTML(layout={"margin": "0"}), ipywidgets.HTML()
        self.pictures: list[ipywidgets.Widget] = [self.picture]
        self.extra: list[ipywidgets.Widget] = []
        self.below: list[ipywidgets.Widget] = []
        self._moving_several = False
        for control in controls.values():
            control.observe(self._moved)
        self._disable()

    def draw(self, state: dict) -> tuple[Figure, str]:
        """Return the picture of a state, {control: value}, and its alternative text."""
        raise NotImplementedError

    # ---------------------------------------------------------------- for lessons

    def show(self) -> None:
        """Show the controls and the picture in a notebook."""
        self.guarded(self.first_draw)()
        whole = self.arranged()
        whole.add_class("covlab-explorer")
        shown = [*self.extra, self.note, *self.pictures, *self.below]
        parts = "".join(
            f"<div>{each.value}</div>" for each in shown if isinstance(each, ipywidgets.HTML) and each.value
        )
        still = f"<p><b>{html.escape(self.title)}</b></p>{parts}<p>Run this cell to use it.</p>"
        show_widget(whole, still, f"{self.title}. Run this cell to use it.")

    def still_of(self, title: str, settings: dict) -> None:
        """Show the picture for one setting, {control: value}; for the other controls, use their current values.

        Raises:
            ValueError: there is no such control, or it cannot take that value.
        """
        text.check("title", title)
        self._check("settings", settings)
        figure, alt = self.draw(self.state | settings)
        figure.suptitle(title, y=1.02, va="bottom")  # above the titles of the panels
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

    def arranged(self) -> ipywidgets.VBox:
        """Return all widgets: controls on the left and the picture on the right, or below where the page is narrow."""
        left = [*(each.widget for each in self.controls.values()), *self.extra, self.note]
        sides = [
            ipywidgets.VBox(left, layout={"flex": "1 1 300px", "max_width": "350px", "margin": "0 16px 0 0"}),
            ipywidgets.VBox(self.pictures, layout={"flex": "1 1 520px", "min_width": "0"}),
        ]
        heading = ipywidgets.HTML(f"<b>{html.escape(self.title)}</b>")
        return ipywidgets.VBox([heading, ipywidgets.Box(sides, layout={"flex_flow": "row wrap"}), *self.below])

    def without_effect(self, state: dict) -> dict[str, str]:
        """Return {control: reason} for the controls that change nothing in this state."""
        return {}

    def _moved(self) -> None:
        if not self._moving_several:
            self._disable()
            self.guarded(self.redraw)()

    def _disable(self) -> None:
        reasons = self.without_effect(self.state)
        for name, control in self.controls.items():
            control.disable(reasons.get(name, ""))

    def first_draw(self) -> None:
        """Draw the picture that ``show`` starts with. This may take longer than a redraw."""
        self.redraw()

    def redraw(self) -> None:
        """Update the picture after a control has moved."""
        self._paint(*self.draw(self.state))

    def _paint(self, figure: Figure, alt: str) -> None:
        self.picture.value = plots.scrollable(plots.image(figure, alt))

    def say(self, text: str = "") -> None:
        """Show a plain-text note below the controls; an empty text removes it."""
        style = "border-left: 4px solid; padding-left: 8px; margin: 4px 0; line-height: 1.4"
        note = f'<p role="status" style="{style}">{html.escape(text)}</p>'
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
        """Show an error below the controls."""
        headline = html.escape(f"{type(error).__name__}: {error}", quote=True)
        trace = html.escape("".join(traceback.format_exception(error)))
        self.note.value = (
            f'<div role="alert" {WIDGET_ERROR}="{headline}" style="border-left: 4px solid #a3151f; padding-left: 8px">'
            "<b>This explorer failed.</b> "
            f"{headline}<details><summary>Where</summary><pre>{trace}</pre></details></div>"
        )
