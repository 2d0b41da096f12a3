"""`make` builds the environment when it must, and only then. `make release` leaves all of a release, or nothing."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = "1.2.3"
ENTRY = "### Added\n\n- A line with `code` & <tags>.\n"
FILES = ("covlab-1.2.3.tar.gz", "covlab-1.2.3-py3-none-any.whl")
FOLDERS = {"site/index.html": "site", "slides/00.html": "slides", "covlab-handout.zip": "zip"}

# Stands for python, covlab, ruff and mypy: notes each call, makes what the real one makes, and fails where asked to.
TOOL = """#!/bin/sh
call="$(basename "$0") $*"
for last; do :; done
case "$call" in *" -c "*) exit ;; esac
echo "$call" >> "$CALLS"
[ "$(wc -l < "$CALLS")" -ne "${FAIL:-0}" ] || exit 7
case "$call" in
    *" -m venv "*) mkdir -p "$last/bin" && for name in python covlab ruff mypy; do cp "$0" "$last/bin/$name"; done ;;
    "python -m build "*) while [ "$1" != --outdir ]; do shift; done
        cp "$last/pyproject.toml" "$2/covlab-1.2.3.tar.gz" && ls -A "$last" > "$2/covlab-1.2.3-py3-none-any.whl" ;;
    *" --handout") mkdir -p build/site && echo site > build/site/index.html && echo zip > build/covlab-handout.zip ;;
    *" slides") mkdir -p build/slides && echo slides > build/slides/00.html ;;
    "covlab course run") eval "${MEANWHILE:-}" ;;
esac
"""


class Clone:
    """A small clone with the Makefile and the release script of this one, and tools that only note their calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder.with_name("calls")
        for name in ("Makefile", ".ci/release"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        self.write("pyproject.toml", f'[project]\nversion = "{VERSION}"\n')
        self.write("CHANGELOG.md", f"# Changelog\n\n## {VERSION} (a note)\n\n{ENTRY}\n## 1.2.2\n\n- Older.\n")
        self.write("requirements.lock", "")
        self.write(".gitignore", "/.venv/\n/build/\nignored\n")
        self.write("ignored", "not released")
        self.python("python3")
        self.shell(f"git init --quiet && {COMMIT}")

    def python(self, name: str) -> str:
        """Return the path of a Python outside the clone that can make environments."""
        path = self.write(f"../{name}", TOOL)
        path.chmod(0o755)
        return str(path.resolve())

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def shell(self, command: str) -> None:
        subprocess.run(command, shell=True, cwd=self.folder, check=True, env=environment())

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run make with the Python outside the clone as the first one on the path, and note the calls of each tool."""
        self.calls.write_text("")
        path = os.pathsep.join([str(self.calls.parent), os.environ["PATH"]])
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.folder,
            env=environment() | {"CALLS": str(self.calls), "PATH": path} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def environments(self, *arguments: str, **variables: str) -> list[str]:
        """Return which Pythons made an environment when make was called, with the arguments."""
        done = self.make("lab", *arguments, **variables)
        assert done.returncode or not done.stderr, done.stderr
        return [call.split()[0] for call in self.calls.read_text().splitlines() if " -m venv " in call]

    def release(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `make release` where the environment is there, and so is an older release."""
        self.make("lab")
        self.write("build/release/older", "")
        return self.make("release", **variables)

    def built(self) -> set[str]:
        folder = self.folder / "build"
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def environment() -> dict[str, str]:
    """Return this process's environment without a make above this one, and without settings of git from elsewhere."""
    git = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "GIT_"))}
    return inherited | git | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


COMMIT = "git add --all && git commit --quiet --message changed"


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "a clone, for Zoë")


def test_the_environment_is_made_once(clone: Clone) -> None:
    assert clone.environments() == ["python3"]
    assert clone.environments() == clone.environments(PYTHON="python3") == clone.environments("PYTHON=python3") == []


