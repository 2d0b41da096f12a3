"""What was observed of a training loop as a whole. Events describe its single steps."""

import sys
import weakref
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from covlab.watch.seen import graph
from covlab.watch.seen.clip_lines import ClipLine
from covlab.watch.seen.cuts import RunsWithoutGradient, frames_compiled
from covlab.watch.seen.deferred import DeferredNumber, DeferredReads
from covlab.watch.seen.events import Forward
from covlab.watch.seen.fingerprints import Fingerprints
from covlab.watch.seen.isolation import calls_are_compiled
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.look_ahead import LAYERS_SEEN, Dependence, Sequences
from covlab.watch.seen.loss_calls import CallRecorder
from covlab.watch.seen.loss_graph import LossFact
from covlab.watch.seen.models import CalledModel
from covlab.watch.seen.optimizer import ParameterState, WatchedOptimizer
from covlab.watch.seen.own_state import OwnStateLoads
from covlab.watch.seen.replicas import Replicas
from covlab.watch.seen.schedules import WatchedSchedule

FORWARDS_KEPT = 4096  # of one window
SCHEDULES_KEPT = 64

Part = Literal[
    "backward",
    "average",
    "clear",
    "clip",
    "clipped tensors",
    "data",
    "dropout",
    "forward",
    "freezing",
    "gradient size",
    "gradient sample",
    "inputs",
    "look ahead",
    "loss",
    "model",
    "numbers",
    "optimizer",
    "processes",
    "replacement",
    "replicas",
    "scaler",
    "schedule",
    "state",
    "statistics",
    "step",
]
OBSERVED: dict[Part, str] = {
    "backward": "backwards",
    "average": "models that are evaluated and not trained",
    "clear": "the clearing of gradients",
    "clip": "the clipping of gradients",
    "clipped tensors": "which gradients are clipped",
    "data": "the order of the data",
    "dropout": "dropout in evaluations",
    "forward": "calls of the model",
    "freezing": "the freezing of parameters",
    "gradient size": "the size of the gradients",
    "gradient sample": "what the loop does to its gradients",
    "inputs": "the inputs of the model",
    "look ahead": "what predictions depend on",
    "loss": "what the loss is made of",
    "model": "the models",
    "numbers": "numbers on the device",
    "optimizer": "the making of optimizers",
    "processes": "other processes",
    "replacement": "calls of nan_to_num",
    "replicas": "the parameters of other ranks",
    "scaler": "the GradScaler",
    "schedule": "learning-rate schedules",
    "statistics": "running statistics",
    "state": "states that are taken and loaded",
    "step": "optimizer steps",
}
Replaced = Literal["gradient", "loss", "losses", "model"]


@dataclass
class Replacements:
    """Calls from one line that replace NaN and infinity."""

    calls: int = 0
    needed: list[DeferredNumber] = field(default_factory=list)  #: not 0: the call met NaN or infinity


@dataclass
class UnregisteredParameter:
    """A parameter that gets gradients, and that neither a called model nor an optimizer has."""

    reference: "weakref.ref[Tensor]"
    name: str  #: of its module's class and of itself, and its shape
    first: ParameterState  #: when it was first seen
    last: ParameterState
    times: int = 0  #: how often it was seen
    is_evaluated: bool = False  #: its module is in evaluation mode, as a fixed network within the loss is

    @property
    def changed(self) -> bool:
        """Whether the loop changes it by itself."""
        return self.first.differs_from(self.last)


@dataclass
class RunsAlongSamples:
    """Calls of a layer whose dim 0, along which it runs, is the number of targets."""

    layer: str
    shape: torch.Size
    count: int = 0
    first: int = 0  #: step
    last: int = 0


@dataclass
class ActiveDropout:
    """Calls of dropout from one line that dropped values while the module that made them was in evaluation mode."""

    location: CodeLocation | None
    function: str
    p: float
    calls: int = 0
    unregistered: str | None = None  #: class of the module that dropped, if the evaluated model does not contain it
    classes: set[str] = field(default_factory=set)  #: of the modules that were running
    evaluations: set[CodeLocation | None] = field(default_factory=set)  #: lines that called the model


