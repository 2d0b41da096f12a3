"""A copy of a trainer, let loose on one window: what it did there, seen from within."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from covlab.networks.model import Estimate
from covlab.scenes.batch import Batch, concatenate
from covlab.training.trainer import Trainer, gradients


@dataclass
class ObservedWindow:
    """What one window did in a copy of a trainer."""

    accumulated: Tensor  #: gradient when all micro-batches were in, loss scale taken out [P]
    scales: list[float] = field(default_factory=list)  #: loss scale at each backward, and when the last was done
    applied: Tensor | None = None  #: gradient that the step got to see [P]
    ran: bool = False
    row: dict[str, float] | None = None  #: the ledger's row
    scale_after: float = math.nan


def observe_window(
    run: Trainer, window: list[Batch], poison: Callable[[Trainer], None] | None = None
) -> ObservedWindow:
    """Let a copy of ``run`` train on ``window``, ``poison``ed first if asked for, and say what was seen.

    Seams are wrapped in the copy and call what they wrap, injected or not.
    """
    copied, seen = untraced_copy(run), ObservedWindow(torch.zeros_like(run.vector))
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

    copied.backward, copied.sanitize, copied.step = watched_backward, watched_sanitize, watched_step  # type: ignore[method-assign]  # of this copy alone
    copied.model.train()
    copied.train_window(window)
    rows = copied.ledger.flush()
    seen.row = rows[-1] if rows else None
    seen.scale_after = copied.scaler.get_scale()
    return seen


def infinite_gradient(copied: Trainer) -> None:
    """A poison: every backward leaves an infinity in the gradient."""
    backward = copied.backward

    def overflowing(loss: Tensor) -> None:
        backward(loss)
        gradients(copied.parameters)[0].view(-1)[0] = math.inf

    copied.backward = overflowing  # type: ignore[method-assign]  # of this copy alone


def loss_of_nan(copied: Trainer) -> None:
    """A poison: the NMSE is NaN in every scene."""
    honest = copied.loss.cov

    def of_nan(estimate: Estimate, batch: Batch) -> Tensor:
        return honest(estimate, batch) * math.nan

    copied.loss.cov = of_nan  # type: ignore[method-assign]  # of this copy alone


def untraced_copy(run: Trainer) -> Trainer:
    """A copy that can be trained without leaving a trace in ``run`` or its folder; the scenes are shared."""
    shared = (run.scenes, run.validation, run.progress, run.folder, run.ledger.path)
    copied = copy.deepcopy(run, {id(part): part for part in shared})
    copied.folder = copied.ledger.path = None
    return copied


def gradient_of(run: Trainer) -> Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).detach().flatten() for p in run.parameters])


def honest_gradient(run: Trainer, window: list[Batch]) -> Tensor:
    """The gradient of the window's mean loss, all scenes in one batch, by the run's own loss [P]."""
    copied, batch = untraced_copy(run), concatenate(window)
    copied.optimizer.zero_grad()
    total = Trainer.losses(copied, batch).total
    scale = copied.scaler.get_scale()
    (scale * torch.dot(total, batch.weight) / batch.weight.sum()).backward()
    return gradient_of(copied) / scale
