"""Controls of explorers: those of ipywidgets, each with a label, a readout and keyboard access."""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets


class Control:
    """A labeled control.

    Attributes:
        box: the ipywidgets control that holds the value.
        widget: what to display.
    """

    box: Any
    widget: ipywidgets.Widget

    @property
    def value(self) -> Any:
        return self.box.value

    @value.setter
    def value(self, value: Any) -> None:
        self.check(value)
        self.box.value = value

    def check(self, value: Any) -> None:
        """Raise ValueError if the control does not offer this value."""
        raise NotImplementedError

    def observe(self, heard: Callable[[], None]) -> None:
        """Call ``heard()`` whenever the value has changed."""
        self.box.observe(lambda change: heard(), "value")

    def set_label_width(self, characters: int) -> None:
        """Make room for a label of this many characters, and at least 10.5em."""
        self.box.style.description_width = f"{max(10.5, 0.6 * characters):g}em"


class NumberControl(Control):
    """A number with a slider and a box to type in; both always show the same value.

    Python cannot give an ipywidgets slider a name for screen readers. The box has one, its label, and ``names.js``
    copies it to the slider.

    Args:
        label: text beside the box, with the unit.
        value: the first value.
        grid: the slider's values; the smallest and the largest one are the box's limits.
        words: {value: what the readout shows instead of the number}, such as {0: "off"}.
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
        self.grid, self.words, self.whole = sorted({*grid, value}), words or {}, whole
        self.box = ipywidgets.BoundedFloatText(
            value=value, min=self.grid[0], max=self.grid[-1], step=None, description=label
        )
        self.slider = ipywidgets.SelectionSlider(
            options=self._options(self.grid), value=value, layout={"width": "14em", "margin": "2px 2px 2px 8px"}
        )
        self.widget = ipywidgets.HBox([self.box, self.slider], layout={"flex_flow": "row wrap"})
        self.widget.add_class("covlab-number")
        self.set_label_width(len(label))
        self.box.observe(self._follow_box, "value")
        self.slider.observe(self._follow_slider, "value")

    def check(self, value: float) -> None:
        if not self.grid[0] <= value <= self.grid[-1]:
            raise ValueError(
                f"{self.box.description} must be from {self.grid[0]:g} to {self.grid[-1]:g}, got {value!r}"
            )
        if self.whole and value != round(value):
            raise ValueError(f"{self.box.description} must be a whole number, got {value!r}")

    def set_label_width(self, characters: int) -> None:
        super().set_label_width(characters)
        self.box.layout.width = f"calc({self.box.style.description_width} + 6.5em)"

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
        kind, across = (ipywidgets.Dropdown, {}) if many else (ipywidgets.RadioButtons, {"orientation": "horizontal"})
        layout = {"width": "auto", "margin": "2px 24px 2px 2px"}
        self.box = self.widget = kind(description=label, options=list(options), layout=layout, **across)
        self.value = value

    def check(self, value: str) -> None:
        if value not in self.box.options:
            raise ValueError(f"{self.box.description} must be one of {', '.join(self.box.options)}, got {value!r}")


def steps(low: float, high: float, count: int) -> list[float]:
    """Return ``count`` evenly spaced values, both ends included, to four digits."""
    return [round(low + (high - low) * number / (count - 1), 4) for number in range(count)]


def decades(low: int, high: int) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten from 10^low up to 10^high."""
    return [float(f"{digit}e{power}") for power in range(low, high) for digit in (1, 2, 5)] + [float(f"1e{high}")]
