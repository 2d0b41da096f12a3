"""Observe the clipping of gradients."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from covlab.watch.seen.location import caller_location
from covlab.watch.seen.optimizer import Clip, WatchedOptimizer
from covlab.watch.seen.recorder import Function, Recorder


class ClippingObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation

    def wrap_clip(self, original: Function) -> Function:
        recorder = self.recorder

        def clip(parameters: Tensor | Iterable[Tensor], *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling() or not recorder.is_watching():
                return original(parameters, *args, **kwargs)
            parameters = parameters if isinstance(parameters, Tensor) else list(parameters)  # a generator is read once
            recorder.guard("clip", self._before, parameters)
            norm = original(parameters, *args, **kwargs)
            recorder.guard("clip", self._after, parameters, original.__name__, args, kwargs, norm)
            return norm

        return clip

    def _before(self, parameters: Tensor | list[Tensor]) -> None:
        clipped = _ids(parameters)
        for watched in self.seen.optimizers.values():
            loss_scale = watched.backwards[-1].loss_scale if watched.backwards and not watched.unscaled else None
            if loss_scale is not None and any(id(parameter) in clipped for parameter in watched.parameters()):
                watched.clips.append(Clip(caller_location(), loss_scale))
        for watched in self._sampled(clipped):
            watched.compare_gradient_sample(self.recorder.reads)

    def _after(
        self,
        parameters: Tensor | list[Tensor],
        function: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        norm: object,
    ) -> None:
        clipped = _ids(parameters)
        for watched in self._sampled(clipped):
            watched.sample_gradient()
        norm_type = args[1] if len(args) > 1 else kwargs.get("norm_type", 2)
        if function.endswith("clip_grad_norm_") and norm_type == 2 and isinstance(norm, Tensor):
            self._remember_norm(clipped, norm)

    def _sampled(self, clipped: set[int]) -> list[WatchedOptimizer]:
        """Return the optimizers of whose gradients a sample is kept, if it is of a clipped parameter."""
        return [
            watched
            for watched in self.seen.optimizers.values()
            if watched.gradient_sample is not None and id(watched.gradient_sample[0]) in clipped
        ]

    def _remember_norm(self, clipped: set[int], norm: Tensor) -> None:
        """Keep what clipping measured: it need not be measured again unless somebody writes into the gradients."""
        for watched in self.seen.optimizers.values():
            if all(id(parameter) in clipped for parameter in watched.parameters_with_gradient()):
                watched.clipped_norm = norm.detach(), watched.gradient_versions()


def _ids(parameters: Tensor | list[Tensor]) -> set[int]:
    return {id(parameter) for parameter in ([parameters] if isinstance(parameters, Tensor) else parameters)}
