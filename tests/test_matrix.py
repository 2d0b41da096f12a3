"""The symptom matrix as published, and as measured again."""

import math
import time
from pathlib import Path
from typing import Any

import pytest

from covlab.faults import FAULTS
from covlab.faults.evidence import OBSERVABLES
from covlab.faults.matrix import (
    ALIKE,
    CELLS,
    SILENT,
    indistinguishable,
    load_confusion,
    load_matrix,
    measure_confusion,
    measure_matrix,
    write_matrix,
)
from covlab.plots.fault_matrices import confusion_matrix, one_fault, symptom_matrix

PUBLISHED = load_matrix()


def published(fault: str, cell: tuple[str, str, str]) -> dict[str, Any]:
    (row,) = [
        row
        for row in PUBLISHED
        if (row["fault"], row["optimizer"], row["clipping"], row["precision"]) == (fault, *cell)
    ]
    return row


def test_every_fault_has_every_cell() -> None:
    assert [(row["fault"], row["optimizer"], row["clipping"], row["precision"]) for row in PUBLISHED] == [
        (fault, *cell) for fault in FAULTS for cell in CELLS
    ]


def test_nothing_detects_a_fault_in_a_correct_run() -> None:
    assert {row["clean_moved"] for row in PUBLISHED} == {""}


def test_every_fault_is_detected_by_its_own_observable_somewhere() -> None:
    for fault in FAULTS.values():
        assert any(fault.observable in row["moved"].split() for row in PUBLISHED if row["fault"] == fault.name), (
            fault.name
        )


def test_what_cannot_be_identified_is_named_and_explained() -> None:
    found = indistinguishable(PUBLISHED)
    assert all(group.reasons for group in found)
    assert {name for group in found if not group.observables for name in group.names} == set(SILENT)
    assert {group.observables for group in found if group.observables} == set(ALIKE)


def test_what_is_known_of_the_missing_division() -> None:
    """AdamW without clipping hides it except in log and gradient norm; under SGD it changes the learning rate."""
    adam, sgd = (published("missing_division", (optimizer, "no clip", "fp32")) for optimizer in ("adamw", "sgd"))
    for row in (adam, sgd):
        assert row["gradient_norm"] / row["clean_gradient_norm"] > 2.5
    assert adam["validation"] / adam["clean_validation"] == pytest.approx(1, abs=0.02)
    assert adam["update_norm"] / adam["clean_update_norm"] == pytest.approx(1, abs=0.02)
    assert sgd["update_norm"] / sgd["clean_update_norm"] > 1.5


def test_a_part_measured_again_agrees(tmp_path: Path) -> None:
    cell = ("adamw", "clip", "fp32")
    (row,) = measure_matrix(["missing_division"], [cell], workers=1)
    known = published("missing_division", cell)
    assert set(row) == set(known) and row["moved"] == known["moved"]
    for number in ("train", "validation", "gradient_norm", "update_norm", "clean_validation"):
        assert row[number] == pytest.approx(known[number], rel=0.1)
    write_matrix([row], tmp_path / "part.csv")
    assert (tmp_path / "part.csv").read_text().startswith("fault,optimizer,clipping,precision,train")


def test_pictures() -> None:
    assert symptom_matrix(PUBLISHED).axes[0].get_yticklabels()[0].get_text() == next(iter(FAULTS))
    shares = {"missing_division": {"window_gradient": 1.0}, "clean": {}}
    figure = confusion_matrix(shares, {"missing_division": "window_gradient"})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(shares)


@pytest.mark.slow
def test_the_whole_matrix_within_ten_minutes() -> None:
    began = time.monotonic()
    rows = measure_matrix()
    assert time.monotonic() - began < 600
    for row, known in zip(rows, PUBLISHED, strict=True):
        assert (row["fault"], row["moved"], row["clean_moved"]) == (
            known["fault"],
            known["moved"],
            known["clean_moved"],
        )
        if not row["diverged"] and math.isfinite(known["validation"]):
            assert row["validation"] == pytest.approx(known["validation"], rel=0.1)


@pytest.mark.parametrize(
    "shares", [load_confusion(), pytest.param(None, marks=pytest.mark.slow)], ids=["published", "measured again"]
)
def test_confusion(shares: dict[str, dict[str, float]] | None) -> None:
    shares = shares or measure_confusion()
    assert shares["clean"] == {}
    assert all(shares[fault.name][fault.observable] == 1 for fault in FAULTS.values())
    assert set(OBSERVABLES) == {name for found in shares.values() for name in found}


def test_observables_that_detect_a_fault_equally_often_are_in_alphabetical_order() -> None:
    names = list(OBSERVABLES)[:8]
    figure = one_fault("any", PUBLISHED[:2], dict.fromkeys(reversed(names), 0.5), names[3])
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels == [names[3], *sorted({*names} - {names[3]})]
