"""Test what the review of the case called correct, item by item."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from covlab.arguments import Seed, checked
from covlab.faults.case import TestedClaim
from covlab.faults.evidence import loss_rounding, short_window, terms_in_force
from covlab.faults.observed_window import infinite_gradient, observe_window
from covlab.faults.small_run import exhibit, finish, small_run
from covlab.scenes.batch import total_weight
from covlab.training.loss import nmse, plain_error
from covlab.training.operations import Operations
from covlab.training.trainer import Trainer


@checked
def review(seed: Seed = 0) -> Iterator[TestedClaim]:
    """Test the review's items by measurement."""
    # Most of the time of these two programs is to load PyTorch, so run them beside the rest.
    with ThreadPoolExecutor(2) as pool:
        guards = pool.map(_accepts_zero_weight, ((), ("-O",)))
        yield from _items(seed, guards)


def _items(seed: int, guards: Iterator[bool]) -> Iterator[TestedClaim]:
    """``guards``: whether a main weight of zero is accepted by python, and by python -O."""
    clean = finish(small_run(seed=seed))

    short = short_window(finish(exhibit("short_window_by_full_count", seed)))
    yield TestedClaim(
        "gradient accumulation",
        "dividing every micro-batch's loss by the accumulation count is correct",
        f"short last window of 3 micro-batches: gradient {short:.3f} of what it should be (covlab: "
        f"{short_window(clean):.3f})",
        "correct for full windows only",
    )

    with torch.no_grad():
        losses = clean.losses(clean.validation[:100]).total
    mean_of_means = torch.stack([part.mean() for part in losses.split(16)]).mean()
    yield TestedClaim(
        "the logged loss",
        "the mean of the batches' mean losses, scaled back, is the train loss",
        f"100 scenes in batches of 16, the last of 4: {mean_of_means:.4f}, their mean {losses.mean():.4f}; reading "
        f"each batch's loss waits for the device {_waits(clean, each=True)} times per window, keeping it there "
        f"{_waits(clean, each=False)} times",
        "wrong by the short batch, and it waits for the device in every micro-batch",
    )

    a = torch.randn(4, 4)
    with torch.autocast("cpu", dtype=torch.float16):
        inside = a.half().float() @ a.half().float()
        with torch.autocast("cpu", enabled=False):
            outside = a.half().float() @ a.half().float()
    rounding = loss_rounding(finish(exhibit("loss_inside_autocast", seed)))
    yield TestedClaim(
        "the loss in FP32",
        "with autocast switched off, the loss is computed in FP32",
        f"x.float() @ y.float() with autocast off: {outside.dtype}, error of the NMSE {loss_rounding(clean):.0e}; with "
        f"autocast on: {inside.dtype}, error {rounding:.1e}",
        "correct, but a .float() alone is not enough",
    )

    for subject, faults, precision in (
        ("sanitization before unscale", ("sanitize_before_unscale",), "fp16"),
        ("sanitization after unscale", ("sanitize_after_unscale",), "fp16"),
        ("sanitization without a scaler", ("sanitize_without_scaler",), "fp32"),
        ("no sanitization", (), "fp16"),
    ):
        run = finish(small_run(*faults, precision=precision, seed=seed))
        seen = observe_window(run, next(run.draw_windows(0)), poison=infinite_gradient)
        scale = f"scale × {seen.scale_after / seen.scales[-1]:g}" if run.scaler.is_enabled() else "no scale"
        step, norm = "runs" if seen.ran else "is skipped", seen.row["gradient_norm"]
        yield TestedClaim(
            subject,
            "nan_to_num on the gradients makes training robust" if faults else "(not in the review)",
            f"an overflow: step {step}, {scale}, logged gradient norm {norm:.3g}",
            "the overflow is hidden" if seen.ran else "the overflow is seen and the step is skipped",
        )

    plain, optimized = guards
    words = {True: "accepted", False: "refused"}
    yield TestedClaim(
        "hard guards",
        "asserts keep the main weight from being zero",
        f"python: a weight of 0 is {words[plain]}; python -O: a weight of 0 is {words[optimized]}",
        "not under python -O" if optimized else "they do",
    )

    R = clean.validation[:1].covariance()
    # Hermitian, with a trace slightly below 0.
    wrong = R - R.diagonal(dim1=1, dim2=2).mean() * (1 + 1e-3) * torch.eye(R.shape[1])
    clamped = wrong * (R.shape[1] / wrong.diagonal(dim1=1, dim2=2).real.sum().clamp(min=1e-8))
    loss = plain_error(clamped, R).item()
    yield TestedClaim(
        "the NMSE",
        "clamping the trace makes the normalization safe",
        f"a matrix of slightly negative trace: {loss:.1e} with the trace clamped at 1e-8; covlab: "
        f"{nmse(wrong, R).item()}",
        "the clamp turns a matrix that is not a covariance into a loss of arbitrary size",
    )

    differing = int(terms_in_force(finish(exhibit("weights_reset", seed))))
    yield TestedClaim(
        "weight management",
        "the weight that is used is the one that was tuned",
        f"defaults, configuration and tuned file each set it, and the last one wins: {differing} terms are used that "
        "the configuration switched off",
        "false: three sources of truth can disagree",
    )


def _waits(run: Trainer, each: bool) -> int:
    """Return how often a window of four micro-batches makes the host wait for the device. ``each``: read every loss."""
    window = list(run.scenes.micro_batches(0))[:4]
    weight = total_weight(window)
    with torch.no_grad(), Operations() as operations:
        for micro_batch in window:
            loss = run.weigh(run.losses(micro_batch), micro_batch, weight)
            if each:
                loss.item()
    return operations.calls["_local_scalar_dense"]


def _accepts_zero_weight(options: tuple[str, ...]) -> bool:
    program = (
        "from covlab.faults import inject\nfrom covlab.training.loss import LossWeights\nwith "
        "inject('guard_by_assert'): LossWeights(lam_cov=0.0)"
    )
    return subprocess.run([sys.executable, *options, "-c", program], check=False, capture_output=True).returncode == 0
