"""Test that one report tells what all ranks of a job found, and that no rank waits for one that will not come."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from covlab.watch import Finding, Report, watch
from covlab.watch import job as job_module
from covlab.watch.finding import VERDICTS, ranks_text
from covlab.watch.html_report import html_page
from covlab.watch.job import JOBS, RANKS, RANKS_HERE, Job
from covlab.watch.job_report import job_report
from covlab.watch.report import FAIL_ON, arrange
from covlab.watch.sarif import sarif_log
from covlab.watch.seen.location import CodeLocation, LibraryLine

# ---------------------------------------------------------------- one report of several


def random_report(source: random.Random) -> Report:
    """Return a report of a few findings, so that two reports often share some."""
    lines = [None, CodeLocation("a.py", 1, "f"), CodeLocation("a.py", 1, "f", LibraryLine("m", 3, "m.py", "m"))]
    findings = [
        Finding("title", code, source.choice(VERDICTS), source.choice([None, 2.0, float("inf")]), "says", "fix", line)
        for code in source.choices(["W02", "W03", "W07", "W10", "W25"], k=source.randrange(5))
        for line in source.choices(lines, k=source.choice([1, 1, 2]))
    ]
    unchecked = {code: source.choice(["why", "another reason"]) for code in source.sample(["W14", "W16"], 1)}
    return Report(arrange(findings), unchecked, {"steps": source.randrange(9)}, known=source.choice([[], findings[:1]]))


def names(findings: list[Finding]) -> list[tuple[Any, ...]]:
    """Return what makes each of the findings, and of those below them, the same as another's."""
    found = []
    for one in findings:
        at = one.location
        found.append((one.code, one.verdict, at and (at.file, at.line, at.library)))
        found += [(*name, "of", one.code) for name in names(one.follows)]
    return sorted(found, key=repr)


def of_rank(findings: list[Finding], rank: int, ranks: tuple[int, ...]) -> list[Finding]:
    """Return the findings that a rank is said to have made; one without ranks is that of those above it."""
    copies = []
    for one in findings:
        on = one.ranks or (ranks if one.code != "W25" else (0, *ranks))
        if rank in on or one.code == "W25":
            copies.append(Finding(**{**vars(one), "follows": of_rank(one.follows, rank, on)}))
    return copies


@pytest.mark.parametrize("seed", range(40))
def test_a_job_has_each_finding_of_each_rank_once_and_fails_as_the_worst_of_them(seed: int) -> None:
    source = random.Random(seed)
    size = source.randrange(2, 6)
    reports = {rank: random_report(source) for rank in range(size) if not rank or source.random() < 0.8}
    for report in reports.values():  # what rank 0 tells for all ranks, no other one tells
        if report is not reports[0]:
            report.findings = [one for one in report.findings if one.code != "W25"]
            for one in report.findings:
                one.follows = [below for below in one.follows if below.code != "W25"]
    missing = dict.fromkeys(set(range(size)) - set(reports), "it is gone")
    whole = job_report(reports, missing, [], size)
    gaps = [one for one in whole.findings if one.code == "W00"]
    assert len(gaps) == bool(missing)
    seen = [one for one in whole.findings if one.code != "W00"]
    for rank, report in reports.items():
        mine = [one for one in of_rank(seen, rank, tuple(reports)) if one.code != "W25"]
        assert names(mine) == names([one for one in report.findings if one.code != "W25"])
    assert [VERDICTS.index(one.verdict) for one in whole.findings] == sorted(
        VERDICTS.index(one.verdict) for one in whole.findings
    )
    for level in FAIL_ON:
        worst = [report.exit_status(level) for report in reports.values()]
        assert whole.exit_status(level) == (1 if 1 in worst else 3 if missing and level != "never" else max(worst))
    assert {code for report in reports.values() for code in report.unchecked} == set(whole.unchecked)
    assert whole.seen == reports[0].seen


@pytest.mark.parametrize("size", [2, 4, 300])
def test_what_all_ranks_share_is_one_finding_whoever_of_them_counts_further(size: int) -> None:
    def report(rank: int) -> Report:
        here = Finding("title", "W07", "note", 1.0, "says", "fix", CodeLocation("a.py", 3, "f"), times=1)
        at = CodeLocation("train.py", 7, "f")
        found = Finding("title", "W02", "fault", 1.0, f"{rank} times", "fix", at, times=rank, follows=[here])
        return Report([found], {"W14": "why"}, {})

    whole = job_report({rank: report(rank) for rank in range(size)}, {}, [], size)
    [found] = whole.findings
    [below] = found.follows
    assert found.ranks == below.ranks == tuple(range(size)) and found.says == "0 times"
    assert found.on_ranks == f"on {'both' if size == 2 else f'all {size}'} ranks" and found.on_ranks in str(whole)
    assert whole.unchecked == {"W14": "why"}


