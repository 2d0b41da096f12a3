"""The files that say what covlab needs agree with each other, and the first commands answer."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.version import Version

from covlab import __version__
from covlab.cli import COMMANDS
from covlab.cli.main import main
from covlab.course import environment
from covlab.course.editions import REPOSITORY
from covlab.course.environment import lock_differences

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# where conda-forge's name differs
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def asked_for() -> dict[str, Requirement]:
    # peers are not locked
    return requirements(*(extra for extra in EXTRAS if extra != "bench"))


def requirements(*extras: str, python: str = "3.11") -> dict[str, Requirement]:
    """Return what covlab needs with these extras on a version of Python, without the extras of covlab that they name.

    Of several lines of a package, the last one that applies is the narrowest.
    """
    found = [Requirement(line) for line in sum((EXTRAS[extra] for extra in extras), PROJECT["dependencies"])]
    applies = [each for each in found if each.marker is None or each.marker.evaluate({"python_version": python})]
    return {requirement.name: requirement for requirement in applies if requirement.name != "covlab"}


def floor(requirement: Requirement) -> Version:
    [only] = requirement.specifier
    assert only.operator == ">="
    return Version(only.version)


def test_floors_rise_with_python() -> None:
    older, *newer = (requirements(*EXTRAS, python=python) for python in ("3.11", "3.12", "3.13"))
    for newest in newer:
        assert older.keys() == newest.keys()
        assert all(floor(older[name]) <= floor(newest[name]) for name in older)
        older = newest


def locked() -> dict[str, Version]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {line.split("==")[0].lower(): Version(line.split("==")[1]) for line in lines if not line.startswith("#")}


def test_lock_pins_every_requirement_within_its_range() -> None:
    pins = locked()
    for name, requirement in asked_for().items():
        assert requirement.specifier.contains(pins[name]), f"{requirement} but the lock has {pins[name]}"


def test_lock_names_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|\+cpu|--|@", text)


def test_conda_asks_for_the_same_ranges_as_a_student_needs() -> None:
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    found = [re.fullmatch(r"([\w-]+)(.*)", line) for line in lines if isinstance(line, str)]
    ranges = {line[1]: line[2] for line in found if line is not None}
    needed = requirements("workbench", "notebook", "course", "tune", "dashboard", "site")
    expected = {CONDA_NAMES.get(name, name): str(r.specifier) for name, r in needed.items()}
    assert ranges == expected | {"python": PROJECT["requires-python"], "pip": ""}


def test_binder_has_what_the_lessons_need() -> None:
    text = (ROOT / ".binder" / "environment.yml").read_text().replace("pytorch-cpu", "pytorch")
    binder = yaml.safe_load(text)["dependencies"]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    needed = requirements("workbench", "tune", "notebook", "course")
    ranges = {CONDA_NAMES.get(name, name) + str(r.specifier) for name, r in needed.items()}
    assert ranges | {"pip"} == set(binder) - {"python" + PROJECT["requires-python"]}
    assert all(line in conda for line in binder)


def test_the_workflow_runs_what_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = re.findall("^make (.*)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert len(targets) == 3 and {f"make {target} PYTHON=python" for target in targets} <= set(steps)


def test_actionlint_accepts_the_workflow() -> None:
    if shutil.which("actionlint") is None:
        pytest.skip("actionlint is not installed")
    subprocess.run(["actionlint"], cwd=ROOT, check=True)


def test_every_file_that_states_the_repository_states_the_same() -> None:
    assert PROJECT["urls"]["Repository"] == REPOSITORY
    assert all(url.startswith(REPOSITORY) for url in PROJECT["urls"].values())


def test_readme_shows_no_badge_of_a_repository_that_does_not_exist() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    elsewhere = [picture for picture in pictures if not (ROOT / picture).is_file()]
    assert pictures and all(address.startswith(REPOSITORY) for address in elsewhere)
    assert not elsewhere or "example.org" not in REPOSITORY


def test_every_file_that_states_the_version_states_the_same() -> None:
    assert PROJECT["version"] == __version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] == __version__


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    targets = phony.group(1).split()
    listed = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert sorted(re.findall(r"^  make ([\w-]+) ", listed.stdout, re.MULTILINE)) == sorted(targets)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_imported(name: str) -> None:
    assert CliRunner().invoke(main, [name, "--help"]).exit_code == 0


@pytest.fixture
def missing(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return a function that returns an environment in which the named packages are not installed."""

    def without(*packages: str) -> dict[str, str]:
        for name in packages:
            (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')")
        return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}

    return without


