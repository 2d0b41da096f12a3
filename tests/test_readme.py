"""README and the pages it leads to are correct: commands and links exist, examples run, and numbers were measured."""

import csv
import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from markdown_it import MarkdownIt
from small_training import LOOPS

from covlab.cli.main import main
from covlab.faults import FAULTS
from covlab.plots.watch_results import counts_by_group
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
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
README, WATCH, FAULT, TRAINING, BENCHMARKS = (
    TEXTS[name] for name in ("README.md", "docs/watch.md", "docs/faults.md", "docs/training.md", "benchmarks/README.md")
)
LINKED = [
    *PAGES,
    *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md", "TEACHING.md", "lessons/README.md")),
]

# Words of the course's own problem, which nobody needs before lesson 01.
RADIO = re.compile(
    r"antenna|array|beam|channel|code ?book|covariance|cram[ée]r|decibel|estimat|likelihood|\bMUSIC\b|NMSE|near.field"
    r"|radio|receiver|\bRIS\b|scenes?\b|\bSNR\b|snapshot|steering|surface",
    re.IGNORECASE,
)

LINES = [
    line.partition(" #")[0].strip()
    for text in TEXTS.values()
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE)
]
QUOTED = [quoted for text in TEXTS.values() for quoted in re.findall(r"`([^`\n]*)`", text)]
COMMANDS = {line[line.index("covlab ") + 7 :] for line in LINES + QUOTED if re.search(r"(^|-m )covlab [a-z]", line)}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_exists_with_its_options(command: str) -> None:
    words = shlex.split(command)
    path = [word for word in words if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
    for depth in range(len(path), 0, -1):
        shown = CliRunner().invoke(main, [*path[:depth], "--help"])
        if shown.exit_code == 0:
            break
    assert shown.exit_code == 0, shown.output
    options = [word for word in words if word.startswith("--")]
    if path[:1] == ["bench"] and len(path) > 1:  # its options are those of the benchmark's file
        text = (ROOT / "benchmarks" / f"{path[1]}.py").read_text()
        assert [option for option in options if option not in text and option not in shown.output] == []
    else:
        assert [option for option in options if option not in shown.output] == []


def test_make_targets_exist() -> None:
    named = {line.split()[1] for line in LINES + QUOTED if re.match(r"make [a-z]", line)}
    makefile = (ROOT / "Makefile").read_text()
    assert named and all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_pictures_exist_and_are_described() -> None:
    for page, text in zip(PAGES, TEXTS.values(), strict=True):
        for alt, path in re.findall(r"!\[(.*?)\]\((.*?)\)", text, re.DOTALL):
            assert alt.strip() and (page.parent / path).is_file(), path
    shown = {path.rpartition("/")[2] for text in TEXTS.values() for path in re.findall(r"\]\((.*?\.png)\)", text)}
    assert shown <= {path.name for path in (ROOT / "figures").glob("*.png")}
    assert "dashboard.png" in README


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def anchors(markdown: str) -> set[str]:
    """Return the anchors that code hosts and the site give the headings of a page."""
    tokens = MarkdownIt().parse(markdown)
    titles = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_readme_is_short_and_needs_no_radio() -> None:
    assert len(README.splitlines()) <= 150
    table = re.findall(r"^\| \d\d \|.*$", README, re.MULTILINE)
    links = re.sub(r"\]\([^)]*\)|<[^>]*>", "", README)
    assert [word for line in links.splitlines() if line not in table for word in RADIO.findall(line)] == []


def test_the_placeholder_of_the_address_is_explained() -> None:
    [address] = re.findall(r"git clone (\S+)", README)
    assert address.startswith("<") and f"in place of\n`{address}`" in README.replace(" `<", "\n`<")


def test_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = re.findall(r"```python\n(.*?)```", TRAINING, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    small, changes = re.subn(
        r"windows=1500|micro_batches=400|draw\(1024", lambda found: re.sub(r"\d+", "4", found[0]), code
    )
    assert changes == 4
    names: dict[str, Any] = {}
    exec(small, names)
    assert len(names["run"].ledger.columns()["gradient_norm"]) == 4
    assert (names["run"].faults, names["buggy"].faults) == ((), ("missing_division",))


def test_the_watch_in_ones_own_code_prints_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"```python\n(.*?)```", WATCH, re.DOTALL)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        model(torch.ones(3, 2)).mean().backward()
        optimizer.step()

    exec(code, {"model": model, "optimizer": optimizer, "train": train})
    assert capsys.readouterr().out.startswith("covlab.watch: nothing found; watched 1 step")


def test_estimator_numbers_are_those_measured() -> None:
    number = r"(-?[\d.]+)"
    table = re.findall(
        rf"^\| `(\w+)` \| {number} \| {number} \| {number} \({number} to {number}\) \| {number} against {number} \|",
        BENCHMARKS,
        re.MULTILINE,
    )
    assert [preset for preset, *_ in table] == list(PRESETS)
    for preset, *shown in table:
        rows = {
            row["name"]: row
            for row in json.loads((ROOT / f"benchmarks/results/estimators_{preset}.json").read_text())["rows"]
        }
        network, rival = rows["unrolled network"], rows["grid ML, refined"]
        assert network["scenes"] == rival["scenes"] == 4096
        assert shown == [
            f"{network['mean']:.3f}",
            f"{rival['mean']:.3f}",
            *(f"{number:.3f}" for number in (rival["excess"]["mean"], *rival["excess"]["mean_95"])),
            f"{network['milliseconds']:.1f}",
            f"{rival['milliseconds']:.0f}",
        ]
        assert all(one["mean"] < other["mean"] for one, other in zip(network["by_snr"], rival["by_snr"], strict=True))
        assert rival["excess"]["mean_95"][0] > 0 > rows["genie"]["excess"]["mean_95"][1]
        assert all(
            row["excess"]["mean"] >= rival["excess"]["mean"]
            for row in rows.values()
            if "excess" in row and row is not rows["genie"]
        )
    finer = rows["grid ML, half the step"]
    said = " ".join(BENCHMARKS.split())
    assert f"ends at {finer['mean']:.3f} (on {finer['scenes']} scenes)" in said
    assert rival["mean"] == min(row["mean"] for row in rows.values() if row not in (network, rows["genie"]))
    assert f"takes {WORDS[round(finer['milliseconds'] / rival['milliseconds'])]} times as long" in said
    assert f"{WORDS[len(rows)]} estimators" in said


def test_numbers_of_the_limit_are_those_measured() -> None:
    measured = json.loads((ROOT / "benchmarks/results/limit.json").read_text())
    for preset, row in measured.items():
        scores = (row[score] for score in ("limit", "reached", "network", "gap"))
        shown = " | ".join(f"{score['mean']:.3f} ± {score['error']:.3f}" for score in scores)
        assert f"| `{preset}` | {row['scenes']} | {shown} |" in BENCHMARKS
    table = re.findall(r"^\| `(\w+)` \|.*±.*±.*±.*±", BENCHMARKS, re.MULTILINE)
    assert sorted(table) == sorted(measured)
    bins = [(preset, row) for preset in measured for row in measured[preset]["by_snr"]]
    for preset, row in bins:
        scores = (row[score] for score in ("limit", "reached", "network", "gap"))
        shown = " | ".join(f"{score['mean']:.3f} ± {score['error']:.3f}" for score in scores)
        where = f"`{preset}`, {row['low_db']:g} to {row['high_db']:g} dB"
        assert f"| {where} | {row['scenes']} | {shown} |" in BENCHMARKS
    above = sum(row["network"]["mean"] > row["limit"]["mean"] for _, row in bins)
    said = " ".join(BENCHMARKS.split())
    assert f"In {WORDS[above]} of {WORDS[len(bins)]} bins, the limit lies below the unrolled network" in said
    overlapping = sum(
        0 < row["network"]["mean"] - row["limit"]["mean"] < row["network"]["error"] + row["limit"]["error"]
        for _, row in bins
    )
    assert f"in {WORDS[overlapping]} of these the error bars overlap" in said
    apart = {preset: f"{row['between_runs']['mean']:.4f}" for preset, row in measured.items()}
    assert f"At `full`, the estimates of the two runs of the sampler still differ by an NMSE of {apart['full']}" in said
    assert f"At `student`, this difference is {apart['student']}" in said
    for preset in measured:
        gap, reached = measured[preset]["gap"], measured[preset]["reached"]["mean"]
        assert f"{100 * gap['mean'] / reached:.0f} ± {100 * gap['error'] / reached:.0f} % at `{preset}`" in said
    differences = [
        (f"{row['low_db']:g} to {row['high_db']:g} dB at `{preset}`", row["reached_less_limit"]) for preset, row in bins
    ]
    far = [(where, off) for where, off in differences if abs(off["mean"] / off["error"]) >= 2]
    assert f"In {WORDS[len(bins) - len(far)]} of these {WORDS[len(bins)]} rows" in said
    for where, off in far:
        distance = f"{abs(off['mean']):.3f} ± {off['error']:.3f} {'less' if off['mean'] < 0 else 'more'}"
        errors = f"{abs(off['mean'] / off['error']):.1f} standard errors"
        assert f"From {where}, the estimate reached {distance} ({errors})." in said
    overall = measured["near_field"]["reached_less_limit"]
    assert f"the estimate reached {-overall['mean']:.3f} ± {overall['error']:.3f} less" in said


def test_lesson_8_quotes_the_limit_as_measured() -> None:
    lesson = (ROOT / "lessons/08_training_for_real.py").read_text()
    rows = json.loads((ROOT / "benchmarks/results/limit.json").read_text())["student"]["by_snr"]
    expected = [
        f"# | {row['low_db']:g} to {row['high_db']:g} | "
        + " | ".join(f"{row[score]['mean']:.3f} ± {row[score]['error']:.3f}" for score in ("limit", "network", "gap"))
        + " |"
        for row in rows
    ]
    assert re.findall(r"^# \|.*±.*", lesson, re.MULTILINE) == expected
    # What the text says about the table.
    assert max(rows, key=lambda row: row["gap"]["mean"]) is rows[0]
    assert all(row["network"]["mean"] > row["limit"]["mean"] > row["network"]["mean"] / 2 for row in rows)
    resolved = [row["gap"]["mean"] > 1.96 * row["gap"]["error"] for row in rows]
    assert resolved == [True] * (len(rows) - 1) + [False]


def test_the_page_of_benchmarks_names_each() -> None:
    named = re.findall(r"^\| `(\w+)` \|.*\|.*\|$", BENCHMARKS.partition("## Estimators")[0], re.MULTILINE)
    assert sorted(named) == sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


RESULTS = json.loads((ROOT / "benchmarks/results/watch.json").read_text())  # of the watch and its peers


@pytest.mark.parametrize("text", [README, WATCH], ids=["README", "docs/watch.md"])
def test_numbers_of_watch_and_its_peers_are_those_measured(text: str) -> None:
    counts = counts_by_group(RESULTS["loops"])["all"]
    said = " ".join(text.split())
    [alternative] = re.findall(r"!\[([^]]*)\]\((?:\.\./)?figures/watch_peers\.png\)", said)
    assert f"Bugs found of {counts['bugs']}, and correct loops with a warning of {counts['correct']}: " in alternative
    shown = {
        tool: (int(found), int(alarms)) for tool, found, alarms in re.findall(r"(\S+) (\d+) and (\d+)", alternative)
    }
    assert shown == {tool: (counts["found"][tool], counts["alarms"][tool]) for tool in counts["found"]}
    assert f"the right verdict, code and line for {counts['named']} of the {counts['bugs']}" in alternative
    assert text is WATCH or f"under {WORDS[len(shown)]} tools" in said


def test_the_page_of_the_watch_names_every_bug_of_the_run_that_it_misses() -> None:
    section = " ".join(WATCH.partition("### What the watch misses")[2].partition("\n## ")[0].split())
    missed = {row["file"]: row["group"] for row in RESULTS["loops"] if row["bug"] and not row["named"]}
    reports = [row for row in RESULTS["loops"] if row["bug"] and row["group"] == "public reports"]
    with (LOOPS / "table.tsv").open(newline="") as file:
        slow = [row for row in csv.DictReader(file, delimiter="\t") if row["tier"] == "slow"]
    reported = [
        row
        for row in slow
        if (LOOPS / f"{row['file']}.py").read_text().startswith("# source: ") and not row["file"].endswith("_healthy")
    ]
    missed |= {row["file"]: "public reports" for row in reported if row["verdict"] in ("quiet", "none")}
    table = re.findall(r"\| `(\w+)` \|", section)
    assert sorted(table) == sorted(file for file, group in missed.items() if group == "public reports")
    assert set(re.findall(r"`(\w+)`", section)) == missed.keys()
    named = [sum(row["named"] for row in reports), sum(row["verdict"] not in ("quiet", "none") for row in reported)]
    assert f"{len(reports) + len(reported)} loops reproduce public reports" in section
    assert f"names {sum(named)} of them" in section
    assert f"{named[0]} in this run, and {WORDS[named[1]]} in the slow tests" in section
    assert f"does not name these {WORDS[len(table)]}:" in section
    assert f"{WORDS[len(missed) - len(table)].capitalize()} more loops of the run" in section


def test_the_page_of_the_watch_says_how_its_peers_fared() -> None:
    said = " ".join(WATCH.partition("## Compared with other tools")[2].partition("\n### ")[0].split())
    assert not any(row["new"]["covlab.watch"] for row in RESULTS["loops"] if not row["bug"])
    failed = Counter(
        tool
        for row in RESULTS["loops"]
        for tool, messages in row["says"].items()
        if any(message.startswith("failed") for message in messages)
    )
    assert failed.keys() == {"torcheck", "torchtest2"}
    assert f"torcheck cannot run {WORDS[failed['torcheck']]} of the loops" in said
    assert f"torchtest2 cannot run {WORDS[failed['torchtest2']]}." in said
    for tool, message in (("torchmortem", "Dead units"), ("torchtest2", "overfit_batch"), ("trainproof", "TP-DIVERGE")):
        alarms = [row["new"][tool] for row in RESULTS["loops"] if not row["bug"] and row["new"][tool]]
        assert f"most of {tool}'s" in said and sum(message in one for one in alarms) > len(alarms) / 2
    assert all(tool in said for tool in RESULTS["versions"] if tool != "torch")
    assert all(f"{tool.split()[0]} was not run" in said for tool in RESULTS["not_run"])


def test_numbers_of_the_watch_cost_are_those_measured() -> None:
    said = " ".join(WATCH.split())
    assert all(f"{row['ratio']:.2f} times" in said for row in RESULTS["cost"])
    low, high = min(row["low"] for row in RESULTS["cost"]), max(row["high"] for row in RESULTS["cost"])
    assert f"single comparisons lay between {low:.2f} and {high:.2f}" in said
    then, now = RESULTS["measured"]["cost"]["invariants"], len(TITLES)
    if then < now:  # the text says which invariants the numbers leave out
        assert f"When the watch checked {WORDS[then]} invariants" in said
        assert f"The {WORDS[now - then]} later invariants" in said


def test_the_report_in_readme_is_that_of_the_guide() -> None:
    [report] = re.findall(r"```console\n\$ python -m covlab\.watch train\.py\n(.*?)```", README, re.DOTALL)
    assert report.startswith("✗ FAULT   W01") and report in WATCH


def test_counts_are_those_of_the_code() -> None:
    readme, faults, watch = (" ".join(text.lower().split()) for text in (README, FAULT, WATCH))
    assert f"{WORDS[len(FAULTS)]} bugs that raise no exception" in readme
    assert f"{WORDS[len(FAULTS)]} bugs that raise no exception" in faults
    assert f"a row for each of {WORDS[len(FAULTS)]} bugs" in faults
    assert all(f"{WORDS[len(TITLES)]} invariants are checked" in text for text in (readme, watch))
    with (LOOPS / "table.tsv").open(newline="") as file:
        verdicts = Counter(row["verdict"] for row in csv.DictReader(file, delimiter="\t"))
    to_find = sum(verdicts.values()) - verdicts["quiet"] - verdicts["none"]
    assert f"{to_find} loops with something to find, and {verdicts['quiet']} correct ones" in watch
    with (ROOT / "tests" / "libraries" / "table.tsv").open(newline="") as file:
        needs = [row["needs"] for row in csv.DictReader(file, delimiter="\t")]
    libraries = {re.match(r"[\w-]+", need)[0] for need in needs}  # type: ignore[index]  # the first, which trains
    assert f"train {len(needs)} loops inside {len(libraries)} libraries" in watch
