"""The comparison of the watch with other tools: what a loop stands for, what counts, and what the picture shows."""

import json
import os
import runpy
import signal
from pathlib import Path
from typing import Any

import pytest
import test_watch_loops
from hypothesis import given
from hypothesis import strategies as st

from covlab.plots.watch_results import GROUPS, counts_by_group, detections, peers, watch_confusion

ROOT = Path(__file__).parents[1]
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "watch.py"))
Message, Loop, TOOLS = BENCHMARK["Message"], BENCHMARK["Loop"], BENCHMARK["TOOLS"]
TABLE = BENCHMARK["table"]()
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "watch.json").read_text())


def test_each_loop_stands_for_one_thing() -> None:
    for loop in TABLE.values():
        assert loop.group in GROUPS and loop.group != "all", loop
        if loop.corrected:
            twin = TABLE.get(loop.corrected)
            assert loop.bug and (twin is None or (twin.group == loop.group and not twin.bug)), loop
        if loop.group == "correct idioms":
            assert not loop.bug, loop
        reported = loop.script.read_text().startswith("# source: ")
        assert (loop.group == "public reports") == reported, loop
        if reported:  # a report without a finding is a miss, not a correct loop
            assert loop.bug != loop.file.endswith("_healthy"), loop


FINDING = {
    "verdict": "warning",
    "code": "W05",
    "title": "schedules",
    "says": "the mode does not fit",
    "fix": "",
    "site": {"code": "schedule.step(metric)"},
}


@given(
    verdict=st.sampled_from(["fault", "warning", "note"]),
    code=st.sampled_from(["-", "W05", "W03|W05", "W03"]),
    line=st.sampled_from(["-", "step(", "opt|step(metric)", "loss.backward()"]),
    words=st.sampled_from(["-", "MODE", "rate|mode", "rate"]),
    site=st.booleans(),
)
def test_the_benchmark_judges_a_finding_as_the_tests_of_the_loops_do(
    verdict: str, code: str, line: str, words: str, site: bool
) -> None:
    row = ("some_loop", "fast", verdict, code, line, words)
    finding = FINDING | {"site": FINDING["site"] if site else None}
    message = BENCHMARK["message_of"](finding)
    assert Loop(*row).named_by(message) == test_watch_loops.Row(*row).asks_for(finding)


def said(**names: list[str]) -> dict[str, list[Any]]:
    return {tool: [Message(name) for name in messages] for tool, messages in names.items()}


def test_what_the_corrected_loop_gets_as_well_does_not_count() -> None:
    loop = TABLE["textbook_missing_division_faulty"]
    says = {"covlab.watch": [Message("W01 fault"), Message("W04 note")]} | said(
        a=["x", "y", "TA200"], b=["failed: TypeError"], c=["y", "z", "z"]
    )
    row = BENCHMARK["judged"](loop, says, said(a=["y"], b=[], c=["y"]))
    assert row["new"] == {"covlab.watch": ["W01 fault"], "a": ["x"], "b": [], "c": ["z"]}
    assert row["says"]["a"] == ["x", "y", "TA200"] and row["says"]["b"] == ["failed: TypeError"]
    assert row["bug"] and not row["named"]  # the message has no line


def test_a_tool_that_fails_on_a_loop_says_so_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(script: Path) -> list[Any]:
        raise ValueError("no such\nloop")

    tools = {
        "raises": raises,
        "dies": lambda script: os.kill(os.getpid(), signal.SIGKILL),
        "speaks": lambda script: [Message("b"), Message("a"), Message("a")],
    }
    for name, tool in tools.items():
        monkeypatch.setitem(TOOLS, name, BENCHMARK["Tool"](tool, "json"))
    children = {name: BENCHMARK["asked"](name, ROOT) for name in tools}
    assert {name: [one.name for one in BENCHMARK["answered"](*child)] for name, child in children.items()} == {
        "raises": ["failed: ValueError: no such loop"],
        "dies": ["failed: the process ended"],
        "speaks": ["a", "b"],
    }


def test_what_the_results_say_of_a_loop_is_still_true_of_it() -> None:
    for row in RESULTS["loops"]:
        if loop := TABLE.get(row["file"]):
            assert (row["group"], row["bug"]) == (loop.group, loop.bug), row["file"]
    files = [row["file"] for row in RESULTS["loops"]]
    assert len(set(files)) == len(files)
    tools = {tool for row in RESULTS["loops"] for tool in row["new"]}
    assert tools | RESULTS["not_run"].keys() == TOOLS.keys() | BENCHMARK["NOT_RUN"].keys()
    assert all(RESULTS["not_run"].values())


def test_the_picture_shows_every_count_of_the_file() -> None:
    counts = counts_by_group(RESULTS["loops"])
    assert sum(row["bugs"] + row["correct"] for group, row in counts.items() if group != "all") == len(RESULTS["loops"])
    found, correct = peers(RESULTS["loops"], RESULTS["not_run"]).axes
    for axes, total, key in ((found, "bugs", "found"), (correct, "correct", "alarms")):
        groups = [text.get_text() for text in axes.get_yticklabels()]
        tools = [text.get_text() for text in axes.get_xticklabels()]
        shown = {}
        for text in axes.texts:
            column, row = (int(value) for value in text.get_position())
            shown[groups[row], tools[column]] = text.get_text()
        for group, count in counts.items():
            for tool, loops in count[key].items():
                assert count[total] == 0 or shown[f"{group}: {count[total]}", tool] == str(loops)
        named = {group: text for (group, tool), text in shown.items() if tool not in RESULTS["loops"][0]["new"]}
        wanted = {f"{group}: {one['bugs']}": str(one["named"]) for group, one in counts.items() if one["bugs"]}
        assert named == (wanted if key == "found" else {})
    assert all(f"{tool} was not run" in correct.get_xlabel() for tool in RESULTS["not_run"])


def test_only_textbook_loops_stand_for_a_fault_of_the_museum() -> None:
    row = {"loop": "missing_division", "bug": True, "expected": "W01 fault", "new": {"covlab.watch": ["W01 fault"]}}
    rows = [row | {"group": group} for group in GROUPS]
    assert list(detections([], rows)) == [("missing_division", "textbook loop", "W01", "fault")]


def test_the_picture_of_the_museum_has_a_row_for_each_fault_of_the_file() -> None:
    [axes] = watch_confusion(RESULTS["trainer"], RESULTS["loops"], RESULTS["invariants"]).axes
    faults = [row["fault"] for row in RESULTS["trainer"] if row["injected"]]
    assert [text.get_text() for text in axes.get_yticklabels()] == faults
    shown = {faults[round(text.get_position()[1])] for text in axes.texts}
    assert shown == set(faults)  # a code that no invariant has, such as W00, takes no fault away
