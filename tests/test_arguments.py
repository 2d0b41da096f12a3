"""Every field of a scenario, a recipe and a study has its line in a table of what it may be."""

import math
from dataclasses import fields
from types import ModuleType

import pytest

from covlab.arguments import Allowed, interval, number, one_of, whole_number
from covlab.scenes import scenario
from covlab.training import recipe, study_settings


@pytest.mark.parametrize(
    "module, kind, unchecked",
    [
        (scenario, scenario.Scenario, set()),
        (recipe, recipe.Recipe, set()),
        (study_settings, study_settings.Settings, set()),
    ],
)
def test_every_field_has_its_line(module: ModuleType, kind: type, unchecked: set[str]) -> None:
    assert set(module.FIELDS) == {field.name for field in fields(kind)} - unchecked


@pytest.mark.parametrize(
    "allowed, good, bad",
    [
        (whole_number(1), [1, 10**9], [0, 1.0, True, "1", None, math.nan]),
        (whole_number(1, 16), [1, 16], [0, 17]),
        (number(), [0, -1.5], [math.inf, -math.inf, math.nan, "0", None, True]),
        (number(above=0), [1e-9], [0, math.inf]),
        (number(least=0, below=1), [0, 0.999], [-0.1, 1]),
        (number(above=0).or_none("no limit"), [None, 1], [0]),
        (interval(number(least=0)), [(0, 0), (0.0, 2.0)], [(2, 1), [0, 1], (0,), 5, (0, math.nan)]),
        (one_of({"a": 1, "b": 2}), ["a", "b"], ["c", 1, None, []]),
    ],
)
def test_the_error_names_the_argument_what_came_and_what_was_expected(
    allowed: Allowed, good: list[object], bad: list[object]
) -> None:
    for value in good:
        allowed.check("size", value)
    for value in bad:
        with pytest.raises(ValueError) as refusal:
            allowed.check("size", value)
        assert str(refusal.value) == f"size must be {allowed.expected}, got {value!r}"
