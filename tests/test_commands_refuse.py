"""Every option and argument of every command refuses bad values: exit 2, two lines, no traceback, nothing written."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner, Result
from toys import EXERCISE, SOLUTION, TITLE, write_lesson

import covlab.course.runner
import covlab.training.study
from covlab.cli.main import main
from covlab.cli.options import Device, ExistingPath, Number, OutputFile, OutputFolder, Text
from covlab.training.trainer import Trainer

LONG, DEEP = "x" * 5000, "x/" * 3000
WORDS = ["", "word", "nan", "inf", "-inf", "None", "1,5", "0x10", "[1]", "1e400", "\0", LONG, "9" * 5000]
WORDS += ["-1", "0", "1.5", "1e300", "-1e300", str(10**30), str(-(10**30)), "16", "99999999999", "1e-400", "--", "²"]
PATHS = ["", "\0", "folder\0x", "x" * 300, DEEP, "file/below", "loop"]

OF_FLAGS = ["=yes", "=0", "="]
KINDS: dict[type[click.ParamType], list[str]] = {
    Number: WORDS,  # without those that are allowed
    click.Choice: ["", "word", "nan", "0", "-1", " ", "\0", "STUDENT", "student ", "x" * 300],
    Text: ["", "\0", LONG, "a\0b", "\0" * 3],
    Device: ["", "abacus", "cuda:99", "cpu:1", "meta", "\0", "-1", "CPU", "cuda:", "mps", LONG, "nan"],
    ExistingPath: [*PATHS, "missing", "missing/below"],
    OutputFolder: [*PATHS, "file", "readonly", "readonly/below"],
    OutputFile: [*PATHS, "folder", "missing/below", "readonly/below", "file/"],
}
"""Bad values of each type of option. A type that is not listed has no cases, and the test fails."""

CONTEXT = {
    "bench": ["simulator"],
    "tune": ["--study", "s", "--trials", "1"],
    "course grade": ["folder"],
    "course reset": ["12"],
    "faults show": ["missing_division"],
}
"""What the other options of a command need to be valid."""

SECRET = "Pa55/w0rd"
STORAGES = [
    *("nonsense", "redis://x", "sqlite:///folder", "sqlite:///missing/studies.db", "sqlite:///file", "sqlite://"),
    *(f"mysql+mysqldb://u:{SECRET}@h/d", f"postgresql://u:{SECRET}@h:port/d", f"nonsense://h/d?password={SECRET}"),
]
WEIGHTS = ["", "lam_gap", "lam_gap=", "=1", "lam_x=1", "lam_gap=nan", "lam_gap=inf", "lam_gap=-1", "lam_gap=1e39"]
SEARCHES = ["", "lam_gap", "lam_gap=", "=1:2", "lam_x=1:2", "lam_gap=nan", "lam_gap=0:inf", "lam_gap=2:1", "lam_gap=-1"]
SEARCHES += ["width=1.5", "width=0", "width=99999999", "learning_rate=1e39", "lam_cov=0", "lam_gap=1:2:3", "a=\0"]

SPECIAL: dict[tuple[str, str], list[list[str]]] = {
    ("train", "--weight"): [
        *(["--weight", value] for value in [*WEIGHTS, "lam_cov=0", "lam_cov=100", "lam_gap=1e400", "lam_gap=\0"]),
        ["--weight", "lam_gap=0", "--weight", "lam_gap=1"],
        ["--weight", "lam_gap=0", "--study", "s"],
    ],
    ("train", "--minutes"): [["--minutes", "1", "--windows", "2"]],
    ("train", "--previous"): [["--previous"]],
    ("train", "--nmse-only"): [["--nmse-only", "--study", "s"]],
    ("train", "--network"): [["--network", "unrolled", "--study", "s"]],
    ("train", "--learning-rate"): [["--learning-rate", "1", "--study", "s"]],
    ("train", "--study"): [["--study", "unknown"], ["--study", "s", "--resume", "folder"]],
    ("train", "--storage"): [
        *(["--study", "s", "--storage", value] for value in [*STORAGES, "sqlite:///new.db"]),
        ["--storage", "sqlite:///x.db"],
    ],
    ("train", "--folder"): [["--folder", "run"], ["--folder", "new", "--resume", "folder"]],
    ("train", "--resume"): [["--resume", "folder"], ["--resume", "file"]],
    ("tune", "--study"): [["--study", "s", "--study", ""]],
    ("tune", "--storage"): [["--storage", value] for value in STORAGES],
    ("tune", "--search"): [
        *(["--search", value] for value in SEARCHES),
        ["--search", "lam_gap=0", "--search", "lam_gap=1"],
    ],
    ("course run", "--parameter"): [
        *(
            ["-p", "seed", value]
            for value in ("", "nan", "-1", "1.5", "word", "1e400", str(2**63), "{[]: 1}", "[" * 999)
        ),
        *(["-p", name, "0"] for name in ("", "word", "\0", "nan")),
        ["-p", "seed", "1", "-p", "seed", "2"],
        ["-p", "seed"],
        ["-p", "profile", "tpu"],
    ],
    **{(f"course {name}", "--only"): [["--only", "99"], ["--only", "nan"]] for name in ("run", "check")},
    **{(f"course {name}", "more"): [["99"], ["12", "nan"]] for name in ("run", "check")},
    ("course grade", "folder"): [["folder"], ["run"]],
    ("course reset", "lesson"): [["99"], ["nan"]],
    ("faults show", "name"): [[value] for value in ("", "word", "\0", "nan", LONG, "missing_division ")],
    ("demo scaling-bug", "--reveal"): [["--reveal"]],
    ("demo scaling-bug", "--mystery"): [["--mystery", "1", "--fault", "missing_division"]],
    ("env", "--lock"): [["--lock", "folder"], ["--lock", "binary"], ["--lock", "not_a_lock"]],
    ("bench", "name"): [["word"], ["nan"], ["trainer.py"]],
    ("bench", "arguments"): [
        ["simulator", *case]
        for case in (["--batch", "nan"], ["--batch", ""], ["--rounds", "1.5"], ["--rounds"], ["--word"], ["word"])
    ],
    ("watch", "arguments"): [
        *([[]]),
        *([script] for script in ("", "missing.py", "folder", "x" * 300)),
        *(["--steps", value, "script.py"] for value in ("nan", "0", "-1", "1.5", "")),
        *(
            [option, path, "script.py"]
            for option in ("--junit", "--json", "--ledger")
            for path in ("missing/x", "folder")
        ),
        *(["--fail-on", value, "script.py"] for value in ("", "word")),
    ],
}
"""Bad values that the type of an option does not show, and contradictions with other options."""

NO_TYPE = {("train", "--weight"), ("course run", "--parameter"), ("tune", "--search"), ("faults show", "name")}
NO_TYPE |= {("bench", "arguments"), ("watch", "arguments")}
"""Parameters whose cases are all special."""


def parameters(command: click.Command = main, *path: str) -> Iterator[tuple[str, click.Parameter]]:
    """Yield ("course run", parameter) for every parameter of every command."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from parameters(below, *path, name)
    for parameter in command.params:
        yield " ".join(path), parameter


