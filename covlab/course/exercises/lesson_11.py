"""Exercises of lesson 11, watching your own loop."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LRScheduler

from covlab.course.exercises import Exercise, Mistake
from covlab.course.exercises.case_parts import Pair, integer, pairs
from covlab.course.exercises.judging import Trial

Epoch = Callable[[nn.Module, Optimizer, LRScheduler, list[Pair], int], None]
Step = Callable[[nn.Module, Optimizer, GradScaler, Tensor, float], None]


def _case(generator: torch.Generator) -> tuple[Tensor, list[Pair], int]:
    accumulation = integer(generator, 1, 4)
    windows = integer(generator, 3, 5)
    micro_batches = [(inputs, targets[:, None]) for inputs, targets in pairs(generator, windows * accumulation)]
    return torch.randn(1, 3, generator=generator), micro_batches, accumulation


def _trainee(start: Tensor) -> tuple[nn.Linear, Optimizer]:
    """Return a linear model with the parameters ``start`` [1, 3] and its optimizer."""
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(start)
    return model, SGD(model.parameters(), lr=0.1, momentum=0.5)  # a step written by hand would forget the momentum


def _parameters(model: nn.Linear) -> Tensor:
    return model.weight.detach().flatten().clone()


# ---------------------------------------------------------------- an epoch with two bugs


def _after_epoch(epoch: Epoch, start: Tensor, micro_batches: list[Pair], accumulation: int) -> dict[str, Any]:
    """Return the parameters and the learning rate that ``epoch`` leaves. The keys are shown to the student."""
    model, optimizer = _trainee(start)
    schedule = ExponentialLR(optimizer, 0.9)
    # This step has no gradients and changes nothing. Without it PyTorch warns if the schedule advances first.
    optimizer.step()
    epoch(model, optimizer, schedule, micro_batches, accumulation)
    return {"parameters": _parameters(model), "learning rate": optimizer.param_groups[0]["lr"]}


def _epoch(
    divisor: Callable[[int, int], int] = lambda accumulation, micro_batches: accumulation,
    advance: str = "after the step",
    clear: bool = True,
    keep: bool = True,
    step: Callable[[int, int], bool] = lambda number, accumulation: number % accumulation == 0,
) -> Epoch:
    def accumulating_epoch(
        model: nn.Module, optimizer: Optimizer, schedule: LRScheduler, micro_batches: list[Pair], accumulation: int
    ) -> None:
        for number, (inputs, targets) in enumerate(micro_batches, 1):
            loss = nn.functional.mse_loss(model(inputs), targets)
            if not keep:
                optimizer.zero_grad()
            (loss / divisor(accumulation, len(micro_batches))).backward()
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

    return accumulating_epoch


def _undivided(accumulation: int, micro_batches: int) -> int:
    return 1


accumulating_epoch = Exercise(
    id="11.accumulating_epoch",
    law="Each window takes one step along the mean of its losses, and each step advances the schedule once.",
    draw=_case,
    run=_after_epoch,
    right=_epoch(),
    hints={
        "nothing is fixed yet. Watch the loop: which two lines does the report name?": _epoch(
            divisor=_undivided, advance="every micro-batch"
        ),
        "the losses have the correct weights. How often is the schedule called in a window of {accumulation}?": _epoch(
            advance="every micro-batch"
        ),
        "the schedule is correct, but a window's gradient is still {accumulation} times too long.": _epoch(
            divisor=_undivided
        ),
        "you always divide by 4, but a window has {accumulation} micro-batches here.": _epoch(
            divisor=lambda most, of: 4
        ),
        "you divide by the micro-batches of the whole epoch, not of the window.": _epoch(divisor=lambda most, of: of),
        "the gradient still holds those of earlier windows. Which call clears it?": _epoch(clear=False),
        "only the last micro-batch of each window is left in its gradient. When do you clear it?": _epoch(keep=False),
        "the schedule advances once, at the end. How many steps were there?": _epoch(advance="every epoch"),
        "the learning rate never changes. What advances the schedule?": _epoch(advance="never"),
        "the first step already uses the second learning rate.": _epoch(advance="before the step"),
        "you take a step after every micro-batch. Where is the window of {accumulation}?": _epoch(
            step=lambda number, accumulation: True
        ),
        "the steps come at the wrong micro-batch. After which one is a window full?": _epoch(
            step=lambda number, accumulation: number % accumulation == 1
        ),
    },
)


# ---------------------------------------------------------------- a step under a loss scale


def _scaled(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, float, float]:
    """Draw a step. Some gradients overflow, and some are shorter than ``most``."""
    start, micro_batches, _ = _case(generator)
    inputs, targets = micro_batches[0]
    if integer(generator, 0, 3) == 0:  # one entry of the gradient overflows, even without a scale; the others do not
        scene, entry = integer(generator, 0, 3), integer(generator, 0, 2)
        inputs[scene] *= 1e-3
        inputs[scene, entry], start[0, entry] = 5e19, 2.0
    most = (0.1, 100.0)[integer(generator, 0, 1)] * (1 + float(torch.rand((), generator=generator)))
    return start, inputs, 3 + targets, most, 2.0 ** integer(generator, 3, 10)


PARAMETERS, SCALE = "parameters", "loss scale after the step, over that before"


def _after_step(
    step: Step, start: Tensor, inputs: Tensor, targets: Tensor, most: float, scale: float
) -> dict[str, Any]:
    """Return the parameters after a step, the loss scale relative to ``scale``, and how many good steps in a row the
    scaler has counted. The keys are shown to the student.
    """
    model, optimizer = _trainee(start)
    scaler = GradScaler("cpu", init_scale=scale)
    step(model, optimizer, scaler, nn.functional.mse_loss(model(inputs), targets), most)
    return {
        PARAMETERS: _parameters(model),
        SCALE: scaler.get_scale() / scale,
        "good steps that the scaler counted": scaler.state_dict()["_growth_tracker"],
    }


def _step(
    scale: bool = True,
    clip: bool = True,
    early: bool = False,
    step: bool = True,
    gate: bool = True,
    update: bool = True,
    clean: bool = False,
    limit: Callable[..., object] = nn.utils.clip_grad_norm_,
) -> Step:
    def scaled_step(model: nn.Module, optimizer: Optimizer, scaler: GradScaler, loss: Tensor, most: float) -> None:
        (scaler.scale(loss) if scale else loss).backward()
        if clean:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        if early:
            nn.utils.clip_grad_norm_(model.parameters(), most)
        if scale:
            scaler.unscale_(optimizer)
        if clip and not early:
            limit(model.parameters(), most)
        if step:
            if scale and gate:
                scaler.step(optimizer)
            else:
                optimizer.step()
        if scale and update:
            scaler.update()

    return scaled_step


def _moved(trial: Trial, state: dict[str, Any]) -> bool:
    return not torch.equal(state[PARAMETERS], trial.arguments["start"].flatten())


def _never_unscaled(model: nn.Module, optimizer: Optimizer, scaler: GradScaler, loss: Tensor, most: float) -> None:
    scaler.scale(loss).backward()
    optimizer.step()


def _updated_first(model: nn.Module, optimizer: Optimizer, scaler: GradScaler, loss: Tensor, most: float) -> None:
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), most)
    scaler.update()
    scaler.step(optimizer)


scaled_step = Exercise(
    id="11.scaled_step",
    law=(
        "The gradient is clipped after the loss scale is divided out. The scaler takes the step, and is updated "
        "after the step."
    ),
    draw=_scaled,
    run=_after_step,
    right=_step(),
    hints={
        "the gradient still contains the loss scale when you clip it. Which call takes the scale out, and when?": (
            _step(early=True)
        ),
        "the step is as long as without clipping. Is the gradient clipped before the step?": _step(clip=False),
        "clipping entry by entry changes the direction. Limit the length of the whole gradient.": _step(
            limit=nn.utils.clip_grad_value_
        ),
        "you update the scaler before the step, so the step no longer knows the scale. Which of the two comes first?": (
            _updated_first
        ),
        "the optimizer steps with the loss scale still in the gradient. What should call its step?": _never_unscaled,
        "you do not use the scaler: small gradients can be lost, and nothing skips a step that overflows.": (
            _step(scale=False)
        ),
        "the step is correct, but the scaler gets no information about it: its scale never changes.": _step(
            update=False
        ),
        "after an overflow the scaler should halve its scale, but did not. What hides the overflow from it?": Mistake(
            _step(clean=True), lambda trial: bool(trial.expected[SCALE] < trial.got[SCALE])
        ),
        "a step is taken along a gradient that overflowed. What should call the optimizer's step, or skip it?": (
            Mistake(_step(gate=False), lambda trial: bool(trial.expected[SCALE] < 1) and _moved(trial, trial.got))
        ),
        "no step was taken: the parameters did not change.": Mistake(
            _step(step=False), lambda trial: _moved(trial, trial.expected) and not _moved(trial, trial.got)
        ),
    },
)

invisible = Exercise(
    id="11.invisible",
    law="A watch sees what happens to gradients. It cannot know which values you intended.",
    right="weights_reset",
    choices=("weights_reset", "clip_before_unscale", "last_batch_only", "validation_in_training"),
    hints={
        "a watch sees every clipping call, and whether the loss scale is still in the gradient.": "clip_before_unscale",
        "a watch counts each forward pass that has no backward pass.": "last_batch_only",
        "a watch compares fingerprints of the inputs of training and evaluation.": "validation_in_training",
    },
)
