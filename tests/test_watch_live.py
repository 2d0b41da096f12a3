"""Test that a running loop tells its first fault when that is sure, and ends there if it is to."""

import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_training import batches, network
from test_watch_chosen import Project

from covlab.watch import Finding, Report, watch
from covlab.watch.known_findings import Baseline, write_baseline
from covlab.watch.live_findings import LiveFindings, steps_of_judgements
from covlab.watch.seen.location import CodeLocation


def train(windows: int, divisor: int) -> int:
    """Train with windows of four micro-batches, and return the number of steps that were made."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    steps = 0
    for number, (x, y) in enumerate(batches(4 * windows), 1):
        (F.cross_entropy(model(x), y) / divisor).backward()
        if number % 4 == 0:
            steps += 1
            optimizer.step()
            optimizer.zero_grad()
    return steps


class Told(list[tuple[str, int]]):
    def __call__(self, finding: Finding, steps: int) -> None:
        self.append((finding.code, steps))


def judged(*reports: str, stop_on: Any = None) -> tuple[Told, list[str]]:
    """Return what is told, and the reasons to end, where each judgement makes findings such as "W01:7 fault"."""

    def findings() -> Iterator[Report]:
        for text in reports:
            made = []
            for one in filter(None, text.split(", ")):
                where, verdict = one.split()
                code, line = where.split(":")
                at = CodeLocation("train.py", int(line), "train")
                made.append(Finding("title", code, verdict, None, "says", "fix", at))  # type: ignore[arg-type]
            yield Report(made, {}, {})

    ends: list[str] = []
    told, left = Told(), findings()
    live = LiveFindings(lambda: next(left), told, ends.append, stop_on)
    for steps in range(1, list(islice(steps_of_judgements(), len(reports)))[-1] + 1):
        live.stepped(steps)
    return told, ends


def test_a_loop_is_judged_at_few_steps() -> None:
    assert list(islice(steps_of_judgements(), 7)) == [10, 20, 50, 100, 200, 500, 1000]


def test_a_finding_is_sure_where_two_judgements_in_a_row_agree_on_its_line() -> None:
    fault = "W01:7 fault"
    assert judged(fault, fault) == ([("W01", 20)], [])
    assert judged("", fault, fault, fault) == ([("W01", 50)], [])
    assert judged(fault, "", fault) == ([], [])
    assert judged(fault, "W01:8 fault") == ([], [])
    assert judged(fault, "W03:7 fault") == ([], [])
    assert judged("W01:7 warning", fault) == ([], [])
    assert judged("W07:7 fault", "W07:7 fault") == ([], [])  # a later step may bring the gradient
    assert judged("W02:1 fault", f"{fault}, W02:1 fault", f"{fault}, W02:1 fault") == ([("W02", 20)], [])


def test_only_what_was_asked_for_is_told_and_ends_the_loop() -> None:
    warning, note = "W06:7 warning", "W09:7 note"
    assert judged(warning, warning, note, note) == ([], [])
    assert judged(warning, warning, stop_on="fault") == ([], [])
    told, ends = judged(note, f"{note}, {warning}", f"{note}, {warning}", stop_on="warning")
    assert told == [("W06", 50)] and ends == ["50 steps, because of the warning W06"]
    assert len(judged("W01:7 fault", "W01:7 fault", "", stop_on="fault")[1]) == 31  # at every step from 20 to 50


def test_a_judgement_that_fails_leaves_the_loop_alone() -> None:
    told = Told()
    live = LiveFindings(lambda: 1 // 0, told, pytest.fail, None)  # type: ignore[arg-type, return-value]
    for steps in range(1, 100):
        live.stepped(steps)
    assert not told


def test_a_loop_goes_on_where_nobody_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(finding: object, steps: int) -> None:
        raise ConnectionError("offline")

    with watch(tell=fail) as w:
        assert train(60, divisor=1) == 60
    assert w.report().of("W01") is not None
    assert capsys.readouterr().err == "covlab.watch: tell failed, and the run goes on: ConnectionError: offline\n"


@pytest.mark.parametrize("light", [False, True])
def test_the_first_fault_is_told_once_while_the_loop_goes_on(light: bool) -> None:
    told = Told()
    with watch(tell=told, light=light) as w:
        assert train(60, divisor=1) == 60
    assert told == [("W01", 20)] and w.report().of("W01").verdict == "fault"  # type: ignore[union-attr]
    with watch(tell=told, light=light):
        train(60, divisor=4)
    assert told == [("W01", 20)]


def test_the_loop_ends_where_a_fault_is_sure() -> None:
    with watch(stop_on="fault") as w:
        train(60, divisor=1)
    assert w.report().seen["steps"] == 20 and w.report().ended == "ended after 20 steps, because of the fault W01"
    with watch(stop_on="fault") as w:
        train(60, divisor=4)
    assert w.report().seen["steps"] == 60 and w.report().ended is None


def test_what_is_ignored_or_known_is_not_told_and_ends_nothing(tmp_path: Path) -> None:
    told = Told()
    with watch(stop_on="fault", tell=told, ignore=["W01"]) as w:
        train(30, divisor=1)
    assert w.report().seen["steps"] == 30 and not told
    with watch() as w:
        train(30, divisor=1)
    write_baseline(w.report().flat, tmp_path / "known.json")
    with watch(stop_on="fault", tell=told, baseline=Baseline(tmp_path / "known.json")) as w:
        train(30, divisor=1)
    assert w.report().seen["steps"] == 30 and not told and [one.code for one in w.report().known] == ["W01"]


@pytest.mark.parametrize("wrong", ["note", "never", "", True, 1])
def test_a_wrong_verdict_to_stop_on_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^stop_on must be one of fault, warning or None, got "):
        watch(stop_on=wrong)


def test_a_script_tells_its_first_fault_and_ends_if_it_is_to(tmp_path: Path, server: subprocess.Popen[str]) -> None:
    project = Project(tmp_path, server)
    project.script.write_text(project.script.read_text().replace("range(12)", "range(40)") + "print('last line')\n")
    live, last = "covlab.watch: fault after 20 steps: W01", "last line"
    status, printed = project.run()
    assert status == 1 and printed.count(live) == 1 and printed.index(live) < printed.index(last)
    assert "src/train.py:10: loss.backward()" in printed.partition(last)[0]
    status, printed = project.run("--quiet")
    assert status == 1 and live not in printed and last in printed
    status, printed = project.run("--stop-on", "fault")
    assert status == 1 and live in printed and last not in printed and "watched 20 steps" in printed
    status, printed = project.run("--stop-on", "warning", "--quiet", "--fail-on", "never")
    assert status == 0 and live not in printed and last not in printed
