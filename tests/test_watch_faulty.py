"""Test that the bug of each textbook loop is found at its line, with nothing but its consequences."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import watch_faulty
from watch_faulty import FAULTY, adamw
from watch_healthy import batches, network

from covlab.faults import FAULTS
from covlab.faults.small_run import exhibit, finish
from covlab.watch import watch

HERE = Path(watch_faulty.__file__)

IN_OUR_TRAINER = {
    "missing_division": ("W01", "fault"),
    "division_in_debug_block": ("W01", "fault"),
    "short_window_by_full_count": ("W01", "fault"),
    "nested_in_debug_block": ("W11", "fault"),
    "last_batch_only": ("W11", "fault"),
    "gate_wants_every_group": ("W02", "fault"),
    "warmup_from_zero": ("W04", "note"),
    "schedule_per_micro_batch": ("W04", "fault"),
    "schedule_on_skipped_step": ("W05", "warning"),
    "sanitize_before_unscale": ("W15", "fault"),
    "sanitize_after_unscale": ("W15", "fault"),
    "sanitize_without_scaler": ("W15", "note"),
    "nan_loss_sanitized": ("W15", "note"),
    "clip_before_unscale": ("W06", "fault"),
    "scale_updated_inside_window": ("W09", "fault"),
    "overflow_probe_wrong_key": ("W02", "fault"),
    "main_weight_zero": ("W10", "fault"),
    "gradient_through_singular_vectors": ("W02", "fault"),
    "validation_in_training": ("W16", "fault"),
}


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("name", FAULTY)
def test_the_bug_of_a_textbook_loop_is_the_only_finding_beside_its_consequences(name: str) -> None:
    loop, invariant, verdict = FAULTY[name]
    with watch() as w:
        loop(log=w.log)
    report = w.report()
    assert not w.broken and not w.observation.failures
    if invariant is None:
        assert report.worst in (None, "note"), str(report)
        return
    [first] = report.findings
    assert (first.code, first.verdict) == (invariant, verdict), str(report)
    assert first.location is None or (
        Path(first.location.file) == HERE and first.location.line <= len(HERE.read_text().splitlines())
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("leftover_dropped", "3 micro-batches are left over"),
        ("cleared_inside_window", "of 36 backwards"),
    ],
)
def test_a_finding_tells_this_bug_from_others_of_the_same_invariant(name: str, words: str) -> None:
    with watch() as w:
        FAULTY[name][0]()
    assert words in w.report().findings[0].says


@pytest.mark.parametrize(
    ("name", "number", "line"),
    [
        ("missing_division", 4.0, r"loss\.backward\(\)"),
        ("short_window_by_full_count", 0.75, r"\.backward\(\)"),
        ("last_batch_only", 4, r"model\(x\)"),
        ("clip_before_unscale", 1024, r"clip_grad_norm_"),
        ("schedule_per_micro_batch", 4, r"schedule\.step\(\)"),
        ("never_cleared", 13, r"optimizer\.step\(\)"),
        ("cleared_before_step", 14, r"optimizer\.zero_grad\(\)"),
        ("cleared_to_zeros_before_step", 14, r"model\.zero_grad\("),
    ],
)
def test_a_finding_tells_the_number_and_the_line(name: str, number: float, line: str) -> None:
    loop, invariant, _ = FAULTY[name]
    with watch() as w:
        loop()
    assert invariant is not None
    finding = w.report().of(invariant)
    assert finding is not None and finding.location is not None
    assert finding.number == pytest.approx(number, rel=0.01)
    assert re.search(line, finding.location.code)


def test_a_short_window_is_told_from_a_division_that_is_missing_in_places() -> None:
    with watch() as w:
        FAULTY["short_window_by_full_count"][0]()
    finding = w.report().of("W01")
    assert finding is not None
    assert "a window of 3 micro-batches was divided by 4" in finding.says
    assert "the window really has" in finding.fix
    with watch() as w:
        FAULTY["division_in_debug_block"][0]()
    finding = w.report().of("W01")
    assert finding is not None
    assert "1 of 48 losses was divided by 4, the others not at all" in finding.says


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("every", [1, 4], ids=["step", "epoch"])
def test_a_schedule_that_advances_before_the_first_step_is_noted(first: bool, every: int) -> None:
    model = network()
    optimizer = adamw(model)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    with watch(model, optimizer) as w:
        for number, (x, y) in enumerate(batches(12)):
            if first and number % every == 0:
                schedule.step()
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            if not first and number % every == every - 1:
                schedule.step()
    noted = [
        (finding.code, finding.verdict, finding.location and finding.location.code) for finding in w.report().findings
    ]
    assert noted == ([("W05", "note", "schedule.step()")] if first else [])


def test_a_clipping_is_counted_once_a_step() -> None:
    with watch() as w:
        FAULTY["clip_before_unscale"][0]()
    finding = w.report().of("W06")
    assert finding is not None and finding.first is not None and finding.last is not None
    assert finding.times == finding.last - finding.first + 1 == w.report().seen["steps"]


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("without", [True, False], ids=["right", "wrong"])
def test_the_watch_finds_our_faults_and_nothing_without_them(name: str, without: bool) -> None:
    with watch() as w:
        finish(exhibit(name, without=without))
    report = w.report()
    assert not w.broken and not w.observation.failures
    expected = None if without else IN_OUR_TRAINER.get(name)
    if expected is None:
        assert report.worst in (None, "note"), str(report)
    else:
        finding = report.of(expected[0])
        assert finding is not None and finding.verdict == expected[1], str(report)


def test_every_exhibit_that_a_textbook_loop_can_have_is_tried_or_known_to_be_invisible() -> None:
    invisible_there = {
        "weights_reset",
        "guard_by_assert",
        "loading_on_prediction_alone",
        "oracle_writes_unread_field",
        "constant_symbols",
        "conjugated_steering",
        "another_validation_path",
        "checkpoint_without_average",
    }
    assert set(FAULTS) <= set(FAULTY) | invisible_there
