"""What is done to losses, gradients and learning rates beside backward and step: scaling, clipping, schedules,
replacements.
"""

import torch
from torch import Tensor
from torch.optim import lr_scheduler

from covlab.watch import measure, weights
from covlab.watch.records import Step, caller
from covlab.watch.watched import Watched, gradients, versions


class Conditioning:
    """The part of an observer that sees these calls; it keeps its notes in the observer."""

    def _wrap_scale(self, original):
        def scale(scaler, outputs, *args, **kwargs):
            result = original(scaler, outputs, *args, **kwargs)
            if not torch.compiler.is_compiling() and self._mine():
                self._guard("scaler", self._scaled, scaler, result)
            return result

        return scale

    def _scaled(self, scaler, result) -> None:
        self.scaler["used" if scaler.is_enabled() else "disabled"] += 1
        if scaler.is_enabled() and isinstance(result, Tensor) and result.grad_fn is not None:
            result.grad_fn.metadata[weights.SCALE] = scaler._scale.detach().clone()

    def _find(self, optimizer) -> Watched | None:
        inner = getattr(optimizer, "optimizer", optimizer)  # Accelerate and Fabric wrap it
        return next((watched for watched in self.optimizers.values() if watched.ref() in (optimizer, inner)), None)

    def _still_scaled(self, watched: Watched) -> None:
        if not watched.unscaled:
            for clip in watched.clips:
                clip[2] = True

    def _unscale(self, scaler, optimizer, *_, **__) -> None:
        watched = self._find(optimizer)
        if watched is not None and scaler.is_enabled():
            self._still_scaled(watched)
            watched.unscaled = True
            watched.compare(self.pending)

    def _unscaled(self, scaler, optimizer, *_, **__) -> None:
        watched = self._find(optimizer)
        if watched is not None and watched.sample is not None:
            watched.keep()

    def _scaler_step(self, scaler, optimizer, *_, **__) -> None:
        watched = self._find(optimizer)
        if watched is not None and scaler.is_enabled():
            watched.expected, watched.scaling = watched.attempts, True

    def _scaler_stepped(self, scaler, optimizer, *_, **__) -> None:
        watched = self._find(optimizer)
        if watched is not None:
            watched.scaling = False
        if watched is not None and scaler.is_enabled() and watched.attempts == watched.expected:
            watched.attempts += 1
            watched.skipped = True
            step = Step(
                watched.number, watched.attempts, caller(), list(watched.pending), list(self.forwards), attempted=False
            )
            step.size = self._size(watched)
            step.schedules, watched.schedules = watched.schedules, []
            step.clips = [(where, scale) for where, scale, certain in watched.clips if certain]
            watched.clips = []
            self._close(watched, step)
            for backward in watched.pending:
                backward.stepped = False

    def _scaler_update(self) -> None:
        for watched in self.optimizers.values():
            watched.unscaled = False

    def _wrap_clip(self, original):
        def clip(parameters, *args, **kwargs):
            if torch.compiler.is_compiling() or not self._mine():
                return original(parameters, *args, **kwargs)
            parameters = parameters if isinstance(parameters, Tensor) else list(parameters)  # a generator is read once
            self._guard("clip", self._clip, parameters)
            norm = original(parameters, *args, **kwargs)
            self._guard("clip", self._clipped, parameters)
            euclidean = (
                original.__name__.endswith("clip_grad_norm_")
                and (args[1] if len(args) > 1 else kwargs.get("norm_type", 2)) == 2
            )
            if euclidean and isinstance(norm, Tensor):
                self._guard("clip", self._remember_norm, parameters, norm)
            return norm

        return clip

    def _clip(self, parameters) -> None:
        given = {id(parameter) for parameter in ([parameters] if isinstance(parameters, Tensor) else parameters)}
        for watched in self.optimizers.values():
            scaled = watched.pending and not watched.unscaled and watched.pending[-1].scale is not None
            if scaled and any(id(parameter) in given for parameter in watched.parameters()):
                watched.clips.append([caller(), watched.pending[-1].scale, False])
        for watched in self._sampled(given):
            watched.compare(self.pending)

    def _clipped(self, parameters) -> None:
        for watched in self._sampled(
            {id(parameter) for parameter in ([parameters] if isinstance(parameters, Tensor) else parameters)}
        ):
            watched.keep()

    def _sampled(self, given: set[int]) -> list[Watched]:
        """Optimizers of whose gradients a sample is kept, of one of these parameters."""
        return [
            watched
            for watched in self.optimizers.values()
            if watched.sample is not None and id(watched.sample[0]) in given
        ]

    def _remember_norm(self, parameters, norm: Tensor) -> None:
        """What clipping measured need not be measured again, if nobody writes into the gradients before the step."""
        given = {id(parameter) for parameter in ([parameters] if isinstance(parameters, Tensor) else parameters)}
        for watched in self.optimizers.values():
            if all(id(parameter) in given for parameter in watched.parameters() if parameter.grad is not None):
                watched.norm = norm.detach(), versions(watched)

    def _schedule(self, scheduler, *_, **__) -> None:
        site = measure.outside(lr_scheduler.__file__)
        watched = self._find(getattr(scheduler, "optimizer", None)) if site else None
        if watched is not None:
            watched.schedules.append((id(scheduler), site))

    def _replace(self, tensor, *_, **__) -> None:
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return
        where = None
        if tensor.requires_grad and tensor.grad_fn is not None:
            where = "model" if self.depth else "loss" if tensor.numel() == 1 else "losses"
        else:
            for watched in self.optimizers.values():
                if watched.pointers is None:
                    watched.pointers = {gradient.data_ptr() for gradient in gradients(watched)}
                if watched.pending and tensor.data_ptr() in watched.pointers:
                    where = "gradient"
        if where is not None and self.backward is None:
            entry = self.replacements.setdefault((caller(), where), [0, []])
            entry[0] += 1
            self._collect(entry, tensor)

    def _collect(self, entry: list, tensor: Tensor) -> None:
        met = (~torch.isfinite(tensor.detach())).any()
        entry[1] = [number for number in entry[1] if number.value is None or number.value]  # keep what is open or tells
        if len(entry[1]) < 1024:
            entry[1].append(self.pending.number(met))