def test_a_finding_of_one_rank_is_told_with_its_rank_in_every_form(tmp_path: Path) -> None:
    at = CodeLocation("train.py", 7, "f")
    mine = Report([Finding("title", "W07", "note", None, "mild", "fix", at)], {"W14": "why"}, {"steps": 3})
    cause = Finding("title", "W02", "fault", None, "severe", "fix", at, first=3, last=3)
    cause.follows = [Finding("title", "W07", "fault", None, "below", "fix", at)]
    whole = job_report({0: mine, 1: mine, 2: Report([cause], {"W16": "why"}, {"steps": 9})}, {3: "it died"}, [], 4)
    assert whole.title == "covlab.watch, ranks 0 to 2 of 4" and "rank 0 watched 3 steps" in whole.summary
    assert whole.summary.startswith("no report of rank 3 of 4; 1 fault, 2 notes")
    assert whole.unchecked == {"W14": "on ranks 0 and 1: why", "W16": "on rank 2: why"}
    text = " ".join(str(whole).split())
    for words in ("severe at train.py:7 (step 3; on rank 2)", "below (on rank 2)", "mild at train.py:7 (on ranks 0"):
        assert words in text
    assert text in " ".join(whole.text(1000).split())
    assert "(on ranks 0 and 1)" in whole._repr_html_()
    page = html_page(whole, [])
    assert "step 3; on rank 2" in page and "below (on rank 2)" in page and "on ranks 0 and 1" in page
    results = sarif_log(whole)["runs"][0]["results"]
    told = {(one["ruleId"], one["level"]): one["properties"]["ranks"] for one in results}
    assert told[("W02", "error")] == told[("W07", "error")] == [2] and told[("W07", "note")] == [0, 1]
    assert any("It was found on ranks 0 and 1." in one["message"]["text"] for one in results)
    whole.write_junit(tmp_path / "junit.xml")
    cases = {case.get("name", "")[:3]: case for case in ElementTree.parse(tmp_path / "junit.xml").getroot()}
    assert [cases[code].find("failure").get("message") for code in ("W02", "W07")] == [  # type: ignore[union-attr]
        "severe (on rank 2)",
        "below (on rank 2)",
    ]
    assert cases["W00"].find("failure") is not None
    assert Report.of_row(json.loads(json.dumps(whole.row()))).row() == whole.row()


def test_ranks_are_named_shortly() -> None:
    named = {
        "all 4 ranks": range(4),
        "rank 3": [3],
        "ranks 0 and 1": [0, 1],
        "ranks 1 to 3": [3, 2, 1],
        "ranks 0, 2 and 4 to 6": [0, 2, 4, 5, 6],
    }
    assert {name: ranks_text(ranks, 4) for name, ranks in named.items()} == {name: name for name in named}


# ---------------------------------------------------------------- how rank 0 gets them


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], Job]:
    """Return what makes a rank of a job of 4, all in this process."""
    for name in (*JOBS, *RANKS_HERE, *(name for pair in RANKS for name in pair), "SLURM_NNODES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(job_module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")

    def make(number: int) -> Job:
        monkeypatch.setenv("RANK", str(number))
        return Job(None)

    return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Let time pass only where somebody waits. The list has the seconds that passed."""
    passed = [0.0]
    monkeypatch.setattr(job_module.time, "monotonic", lambda: 1000 + passed[0])
    monkeypatch.setattr(job_module.time, "time", lambda: 10**9 + passed[0])
    monkeypatch.setattr(job_module.time, "sleep", lambda seconds: passed.__setitem__(0, passed[0] + seconds))
    yield passed


def kill(rank: Job) -> None:
    """Let the rank's file be that of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    path = rank._path(rank.rank)
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": ended.pid}))


def report_of(number: int) -> Report:
    return Report([Finding("title", "W07", "note", float(number), "says", "fix")], {}, {"steps": number})


Make = Callable[[int], Job]


def test_rank_0_gets_every_report_and_leaves_no_file(rank: Make, clock: list[float], tmp_path: Path) -> None:
    first, *others = (rank(number) for number in range(4))
    assert all(other.hand_over(report_of(other.rank)) for other in others)
    found = first.collect(lambda: False)
    assert {number: report.row() for number, report in found.reports.items()} == {
        number: report_of(number).row() for number in (1, 2, 3)
    }
    assert not found.missing and not found.running and clock == [0.0] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("hurried", [False, True])
