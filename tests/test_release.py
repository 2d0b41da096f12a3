"""`make release` refuses in one line what must not be released, and leaves all of a release or nothing."""

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
echo "$call" >> "$CALLS"
[ "$(wc -l < "$CALLS")" -ne "${FAIL:-0}" ] || exit 7
case "$call" in
    "python -m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "python -m build "*) while [ "$1" != --outdir ]; do shift; done
        cp "$3/pyproject.toml" "$2/covlab-1.2.3.tar.gz" && ls -A "$3" > "$2/covlab-1.2.3-py3-none-any.whl" ;;
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
        for name in ("python", "covlab", "ruff", "mypy"):
            self.write(f".venv/bin/{name}", TOOL).chmod(0o755)
        self.shell(f"git init --quiet && {COMMIT}")
        self.write(".venv/installed", "")  # younger than the lock: nothing is installed

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def shell(self, command: str) -> None:
        subprocess.run(command, shell=True, cwd=self.folder, check=True, env=environment())

    def release(self, **variables: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        (self.folder / "build" / "release").mkdir(parents=True, exist_ok=True)
        self.write("build/release/older", "")
        return subprocess.run(
            ["make", "--no-print-directory", "release"],
            cwd=self.folder,
            env=environment() | {"CALLS": str(self.calls)} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def built(self) -> set[str]:
        folder = self.folder / "build"
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def environment() -> dict[str, str]:
    """Return this process's environment without a make above this one, and without settings of git from elsewhere."""
    git = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "GIT_"))}
    return inherited | git | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "a clone, for Zoë")


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


COMMIT = "git add --all && git commit --quiet --message changed"
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
