"""An optimizer that is watched, and where its gradients come from."""

import gc
import types
import weakref
from collections.abc import Callable, Iterable
from functools import wraps
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from covlab.watch.finding import counted
from covlab.watch.seen import measurements
from covlab.watch.seen.cuts import Cut, CutSearch, RunsWithoutGradient
from covlab.watch.seen.deferred import DeferredNumber, DeferredReads
from covlab.watch.seen.events import Backward, Forward, ScaledClip, ScheduleCall, Step
from covlab.watch.seen.isolation import hidden_from_torch, readable_tensor
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.tensor_histories import TensorHistories

CLOSELY_WATCHED_STEPS = 12  # the first steps, in which every element is compared and no measurement overflows
STEPS_WITHOUT_GRADIENT = 10  # after so many, a parameter that had gradients counts as one that has none
IDLE_BACKWARDS = 10  # after so many without a step, the parameters are looked at
LIGHT_MEASURES_ONE_IN = 8  # a light watch measures one step in this many

NEVER_HOLD_TENSORS = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.FrameType)
OBJECTS_READ = 20_000  # of one optimizer
_arrivals = count()  # of gradients at parameters


def is_optimizer(thing: object) -> bool:
    """Return whether ``thing`` can do what an optimizer of PyTorch can: step, and clear gradients."""
    kind = type(thing)
    if issubclass(kind, nn.Module | type) or not kind.__weakrefoffset__:
        return False
    return callable(getattr(kind, "step", None)) and callable(getattr(kind, "zero_grad", None))


def tensors_of(optimizer: Any, others: Iterable[object] = ()) -> list[Tensor]:
    """Return the tensors that an optimizer trains. An optimizer that wraps one of the ``others`` has none of its own.

    They are those of its ``param_groups``. Without these, they are all that it refers to and that require gradients.
    """
    groups, wrapped = getattr(optimizer, "param_groups", None), set(map(id, others))
    if isinstance(optimizer, torch.optim.Optimizer):
        return [parameter for group in groups or () for parameter in group["params"]]
    seen, waiting, found = {id(optimizer)}, [optimizer], []
    modules: list[nn.Module] = []
    while waiting and len(seen) < OBJECTS_READ:
        for thing in gc.get_referents(waiting.pop()):
            if id(thing) in seen or isinstance(thing, NEVER_HOLD_TENSORS):
                continue
            seen.add(id(thing))
            if id(thing) in wrapped:
                return []
            if isinstance(thing, Tensor):
                found += [thing] if thing.is_leaf and thing.requires_grad else []
            elif isinstance(thing, nn.Module):
                modules.append(thing)
            else:
                waiting.append(thing)
    if isinstance(groups, list | tuple) and groups and all(isinstance(one, dict) and "params" in one for one in groups):
        return [parameter for group in groups for parameter in group["params"] if isinstance(parameter, Tensor)]
    return found or [one for module in modules for one in module.parameters() if one.requires_grad]


class ParameterState(NamedTuple):
    """What tells whether a parameter was changed."""

    version: int
    pointer: int
    sum: DeferredNumber  #: of some elements

    @classmethod
    def of(cls, parameter: Tensor, reads: DeferredReads) -> "ParameterState":
        values = readable_tensor(parameter)
        if values is None or not values.numel():
            return cls(parameter._version, 0, DeferredNumber(0.0))
        return cls(parameter._version, values.data_ptr(), reads.number(measurements.sample_numbers(values).sum()))

    def differs_from(self, other: "ParameterState") -> bool:
        return self[:2] != other[:2] or self.sum.value != other.sum.value


