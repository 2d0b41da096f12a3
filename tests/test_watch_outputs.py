"""Test that the watch's files are valid whatever a report says, and hold all of its findings."""

import json
import math
import re
import subprocess
import sys
from ast import literal_eval
from html import escape
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from small_training import LOOPS, run_loop

from covlab.watch import TITLES, Finding, Report, watch
from covlab.watch.__main__ import DEMO, parse
from covlab.watch.finding import VERDICTS
from covlab.watch.html_report import html_page, write_html
from covlab.watch.invariants import INVARIANTS
from covlab.watch.sarif import LEVELS, sarif_log
from covlab.watch.seen import location
from covlab.watch.seen.location import CodeLocation, LibraryLine

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "docs" / "watch-report.schema.json").read_text(encoding="utf-8"))
STRANGE = (
    "plain",
    "",
    "\x00\x1b[31m\x7f\r\n\t",
    "]]> <b>&amp;</b> \"quoted\" 'so' \\",
    "\ud800 lone \udfff",
    "\uffff\ufffe \U0001f525 ä \u202e",
    "{placeholder} {0}",
    "long " * 100_000,
)
FOLDER = location.STARTED_IN
LOCATIONS = (
    None,
    CodeLocation(f"{FOLDER}/train.py", 3, "f"),
    CodeLocation(f"{FOLDER}/a folder/ä#1%20?.py", 3, "f"),
    CodeLocation("/elsewhere/train.py", 12, "f", LibraryLine("lightning.loop", 5, "/lib/loop.py", "lightning")),
    CodeLocation("/tmp/ipykernel_17/123.py", 2, "f"),
    CodeLocation("<ipython-input-5-abc>", 3, "f"),
    CodeLocation("<stdin>", 1, "f"),
    CodeLocation(f"{FOLDER}/train.py", 0, "f"),
)


def strange_report() -> Report:
    """Return a report with every strange text at every place, every kind of location, and every verdict."""
    codes = ["W00", *TITLES]
    findings = [
        Finding(
            text or "title", codes[n % len(codes)], VERDICTS[n % 3], number, text or "says", text or "fix", where, n
        )
        for n, ((text, where), number) in enumerate(
            zip(product(STRANGE, LOCATIONS), [None, 1.5, math.inf, math.nan] * 16, strict=True)
        )
    ]
    findings[0].follows = [findings[1]]
    findings[0].first, findings[0].last = 1, 9
    unchecked = dict(zip(TITLES, STRANGE, strict=False))
    return Report(findings, unchecked, {"steps": 3}, "\x00ended")


def watched_report() -> Report:
    with watch() as w:
        run_loop("textbook_stale_optimizer_faulty")
    return w.report()


def check_sarif(log: dict[str, Any]) -> None:
    """Check what SARIF 2.1.0 demands of the parts that the watch writes, and what GitHub demands besides."""

    def keys(value: dict[str, Any], required: str, optional: str = "") -> None:
        assert set(required.split()) <= set(value) <= {*required.split(), *optional.split()}, value

    def message(value: dict[str, Any]) -> None:
        keys(value, "text")
        assert isinstance(value["text"], str)

    keys(log, "$schema version runs")
    assert log["version"] == "2.1.0"
    [run] = log["runs"]
    keys(run, "tool invocations originalUriBaseIds columnKind results properties")
    keys(run["tool"], "driver")
    keys(run["tool"]["driver"], "name rules")
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["W00", *TITLES]
    for rule in rules:
        keys(rule, "id name shortDescription fullDescription help")
        assert re.fullmatch(r"([A-Z][a-z]+)+", rule["name"])
        message(rule["shortDescription"])
        message(rule["fullDescription"])
        keys(rule["help"], "text markdown")
        assert len(rule["help"]["text"]) > 200 and len(rule["fullDescription"]["text"]) < 1024
    [invocation] = run["invocations"]
    keys(invocation, "executionSuccessful toolExecutionNotifications")
    for note in invocation["toolExecutionNotifications"]:
        keys(note, "associatedRule level message")
        message(note["message"])
        assert rules[note["associatedRule"]["index"]]["id"] == note["associatedRule"]["id"]
    bases = run["originalUriBaseIds"]
    assert all(base["uri"].startswith("file:///") and base["uri"].endswith("/") for base in bases.values())
    for result in run["results"]:
        keys(result, "ruleId ruleIndex level message locations occurrenceCount partialFingerprints properties")
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note") and result["occurrenceCount"] >= 1
        message(result["message"])
        assert len(result["locations"]) <= 1
        for where in result["locations"]:
            keys(where, "", "physicalLocation logicalLocations message")
            assert ("physicalLocation" in where) != ("logicalLocations" in where)
            if "physicalLocation" not in where:
                assert where["logicalLocations"][0]["name"]
                continue
            keys(where["physicalLocation"], "artifactLocation", "region")
            uri, base = (where["physicalLocation"]["artifactLocation"].get(name) for name in ("uri", "uriBaseId"))
            assert re.fullmatch(r"[\w.~!$&'()*+,;=:@/%-]+", uri, re.ASCII)
            assert (base in bases and not uri.startswith("/")) if base else uri.startswith("file:///")
            assert where["physicalLocation"].get("region", {"startLine": 1})["startLine"] >= 1
        assert set(result["partialFingerprints"]) == {"finding/v1"}


