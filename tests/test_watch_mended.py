"""Test that the watch finds nothing in the corrected version of every faulty textbook loop."""

import pytest
from watch_faulty import FAULTY
from watch_mended import MENDS, mended

from covlab.watch import watch


def test_every_faulty_loop_has_a_twin() -> None:
    assert set(MENDS) == set(FAULTY)


@pytest.mark.parametrize("name", MENDS)
def test_of_the_twin_there_is_nothing_to_say(name: str) -> None:
    loop, (_, invariant, _) = mended(name), FAULTY[name]
    with watch() as w:
        loop(log=w.log)
    report = w.report()
    assert not w.broken and not w.observation.failures
    assert not report.findings, str(report)
    assert report.seen["steps"] >= 10
    if invariant != "W12":  # which judges only float16 without a scaler
        assert invariant not in report.unchecked, str(report)
