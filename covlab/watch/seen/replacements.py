"""Observe calls that replace NaN and infinity."""

import torch
from torch import Tensor

from covlab.watch.seen.location import caller_location
from covlab.watch.seen.observation import Replaced, Replacements
from covlab.watch.seen.recorder import Recorder

CALLS_KEPT = 1024  # per line, of which it is not known or true that they met a value that was not finite


class ReplacementObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation

    def before_nan_to_num(self, tensor: object, *_: object, **__: object) -> None:
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            return
        replaced = self._what_is(tensor)
        if replaced is None or self.recorder.backward_running is not None:
            return
        entry = self.seen.replacements.setdefault((caller_location(), replaced), Replacements())
        entry.calls += 1
        was_needed = (~torch.isfinite(tensor.detach())).any()
        entry.needed = [number for number in entry.needed if number.value is None or number.value]
        if len(entry.needed) < CALLS_KEPT:
            entry.needed.append(self.recorder.reads.number(was_needed))

    def _what_is(self, tensor: Tensor) -> Replaced | None:
        if tensor.requires_grad and tensor.grad_fn is not None:
            if self.recorder.calls_running:
                return "model"
            return "loss" if tensor.numel() == 1 else "losses"
        pointer = tensor.data_ptr()
        are_gradients = [watched.has_gradient_at(pointer) for watched in self.seen.optimizers.values()]
        return "gradient" if any(are_gradients) else None
