"""Exercises of lesson 11, watching one's own loop."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from covlab.course.exercises import Exercise, Hint

Pair = tuple[Tensor, Tensor]  # a micro-batch: inputs and targets
Epoch = Callable[[nn.Module, Optimizer, LRScheduler, list[Pair], int], None]
Step = Callable[[nn.Module, Optimizer, GradScaler, Tensor, float], None]


def _case(generator: torch.Generator) -> tuple[Tensor, list[Pair], int]:
    accumulation = int(torch.randint(2, 5, (), generator=generator))
    windows = int(torch.randint(3, 6, (), generator=generator))
    micro_batches = [
        (torch.randn(4, 3, generator=generator), torch.randn(4, 1, generator=generator))
        for _ in range(windows * accumulation)
    ]
    return torch.randn(1, 3, generator=generator), micro_batches, accumulation


def _linear(start: Tensor) -> nn.Linear:
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(start)
    return model


# ---------------------------------------------------------------- an epoch with two bugs


def _after_epoch(epoch: Epoch, start: Tensor, micro_batches: list[Pair], accumulation: int) -> Tensor:
    """The parameters and the learning rate [4] that ``epoch`` leaves."""
    model = _linear(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    # of no gradients: it moves nothing, and PyTorch does not warn of a schedule that advances before any step
    optimizer.step()
    epoch(model, optimizer, schedule, micro_batches, accumulation)
    return torch.cat([model.weight.detach().flatten(), torch.tensor([optimizer.param_groups[0]["lr"]])])


def _epoch(
    divide: bool = True,
    advance: str = "after the step",
    clear: bool = True,
    step: Callable[[int, int], bool] = lambda number, accumulation: number % accumulation == 0,
) -> Epoch:
    def mended_epoch(
        model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, micro_batches: list[Pair], accumulation: int
    ) -> None:
        for number, (inputs, targets) in enumerate(micro_batches, 1):
            loss = nn.functional.mse_loss(model(inputs), targets)
            (loss / accumulation if divide else loss).backward()
            if step(number, accumulation):
                if advance == "before the step":
                    schedule.step()
                optimizer.step()
                if advance == "after the step":
                    schedule.step()
                if clear:
                    optimizer.zero_grad()
            if advance == "every micro-batch":
                schedule.step()
        if advance == "every epoch":
            schedule.step()

    return mended_epoch


mended_epoch = Exercise(
    id="11.mended_epoch",
    law="One step a window along the mean of its losses, and one advance of the schedule a step.",
    draw=_case,
    run=_after_epoch,
    right=_epoch(),
    hints=[
        Hint(
            "nothing is mended yet. Watch it: which two lines does the report name?",
            mistake=_epoch(divide=False, advance="every micro-batch"),
        ),
        Hint(
            (
                "the losses are weighed rightly; the learning rate is not what it should be. How often is the schedule "
                "called in a window of {accumulation}?"
            ),
            mistake=_epoch(advance="every micro-batch"),
        ),
        Hint(
            "the schedule is right; a window's gradient is still {accumulation} times too long.",
            mistake=_epoch(divide=False),
        ),
        Hint("a window's gradient still holds those of the windows before it.", mistake=_epoch(clear=False)),
        Hint(
            "the schedule advances once, at the end. How many steps were there?", mistake=_epoch(advance="every epoch")
        ),
        Hint("the learning rate stays as it was: who advances the schedule?", mistake=_epoch(advance="never")),
        Hint(
            "the first step is already taken with the second learning rate.", mistake=_epoch(advance="before the step")
        ),
        Hint(
            "a step is taken after every micro-batch: where is the window of {accumulation}?",
            mistake=_epoch(step=lambda number, accumulation: True),
        ),
        Hint(
            "the steps come one micro-batch too early or too late: after which one is a window full?",
            mistake=_epoch(step=lambda number, accumulation: number % accumulation == 1),
        ),
    ],
)


# ---------------------------------------------------------------- a step under a loss scale


def _scaled(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float]:
    start, micro_batches, _ = _case(generator)
    most = 0.1 + 0.2 * float(torch.rand((), generator=generator))
    return start, micro_batches[0][0], 3 + micro_batches[0][1], most


def _after_step(step: Step, start: Tensor, inputs: Tensor, targets: Tensor, most: float) -> Tensor:
    """The parameters after one step with a loss scale of 16, and how many good steps the scaler has seen [4]."""
    model = _linear(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    step(model, optimizer, scaler, nn.functional.mse_loss(model(inputs), targets), most)
    return torch.cat([model.weight.detach().flatten(), torch.tensor([float(scaler.state_dict()["_growth_tracker"])])])


def _step(scale: bool = True, unscale: bool = True, clip: bool = True, early: bool = False, step: bool = True) -> Step:
    def mended_step(model: nn.Module, optimizer: Optimizer, scaler: GradScaler, loss: Tensor, most: float) -> None:
        (scaler.scale(loss) if scale else loss).backward()
        if early:
            nn.utils.clip_grad_norm_(model.parameters(), most)
        if scale and unscale:
            scaler.unscale_(optimizer)
        if clip and not early:
            nn.utils.clip_grad_norm_(model.parameters(), most)
        if step:
            (scaler.step if scale else lambda one: one.step())(optimizer)
        if scale:
            scaler.update()

    return mended_step


def _never_unscaled(model: nn.Module, optimizer: Optimizer, scaler: GradScaler, loss: Tensor, most: float) -> None:
    scaler.scale(loss).backward()
    optimizer.step()


mended_step = Exercise(
    id="11.mended_step",
    law=(
        "The gradient that is clipped is the gradient of the loss, not of the loss times its scale; the scaler takes "
        "the step, and is told that it is over."
    ),
    draw=_scaled,
    run=_after_step,
    right=_step(),
    hints=[
        Hint(
            (
                "the gradient was still multiplied by the loss scale when it was clipped. What takes the scale out, "
                "and when?"
            ),
            mistake=_step(early=True),
        ),
        Hint("the step is as long as if nothing had been clipped.", mistake=_step(clip=False)),
        Hint(
            "the optimizer stepped on gradients that still held the loss scale: who should call its step?",
            mistake=_never_unscaled,
        ),
        Hint(
            (
                "the parameters are right, and the scaler knows nothing of this step: without it small gradients are "
                "lost, and untold it never finds its scale."
            ),
            mistake=_step(scale=False),
        ),
        Hint(
            "no step was taken: the parameters are where they were.",
            mistake=_step(step=False),
            recognize=lambda trial: torch.equal(trial.got[:3], trial.arguments["start"].flatten()),
        ),
    ],
)

invisible = Exercise(
    id="11.invisible",
    law="A step shows what is done with gradients; it does not show what the numbers were meant to be.",
    right="weights_reset",
    choices=("weights_reset", "clip_before_unscale", "last_batch_only", "validation_in_training"),
    hints=[
        Hint(
            "clipping is a call, and a watch sees every call of it with the scale that is still in.",
            mistake="clip_before_unscale",
        ),
        Hint("forwards without a backward are counted.", mistake="last_batch_only"),
        Hint("the inputs of training and evaluation have fingerprints.", mistake="validation_in_training"),
    ],
)
