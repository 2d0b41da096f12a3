"""Test that a correct loop gets nothing above a note, and trains the same parameters with and without a watch."""

import pytest
import torch
from watch_healthy import HEALTHY

from covlab.watch import watch


@pytest.mark.parametrize("light", [False, True], ids=["full", "light"])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_correct_loop_gets_no_warning_and_the_same_parameters(name: str, light: bool) -> None:
    alone = HEALTHY[name]()
    with watch(light=light) as w:
        watched = HEALTHY[name]()
    report = w.report()
    assert report.seen["steps"] >= 10
    assert not w.broken and not w.observation.failures
    assert report.worst in (None, "note"), str(report)
    for one, other in zip(alone.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