def test_rank_0_waits_for_no_rank_longer_than_it_may_take(rank: Make, clock: list[float], hurried: bool) -> None:
    first, running, judging, killed = (rank(number) for number in range(4))
    kill(killed)
    judging.script_ended()
    clock[0] += 100
    first.script_ended()
    found = first.collect(lambda: hurried)
    waited = clock[0] - 100
    assert waited < (job_module.SECONDS_IN_A_HURRY if hurried else job_module.SECONDS_TO_JUDGE) + 1
    assert set(found.missing) == ({1, 2, 3} if hurried else {2, 3}) and found.running == ([] if hurried else [1])
    assert "killed" in found.missing[3] and "in time" in found.missing[2] and not found.reports
    for late in (running, judging):  # they tell by themselves, and nothing of theirs is lost
        assert not late.hand_over(report_of(1)) and late.is_over


def test_rank_0_does_not_wait_for_ranks_that_never_came(rank: Make, clock: list[float]) -> None:
    first = rank(0)
    first.script_ended()
    found = first.collect(lambda: False)
    assert set(found.missing) == {1, 2, 3} and clock[0] < job_module.SECONDS_TO_START + 1
    first = rank(0)
    clock[0] += 3600
    first.script_ended()
    before = clock[0]
    assert set(first.collect(lambda: False).missing) == {1, 2, 3} and clock[0] - before < 1