@dataclass
class DataOrder:
    """The order of one sampler's data, as a loop trains on it."""

    location: CodeLocation | None  #: where batches were first asked for
    kind: Literal["by epoch", "in order"]  #: "by epoch": a DistributedSampler shuffles; "in order": nothing shuffles
    #: {(optimizer, seed of the order): how often it trained on a pass over the data}
    passes: Counter[tuple[int, int]] = field(default_factory=Counter)
    has_labels: bool = True  #: every batch has a label for each sample
    label_ranges: list[tuple[DeferredNumber, DeferredNumber]] = field(default_factory=list)  #: (least, greatest)


@dataclass
class RunningStatistics:
    """The running statistics of one layer; sums of some elements of its mean, and of each of its parameters."""

    name: str
    location: CodeLocation | None  #: of a call of the model
    first: list[DeferredNumber]
    last: list[DeferredNumber] = field(default_factory=list)
    last_look: int = 0  #: steps before it
    always_training: bool = True
    ever_training: bool = False
    frozen: bool = True
    momentum_is_zero: bool = False
    ran: bool = False  #: with gradients
    distance: DeferredNumber | None = None  #: from mean 0 and variance 1

    @property
    def moved(self) -> bool:
        return bool(self.last) and self.first[0].value != self.last[0].value

    @property
    def parameters_moved(self) -> bool:
        return [one.value for one in self.first[1:]] != [one.value for one in self.last[1:]]

    @property
    def are_initial(self) -> bool:
        return self.distance is not None and self.distance.value == 0


@dataclass
class EvaluatedCopy:
    """A model that is evaluated and not trained, with the same parameters as one that is trained."""

    lines: list[CodeLocation]  #: that led to its first evaluation, the innermost first
    kind: str
    original: int  #: id of a parameter of the model that is trained
    started: int  #: steps before its first evaluation
    latest: int = 0  #: steps before the latest one
    windows: int = 0  #: evaluations with steps between them
    compared_at: int = 0  #: steps before the latest comparison
    own: "list[weakref.ref[Tensor]]" = field(default_factory=list)  #: some of its parameters
    others: "list[weakref.ref[Tensor]]" = field(default_factory=list)  #: those of the trained model
    #: sums of some elements of both, at the first evaluation and at the latest comparison
    first_sums: tuple[list[DeferredNumber], list[DeferredNumber]] = field(default_factory=lambda: ([], []))
    sums: tuple[list[DeferredNumber], list[DeferredNumber]] = field(default_factory=lambda: ([], []))

    def changed(self, trained: bool) -> bool:
        """Return whether its parameters changed, or those of the trained model."""
        first, last = self.first_sums[trained], self.sums[trained]
        return [one.value for one in first] != [one.value for one in last]


@dataclass
class FreezeAttempt:
    """An attribute that was set to freeze parameters, or to unfreeze them, and that changes nothing."""

    attribute: str  #: such as "require_grad"
    value: bool
    of_module: bool  #: it was set on a module, not on a parameter
    modules: dict[str, None] = field(default_factory=dict)  #: their names
    classes: set[str] = field(default_factory=set)  #: of these modules, and their bases
    parameters: set[int] = field(default_factory=set)  #: ids of the parameters that do the opposite


@dataclass
class NeverFrozen:
    """Parameters that the train() of a class freezes, and that train because nobody calls it."""

    of_class: str
    path: str  #: of what it freezes, such as "stage"; "": all
    location: CodeLocation  #: the line in train() that freezes
    parameters: set[int] = field(default_factory=set)  #: their ids


