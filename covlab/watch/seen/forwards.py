"""Observe the outermost calls of models: forwards for training, and evaluations."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from covlab.watch.seen import graph
from covlab.watch.seen.averages import AverageObserver
from covlab.watch.seen.cuts import RunsWithoutGradient
from covlab.watch.seen.dropouts import DropoutObserver
from covlab.watch.seen.events import Forward
from covlab.watch.seen.fingerprints import EvaluationCall
from covlab.watch.seen.isolation import hidden_from_torch, hidden_from_warnings, skipped_by_compiler
from covlab.watch.seen.location import caller_location, calling_lines
from covlab.watch.seen.look_ahead import Sequences
from covlab.watch.seen.models import CalledModel, differentiable_outputs, first_samples, tensors_in
from covlab.watch.seen.recorder import Function, Recorder

UNSEEN = RunsWithoutGradient()
SEQUENCE_LAYERS = (nn.RNNBase, nn.MultiheadAttention)
STEPS_NOTED = 1024  # in which their calls are noted
FORWARDS_LOCATED = 64  # training forwards whose callers are recorded


class ForwardObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self.dropouts = DropoutObserver(recorder)
        self.averages = AverageObserver(recorder)

    def wrap_call(self, original: Function) -> Function:
        recorder, seen = self.recorder, self.seen

        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807 - replaces nn.Module.__call__
            if torch.compiler.is_compiling():
                return original(module, *args, **kwargs)
            is_inner = recorder.calls_running or recorder.backward_running is not None
            if is_inner or not recorder.is_watching():
                if is_inner and recorder.active:
                    self._called(module)
                if seen.call_recorder is None and not isinstance(module, SEQUENCE_LAYERS):
                    return original(module, *args, **kwargs)
                return self._call(original, module, args, kwargs)
            self._called(module)
            recorder.calls_running += 1
            search = recorder.guard("dropout", self.dropouts.begin, module)
            try:
                result = self._call(original, module, args, kwargs)
            finally:
                recorder.calls_running -= 1
                if search is not None:
                    search.stop()
            recorder.guard("forward", self._forward, module, (*args, *kwargs.values()), result)
            recorder.limit.worked("forward" if module.training and torch.is_grad_enabled() else "evaluation")
            return result

        return __call__

    @skipped_by_compiler
    @hidden_from_warnings
    def _call(self, original: Function, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a module, without the recorder of calls where it must not see that, and note layers of sequences."""
        if self.seen.call_recorder is not None:
            self.seen.leave_calls()
        recorder = self.seen.call_recorder
        pauses = recorder is not None and recorder.runs_apart(module) and recorder.pause()
        try:
            result = original(module, *args, **kwargs)
        finally:
            if recorder is not None and pauses:
                recorder.resume()
        is_noted = isinstance(module, SEQUENCE_LAYERS) and self.seen.counts["steps"] <= STEPS_NOTED
        if is_noted and torch.is_grad_enabled():
            self.recorder.guard("look ahead", self._note_sequences, module, args, kwargs, result)
        return result

    def _note_sequences(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: object) -> None:
        """Note a call of a layer that runs along dim 0 or dim 1."""
        given = list(tensors_in((*args, *kwargs.values())))
        made = result[0] if isinstance(result, tuple) else None
        if not given or given[0].dim() != 3 or not isinstance(made, Tensor):
            return
        is_recurrent = isinstance(module, nn.RNNBase)
        if not is_recurrent and len(given) > 1 and given[1].shape != given[0].shape:
            return  # attention to another sequence
        nodes = tuple(graph.sequence_number(one.grad_fn) for one in given if one.grad_fn is not None)
        end = graph.sequence_number(made.grad_fn) if is_recurrent and made.grad_fn is not None else None
        layer = Sequences(weakref.ref(module), given[0].shape, bool(module.batch_first), caller_location(), end, nodes)
        self.seen.sequence_layers.append(layer)

    def _called(self, module: nn.Module) -> None:
        """Note whether a module runs with gradients."""
        seen = self.seen
        if torch.is_grad_enabled():
            seen.note_run_with_gradient(module)
            return
        runs = seen.runs_without_gradient.get(id(module), UNSEEN)
        if runs is not None and runs.window != seen.counts["steps"]:
            self.recorder.guard("forward", seen.note_run_without_gradient, module)

    def stop(self) -> None:
        """Remove the hooks on outputs."""
        for forward in self.seen.forwards:
            for hook in forward.hooks:
                hook.remove()

    def _forward(self, module: nn.Module, inputs: tuple[object, ...], result: object) -> None:
        model = self.seen.models.get(module)
        if model is None:
            model = self.seen.models[module] = CalledModel(module)
            self.seen.counts["models"] += bool(model.parameters)
        if not model.parameters:
            return
        trained = model.is_trained(self.seen.held_parameters())
        samples = self.recorder.guard("inputs", first_samples, inputs)
        with_gradient = torch.is_grad_enabled()
        if not with_gradient or not module.training:
            self.seen.calls_without_training += 1
            if not with_gradient:
                self.recorder.guard("average", self.averages.evaluated, module, model, trained)
                self._evaluation(module, model, trained, samples)
        if with_gradient:
            forward = self._training_forward(module, model, trained, result)
            forward.differentiates_inputs = graph.wants_input_gradient(inputs)
            if not module.training:
                forward.counts_as_evaluation = trained
                self._evaluation(module, model, trained, samples, forward)
            if module.training and trained and not self.seen.light:
                path = calling_lines() if self.seen.counts["forwards"] <= FORWARDS_LOCATED else None
                reads, made = self.recorder.reads, self.seen.optimizers_made
                see = self.seen.fingerprints.see_training
                self.recorder.guard("inputs", see, samples, path, forward, made, reads)

    def _evaluation(
        self,
        module: nn.Module,
        model: CalledModel,
        trained: bool,
        samples: Tensor | None,
        forward: Forward | None = None,
    ) -> None:
        """Note an evaluation. A backward may still come through ``forward``: then it was training."""
        seen, location = self.seen, caller_location()
        seen.counts["evaluations"] += trained
        seen.counts["evaluation_mode"] += trained and not module.training
        seen.runs_since_backward[location] += 1
        run = seen.runs_since_backward[location]
        is_random = trained and module.training and model.differs_in_evaluation and not torch.is_grad_enabled()
        if (
            trained and (is_random or not seen.light) and (not module.training or run > 2)
        ):  # one or two choose an action
            see, reads = seen.fingerprints.see_evaluation, self.recorder.reads
            call = EvaluationCall(location, seen.counts["backwards"], forward)
            self.recorder.guard("inputs", see, model, samples, calling_lines(), call, module.training, reads)
            if forward is None:
                self.recorder.flush_if_full()
        if not module.training and model.drops_in_evaluation and model.count_samples(samples) >= 3 and run >= 3:
            seen.draws_samples.add(location)
        if is_random:
            longest = seen.longest_run_without_gradient
            longest[location] = max(longest[location], run)
            if model.count_samples(samples) >= 3:
                seen.draws_samples.add(location)

    def _training_forward(self, module: nn.Module, model: CalledModel, trained: bool, result: object) -> Forward:
        seen = self.seen
        seen.note_run_with_gradient(module)
        outputs = differentiable_outputs(result)
        forward = Forward(
            caller_location(),
            model.number,
            module.training,
            mode_matters=model.differs_in_evaluation and trained,
            has_batch_norm=model.has_batch_norm,
            float16=any(output.dtype == torch.float16 for output in outputs),
            observable=bool(outputs),
            backwards_before=seen.counts["backwards"],
        )
        seen.replicas.note_parallel(module)
        if seen.replicas.parallel:
            is_whole = module in seen.replicas.parallel
            is_inside = module.training and not is_whole and seen.replicas.is_inside(module)
            forward.parallel = "whole" if is_whole else "inside" if is_inside else ""
        seen.counts["forwards"] += 1
        seen.forwards.append(forward)
        for output in outputs:
            if output.grad_fn is not None:
                forward.hooks.append(output.grad_fn.register_prehook(self._note_use(forward)))
        return forward

    def _note_use(self, forward: Forward) -> Callable[[tuple[Tensor, ...]], None]:
        """Return a hook on an output that records which backwards pass through it."""
        recorder, seen = self.recorder, self.seen

        @hidden_from_torch
        def hook(gradients: tuple[Tensor, ...]) -> None:
            backward = recorder.backward_running
            if backward is not None and backward.number not in forward.used_by:
                forward.used_by.append(backward.number)
                if forward.counts_as_evaluation and not forward.differentiates_inputs:
                    forward.counts_as_evaluation = False
                    seen.counts["evaluations"] -= 1

        return hook