def test_rank_0_does_not_wait_for_ranks_of_another_machine(
    rank: Make, clock: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    first, second = rank(0), rank(1)
    second.hand_over(report_of(1))
    found = first.collect(lambda: False)
    assert set(found.missing) == {2, 3} and str(tmp_path) in found.missing[2] and clock[0] < 1


def test_ranks_of_several_machines_meet_beside_a_file_that_was_asked_for(
    rank: Make, clock: list[float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    (tmp_path / "shared").mkdir()
    jobs = []
    for number in range(4):
        monkeypatch.setattr(job_module.tempfile, "gettempdir", lambda: str(tmp_path / "of one machine"))
        monkeypatch.setattr(job_module.socket, "gethostname", lambda number=number: f"machine {number // 2}")
        monkeypatch.setenv("RANK", str(number))
        jobs.append(Job(str(tmp_path / "shared" / "report.json")))
        if number:
            assert jobs[-1].hand_over(report_of(number))
    monkeypatch.setattr(job_module.socket, "gethostname", lambda: "machine 0")
    found = jobs[0].collect(lambda: False)
    assert set(found.reports) == {1, 2, 3} and not found.missing and not list((tmp_path / "shared").iterdir())


def test_a_rank_tells_by_itself_if_rank_0_was_killed_or_is_not_watched(rank: Make, tmp_path: Path) -> None:
    second = rank(1)
    assert not second.hand_over(report_of(1)) and not second.is_over
    first, second = rank(0), rank(1)
    kill(first)
    assert not second.hand_over(report_of(1)) and second.is_over and not list(tmp_path.iterdir())


def test_reports_of_an_earlier_run_that_was_killed_count_for_nothing(rank: Make, clock: list[float]) -> None:
    first, second, third = rank(0), rank(1), rank(2)
    second.hand_over(report_of(1))
    third.hand_over(report_of(2))
    kill(first)
    clock[0] += 100
    first, second = rank(0), rank(1)
    first.script_ended()
    assert second.hand_over(report_of(7))
    found = first.collect(lambda: False)
    assert found.reports[1].seen == {"steps": 7} and set(found.missing) == {2, 3}


def test_a_process_that_a_rank_starts_is_none(rank: Make, tmp_path: Path) -> None:
    first = rank(0)
    path = first._path(0)
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": os.getppid()}))
    assert rank(0).ranks == 1 and path.exists()


@pytest.mark.parametrize("broken", ["no folder", "a file", "another user's"])
def test_a_folder_that_cannot_be_used_is_told(
    rank: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str
) -> None:
    if broken == "no folder":
        monkeypatch.setattr(job_module.tempfile, "gettempdir", lambda: str(tmp_path / "nowhere"))
    elif broken == "a file":
        monkeypatch.setattr(job_module, "_name_of_job", lambda ranks: "x")
        (tmp_path / ".covlab-watch-x").write_text("")
    else:
        monkeypatch.setattr(job_module.os, "getuid", lambda: os.geteuid() + 1, raising=False)
    first = rank(0)
    assert set(first.collect(lambda: False).missing) == {1, 2, 3} and not rank(1).hand_over(report_of(1))


# ---------------------------------------------------------------- files of ranks


@pytest.mark.parametrize("names", RANKS)
def test_each_rank_has_a_ledger_of_its_own(
    names: tuple[str, str], rank: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WORLD_SIZE")
    for number in range(3):
        monkeypatch.setenv(names[0], str(number))
        monkeypatch.setenv(names[1], "3")
        parameter = torch.nn.Parameter(torch.ones(2))
        with watch(ledger=tmp_path / "steps.jsonl"):
            optimizer = torch.optim.SGD([parameter], lr=0.1)
            for _ in range(number + 1):
                parameter.sum().backward()
                optimizer.step()
                optimizer.zero_grad()
    steps = {path.name: len(path.read_text().splitlines()) for path in tmp_path.glob("*.jsonl")}
    assert steps == {"steps.jsonl": 1, "steps.rank1.jsonl": 2, "steps.rank2.jsonl": 3}


# ---------------------------------------------------------------- whole jobs

TRAINING = """
import os, signal, sys, time
import torch
import torch.distributed as dist
import torch.nn.functional as F

how, bad = sys.argv[1], [int(rank) for rank in sys.argv[2].split(",") if rank]
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(rank)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(0 if how == "never trains" else 24):
    for _ in range(4):
        x = torch.randn(16, 8)
        loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
        if rank in bad:
            loss.backward()
        else:
            (loss / 4).backward()
    optimizer.step()
    optimizer.zero_grad()
    if how == "is killed" and rank == 1 and step == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raises" and rank == 1 and step == 20:
        raise ValueError("in rank 1")
dist.barrier()
if how == "goes on" and rank == 1:
    time.sleep(40)
"""


def run_job(folder: Path, ranks: int, how: str, bad: str = "") -> tuple[int, str]:
    """Run a job under torchrun, and return its exit status and what it printed."""
    script = folder / "train.py"
    script.write_text(TRAINING)
    kinds = ("json", "junit", "sarif", "html", "ledger")
    files = [word for kind in kinds for word in (f"--{kind}", str(folder / f"report.{kind}"))]
    module = ["-m", "covlab.watch", *files, str(script)]
    if how == "is not watched":
        both = folder / "start.py"
        both.write_text(
            "import os, sys\nwatched = sys.argv[1:] if os.environ['RANK'] != '1' else sys.argv[-3:]\n"
            "os.execv(sys.executable, [sys.executable, *watched])\n"
        )
        module = [str(both), *module]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    ran = subprocess.run(
        [*launcher, *module, how, bad], capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    return ran.returncode, ran.stderr


def found(folder: Path) -> dict[str, list[Any]]:
    """Return what rank 0's JSON says of each code: the verdict, and the ranks."""
    rows = json.loads((folder / "report.json").read_text())["findings"]
    return {row["code"]: [row["verdict"], row["ranks"]] for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize("ranks, bad", [(2, ""), (2, "1"), (2, "0,1"), (4, "2"), (4, "0,1,2,3")])
def test_rank_0_tells_what_any_rank_found(ranks: int, bad: str, tmp_path: Path) -> None:
    status, printed = run_job(tmp_path, ranks, "trains", bad)
    numbers = [int(number) for number in bad.split(",") if number]
    assert found(tmp_path) == ({"W01": ["fault", numbers]} if bad else {})
    assert (status != 0) == bool(bad)
    assert printed.count("invariants checked") + printed.count("invariants\n  checked") == 1
    assert f"covlab.watch, {ranks_text(range(ranks), ranks)}: {'1 fault' if bad else 'nothing found'}" in printed
    if bad:
        assert f"on {ranks_text(numbers, ranks)})" in " ".join(printed.split())
    for kind in ("junit", "sarif", "html"):
        told = (tmp_path / f"report.{kind}").read_text()
        assert (f"on {ranks_text(numbers or [0], ranks)}" in told) == bool(bad)
    ledgers = [tmp_path / f"report{f'.rank{one}' if one else ''}.ledger" for one in range(ranks)]
    assert {len(ledger.read_text().splitlines()) for ledger in ledgers} == {24}


@pytest.mark.slow
@pytest.mark.parametrize(
    "how, words",
    [
        ("is killed", "no report of rank 1 of 2: ended without a report"),
        ("is not watched", "no report of rank 1 of 2: not watched"),
        ("raises", "both ranks"),
        ("never trains", "no training was seen"),
        ("goes on", "still running: rank 1"),
    ],
)
def test_rank_0_reports_whatever_becomes_of_another_rank(how: str, words: str, tmp_path: Path) -> None:
    began = time.monotonic()
    status, printed = run_job(tmp_path, 2, how)
    assert words in " ".join(printed.split()), printed
    assert (status == 0) == (how == "goes on"), printed
    if how == "never trains":
        assert found(tmp_path) == {"W00": ["note", [0, 1]]}
    assert time.monotonic() - began < 250  # it does not wait for ever


@pytest.mark.slow
def test_a_rank_that_ends_long_after_rank_0_reports_by_itself(tmp_path: Path) -> None:
    status, printed = run_job(tmp_path, 2, "goes on", bad="1")
    reports = printed.split("covlab.watch, ")[1:]
    assert [report.split(":")[0] for report in reports] == ["rank 0 of 2", "rank 1 of 2"]
    assert "FAULT   W01" not in reports[0] and "FAULT   W01" in reports[1] and status != 0
    assert all(a <= b for a, b in pairwise([printed.index("rank 0 of 2"), printed.index("rank 1 of 2")]))
