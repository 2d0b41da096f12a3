"""Controls of explorers: those of ipywidgets, each with a label, a readout and keyboard access."""

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import numpy as np

from covlab.arguments import Allowed, number, one_of, text

ANY_NUMBER = number()
YES_OR_NO = Allowed("True or False", lambda value: isinstance(value, bool))
GRID = Allowed(
    "a list or range of finite numbers",
    lambda value: isinstance(value, list | tuple | range) and len(value) > 0 and all(map(ANY_NUMBER.accepts, value)),
)
WORDS = Allowed(
    "a dictionary {number: text}",
    lambda value: (
        isinstance(value, dict) and all(map(ANY_NUMBER.accepts, value)) and all(map(text.accepts, value.values()))
    ),
).or_none("no words")
OPTIONS = Allowed(
    "a list of different texts",
    lambda value: (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(map(text.accepts, value))
        and len(set(value)) == len(value)
    ),
)


class Control:
    """A labeled control.

    Attributes:
        label: what the control is called.
        box: the ipywidgets control that holds the value.
        widget: what to display: the control, and the reason if it has no effect now.
    """

    box: Any
    widget: ipywidgets.VBox

    def __init__(self, label: str, *parts: ipywidgets.Widget):
        self.label, self._parts, self._reason = label, parts, ipywidgets.HTML(layout={"display": "none"})
        self.widget = ipywidgets.VBox([*parts, self._reason], layout={"width": "auto", "margin": "0 0 2px 0"})

    @property
    def value(self) -> Any:
        return self.box.value

    @value.setter
    def value(self, value: Any) -> None:
        self.check(value)
        self.box.value = value

    def check(self, value: Any, name: str = "") -> None:
        """Raise ValueError if the control does not offer this value. An error says ``name``, or else the label."""
        raise NotImplementedError

    def observe(self, heard: Callable[[], None]) -> None:
        """Call ``heard()`` whenever the value has changed."""
        self.box.observe(lambda change: heard(), "value")

    def disable(self, reason: str = "") -> None:
        """Disable the control and show why; an empty reason enables it."""
        for part in self._parts:
            part.disabled, part.tooltip = bool(reason), reason or None
        self._reason.value = f'<p style="margin: 0; line-height: 1.4">{html.escape(reason)}</p>'
        self._reason.layout.display = "" if reason else "none"


class NumberControl(Control):
    """A number with a box to type in, and a slider below it.

    Python cannot give an ipywidgets slider a name for screen readers. The box has one: its label. ``course/widgets.js``
    copies it to the slider.

    Args:
        label: text beside the box, with the unit.
        value: the first value.
        grid: the slider's values; the smallest and the largest one are the box's limits.
        words: {value: what it means}, such as {0: "off"}; the label shows it.
        whole: round a typed value to a whole number.
    """

    def __init__(
        self,
        label: str,
        value: float,
        grid: Sequence[float],
        words: dict[float, str] | None = None,
        whole: bool = False,
    ):
        text.check("label", label)
        ANY_NUMBER.check("value", value)
        GRID.check("grid", grid)
        WORDS.check("words", words)
        YES_OR_NO.check("whole", whole)
        self.grid, self.words, self.whole = sorted({*grid, value}), words or {}, whole
        meanings = ", ".join(f"{number:g}: {meaning}" for number, meaning in self.words.items())
        self.box = ipywidgets.BoundedFloatText(
            value=value,
            min=self.grid[0],
            max=self.grid[-1],
            step=None,
            description=f"{label} ({meanings})" if meanings else label,
            style={"description_width": "auto"},
            layout={"width": "auto", "margin": "0 2px"},
        )
        # The readout is hidden: the box shows the value. Screen readers get the readout's text with the slider.
        self.slider = ipywidgets.SelectionSlider(
            options=self._options(self.grid),
            value=value,
            layout={"width": "auto", "min_width": "250px", "height": "20px", "margin": "0 4px"},
        )
        super().__init__(label, self.box, self.slider)
        self.widget.add_class("covlab-number")
        self.box.observe(self._follow_box, "value")
        self.slider.observe(self._follow_slider, "value")

    def check(self, value: float, name: str = "") -> None:
        low, high = self.grid[0], self.grid[-1]
        Allowed(
            f"{'a whole number' if self.whole else 'a number'} from {low:g} to {high:g}",
            lambda value: (
                isinstance(value, int | float | np.integer | np.floating)
                and not isinstance(value, bool)
                and bool(low <= value <= high)
                and not (self.whole and value != round(value))
            ),
        ).check(name or self.label, value)

    def _follow_box(self, change: dict) -> None:
        value = change["new"]
        if self.whole and value != round(value):
            self.box.value = round(value)
            return
        # Add a typed value to the slider's values, so that its readout is correct.
        if value not in [offered for _, offered in self.slider.options]:
            self.slider.unobserve(self._follow_slider, "value")
            with self.slider.hold_sync():
                self.slider.options = self._options(sorted({*self.grid, value}))
                self.slider.value = value
            self.slider.observe(self._follow_slider, "value")
        self.slider.value = value

    def _follow_slider(self, change: dict) -> None:
        self.box.value = change["new"]

    def _options(self, values: Sequence[float]) -> list[tuple[str, float]]:
        return [(self.words.get(value, f"{value:g}"), value) for value in values]


class ChoiceControl(Control):
    """A choice of one option: radio buttons, or with ``many`` a drop-down list.

    These are not toggle buttons, because those show only by color which one is pressed.
    """

    def __init__(self, label: str, value: str, options: Sequence[str], many: bool = False):
        text.check("label", label)
        OPTIONS.check("options", options)
        one_of(options).check("value", value)
        YES_OR_NO.check("many", many)
        kind, across = (ipywidgets.Dropdown, {}) if many else (ipywidgets.RadioButtons, {"orientation": "horizontal"})
        layout = {"width": "auto", "margin": "2px"}
        style = {"description_width": "auto"}
        self.box = kind(description=label, options=list(options), layout=layout, style=style, **across)
        super().__init__(label, self.box)
        self.value = value

    def check(self, value: str, name: str = "") -> None:
        Allowed(
            f"one of {', '.join(self.box.options)}",
            lambda value: isinstance(value, str) and value in self.box.options,
        ).check(name or self.label, value)


def steps(low: float, high: float, count: int) -> list[float]:
    """Return ``count`` evenly spaced values, both ends included, to four digits."""
    return [round(low + (high - low) * number / (count - 1), 4) for number in range(count)]


def decades(low: int, high: int) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten from 10^low up to 10^high."""
    return [float(f"{digit}e{power}") for power in range(low, high) for digit in (1, 2, 5)] + [float(f"1e{high}")]
