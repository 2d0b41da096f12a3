"""Follow the running statistics of normalization layers."""

import weakref

import torch
from torch import nn

from covlab.watch.seen.events import Step
from covlab.watch.seen.isolation import readable_tensor
from covlab.watch.seen.models import CalledModel
from covlab.watch.seen.observation import RunningStatistics
from covlab.watch.seen.optimizer import ParameterState, WatchedOptimizer
from covlab.watch.seen.recorder import Recorder
from covlab.watch.seen.steps import ATTEMPTS_THAT_DESCRIBE_PARAMETERS

LAYERS_FOLLOWED = 512


class StatisticsObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self._followed: weakref.WeakKeyDictionary[nn.Module, RunningStatistics] = weakref.WeakKeyDictionary()
        recorder.before_steps.append(("statistics", self._before_step))
        recorder.at_end.append(("statistics", lambda: self._look(at_end=True)))

    def _before_step(self, watched: WatchedOptimizer, step: Step) -> None:
        if step.number == 1 or step.number in ATTEMPTS_THAT_DESCRIBE_PARAMETERS:
            self._look()

    def _look(self, at_end: bool = False) -> None:
        for model, called in list(self.seen.models.items()):
            if called.has_batch_norm:
                for name, part in model.named_modules():
                    self._look_at(model, called, name, part, at_end)

    @torch.no_grad()
    def _look_at(self, model: nn.Module, called: CalledModel, name: str, part: nn.Module, at_end: bool) -> None:
        if not isinstance(part, nn.modules.batchnorm._BatchNorm) or part.running_mean is None:
            return
        if part.running_var is None or (part not in self._followed and len(self._followed) >= LAYERS_FOLLOWED):
            return
        reads, parameters = self.recorder.reads, list(part.parameters(recurse=False))
        states = [ParameterState.of(one, reads).sum for one in (part.running_mean, *parameters)]
        seen = self._followed.get(part)
        if seen is None:
            location = next((one.location for one in self.seen.forwards if one.model == called.number), None)
            seen = RunningStatistics(
                f"{type(model).__name__}.{name}" if name else type(part).__name__, location, states
            )
            self._followed[part] = seen
            self.seen.statistics.append(seen)
        seen.last, seen.last_look = states, self.seen.counts["steps"]
        if not at_end:  # by then, the loop may have called eval()
            seen.always_training &= part.training
            seen.ever_training |= part.training
        seen.frozen &= bool(parameters) and not any(one.requires_grad for one in parameters)
        seen.momentum_is_zero = part.momentum == 0
        seen.ran |= id(part) in self.seen.modules_called
        mean, variance = readable_tensor(part.running_mean), readable_tensor(part.running_var)
        if mean is not None and variance is not None:
            seen.distance = reads.number(mean.abs().sum() + (variance - 1).abs().sum())
