"""The wheel is enough outside a clone: for the course, for each notebook alone, and for a package index."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LESSONS = sorted(path.stem for path in (ROOT / "lessons").glob("[0-9]*.py"))

pytestmark = pytest.mark.slow


def run(*command: object, folder: Path) -> str:
    """Return what a command prints; fail with all of it if the command does."""
    environment = os.environ | {"JUPYTER_PATH": f"{sys.prefix}/share/jupyter"}  # templates, beside the packages
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--wheel-dir", folder, ROOT, folder=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel, and all that the tests have but for the clone."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", environment, folder=environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, folder=environment)
    packages = next((environment / "lib").glob("python*/site-packages"))
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib"))
    where = run(python, "-c", "import covlab; print(covlab.__file__)", folder=environment)
    assert where.startswith(str(packages))
    return python


def test_description_has_an_address_for_every_link_and_picture(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        description = archive.read(metadata).decode()
    targets = re.findall(r"\]\(([^)]+)\)", description)
    assert len(targets) > 5 and all(target.startswith(("https://", "#")) for target in targets)


def test_metadata_is_valid(wheel: Path) -> None:
    if find_spec("twine") is None:
        pytest.skip("twine is not installed")
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", wheel, folder=wheel.parent)


def test_the_wheel_has_what_a_clone_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tracked = run("git", "ls-files", "covlab", folder=ROOT).split()
    assert {*tracked, *(f"covlab/lessons/{name}.py" for name in LESSONS), "covlab/lessons/claims.toml"} <= names


def test_the_source_distribution_has_what_a_clone_has_and_no_more(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", "--no-local", ROOT, clone, folder=tmp_path)
    (clone / "covlab" / "ignored.so").write_text("")  # what a build of other things leaves
    build = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    run(sys.executable, "-c", build, folder=clone)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    made = {"PKG-INFO", "setup.cfg", *(name for name in names if name.startswith("covlab.egg-info/"))}
    assert names - made == set(run("git", "ls-files", folder=clone).splitlines())


def test_modules_of_an_earlier_build_are_not_in_the_wheel(tmp_path: Path) -> None:
    run("git", "clone", "--quiet", "--no-local", ROOT, tmp_path / "clone", folder=tmp_path)
    earlier = tmp_path / "clone" / "build" / "lib" / "covlab"
    earlier.mkdir(parents=True)
    (earlier / "retired.py").write_text("")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        tmp_path,
    ]
    run(*pip, tmp_path / "clone", folder=tmp_path)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        assert "covlab/retired.py" not in archive.namelist()


def test_the_course_outside_a_clone(python: Path, tmp_path: Path) -> None:
    covlab = (python, "-m", "covlab", "course")
    assert "00_start_here_fresh" in run(*covlab, "reset", "00", folder=tmp_path)
    assert "Next: lesson 00" in run(*covlab, "progress", folder=tmp_path)
    assert "1 of 1 lessons passed" in run(*covlab, "run", "--only", "00", folder=tmp_path)
    assert "00_start_here" in run(*covlab, "report", folder=tmp_path)
    assert len(run(*covlab, "notebooks", folder=tmp_path).splitlines()) == len(LESSONS)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_notebook_runs_alone(python: Path, lesson: str, tmp_path: Path) -> None:
    notebook = ROOT / "notebooks" / f"{lesson}.ipynb"
    kernels = tmp_path / "kernels" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        f'{{"argv": ["{python}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], '
        '"display_name": "Python 3", "language": "python"}'
    )
    folder = tmp_path / "alone"
    folder.mkdir()
    run(
        "env",
        f"JUPYTER_PATH={kernels.parents[1]}:{sys.prefix}/share/jupyter",
        python,
        "-m",
        "papermill",
        notebook,
        "out.ipynb",
        folder=folder,
    )
