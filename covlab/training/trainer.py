"""The training loop. A window is the micro-batches of one optimizer step.

Read ``Trainer.windows`` first. It calls the methods below it, and each of them does the one thing that its name says.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm, parameters_to_vector

from covlab.arguments import Folder, checked
from covlab.networks.model import Estimate, Network
from covlab.scenes.batch import Batch, total_weight
from covlab.scenes.streams import FixedScenes, FreshScenes
from covlab.seams import injected_faults, take_seams
from covlab.training.checkpoint import (
    CheckpointError,
    RunFolder,
    capture,
    check_same_run,
    describe_run,
    refuse_faults,
    restore,
)
from covlab.training.ledger import Ledger, WindowLosses
from covlab.training.loss import Loss, Losses, LossWeights
from covlab.training.nan_diagnosis import NonFiniteLoss, check_inputs, explain
from covlab.training.progress import Lines, Silent, interrupt_as_flag, suited
from covlab.training.ranks import ALONE, Ranks
from covlab.training.recipe import PRECISIONS, Recipe, make_optimizer

VALIDATION_CHUNK = 256
NORMS_PER_RUN = 500
"""How often a run measures the norms of update and parameters. A curve cannot show more points, and each measurement
costs a pass over all parameters."""


class Trainer:
    """Train ``model`` on ``scenes`` as ``recipe`` says.

    Args:
        model: a network of :mod:`covlab.networks.model`; training happens on the device of its parameters.
        scenes: the source of micro-batches, on that device.
        validation: held-out scenes, on that device.
        recipe: how to train.
        weights: of the loss terms; None: the defaults.
        folder: folder of the run's files; None: write no files.
        progress: reports progress; None: a bar or lines, whichever suits the output.
        debug: also report whether the first window's loss is finite, and each epoch's last gradient norms.
        ranks: the processes that train this network together; only the first one prints and writes files.

    Attributes:
        ledger: one row per window.
        history: one row per epoch: epoch, train, validation, skipped, nonfinite.
        faults: names of the injected faults; empty for a correct run.
        stopped: why the run was stopped early; empty unless its losses were not finite.

    Raises:
        ValueError: an argument is of another class than its annotation, does not fit the model, or is empty, or faults
            are injected in a run of several ranks.
    """

    @checked
    def __init__(
        self,
        model: Network,
        scenes: FreshScenes | FixedScenes,
        validation: Batch,
        recipe: Recipe,
        weights: LossWeights | None = None,
        folder: Folder | None = None,
        progress: Lines | None = None,
        debug: bool = False,
        ranks: Ranks = ALONE,
    ):
        if len(scenes) == 0:
            raise ValueError("scenes must give at least one micro-batch per epoch, got none")
        model.check(validation.y, validation.H, validation.codes, validation.snr_db)
        self.model, self.scenes, self.validation, self.recipe = model, scenes, validation, recipe
        self.ranks, self.debug = ranks, debug
        self.progress = (progress or suited()) if ranks.first else Silent()
        ranks.broadcast_parameters(model)
        self.parameters = list(model.parameters())
        self.device = self.parameters[0].device
        head = set(model.head.parameters())
        self.groups = {
            "backbone": [p for p in self.parameters if p not in head],
            "head": [p for p in self.parameters if p in head],
        }
        self.weights = weights or LossWeights()
        self.loss = Loss(model.scenario, self.weights, self.device)
        self.optimizer = make_optimizer(recipe, self.groups)
        dtype = PRECISIONS[recipe.precision]
        self.autocast = nullcontext if dtype is None else partial(torch.autocast, self.device.type, dtype)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")

        self.windows_per_epoch = math.ceil(len(scenes) / recipe.accumulation)
        self.epochs = math.ceil(recipe.windows / self.windows_per_epoch)
        self.epoch = self.window_of_epoch = self.window = 0
        counters = ("executed", "schedule_count", "average_count", "running_loss", "running_weight")
        self.counters = {name: torch.zeros((), dtype=torch.float64, device=self.device) for name in counters}
        self.before = [parameter.detach().clone() for parameter in self.parameters]
        self.norms_every = max(1, recipe.windows // NORMS_PER_RUN)
        self.average = None if recipe.ema_decay is None else self.vector
        self.best = math.inf
        self.history: list[dict[str, Any]] = []
        self.folder = None if folder is None else RunFolder(folder, writes=ranks.first)
        self.ledger = Ledger(None if self.folder is None else self.folder.ledger, writes=ranks.first)
        self.streak, self.stopped, self.resumed, self.iterating = 0, "", False, False

        self.faults = tuple(sorted({*injected_faults(), *scenes.faults}))
        if self.faults and ranks.size > 1:
            raise ValueError(f"faults are for one process, got {', '.join(self.faults)} in {ranks.size} ranks")
        take_seams(self)
        self.factors = self.learning_rate_factors()
        self._set_learning_rate()

    # ---------------------------------------------------------------- the loop

    def fit(self) -> "Trainer":
        """Train until the recipe's windows are done, or its patience is exhausted, or SIGINT interrupts the run.

        An interrupt takes effect after the current window. Call ``fit`` again to continue from there.

        Raises:
            ValueError, NonFiniteLoss, FileExistsError, CheckpointError: as :meth:`windows` does.
        """
        with interrupt_as_flag(self.ranks.any) as interrupted:
            for _ in self.windows():
                if interrupted() and self.window < self.recipe.windows:
                    self.flush_and_report(now=True)
                    self.save()
                    done = f"{self.window} of {self.recipe.windows}"
                    self.progress.say(f"Interrupted after window {done}; the run can continue from here.")
                    break
        return self

    def windows(self) -> Generator[float, None, None]:
        """Train window by window. After each window, yield the share of the recipe's windows that are done.

        The validation of an epoch runs before its last yield. You may stop at any window and call this again later.

        Raises:
            ValueError: an input is NaN or infinite. The first window is checked before any step.
            NonFiniteLoss: the loss was not finite for ``recipe.nonfinite_limit`` consecutive windows, or at the end.
            FileExistsError: the folder holds another run.
            CheckpointError: another process trains in the folder, or has continued this run.
            RuntimeError: another iterator over this trainer's windows is still open.
        """
        if self.stopped:
            raise NonFiniteLoss(f"this run was stopped and is not continued: {self.stopped}")
        if self.iterating:
            raise RuntimeError("this trainer is in use: another iterator over its windows is open; close it first")
        self.iterating = True
        try:
            yield from self._windows()
        finally:
            self.iterating = False

    def _windows(self) -> Iterator[float]:
        with self.folder_locked():
            self.begin()
            try:
                while not self.complete() and not self.out_of_patience():
                    for window in islice(self.draw_windows(self.epoch), self.recipe.windows - self.window):
                        self.train_window(window)
                        self.flush_and_report()
                        if self.window_of_epoch < self.windows_per_epoch and self.window < self.recipe.windows:
                            yield self.window / self.recipe.windows
                    self.end_epoch()
                    yield self.window / self.recipe.windows
                self.refuse_nonfinite_end()
            finally:
                self.progress.end()

    def train_window(self, window: list[Batch]) -> None:
        """Accumulate the gradient of the window's mean loss, then take one step if :meth:`gate` allows it."""
        self.take_step(window, self.accumulate(window))

    def accumulate(self, window: list[Batch]) -> WindowLosses:
        """Backpropagate the share of every micro-batch in the window's mean loss."""
        window_weight = total_weight(window)
        seen = WindowLosses(self.ranks)
        for micro_batch in window:
            losses = self.losses(micro_batch)
            loss = self.weigh(losses, micro_batch, window_weight)
            self.backward(loss)
            seen.add(micro_batch, losses, loss)
        return seen

    def take_step(self, window: list[Batch], seen: WindowLosses) -> None:
        """Take a step with the accumulated gradient, log the window, and advance the schedule."""
        weight = self.ranks.average(self.parameters, total_weight(window))
        self.sanitize()
        norms = self.unscale_and_clip()
        ran = self.gate(norms["gradient_norm"])
        self.step(ran)
        self.update_average(ran)
        self.window += 1
        self.window_of_epoch += 1
        self.log_window(seen, weight, norms, ran)
        self.schedule(ran)

    def end_epoch(self) -> None:
        """Validate, report the epoch, and save a checkpoint."""
        self.flush_and_report(now=True)
        rows = [row for row in self.ledger.rows if row["epoch"] == self.epoch]
        if self.history and self.history[-1]["epoch"] == self.epoch:
            self.history.pop()  # of a smaller budget, which ended within this epoch
        self.history.append(
            {
                "epoch": self.epoch,
                "train": (self.counters["running_loss"] / self.counters["running_weight"]).item(),
                "validation": self.evaluate().mean().item(),
                "skipped": sum(row["ran"] == 0 for row in rows),
                "nonfinite": sum(not math.isfinite(row["loss"]) for row in rows),
            }
        )
        self._say_epoch(rows)
        if self.window_of_epoch == self.windows_per_epoch:  # otherwise a larger budget completes the epoch
            self.counters["running_loss"].zero_()
            self.counters["running_weight"].zero_()
            self.epoch, self.window_of_epoch = self.epoch + 1, 0
        self.save()

    # ---------------------------------------------------------------- parts of the loop; a fault replaces one method

    def draw_windows(self, epoch: int) -> Iterator[list[Batch]]:
        """Yield this rank's share of each remaining window of ``epoch``. The last window may be short."""
        for start in range(self.window_of_epoch * self.recipe.accumulation, len(self.scenes), self.recipe.accumulation):
            numbers = range(start, min(start + self.recipe.accumulation, len(self.scenes)))
            yield self.ranks.deal(self.scenes, epoch, numbers)

    def losses(self, micro_batch: Batch) -> Losses:
        """Run the network under autocast, and the loss outside it."""
        return self.loss(self.estimate(self.model, micro_batch), micro_batch)

    def estimate(self, model: Callable[..., Estimate], batch: Batch) -> Estimate:
        """Run ``model`` in the recipe's precision; both training and evaluation call this."""
        with self.autocast():
            return model(batch.y, batch.H, batch.codes, batch.snr_db)

    def weigh(self, losses: Losses, micro_batch: Batch, window_weight: Tensor) -> Tensor:
        """Return the micro-batch's share of the window's mean loss []; exact for unequal sizes and short windows."""
        return torch.dot(losses.total, micro_batch.weight) / window_weight

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of ``loss``, times the loss scale, to the accumulated gradient."""
        self.scaler.scale(loss).backward()

    def sanitize(self) -> None:
        """Do nothing: a gradient that is not finite must stay visible."""

    def unscale_and_clip(self) -> dict[str, Tensor]:
        """Divide the gradient by the loss scale, measure it, then clip it."""
        self.scaler.unscale_(self.optimizer)
        return self.measure_and_clip()

    def measure_and_clip(self) -> dict[str, Tensor]:
        """Clip the gradient. Return its norms: of each group before clipping, and of all before and after it."""
        norms = {f"gradient_norm_{name}": get_total_norm(gradients(group)) for name, group in self.groups.items()}
        norms["gradient_norm"] = torch.stack(list(norms.values())).norm()
        norms["gradient_norm_clipped"] = norms["gradient_norm"]
        if self.recipe.clip is not None:
            clip_grads_with_norm_(self.parameters, self.recipe.clip, norms["gradient_norm"])
            norms["gradient_norm_clipped"] = norms["gradient_norm"].clamp(max=self.recipe.clip)
        return norms

    def gate(self, gradient_norm: Tensor) -> Tensor:
        """Return a tensor [] that is true if the gradient is finite, so the step may run. The host does not wait."""
        return gradient_norm < math.inf  # False for NaN too

    def step(self, ran: Tensor) -> None:
        """Take the step if ``ran`` is true, adapt the loss scale, and clear the gradient."""
        if self.recipe.fused:
            # The fused kernels read this flag on the device, and change nothing if it is set.
            self.optimizer.found_inf = (~ran).float()  # type: ignore[attr-defined]  # torch does not declare it
            self.optimizer.step()
        elif ran:
            self.optimizer.step()
        self.counters["executed"] += ran
        self.scaler.update()
        self.optimizer.zero_grad()

    def update_average(self, ran: Tensor) -> None:
        """Update the moving average of the parameters, if the step ran."""
        if self.average is not None and self.recipe.ema_decay is not None:
            self.average.lerp_(self.vector, (1 - self.recipe.ema_decay) * ran)
            self.counters["average_count"] += ran

    def log_window(self, seen: WindowLosses, weight: Tensor, norms: dict[str, Tensor], ran: Tensor) -> None:
        """Add the window to the epoch's mean loss, whether or not its step ran, and to the ledger."""
        self.counters["running_loss"] += seen.loss * weight
        self.counters["running_weight"] += weight
        self.ledger.append(*self.ledger_row(seen, norms, ran))

    def ledger_row(
        self, seen: WindowLosses, norms: dict[str, Tensor], ran: Tensor
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return the window's row: the numbers known on the host, and those still on the device."""
        on_host = {"window": self.window, "epoch": self.epoch, **seen.host(), **self.weights.values()}
        rates = {
            f"learning_rate_{group['name']}": torch.as_tensor(group["lr"], device=self.device)
            for group in self.optimizer.param_groups
        }
        return on_host | {"buggy": bool(self.faults)}, {
            **seen.device(),
            "ran": ran,
            "loss_scale": self.scaler.scale(torch.ones_like(seen.loss)),
            **norms,
            **self.update_and_parameter_norms(),
            **rates,
            **{name: self.counters[name] for name in ("executed", "schedule_count", "average_count")},
        }

    def update_and_parameter_norms(self) -> dict[str, Tensor]:
        """Return norms of the last update and the parameters, about ``NORMS_PER_RUN`` times per run; otherwise {}."""
        norms = {}
        if (self.window - 1) % self.norms_every == 0:
            pairs = zip(self.before, self.parameters, strict=True)
            moved = [before.sub_(parameter.detach()) for before, parameter in pairs]
            norms = {"update_norm": get_total_norm(moved), "parameter_norm": get_total_norm(self.parameters).detach()}
        if self.window % self.norms_every == 0:
            self.copy_parameters()
        return norms

    def copy_parameters(self) -> None:
        """Copy the parameters before a step whose update will be measured."""
        for before, parameter in zip(self.before, self.parameters, strict=True):
            before.copy_(parameter.detach())

    def schedule(self, ran: Tensor) -> None:
        """Advance the learning rate, if the step ran."""
        self.counters["schedule_count"] += ran
        self._set_learning_rate()

    def _set_learning_rate(self) -> None:
        # Only the device knows how many steps ran, so look up the factor there.
        factor = self.factors.take(self.counters["schedule_count"].clamp(max=self.recipe.windows).long())
        for group in self.optimizer.param_groups:
            if self.recipe.fused:
                torch.mul(factor, group["peak"], out=group["lr"])
            else:
                group["lr"] = group["peak"] * factor.item()

    def learning_rate_factors(self) -> Tensor:
        """Return the learning rate after 0, 1, … steps as a share of its peak: warm-up times cosine [windows + 1]."""
        counts = torch.arange(self.recipe.windows + 1, dtype=torch.float64)
        factors = 0.5 * (1 + torch.cos(math.pi * counts / self.recipe.windows))
        if self.recipe.warmup:
            factors *= self.warmup_factors(counts)
        return factors.to(self.device, torch.float32)

    def warmup_factors(self, counts: Tensor) -> Tensor:
        """Return the warm-up's factor of the learning rate after ``counts`` steps: [windows + 1] -> [windows + 1]."""
        return ((counts + 1) / self.recipe.warmup).clamp(max=1)

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """Return the NMSE of every validation scene [B], in evaluation mode, with the averaged parameters if any."""
        model = partial(call_with, self.model, self.validated_parameters())
        was_training = self.model.training
        self.model.eval()
        try:
            scores = torch.zeros(len(self.validation), device=self.device)
            for start in self.ranks.share(range(0, len(scores), VALIDATION_CHUNK)):
                chunk = self.validation[start : start + VALIDATION_CHUNK]
                scores[start : start + VALIDATION_CHUNK] = self.score(model, chunk)
            return self.ranks.total(scores)
        finally:
            self.model.train(was_training)

    def score(self, model: Callable[..., Estimate], batch: Batch) -> Tensor:
        """Return the NMSE of ``model``'s final estimate of every scene [B]."""
        return self.estimate(model, batch).nmse(batch)

    def save(self) -> None:
        """Write the last checkpoint, and the best one if the last validation was the best so far."""
        if self.history and self.history[-1]["validation"] < self.best:
            self.best = self.history[-1]["validation"]
            if self.folder is not None:
                best = {"model": self.best_parameters(), "faults": list(self.faults)}
                self.folder.save_best(best | {"validation": self.best, "config": self.config()})
        # After non-finite losses, keep the older checkpoint: a failing run is not worth resuming.
        if self.folder is not None and self.streak == 0:
            self.ledger.sync()
            self.folder.write_json("epochs.json", self.history)
            self.folder.save_last(capture(self))

    def best_parameters(self) -> dict[str, Tensor]:
        """Return {name: tensor} of the network that was validated, including its buffers."""
        return self.model.state_dict() | self.validated_parameters()

    # ---------------------------------------------------------------- supervision

    @contextmanager
    def folder_locked(self) -> Iterator[None]:
        """Keep other processes from training in the run's folder. The first rank holds the lock for all."""
        with ExitStack() as held:
            if (folder := self.folder) is not None:
                self.ranks.once(lambda: held.enter_context(folder.lock()))
            yield

    def begin(self) -> None:
        """Check inputs and folder before the first step, and save a first checkpoint."""
        check_inputs(next(iter(self.draw_windows(self.epoch)), []), "the first window", self.device)
        check_inputs([self.validation], "validation", self.device)
        folder = self.folder
        if folder is not None and self.resumed:
            self.ranks.once(folder.refuse_overtaken)
        elif folder is not None:
            self.ranks.once(lambda: folder.begin(self.config() | {"faults": list(self.faults)}))
            self.save()
        self.resumed = True
        self.model.train()
        self.progress.begin(self.window, self.recipe.windows)
        self.flushed_at = time.monotonic()

    def flush_and_report(self, now: bool = False) -> None:
        """Flush the ledger every half second or 64 windows, or ``now``. Stop a run whose losses stay non-finite."""
        if not now and self.ledger.pending < 64 and time.monotonic() - self.flushed_at < 0.5:
            return
        rows = self.ledger.flush()
        self.flushed_at = time.monotonic()
        if not rows:
            return
        if self.debug and rows[0]["window"] == 1:
            finite = "finite" if math.isfinite(rows[0]["loss"]) else "NOT finite"
            self.progress.say(f"[DEBUG] Loss is {finite}: {rows[0]['loss']:.6f} in the first window")
        self.progress.advance(rows)
        for row in rows:
            self.streak = 0 if math.isfinite(row["loss"]) else self.streak + 1
            if self.streak:
                check_inputs(self._redraw(row), f"window {row['window']}", self.device)
            if self.streak == self.recipe.nonfinite_limit:
                self._stop(int(row["window"]))

    def refuse_nonfinite_end(self) -> None:
        """Stop a run that ends while its losses are not finite, but for fewer windows than the limit."""
        if self.streak >= min(2, self.recipe.windows):
            self._stop(self.window)

    def _stop(self, last: int) -> None:
        self.stopped = explain(self.ledger.rows[last - self.streak : last])  # windows count from 1, rows from 0
        kept = f"; {self.folder.path / 'last.pt'} is from before" if self.folder else ""
        raise NonFiniteLoss(self.stopped + kept)

    def _redraw(self, row: dict[str, float]) -> list[Batch]:
        """Draw the window of ``row`` again: the epoch and the numbers of its micro-batches determine its scenes."""
        before = sum(
            1 for other in self.ledger.rows if other["epoch"] == row["epoch"] and other["window"] < row["window"]
        )
        micro_batches = self.scenes.micro_batches(int(row["epoch"]), first=before * self.recipe.accumulation)
        return list(islice(micro_batches, self.recipe.accumulation))

    def complete(self) -> bool:
        """Return whether the recipe's windows are done and validated."""
        validated = bool(self.history) and self.history[-1]["epoch"] == self.epoch
        return self.window >= self.recipe.windows and (self.window_of_epoch == 0 or validated)

    def out_of_patience(self) -> bool:
        """Return whether the validation has not improved for ``recipe.patience`` epochs."""
        if self.recipe.patience is None or len(self.history) <= self.recipe.patience:
            return False
        values = [row["validation"] for row in self.history]
        return min(values[-self.recipe.patience :]) >= min(values[: -self.recipe.patience])

    def _say_epoch(self, rows: list[dict[str, float]]) -> None:
        last = self.history[-1]
        if self.debug and rows:
            norms = " ".join(f"{name}={rows[-1][f'gradient_norm_{name}']:.3e}" for name in self.groups)
            self.progress.say(f"[GRAD] {norms} ok={len(rows) - last['skipped']}/{len(rows)}")
        counts = "".join(f" {name} {last[name]}" for name in ("skipped", "nonfinite") if last[name])
        self.progress.say(
            f"Epoch {self.epoch + 1:03d}/{self.epochs:03d}: train {last['train']:.6f} val {last['validation']:.6f}"
            f"{counts}{' BUG' if self.faults else ''}"
        )

    # ---------------------------------------------------------------- state

    @property
    def vector(self) -> Tensor:
        """A copy of all parameters, one after the other [P]."""
        return parameters_to_vector(self.parameters).detach()

    def config(self) -> dict:
        """Return the settings that must agree before a run may be resumed, in plain values."""
        return describe_run(self.model, self.scenes, self.recipe, self.weights) | {"ranks": self.ranks.size}

    def validated_parameters(self) -> dict[str, Tensor]:
        """Return {name: tensor} of the averaged parameters, or of the model's own if the recipe keeps no average."""
        own = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        if self.average is None:
            return own
        pieces = self.average.split([parameter.numel() for parameter in own.values()])
        return {name: piece.view_as(parameter) for (name, parameter), piece in zip(own.items(), pieces, strict=True)}

    @checked
    def resume(self, previous: bool = False, allow_faults: bool = False, extend: bool = False) -> "Trainer":
        """Restore the folder's last (or ``previous``) checkpoint, so that ``fit`` continues there; none: a new run.

        With ``extend``, the recipe may have another number of windows than the run. The learning rate then follows the
        schedule of the new number from the next window on, and ``config.json`` records the change.

        Raises:
            ValueError: the trainer has no folder, or the recipe has fewer windows than the run has trained.
            CheckpointError: the checkpoint is damaged, or from a run with other settings or (unless ``allow_faults``)
                other faults.
        """
        if self.folder is None:
            raise ValueError("folder must name the run to resume, got None")
        with self.folder_locked():
            state = self.folder.load(previous)
            if self.ranks.any(state is not None):
                if state is None:
                    raise CheckpointError(
                        f"{self.folder.path}: rank {self.ranks.number} finds no checkpoint there; all ranks must see "
                        "the same folder"
                    )
                saved, trained = state["config"], state["position"]["window"]
                before, windows = saved["recipe"]["windows"], self.recipe.windows
                if extend:
                    saved = saved | {"recipe": saved["recipe"] | {"windows": windows}}
                    if windows < trained:
                        raise ValueError(
                            f"windows must be at least {trained}, which the run has trained, got {windows}"
                        )
                check_same_run(saved, self.config())
                refuse_faults(self.folder.path, sorted(set(state["faults"]) ^ set(self.faults)), allow_faults)
                restore(self, state)
                self.resumed, self.stopped = True, ""
                if windows != before:
                    self._extend(before)
        return self

    def _extend(self, before: int) -> None:
        """Go on with another number of windows than ``before``."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self._set_learning_rate()
        now = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.progress.say(
            f"{self.recipe.windows} windows instead of {before}. From here the learning rate follows the schedule of "
            f"{self.recipe.windows} windows: it goes from {rates[0]:.3g} to {now[0]:.3g}."
        )
        if self.folder is not None:
            self.folder.extend(self.config() | {"faults": list(self.faults)}, self.window)


def call_with(model: nn.Module, parameters: dict[str, Tensor], *inputs: Tensor) -> Estimate:
    """Run ``model`` with ``parameters`` in place of its own, which stay unchanged."""
    return torch.func.functional_call(model, parameters, inputs)


def gradients(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of the parameters that have one."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
