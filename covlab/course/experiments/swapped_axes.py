"""Train networks on data with a swapped axis, and test data with two equations: the experiments of lesson 01."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from covlab.arguments import Count, Seed, checked, one_of
from covlab.course.reference_band import reference_trainer
from covlab.scenes import consistency
from covlab.scenes.batch import Batch
from covlab.scenes.scenario import PRESETS, preset
from covlab.scenes.simulator import Simulator, scene_generator
from covlab.scenes.streams import FixedScenes
from covlab.tensor_arguments import Device, tensor
from covlab.training.together import train_together
from covlab.training.trainer import Trainer

Spoil = Callable[[Batch], Batch]


@checked
def drawn(
    scenes: Count, seed: Seed, device: Device = "cpu", size: Annotated[str, one_of(PRESETS)] = "student"
) -> tuple[Simulator, Batch]:
    """Return a simulator of the preset ``size``, and some scenes that no network of this lesson is trained on."""
    simulator = Simulator(preset(size), device)
    return simulator, simulator.draw(scenes, scene_generator(seed, "lesson 01", device=device))


@checked
def memorize(spoils: Mapping[str, Spoil], seed: Seed, device: Device = "cpu") -> dict[str, Trainer]:
    """Train one network per spoil on the same 512 scenes, from the same first parameters: {name: finished run}.

    Args:
        spoils: {name: a function that returns the scenes as the network reads them}.
    """
    runs = {name: reference_trainer("overfit", seed, device=str(device)) for name in spoils}
    for name, run in runs.items():
        assert isinstance(run.scenes, FixedScenes)  # for mypy
        scenes = spoils[name](run.scenes.scenes)
        run.scenes, run.validation = FixedScenes(scenes, micro_batch=32, seed=seed), scenes
    train_together(*runs.values())
    return runs


@checked
def score(run: Trainer, batch: Batch) -> float:
    """Return the mean NMSE on some scenes; the true R is always theirs, even if an input is spoilt."""
    with torch.no_grad():
        return run.model(batch.y, batch.H, batch.codes, batch.snr_db).nmse(batch).mean().item()


@checked
def channel_residual(batch: Batch, G: consistency.Channel) -> float:
    """Return ‖H − G c‖ / ‖H‖, which is 0 up to rounding if H_l = G c_l."""
    return consistency.channel_residual(batch.H, batch.codes, G)


@checked
def whitened_power(
    batch: Batch,
    G: consistency.Channel,
    covariance: Annotated[Tensor | None, tensor("B N N", "complex").or_none("the batch's own R")] = None,
) -> float:
    """Return the mean of y_lᴴ C_l⁻¹ y_l / M with the noise power that ``snr_db`` states; 1 if the data belong together.

    Args:
        covariance: R [B, N, N] to test instead of the batch's own.
    """
    R = batch.covariance() if covariance is None else covariance
    responses = G * torch.view_as_complex(batch.codes.contiguous()).unsqueeze(2)  # G diag(c_l) [B, L, M, N]
    power = (responses @ R.unsqueeze(1) * responses.conj()).sum(dim=-1).real.mean(dim=(1, 2))
    stated = replace(batch, noise_power=power / 10 ** (batch.snr_db / 10))
    return consistency.whitened_power(stated, G, covariance)
