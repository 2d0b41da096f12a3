"""README is correct: its commands exist, its example runs, and its numbers were measured."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_training import LOOPS

from covlab.cli.main import main
from covlab.faults import FAULTS
from covlab.scenes.scenario import PRESETS
from covlab.watch import TITLES

UP_TO_TWENTY = """no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty"""
WORDS = dict(enumerate(UP_TO_TWENTY.split()))
WORDS |= {
    tens + units: f"{word}-{WORDS[units]}" if units else word
    for tens, word in ((20, "twenty"), (30, "thirty"), (40, "forty"), (50, "fifty"))
    for units in range(10)
}

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LINES = [
    line.partition(" #")[0].strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE)
]
COMMANDS = {
    line[line.index("covlab ") + 7 :]
    for line in LINES + re.findall(r"`([^`\n]*)`", README)
    if re.search(r"(^|-m )covlab [a-z]", line)
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_exists_with_its_options(command: str) -> None:
    words = shlex.split(command)
    path = [word for word in words if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
    for depth in range(len(path), 0, -1):
        shown = CliRunner().invoke(main, [*path[:depth], "--help"])
        if shown.exit_code == 0:
            break
    assert shown.exit_code == 0, shown.output
    assert [word for word in words if word.startswith("--") and word not in shown.output] == []


def test_make_targets_exist() -> None:
    named = {
        target
        for line in LINES + re.findall(r"`([^`\n]*)`", README)
        if line.startswith("make ")
        for target in [line.split()[1]]
        if "=" not in target
    }
    makefile = (ROOT / "Makefile").read_text()
    assert named and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_pictures_exist_and_are_described() -> None:
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", README, re.DOTALL)
    assert pictures and all(alt.strip() and (ROOT / path).is_file() for alt, path in pictures)


def test_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    small, changes = re.subn(
        r"windows=1500|micro_batches=400|draw\(1024", lambda found: re.sub(r"\d+", "4", found[0]), code
    )
    assert changes == 4
    names: dict[str, Any] = {}
    exec(small, names)
    assert len(names["run"].ledger.columns()["gradient_norm"]) == 4
    assert (names["run"].faults, names["buggy"].faults) == ((), ("missing_division",))


def test_estimator_numbers_are_those_measured() -> None:
    table = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) against (\d+) \|", README, re.MULTILINE)
    assert [preset for preset, *_ in table] == list(PRESETS)
    for preset, *shown in table:
        rows = {
            row["name"]: row
            for row in json.loads((ROOT / f"benchmarks/results/estimators_{preset}.json").read_text())["rows"]
        }
        network, rival = rows["unrolled network"], rows["grid ML, refined"]
        assert network["scenes"] == rival["scenes"] == 1024
        assert shown == [
            f"{network['mean']:.3f}",
            f"{rival['mean']:.3f}",
            f"{network['milliseconds']:.1f}",
            f"{rival['milliseconds']:.0f}",
        ]
        assert all(one["mean"] < other["mean"] for one, other in zip(network["by_snr"], rival["by_snr"], strict=True))
    finer = rows["grid ML, half the step"]
    assert f"ends at {finer['mean']:.3f} (on {finer['scenes']} of the 1,024 scenes)" in README
    assert rival["mean"] == min(row["mean"] for row in rows.values() if row not in (network, rows["genie"]))
    assert f"takes {WORDS[round(finer['milliseconds'] / rival['milliseconds'])]} times as long" in README
    assert f"{WORDS[len(rows)]} estimators" in README


def test_numbers_of_watch_and_its_peers_are_those_measured() -> None:
    loops = json.loads((ROOT / "benchmarks/results/watch.json").read_text())["loops"]
    bugs, correct = [row for row in loops if row["bug"]], [row for row in loops if not row["bug"]]
    found = {tool: sum(bool(row["new"][tool]) for row in bugs) for tool in loops[0]["new"]}
    alarms = {tool: sum(bool(row["new"][tool]) for row in correct) for tool in found}
    said = " ".join(README.split())
    assert (
        f"A table of {len(bugs)} faulty and {WORDS[len(correct)]} correct training loops, and {WORDS[len(found)]} tools"
        in said
    )
    assert (
        f"covlab.watch finds {found['covlab.watch']} of the faults and raises "
        f"{'no false alarm' if not alarms['covlab.watch'] else alarms}"
    ) in said
    for tool in found.keys() - {"covlab.watch"}:
        assert re.search(rf"{tool}( finds)? {WORDS[found[tool]]}\b", said), (tool, found[tool])
    assert f"{WORDS[sum(count > 0 for count in alarms.values())]} of these with a false alarm" in said


def test_counts_are_those_of_the_code() -> None:
    said = README.lower()
    assert (
        f"{WORDS[len(FAULTS)]} bugs that raise no exception" in said
        and f"a row for each of {WORDS[len(FAULTS)]} bugs" in said
    )
    assert f"{WORDS[len(TITLES)]} invariants are checked" in said
    correct, fixed = (len(list(LOOPS.glob(name))) for name in ("correct_*.py", "*_healthy.py"))
    assert f"{WORDS[correct]} kinds of correct loops get no warning" in " ".join(said.split())
    assert f"none of {fixed} loops with a bug once" in " ".join(said.split())