@pytest.mark.parametrize("make", [strange_report, watched_report])
def test_sarif_is_valid_and_has_a_result_for_every_finding(make: Any, tmp_path: Path) -> None:
    report = make()
    log = json.loads(json.dumps(sarif_log(report, "train.py"), allow_nan=False))
    check_sarif(log)
    [run] = log["runs"]
    assert sorted((one["ruleId"], one["level"]) for one in run["results"]) == sorted(
        (one.code, LEVELS[one.verdict]) for one in report.flat
    )
    assert len(run["invocations"][0]["toolExecutionNotifications"]) == len(report.unchecked)
    assert all(result["locations"] for result in run["results"])  # code scanning refuses others
    assert not re.search("[\x00-\x08\ud800-\udfff]", json.dumps(log, ensure_ascii=False))


def test_locations_in_sarif_are_relative_to_the_folder_and_lead_back_to_the_file() -> None:
    results = sarif_log(strange_report())["runs"][0]["results"]
    found = [one["locations"][0]["physicalLocation"] for one in results[1:4]]
    uris = [each["artifactLocation"]["uri"] for each in found]
    assert (
        uris[0] == "train.py" and unquote(uris[1]) == "a folder/ä#1%20?.py" and uris[2] == "file:///elsewhere/train.py"
    )
    assert [each["region"]["startLine"] for each in found] == [3, 3, 12]


def test_a_finding_keeps_its_fingerprint_when_lines_are_added_above(tmp_path: Path) -> None:
    prints = []
    for above in ("", "# one more\n" * 5):
        script = tmp_path / f"{len(above)}" / "train.py"
        script.parent.mkdir()
        script.write_text(above + (LOOPS / "textbook_missing_division_faulty.py").read_text())
        with watch() as w:
            exec(compile(script.read_text(), str(script), "exec"), {"__name__": "train"})
        prints.append([one["partialFingerprints"] for one in sarif_log(w.report())["runs"][0]["results"]])
    assert prints[0] == prints[1] and prints[0]


