"""Test which invariants and findings a run counts: --select, --ignore, --baseline and the settings of a project."""

import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from covlab.watch import TITLES, watch
from covlab.watch.__main__ import parse
from covlab.watch.known_findings import Baseline
from covlab.watch.selection import ignored_codes

FINDINGS = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(12):
    for _ in range(4):
        loss = nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 2, (8,)))
        loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""
FORGETS_TO_CLEAR = FINDINGS.replace("    optimizer.zero_grad()\n", "")


class Project:
    """A folder with a script, and the runs of the script under the watch."""

    def __init__(self, folder: Path, server: subprocess.Popen[str]) -> None:
        self.folder, self.server = folder, server
        (folder / "src").mkdir()
        self.script, self.baseline = folder / "src" / "train.py", folder / "known.json"
        self.script.write_text(FINDINGS)

    def settings(self, text: str) -> None:
        (self.folder / "pyproject.toml").write_text(f"[tool.covlab.watch]\n{text}\n")

    def run(self, *options: str) -> tuple[int, str]:
        """Return the exit status and what was printed."""
        assert self.server.stdin is not None and self.server.stdout is not None
        printed = self.folder / "printed"
        self.server.stdin.write(json.dumps([[*options, str(self.script)], str(printed), False]) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline()), " ".join(printed.read_text().split())


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that says why the arguments are refused."""
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    printed = capsys.readouterr().err
    assert ended.value.code == 2 and len(printed.splitlines()) == 1
    return printed


@pytest.fixture
def project(tmp_path: Path, server: subprocess.Popen[str]) -> Project:
    return Project(tmp_path, server)


def test_an_ignored_invariant_is_listed_and_neither_checked_nor_counted(project: Project) -> None:
    assert project.run()[0] == 1
    report, cases = project.folder / "report.json", project.folder / "report.xml"
    status, printed = project.run("--ignore", "w01, W13", "--json", str(report), "--junit", str(cases))
    row = json.loads(report.read_text())
    assert status == 0 and "ignored: W01 W13" in printed and "nothing found" in printed
    assert row["ignored"] == ["W01", "W13"] and not {"W01", "W13"} & set(row["unchecked"])
    assert f"; {len(TITLES) - len(row['unchecked']) - 2} of {len(TITLES)} invariants checked" in printed
    skipped = {case.attrib["name"][:3]: case.find("skipped") for case in ElementTree.parse(cases).iter("testcase")}
    assert skipped["W01"] is not None and skipped["W01"].attrib["message"] == "ignored"


def test_only_selected_invariants_are_checked(project: Project) -> None:
    status, printed = project.run("--select", "W03,W05", "--ignore", "W05")
    assert status == 0 and f"ignored: {' '.join(code for code in TITLES if code != 'W03')}" in printed
    assert project.run("--select", "W01")[0] == 1


def test_nothing_is_said_of_ignored_invariants_where_nothing_was_seen(project: Project) -> None:
    project.script.write_text("")
    report = project.folder / "report.json"
    assert project.run("--ignore", "W13", "--json", str(report))[0] == 3
    assert "W13" not in json.loads(report.read_text())["unchecked"]


@pytest.mark.parametrize("value", ["W99", "W00", "", "W01,,W02", "W01 W02", ["W1"], [1], [], 7])
@pytest.mark.parametrize("name", ["select", "ignore"])
def test_unknown_codes_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        watch(**{name: value})  # type: ignore[arg-type]


def test_something_is_always_checked() -> None:
    with pytest.raises(ValueError, match="leave no invariant"):
        watch(select="W01", ignore=["W01"])
    assert ignored_codes(None, None) == [] and set(ignored_codes(["w01"], None)) == set(TITLES) - {"W01"}


def test_a_baseline_covers_what_is_known_wherever_its_line_moves(project: Project) -> None:
    baseline = ("--baseline", str(project.baseline))
    status, printed = project.run("--write-baseline", str(project.baseline))
    assert status == 0 and "known, not counted: W01" in printed and "nothing new found" in printed
    [entry] = Baseline(project.baseline).entries
    assert entry == ("W01", "src/train.py", "loss.backward()", "fault")
    project.script.write_text("# moved\n" * 7 + FINDINGS)
    report = project.folder / "report.json"
    status, printed = project.run(*baseline, "--json", str(report))
    assert status == 0 and "known, not counted: W01 " in printed and "FAULT" not in printed
    assert [one["code"] for one in json.loads(report.read_text())["known"]] == ["W01"]
    project.script.write_text(FINDINGS.replace("loss.backward()", "loss.backward()  # another line"))
    assert project.run(*baseline)[0] == 1


def test_a_baseline_lets_new_findings_count(project: Project) -> None:
    project.run("--write-baseline", str(project.baseline))
    project.script.write_text(FORGETS_TO_CLEAR)
    status, printed = project.run("--baseline", str(project.baseline))
    assert status == 1 and "FAULT" in printed and "W18" in printed


def test_a_baseline_covers_no_worse_verdict_and_each_entry_one_finding(project: Project) -> None:
    project.run("--write-baseline", str(project.baseline))
    content = json.loads(project.baseline.read_text())
    content["findings"][0]["verdict"] = "warning"
    project.baseline.write_text(json.dumps(content))
    assert project.run("--baseline", str(project.baseline))[0] == 1
    content["findings"] = []
    project.baseline.write_text(json.dumps(content))
    assert project.run("--baseline", str(project.baseline))[0] == 1


def test_a_baseline_is_not_written_where_the_training_was_not_seen(project: Project) -> None:
    project.run("--write-baseline", str(project.baseline))
    before = project.baseline.read_text()
    project.script.write_text("")
    status, printed = project.run("--write-baseline", str(project.baseline))
    assert status == 3 and "no baseline was written" in printed and project.baseline.read_text() == before
    assert not list(project.folder.glob(".known*"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"version": 2, "findings": []}', '{"version": 1}', "\xff", None]
)
def test_a_file_that_is_no_baseline_is_refused(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.py").touch()
    if text is not None:
        (tmp_path / "known.json").write_text(text, encoding="latin-1")
    printed = refused(["--baseline", str(tmp_path / "known.json"), str(tmp_path / "train.py")], capsys)
    assert "--baseline" in printed and str(tmp_path / "known.json") in printed


def test_settings_of_the_project_hold_unless_the_command_line_says_otherwise(project: Project) -> None:
    project.settings('ignore = ["W01"]')
    assert project.run()[0] == 0 and project.run("--ignore", "W13")[0] == 1
    project.settings('select = ["W03"]')
    assert project.run()[0] == 0 and project.run("--select", "W01")[0] == 1
    project.settings('fail-on = "never"')
    assert project.run()[0] == 0 and project.run("--fail-on", "fault")[0] == 1
    project.settings('baseline = "known.json"')
    assert project.run()[0] == 2 and project.run("--write-baseline", str(project.baseline))[0] == 0
    assert project.run()[0] == 0
    (project.folder / "src" / "pyproject.toml").write_text("")  # the nearest one
    assert project.run()[0] == 1


def test_light_of_the_project_holds_unless_the_command_line_says_otherwise(project: Project) -> None:
    project.script.write_text(FINDINGS + "import covlab.watch.session as s\nprint('light', s._open.observation.light)")
    project.settings("light = true")
    assert "light True" in project.run()[1] and "light False" in project.run("--no-light")[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('slect = ["W01"]', "no key 'slect'; there are select, ignore, baseline, fail-on, light"),
        ("fail_on = 'fault'", "no key 'fail_on'"),
        ('ignore = ["W99"]', "ignore: no such code: 'W99'"),
        ("select = 3", "select must be codes"),
        ("light = 1", "light must be true or false, got 1"),
        ("fail-on = 'error'", "fail-on must be one of never, unseen, fault, warning, got 'error'"),
        ("fail-on = ['fault']", "fail-on must be one of"),
        ("baseline = 1", "baseline must be the name of a file, got 1"),
        ("light = ", "pyproject.toml: "),
    ],
)
def test_wrong_settings_are_refused_by_name(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.py").touch()
    (tmp_path / "pyproject.toml").write_text(f"[tool.covlab.watch]\n{text}\n")
    printed = refused([str(tmp_path / "train.py")], capsys)
    assert message in printed and str(tmp_path / "pyproject.toml") in printed
