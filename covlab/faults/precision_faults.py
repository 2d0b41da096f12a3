"""Faults of mixed precision: the loss scale, and the handling of numbers that are not finite."""

import torch
from torch import Tensor

from covlab.faults.switch import fault
from covlab.networks.model import Estimate
from covlab.scenes.batch import Batch
from covlab.training.loss import Loss, Losses
from covlab.training.trainer import Trainer, gradients

HALF = {"precision": "fp16", "loss_scale": 2.0**28}
"""Half precision with a loss scale so high that the first windows overflow, as later windows of a long run do."""


@fault(
    "Trainer.sanitize",
    title="Gradients are sanitized before they are unscaled",
    changes="an overflow becomes zeros and ones; the scaler never sees it, skips no step and never lowers the scale",
    unaffected="every window whose gradient is finite",
    observable="scale_falls",
    seen_in="the reviewed pipeline: nan_to_num(nan=0, posinf=1, neginf=-1) between backward and unscale",
    setting=HALF,
)
def sanitize_before_unscale(self: Trainer) -> None:
    for gradient in gradients(self.parameters):
        torch.nan_to_num_(gradient, nan=0.0, posinf=1.0, neginf=-1.0)


@fault(
    "Trainer.sanitize",
    title="Without a scaler, gradients are sanitized instead",
    changes="a NaN becomes a step with a gradient of zeros: momentum and weight decay continue, without a warning",
    unaffected="every window whose gradient is finite; half precision, where the scaler handles overflows",
    observable="hidden_overflow",
    seen_in="the reviewed pipeline, in its runs without the scaler",
)
def sanitize_without_scaler(self: Trainer) -> None:
    if not self.scaler.is_enabled():
        for gradient in gradients(self.parameters):
            torch.nan_to_num_(gradient, nan=0.0, posinf=1.0, neginf=-1.0)


@fault(
    "Trainer.unscale_and_clip",
    title="Gradients are sanitized after they are unscaled",
    changes="the scaler sees the overflow and lowers the scale, but norm and gate see clean numbers: the step runs",
    unaffected="the loss scale; every window whose gradient is finite",
    observable="hidden_overflow",
    seen_in="the order that the reviewed pipeline's review recommended",
    setting=HALF,
)
def sanitize_after_unscale(self: Trainer) -> dict[str, Tensor]:
    self.scaler.unscale_(self.optimizer)
    for gradient in gradients(self.parameters):
        torch.nan_to_num_(gradient, nan=0.0, posinf=1.0, neginf=-1.0)
    return self.measure_and_clip()


@fault(
    "Trainer.weigh",
    title="A loss of NaN is replaced by zero",
    changes="a NaN is logged as 0.000000, so no check of the loss finds it",
    unaffected="every window whose loss is finite; the gradient, which is still NaN (0 · ∞)",
    observable="nan_loss_logged",
    seen_in="facebookresearch/fairchem#441 proposes it; huggingface/transformers#13619 does it only in the log",
)
def nan_loss_sanitized(self: Trainer, losses: Losses, micro_batch: Batch, window_weight: Tensor) -> Tensor:
    return torch.nan_to_num(torch.dot(losses.total, micro_batch.weight) / window_weight, nan=0.0)


@fault(
    "Trainer.unscale_and_clip",
    title="Gradients are clipped before they are unscaled",
    changes="gradients are clipped to the threshold divided by the loss scale; SGD does little but weight decay",
    unaffected="the direction; single precision; the steps of AdamW, as far as its epsilon allows",
    observable="clip_share",
    seen_in="milesial/Pytorch-UNet#468 (fixed in #470), Lightning-AI/pytorch-lightning#9599",
    setting={"precision": "fp16"},
)
def clip_before_unscale(self: Trainer) -> dict[str, Tensor]:
    norms = self.measure_and_clip()
    self.scaler.unscale_(self.optimizer)
    return norms


@fault(
    "Trainer.backward",
    title="The loss scale is updated after every micro-batch",
    changes="a window adds gradients of different scales but divides by one scale, so micro-batches count unequally",
    unaffected="windows of one micro-batch; single precision",
    observable="scales_in_window",
    seen_in="the gradient accumulation section of PyTorch's AMP examples warns against it",
    setting={"precision": "fp16"},
)
def scale_updated_inside_window(self: Trainer, loss: Tensor) -> None:
    self.scaler.scale(loss).backward()
    self.scaler.update(4096.0 / loss.item())  # keep the scaled loss at 4096


@fault(
    "Loss.cov",
    title="The loss is computed inside autocast, where a .float() does not protect it",
    changes="the NMSE's products are in half precision: wrong in the fourth digit, and no longer free of scale",
    unaffected="a loss in complex arithmetic, which autocast does not change (covlab's own loss: bit for bit)",
    observable="loss_rounding",
    seen_in="the reviewed pipeline; its review called the loss FP32 because of the .float()",
    setting={"precision": "fp16"},
)
def loss_inside_autocast(self: Loss, estimate: Estimate, batch: Batch) -> Tensor:
    with torch.autocast(batch.y.device.type, dtype=torch.float16):
        R, truth = (
            _as_real(factor).float() @ _as_real(factor).float().mT for factor in (estimate.factor, batch.factor())
        )
        R = R + estimate.loading.view(-1, 1, 1) * torch.eye(R.shape[1], device=R.device)
        R, truth = (matrix / matrix.diagonal(dim1=1, dim2=2).mean(dim=1).view(-1, 1, 1) for matrix in (R, truth))
        return (R - truth).square().sum(dim=(1, 2)) / truth.square().sum(dim=(1, 2))


def _as_real(factor: Tensor) -> Tensor:
    """Return [[Re, −Im], [Im, Re]], so that real products equal complex ones: [B, N, r] -> [B, 2N, 2r]."""
    return torch.cat(
        [torch.cat([factor.real, -factor.imag], dim=2), torch.cat([factor.imag, factor.real], dim=2)], dim=1
    )


@fault(
    "Trainer.gate",
    title="The overflow probe looks up the scaler's state under the wrong key",
    changes="it always reports that there was no overflow, and the step runs with infinite gradients",
    unaffected="every window whose gradient is finite; single precision",
    observable="overflow_stepped_on",
    seen_in="the reviewed pipeline, which used the optimizer instead of its id; only its log relied on the answer",
    setting=HALF,
)
def overflow_probe_wrong_key(self: Trainer, gradient_norm: Tensor) -> Tensor:
    if not self.scaler.is_enabled():
        return torch.isfinite(gradient_norm)
    found = self.scaler._per_optimizer_states[self.optimizer]["found_inf_per_device"]  # the key is id(optimizer)
    return torch.tensor(sum(found.values()) == 0, device=gradient_norm.device)
