"""Train a copy of a trainer on one window, and observe what it does."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from covlab.scenes.batch import Batch, concatenate
from covlab.training.trainer import Trainer, gradients


@dataclass
class ObservedWindow:
    """What happened in one window."""

    scales: list[float]  #: loss scale at each backward, and after the last one
    accumulated: Tensor  #: unscaled gradient of all micro-batches; zero if none was accumulated [P]
    applied: Tensor  #: gradient that reached the step; zero if none did [P]
    ran: bool = False
    row: dict[str, float] = field(default_factory=dict)  #: the ledger's row; empty if none was written
    scale_after: float = math.nan


def observe_window(
    run: Trainer, window: list[Batch], poison: Callable[[Trainer], None] | None = None
) -> ObservedWindow:
    """Train a copy of ``run``, with its faults, on ``window``. If ``poison`` is given, first call ``poison(copy)``."""
    copied, nothing = untraced_copy(run), torch.zeros_like(run.vector)
    seen = ObservedWindow([], accumulated=nothing, applied=nothing)
    if poison is not None:
        poison(copied)
    backward, sanitize, step = copied.backward, copied.sanitize, copied.step

    def watched_backward(loss: Tensor) -> None:
        seen.scales.append(copied.scaler.get_scale())
        backward(loss)

    def watched_sanitize() -> None:
        seen.scales.append(copied.scaler.get_scale())
        seen.accumulated = gradient_of(copied) / copied.scaler.get_scale()
        sanitize()

    def watched_step(ran: Tensor) -> None:
        seen.applied, seen.ran = gradient_of(copied), bool(ran)
        step(ran)

    copied.backward, copied.sanitize, copied.step = watched_backward, watched_sanitize, watched_step  # type: ignore[method-assign]  # only of this copy
    copied.model.train()
    copied.train_window(window)
    seen.row = next(reversed(copied.ledger.flush()), {})
    seen.scale_after = copied.scaler.get_scale()
    return seen


def infinite_gradient(copied: Trainer) -> None:
    """Poison ``copied``: every backward leaves an infinity in the gradient."""
    backward = copied.backward

    def overflowing(loss: Tensor) -> None:
        backward(loss)
        gradients(copied.parameters)[0].view(-1)[0] = math.inf

    copied.backward = overflowing  # type: ignore[method-assign]  # only of this copy


def loss_of_nan(copied: Trainer) -> None:
    """Poison ``copied``: the NMSE is NaN in every scene."""
    cov = copied.loss.cov
    copied.loss.cov = lambda estimate, batch: cov(estimate, batch) * math.nan  # type: ignore[method-assign]  # only of this copy


def untraced_copy(run: Trainer) -> Trainer:
    """Copy ``run`` so that training the copy changes neither ``run`` nor its folder. Both share the scenes."""
    shared = (run.scenes, run.validation, run.progress, run.folder, run.ledger.path)
    copied = copy.deepcopy(run, {id(part): part for part in shared})  # deepcopy copies nothing that this memo holds
    copied.folder = copied.ledger.path = None
    return copied


def gradient_of(run: Trainer) -> Tensor:
    """Return the gradient of all parameters, zero where there is none [P]."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).detach().flatten() for p in run.parameters])


def honest_gradient(run: Trainer, window: list[Batch]) -> Tensor:
    """Return the gradient of the window's mean loss, all scenes in one batch, with the run's own loss [P]."""
    copied, batch = untraced_copy(run), concatenate(window)
    copied.optimizer.zero_grad()
    total = Trainer.losses(copied, batch).total
    scale = copied.scaler.get_scale()
    (scale * torch.dot(total, batch.weight) / batch.weight.sum()).backward()
    return gradient_of(copied) / scale
