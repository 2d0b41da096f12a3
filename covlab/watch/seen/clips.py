"""Observe which tensors a loop clips, and whether a step takes the clipped gradients."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn

from covlab.watch.seen import measurements
from covlab.watch.seen.clip_lines import ClipLine, Miss
from covlab.watch.seen.deferred import DeferredNumber
from covlab.watch.seen.events import Step
from covlab.watch.seen.isolation import readable_tensor
from covlab.watch.seen.location import caller_location
from covlab.watch.seen.optimizer import ParameterState, WatchedOptimizer
from covlab.watch.seen.recorder import Recorder

CLIPS_KEPT = 256  # that no step has followed yet
NEVER_REACHED = 1000.0  # a limit from which on the call only measures the gradients
SIZES_READ = 4  # of gradients that were clipped before a backward, per line


class _Window(NamedTuple):
    """The gradients of one optimizer when they were clipped."""

    clearings: int
    has_gradient: bool
    has_backward: bool  #: since they were last cleared
    was_stepped: bool  #: a step had already taken them
    size: DeferredNumber | None  #: 0 if they were all zero; None: not measured


@dataclass
class _Clip:
    """One call that clips."""

    line: ClipLine
    tensors: set[int]
    windows: dict[int, _Window]  #: by the number of the optimizer that holds some of the tensors
    miss: Miss | None  #: why it clipped nothing that an optimizer holds
    other_stepped: bool = False  #: a step of an optimizer that holds none of the tensors has followed


class ClipObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self.running = 0  # depth of nested calls
        self._waiting: deque[_Clip] = deque(maxlen=CLIPS_KEPT)
        recorder.before_steps.append(("clipped tensors", self._before_step))

    def note(self, function: str, given: object, tensors: list[Tensor], ids: set[int], limit: object) -> None:
        """Note a call; ``given`` is the argument from which ``tensors`` were read, ``ids`` are theirs."""
        if self.running or (isinstance(limit, int | float) and limit >= NEVER_REACHED):
            return
        location = caller_location()
        line = self.seen.clips.setdefault(location, ClipLine(location, function.lstrip("_")))
        windows = dict(self._windows(line, ids))
        miss = None if windows else self._miss(line, given, tensors)
        if windows or miss:
            self._waiting.append(_Clip(line, ids, windows, miss))
        line.empty = given if isinstance(given, Iterator) or not tensors else None

    def _windows(self, line: ClipLine, ids: set[int]) -> Iterable[tuple[int, _Window]]:
        for number, watched in self.seen.optimizers.items():
            held = [one for one in watched.parameters() if id(one) in ids]
            if held:
                has_gradient = any(one.grad is not None for one in held)
                size = None
                if has_gradient and not watched.backwards and len(line.sizes) < SIZES_READ:
                    gradients = [readable_tensor(one.grad) for one in held]
                    readable = [one for one in gradients if one is not None]
                    size = self.recorder.reads.number(measurements.gradient_size(readable, exact=True))
                stepped = watched.has_stepped_gradients()
                yield number, _Window(watched.clearings, has_gradient, bool(watched.backwards), stepped, size)

    def _miss(self, line: ClipLine, given: object, tensors: list[Tensor]) -> Miss | None:
        """Return why a call clips no gradient of an optimizer; None: it may still be of use."""
        if not tensors:
            return "exhausted" if isinstance(given, Iterator) and given is line.empty else "empty"
        if not self.seen.ever_held().isdisjoint(map(id, tensors)):
            return None
        if not any(one.requires_grad for one in tensors):
            return "frozen"
        with_gradient = next((one for one in tensors if one.grad is not None), None)
        if with_gradient is not None:
            if not isinstance(with_gradient, nn.Parameter):
                return None
            state = ParameterState.of(with_gradient, self.recorder.reads)
            line.states = (line.states or (state, state))[0], state
        return "foreign"

    # ---------------------------------------------------------------- before a step

    def _before_step(self, watched: WatchedOptimizer, step: Step) -> None:
        """Decide of every call since the step before whether this step takes what it clipped."""
        if not self._waiting:
            return
        with_gradient = set(map(id, watched.parameters_with_gradient()))
        reached: dict[ClipLine, None] = {}
        missed: dict[ClipLine, Miss] = {}
        covered: set[int] = set()
        kept: deque[_Clip] = deque(maxlen=CLIPS_KEPT)
        for clip in self._waiting:
            window = clip.windows.pop(watched.number, None)
            miss = None if window is None else self._outcome(clip, window, watched, step, with_gradient)
            if miss == "reached":
                reached[clip.line] = None
                covered |= clip.tensors
                clip.line.clipped |= clip.tensors
            elif miss is not None:
                missed[clip.line] = miss
            if clip.windows:
                clip.other_stepped |= window is None
                kept.append(clip)
        if covered:
            missed.clear()
        for clip in self._waiting:
            wanted = (clip.line.clipped or with_gradient) & with_gradient
            is_covered = wanted <= covered if clip.line.clipped else bool(covered)
            if clip.miss and wanted and not is_covered:
                missed[clip.line] = clip.miss
        for line in reached:
            line.reach()
        for line, why in missed.items():
            if line not in reached:
                line.miss(why, step.number)
        self._waiting = kept

    def _outcome(
        self, clip: _Clip, window: _Window, watched: WatchedOptimizer, step: Step, with_gradient: set[int]
    ) -> Miss | Literal["reached"] | None:
        """Return whether the step takes a gradient that was clipped, or why not; None: that is unknown."""
        if clip.tensors.isdisjoint(with_gradient):
            return None
        if watched.clearings != window.clearings:
            if window.was_stepped:
                return "after step"
            if not window.has_backward:
                return "before backward" if step.backwards else None
            return "another's" if clip.other_stepped else None
        if not window.has_gradient:
            return "before backward"
        if window.size is not None and step.backwards and len(clip.line.sizes) < SIZES_READ:
            clip.line.sizes.append(window.size)
        return "reached"
