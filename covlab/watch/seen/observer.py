"""Observe a whole training loop without changing what it does.

A *window* is all the backwards that lead to one optimizer step, since its gradients were cleared. A number that must
be read from a tensor stays on its device until ``DeferredReads`` reads many at once.
"""

import weakref
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from covlab.watch.seen.backwards import BackwardObserver
from covlab.watch.seen.data_order import DataOrderObserver
from covlab.watch.seen.events import Event
from covlab.watch.seen.forwards import ForwardObserver
from covlab.watch.seen.freezing import FreezingObserver
from covlab.watch.seen.gradients import GradientObserver
from covlab.watch.seen.location import caller_location
from covlab.watch.seen.optimizer_search import OptimizerSearch
from covlab.watch.seen.patches import Patches
from covlab.watch.seen.processes import ProcessObserver
from covlab.watch.seen.recorder import Recorder
from covlab.watch.seen.scaler import ScalerObserver
from covlab.watch.seen.state_loads import StateObserver
from covlab.watch.seen.statistics import StatisticsObserver
from covlab.watch.seen.steps import StepObserver


class Observer:
    """The observers of all parts of a loop, started and stopped together.

    Args:
        receive: gets every event in order, once its numbers have been read.
        light: measure one step in eight, and take no fingerprints of inputs.
        steps: raise ``StepLimitReached`` after so many steps of one optimizer, or much work without one; None: never.
    """

    def __init__(self, receive: Callable[[Event], None], light: bool = False, steps: int | None = None) -> None:
        self.recorder = recorder = Recorder(receive, light, steps)
        self.observation = recorder.observation
        self.gradients = GradientObserver(recorder)
        self.forwards = ForwardObserver(recorder)
        self.backwards = BackwardObserver(recorder, self.gradients, self.stop_watching)
        self.steps = StepObserver(recorder)
        self.scaler = ScalerObserver(recorder, self.steps)
        self._patches = Patches()
        self.processes = ProcessObserver(recorder)
        self.states = StateObserver(recorder)
        self.freezing = FreezingObserver(recorder)
        self.data = DataOrderObserver(recorder)
        self.statistics = StatisticsObserver(recorder)
        self.search = OptimizerSearch(recorder, self.steps, self.gradients, self._patches)
        recorder.before_backward = self.search.before_backward
        self._hooks: list[RemovableHandle] = []
        # classes of modules that were asked for a ``__call__`` of their own
        self._own_calls: weakref.WeakSet[type] = weakref.WeakSet()

    def start(self) -> None:
        self.recorder.active = True
        self.backwards.losses.start()
        self._patch_torch()
        self._hooks = [
            register_optimizer_step_pre_hook(self.steps.before_step),
            register_optimizer_step_post_hook(self.steps.after_step),
        ]

    def _patch_torch(self) -> None:
        """Replace everything in torch that is observed."""
        patches, around, gradients = self._patches, self.recorder.around, self.gradients
        clips = ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_")
        replaces = around("replacement", before=gradients.before_nan_to_num)
        patches.functions(
            [
                (torch.autograd, "backward", self.backwards.wrap_backward),
                *((torch.nn.utils, name, gradients.wrap_clip) for name in clips if hasattr(torch.nn.utils, name)),
                *((torch, name, replaces) for name in ("nan_to_num", "nan_to_num_")),
            ]
        )
        for name in ("nan_to_num", "nan_to_num_"):
            patches.method(Tensor, name, replaces)
        patches.method(nn.Module, "__call__", self.forwards.wrap_call)
        patches.method(nn.Module, "__init__", around("forward", before=self._patch_own_call))
        for module_class in _subclasses(nn.Module):
            self._patch_own_call(kind=module_class)
        patches.method(nn.Module, "zero_grad", around("clear", before=gradients.before_module_zero_grad))

        optimizer, adopt = torch.optim.Optimizer, self.observation.adopt
        patches.method(
            optimizer, "__init__", around("optimizer", after=lambda own, *_, **__: adopt(own, caller_location()))
        )
        patches.method(optimizer, "zero_grad", around("clear", before=gradients.before_optimizer_zero_grad))

        kind, scaler = torch.amp.GradScaler, self.scaler
        patches.method(kind, "scale", around("scaler", after=scaler.after_scale))
        patches.method(kind, "unscale_", around("scaler", before=scaler.before_unscale, after=scaler.after_unscale))
        patches.method(kind, "step", around("scaler", before=scaler.before_step, after=scaler.after_step))
        patches.method(kind, "update", around("scaler", before=scaler.before_update))

        schedules = {kind for kind in vars(lr_scheduler).values() if isinstance(kind, type) and "step" in vars(kind)}
        for schedule in schedules:
            patches.method(schedule, "step", around("schedule", before=self.steps.before_schedule_step))
        made = around("look ahead", before=self.backwards.losses.note_hook)
        packs = around("look ahead", before=self.backwards.losses.note_packs)
        patches.method(torch.autograd.graph.saved_tensors_hooks, "__enter__", packs)
        for name in ("register_hook", "retain_grad"):
            patches.method(Tensor, name, made)
        self.processes.patch(patches)
        parallel = torch.nn.parallel.DistributedDataParallel
        note = self.observation.replicas.note_parallel
        patches.method(parallel, "__init__", around("replicas", after=lambda own, *_, **__: note(own)))
        self.states.patch(patches)
        self.data.patch(patches)

    def _patch_own_call(
        self, module: nn.Module | None = None, *_: object, kind: type | None = None, **__: object
    ) -> None:
        """Observe the calls of a class that defines ``__call__`` itself, so that they do not reach nn.Module's."""
        for owner in (kind or type(module)).__mro__:
            if owner is nn.Module:
                break
            if owner not in self._own_calls:
                self._own_calls.add(owner)
                if "__call__" in vars(owner) and not owner.__module__.startswith("torch."):
                    self._patches.method(owner, "__call__", self.forwards.wrap_call, compiled=True)
                if "train" in vars(owner) and not owner.__module__.startswith("torch."):
                    note = self.recorder.around("freezing", before=self.freezing.note_mode)
                    self._patches.method(owner, "train", note, compiled=True)
        if module is not None:
            self.freezing.note_made(module)

    def stop_watching(self) -> None:
        """Remove every hook and observe nothing from now on."""
        self.recorder.active = False
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.forwards.stop()
        self.backwards.losses.end()
        for watched in self.observation.optimizers.values():
            watched.stop()

    def stop(self) -> None:
        """Restore everything and deliver the last events."""
        if self.recorder.active:
            self.recorder.guard("clear", self.gradients.note_left_at_end)
            for part, look in self.recorder.at_end:
                self.recorder.guard(part, look)
        self.stop_watching()
        self._patches.restore()
        self.recorder.flush()
        self.recorder.guard("replicas", self.observation.replicas.stop)


def _subclasses(kind: type[nn.Module]) -> Iterator[type[nn.Module]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)