def _measures(measurement: str) -> Callable[[Any], Any]:
    """Return a decorator: a method that fails is not called again, and nothing else stops."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def measure(self: "WatchedOptimizer", *args: Any) -> Any:
            if measurement in self.failures:
                return None
            try:
                return method(self, *args)
            except Exception as error:  # noqa: BLE001 - told in the report
                self.failures[measurement] = error
                return None

        return measure

    return wrap


class WatchedOptimizer:
    """An optimizer, its current gradients, and what was done to them since they were last cleared."""

    def __init__(self, optimizer: Any, number: int) -> None:
        # the tensors of an optimizer that is none of torch's, which may have no parameter groups
        own_kind = not isinstance(optimizer, torch.optim.Optimizer)
        self._tensors = [weakref.ref(one) for one in tensors_of(optimizer)] if own_kind else []
        self.ref, self.number, self.name = weakref.ref(optimizer), number, type(optimizer).__name__
        self.made_at: CodeLocation | None = None  # None: unknown, because it was made before the watch began
        self.tensors = 0  # number of its parameters
        self.has_hooks = False  # hooks on its parameters may change their gradients
        self.frozen_groups: list[int] = []  # numbers of tensors in the groups in which none requires a gradient
        self.attempts = 0  # steps, including those that the scaler skipped
        self.open_step: Step | None = None  # the step that is running
        self.last_step: Step | None = None

        self.steps_within_another = False  # another optimizer's step() calls its step()
        self.accumulates = False  # some window had several backwards
        self.arrival = 0  # number of the latest gradient that arrived at one of its parameters
        self.reached = False  # the running backward reached a parameter
        # before the first step: backwards that reached a parameter, and a parameter's state after the first of them
        self.idle_backwards = 0
        self.idle_location: CodeLocation | None = None  # of the last of them
        self.idle_parameter: Tensor | None = None
        self.idle_states: list[ParameterState] = []
        self.gradients_come_late = False  # FSDP keeps them to itself until the last backward of a window
        self.failures: dict[Any, Exception] = {}  # of the observation: {measurement: the error that ended it}

        self.unscaled = False  # the scaler unscaled the gradients since its last update
        self.attempts_before_scaler_step: int | None = None  # None: the scaler's step() is not running
        self.clipped_norm: tuple[Tensor, int] | None = None  # what clipping measured, and the gradients' versions then
        self.schedule_calls: list[ScheduleCall] = []

        self.first_gradient_after_backward: weakref.ref[Tensor] | None = None
        self.copies_before_step: list[tuple[Tensor, Tensor]] = []
        self.histories = TensorHistories()
        self.measure_exactly = False  # without overflow, because gradients were all zero or not all finite

        # of parameters, by id
        self.hooks: dict[int, RemovableHandle] = {}
        self.ever_held: set[int] = set()
        self.with_gradient: set[int] = set()  # those that ever got a gradient
        self.last_gradient: dict[int, int] = {}  # steps before the last one
        self.still: dict[int, tuple[ParameterState, ParameterState]] = {}  # without a gradient: first and last state
        self.cut_search: CutSearch | None = None  # the one that is running
        self.cuts: dict[Cut, None] = {}  # where gradients are cut off, in the order in which they were found
        self.trainable: set[int] = set()  # those that required gradients when last described
        self.in_called_modules: set[int] = set()
        # {id of a module, outer ones first: (its runs, ids of its parameters)}
        self.runs_without_gradient: dict[int, tuple[RunsWithoutGradient, set[int]]] = {}
        self.parameter_names: dict[int, str] = {}
        self.clearings = 0  # of the gradients
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Start a new window: no backward has run yet, or the gradients were cleared."""
        self.clearings += 1
        self.backwards: list[Backward] = []
        self.backwards_stepped = 0  # how many of these a step already took
        self.stepped_since_clearing = self.skipped_since_clearing = False
        self.versions_after_backward: int | None = None  # of the parameters, after the first backward
        self.reused_gradient_size: DeferredNumber | None = None
        self.clips: list[ScaledClip] = []  # clippings of gradients that may still contain the loss scale
        self.scaled_clips: list[ScaledClip] = []  # clippings of gradients that certainly contained the loss scale
        self.gradient_sample: tuple[Tensor, Tensor] | None = None  # (parameter, sample of its gradient's elements)
        self.gradient_factors: list[DeferredNumber] = []  # the loop multiplied by these since the last backward
        self.gradient_pointers: set[int] | None = None  # to the gradients' storage
        # the first gradient that the last step took, and the versions of all gradients then
        self.stepped_gradients: tuple[weakref.ref[Tensor], int] | None = None

    # ---------------------------------------------------------------- parameters

    def parameters(self) -> list[Tensor]:
        optimizer = self.ref()
        if optimizer is None:
            return []
        if not isinstance(optimizer, torch.optim.Optimizer):
            return [tensor for reference in self._tensors if (tensor := reference()) is not None]
        return [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def note_frozen_groups(self) -> None:
        self.tensors = len(self.parameters())
        groups = [group["params"] for group in getattr(self.ref(), "param_groups", ())]
        frozen = [group for group in groups if group and not any(one.requires_grad for one in group)]
        self.frozen_groups = [len(group) for group in frozen if self.with_gradient.isdisjoint(map(id, group))]

    def look_at_tensors(self, reads: DeferredReads, is_last: bool = False) -> None:
        """Look at every tensor before the step that has begun, or after the last one."""
        groups = [list(group["params"]) for group in getattr(self.ref(), "param_groups", ())] or [self.parameters()]
        self.histories.renew_copies(self.attempts)
        self.histories.read(groups, self.attempts + is_last, reads, is_last)

    def parameter_versions(self) -> int:
        return sum(parameter._version for parameter in self.parameters())

    def names_of(self, parameters: set[int]) -> list[str]:
        """Return the parameters' names, and how many are of no model that was called."""
        names = [self.parameter_names[one] for one in parameters if one in self.parameter_names]
        unnamed = len(parameters) - len(names)
        return [*names, f"{counted(unnamed, 'tensor')} of no model that was called"] if unnamed else names

    def hook_parameters(self) -> None:
        """Observe which parameters get gradients, including those added since the last call."""
        with_gradient, reference = self.with_gradient, weakref.ref(self)

        @hidden_from_torch
        def gradient_arrived(parameter: Tensor) -> None:
            with_gradient.add(id(parameter))
            watched = reference()
            if watched is not None:
                watched.reached, watched.arrival = True, next(_arrivals)
                watched.last_gradient[id(parameter)] = watched.attempts

        self.ever_held.update(map(id, self.parameters()))
        for parameter in self.parameters():
            if id(parameter) not in self.hooks and parameter.requires_grad and parameter.is_leaf:
                self.hooks[id(parameter)] = parameter.register_post_accumulate_grad_hook(gradient_arrived)

    def note_idle_backward(self, location: CodeLocation | None, reads: DeferredReads) -> None:
        """Record a backward before the first step, and the state of a parameter, which the loop may change itself."""
        self.idle_backwards, self.idle_location = self.idle_backwards + 1, location
        if self.idle_backwards == 1:
            self.idle_parameter = next(iter(self.parameters_with_gradient()), None)
        if self.idle_parameter is not None and self.idle_backwards in (1, IDLE_BACKWARDS):
            self.idle_states.append(ParameterState.of(self.idle_parameter, reads))
        if self.idle_backwards >= IDLE_BACKWARDS:
            self.idle_parameter = None

    @property
    def changed_by_hand(self) -> bool:
        """Whether the loop changed a parameter before the first step."""
        return len(self.idle_states) > 1 and self.idle_states[0].differs_from(self.idle_states[-1])

    # ---------------------------------------------------------------- parameters without a gradient

    def missing(self) -> set[int]:
        """Return the trainable parameters that have not had a gradient for some steps, or never had one."""
        recent = {one for one, step in self.last_gradient.items() if self.attempts - step < STEPS_WITHOUT_GRADIENT}
        by_hand = self.with_gradient.difference(self.last_gradient)
        moved = {one for one, (first, last) in self.still.items() if first.differs_from(last)}  # as an average is
        return self.trainable - recent - by_hand - moved

    def note_states(self, reads: DeferredReads) -> None:
        """Record the states of parameters without a gradient, which the loop may change itself."""
        for parameter in self.parameters():
            if id(parameter) in self.trainable and id(parameter) not in self.with_gradient:
                now = ParameterState.of(parameter, reads)
                self.still[id(parameter)] = self.still.get(id(parameter), (now, now))[0], now

    def search_cuts(self) -> None:
        """Look in the next window for operations that cut gradients off."""
        if self.cut_search is None and not self.cuts and (missing := self.missing()):
            search = CutSearch(missing, self.cuts.setdefault)
            if search.start():
                self.cut_search = search

    def end_cut_search(self) -> None:
        if self.cut_search is not None and self.cut_search.stop():
            self.cut_search = None

    def stop(self) -> None:
        """Remove the hooks and release all tensors."""
        self.end_cut_search()
        for hook in self.hooks.values():
            hook.remove()
        self.hooks.clear()
        self.copies_before_step.clear()
        self.histories.forget()
        self.gradient_sample = self.idle_parameter = None

    # ---------------------------------------------------------------- gradients

    def parameters_with_gradient(self) -> list[Tensor]:
        return [parameter for parameter in self.parameters() if parameter.grad is not None]

    def gradients(self) -> list[Tensor]:
        """Return the gradients that can be read."""
        readable = (readable_tensor(parameter.grad) for parameter in self.parameters_with_gradient())
        return [gradient for gradient in readable if gradient is not None]

    def gradient_versions(self) -> int:
        return sum(gradient._version for gradient in self.gradients())

    def first_gradient(self) -> Tensor | None:
        """Return the first gradient that is not None; None if there is none."""
        return next((parameter.grad for parameter in self.parameters() if parameter.grad is not None), None)

    def note_gradient_after_backward(self) -> None:
        """Remember the first gradient itself: what the loop puts in its place may get the same id."""
        first = self.first_gradient()
        self.first_gradient_after_backward = None if first is None else weakref.ref(first)

    def has_assigned_gradients(self) -> bool:
        """Return whether the loop put its own tensors in place of the gradients of the last backward."""
        left, now = self.first_gradient_after_backward, self.first_gradient()
        return left is not None and now is not None and now is not left()

    def note_stepped_gradients(self) -> None:
        """Remember which gradients a step took."""
        first = self.first_gradient()
        self.stepped_gradients = None if first is None else (weakref.ref(first), self.gradient_versions())

    def has_stepped_gradients(self) -> bool:
        """Return whether the gradients are the very same that the last step took."""
        if self.stepped_gradients is None or len(self.backwards) > self.backwards_stepped:
            return False
        first, versions = self.stepped_gradients
        now = self.first_gradient()
        return now is not None and now is first() and versions == self.gradient_versions()

    def has_gradient_at(self, pointer: int) -> bool:
        """Return whether a gradient's storage starts at ``pointer``."""
        if self.gradient_pointers is None:
            self.gradient_pointers = {gradient.data_ptr() for gradient in self.gradients()}
        return bool(self.backwards) and pointer in self.gradient_pointers

    @_measures("gradient size")
    def gradient_size(self, reads: DeferredReads, norm: DeferredNumber | None = None) -> DeferredNumber | None:
        """Measure the gradients: 0 if all are zero, not finite if an element is not, None if no gradient exists.

        Their norm is enough, except where it may overflow or vanish. Pass it if it is known.
        """
        if self.attempts > CLOSELY_WATCHED_STEPS and not self.measure_exactly:
            return norm or self.gradient_norm(reads)
        self.clipped_norm, gradients = None, self.gradients()
        return reads.number(measurements.gradient_size(gradients, exact=True)) if gradients else None

    @_measures("gradient size")
    def gradient_norm(self, reads: DeferredReads) -> DeferredNumber | None:
        """Return the norm that clipping measured just before, or else measure it; None if no gradient exists."""
        clipped, self.clipped_norm = self.clipped_norm, None
        if clipped is not None and clipped[1] == self.gradient_versions():
            return reads.number(clipped[0].clone())
        gradients = self.gradients()
        return reads.number(measurements.gradient_size(gradients, exact=False)) if gradients else None

    @_measures("gradient sample")
    def sample_gradient(self) -> None:
        """Copy some elements of the largest gradient, to compare them with later ones."""
        dense = [one for one in self.parameters() if one.grad is not None and not one.grad.is_sparse]
        largest = max(dense, key=Tensor.numel, default=None)
        gradient = None if largest is None else readable_tensor(largest.grad)
        self.gradient_sample = None
        if largest is not None and gradient is not None and gradient.numel():
            self.gradient_sample = largest, measurements.sample_elements(gradient).clone()

    @_measures("gradient sample")
    def compare_gradient_sample(self, reads: DeferredReads) -> None:
        """Record the factor that the gradients were multiplied by since they were sampled, and sample them again."""
        if self.gradient_sample is None:
            return
        parameter, before = self.gradient_sample
        gradient = readable_tensor(parameter.grad)
        if gradient is not None and not gradient.is_sparse and gradient.numel():
            after = measurements.sample_elements(gradient).clone()
            self.gradient_sample = parameter, after
            self.gradient_factors.append(reads.number(measurements.least_squares_factor(before, after)))

    # ---------------------------------------------------------------- the next step

    def note_scaled_clips(self) -> None:
        """Record that every clipping so far saw the loss scale in the gradients, unless they were unscaled."""
        if not self.unscaled:
            self.scaled_clips += self.clips
            self.clips.clear()

    def begin_step(self, location: CodeLocation | None, backwards: list[Backward], forwards: Iterable[Forward]) -> Step:
        """Begin a new step: count it, and move into it the schedule calls and clippings since the step before."""
        self.attempts += 1
        step = Step(self.number, self.attempts, location, backwards, list(forwards))
        step.schedule_calls, self.schedule_calls = self.schedule_calls, []
        step.scaled_clips, self.scaled_clips, self.clips = self.scaled_clips, [], []
        return step
