"""W03: no finite gradients are cleared without a step."""

import math
from collections import Counter, deque
from collections.abc import Set as AbstractSet
from typing import ClassVar

from covlab.watch.finding import Finding, Verdict, counted
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences
from covlab.watch.invariants.framework_advice import Action, framework_advice
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import GradientsCleared, Step
from covlab.watch.seen.location import CodeLocation

MOMENTS_KEPT = 256
WAITING = 10  # clearings per line that are not yet counted as lost
WAITING_FOR_OTHERS = 1024  # of gradients of a backward that also reached another optimizer


class LostGradients:
    """The gradients that one optimizer lost at one line."""

    def __init__(self) -> None:
        self.at = Occurrences()
        self.backwards = 0
        self.steps_before_latest: int | None = None
        self.distances: set[int] = set()  # steps from one such clearing to the next; only two different values
        self.moments: set[int] = set()  # steps before each such clearing; only the first few different values
        self.lines: set[CodeLocation | None] = set()  # of the backwards
        self.for_others = True  # every such backward also had another purpose
        self.waiting: deque[GradientsCleared] = deque()  # another optimizer may still use these gradients in a step

    def settle(self, waiting: int = 0, pending: AbstractSet[int] = frozenset()) -> None:
        """Count the oldest clearings as lost, except the latest ``waiting`` ones.

        Args:
            pending: numbers of the backwards that wait for a step of some optimizer, such as a generator that steps
                less often than the critic that its losses reach.
        """
        still_waiting = []
        while len(self.waiting) > waiting:
            cleared = self.waiting.popleft()
            if any(backward.number in pending for backward in cleared.backwards):
                still_waiting.append(cleared)
                continue
            if any(backward.stepped for backward in cleared.backwards):
                continue
            if self.steps_before_latest is not None and len(self.distances) < 2:
                self.distances.add(cleared.steps_before - self.steps_before_latest)
            self.at.add(cleared.steps_before + 1, cleared.location)
            self.backwards += len(cleared.backwards)
            self.lines.update(backward.location for backward in cleared.backwards)
            self.for_others &= cleared.for_others
            if len(self.moments) < MOMENTS_KEPT:
                self.moments.add(cleared.steps_before)
            self.steps_before_latest = cleared.steps_before
        self.waiting.extendleft(reversed(still_waiting))


