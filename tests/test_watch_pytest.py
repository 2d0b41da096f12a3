"""Test the pytest plugin: a test fails where the watch finds a fault in the training that the test runs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PLUGIN = "covlab.watch.attach.pytest_plugin"
ROOT = Path(__file__).parents[1]

TRAINING = """
import pytest, torch, unittest
from torch import nn

def train(divisor=1, windows=12):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(windows):
        for _ in range(4):
            loss = nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(0, 2, (8,)))
            (loss / divisor).backward()  # the weights
        optimizer.step()
        optimizer.zero_grad()
"""

TESTS = """
def test_correct(covlab_watch):
    train(divisor=4)

def test_faulty(covlab_watch):
    train()

@pytest.mark.covlab_watch
def test_faulty_with_the_marker_alone():
    train()

@pytest.mark.covlab_watch(fail_on="never", light=True)
def test_faulty_but_allowed(covlab_watch):
    train()
    assert covlab_watch.observation.light

def test_sees_nothing(covlab_watch):
    pass

def test_fails_by_itself(covlab_watch):
    train()
    assert "own" == "failure"

@pytest.mark.xfail(strict=True)
def test_expected(covlab_watch):
    train()

def test_is_skipped(covlab_watch):
    train()
    pytest.skip("own reason")

@pytest.mark.covlab_watch(steps=3)
def test_ends_after_three_steps(covlab_watch):
    train(windows=10**9, divisor=4)

@pytest.mark.covlab_watch(ignore=["W01"])
def test_faulty_but_ignored():
    train()

@pytest.mark.covlab_watch(fail_on="warning", light=True)
class TestNearestMarker:
    @pytest.mark.covlab_watch(fail_on="never")
    def test_wins(self, covlab_watch):
        train()
        assert covlab_watch.observation.light

    def test_of_the_class(self):
        train()

@pytest.mark.covlab_watch
class TestCase(unittest.TestCase):
    def test_correct(self):
        train(divisor=4)

    def test_faulty(self):
        train()

def test_unwatched():
    train()
"""
OUTCOMES = {
    "test_correct": "PASSED",
    "test_faulty": "FAILED",
    "test_faulty_with_the_marker_alone": "FAILED",
    "test_faulty_but_allowed": "PASSED",
    "test_sees_nothing": "FAILED",
    "test_fails_by_itself": "FAILED",
    "test_expected": "XFAIL",
    "test_is_skipped": "SKIPPED",
    "test_ends_after_three_steps": "PASSED",
    "test_faulty_but_ignored": "PASSED",
    "TestNearestMarker::test_wins": "PASSED",
    "TestNearestMarker::test_of_the_class": "FAILED",
    "TestCase::test_correct": "PASSED",
    "TestCase::test_faulty": "FAILED",
    "test_unwatched": "PASSED",
}
REFUSED = {
    "fial_on='fault'": "no such argument: 'fial_on'; there are fail_on, light",
    "fail_on='error'": "fail_on must be one of never, unseen, fault, warning, got 'error'",
    "fail_on=None": "fail_on must be one of never, unseen, fault, warning, got None",
    "light='yes'": "light must be True or False, got 'yes'",
    "select='W99'": "select: no such code: 'W99'",
    "steps=0": "steps must be a whole number of at least 1 or None, got 0",
    "'fault'": "takes arguments by name, such as fail_on='fault', got 'fault'",
}


def run(folder: Path, tests: str, *options: str) -> str:
    """Run pytest on ``tests`` with the plugin, and return what it prints."""
    (folder / "test_it.py").write_text(tests)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": os.pathsep.join(paths)}
    environment["CI"] = "true"  # pytest 8.0 cuts the lines of its summary elsewhere
    command = [sys.executable, "-m", "pytest", "-vv", "-rA", "--color=no", "-p", PLUGIN, "-p", "no:cacheprovider"]
    environment.pop("PYTEST_ADDOPTS", None)
    command += options
    ended = subprocess.run(command, check=False, cwd=folder, env=environment, capture_output=True, text=True)
    return ended.stdout + ended.stderr


def outcomes(printed: str) -> dict[str, str]:
    plain = re.findall(r"^test_it.py::(\S+) (\w+) ", printed, re.MULTILINE)
    by_worker = re.findall(r"^\[gw\d\] \[ *\d+%\] (\w+) test_it.py::(\S+)", printed, re.MULTILINE)
    return dict(plain) | {name: outcome for outcome, name in by_worker}


XDIST = pytest.param(("-p", "xdist", "-n", "2"), id="xdist", marks=pytest.mark.slow)


@pytest.mark.parametrize("options", [pytest.param((), id="one process"), XDIST])
def test_a_watched_test_fails_where_the_watch_finds_a_fault(tmp_path: Path, options: tuple[str, ...]) -> None:
    printed = run(tmp_path, TRAINING + TESTS, *options)
    assert outcomes(printed) == OUTCOMES, printed
    assert "ERROR" not in printed and "INTERNALERROR" not in printed
    sections = re.split(r"^_{3,} (.*) _{3,}$", printed, flags=re.MULTILINE)
    failures = dict(zip(sections[1::2], sections[2::2], strict=True))
    for name in ("test_faulty", "test_faulty_with_the_marker_alone", "TestCase.test_faulty"):
        assert "FAULT   W01" in failures[name] and "test_it.py:12: (loss / divisor).backward()" in failures[name]
    assert "no training was seen" in failures["test_sees_nothing"]
    own, report = failures["test_fails_by_itself"].split("- Captured covlab_watch call -")
    assert "assert 'own' == 'failure'" in own and "FAULT   W01" in report


def test_wrong_arguments_of_the_marker_are_refused_by_name(tmp_path: Path) -> None:
    marks = [f"@pytest.mark.covlab_watch({wrong})\ndef test_{n}(): train()\n" for n, wrong in enumerate(REFUSED)]
    printed = run(tmp_path, TRAINING + "\n".join(marks))
    for n, message in enumerate(REFUSED.values()):
        assert re.search(rf"^ERROR test_it.py::test_{n} - .*{re.escape(message)}", printed, re.MULTILINE), printed
    assert "Traceback" not in printed and "INTERNALERROR" not in printed


def test_a_watched_test_leaves_the_next_one_unwatched(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        TRAINING
        + """
before = torch.optim.Optimizer.zero_grad, nn.Module.__call__, torch.autograd.backward
@pytest.fixture
def broken(covlab_watch):
    raise OSError("own error")
def test_whose_fixture_fails(broken): train()
@pytest.mark.parametrize("divisor", [1, 4])
def test_watched(covlab_watch, divisor): train(divisor)
def test_restored(): assert before == (torch.optim.Optimizer.zero_grad, nn.Module.__call__, torch.autograd.backward)
""",
    )
    assert list(outcomes(printed).values()) == ["ERROR", "FAILED", "PASSED", "PASSED"], printed


def test_the_plugin_loads_no_torch_before_a_test_is_watched(tmp_path: Path) -> None:
    tests = "import sys\ndef test_light(): assert not {'torch', 'numpy', 'rich', 'click'} & set(sys.modules)\n"
    printed = run(tmp_path, tests)
    assert outcomes(printed) == {"test_light": "PASSED"}, printed
    assert "covlab_watch" in run(tmp_path, tests, "--markers") and "covlab_watch" in run(tmp_path, tests, "--fixtures")


def test_pytest_finds_the_plugin_where_covlab_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"covlab": PLUGIN}