def covlab(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "covlab", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_watch_needs_torch_alone(missing: Callable[..., dict[str, str]]) -> None:
    assert [Requirement(line).name for line in PROJECT["dependencies"]] == ["torch"]
    bare = missing(*(name.replace("-", "_") for name in requirements("workbench") if name != "torch"))
    script = ROOT / "tests" / "loops" / "14_scheduler_step_instead_faulty.py"
    watched = covlab(bare, "watch", str(script))
    assert watched.returncode == 1 and "W03" in watched.stderr and "Traceback" not in watched.stderr


@pytest.mark.parametrize("columns", [40, 57, 100])
def test_the_report_fits_the_terminal_also_without_rich(missing: Callable[..., dict[str, str]], columns: int) -> None:
    printed = covlab(missing("rich") | {"COLUMNS": str(columns)}, "watch", "--demo").stderr
    assert "The run goes on" in printed and "FAULT" in printed
    lines = printed.splitlines()
    assert not [line for line in lines if len(line) > columns and len(line.split()) > 1]  # one long name stays whole
    assert max(map(len, lines)) > 0.8 * columns


@pytest.mark.parametrize(
    "package, arguments, extra",
    [
        ("click", ("train", "--help"), "workbench"),
        ("click", (), "workbench"),
        ("click", ("course", "run"), "course"),
        ("click", ("course", "site"), "site"),
        ("click", ("demo", "dashboard"), "dashboard"),
        ("click", ("demo", "--help"), "workbench"),
        ("click", ("tune", "--trials", "1"), "tune"),
        ("matplotlib", ("faults", "show", "missing_division"), None),
        ("optuna", ("tune", "--help"), None),
        ("optuna", ("tune", "--study", "s", "--trials", "1"), "tune"),
        ("sqlalchemy", ("train", "--study", "s"), "tune"),
        ("rich", ("train", "--study", "s"), "tune"),  # tune brings it, too
        ("rich", ("train", "--study=s"), "tune"),
        ("rich", ("tune", "--study", "s", "--trials", "1"), "tune"),
        ("rich", ("train",), "workbench"),
        ("voila", ("demo", "dashboard"), "dashboard"),
        ("myst_nb", ("course", "site"), "site"),
        ("jupytext", ("course", "notebooks"), "course"),
    ],
)
def test_a_command_without_its_extra_says_how_to_install_it(
    missing: Callable[..., dict[str, str]], package: str, arguments: tuple[str, ...], extra: str | None
) -> None:
    done = covlab(missing(package), *arguments)
    if extra is None:  # it does not need the package
        assert done.returncode == 0
    else:
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert f"needs {package}: pip install 'covlab[{extra}]'" in done.stderr and extra in EXTRAS


SLOW = [pytest.param(text, marks=pytest.mark.slow) for text in ("faults", "course lab --prepare", "watch explain W01")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", ["--help", "watch explain", *SLOW])
def test_output_that_cannot_be_written_ends_in_one_line_and_nobody_reading_in_none(
    arguments: str, tmp_path: Path
) -> None:
    folders = [tmp_path / "full", tmp_path / "unread"]
    reader, pipe = os.pipe()
    os.close(reader)
    with open("/dev/full", "w") as full, open(pipe, "w") as unread:
        for folder, output, lines in zip(folders, (full, unread), (1, 0), strict=True):
            folder.mkdir()
            command = [sys.executable, "-m", "covlab", *arguments.split()]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                command, cwd=folder, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, check=False
            )
            assert done.stderr.count("\n") == lines and (not lines or "No space left" in done.stderr), done.stderr
            assert done.returncode in ((1, 2) if lines else (0, 1))
    if "--prepare" in arguments:
        assert [len(list(folder.glob("work/*.ipynb"))) for folder in folders] == [12, 12]


@pytest.mark.parametrize("arguments", ["watch --help", "watch explain W01", "--help"])
def test_texts_are_printed_where_not_every_letter_can_be(arguments: str) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = covlab(os.environ | ascii_only, *arguments.split())
    assert done.returncode == 0 and len(done.stdout) > 300 and not done.stderr


@pytest.mark.parametrize("arguments", [("--version",), ("watch", "--version")])
def test_the_version_needs_no_extra(missing: Callable[..., dict[str, str]], arguments: tuple[str, ...]) -> None:
    assert covlab(missing("click", "rich"), *arguments).stdout == f"covlab {__version__}\n"
    assert CliRunner().invoke(main, ["--version"]).output == f"covlab {__version__}\n"


def test_help_and_import_stay_light() -> None:
    code = (
        "import sys, covlab.cli.main as c\ntry:\n c.main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'papermill', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("command", ["course", "env"])
def test_commands_that_compute_nothing_start_without_torch(command: str) -> None:
    code = f"import sys, covlab.cli.{command}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_thread_policy_is_set_before_torch_and_lateness_is_known(tmp_path: Path) -> None:
    (tmp_path / "torch.py").touch()  # as good as the real one, which takes seconds

    def policy(code: str) -> str:
        command = [
            sys.executable,
            "-c",
            (
                f"import os, sys\nos.environ.pop('OMP_WAIT_POLICY', None)\nsys.path.insert(0, {str(tmp_path)!r})\n"
                f"{code}\n"
                "print(os.environ['OMP_WAIT_POLICY'], covlab.policy_late)"
            ),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert policy("import covlab") == "PASSIVE False"
    assert policy("import torch, covlab") == "PASSIVE True"
    assert policy("os.environ['OMP_WAIT_POLICY'] = 'ACTIVE'; import torch, covlab") == "ACTIVE False"


# Runs scripts only up to their first import of torch, and prints the thread policy there.
UP_TO_TORCH = """
import os, runpy, sys

class Torch(BaseException):
    pass

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "torch":
            raise Torch

sys.meta_path.insert(0, Finder)
for script in sys.argv[1:]:
    os.environ.pop("OMP_WAIT_POLICY", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "covlab"]:
        del sys.modules[name]
    try:
        runpy.run_path(script)
    except Torch:
        print(script, os.environ.get("OMP_WAIT_POLICY"))
"""


def test_every_script_sets_the_thread_policy_before_torch() -> None:
    scripts = sorted(path for folder in ("benchmarks", "figures") for path in (ROOT / folder).glob("*.py"))
    command = [sys.executable, "-c", UP_TO_TORCH, *map(str, scripts)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(found) > 8 and {line.rpartition(" ")[2] for line in found} == {"PASSIVE"}, found


@pytest.mark.parametrize(
    "installed, tried, newer",
    [("2.14.0+cpu", "2.13", True), ("2.13.1", "2.13", False), ("2.13.1", "2.13.0", True), ("2.9", "2.13", False)],
)
def test_env_names_what_is_newer_than_what_was_tried(
    installed: str, tried: str, newer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lock").write_text(f"some-package=={tried}\n")
    monkeypatch.setattr(environment, "_version", {"torch": "2.6.0", "some-package": installed}.get)
    monkeypatch.setattr("platform.python_version", lambda: "3.11.9")
    found = environment.newer_than_tested(tmp_path / "lock")
    assert found == ([f"some-package: {installed}, tested up to {tried}"] if newer else [])
    monkeypatch.setattr("platform.python_version", lambda: "3.14.0")
    assert environment.newer_than_tested() == ["Python: 3.14.0, tested up to 3.11"]


def test_env_says_what_was_tried() -> None:
    torch = locked()["torch"]
    assert environment.NEWEST_TRIED["torch"] == f"{torch.major}.{torch.minor}"
    assert f"torch {environment.NEWEST_TRIED['torch']}" in environment.TRIED[0][0]
    output = CliRunner().invoke(main, ["env"]).output
    assert all(f"{versions}: {what}" in output for versions, what in environment.TRIED)


def test_env_compares_with_the_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("# a comment\nnumpy==0.1\nno_such-package==2\n")
    differences = lock_differences(tmp_path / "lock")
    assert [line.split(":")[0] for line in differences] == ["numpy", "no_such-package"]
    assert "not installed, 2 in the lock" in differences[1]
