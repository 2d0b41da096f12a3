"""The case of `train 0.000000`, by measurement."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from covlab.cli.main import main
from covlab.faults import case
from covlab.faults.review import review


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "faults, setting",
    [
        (case.SKIPPING_GATE_AND_NAN_TERM, {"accumulation": 15} | case.ALIGNED),
        (case.NESTED_IN_DEBUG_BLOCK, {}),
        ((case.SKIPPING_GATE_AND_NAN_TERM[1], case.SKIPPING_GATE_AND_NAN_TERM[3]), case.ALIGNED),
        (("main_weight_zero",), {"weight_decay": 0.0}),
    ],
    ids=["candidate 1", "candidate 2", "pair", "weight of zero"],
)
def test_these_combinations_print_what_was_printed(faults: tuple[str, ...], setting: dict[str, Any], seed: int) -> None:
    symptom = case.overfit(*faults, seed=seed, **setting)
    assert len(symptom.run.history) == 30
    assert {f"{row['train']:.6f}" for row in symptom.run.history} == {"0.000000"}
    assert len({f"{row['validation']:.6f}" for row in symptom.run.history}) == 1
    assert symptom.reproduced and symptom.run.faults == tuple(sorted(faults))


def test_under_weight_decay_a_main_weight_of_zero_holds_validation_still_to_five_digits_not_six() -> None:
    symptom = case.overfit("main_weight_zero", seed=1)
    values = [row["validation"] for row in symptom.run.history]
    assert symptom.train_is_zero and 0 < max(values) - min(values) < 1e-5


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize(
    "optimizer", [{}, {"optimizer": "sgd", "learning_rate": 0.3}, {"precision": "fp16"}, {"clip": None}], ids=str
)
def test_the_reviewed_bug_cannot(accumulation: int, optimizer: dict[str, Any]) -> None:
    symptom = case.overfit(*case.BLAMED, accumulation=accumulation, epochs=10, **optimizer)
    assert min(row["train"] for row in symptom.run.history) > 0.01 and symptom.validations == 10
    if accumulation == 1:
        clean = case.overfit(accumulation=1, epochs=10, **optimizer)
        assert torch.equal(symptom.run.vector, clean.run.vector)


@pytest.mark.parametrize("part", case.SKIPPING_GATE_AND_NAN_TERM[1:] + case.SKIPPING_GATE_AND_NAN_TERM[:1])
def test_no_part_of_the_first_combination_does_it_alone(part: str) -> None:
    assert not case.overfit(part, epochs=6, **case.ALIGNED).reproduced


def test_a_clean_run_learns() -> None:
    symptom = case.overfit()
    assert not symptom.reproduced and symptom.run.history[-1]["validation"] < 0.15


def test_tests_that_train_together_get_the_results_they_have_alone_and_each_is_run_once() -> None:
    settings: list[dict[str, Any]] = [{"epochs": 2}, {"epochs": 2, "precision": "fp16"}, {"epochs": 2}]
    reruns = case.Reruns(seed=1)
    clean, half, again = reruns.together(*(case.Rerun(setting=setting) for setting in settings))
    [half_again] = reruns.together(case.Rerun(setting=dict(reversed(settings[1].items()))))
    assert again is clean and half_again is half
    for symptom, setting in zip((clean, half), settings, strict=False):
        assert torch.equal(symptom.run.vector, case.overfit(seed=1, **setting).run.vector)
        assert len(symptom.run.history) == 2


@pytest.mark.slow
def test_every_report_gets_its_verdict() -> None:
    findings = list(case.reports())
    verdicts = "false true false false real real false real real half"
    assert [finding.verdict.split()[0].strip(":,") for finding in findings] == verdicts.split()
    assert "identical to the clean run's: yes" in findings[4].measured
    assert "train 0.000000, val 0.9158" in findings[5].measured


def test_what_the_review_called_correct() -> None:
    findings = {finding.subject: finding for finding in review()}
    assert findings["the loss in FP32"].verdict.startswith("correct, but")
    assert "step is skipped" in findings["no sanitization"].verdict
    assert all("hidden" in finding.verdict for name, finding in findings.items() if name.startswith("sanitization"))
    assert "gradient 0.750" in findings["gradient accumulation"].measured
    assert "torch.float16" in findings["the loss in FP32"].measured
    assert "4 times per window, keeping it there 0" in findings["the logged loss"].measured
    assert "accepted" in findings["hard guards"].measured and "covlab: nan" in findings["the NMSE"].measured
    assert "step is skipped, scale × 0.5" in findings["no sanitization"].measured


@pytest.mark.slow
def test_every_combination_gets_its_verdict() -> None:
    for finding in case.combinations():
        reproduced = finding.verdict == "reproduces both"
        assert reproduced == (finding.subject not in ("no fault", "ruled out")), finding


@pytest.mark.parametrize("command", ["case", "reports", "review"])
def test_a_table_from_a_shell_has_every_finding(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(seed: int) -> Iterator[case.TestedClaim]:
        for number in range(2):
            yield case.TestedClaim(
                *(f"{part} {number} of seed {seed}" for part in ("what", "blamed", "measured", "verdict"))
            )

    monkeypatch.setattr(case, "combinations", found)
    monkeypatch.setattr(case, "reports", found)
    monkeypatch.setattr("covlab.cli.faults.review_items", found)
    table = CliRunner().invoke(main, ["faults", command, "--seed", "3"])
    assert table.exit_code == 0, table.output
    for number in range(2):
        for part in ("what", "blamed", "measured", "verdict"):
            assert f"{part} {number} of seed 3" in table.output