@pytest.mark.parametrize("make", [strange_report, watched_report])
def test_json_keeps_its_schema(make: Any, tmp_path: Path) -> None:
    report = make()
    report.write_json(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(written, SCHEMA)
    for name in ("version", "worst", "findings"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({key: value for key, value in written.items() if key != name}, SCHEMA)


def test_junit_is_well_formed_whatever_a_report_says(tmp_path: Path) -> None:
    report = strange_report()
    report.title = STRANGE[2]
    report.write_junit(tmp_path / "junit.xml", "warning")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert len(suite) == len(TITLES) + 1 and (tmp_path / "junit.xml").stat().st_size < 20_000_000


def watched(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "covlab.watch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_writes_every_file_that_it_is_asked_for(tmp_path: Path) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("json", "sarif", "junit")}
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    run = watched(*options, str(LOOPS / "textbook_missing_division_faulty.py"))
    assert run.returncode == 1 and "W01" in run.stderr
    jsonschema.validate(json.loads(files["json"].read_text()), SCHEMA)
    log = json.loads(files["sarif"].read_text())
    check_sarif(log)
    [result] = log["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("tests/loops/textbook_missing_division_faulty.py")
    assert ElementTree.parse(files["junit"]).getroot().get("failures") == "1"


def test_the_help_of_a_rule_says_what_its_class_says() -> None:
    rules = sarif_log(Report([], {}, {}))["runs"][0]["tool"]["driver"]["rules"]
    for invariant, rule in zip(INVARIANTS, rules[1:], strict=True):
        text = " ".join(rule["help"]["text"].replace("`", "").split())
        for part in (invariant.meaning, invariant.limits, invariant.example):
            assert " ".join(part.replace("`", "").split()) in text


def test_the_demo_reports_each_of_its_bugs_at_its_line_and_tells_no_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = watched("--demo", "--json", str(tmp_path / "demo.json"))
    assert run.returncode == 1 and "validation loss" in run.stdout
    findings = json.loads((tmp_path / "demo.json").read_text())["findings"]
    assert {(one["code"], one["verdict"]) for one in findings} == {("W01", "fault"), ("W08", "fault"), ("W17", "fault")}
    source = DEMO.read_text(encoding="utf-8").splitlines()
    assert all(one["site"]["code"] == source[one["site"]["line"] - 1].strip() for one in findings)
    for more in (["train.py"], ["-m", "train"]):
        with pytest.raises(SystemExit) as ended:
            parse(["--demo", *more])
        assert ended.value.code == 2 and repr(more[-1]) in capsys.readouterr().err


class _Page(HTMLParser):
    """The elements of a page, which must be closed in the order in which they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def ledger_row(number: int, value: float | None) -> dict[str, Any]:
    told = value if value is None or math.isfinite(value) else str(value)
    seen = {"losses": [told] * 2, "weights": [told] * 2, "loss_scale": None, "gradient_norm": told}
    return {"event": "step", "step": number, "optimizer": 0, **seen, "learning_rates": [told], "tensors_moved": None}


VALUES = {
    "nothing": [],
    "one": [0.5],
    "the same": [2.0] * 9,
    "zeros": [0.0] * 3,
    "negative": [-3.0, -5.0],
    "far apart": [1e-30, 1e30],
    "the largest": [1.7e308, -1.7e308, 5e-324],
    "not finite": [math.nan, math.inf, -math.inf],
    "some not finite": [1.0, math.nan, 2.0, math.inf, 3.0],
    "unknown": [None, None],
    "many": [math.sin(n) for n in range(5000)],
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_a_page_draws_any_values_within_its_pictures_and_tells_them_in_words(values: list[float | None]) -> None:
    text = html_page(
        strange_report() if len(values) < 3 else Report([], {}, {}), [ledger_row(n, v) for n, v in enumerate(values, 1)]
    )
    page = _Page(text)
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    known = [value for value in values if value is not None]
    assert len(pictures) == (4 if known else 0)
    for attributes in pictures:
        label = attributes["aria-label"] or ""
        assert f"steps 1 to {len(values)}" in label and ("NaN" in label) == (not all(map(math.isfinite, known)))
    for tag, attributes in page.elements:
        if tag == "path":
            for x, y in re.findall(r"[ML](\S+) ([-\d.einfa]+)", attributes["d"] or ""):
                assert 0 <= float(x) <= 480 and 0 <= float(y) <= 220
    assert len(values) < 3 or len(text) < 100_000


def test_a_page_loads_nothing_and_has_every_finding(tmp_path: Path) -> None:
    with watch() as w:
        run_loop("textbook_missing_division_faulty")
    report = w.report()
    write_html(report, w.rows, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    elements = _Page(text).elements
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in elements}
    assert not any({"src", "href"} & set(attributes) for _, attributes in elements)
    assert "url(" not in text and "@import" not in text
    for finding in report.flat:
        assert escape(finding.says) in text and finding.code in text
    assert text.index("<article") < text.index("<svg")
    titles = [title for title in ("Loss of each backward", "Learning rate", "Loss scale") if f">{title}<" in text]
    assert titles == ["Loss of each backward", "Learning rate"]  # there was no scaler


def test_the_job_and_the_action_for_ci_use_options_that_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (ROOT / "docs" / "watch-in-ci.md").read_text(encoding="utf-8")
    action = (ROOT / ".github" / "actions" / "watch" / "action.yml").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        parse(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    [command] = re.findall(r"-m covlab\.watch(.*?)\w+\.py", guide, re.DOTALL)
    for options in (re.findall(r"--[a-z-]+", command), re.findall(r'"(--[a-z-]+)"', action)):
        assert {"--steps", "--sarif"} <= set(options) <= known
    assert set(re.findall(r"`(--[a-z-]+) FILE`", guide)) <= known
    job = yaml.safe_load(re.findall(r"```yaml\n(name:.*?)```", guide, re.DOTALL)[0])
    runs = [step["run"] for step in job["jobs"]["watch"]["steps"] if "run" in step]
    [run] = [run for run in runs if "covlab.watch" in run]
    assert "\n" not in run.strip() and "train.py --epochs 1" in run
    assert yaml.safe_load(action)["runs"]["using"] == "composite"


STEMS = {"sarif": "sarif", "json": "json", "junit": "xml", "html": "html"}
ACTION = {
    "a script": ({}, ["train.py"], "r"),
    "arguments": ({"SCRIPT": "train.py --epochs 1"}, ["train.py", "--epochs", "1"], "r"),
    "quotes": ({"SCRIPT": "'my train.py' \"two words\" ''"}, ["my train.py", "two words", ""], "r"),
    "lines": ({"SCRIPT": "train.py\n  --epochs 1\n"}, ["train.py", "--epochs", "1"], "r"),
    "a module": ({"SCRIPT": "-m train --epochs 1"}, ["-m", "train", "--epochs", "1"], "r"),
    "what a shell would run": ({"SCRIPT": "train.py; $(touch pwned) `touch pwned`"}, ["`touch", "pwned`"], "r"),
    "a folder with a space": ({"REPORT": "my report"}, ["train.py"], "my report"),
    "no folder": ({"REPORT": ""}, ["train.py"], "watch-report"),
    "nothing chosen": ({"STEPS": "", "FAIL_ON": ""}, ["train.py"], "r"),
    "no script": ({"SCRIPT": ""}, [], "r"),
}


@pytest.mark.parametrize("name", ACTION)
def test_the_action_gives_every_input_to_the_watch_as_it_is(name: str, tmp_path: Path) -> None:
    inputs, ends, folder = ACTION[name]
    (tmp_path / "covlab" / "watch").mkdir(parents=True)
    (tmp_path / "covlab" / "watch" / "__main__.py").write_text("import sys; sys.exit(print(sys.argv[1:]) or 7)")
    environment = {"SCRIPT": "train.py", "STEPS": "20", "FAIL_ON": "fault", "REPORT": "r", **inputs}
    ended = run_action(tmp_path, environment)
    arguments = literal_eval(ended.stdout)
    assert ended.returncode == 7 and not (tmp_path / "pwned").exists()  # the status of the watch
    assert arguments[len(arguments) - len(ends) :] == ends
    assert [option in arguments for option in ("--steps", "--fail-on")] == [bool(environment["STEPS"])] * 2
    for option, stem in STEMS.items():
        assert arguments[arguments.index(f"--{option}") + 1] == str(Path(folder) / f"watch.{stem}")
    assert (tmp_path / folder).is_dir()


def test_the_action_refuses_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    ended = run_action(tmp_path, {"SCRIPT": "'train.py", "STEPS": "", "FAIL_ON": "", "REPORT": ""})
    assert (ended.returncode, ended.stderr.splitlines()) == (2, ["input script: No closing quotation: 'train.py"])


def run_action(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the step of the action that watches, as GitHub does: from a file elsewhere, with inputs as variables."""
    action = yaml.safe_load((ROOT / ".github" / "actions" / "watch" / "action.yml").read_text(encoding="utf-8"))
    steps = action["runs"]["steps"]
    assert not [step["run"] for step in steps if "${{" in step["run"]]  # an input in the text would be run
    [step] = [step for step in steps if "SCRIPT" in step["env"]]
    assert step["shell"] == "python" and step["env"].keys() == environment.keys()
    file = folder / "elsewhere" / "step.py"
    file.parent.mkdir()
    file.write_text(step["run"])
    return subprocess.run(
        [sys.executable, str(file)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
