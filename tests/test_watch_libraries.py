"""Test that the watch tells the truth about training loops inside libraries, and leaves their results as they are.

A loop is a script in tests/libraries. It runs in two fresh processes, alone and under the watch, and prints a hash of
what it has trained. The columns of its row in tests/libraries/table.tsv are

- file: its name, without .py;
- needs: the libraries that it imports, as requirements with a range of versions, separated by commas;
- verdict: fault, warning, note, or quiet (nothing above a note, and nothing that the watch could not see);
- code, line, words: of the finding, as in tests/loops/table.tsv;
- prints: a regular expression that matches what the loop prints, or -;
- why: why that is the truth.

The libraries are not in requirements.lock: ``COVLAB_LIBRARIES_PYTHON`` names a Python that has them, beside PyTorch.
"""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import test_watch_loops
from packaging.requirements import Requirement

from covlab.watch.report import EXIT_FINDING, EXIT_UNSEEN

LIBRARIES = Path(__file__).parent / "libraries"
PYTHON = os.path.abspath(os.environ.get("COVLAB_LIBRARIES_PYTHON", sys.executable))
INSTALL = "python -m pip install --no-deps -r tests/libraries/requirements.txt"
SHARED = "reproducible"  # what the loops import from their own folder
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


class Row(NamedTuple):
    file: str
    needs: str
    verdict: str
    code: str
    line: str
    words: str
    prints: str
    why: str

    @property
    def path(self) -> Path:
        return LIBRARIES / f"{self.file}.py"

    @property
    def requirements(self) -> list[Requirement]:
        return [Requirement(one) for one in self.needs.split(", ")]

    @property
    def wanted(self) -> test_watch_loops.Row:
        """What the watch must say, in the terms of tests/loops."""
        return test_watch_loops.Row(self.file, "slow", self.verdict, self.code, self.line, self.words)

    @property
    def exit_status(self) -> int:
        return EXIT_FINDING if self.verdict == "fault" else EXIT_UNSEEN if self.code == "W00" else 0


def table() -> list[Row]:
    header, *lines = (LIBRARIES / "table.tsv").read_text().splitlines()
    assert header.split("\t") == list(Row._fields)
    return [Row(*line.split("\t")) for line in lines]


@cache
def installed() -> dict[str, str]:
    """Return {name of a distribution: its version} of the Python that runs the loops."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    listed = subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout
    return {normalized(name): version for name, version in json.loads(listed).items()}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def skip_without_libraries(row: Row) -> None:
    for requirement in row.requirements:
        version = installed().get(normalized(requirement.name))
        if version is None:
            pytest.skip(f"{requirement.name} is not installed: {INSTALL}")
        if not requirement.specifier.contains(version, prereleases=True):
            pytest.skip(f"{requirement} is needed, and {version} is installed: {INSTALL}")


def run(command: list[str], folder: Path) -> tuple[int, str]:
    """Return the exit status, and what was printed: to standard output, then to standard error."""
    paths = [str(LIBRARIES.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | OFFLINE | {"PYTHONPATH": os.pathsep.join(paths)}
    ended = subprocess.run([PYTHON, *command], check=False, capture_output=True, text=True, cwd=folder, env=environment)
    return ended.returncode, f"{ended.stdout}\n{ended.stderr}"


def digest_in(printed: str) -> str:
    digests = re.findall(r"^digest (\w{64})$", printed, re.MULTILINE)
    assert len(digests) == 1, printed
    return digests[0]


@pytest.mark.slow
@pytest.mark.parametrize("row", table(), ids=lambda row: row.file)
def test_the_watch_tells_the_truth_about_a_loop_in_a_library_and_keeps_its_result(row: Row, tmp_path: Path) -> None:
    skip_without_libraries(row)
    (tmp_path / "plain").mkdir()
    (tmp_path / "watched").mkdir()
    status, printed = run([str(row.path)], tmp_path / "plain")
    assert status == 0, printed
    assert row.prints == "-" or re.search(row.prints, printed), printed
    report = tmp_path / "report.json"
    command = ["-m", "covlab.watch", "--json", str(report), str(row.path)]
    watched_status, watched_printed = run(command, tmp_path / "watched")
    assert digest_in(watched_printed) == digest_in(printed)
    row.wanted.check([json.loads(report.read_text())])
    assert watched_status == row.exit_status


def test_the_table_has_one_row_for_each_loop_in_order() -> None:
    files = [row.file for row in table()]
    assert files == sorted(path.stem for path in LIBRARIES.glob("*.py") if path.stem != SHARED)
    pinned = {normalized(one.name): one for one in pinned_versions()}
    for row in table():
        test_watch_loops.check_form(row.wanted, row.path)
        for one in (
            one for one in row.requirements if normalized(one.name) != "torchvision"
        ):  # depends on torch's build
            [pin] = pinned[normalized(one.name)].specifier
            assert pin.operator == "==" and one.specifier.contains(pin.version), f"{row.file}: {one}"
    assert len(files) >= 25


def test_a_loop_has_no_name_that_it_imports() -> None:
    """The folder of a script comes first on its path: a loop called ``monai.py`` would import itself."""
    imported = {
        match for row in table() for match in re.findall(r"^(?:from|import) (\w+)", row.path.read_text(), re.MULTILINE)
    }
    assert imported.isdisjoint(row.file for row in table())


def pinned_versions() -> list[Requirement]:
    lines = (LIBRARIES / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def test_the_torch_of_the_libraries_is_that_of_the_lock() -> None:
    lock = (LIBRARIES.parents[1] / "requirements.lock").read_text()
    assert re.search(r"^torch==\S+$", lock, re.MULTILINE)[0] in map(str, pinned_versions())  # type: ignore[index]
