"""The rooms of ARCHITECTURE.md: imports point one way, and retired names stay away."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "covlab"
SOURCES = sorted(
    path for folder in ("covlab", "benchmarks", "figures", "lessons", "tests") for path in (ROOT / folder).rglob("*.py")
)

ORDER = (
    {"arguments", "durable_files", "junit", "markup", "seams"},
    {"tensor_arguments"},
    {"scenes"},
    {"networks"},
    {"training"},
    {"metrics"},
    {"estimators", "faults", "plots"},
    {"course"},
    {"widgets", "watch"},
    {"cli"},
)
"""Rooms, and files that are no room's: each may import those before it, itself, and nothing else of covlab."""

LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

RETIRED_FILES = {
    *{
        "aside",
        "auditor",
        "bands",
        "conditioning",
        "configuration",
        "convictions",
        "machine",
        "memory",
        "page",
        "probe",
    },
    *{"sight", "site", "solved", "stage", "weights", "whole"},
}
RETIRED_NAMES = {
    *{
        "Chart",
        "Clipped",
        "Conditioning",
        "Enough",
        "FOLLOWS",
        "Held",
        "Last",
        "Led",
        "Logged",
        "Look",
        "Modes",
        "Moving",
    },
    *{"Scheduled", "Shares", "Sight", "Site", "SiteError", "Span", "Streaks", "Twins", "Unseen", "Watched"},
    *{"account", "add_up", "begin_alike", "believed_site", "bring_in", "build_site", "check_site", "condition"},
    *{"convicted", "convicting", "convicts", "imagined", "innocent", "look", "look_at_machine", "looks", "movement"},
    *{"place", "places", "sight", "sites", "stage", "twin", "twin_of", "twins", "uncompiled", "withdraw"},
}
"""Names that had several meanings or said nothing, each replaced by the field's own noun."""

RETIRED_IN = {"covlab/": {"unseen"}, "covlab/faults/case.py": {"M", "N"}}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Rooms of covlab that a file imports, at its top or within a function."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (module.split(".")[1] for module in modules if module.startswith("covlab."))


def defined(tree: ast.Module) -> Iterator[str]:
    """Names of classes, functions and parameters, and those assigned in a module or a class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            taken = node.args
            yield from (
                each.arg
                for each in [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
                if each is not None
            )
        if isinstance(node, ast.Module | ast.ClassDef):
            for statement in node.body:
                targets = statement.targets if isinstance(statement, ast.Assign) else []
                targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
                yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    room, rooms = room_of(path), set(imported(path))
    if room == "__init__":
        assert not rooms & set(LEVEL)
    elif room == "watch":
        assert rooms <= {"watch", "junit"}
    elif room != "__main__":
        assert not {other for other in rooms if other != room and LEVEL.get(other, -1) >= LEVEL[room]}


def test_every_room_has_its_level_and_its_line() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms == set(LEVEL)
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert all(room in text for room in rooms)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_retired_names_stay_away(path: Path) -> None:
    here = path.relative_to(ROOT).as_posix()
    retired = RETIRED_NAMES.union(*(names for start, names in RETIRED_IN.items() if here.startswith(start)))
    assert not retired.intersection(defined(parsed(path)))
    if path.is_relative_to(PACKAGE):
        assert not RETIRED_FILES.intersection(path.relative_to(PACKAGE).with_suffix("").parts)


def test_no_two_files_and_no_two_classes_of_the_package_share_a_name() -> None:
    files = [path.stem for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__")]
    trees = [parsed(path) for path in PACKAGE.rglob("*.py")]
    classes = [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    classes = [name for name in classes if name != "WatchCallback"]  # one for each framework
    for names in (files, classes):
        assert [name for name, count in Counter(names).items() if count > 1] == []
