"""Every fault is detected by the observable its exhibit names, and a correct run by none."""

import functools
import math
from typing import Any

import pytest
import torch

from covlab.faults import FAULTS
from covlab.faults.evidence import OBSERVABLES, detecting, examine
from covlab.faults.observed_window import observe_window
from covlab.faults.small_run import exhibit, finish, small_run

SEEDS = range(5)
SETTINGS = {repr(fault.setting): fault.setting for fault in FAULTS.values()}


@functools.cache
def values(name: str, seed: int) -> dict[str, float]:
    return examine(finish(exhibit(name, seed)))


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_nothing_detects_a_fault_in_a_correct_run(setting: dict[str, Any]) -> None:
    assert detecting(examine(small_run(**setting).fit())) == []


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_nothing_detects_a_fault_in_a_correct_run_of_every_seed(setting: dict[str, Any]) -> None:
    for seed in SEEDS:
        assert detecting(examine(small_run(seed=seed, **setting).fit())) == []


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": "sgd", "learning_rate": 0.3}], ids=["adamw", "sgd"])
def test_nothing_detects_a_fault_in_the_correct_run_of_a_demonstration(optimizer: dict[str, Any]) -> None:
    """A longer run, whose errors are small: a rounding error must not be measured against them."""
    run = small_run(scenes=480, micro_batch=32, windows=120, weight_decay=0.0, **optimizer).fit()
    assert run.history[-1]["validation"] < 0.3 and detecting(examine(run)) == []


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_detected(name: str) -> None:
    assert FAULTS[name].observable in detecting(values(name, 0))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_detected_with_every_seed(name: str) -> None:
    for seed in SEEDS:
        assert FAULTS[name].observable in detecting(values(name, seed))


@pytest.mark.parametrize("name", OBSERVABLES)
def test_every_observable_detects_some_fault(name: str) -> None:
    assert any(name in detecting(values(fault, 0)) for fault in FAULTS)


def test_nan_is_no_evidence() -> None:
    assert not any(observable.detects(math.nan) for observable in OBSERVABLES.values())


def test_watching_a_window_leaves_the_run_as_it_was() -> None:
    run = small_run("missing_division", precision="fp16").fit()
    before, rows = run.vector.clone(), len(run.ledger.rows)
    observe_window(run, list(run.scenes.micro_batches(0))[:4])
    examine(run)
    assert torch.equal(torch.nn.utils.parameters_to_vector(run.parameters), before)
    assert len(run.ledger.rows) == rows and run.ledger.pending == 0 and run.parameters[0].grad is None
