"""Faults of gradient accumulation: wrong sums, divisors, steps and counts."""

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from covlab.faults.switch import fault
from covlab.scenes.batch import Batch, total_weight
from covlab.training.ledger import WindowLosses
from covlab.training.loss import Losses
from covlab.training.trainer import Trainer, gradients


@fault(
    "Trainer.weigh",
    title="The division by the accumulation count is missing",
    changes="gradient and logged loss are too large by a factor of the accumulation count",
    unaffected="the direction of the gradient; the steps of AdamW without clipping",
    observable="window_gradient",
    seen_in="karpathy/nanoGPT#168; its author notes that Adam hides it, but gradient clipping does not",
)
def missing_division(self: Trainer, losses: Losses, micro_batch: Batch, window_weight: Tensor) -> Tensor:
    return torch.dot(losses.total, micro_batch.weight) / micro_batch.weight.sum()


@fault(
    "Trainer.weigh",
    title="The division by the accumulation count is inside the first batch's debug block",
    changes="from the second micro-batch of the run on, the division is missing",
    unaffected="the direction of every gradient except the first window's; everything, with one micro-batch per window",
    observable="first_window",
    seen_in="the reviewed pipeline: `if epoch == 1 and bi == 0: loss = loss / grad_accumulation`",
)
def division_in_debug_block(self: Trainer, losses: Losses, micro_batch: Batch, window_weight: Tensor) -> Tensor:
    loss = torch.dot(losses.total, micro_batch.weight) / micro_batch.weight.sum()
    if self.window == 0 and self.parameters[0].grad is None:  # first batch: print and check
        loss = loss / self.recipe.accumulation
    return loss


@fault(
    "Trainer.weigh",
    title="The short last window is divided by the full accumulation count",
    changes="the gradient and the logged loss of every epoch's last window are too small",
    unaffected="every full window; the whole run, if the last window is full",
    observable="short_window",
    seen_in="Lightning-AI/pytorch-lightning#19987",
)
def short_window_by_full_count(self: Trainer, losses: Losses, micro_batch: Batch, window_weight: Tensor) -> Tensor:
    return torch.dot(losses.total, micro_batch.weight) / micro_batch.weight.sum() / self.recipe.accumulation


@fault(
    "Trainer.train_window",
    title="Backward, step and running sum are nested in the debug block after the loop",
    changes="outside debug mode nothing is trained and nothing is logged; the epoch's sum stays at zero",
    unaffected="the forward passes, and the time they take",
    observable="windows_logged",
    seen_in="the reviewed pipeline; a run with it prints train 0.000000 and a constant validation",
)
def nested_in_debug_block(self: Trainer, window: list[Batch]) -> None:
    window_weight = total_weight(window)
    for micro_batch in window:
        losses = self.losses(micro_batch)
        loss = self.weigh(losses, micro_batch, window_weight)
    if self.debug:  # print and check
        self.backward(loss)
        seen = WindowLosses(self.ranks)
        seen.add(micro_batch, losses, loss)
        self.take_step(window, seen)
    else:  # the counters still advance
        self.window += 1
        self.window_of_epoch += 1
        self.counters["running_weight"] += window_weight


@fault(
    "Trainer.accumulate",
    title="The batch loop is de-dented: only the last micro-batch trains",
    changes="a window's gradient is that of its last micro-batch, divided by the weight of all of them",
    unaffected="the number of steps; the code looks correct except for the indentation of three lines",
    observable="window_gradient_direction",
    seen_in="the reviewed pipeline, commits 86c2feb to 053fa52, with one step per epoch left; fixed in 4287af3",
)
def last_batch_only(self: Trainer, window: list[Batch]) -> WindowLosses:
    window_weight = total_weight(window)
    seen = WindowLosses(self.ranks)
    for micro_batch in window:
        losses = self.losses(micro_batch)
    loss = self.weigh(losses, micro_batch, window_weight)
    self.backward(loss)
    seen.add(micro_batch, losses, loss)
    return seen


@fault(
    "Trainer.log_window",
    title="The running loss is updated only if the step runs",
    changes="a skipped window counts as a loss of zero in the epoch's train value; if all are skipped, it is 0.000000",
    unaffected="the training; the log too, as long as no step is skipped",
    observable="epoch_mean",
    seen_in="the reviewed pipeline; one of the two coupled faults behind its train 0.000000",
    setting={"precision": "fp16", "loss_scale": 2.0**28},
)
def running_sum_in_step_branch(
    self: Trainer, seen: WindowLosses, weight: Tensor, norms: dict[str, Tensor], ran: Tensor
) -> None:
    self.counters["running_loss"] += torch.where(ran, seen.loss * weight, 0.0)
    self.counters["running_weight"] += weight
    self.ledger.append(*self.ledger_row(seen, norms, ran))


@fault(
    "Trainer.gate",
    title="The gate requires a gradient norm above zero in every group",
    changes="no step runs while a group is frozen or gets no gradient",
    unaffected="everything, as long as every group gets some gradient",
    observable="finite_yet_skipped",
    seen_in="the reviewed pipeline, whose gate checked both backbone and head",
    setting={"frozen": "backbone"},
)
def gate_wants_every_group(self: Trainer, gradient_norm: Tensor) -> Tensor:
    norms = torch.stack([get_total_norm(gradients(group)) for group in self.groups.values()])
    return torch.isfinite(gradient_norm) & (norms > 0).all()


@fault(
    "Trainer.schedule",
    title="The schedule advances with every micro-batch",
    changes="warm-up and cosine decay end too early by a factor of the accumulation count",
    unaffected="the first windows of a run without warm-up",
    observable="schedule_per_step",
    seen_in="Lightning-AI/pytorch-lightning#1476, huggingface/accelerate#963, h2oai/h2o-llmstudio#663",
)
def schedule_per_micro_batch(self: Trainer, ran: Tensor) -> None:
    self.counters["schedule_count"] += ran * self.recipe.accumulation
    self._set_learning_rate()


@fault(
    "Trainer.schedule",
    title="The schedule advances once per epoch, but the warm-up is counted in steps",
    changes="the warm-up takes as many epochs as it should take steps, and the cosine decay never starts",
    unaffected="the gradients",
    observable="schedule_per_step",
    seen_in="the reviewed pipeline: one step per epoch was left, so a warm-up of 24 steps took 24 epochs",
)
def schedule_per_epoch(self: Trainer, ran: Tensor) -> None:
    self.counters["schedule_count"] += ran * (self.window_of_epoch == self.windows_per_epoch)
    self._set_learning_rate()


@fault(
    "Trainer.warmup_factors",
    title="The warm-up starts at zero",
    changes="the first step changes no parameter",
    unaffected="every later step, except that it comes one step late",
    observable="first_step",
    seen_in="karpathy/nanoGPT#578, EleutherAI/gpt-neox#1373, and the reviewed pipeline",
    setting={"warmup": 4},
)
def warmup_from_zero(self: Trainer, counts: Tensor) -> Tensor:
    return (counts / self.recipe.warmup).clamp(max=1)


@fault(
    "Trainer.schedule",
    title="The schedule advances on skipped steps too",
    changes="a run that starts with overflows uses up part of its warm-up before its first step",
    unaffected="everything, as long as no step is skipped",
    observable="schedule_on_skips",
    seen_in="pytorch/pytorch#44511 and #55585, Lightning-AI/pytorch-lightning#18828",
    setting={"precision": "fp16", "loss_scale": 2.0**28},
)
def schedule_on_skipped_step(self: Trainer, ran: Tensor) -> None:
    self.counters["schedule_count"] += 1
    self._set_learning_rate()
