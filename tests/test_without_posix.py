"""covlab on a system like Windows, where POSIX is missing: see no_posix/sitecustomize.py."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "covlab").rglob("*.py"))
NO_POSIX = Path(__file__).with_name("no_posix")


def without_posix(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as on Windows, whose pipes take no letter outside its code page."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (NO_POSIX, ROOT))),
        "PYTHONIOENCODING": "cp1252",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="cp1252", check=False)


def text_files_without_an_encoding(tree: ast.AST) -> list[str]:
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        words = [
            each for each in (*call.args, *(word.value for word in call.keywords)) if isinstance(each, ast.Constant)
        ]
        is_binary = any(re.fullmatch("[rwax]?b[+]?|[rwax][+]?b", str(word.value)) for word in words)
        opens = name in ("open", "fdopen") and ast.unparse(function) not in ("os.open", "Image.open")
        if (name in ("read_text", "write_text") or (opens and not is_binary)) and "encoding" not in {
            word.arg for word in call.keywords
        }:
            found.append(ast.unparse(call))
    return found


def test_every_text_file_has_an_encoding_because_that_of_windows_is_not_utf_8() -> None:
    without = {
        path.name: text_files_without_an_encoding(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES
    }
    assert not {name: calls for name, calls in without.items() if calls}
    for code in ("p.read_text()", "p.write_text('x')", "open('x')", "p.open('w')", "os.fdopen(3, 'w')"):
        assert text_files_without_an_encoding(ast.parse(code)) == [code]
    for code in (
        "p.read_text(encoding='utf-8')",
        "open('x', 'rb')",
        "p.open('ab')",
        "os.fdopen(3, 'wb')",
        "os.open('x', 0)",
    ):
        assert not text_files_without_an_encoding(ast.parse(code))


IMPORT_ALL = """
import importlib, pkgutil, sys, covlab

for module in pkgutil.walk_packages(covlab.__path__, "covlab."):
    if not module.name.endswith(("__main__", ".broken_loop", ".huggingface", ".lightning")):  # scripts; not in the lock
        importlib.import_module(module.name)
        print(module.name)
"""


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "import_all.py").write_text(f"__spec__.name = 'covlab.import_all'\n{IMPORT_ALL}")
    done = without_posix("import_all", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"covlab.course.answer_process", "covlab.watch.session", "covlab.cli.train"} <= {*done.stdout.split()}


def test_the_watch_reports_and_explains(tmp_path: Path) -> None:
    watched = without_posix("covlab", "watch", "--demo", folder=tmp_path)
    assert watched.returncode == 1 and "FAULT   W01" in watched.stderr and "Traceback" not in watched.stderr
    explained = without_posix("covlab", "watch", "explain", "W01", folder=tmp_path)
    assert explained.returncode == 0 and "W01" in explained.stdout, explained.stderr


def test_the_end_of_another_rank_is_not_asked_for_by_a_signal(tmp_path: Path) -> None:
    rows = tmp_path / "rank1.jsonl"
    rows.write_text(f'["process", {os.getpid()}]\n', encoding="utf-8")
    (tmp_path / "ask.py").write_text(
        "from pathlib import Path\nfrom covlab.watch.seen.replicas import _is_running\n"
        f"rows = Path({str(rows)!r})\nprint(_is_running(rows))\n"
        "rows.write_text('[\"ended\"]')\nprint(_is_running(rows))\n"
    )
    assert without_posix("ask", folder=tmp_path).stdout.split() == ["True", "False"]


def test_lab_waits_for_jupyterlab(tmp_path: Path) -> None:
    (tmp_path / "jupyterlab.py").write_text("import sys\nprint(*sys.argv[1:])\nsys.exit(7)")
    done = without_posix("covlab", "course", "lab", "--no-browser", folder=tmp_path)
    assert done.returncode == 7 and "--no-browser" in done.stdout and "--allow-root" not in done.stdout, done.stderr
    assert (tmp_path / "work" / "00_start_here.ipynb").exists()


def test_a_run_is_trained_and_resumed(tmp_path: Path) -> None:
    options = ("covlab", "train", "--micro-batch", "4", "--accumulation", "1", "--windows")
    trained = without_posix(*options, "2", "--folder", "run", folder=tmp_path)
    resumed = without_posix("covlab", "train", "--resume", "run", "--windows", "4", folder=tmp_path)
    assert (trained.returncode, resumed.returncode) == (0, 0), trained.stderr + resumed.stderr
    assert len((tmp_path / "run" / "ledger.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    assert not (tmp_path / "run" / ".lock").read_bytes()  # Windows lets nobody write to a locked file


@pytest.mark.slow
def test_a_lesson_runs(tmp_path: Path) -> None:
    done = without_posix("covlab", "course", "run", "--only", "00", folder=tmp_path)
    assert done.returncode == 0 and "1 of 1 lessons passed" in done.stdout, done.stdout + done.stderr
    assert "This system cannot end what a lesson leaves behind" in done.stderr


@pytest.mark.slow
def test_a_class_is_graded(tmp_path: Path) -> None:
    assert without_posix("covlab", "course", "lab", "--prepare", folder=tmp_path).returncode == 0
    (tmp_path / "class" / "ada").mkdir(parents=True)
    (tmp_path / "work").rename(tmp_path / "class" / "ada" / "work")
    done = without_posix("covlab", "course", "grade", "class", folder=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