class NoLostGradients(Invariant):
    title = "no finite gradients are cleared without a step"
    rank = 30
    fault_stays = True
    consequences = ("W11", "W07", "W10", "W04")
    needs = ("clear", "backward", "gradient size")

    meaning = """
        Clearing gradients before a step has used them throws away the data that they came from. Usually `zero_grad()`
        stands between `backward()` and `step()`, or a last, shorter window is never stepped.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            loss.backward()
            optimizer.zero_grad()  # too early: the step finds no gradients
            optimizer.step()
    """
    limits = """
        Gradients that are not finite may be cleared. A loop that clears the last micro-batches of an epoch on purpose
        gets a finding, too: the watch sees that data is lost, and cannot know that you accept it.
    """

    fix = "clear gradients only after the step that uses them, and skip that step only if a gradient is not finite"
    fix_cleared_before_step = "clear the gradients before backward() or after step(), not between them"
    fix_left_over = "also make a step for the last, shorter window, and divide its losses by their number"
    fix_no_step = "call optimizer.step() between backward() and the clearing, unless a gradient is NaN or infinite"
    actions: ClassVar[dict[str, Action]] = {fix_left_over: "whole windows"}

    def __init__(self) -> None:
        super().__init__()
        self.lost: dict[tuple[int, CodeLocation | None], LostGradients] = BoundedDefaultDict(LostGradients)
        # {optimizer: the line where it lost gradients since its last step}
        self.latest: dict[int, CodeLocation | None] = BoundedDefaultDict(lambda: None)
        # {line that cleared gradients: number of steps that found none because of it}
        self.empty_steps: Counter[CodeLocation | None] = Counter()
        self.steps: dict[int, int] = BoundedDefaultDict(int)  # of each optimizer, with gradients
        self.stepped_lines: dict[int, set[CodeLocation | None]] = BoundedDefaultDict(set)  # of their backwards
        self.longest: dict[int, int] = BoundedDefaultDict(int)  # of each optimizer: backwards in its longest window
        self.left: dict[int, GradientsCleared] = {}  # {optimizer: what no step had used when the run ended}

    def on_step(self, step: Step) -> None:
        if step.gradients_assigned:  # probably computed from the cleared gradients, as when a loop merges tasks
            for (optimizer, _), lost in self.lost.items():
                if optimizer == step.optimizer:
                    lost.waiting = deque(one for one in lost.waiting if one.steps_before != step.number - 1)
        if step.backwards:
            self.steps[step.optimizer] += 1
            self.longest[step.optimizer] = max(self.longest[step.optimizer], len(step.backwards))
            self.stepped_lines[step.optimizer].update(backward.location for backward in step.backwards)
        location = self.latest.pop(step.optimizer, None)
        if location is not None and not step.backwards:
            self.empty_steps[location] += 1

    def on_cleared(self, cleared: GradientsCleared) -> None:
        size = value_of(cleared.gradient_size)
        unused = all(not backward.stepped for backward in cleared.backwards)
        if cleared.at_end:
            self.left[cleared.optimizer] = cleared
        elif unused and size is not None and math.isfinite(size) and size > 0:
            lost = self.lost[cleared.optimizer, cleared.location]
            lost.waiting.append(cleared)
            reached_others = any(len(backward.reached) > 1 for backward in cleared.backwards)
            lost.settle(WAITING_FOR_OTHERS if reached_others else WAITING)
            self.latest[cleared.optimizer] = cleared.location

    def find(self) -> Findings:
        used = [forward for forward in self.seen.forwards if forward.used_by]
        if used and not self.seen.counts["steps"] and not any(forward.training for forward in used):
            return  # a model in evaluation mode that is not trained, as where gradients explain its outputs
        windows = (one.backwards[one.backwards_stepped :] for one in self.seen.optimizers.values())
        pending = {backward.number for window in windows for backward in window}
        for (optimizer, _), lost in self.lost.items():
            lost.settle(pending=pending)
            if lost.at.count and not (lost.for_others and self._only_measures(optimizer, lost)):
                yield self._judge(optimizer, lost)
        for optimizer, left in self.left.items():
            if not any(lost.at.count for (other, _), lost in self.lost.items() if other == optimizer):
                yield from self._left_at_end(optimizer, left)

    def _only_measures(self, optimizer: int, lost: LostGradients) -> bool:
        """Return whether no backward of these lines leads to a step, as where a loop only looks at gradients."""
        return self.steps[optimizer] > 0 and self.stepped_lines[optimizer].isdisjoint(lost.lines)

    def _left_at_end(self, optimizer: int, left: GradientsCleared) -> Findings:
        """Note gradients that no step had used when the run ended, where such backwards lead to steps otherwise."""
        lines = {backward.location for backward in left.backwards}
        number = len(left.backwards)
        if number < self.longest[optimizer] and not lines.isdisjoint(self.stepped_lines[optimizer]):
            does = "its gradient is" if number == 1 else "their gradients are"
            says = f"the run ended with {counted(number, 'micro-batch')} after the last step: {does} lost"
            at = Occurrences(left.backwards[-1].location, 1, left.steps_before + 1, left.steps_before + 1)
            yield self.found(at, "note", says, self._advise_whole_windows(optimizer, at.location), number=number)

    def _advise_whole_windows(self, optimizer: int, location: CodeLocation | None) -> str:
        advice = framework_advice(location, "whole windows") or self.fix_left_over
        return advice.format(self.longest[optimizer])

    def _judge(self, optimizer: int, lost: LostGradients) -> Finding:
        times, steps = lost.at.count, self.steps[optimizer]
        empty_steps = self.empty_steps[lost.at.location]
        # one phase of the run, as where Fisher information is measured after a task
        only_measures = self._only_measures(optimizer, lost)
        is_phase = only_measures and times >= 8 * len(lost.moments)
        # always the same number of steps apart, as the ends of epochs are
        left_over = not only_measures and times > 1 and len(lost.distances) == 1 and min(lost.distances) > 1
        repeated = times >= 3 and times >= 0.2 * steps
        if empty_steps > 0.5 * times:
            says = f"{counted(empty_steps, 'step')} found no gradient, because it was cleared after backward()"
            fix = self.fix_cleared_before_step
        elif left_over:
            number = lost.backwards / times
            left = (
                "1 micro-batch is left over: its" if number == 1 else f"{number:g} micro-batches are left over: their"
            )
            says = f"every {min(lost.distances)} steps, {left} gradients are lost"
            fix = self._advise_whole_windows(optimizer, lost.at.location)
        else:
            says = (
                f"finite gradients of {counted(lost.backwards, 'backward')} were cleared before a step used them, in "
                f"{counted(times, 'clearing')}; {counted(steps, 'step')} ran"
            )
            fix = self.fix if steps else self.fix_no_step
        if is_phase:
            says += ", and no backward of this line leads to a step; this is correct if you only measure gradients here"
            fix = self.fix_nothing
        verdict: Verdict = "fault" if (repeated or left_over) and not is_phase else "note"
        return self.found(lost.at, verdict, says, fix, number=lost.backwards)
