"""Faults as switches."""

import pytest
import torch

from covlab.faults import FAULTS, inject
from covlab.loss import LossWeights
from covlab.model import BackProjectionNet
from covlab.progress import Lines, Silent
from covlab.recipe import Recipe
from covlab.scenario import preset
from covlab.simulator import FixedScenes, Simulator, scene_generator
from covlab.trainer import Trainer

NMSE = LossWeights.only(lam_cov=1.0)
STUDENT = preset("student")
SCENES = Simulator(STUDENT).draw(128, scene_generator(0, "test"))


def trainer(accumulation=4, lines=None):
    torch.manual_seed(0)
    recipe = Recipe(windows=32 // accumulation, accumulation=accumulation)
    progress = Silent() if lines is None else Lines(lines.append)
    return Trainer(BackProjectionNet(STUDENT, beams=32, width=32, rank=4), FixedScenes(SCENES, 8, seed=0), SCENES, recipe, weights=NMSE, progress=progress)


def test_a_fault_lives_in_the_trainers_made_inside_and_nowhere_else():
    lines = []
    with inject("missing_division"):
        inside = trainer(lines=lines)
    outside = trainer()
    assert inside.faults == ("missing_division",) and outside.faults == ()
    inside.fit(), outside.fit()
    assert all(line.endswith("BUGGED") for line in lines)
    ratio = inside.ledger.rows[0]["gradient_norm"] / outside.ledger.rows[0]["gradient_norm"]
    assert ratio == pytest.approx(4, rel=1e-4)


def test_the_reviewed_bug_does_nothing_when_one_micro_batch_makes_a_window():
    with inject("division_in_debug_block"):
        bugged = trainer(accumulation=1).fit()
    assert torch.equal(bugged.vector, trainer(accumulation=1).fit().vector)


def test_the_reviewed_bug_divides_the_first_micro_batch_alone():
    with inject("division_in_debug_block"):
        bugged = trainer().fit()
    loss = [row["loss"] for row in bugged.ledger.rows]
    clean = [row["loss"] for row in trainer().fit().ledger.rows]
    assert loss[0] / clean[0] == pytest.approx(3.25, rel=0.05)
    assert loss[1] / clean[1] == pytest.approx(4, rel=0.05)


def test_refusals():
    with pytest.raises(ValueError, match="fault must be one of .*got 'nonsense'"), inject("nonsense"):
        pass
    with pytest.raises(ValueError, match="both replace Trainer.weigh"), inject("missing_division", "division_in_debug_block"):
        pass
    with pytest.raises(ValueError, match="both replace"), inject("missing_division"), inject("division_in_debug_block"):
        pass
    assert trainer().faults == ()


@pytest.mark.parametrize("name", FAULTS)
def test_exhibits_are_complete_and_their_difference_is_short(name):
    fault = FAULTS[name]
    assert all(getattr(fault, text) for text in ("title", "changes", "innocent", "conviction", "seen_in"))
    changed = [line for line in fault.diff().splitlines()[3:] if line[0] in "+-"]
    assert 1 < len(changed) <= 12
