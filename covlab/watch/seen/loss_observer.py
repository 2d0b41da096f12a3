"""Look at the graphs of losses a few times, and record calls only where one looks suspicious."""

import warnings
from collections import Counter
from typing import cast

import torch
from torch import Tensor

from covlab.watch.seen.events import Backward
from covlab.watch.seen.isolation import calls_are_compiled, function_mode_may_begin, hidden_from_torch
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.look_ahead import Sequences, dependences
from covlab.watch.seen.loss_calls import CallRecorder
from covlab.watch.seen.loss_graph import LossFact, read_loss, targets_of
from covlab.watch.seen.observation import RunsAlongSamples
from covlab.watch.seen.recorder import Recorder

LOOKS = (1, 3, 10, 30, 100, 300, 1000, 3000)  # which backwards from one line are looked at
LOOKS_AHEAD = (4, 12, 40)
LINES_LOOKED_AHEAD = 8
LINES_KEPT = 256
REPEATED_WARNINGS = r"covlab\.watch\.seen\.loss_calls|torch\.overrides"
RECORDINGS = 4  # per line
LOOKS_KEPT = 8  # per fact
BACKWARDS_RECORDED = 64  # until the same line makes a backward again


class LossObserver:
    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.seen = recorder, recorder.observation
        self.backwards: Counter[CodeLocation | None] = Counter()
        self.recordings: Counter[CodeLocation | None] = Counter()
        self.wanted: CodeLocation | None = None
        self.is_wanted = False
        self.active: CallRecorder | None = None
        self.filter: object = None
        self.looked_ahead: set[CodeLocation | None] = set()
        self.waiting = 0  # backwards since the recording began
        recorder.after_steps.append(("loss", lambda watched: self.begin()))  # a default device prevents it before

    def start(self) -> None:
        """Let no warning appear a second time while calls are recorded, at a line of the watch."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=REPEATED_WARNINGS)
            self.filter = warnings.filters[0]
        cast(list[object], warnings.filters).insert(0, self.filter)

    def before_backward(self, record: Backward, root: Tensor) -> None:
        at, unpacks = record.location, not self.seen.packs_made
        if len(self.backwards) < LINES_KEPT or at in self.backwards:
            self.backwards[at] += 1
        self.seen.leave_calls()
        if self.active is not None:
            self.waiting += 1
            if at == self.wanted and self.active.error is None:
                self._keep(record, at, read_loss(root, self.active.calls, self.recorder.reads, unpacks), located=True)
            if at == self.wanted or self.waiting > BACKWARDS_RECORDED or self.active.error is not None:
                self.stop()
        elif self.backwards[at] in LOOKS:
            facts = read_loss(root, {}, self.recorder.reads, unpacks)
            self.seen.losses_read += 1
            self._keep(record, at, [fact for fact in facts if fact.is_certain], located=False)
            if facts and self.recordings[at] < RECORDINGS:
                self.wanted, self.is_wanted = at, True

    def note_hook(self, *_: object, **__: object) -> None:
        """Note that the loop put a hook on the graph, which a gradient of the watch's own would run."""
        self.seen.hooks_made += 1

    def note_packs(self, *_: object, **__: object) -> None:
        """Note that reading what nodes saved runs code, as that of a checkpoint, which computes it again."""
        self.seen.packs_made += 1

    def look_ahead(self, record: Backward, root: Tensor) -> None:
        """Find out once for each line whether a prediction of the next token sees it, if that disturbs nothing."""
        seen = self.seen
        layers, hooks, packs = list(seen.sequence_layers), seen.hooks_made, seen.packs_made
        seen.sequence_layers.clear()
        seen.hooks_made = seen.packs_made = 0
        if packs:
            return
        self._note_runs_along_samples(record, root, layers)
        is_distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if self.backwards[record.location] not in LOOKS_AHEAD or hooks or is_distributed:
            return
        if record.location in self.looked_ahead or len(self.looked_ahead) >= LINES_LOOKED_AHEAD:
            return
        forward = seen.forwards[-1].location if seen.forwards else record.location
        found = dependences(root, record, forward, layers)
        if found:
            self.looked_ahead.add(record.location)
            seen.dependences += found

    def _note_runs_along_samples(self, record: Backward, root: Tensor, layers: list[Sequences]) -> None:
        """Note layers that run along dim 0, if that is the number of targets, and dim 1 is not."""
        suspects = [one for one in layers if not one.batch_first and 1 < one.shape[1] != one.shape[0]]
        targets = targets_of(root) if suspects else set()
        for one in suspects:
            if one.shape[0] in targets and one.shape[1] not in targets:
                module = one.module()
                runs = RunsAlongSamples(type(module).__name__, one.shape)
                runs = self.seen.runs_along_samples.setdefault(one.location, runs)
                step = record.steps_before + 1
                if runs.last != step:
                    runs.first, runs.last, runs.count = runs.first or step, step, runs.count + 1

    def begin(self) -> None:
        """Begin to record the calls of the next forward, if a graph asked for it and it is possible now."""
        if not self.is_wanted or self.seen.call_recorder is not None or not function_mode_may_begin():
            return
        self.is_wanted = False
        if not self._compiles_functions():
            self.recordings[self.wanted] += 1
            self.active, self.waiting = CallRecorder(self.recorder.reads), 0
            self.active.__enter__()
            self.seen.call_recorder = self.active

    @hidden_from_torch
    def stop(self) -> None:
        if self.active is not None:
            self.active.stop()
        self.active = None
        self.seen.leave_calls()

    def end(self) -> None:
        self.stop()
        if self.filter in warnings.filters:
            cast(list[object], warnings.filters).remove(self.filter)

    def _compiles_functions(self) -> bool:
        """Return whether torch.compile works on something that cannot be told apart from the loop."""
        return self.seen.has_compiled and not any(
            calls_are_compiled(part) for model in list(self.seen.models) for part in model.modules()
        )

    def _keep(self, record: Backward, at: CodeLocation | None, facts: list[LossFact], located: bool) -> None:
        """Merge what one look found into what earlier ones found. Located facts replace those that are not."""
        known, step = self.seen.loss_facts, record.steps_before + 1
        first_seen: dict[str, int] = {}
        if located:
            for key in [key for key in known if key[1] == at and key[2] is None]:
                first_seen[key[0]] = known.pop(key).first
        elif any(key[1] == at and key[2] is not None for key in known):
            return
        for fact in facts:
            key = fact.kind, at, fact.location if located else None
            kept = known.setdefault(key, fact)
            if kept.count == 0 and fact.location is None:
                fact.location = at
            if kept is not fact and len(kept.numbers_seen) < LOOKS_KEPT:
                kept.numbers_seen += fact.numbers_seen
            if kept.last != step:
                kept.first = kept.first or first_seen.get(fact.kind, step)
                kept.last, kept.count = step, kept.count + 1
            if len(kept.forwards) < LOOKS_KEPT:
                kept.forwards += list(self.seen.forwards)[-1:]
