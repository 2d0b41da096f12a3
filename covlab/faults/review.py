"""What the review of the case called correct, looked at again, item by item."""

import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import torch

from covlab.faults.case import TestedClaim
from covlab.faults.evidence import loss_rounding, short_window, terms_in_force
from covlab.faults.observed_window import infinite_gradient, observe_window
from covlab.faults.small_run import exhibit, finish, small_run
from covlab.scenes.batch import total_weight
from covlab.training.loss import nmse
from covlab.training.operations import Operations
from covlab.training.trainer import Trainer


def review(seed: int = 0) -> Iterator[TestedClaim]:
    """The review's items, each with what a measurement says."""
    clean = finish(small_run(seed=seed))

    short = short_window(finish(exhibit("short_window_by_full_count", seed)))
    yield TestedClaim(
        "gradient accumulation",
        "dividing every micro-batch's loss by the accumulation count is right",
        (
            f"short last window of 3 micro-batches: gradient {short:.3f} of what it should be (covlab: "
            f"{short_window(clean):.3f})"
        ),
        "right for full windows only",
        False,
    )

    scene_mean, mean_of_means = _two_means(clean)
    yield TestedClaim(
        "the logged loss",
        "the mean of the batches' mean losses, scaled back, is the train loss",
        f"100 scenes in batches of 16, the last of 4: {mean_of_means:.4f}, their mean {scene_mean:.4f}; reading each "
        f"batch's loss waits for the device {_waits(clean, each=True)} times a window, keeping it there "
        f"{_waits(clean, each=False)}",
        "off by the short batch, and a wait for the device in every micro-batch",
        False,
    )

    a = torch.randn(4, 4)
    with torch.autocast("cpu", dtype=torch.float16):
        inside = a.half().float() @ a.half().float()
        with torch.autocast("cpu", enabled=False):
            island = a.half().float() @ a.half().float()
    rounding = loss_rounding(finish(exhibit("loss_inside_autocast", seed)))
    yield TestedClaim(
        "the loss in FP32",
        "with autocast switched off, the loss is computed in FP32",
        f"with autocast off x.float() @ y.float() is {island.dtype}, error of an NMSE so computed: "
        f"{loss_rounding(clean):.0e}; a .float() under autocast: {inside.dtype}, error {rounding:.1e}",
        "right, and a .float() alone would not do",
        True,
    )

    for subject, name in (
        ("sanitization before unscale", "sanitize_before_unscale"),
        ("sanitization after unscale", "sanitize_after_unscale"),
        ("sanitization without a scaler", "sanitize_without_scaler"),
        ("no sanitization", None),
    ):
        setting: dict[str, Any] = {"loss_scale": None} if name is not None and "unscale" in name else {}
        run = finish(small_run(precision="fp16", seed=seed) if name is None else exhibit(name, seed, **setting))
        seen = observe_window(run, list(run.scenes.micro_batches(0))[:4], poison=infinite_gradient)
        scale = f"scale × {seen.scale_after / seen.scales[-1]:g}" if run.scaler.is_enabled() else "no scale"
        norm = math.nan if seen.row is None else seen.row["gradient_norm"]
        yield TestedClaim(
            subject,
            "nan_to_num on the gradients makes training robust" if name else "(not asked)",
            f"an overflow: step {'runs' if seen.ran else 'is skipped'}, {scale}, logged gradient norm {norm:.3g}",
            "the overflow is hidden" if seen.ran else "the overflow is seen and the step skipped",
            name is None,
        )

    accepted = {option or "python": _accepts_zero_weight(option) for option in ("", "-O")}
    yield TestedClaim(
        "hard guards",
        "asserts keep the main weight from being zero",
        "; ".join(
            (
                f"{'python ' + option if option.startswith('-') else option}: a weight of 0 is "
                f"{'accepted' if yes else 'refused'}"
            )
            for option, yes in accepted.items()
        ),
        "not under -O" if accepted["-O"] else "they do",
        not accepted["-O"],
    )

    R = clean.validation[:1].covariance()
    # Hermitian, trace slightly below 0
    wrong = R - R.diagonal(dim1=1, dim2=2).mean() * (1 + 1e-3) * torch.eye(R.shape[1])
    clamped = wrong * (R.shape[1] / wrong.diagonal(dim1=1, dim2=2).real.sum().clamp(min=1e-8))
    loss = ((clamped - R).abs().square().sum() / R.abs().square().sum()).item()
    refused = nmse(wrong, R).item()
    yield TestedClaim(
        "the NMSE",
        "clamping the trace makes the normalization safe",
        f"a matrix of slightly negative trace: {loss:.1e} with the trace clamped at 1e-8; covlab: {refused}",
        "a clamp turns a matrix that is no covariance into a loss of any size",
        False,
    )

    reset = finish(exhibit("weights_reset", seed))
    differing = int(terms_in_force(reset))
    yield TestedClaim(
        "weight management",
        "the weight in force is the one that was tuned",
        (
            f"with defaults, configuration and tuned file each setting it: the last to speak wins; {differing} terms "
            "in force that the configuration switched off"
        ),
        "three sources of truth are none",
        False,
    )


def _two_means(run: Trainer) -> tuple[float, float]:
    """Mean over 100 scenes, and mean over the means of batches of 16 (the last of 4), of the loss."""
    with torch.no_grad():
        losses = run.losses(run.validation[:100]).total
    means = [part.mean() for part in losses.split(16)]
    return losses.mean().item(), (sum(means) / len(means)).item()


def _waits(run: Trainer, each: bool) -> int:
    """How often a window of four micro-batches makes the host wait for the device."""
    window = list(run.scenes.micro_batches(0))[:4]
    weight = total_weight(window)
    with torch.no_grad(), Operations() as operations:
        for micro_batch in window:
            loss = run.weigh(run.losses(micro_batch), micro_batch, weight)
            if each:
                math.fsum([loss.item()])
    return operations.calls["_local_scalar_dense"]


def _accepts_zero_weight(option: str) -> bool:
    program = (
        "from covlab.faults import inject\nfrom covlab.training.loss import LossWeights\nwith "
        "inject('guard_by_assert'): LossWeights(lam_cov=0.0)"
    )
    return (
        subprocess.run(
            [sys.executable, *([option] if option else []), "-c", program], check=False, capture_output=True
        ).returncode
        == 0
    )