def label(parameter: click.Parameter) -> str:
    return parameter.opts[0]


def cases(command: str, parameter: click.Parameter) -> list[list[str]]:
    """The bad command lines of a parameter, without the name of the command."""
    special = SPECIAL.get((command, label(parameter)), [])
    others = CONTEXT.get(command, [])
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return [
            *([f"{label(parameter)}{value}", *others] for value in OF_FLAGS),
            *([*case, *others] for case in special),
        ]
    values: list[str] = []
    if (command, label(parameter)) not in NO_TYPE:
        kind = parameter.type
        values = KINDS[type(kind)]
        if isinstance(kind, Number):
            values = [value for value in values if not allowed(kind, value)]
        if type(kind) is ExistingPath:
            values = [*values, "folder" if not kind.dir_okay else "file"]
    if isinstance(parameter, click.Argument):
        return [*([value] for value in values), *special]
    ours = [[label(parameter), value] for value in values]
    if label(parameter) == "--storage" and command == "train":
        ours = [["--study", "s", *case] for case in ours]
    return [[*others, *case] for case in (*ours, *special)]


def allowed(kind: Number, value: str) -> bool:
    try:
        return kind.allowed.accepts(kind.kind(value))
    except (ValueError, OverflowError):
        return False


PARAMETERS = list(parameters())


