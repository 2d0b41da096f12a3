"""The scale benchmark's extrapolation, and its page."""

import json
import runpy
from pathlib import Path

import pytest

SCALE = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "scale.py"))


def test_a_cost_that_is_a_line_is_extrapolated_along_it_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        SCALE["grown"].__globals__, "milliseconds", lambda value, windows: (3 + 2 * value, 5.0, 0.5 * value)
    )
    rows = SCALE["grown"]("N", [1, 4, 10], lambda value: value, 1, [100])
    assert [row["extrapolated"] for row in rows] == [False, False, False, True]
    assert [rows[-1][column] for column in ("draw_ms", "train_ms", "state_mb")] == pytest.approx([203, 5, 50])


def test_the_page_holds_the_published_numbers() -> None:
    published = Path(__file__).parents[1] / "benchmarks" / "results" / "scale.json"
    page = (published.parents[1] / "README.md").read_text()
    assert SCALE["text"](json.loads(published.read_text())) in page