class Observation:
    """What was observed of a loop. Observers write it, and invariants read it at the end.

    Attributes:
        failures: {part: the error that ended its observation}.
        blocked: why the observation stopped early; None: it did not.
    """

    def __init__(self, light: bool = False) -> None:
        self.light = light
        self.failures: dict[Part, Exception] = {}
        self.blocked: str | None = None
        # processes that were started and may train: {(what runs there, line): how many}
        self.processes: Counter[tuple[str, CodeLocation | None]] = Counter()
        self.backwards_elsewhere: Counter[CodeLocation | None] = Counter()  # in threads that are not watched
        self.updated_by_hand: list[DeferredNumber] = []  # not 0: parameters changed between backwards without a step
        self.counts = dict.fromkeys(
            ("forwards", "backwards", "steps", "evaluations", "evaluation_mode", "models", "optimizers"), 0
        )

        self.optimizers: dict[int, WatchedOptimizer] = {}
        self.optimizers_made = 0
        self.formerly_held: set[int] = set()  # ids of parameters of optimizers that are gone

        self.schedules: deque[WatchedSchedule] = deque(maxlen=SCHEDULES_KEPT)

        self.replicas = Replicas()

        self.compiled_before = frames_compiled()
        self.models: weakref.WeakKeyDictionary[nn.Module, CalledModel] = weakref.WeakKeyDictionary()
        self.modules_called: dict[int, weakref.ref[nn.Module]] = {}  # by id, those that ran with gradients enabled
        # by the id of the module; None: it has no trainable parameters
        self.runs_without_gradient: dict[int, RunsWithoutGradient | None] = {}
        self.fingerprints = Fingerprints()
        # {(model, does an optimizer hold any of it?): {id: name} of parameters that get gradients and are in none}
        self.parameters_in_no_optimizer: dict[tuple[str, bool], dict[int, str]] = {}
        self.copies_called_at: dict[tuple[str, bool], CodeLocation] = {}  # such models that are copies of a trained one
        self.unregistered: dict[int, UnregisteredParameter] = {}  # by id, those that get gradients and are in none
        # longest run of forwards in training mode with neither gradients nor a backward
        self.longest_run_without_gradient: Counter[CodeLocation | None] = Counter()
        # where they ran on the very same input again and again, as Monte Carlo dropout does
        self.draws_samples: set[CodeLocation | None] = set()

        self.forwards: deque[Forward] = deque(maxlen=FORWARDS_KEPT)  # since the last step
        # forwards without gradients or in evaluation mode since the last backward
        self.runs_since_backward: Counter[CodeLocation | None] = Counter()
        # backwards that reached no parameter of any optimizer
        self.backwards_without_parameters: Counter[CodeLocation | None] = Counter()

        self.scaled_losses = {"enabled": 0, "disabled": 0}  # number of calls to enabled and to disabled GradScalers
        self.clips: dict[CodeLocation | None, ClipLine] = {}
        self.own_states: dict[CodeLocation | None, OwnStateLoads] = {}
        # by attribute, value, and whether a module has it
        self.freezing: dict[tuple[str, bool, bool], FreezeAttempt] = {}
        self.never_frozen: dict[tuple[str, str], NeverFrozen] = {}  # by class and path
        self.active_dropouts: dict[CodeLocation | None, ActiveDropout] = {}
        self.data_orders: list[DataOrder] = []
        self.calls_without_training = 0  # calls of models in evaluation mode or without gradients
        self.statistics: list[RunningStatistics] = []
        self.evaluated_copies: list[EvaluatedCopy] = []
        self.evaluated_while_trained: set[int] = set()  # ids of parameters of trained models
        self.replacements: dict[tuple[CodeLocation | None, Replaced], Replacements] = {}
        # what the graphs of losses show, by kind, line of the backward, and line of the call
        self.loss_facts: dict[tuple[str, CodeLocation | None, CodeLocation | None], LossFact] = {}
        self.losses_read = 0
        # for each loss whose targets are shifted inputs, how its scores depend on each of them
        self.dependences: list[list[Dependence]] = []
        self.sequence_layers: deque[Sequences] = deque(maxlen=LAYERS_SEEN)  # called since the last backward
        self.hooks_made = 0  # on tensors of the graph, by the loop, since the last backward
        self.packs_made = 0  # how often since then saved tensors were packed, as by a checkpoint
        # number of steps in which a layer was seen to run along the samples, by line
        self.runs_along_samples: dict[CodeLocation | None, RunsAlongSamples] = {}
        self.call_recorder: CallRecorder | None = None  # while it records the calls of the loop

    def adopt(self, optimizer: Any, made_at: CodeLocation | None = None) -> WatchedOptimizer | None:
        """Start to watch an optimizer, or its new parameters if it is already watched."""
        if isinstance(optimizer, torch.optim.Optimizer) and not getattr(optimizer, "param_groups", None):
            return None  # a wrapper that has not called Optimizer.__init__
        watched = self.find(optimizer)
        if watched is None:
            for gone in [one for one in self.optimizers.values() if one.ref() is None]:
                self.formerly_held.update(gone.hooks)
                gone.stop()
                del self.optimizers[gone.number]
            watched = WatchedOptimizer(optimizer, self.optimizers_made)
            self.optimizers_made += 1
            watched.made_at = made_at
            self.optimizers[watched.number], watched.failures = watched, self.failures
            for model in self.models.values():
                model.trained = None
        watched.hook_parameters()
        return watched

    def find(self, optimizer: object) -> WatchedOptimizer | None:
        return next((watched for watched in self.optimizers.values() if watched.ref() is optimizer), None)

    def schedule(self, schedule: object) -> WatchedSchedule:
        """Return what is known of a learning-rate schedule."""
        known = next((one for one in self.schedules if one.ref() is schedule), None)
        if known is None:
            known = WatchedSchedule(weakref.ref(schedule), type(schedule).__name__)
            self.schedules.append(known)
        return known

    def find_wrapped(self, optimizer: object) -> WatchedOptimizer | None:
        """Find an optimizer that Accelerate or Fabric may have wrapped."""
        inner = getattr(optimizer, "optimizer", optimizer)
        return next((watched for watched in self.optimizers.values() if watched.ref() in (optimizer, inner)), None)

    def held_parameters(self) -> Iterator[Tensor]:
        return (parameter for watched in self.optimizers.values() for parameter in watched.parameters())

    def ever_held(self) -> set[int]:
        """Return the ids of all parameters that an optimizer holds or held."""
        return self.formerly_held.union(*(watched.ever_held for watched in self.optimizers.values()))

    def accumulated_in_shards(self, backward: int) -> list[WatchedOptimizer]:
        """Return the optimizers of models that FSDP shards and that the backward came through.

        With ``set_requires_gradient_sync(False)``, FSDP keeps the gradients to itself until the last backward.
        """
        sharded = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
        if sharded is None:
            return []
        models = {forward.model for forward in self.forwards if backward in forward.used_by}
        found = []
        for module, called in self.models.items():
            if called.number in models and any(isinstance(part, sharded) for part in module.modules()):
                parameters = set(map(id, module.parameters()))
                found += [
                    one for one in self.optimizers.values() if not parameters.isdisjoint(map(id, one.parameters()))
                ]
        for watched in found:
            watched.gradients_come_late = True
        return found

    def describe_parameters(self, watched: WatchedOptimizer) -> None:
        """Record names and states of the optimizer's parameters while the models still exist."""
        watched.trainable = {id(parameter) for parameter in watched.parameters() if parameter.requires_grad}
        watched.note_frozen_groups()
        watched.with_gradient.update(map(id, watched.parameters_with_gradient()))
        for module in list(self.models):
            names = {id(parameter): name for name, parameter in module.named_parameters()}
            watched.parameter_names |= {one: name for one, name in names.items() if one in watched.trainable}
            for part in module.modules():
                if id(part) in self.modules_called:
                    watched.in_called_modules.update(map(id, part.parameters(recurse=False)))
                runs = self.runs_without_gradient.get(id(part))
                if runs is not None:
                    watched.runs_without_gradient[id(part)] = runs, set(map(id, part.parameters()))
        if not self.has_compiled and not any(hasattr(one, "_orig_mod") for one in self.models):
            watched.search_cuts()

    def look_for_parameters_in_no_optimizer(self) -> None:
        """Find parameters of models in training mode that get gradients although no optimizer holds them."""
        held = self.formerly_held.union(map(id, self.held_parameters()))
        for module, called in list(self.models.items()):
            if module.training and id(module) in self.modules_called:
                free = {name: one for name, one in module.named_parameters() if id(one) not in held}
                names = {id(one): name for name, one in free.items() if one.requires_grad and one.grad is not None}
                if names:
                    is_held = not held.isdisjoint(map(id, module.parameters()))
                    key = type(module).__name__, is_held
                    self.parameters_in_no_optimizer.setdefault(key, {}).update(names)
                    lines = [one.location for one in self.forwards if one.model == called.number and one.used_by]
                    line = next(filter(None, lines), None)
                    if line is not None and not is_held and self._is_copy(module, held):
                        self.copies_called_at.setdefault(key, line)

    def _is_copy(self, module: nn.Module, held: set[int]) -> bool:
        """Return whether a model that an optimizer holds has the class and the shapes of ``module``, as of a target."""
        shapes = [parameter.shape for parameter in module.parameters()]
        return any(
            type(other) is type(module)
            and shapes == [parameter.shape for parameter in other.parameters()]
            and not held.isdisjoint(map(id, other.parameters()))
            for other in list(self.models)
        )

    def look_for_unregistered_parameters(self, root: Tensor, reads: DeferredReads) -> None:
        """Find parameters that a loss depends on, but that no called model has registered and no optimizer holds."""
        known = self.formerly_held.union(map(id, self.held_parameters()))
        known.update(id(parameter) for module in list(self.models) for parameter in module.parameters())
        free = [leaf for leaf in graph.leaves(root) if type(leaf) is nn.Parameter and id(leaf) not in known]
        if not free:
            return
        owners: dict[int, tuple[str, bool]] = {}
        for module in filter(None, [reference() for reference in self.modules_called.values()]):
            for name, parameter in module.named_parameters(recurse=False):
                owners[id(parameter)] = f"{type(module).__name__}.{name} {list(parameter.shape)}", module.training
        for leaf in free:
            name, training = owners.get(id(leaf), (f"a parameter {list(leaf.shape)}", True))
            seen, state = self.unregistered.get(id(leaf)), ParameterState.of(leaf, reads)
            if seen is None or seen.reference() is not leaf:
                seen = self.unregistered[id(leaf)] = UnregisteredParameter(weakref.ref(leaf), name, state, state)
            seen.times += 1
            seen.is_evaluated |= not training
            seen.last = state

    def leave_calls(self) -> None:
        """Take a recorder of calls that has ended off the stack of modes, if that is possible now."""
        if self.call_recorder is not None and self.call_recorder.leave():
            self.call_recorder = None

    def note_run_with_gradient(self, module: nn.Module) -> None:
        if id(module) not in self.modules_called:
            self.modules_called[id(module)] = weakref.ref(module)
        runs = self.runs_without_gradient.get(id(module))
        if runs is not None:
            runs.steps = 0

    def note_run_without_gradient(self, module: nn.Module) -> None:
        if id(module) not in self.runs_without_gradient:
            is_trainable = any(parameter.requires_grad for parameter in module.parameters())
            self.runs_without_gradient[id(module)] = RunsWithoutGradient() if is_trainable else None
        runs = self.runs_without_gradient[id(module)]
        if runs is not None and runs.window != self.counts["steps"]:
            runs.count(self.counts["steps"])

    @property
    def has_compiled(self) -> bool:
        """Whether torch.compile has compiled something since the watch began."""
        return frames_compiled() != self.compiled_before

    def is_compiled(self, module: nn.Module) -> bool:
        """Return whether torch.compile has compiled something, or would compile a part of ``module``."""
        return self.has_compiled or any(map(calls_are_compiled, module.modules()))

    def failure_of(self, needs: tuple[Part, ...]) -> str | None:
        """Return which part that is needed could not be observed, and why; every invariant needs the steps."""
        part = next((part for part in (*needs, "step", "numbers") if part in self.failures), None)
        if part is None:
            return None
        error = self.failures[part]
        return f"{OBSERVED[part]} could not be observed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"

    def missing(self, needs: tuple[Part, ...]) -> str | None:
        """Return why a part that is needed could not be observed in this run."""
        if "model" in needs and not self.counts["forwards"]:
            return "no call of a model with gradients was seen"
        if "scaler" in needs and self.scaled_losses["disabled"] and not self.scaled_losses["enabled"]:
            return "the GradScaler is disabled (a GradScaler for CUDA disables itself on a CPU)"
        return None
