"""Test that the watch says of each loop in tests/loops what tests/loops/table.tsv calls right.

A loop is a script: ``python -m covlab.watch tests/loops/NAME.py``. The columns of its row are

- file: its name, without .py;
- tier: fast (one process, plain PyTorch) or slow (compiled, frameworks, workers, ranks);
- verdict: fault, warning, note, quiet (nothing above a note) or none (not judged). ``later:`` before it: the invariant
  does not exist yet, so the row must fail;
- code: of the finding, or several with | between them;
- line: part of the line that the finding names, or several;
- words: a regular expression that matches the finding's text. A - in code, line or words asks for nothing.

NAME_healthy is NAME_faulty without its bug: there, nothing is said of the invariant that names the bug, and it is
checked.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from small_training import LOOPS, run_loop
from torch import Tensor, nn

from covlab.watch import watch

LEVELS = {"quiet": 1, "note": 1, "warning": 2, "fault": 3}

NOT_YET: set[str] = set()  # files whose invariant exists but does not judge them rightly yet

Report = dict[str, Any]
Finding = dict[str, Any]


class Row(NamedTuple):
    file: str
    tier: str
    verdict: str
    code: str
    line: str
    words: str

    @property
    def path(self) -> Path:
        return LOOPS / f"{self.file}.py"

    @property
    def faulty(self) -> str | None:
        """The loop with the bug that is fixed in this one."""
        return f"{self.file.removesuffix('healthy')}faulty" if self.file.endswith("_healthy") else None

    @property
    def right(self) -> str:
        """The verdict without ``later:``."""
        return self.verdict.removeprefix("later:")

    def asks_for(self, finding: Finding) -> bool:
        """Return whether ``finding`` names the bug of this loop."""
        text = f"{finding['code']} {finding['title']}: {finding['says']} {finding['fix']}"
        line = (finding["site"] or {"code": ""})["code"]
        return (
            finding["verdict"] == self.right
            and self.allows(finding)
            and (self.line == "-" or any(part in line for part in self.line.split("|")))
            and (self.words == "-" or re.search(self.words, text, re.IGNORECASE) is not None)
        )

    def allows(self, finding: Finding) -> bool:
        return self.code == "-" or finding["code"] in self.code.split("|")

    def check(self, reports: list[Report]) -> None:
        """Fail unless the reports say what is right, and nothing above a note beside it and its consequences."""
        causes = [finding for report in reports for finding in report["findings"]]
        told = json.dumps(causes, indent=1)
        broken = [why for report in reports for why in report["unchecked"].values() if "the check itself failed" in why]
        assert not broken
        if self.right == "none":
            return
        loud = [finding for finding in causes if LEVELS[finding["verdict"]] > 1]
        assert all(LEVELS[finding["verdict"]] <= LEVELS[self.right] for finding in loud), told
        if self.faulty:
            bug = next(row for row in table() if row.file == self.faulty)
            for code in bug.code.split("|") if bug.verdict == bug.right else ():
                assert not any(finding["code"] == code for finding in causes), told
                assert code == "W12" or not any(code in report["unchecked"] for report in reports), reports
        if self.right != "quiet":
            assert any(self.asks_for(one) for cause in causes for one in (cause, *cause["follows"])), told
            assert all(self.allows(finding) for finding in loud), told


def table() -> list[Row]:
    header, *lines = (LOOPS / "table.tsv").read_text().splitlines()
    assert header.split("\t") == list(Row._fields)
    return [Row(*line.split("\t")) for line in lines]


def rows(tier: str) -> list[Any]:
    """Return the rows of a tier as parameters of a test. Those that cannot pass yet must fail."""
    parameters = []
    for row in table():
        marks = [pytest.mark.xfail(strict=True, reason="when this passes, delete 'later:' from the row")]
        if row.file in NOT_YET:
            marks = [pytest.mark.xfail(strict=True, reason="when this passes, take the file out of NOT_YET")]
        elif row.verdict == row.right:
            marks = []
        if row.tier == tier:
            parameters.append(pytest.param(row, marks=marks, id=row.file))
    return parameters


def options(folder: Path, script: Path) -> list[str]:
    return ["--fail-on", "never", "--json", str(folder / "report.json"), str(script)]


def read(folder: Path) -> list[Report]:
    """Return what the watch has written into ``folder``: one report, or one for each rank."""
    reports = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]
    assert reports, "".join(path.read_text() for path in sorted(folder.rglob("printed*")))
    return reports


def run_in_fork(server: subprocess.Popen[str], script: Path, folder: Path) -> list[Report]:
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps([options(folder, script), str(folder / "printed"), False]) + "\n")
    server.stdin.flush()
    assert server.stdout.readline() == "0\n", (folder / "printed").read_text()
    return read(folder)


def run_fresh(row: Row, folder: Path, ranks: int = 2) -> list[Report]:
    """Run the loop in a process of its own, or in several ranks if it trains in a process group."""
    has_group = "init_process_group" in row.path.read_text()
    ranks = ranks if has_group else 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        group = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = []
    for rank in range(ranks):
        own = folder / str(rank)
        own.mkdir()
        environment = os.environ | (group | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if has_group else {})
        with (own / "printed").open("w") as printed:
            command = [sys.executable, "-m", "covlab.watch", *options(own, row.path)]
            processes.append(subprocess.Popen(command, stdout=printed, stderr=printed, env=environment))
    codes = [process.wait() for process in processes]
    text = "".join(path.read_text() for path in sorted(folder.rglob("printed")))
    if missing := re.search(r"No module named '(?!covlab)(\w+)", text):
        pytest.skip(f"{missing[1]} is not installed")
    assert not any(codes), text
    return read(folder)


@pytest.mark.parametrize("row", rows("fast"))
def test_the_watch_says_of_a_loop_what_is_right(row: Row, server: subprocess.Popen[str], tmp_path: Path) -> None:
    reports = run_in_fork(server, row.path, tmp_path)
    row.check(reports)
    found = [one for cause in reports[0]["findings"] for one in (cause, *cause["follows"])]
    faults = {one["code"] for one in found if one["verdict"] == "fault"}
    told = re.findall(
        r"^covlab\.watch: fault after \d+ steps?: (W\d\d)", (tmp_path / "printed").read_text(), re.MULTILINE
    )
    assert len(told) <= 1 and faults.issuperset(told), f"told while it ran, and not in the report: {told}"


ON_EVERY_DEVICE = [
    *("correct_accumulation", "correct_half_precision_with_skips", "correct_half_precision_fused_with_skips"),
    *("textbook_missing_division_faulty", "textbook_missing_division_healthy", "textbook_cut_graph_faulty"),
    *("textbook_clip_before_unscale_faulty", "textbook_clip_before_unscale_healthy", "textbook_stale_optimizer_faulty"),
    *("textbook_sanitize_before_unscale_faulty", "textbook_schedule_on_skipped_step_faulty"),
    *("textbook_half_without_scaler_faulty", "31_bf16_norms_never_move_faulty", "evaluation_leak_same_tensor"),
]
"""Loops that have no idea of the CPU but the word "cpu" and a generator: one or two of each kind of invariant."""


@pytest.mark.parametrize("row", [row for row in table() if row.file in ON_EVERY_DEVICE], ids=lambda row: row.file)
def test_the_watch_says_the_same_on_every_device(
    row: Row, device: str, server: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Model, data, scaler and autocast are on the device."""
    text = row.path.read_text().replace('"cpu"', f'"{device}"').replace("Generator()", f'Generator("{device}")')
    moved = tmp_path / row.path.name
    moved.write_text(
        f"import torch; torch.set_default_device({device!r}); torch.backends.cudnn.allow_tf32 = False\n{text}"
    )
    (tmp_path / "reports").mkdir()
    row.check(run_in_fork(server, moved, tmp_path / "reports"))


