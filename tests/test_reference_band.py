"""Laws of the reference band: where curves lie that are known by construction, and where real runs do."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import ArrayLike

from covlab import durable_files
from covlab.cli.main import main
from covlab.course import reference_band
from covlab.course.reference_band import COLUMNS, SETUPS, Band, band, load_references, reference_trainer
from covlab.faults import inject

NAMES = [(name, column) for name in SETUPS for column in COLUMNS]


def reference(name: str, column: str) -> tuple[Band, np.ndarray]:
    this = Band.of(load_references()[name][column])
    return this, np.exp(this.middle)


@pytest.mark.parametrize("name, column", NAMES)
def test_each_right_run_lies_in_the_band_of_the_others(name: str, column: str) -> None:
    curves = load_references()[name][column]
    assert len(curves) >= 5
    for number in range(len(curves)):
        others = curves[:number] + curves[number + 1 :]
        assert Band.of(others).compare(curves[number]).kind == "inside"


@pytest.mark.parametrize("name, column", NAMES)
def test_a_curve_that_is_spoilt_in_one_way_is_called_by_its_name(name: str, column: str) -> None:
    band, right = reference(name, column)
    assert band.compare(right).kind == "inside"
    assert band.compare(right[:3]).kind == "inside"  # a run that was stopped early
    for factor in (4.0, 0.25):
        scaled = band.compare(factor * right)
        assert scaled.kind == "scaled" and scaled.amount == pytest.approx(factor, rel=1e-6)
        assert "Which number in your loop is 4?" in scaled.sentence
    late = np.concatenate([np.full(5, right[0]), right[:-5]])
    assert (band.compare(late).kind, band.compare(late).amount) == ("shifted", 5)
    assert band.compare(np.full_like(right, right[0])).kind == "still"
    assert band.compare(np.where(np.arange(len(right)) < 4, right, np.nan)) == band.compare([*right[:4], math.inf])
    assert (band.compare([*right[:4], math.nan]).kind, band.compare([*right[:4], math.nan]).amount) == ("diverged", 5)
    rising = right[0] * 1.3 ** np.arange(len(right))
    assert band.compare(rising).kind == "diverged"
    jump = np.where(np.arange(len(right)) < len(right) // 2, right, 30 * right)
    assert band.compare(jump).kind in ("outside", "diverged")


@pytest.mark.parametrize("curve, said", [([], "got shape"), ([[1.0]], "got shape"), (np.ones(1000), "1 to 30 epochs")])
def test_a_curve_that_cannot_be_compared_is_refused(curve: ArrayLike, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        reference("overfit", "train")[0].compare(curve)
    with pytest.raises(ValueError, match="overfit, fresh"):
        band("overfitting", [1.0])
    with pytest.raises(ValueError, match="curves must be of train, validation"):
        band("overfit", {"loss": [1.0]})


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    shown = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda bundle, **_: shown.append(bundle["text/plain"] if isinstance(bundle, dict) else bundle.data),
    )
    return shown


def test_a_right_run_of_an_unseen_seed_is_inside(quiet: list[str]) -> None:
    positions = band("overfit", reference_trainer("overfit", 0).fit())
    assert {column: position.kind for column, position in positions.items()} == {
        "train": "inside",
        "validation": "inside",
    }
    assert "inside the band" in quiet[-1] and 'alt="' in quiet[0]


@pytest.mark.slow  # the curves above that are spoilt by hand are scaled, too
def test_the_missing_division_is_a_factor_of_what_is_logged_alone(quiet: list[str]) -> None:
    with inject("missing_division"):
        trainer = reference_trainer("overfit", 0, clip=None)
    positions = band("overfit", trainer.fit())
    assert positions["train"].kind == "scaled" and positions["train"].amount == pytest.approx(4, rel=0.1)
    assert positions["validation"].kind == "inside"


@pytest.mark.slow
@pytest.mark.parametrize("name", SETUPS)
@pytest.mark.parametrize("seed", range(1, 5))
def test_right_runs_of_more_unseen_seeds_are_inside(quiet: list[str], name: str, seed: int) -> None:
    assert {position.kind for position in band(name, reference_trainer(name, seed).fit()).values()} == {"inside"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault, column",
    [
        ("missing_division", "train"),
        ("division_in_debug_block", "train"),
        ("last_batch_only", "validation"),
        ("schedule_per_micro_batch", "validation"),
        ("main_weight_zero", "validation"),
        ("nested_in_debug_block", "validation"),
        ("conjugated_steering", None),
    ],
)
def test_faults_lie_outside_where_they_show(quiet: list[str], fault: str, column: str | None) -> None:
    with inject(fault):
        trainer = reference_trainer("overfit", 0)
    kinds = {name: position.kind for name, position in band("overfit", trainer.fit()).items()}
    if column:
        assert kinds[column] != "inside"
    else:
        assert set(kinds.values()) == {"inside"}  # a term that is switched off can spoil nothing


def test_a_band_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError("No space left on device")

    entry = {"validation": [[0.5]], "train": [[0.5]]}
    data = tmp_path / "runs.json"
    data.write_text("the last ones")
    monkeypatch.setattr(reference_band, "DATA", data)
    monkeypatch.setattr(reference_band, "measure_references", lambda *_: entry)
    with monkeypatch.context() as patch:
        patch.setattr(durable_files, "sync", full)
        failed = CliRunner().invoke(main, ["course", "band", "--update"])
    assert (failed.exit_code, failed.output) == (1, "Error: No space left on device\n")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["the last ones"]
    assert CliRunner().invoke(main, ["course", "band", "--update"]).exit_code == 0
    assert json.loads(data.read_text()).keys() == SETUPS.keys()
