"""The training loop. One window = the micro-batches of one optimizer step.

Read ``Trainer.fit`` and ``Trainer.train_window`` first; the methods below them are their vocabulary,
in the order they are used, and each does the one thing its name says.
"""

import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm, parameters_to_vector

from covlab.ledger import Ledger
from covlab.loss import Losses, LossWeights, losses
from covlab.model import Estimate
from covlab.simulator import Batch, FixedScenes, FreshScenes

PRECISIONS = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
OPTIMIZERS = ("adamw", "sgd")

replaced_seams: ContextVar[dict[str, tuple[str, object]]] = ContextVar("replaced_seams", default={})
"""{method: (fault, replacement)} for the trainers made in this context; empty unless a fault was injected."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The budget is counted in windows, so that a run is the same on a fast and a slow machine.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    windows: int  #: optimizer steps to attempt
    accumulation: int = 4  #: micro-batches a window
    optimizer: str = "adamw"  #: "adamw" or "sgd"
    learning_rate: float = 3e-3
    head_learning_rate: float | None = None  #: of the model's ``head``; None: as everywhere
    momentum: float = 0.9  #: sgd only
    weight_decay: float = 1e-2
    clip: float | None = 1.0  #: largest gradient norm; None: never clip
    precision: str = "fp32"  #: "fp32", "bf16" or "fp16" (with a loss scale) for the network's real layers
    warmup: int = 20  #: executed steps of linear warm-up, before the cosine
    ema_decay: float | None = None  #: of the averaged parameters that are validated and saved; None: no average
    fused: bool = True  #: the optimizer's fused kernel, which never waits for the device

    def __post_init__(self):
        for name, least in (("windows", 1), ("accumulation", 1), ("warmup", 0)):
            count = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or count < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {count!r}")
        for name, choices in (("optimizer", OPTIMIZERS), ("precision", tuple(PRECISIONS))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("learning_rate", "head_learning_rate", "clip"):
            number = getattr(self, name)
            if not (number is None and name != "learning_rate") and not 0 < number < math.inf:
                raise ValueError(f"{name} must be above 0 and finite, got {number!r}")
        for name, most in (("momentum", 1), ("weight_decay", math.inf), ("ema_decay", 1)):
            number = getattr(self, name)
            if number is not None and not 0 <= number < most:
                raise ValueError(f"{name} must be at least 0 and below {most}, got {number!r}")


class Trainer:
    """Trains ``model`` on ``scenes`` by ``recipe``.

    Args:
        model: a network of :mod:`covlab.model`; its parameters' device is where training happens.
        scenes: where micro-batches come from, on that device.
        validation: scenes held out, on that device.
        recipe: how to train.
        weights: of the loss terms.
        report: called with one line an epoch.

    Attributes:
        ledger: one row a window.
        history: one row an epoch: epoch, train, validation, skipped, nonfinite.
        faults: names of the injected faults; empty on every honest run.
    """

    def __init__(
        self,
        model: nn.Module,
        scenes: FreshScenes | FixedScenes,
        validation: Batch,
        recipe: Recipe,
        weights: LossWeights | None = None,
        report=print,
    ):
        if len(scenes) == 0:
            raise ValueError("scenes must give at least one micro-batch an epoch, got none")
        self.model, self.scenes, self.validation, self.recipe, self.report = model, scenes, validation, recipe, report
        self.weights = weights or LossWeights()
        self.parameters = list(model.parameters())
        self.device = self.parameters[0].device
        head = list(model.head.parameters())
        self.groups = {"backbone": [p for p in self.parameters if all(p is not q for q in head)], "head": head}
        self.optimizer = self._make_optimizer()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.windows_per_epoch = math.ceil(len(scenes) / recipe.accumulation)
        self.window = 0  # windows seen so far, of all epochs
        self.executed = torch.zeros((), dtype=torch.float64, device=self.device)  # steps that ran
        self.schedule_count = torch.zeros_like(self.executed)
        self.vector = parameters_to_vector(self.parameters).detach()
        self.average = None if recipe.ema_decay is None else self.vector.clone()
        self.running_loss, self.running_weight = torch.zeros_like(self.executed), torch.zeros_like(self.executed)
        self.ledger = Ledger()
        self.history: list[dict[str, float]] = []
        self.faults = tuple(sorted({fault for fault, _ in replaced_seams.get().values()}))
        for seam, (_, replacement) in replaced_seams.get().items():
            setattr(self, seam, MethodType(replacement, self))
        self._set_learning_rate()

    # ------------------------------------------------------------------ the loop

    def fit(self) -> "Trainer":
        """Train until the recipe's windows are spent; validate after every epoch."""
        self.model.train()
        while self.window < self.recipe.windows:
            epoch = self.window // self.windows_per_epoch
            for window in self.draw_windows(epoch):
                self.train_window(window)
                if self.window == self.recipe.windows:
                    break
            self.end_epoch(epoch)
        return self

    def train_window(self, window: list[Batch]) -> None:
        """Accumulate the gradient of the window's mean loss, then take one step, if it may run."""
        window_weight = sum(micro_batch.weight.sum() for micro_batch in window)
        window_loss = torch.zeros_like(self.executed)
        for micro_batch in window:
            loss = self.weigh(self.losses(micro_batch), micro_batch, window_weight)
            self.backward(loss)
            window_loss += loss.detach()
        self.sanitize()
        gradient_norms = self.condition()
        ran = self.gate(gradient_norms["gradient_norm"])
        self.step(ran)
        self.update_average(ran)
        self.window += 1
        self.account(window, window_loss, window_weight, gradient_norms, ran)
        self.schedule(ran)

    def end_epoch(self, epoch: int) -> None:
        """Validate, and say how the epoch went."""
        self.ledger.flush()
        rows = [row for row in self.ledger.rows if row["epoch"] == epoch]
        scores = self.evaluate()
        self.history.append(
            {
                "epoch": epoch,
                "train": (self.running_loss / self.running_weight).item(),
                "validation": scores.mean().item(),
                "skipped": sum(row["ran"] == 0 for row in rows),
                "nonfinite": sum(not math.isfinite(row["loss"]) for row in rows),
            }
        )
        self.running_loss.zero_(), self.running_weight.zero_()
        epochs = math.ceil(self.recipe.windows / self.windows_per_epoch)
        stamp = " BUGGED" if self.faults else ""
        last = self.history[-1]
        skipped = f" skipped {last['skipped']}" if last["skipped"] else ""
        self.report(f"Epoch {epoch + 1:03d}/{epochs:03d}: train {last['train']:.6f} val {last['validation']:.6f}{skipped}{stamp}")

    # ------------------------------------------------------------------ its vocabulary (the seams)

    def draw_windows(self, epoch: int) -> Iterator[list[Batch]]:
        """The windows of ``epoch`` still to come; the last one may be short."""
        done = self.window - epoch * self.windows_per_epoch
        micro_batches = self.scenes.micro_batches(epoch, first=done * self.recipe.accumulation)
        while window := list(islice(micro_batches, self.recipe.accumulation)):
            yield window

    def losses(self, micro_batch: Batch) -> Losses:
        """Forward under autocast, the loss outside it."""
        return losses(self.estimate(self.model, micro_batch), micro_batch, self.weights)

    def estimate(self, model: Callable[..., Estimate], batch: Batch) -> Estimate:
        """What ``model`` makes of a batch, in the recipe's precision; training and evaluation both come through here."""
        dtype = PRECISIONS[self.recipe.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            return model(batch.y, batch.H, batch.codes, batch.snr_db)

    def weigh(self, losses: Losses, micro_batch: Batch, window_weight: Tensor) -> Tensor:
        """The micro-batch's share of the window's mean loss: exact for ragged micro-batches and short windows."""
        return (losses.total * micro_batch.weight).sum() / window_weight

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``, times the loss scale, to what has accumulated."""
        self.scaler.scale(loss).backward()

    def sanitize(self) -> None:
        """Do nothing: a gradient that is not finite must be seen, not mended."""

    def condition(self) -> dict[str, Tensor]:
        """Take the loss scale out, measure the gradient, then clip it."""
        self.scaler.unscale_(self.optimizer)
        norms = {f"gradient_norm_{name}": get_total_norm(_gradients(group)) for name, group in self.groups.items()}
        norms["gradient_norm"] = torch.stack(list(norms.values())).norm()
        if self.recipe.clip is not None:
            clip_grads_with_norm_(self.parameters, self.recipe.clip, norms["gradient_norm"])
        norms["gradient_norm_clipped"] = get_total_norm(_gradients(self.parameters))
        return norms

    def gate(self, gradient_norm: Tensor) -> Tensor:
        """May the step run? Only if the whole gradient is finite. (A tensor: nobody waits for the answer.)"""
        return torch.isfinite(gradient_norm)

    def step(self, ran: Tensor) -> None:
        """Step, unless the gate said no; adapt the loss scale; clear the gradient."""
        if self.recipe.fused:
            # The fused kernels read this flag on the device and leave everything as it was if it is set.
            self.optimizer.found_inf = (~ran).float()
            self.optimizer.step()
        elif ran:
            self.optimizer.step()
        self.executed += ran
        self.scaler.update()
        self.optimizer.zero_grad()

    def schedule(self, ran: Tensor) -> None:
        """Advance the learning rate with the steps that ran."""
        self.schedule_count += ran
        self._set_learning_rate()

    def update_average(self, ran: Tensor) -> None:
        """Move the averaged parameters towards the new ones, if the step ran."""
        self.previous, self.vector = self.vector, parameters_to_vector(self.parameters).detach()
        if self.average is not None:
            self.average.lerp_(self.vector, (1 - self.recipe.ema_decay) * ran)

    def account(self, window: list[Batch], loss: Tensor, weight: Tensor, gradient_norms: dict[str, Tensor], ran: Tensor) -> None:
        """Log the window: into the epoch's mean, and as a row of the ledger."""
        self.running_loss += loss * weight
        self.running_weight += weight
        self.ledger.append(
            {
                "window": self.window,
                "epoch": (self.window - 1) // self.windows_per_epoch,
                "scenes": sum(len(micro_batch) for micro_batch in window),
                "micro_batches": len(window),
            },
            {
                "loss": loss,
                "ran": ran,
                "loss_scale": self.scaler.scale(torch.ones_like(loss)),
                **gradient_norms,
                "update_norm": (self.vector - self.previous).norm(),
                "parameter_norm": self.vector.norm(),
                "learning_rate": torch.as_tensor(self.optimizer.param_groups[0]["lr"], device=self.device),
                "executed": self.executed,
                "schedule_count": self.schedule_count,
            },
        )

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """NMSE of every validation scene [B], in evaluation mode, by the parameters that would be saved."""
        parameters = self.validated_parameters()
        self.model.eval()
        try:
            chunks = (self.validation[start : start + 256] for start in range(0, len(self.validation), 256))
            return torch.cat([self.estimate(partial(_call_with, self.model, parameters), chunk).nmse(chunk) for chunk in chunks])
        finally:
            self.model.train()

    def validated_parameters(self) -> dict[str, Tensor]:
        """{name: value} of the averaged parameters, or of the model's own where the recipe keeps no average."""
        names = [name for name, _ in self.model.named_parameters()]
        if self.average is None:
            return dict(zip(names, self.parameters, strict=True))
        pieces = self.average.split([parameter.numel() for parameter in self.parameters])
        return {name: piece.view_as(p) for name, piece, p in zip(names, pieces, self.parameters, strict=True)}

    # ------------------------------------------------------------------ set-up

    def _make_optimizer(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        rates = {"backbone": recipe.learning_rate, "head": recipe.head_learning_rate or recipe.learning_rate}
        groups = [
            # A learning rate on the device follows the schedule there; only the fused kernels can read it.
            {"params": parameters, "name": name, "lr": torch.tensor(rates[name], device=self.device) if recipe.fused else rates[name], "peak": rates[name]}
            for name, parameters in self.groups.items()
        ]
        if recipe.optimizer == "adamw":
            return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=recipe.fused)
        optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=recipe.fused)
        if recipe.momentum:
            # Left to itself, the fused kernel takes uninitialized memory for momentum after a skipped first step.
            for parameter in self.parameters:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer

    def _set_learning_rate(self) -> None:
        """Linear warm-up, then a cosine to zero, as a function of ``schedule_count``."""
        count, recipe = self.schedule_count, self.recipe
        factor = 0.5 * (1 + torch.cos(math.pi * (count / recipe.windows).clamp(max=1)))
        if recipe.warmup:
            factor = factor * ((count + 1) / recipe.warmup).clamp(max=1)
        for group in self.optimizer.param_groups:
            if recipe.fused:
                group["lr"].copy_(group["peak"] * factor)
            else:
                group["lr"] = group["peak"] * factor.item()


def _call_with(model: nn.Module, parameters: dict[str, Tensor], *inputs: Tensor) -> Estimate:
    return torch.func.functional_call(model, parameters, inputs)


def _gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