def test_the_loops_that_run_on_every_device_are_in_the_table() -> None:
    rows = [row for row in table() if row.file in ON_EVERY_DEVICE]
    assert len(rows) == len(ON_EVERY_DEVICE) and all(row.verdict == row.right for row in rows)
    assert not any("cpu" in row.path.read_text().replace('"cpu"', "") for row in rows)


def trained(variables: dict[str, Any]) -> list[Tensor]:
    modules = [one for one in variables.values() if isinstance(one, nn.Module)]
    return [parameter for module in modules for parameter in module.parameters()]


@pytest.mark.parametrize("light", [False, True], ids=["full", "light"])
@pytest.mark.parametrize("name", [row.file for row in table() if row.file.startswith("correct_")])
def test_a_watch_leaves_what_a_loop_trains_as_it_is(name: str, light: bool) -> None:
    alone = trained(run_loop(name))
    with watch(light=light) as w:
        watched = trained(run_loop(name))
    report = w.report()
    assert report.seen["steps"] >= 10 and alone
    assert not w.broken and not w.observation.failures
    assert report.worst in (None, "note"), str(report)
    assert all(torch.equal(one, other) for one, other in zip(alone, watched, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("row", rows("slow"))
def test_the_watch_says_what_is_right_of_a_loop_that_is_compiled_or_in_a_framework(row: Row, tmp_path: Path) -> None:
    row.check(run_fresh(row, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "loop, right",
    [
        ("30_ddp_forward_through_module_faulty", {"W25": "fault"}),
        ("w25_parts_of_a_parallel_model_faulty", {"W25": "fault"}),
        ("30_ddp_forward_through_module_healthy", {}),
        ("w25_parts_of_a_parallel_model_healthy", {}),
        ("w25_parallel_and_by_hand", {}),
        ("w25_part_called_beside_the_whole", {}),
        ("w25_gradients_averaged_by_hand", {}),
        ("w25_averaged_by_a_hook", {}),
        ("w25_ensemble", {}),
    ],
)
def test_a_job_of_one_rank_tells_of_the_calls_that_further_ranks_would_not_share(
    loop: str, right: dict[str, str], tmp_path: Path
) -> None:
    row = next(row for row in table() if row.file == loop)
    (report,) = run_fresh(row, tmp_path, ranks=1)
    assert {one["code"]: one["verdict"] for one in report["findings"] if one["verdict"] != "note"} == right


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in table() if row.tier == "fast"][::8], ids=lambda row: row.file)
def test_a_forked_child_tells_what_a_fresh_process_tells(
    row: Row, server: subprocess.Popen[str], tmp_path: Path
) -> None:
    (tmp_path / "forked").mkdir()
    forked = run_in_fork(server, row.path, tmp_path / "forked")
    (tmp_path / "fresh").mkdir()
    assert forked == run_fresh(row, tmp_path / "fresh")


def test_the_table_has_one_row_for_each_loop_in_order() -> None:
    files = [row.file for row in table()]
    assert files == sorted(path.stem for path in LOOPS.glob("*.py"))
    assert set(files) >= NOT_YET
    for row in table():
        check_form(row, row.path)
        assert row.path.read_text().startswith("# "), f"{row.file}: the first line says what it stands for"


def check_form(row: Row, path: Path) -> None:
    """Fail unless the row can be judged: known words, nothing asked of a quiet loop, and a line that its file has."""
    assert row.tier in ("fast", "slow") and row.right in {*LEVELS, "none"}, row
    if row.right in ("quiet", "none"):
        assert (row.code, row.line, row.words) == ("-", "-", "-"), row
    else:
        lines = path.read_text()
        assert row.line == "-" or all(part in lines for part in row.line.split("|")), row
