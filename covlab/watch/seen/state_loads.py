"""Observe loads of a state that is made of the module's own tensors: ``state_dict()`` does not copy them."""

import re
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation, caller_location
from covlab.watch.seen.optimizer import ParameterState, WatchedOptimizer
from covlab.watch.seen.own_state import OwnStateLoads
from covlab.watch.seen.patches import Patches
from covlab.watch.seen.recorder import Recorder

TENSORS_FOLLOWED = 8  # of a state
STATES_FOLLOWED = 64
OF_ANOTHER = re.compile(r"([\w.\[\]]+)\.load_state_dict\(\s*([\w.\[\]]+)\.state_dict\(\)")


@dataclass(eq=False)
class _TakenState:
    """What one call of ``state_dict()`` returned, as long as the loop keeps it."""

    location: CodeLocation | None
    tensors: list["weakref.ref[Tensor]"]
    versions: int = 0  #: of the tensors, when they were taken or when a step or a load last changed them
    steps: int = 0  #: since it was taken, of optimizers that hold some of the tensors
    overwritten: bool = False  #: by another state that was loaded since
    holders: dict[int, bool] = field(default_factory=dict)  #: {optimizer: it holds some of the tensors}

    def followed(self) -> list[Tensor]:
        return [one for reference in self.tensors if (one := reference()) is not None]

    def current_versions(self) -> int:
        return sum(one._version for one in self.followed())

    def is_held_by(self, watched: WatchedOptimizer) -> bool:
        if watched.number not in self.holders:
            pointers = {one.data_ptr() for one in self.followed()}
            self.holders[watched.number] = any(one.data_ptr() in pointers for one in watched.parameters())
        return self.holders[watched.number]


class StateObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self._taken: list[_TakenState] = []
        self._by_tensor: dict[int, tuple[weakref.ref[Tensor], _TakenState]] = {}
        self._takes: dict[CodeLocation | None, set[int]] = {}  # {line: steps before it took a state}
        self._taken_at = -1  # steps before the latest state was taken
        self._before_load: list[tuple[_TakenState, int]] = []
        recorder.before_steps.append(("state", self._before_step))
        recorder.after_steps.append(("state", self._after_step))

    def patch(self, patches: Patches) -> None:
        around = self.recorder.around
        patches.method(nn.Module, "state_dict", around("state", after=self._after_state_dict))
        load = around("state", before=self._before_load_state_dict, after=self._after_load_state_dict)
        patches.method(nn.Module, "load_state_dict", load)

    # ---------------------------------------------------------------- taking a state

    def _after_state_dict(self, module: nn.Module, *args: object, result: object, **kwargs: object) -> None:
        if args or kwargs.get("destination") is not None or not isinstance(result, Mapping):
            return  # of a part of the module that is asked
        location, steps = caller_location(), self.seen.counts["steps"]
        self._taken_at = steps
        tensors = [one for one in result.values() if isinstance(one, Tensor) and one.numel()]
        every = max(1, len(tensors) // TENSORS_FOLLOWED)
        taken = _TakenState(location, [weakref.ref(one) for one in tensors[::every][:TENSORS_FOLLOWED]])
        taken.versions = taken.current_versions()
        self._taken = [*[one for one in self._taken if one.followed()][-STATES_FOLLOWED:], taken]
        self._by_tensor = {key: pair for key, pair in self._by_tensor.items() if pair[0]() is not None}
        self._by_tensor.update((id(one), (weakref.ref(one), taken)) for one in tensors)
        moments = self._takes.setdefault(location, set())
        if len(moments) < 2:
            moments.add(steps)

    def _before_step(self, watched: WatchedOptimizer, step: Step) -> None:
        """Forget the states that the loop no longer has."""
        if self._taken:
            self._taken = [one for one in self._taken if one.followed()]

    def _after_step(self, watched: WatchedOptimizer) -> None:
        for taken in self._taken:
            if taken.is_held_by(watched):
                taken.steps += 1
                taken.versions = taken.current_versions()

    # ---------------------------------------------------------------- loading one

    def _before_load_state_dict(self, module: nn.Module, state_dict: object = None, *_: object, **__: object) -> None:
        self._before_load = []
        if not isinstance(state_dict, Mapping):
            return
        pairs = list(_pairs(module, state_dict))
        if not pairs:
            return
        if all(given.data_ptr() == own.data_ptr() and given.shape == own.shape for given, own in pairs):
            self._note(module, pairs)
        else:
            self._before_load = [(taken, taken.current_versions()) for taken in self._taken if taken.followed()]

    def _after_load_state_dict(self, *_: object, **__: object) -> None:
        for taken, versions in self._before_load:
            now = taken.current_versions()
            if now != versions:
                taken.overwritten, taken.versions = True, now
        self._before_load = []

    def _note(self, module: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
        """Note a load of the module's own tensors."""
        location, steps = caller_location(), self.seen.counts["steps"]
        if not steps:
            return
        loads = self.seen.own_states.setdefault(location, OwnStateLoads(location))
        parameter = next(module.parameters(), None)
        if parameter is not None and (loads.module is None or loads.module() is module):
            state = ParameterState.of(parameter, self.recorder.reads)
            loads.module = weakref.ref(module)
            loads.states = (loads.states or (state, state))[0], state
        held = self.seen.ever_held()
        loads.is_trained |= any(id(one) in held for one in module.parameters())
        taken = next((one for given, _ in pairs if (one := self._find(given)) is not None), None)
        if taken is None:
            if self._taken_at != steps and loads.is_trained:
                loads.unknown += 1
            elif loads.last_steps != steps:
                loads.fresh += 1
        elif taken.current_versions() != taken.versions:
            loads.written += 1
        elif taken.steps or taken.overwritten:
            loads.stale += 1
            loads.taken_at = taken.location
            loads.steps_since = max(loads.steps_since, taken.steps)
        elif loads.last_steps != steps:
            loads.fresh += 1
            loads.taken_at = taken.location
            loads.is_kept |= taken.location != location and len(self._takes.get(taken.location, ())) > 1
        code = OF_ANOTHER.search("" if location is None else location.code)
        loads.names_another = code is not None and code[1] != code[2]
        loads.last_steps = steps

    def _find(self, tensor: Tensor) -> _TakenState | None:
        reference, taken = self._by_tensor.get(id(tensor), (None, None))
        return taken if reference is not None and reference() is tensor else None


def _pairs(module: nn.Module, state: Mapping[object, object]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each tensor of the state and the module's own with the same name."""
    own = dict(module.named_parameters(remove_duplicate=False))
    own.update(module.named_buffers(remove_duplicate=False))  # type: ignore[arg-type] # both are tensors
    for name, given in state.items():
        tensor = own.get(str(name))
        if isinstance(given, Tensor) and tensor is not None and tensor.numel() and not tensor.is_meta:
            yield given, tensor
