"""Test that every invariant is explained, and that what its page says of its example is what the watch reports."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from covlab.watch import TITLES
from covlab.watch.__main__ import main
from covlab.watch.blind_spots import CODE, EXAMPLE, TITLE
from covlab.watch.invariant_pages import explanation, run_example
from covlab.watch.invariants import INVARIANTS, Invariant

EXAMPLES = {CODE: EXAMPLE} | {invariant.code: invariant.example for invariant in INVARIANTS if invariant.ranks == 1}


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_watch_reports_the_code_of_every_example_on_a_line_of_the_example(code: str) -> None:
    random = torch.get_rng_state()
    report = run_example(EXAMPLES[code])
    assert torch.equal(random, torch.get_rng_state())
    found = report.of(code)
    assert found is not None, report
    if found.location is not None:
        assert found.location.code in EXAMPLES[code] and found.location.code


@pytest.mark.slow
@pytest.mark.parametrize("invariant", [invariant for invariant in INVARIANTS if invariant.ranks > 1])
def test_the_watch_reports_the_code_of_an_example_that_needs_several_processes(
    invariant: type[Invariant], tmp_path: Path
) -> None:
    script, report = tmp_path / "example.py", tmp_path / "report.json"
    script.write_text(textwrap.dedent(invariant.example))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={invariant.ranks}"]
    command = [*start, "-m", "covlab.watch", "--fail-on", "never", "--json", report, script]
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    found = {finding["code"]: finding for finding in json.loads(report.read_text())["findings"]}
    assert found[invariant.code]["verdict"] == "fault"


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_every_invariant_tells_what_it_means_and_what_it_does_not_know(invariant: type) -> None:
    for text in (invariant.meaning, invariant.limits):  # type: ignore[attr-defined]
        assert len(text.split()) > 10 and text.strip().endswith(".")


@pytest.mark.parametrize("code", ["W00", "W01", "W14"])
def test_an_explanation_fits_the_terminal_and_has_every_part(
    code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["watch", "explain", code.lower()])
    monkeypatch.setenv("COLUMNS", "200")
    assert main() == 0
    text = capsys.readouterr().out
    assert text.rstrip() == explanation(code).rstrip()
    prose = [line for line in text.splitlines() if not line.startswith("    ")]
    assert max(map(len, prose)) <= 80
    assert not re.search(r"\]\(|\*\*|`|^#", "\n".join(prose), re.MULTILINE)
    for heading in ("Example", "The report says:", "What it does not know"):
        assert f"\n{heading}\n" in text
    assert ("What to do" in text) == (code != CODE)


def test_explain_lists_all_codes_and_refuses_others_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["watch", "explain"])
    assert main() == 0
    printed_list = capsys.readouterr().out
    assert printed_list.endswith("\n")
    listed = printed_list.splitlines()
    assert listed == [f"{code}  {title}" for code, title in {CODE: TITLE, **TITLES}.items()]
    for wrong in ("W99", "", "W1", "w01.py", "--list"):
        monkeypatch.setattr(sys, "argv", ["watch", "explain", "W01", wrong])
        assert main() == 2
        printed = capsys.readouterr()
        assert not printed.out and repr(wrong) in printed.err and len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["W01", "--help"]])
def test_explain_shows_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["watch", "explain", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0 and "explain [W01" in capsys.readouterr().out


def test_a_script_that_is_called_explain_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "explain").write_text("import sys; print('ran', sys.argv[1:])")
    command = [sys.executable, "-m", "covlab.watch", "--fail-on", "never", "./explain", "W01"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "ran ['W01']" in run.stdout
