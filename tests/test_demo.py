"""`covlab demo`, as an instructor uses it."""

import math

import pytest
from click.testing import CliRunner, Result

from covlab.cli import demo
from covlab.cli.main import main
from covlab.faults import FAULTS


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("EPOCHS", 3), ("SCENES", 120), ("MICRO_BATCH", 8)):
        monkeypatch.setattr(demo, name, value)


def show(*options: str) -> Result:
    return CliRunner().invoke(main, ["demo", "scaling-bug", *options])


def test_difference_first_verdict_last(small: None) -> None:
    result = show()
    assert result.exit_code == 0
    texts = (
        "--- Trainer.weigh",
        "epoch 01/3",
        "in the ledger",
        "detected by",
        "Result: does not print train 0.000000",
    )
    order = [result.output.index(text) for text in texts]
    assert order == sorted(order)
    assert "division_in_debug_block (BUG): train" in result.output


def test_with_one_micro_batch_per_window_nothing_detects_the_reviewed_bug(small: None) -> None:
    result = show("--accumulate", "1")
    assert "No observable tells the two runs apart" in result.output and "ends at 1.00 times" in result.output


@pytest.mark.parametrize("name", ["nested_in_debug_block", "overflow_probe_wrong_key", "validation_in_training"])
def test_other_faults(small: None, name: str) -> None:
    result = show("--fault", name, "--optimizer", "sgd")
    assert result.exit_code == 0, result.output
    assert "Result:" in result.output
    if name == "nested_in_debug_block":
        assert "Result: prints train 0.000000; keeps validation constant" in result.output
    if name == "overflow_probe_wrong_key":
        assert "was stopped: the loss was not finite" in result.output or "nan" in result.output


def test_a_mystery_keeps_its_secret_until_it_is_revealed(small: None) -> None:
    told, kept = show("--mystery", "7", "--reveal").output, show("--mystery", "7").output
    (name,) = [name for name in FAULTS if f"+++ {name}" in told]
    assert name not in kept and FAULTS[name].title not in kept and "+++" not in kept
    assert "mystery 7 (BUG)" in kept and "Verdict" not in kept
    assert show("--mystery", "7").output == kept


def test_mysteries_can_be_found() -> None:
    assert set(demo.HIDDEN) < set(FAULTS)


@pytest.mark.parametrize(
    "options",
    [("--fault", "nonsense"), ("--fault", "missing_division", "--mystery", "1"), ("--reveal",), ("--accumulate", "0")],
    ids=" ".join,
)
def test_refusals(options: tuple[str, ...]) -> None:
    assert show(*options).exit_code == 2


def test_the_dashboard_refuses_a_fault_that_does_not_exist() -> None:
    result = CliRunner().invoke(main, ["demo", "dashboard", "--fault", "nonsense"])
    assert result.exit_code == 2 and "'nonsense' is not one of" in result.output


def test_chart_is_logarithmic_and_takes_any_value() -> None:
    lines = demo.text_chart([[1.0, 0.1, 0.01], [1.0, 0.0, math.nan]], height=9).splitlines()
    assert len(lines) == 9 and "*" in lines[0] and "o" in lines[4] and "o" in lines[8]
    assert "x" in lines[8] and "x" in lines[0]
    assert demo.text_chart([[math.nan], [0.0]]).strip() == ""
