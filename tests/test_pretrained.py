"""The estimators that come with the package: their scores are what their cards say, and they read what they are
given.
"""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from covlab.cli.main import main
from covlab.metrics import by_snr
from covlab.networks.unrolled import UnrolledNet
from covlab.scenes.batch import Batch
from covlab.scenes.channel import site_channel
from covlab.scenes.scenario import PRESETS, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.training.checkpoint import CheckpointError, load_parameters
from covlab.training.pretrained import CHECKPOINTS, pretrained, scored_scenes

STUDENT = preset("student")
SEED_TOLERANCE = 0.004  # three and a half standard deviations of three seeds of a shorter recipe


@pytest.fixture(scope="module")
def student() -> tuple[UnrolledNet, Batch]:
    return pretrained("student"), scored_scenes("student")[:256]


def score(network: UnrolledNet, batch: Batch, **changed: Tensor) -> float:
    inputs = {name: getattr(batch, name) for name in ("y", "H", "codes", "snr_db")} | changed
    with torch.no_grad():
        return network(**inputs).nmse(batch).mean().item()


@pytest.mark.parametrize(
    "name, scenes, goal",
    [("student", 512, 0.062), ("near_field", 128, 0.12), ("full", 48, 0.115)],
)
def test_score_is_what_the_card_says(name: str, scenes: int, goal: float) -> None:
    network = pretrained(name)
    expected = network.card["scores"]
    with torch.no_grad():
        batch = scored_scenes(name)[:scenes]
        scores = network(batch.y, batch.H, batch.codes, batch.snr_db).nmse(batch)
    # Rounding differs between machines, and may turn a near tie of two peaks in a scene here and there.
    assert (scores - expected[:scenes]).abs().median() < 1e-4
    assert scores.mean().item() == pytest.approx(expected[:scenes].mean().item(), abs=0.01)
    assert expected.mean() < goal and len(expected) == len(scored_scenes(name))


@pytest.mark.parametrize("name", PRESETS)
def test_card_tells_how_to_make_it_again(name: str) -> None:
    card = pretrained(name).card
    assert re.match(rf"covlab train --preset {name} --windows \d+ .*--seed 0$", card["command"])
    assert card["seconds"] > 0 and {"torch", "python"} <= card["versions"].keys()
    assert (CHECKPOINTS / f"{name}.pt").stat().st_size < 1e6


def test_network_of_no_preset_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name must be one of student, near_field, full, got 'half'"):
        pretrained("half")
    monkeypatch.setattr("covlab.training.pretrained.CHECKPOINTS", tmp_path)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        pretrained("student")


def test_more_signal_is_never_worse(student: tuple[UnrolledNet, Batch]) -> None:
    network, batch = student
    with torch.no_grad():
        scores = network(batch.y, batch.H, batch.codes, batch.snr_db).nmse(batch)
    means = [row["mean"] for row in by_snr(batch, scores)]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("tensor", ["y", "codes"])
def test_snapshots_of_other_scenes_spoil_everything(student: tuple[UnrolledNet, Batch], tensor: str) -> None:
    """R is read off the products y·conj(c). With y of one scene and the codes of another they are noise, and a
    confident estimate from noise is worse than the scaled identity, whose error is about 0.9."""
    network, batch = student
    assert score(network, batch) < 0.1
    assert score(network, batch, **{tensor: getattr(batch, tensor).roll(1, dims=0)}) > 0.9


def test_another_site_spoils_everything(student: tuple[UnrolledNet, Batch]) -> None:
    """Two sites share the line of sight, half of the channel's power (κ = 0 dB). What came over the scatterers is then
    explained by sources that are not there, and at a high SNR no noise may excuse it: no better than knowing nothing
    (about 0.9)."""
    _, batch = student
    assert 0.8 < score(pretrained("student", replace(STUDENT, site_seed=1)), batch) < 1.3


def test_fixed_codebook_says_as_much_as_fresh_codes(student: tuple[UnrolledNet, Batch]) -> None:
    """The network has learned neither codes nor a site by heart: sixteen random codes, the same in every scene, do as
    well as fresh ones, but for the luck of one draw."""
    network, batch = student
    scores = []
    for site_seed in range(4):  # each draws another codebook, and another site with it
        there = replace(STUDENT, codebook="fixed", site_seed=site_seed)
        scores.append(score(pretrained("student", there), Simulator(there).draw(256, scene_generator(0, "test"))))
    assert sum(scores) / len(scores) == pytest.approx(score(network, batch), rel=0.35)


def test_one_code_for_all_snapshots_costs(student: tuple[UnrolledNet, Batch]) -> None:
    """All snapshots see the surface through the same M = 8 antennas' combinations of its N = 16 elements: eight
    dimensions of R are never seen. The network fills them in, because it knows what a wave looks like, at a price."""
    network, batch = student[0], scored_scenes("student")[:1024]
    generator = scene_generator(0, "one code")
    codes = batch.codes[:, :1].expand_as(batch.codes).contiguous()
    channel = site_channel(STUDENT).to(torch.complex64) * torch.view_as_complex(codes).unsqueeze(2)  # [B, L, M, N]
    symbols, noise = (
        torch.randn(*shape, dtype=torch.complex64, generator=generator)
        for shape in ((len(batch), 16, 2, 1), (len(batch), 16, 8))
    )
    signal = (channel @ (batch.factor().unsqueeze(1) @ symbols)).squeeze(3)
    power = (channel @ batch.factor().unsqueeze(1)).abs().square().sum(dim=3).mean(dim=(1, 2))
    y = signal + noise * (power / 10 ** (batch.snr_db / 10)).sqrt().view(-1, 1, 1)
    assert score(network, batch, y=torch.view_as_real(y), codes=codes) > 1.25 * score(network, batch)


def test_wrong_noise_level_costs(student: tuple[UnrolledNet, Batch]) -> None:
    """An SNR stated 15 dB too high makes sources of noise; 15 dB too low makes noise of sources."""
    network, batch = student
    for error in (-15, 15):
        assert score(network, batch, snr_db=batch.snr_db + error) > 1.15 * score(network, batch)


@pytest.mark.slow
def test_student_trains_again_to_its_score(tmp_path: Path) -> None:
    """The card's command, with another seed of scenes and first parameters, scored on the same scenes as the card."""
    card = pretrained("student").card
    result = CliRunner().invoke(
        main, [*card["command"].removesuffix("0").split()[1:], "1", "--folder", str(tmp_path / "run")]
    )
    assert result.exit_code == 0, result.output
    again, batch = UnrolledNet(STUDENT).eval(), scored_scenes("student")
    load_parameters(again, tmp_path / "run" / "best.pt")
    assert score(again, batch) == pytest.approx(card["scores"].mean().item(), abs=SEED_TOLERANCE)