class Began(Exception):
    """A command began its work with a bad value."""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a small clone, a run, and things that are in the way; no command can begin its work."""
    monkeypatch.chdir(tmp_path)
    write_lesson(tmp_path, "12_a", TITLE, EXERCISE, SOLUTION)
    (tmp_path / "lessons" / "claims.toml").touch()
    for name in ("folder", "readonly", "run", "notebooks"):
        (tmp_path / name).mkdir()
    (tmp_path / "notebooks" / "12_a.ipynb").touch()
    (tmp_path / "run" / "last.pt").touch()
    (tmp_path / "file").write_text("no database, no folder")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "not_a_lock").write_text("a==b==c\n")
    (tmp_path / "script.py").write_text("raise SystemExit(7)\n")
    (tmp_path / "loop").symlink_to("loop")
    access = os.access

    def refuse_readonly(path: Path, mode: int) -> bool:
        return access(path, mode) and not (mode & os.W_OK and Path(path).name == "readonly")

    monkeypatch.setattr(os, "access", refuse_readonly)

    def begin(*args: object, **kwargs: object) -> NoReturn:
        raise Began

    for owner, name in (
        *((Trainer, "__init__"), (os, "execv"), (covlab.course.runner, "run_all"), (covlab.training.study, "work")),
        *(("covlab.faults.matrix", "measure_matrix"), ("covlab.widgets.dashboard", "serve"), (os, "_exit")),
    ):
        monkeypatch.setattr(f"{owner}.{name}", begin) if isinstance(owner, str) else monkeypatch.setattr(
            owner, name, begin
        )
    monkeypatch.setattr(covlab.training.study.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(sys, "argv", ["covlab"])
    return tmp_path


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


ALLOWED = re.compile(
    r"must (be|name)|is not one of|does not (exist|take)|is a (file|directory)|goes with|not both|leave out|already|"
    r"there (is no|are)|no lesson|no such|requires|unrecognized|invalid|expected|has no study|cannot be opened|"
    r"needs a |are required"
)


@pytest.mark.parametrize(
    "command, parameter", PARAMETERS, ids=[f"{command} {label(parameter)}".strip() for command, parameter in PARAMETERS]
)
def test_bad_values_are_refused(command: str, parameter: click.Parameter, clone: Path) -> None:
    found = cases(command, parameter)
    flag = isinstance(parameter, click.Option) and parameter.is_flag
    assert len(found) >= (3 if flag else 5)
    before, accepted = listing(clone), {}
    for case in found:
        result = CliRunner().invoke(main, [*command.split(), *case])
        if wrong := complaint(parameter, result) or ("something was written" if listing(clone) != before else ""):
            accepted[" ".join(case)[:60]] = f"{wrong}: exit {result.exit_code}, {result.exception!r}, {result.output}"
    assert not accepted


def complaint(parameter: click.Parameter, result: Result) -> str:
    """Say what is wrong with a refusal; empty if nothing is."""
    error = result.stderr.rpartition("rror: ")[2].strip()
    if result.exit_code != 2 or not isinstance(result.exception, SystemExit) or result.stdout:
        return "not refused"
    if not 1 <= len(error.splitlines()) <= 2 or len(error) > 2000:
        return "not one or two lines"
    if SECRET in result.output:
        return "a password is shown"
    if not ALLOWED.search(error):
        return "what is allowed is not said"
    named = [name.strip("-").replace("-", "_") for name in names(parameter)]
    if not any(name.lower() in error.lower().replace("-", "_") for name in named):
        return "the option is not named"
    return ""


def names(parameter: click.Parameter) -> list[str]:
    return [*parameter.opts, *({"more": ["NN", "lesson"], "arguments": ["", "script"]}.get(label(parameter), []))]
