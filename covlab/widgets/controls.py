"""Controls of explorers: ipywidgets' core ones, arranged so that each has a label, a readout and a way by keyboard."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

import ipywidgets

LABEL_WIDTH = "10.5em"


class NumberControl:
    """A number by slider or by box; the two stay alike.

    ipywidgets' slider has no accessible name that Python could set: the labelled box does the same, and
    ``names.js`` hands its label to the slider.

    Args:
        label: what both are called; say the unit.
        value: to begin with.
        grid: what the slider offers, in rising order; its ends bound the box.
        words: {value: what the readout says in place of the number}, such as {0: "off"}.
        label_width: in CSS.
        whole: only whole numbers make sense; what is typed in between is rounded.
    """

    def __init__(
        self,
        label: str,
        value: float,
        grid: Sequence[float],
        words: dict[float, str] | None = None,
        label_width: str = LABEL_WIDTH,
        whole: bool = False,
    ):
        self.grid, self.words, self.whole = sorted({*grid, value}), words or {}, whole
        self.box = ipywidgets.BoundedFloatText(
            value=value,
            min=self.grid[0],
            max=self.grid[-1],
            step=None,
            description=label,
            style={"description_width": label_width},
            layout={"width": f"calc({label_width} + 6.5em)"},
        )
        self.slider = ipywidgets.SelectionSlider(
            options=self._options(self.grid),
            index=self.grid.index(value),
            layout={"width": "14em", "margin": "2px 2px 2px 8px"},
        )
        self.widget = ipywidgets.HBox([self.box, self.slider], layout={"flex_flow": "row wrap"})
        self.widget.add_class("covlab-number")
        self.box.observe(self._follow_box, "value")
        self.slider.observe(self._follow_slider, "index")

    @property
    def value(self) -> float:
        return self.box.value

    @value.setter
    def value(self, value: float) -> None:
        if not self.grid[0] <= value <= self.grid[-1]:
            raise ValueError(
                f"{self.box.description} must be from {self.grid[0]:g} to {self.grid[-1]:g}, got {value!r}"
            )
        if self.whole and value != round(value):
            raise ValueError(f"{self.box.description} must be a whole number, got {value!r}")
        self.box.value = value

    def observe(self, heard: Callable[[], None]) -> None:
        """``heard()`` whenever the value has changed."""
        self.box.observe(lambda change: heard(), "value")

    def _follow_box(self, change: dict) -> None:
        if self.whole and change["new"] != round(change["new"]):
            self.box.value = round(change["new"])
            return
        values = [value for value, _ in self._shown()]
        # a value that was typed gets a place on the slider, so that the readout never lies
        if change["new"] not in values:
            values = sorted({*self.grid, change["new"]})
            self.slider.unobserve(self._follow_slider, "index")
            with self.slider.hold_sync():
                self.slider.options = self._options(values)
                self.slider.index = values.index(change["new"])
            self.slider.observe(self._follow_slider, "index")
        self.slider.index = bisect_left(values, change["new"])

    def _follow_slider(self, change: dict) -> None:
        self.box.value = self._shown()[change["new"]][0]

    def _shown(self) -> list[tuple[float, str]]:
        return [(value, text) for text, value in self.slider.options]

    def _options(self, values: Sequence[float]) -> list[tuple[str, float]]:
        return [(self.words.get(value, f"{value:g}"), value) for value in values]


class ChoiceControl:
    """One of a few: radio buttons, or a list where ``options`` are many. (Toggle buttons show by colour alone which one
    is pressed.)
    """

    def __init__(
        self, label: str, value: str, options: Sequence[str], many: bool = False, label_width: str = LABEL_WIDTH
    ):
        kind = ipywidgets.Dropdown if many else ipywidgets.RadioButtons
        across = {} if many else {"orientation": "horizontal"}
        self.box = kind(
            description=label,
            value=value,
            options=list(options),
            style={"description_width": label_width},
            layout={"width": "auto", "margin": "2px 24px 2px 2px"},
            **across,
        )
        self.widget = self.box

    @property
    def value(self) -> str:
        return self.box.value

    @value.setter
    def value(self, value: str) -> None:
        if value not in self.box.options:
            raise ValueError(f"{self.box.description} must be one of {', '.join(self.box.options)}, got {value!r}")
        self.box.value = value

    def observe(self, heard: Callable[[], None]) -> None:
        """``heard()`` whenever the value has changed."""
        self.box.observe(lambda change: heard(), "value")


def steps(low: float, high: float, count: int) -> list[float]:
    """``count`` values at equal distances, ends included, to four digits."""
    return [round(low + (high - low) * number / (count - 1), 4) for number in range(count)]


def decades(low: int, high: int) -> list[float]:
    """1, 2 and 5 times the powers of ten from 10^low up to 10^high."""
    return [float(f"{digit}e{power}") for power in range(low, high) for digit in (1, 2, 5)] + [float(f"1e{high}")]
