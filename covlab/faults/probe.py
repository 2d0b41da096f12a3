"""A copy of a trainer, let loose on one window: what it did there, seen from within."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from covlab.model import Estimate
from covlab.simulator import Batch, concatenate
from covlab.trainer import Trainer, gradients


@dataclass
class SeenWindow:
    """What one window did in a copy of a trainer."""

    accumulated: Tensor  #: gradient when all micro-batches were in, loss scale taken out [P]
    scales: list[float] = field(default_factory=list)  #: loss scale at each backward, and when the last was done
    applied: Tensor | None = None  #: gradient that the step got to see [P]
    ran: bool = False
    row: dict[str, float] | None = None  #: the ledger's row
    scale_after: float = math.nan


def observe_window(run: Trainer, window: list[Batch], poison: Callable[[Trainer], None] | None = None) -> SeenWindow:
    """Let a copy of ``run`` train on ``window``, ``poison``ed first if asked for, and say what was seen.

    Seams are wrapped in the copy and call what they wrap, injected or not.
    """
    twin, seen = twin_of(run), SeenWindow(torch.zeros_like(run.vector))
    if poison is not None:
        poison(twin)
    backward, sanitize, step = twin.backward, twin.sanitize, twin.step

    def watched_backward(loss: Tensor) -> None:
        seen.scales.append(twin.scaler.get_scale())
        backward(loss)

    def watched_sanitize() -> None:
        seen.scales.append(twin.scaler.get_scale())
        seen.accumulated = gradient_of(twin) / twin.scaler.get_scale()
        sanitize()

    def watched_step(ran: Tensor) -> None:
        seen.applied, seen.ran = gradient_of(twin), bool(ran)
        step(ran)

    twin.backward, twin.sanitize, twin.step = watched_backward, watched_sanitize, watched_step  # type: ignore[method-assign]  # of this copy alone
    twin.model.train()
    twin.train_window(window)
    rows = twin.ledger.flush()
    seen.row = rows[-1] if rows else None
    seen.scale_after = twin.scaler.get_scale()
    return seen


def infinite_gradient(twin: Trainer) -> None:
    """A poison: every backward leaves an infinity in the gradient."""
    backward = twin.backward

    def overflowing(loss: Tensor) -> None:
        backward(loss)
        gradients(twin.parameters)[0].view(-1)[0] = math.inf

    twin.backward = overflowing  # type: ignore[method-assign]  # of this copy alone


def loss_of_nan(twin: Trainer) -> None:
    """A poison: the NMSE is NaN in every scene."""
    honest = twin.loss.cov

    def of_nan(estimate: Estimate, batch: Batch) -> Tensor:
        return honest(estimate, batch) * math.nan

    twin.loss.cov = of_nan  # type: ignore[method-assign]  # of this copy alone


def twin_of(run: Trainer) -> Trainer:
    """A copy that can be trained without leaving a trace in ``run`` or its folder; the scenes are shared."""
    shared = (run.scenes, run.validation, run.progress, run.folder, run.ledger.path)
    twin = copy.deepcopy(run, {id(part): part for part in shared})
    twin.folder = twin.ledger.path = None
    return twin


def gradient_of(run: Trainer) -> Tensor:
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).detach().flatten() for p in run.parameters])


def honest_gradient(run: Trainer, window: list[Batch]) -> Tensor:
    """The gradient of the window's mean loss, all scenes in one batch, by the run's own loss [P]."""
    twin, batch = twin_of(run), concatenate(window)
    twin.optimizer.zero_grad()
    total = Trainer.losses(twin, batch).total
    scale = twin.scaler.get_scale()
    (scale * torch.dot(total, batch.weight) / batch.weight.sum()).backward()
    return gradient_of(twin) / scale