OLD = "touch -t 200001010000 requirements.lock pyproject.toml && touch -t 200101010000 .venv/installed"
BROKEN = {
    "the lock is newer": f"{OLD} && touch -t 200201010000 requirements.lock",
    "the ranges are newer": f"{OLD} && touch -t 200201010000 pyproject.toml",
    "its Python is gone": "rm .venv/bin/python && ln -s /no/python .venv/bin/python",
    "the clone was moved": 'mv "$PWD" ../moved',
    "another tool made it": "rm -rf .venv && mkdir -p .venv/bin && cp ../python3 .venv/bin/python",
    "an older make made it": "> .venv/installed",
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_environment_that_does_not_fit_is_made_again(clone: Clone, case: str) -> None:
    clone.environments()
    clone.shell(BROKEN[case])
    if not clone.folder.exists():
        clone.folder = clone.folder.with_name("moved")
    assert clone.environments() == ["python3"]


def test_an_installation_that_failed_starts_again(clone: Clone) -> None:
    for number in (1, 2, 3):
        assert clone.environments(FAIL=str(number)) == ["python3"]
    assert clone.environments() == ["python3"]


def test_the_python_that_is_named_is_the_one_that_is_used(clone: Clone) -> None:
    clone.environments()
    other = clone.python("python3.12")
    assert clone.environments(f"PYTHON={other}") == ["python3.12"]
    assert clone.environments(f"PYTHON={other}") == clone.environments(PYTHON=other) == clone.environments() == []
    assert clone.environments(PYTHON="python3") == ["python3"]


def test_a_release_has_everything_and_nothing_that_is_not_committed(clone: Clone) -> None:
    done = clone.release()
    assert done.returncode == 0, done.stderr
    release = clone.folder / "build" / "release"
    found = {path for path in clone.built() if path.startswith("release")}
    assert found == {f"release/{name}" for name in (*FILES, *FOLDERS, "changes.md")}
    assert (release / "changes.md").read_text().strip() == ENTRY.strip()
    assert all((release / path).read_text().strip() == text for path, text in FOLDERS.items())
    committed = subprocess.run(["git", "ls-files"], cwd=clone.folder, capture_output=True, text=True, check=True)
    assert set((release / FILES[1]).read_text().split()) == {
        name.partition("/")[0] for name in committed.stdout.split()
    }
    for step in ("twine check", "ruff check", "mypy", "pytest", "course run", "--handout", "course slides"):
        assert re.search(step, clone.calls.read_text()), step
    assert "upload" not in clone.calls.read_text() and "Nothing was uploaded" in done.stdout


def test_a_release_that_fails_at_any_step_leaves_nothing(clone: Clone) -> None:
    clone.release()
    steps = clone.calls.read_text().splitlines()
    assert len(steps) >= 10
    for number, step in enumerate(steps, 1):
        done = clone.release(FAIL=str(number))
        assert done.returncode != 0 and len(clone.calls.read_text().splitlines()) == number, step
        assert not any(path.startswith("release") for path in clone.built()), step


REFUSED = {
    "a changed file": ("echo a==1 >> requirements.lock", "requirements.lock"),
    "a new file": ("touch 'a new file'", "a new file"),
    "a staged file": ("touch new && git add new", "new"),
    "a deleted file": ("rm requirements.lock", "requirements.lock"),
    "a tag": ("git tag v1.2.3", "v1.2.3"),
    "an annotated tag": ("git tag --message released v1.2.3", "v1.2.3"),
    "no entry": (f"echo '## 1.2.33' > CHANGELOG.md && {COMMIT}", "no entry for 1.2.3; its newest is for 1.2.33"),
    "an older entry": (
        f"printf '## 1.3\\n\\n- New\\n\\n## 1.2.3\\n\\n- Old\\n' > CHANGELOG.md && {COMMIT}",
        "is for 1.3",
    ),
    "no changelog entries": (f"echo > CHANGELOG.md && {COMMIT}", "is for nothing"),
    "an empty entry": (f"printf '## 1.2.3\\n\\n \\n## 1\\n\\n- Old\\n' > CHANGELOG.md && {COMMIT}", "is empty"),
    "no repository": ("rm -rf .git", "a clone with git"),
    "no commit": ("rm -rf .git && git init --quiet", "a clone with git"),
    "a folder of another repository": ("mv .git ..", "a clone with git"),
}
"""A command that makes the clone one that must not be released, and what the refusal says."""


@pytest.mark.parametrize("case", REFUSED)
def test_what_must_not_be_released_is_refused_in_one_line_before_any_work(clone: Clone, case: str) -> None:
    command, reason = REFUSED[case]
    clone.shell(command)
    done = clone.release()
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode != 0 and line.startswith("make release: ") and reason in line
    assert not clone.calls.read_text() and clone.built() == {"release/older"}


@pytest.mark.parametrize("meanwhile", ["echo >> Makefile", "git checkout --quiet --orphan other", "touch new"])
def test_a_clone_that_changes_while_it_is_tested_is_not_released(clone: Clone, meanwhile: str) -> None:
    done = clone.release(MEANWHILE=meanwhile)
    assert done.returncode != 0 and "make release: " in done.stderr and "Traceback" not in done.stderr
    assert not any(path.startswith("release") for path in clone.built())
