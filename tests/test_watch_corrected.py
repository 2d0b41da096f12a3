"""Test that the watch finds nothing in the corrected version of every faulty textbook loop."""

import pytest
from watch_corrected import CORRECTIONS, corrected
from watch_faulty import FAULTY

from covlab.watch import watch


def test_every_faulty_loop_has_a_correction() -> None:
    missing, unused = set(FAULTY) - set(CORRECTIONS), set(CORRECTIONS) - set(FAULTY)
    assert not missing, f"add to CORRECTIONS in watch_corrected.py: {sorted(missing)}"
    assert not unused, f"remove from CORRECTIONS in watch_corrected.py: {sorted(unused)}"


@pytest.mark.parametrize("name", CORRECTIONS)
def test_the_corrected_loop_has_no_finding(name: str) -> None:
    loop, (_, invariant, _) = corrected(name), FAULTY[name]
    with watch() as w:
        loop(log=w.log)
    report = w.report()
    assert not w.broken and not w.observation.failures
    assert not report.findings, str(report)
    assert report.seen["steps"] >= 10
    if invariant != "W12":  # which judges only float16 without a scaler
        assert invariant not in report.unchecked, str(report)
