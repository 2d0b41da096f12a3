"""Test what the watch finds in covlab's own trainer with each fault, and that it finds nothing without them."""

import pytest
from small_training import LOOPS

from covlab.faults import FAULTS
from covlab.faults.small_run import exhibit, finish
from covlab.watch import watch

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


EXHIBITS = [(name, False) for name in FAULTS] + [
    (name, True) for name in {repr(fault.setting): name for name, fault in FAULTS.items()}.values()
]
"""(a fault, whether it is switched off): without their faults, exhibits of one setting are the same run."""


@pytest.mark.parametrize("name, without", EXHIBITS)
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
    seen_by_what_is_logged = {"running_sum_in_step_branch"}  # see tests/test_watch.py
    loops = {path.stem for path in LOOPS.glob("textbook_*_faulty.py")}
    assert {
        name for name in FAULTS if f"textbook_{name}_faulty" not in loops
    } == invisible_there | seen_by_what_is_logged
