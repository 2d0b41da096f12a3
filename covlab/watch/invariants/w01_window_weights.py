"""W01: the weights of a window's losses sum to 1.

``READINGS`` says how the windows of one line are judged: they are tried in order, and the first that fits speaks.
"""

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from covlab.watch.finding import Finding, Verdict
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences, recent_values
from covlab.watch.invariants.summary import upper_median
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Backward, Forward, Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.losses import MicroBatchWeight, is_close, micro_batch_weight
from covlab.watch.seen.observation import Observation


@dataclass(frozen=True)
class Window:
    """The losses of one window whose backwards were called at one line."""

    step: int
    micro_batches: list[MicroBatchWeight]
    same_inputs: bool  #: its losses have the same inputs, or all existed before the first backward: a sum of tasks
    other_lines: bool  #: backwards were called at other lines in it, too
    gradient_factor: float | None  #: by which the loop multiplied the gradients

    @property
    def sum(self) -> float:
        return sum(one.value for one in self.micro_batches)

    @property
    def total(self) -> float:
        """The sum of the weights after the gradients were multiplied."""
        return math.nan if self.gradient_factor is None else self.sum * self.gradient_factor


class LineOfBackward:
    """All windows whose backwards were called at one line."""

    def __init__(self, windows: list[Window]) -> None:
        self.windows = windows
        micro_batches = [one for window in windows for one in window.micro_batches]
        self.certain = all(one.certain for one in micro_batches)
        self.reductions = {one.reduction for one in micro_batches}
        self.micro_batches = len(micro_batches)
        self.wrong = [window for window in windows if not is_close(window.sum, 1)]
        self.several_wrong = [window for window in self.wrong if len(window.micro_batches) > 1]
        self.usual_length = self._usual_length()
        self.undivided = sum(is_close(one.value, 1) for one in micro_batches)
        self.divided = sum(is_close(one.value, 1 / self.usual_length) for one in micro_batches)
        self.gradient_factors = [one.gradient_factor for one in windows if one.gradient_factor is not None]

    def _usual_length(self) -> int:
        """Return the usual number of micro-batches, or the largest if one is usual."""
        lengths = [len(window.micro_batches) for window in self.windows]
        usual = Counter(lengths).most_common(1)[0][0]
        return usual if usual > 1 else max(lengths)

    @cached_property
    def typical_sum(self) -> float:
        return upper_median([window.sum for window in self.wrong])

    @cached_property
    def typical_factor(self) -> float:
        return upper_median(self.gradient_factors)

    @cached_property
    def wrong_totals(self) -> list[Window]:
        multiplied = (window for window in self.windows if window.gradient_factor is not None)
        return [window for window in multiplied if not is_close(window.total, 1)]

    @property
    def lacks_division(self) -> bool:
        return self.certain and len(self.several_wrong) > 1 and self.undivided == self.micro_batches

    @property
    def is_multiplied(self) -> bool:
        return any(abs(factor - 1) > 0.01 for factor in self.gradient_factors)

    @property
    def has_constant_factor(self) -> bool:
        return all(is_close(factor, self.gradient_factors[0]) for factor in self.gradient_factors)


@dataclass(frozen=True)
class Reading:
    """What the windows of a line mean, and the windows that show it."""

    verdict: Verdict
    number: float
    says: str
    fix: str
    windows: list[Window]


NO_FINDING = Reading("note", 1, "", "", [])

FIX_DIVIDE = "divide the loss by the number of micro-batches in its window: (loss / {}).backward()"
FIX_EVERY_LOSS = "divide every micro-batch's loss, not only where a condition holds"
FIX_OWN_LENGTH = "divide by the micro-batches that the window really has"
FIX_DIVIDE_ONCE = "divide once: the losses, or the gradients"
FIX_SUM = "if a mean was meant, divide by the number of losses"
FIX_NOTHING = "nothing, if that is what you meant"


def one_backward_per_window(line: LineOfBackward) -> Reading | None:
    return NO_FINDING if line.usual_length == 1 else None


def gradients_divided_or_clipped(line: LineOfBackward) -> Reading | None:
    """The loop multiplied the gradients: it divides there, or clips there with a varying factor."""
    clipped = not line.wrong and not line.has_constant_factor
    return NO_FINDING if line.is_multiplied and (clipped or not line.wrong_totals) else None


def divided_twice(line: LineOfBackward) -> Reading | None:
    if not line.is_multiplied or line.wrong:
        return None
    factor = line.typical_factor
    is_second_division = is_close(factor, 1 / line.usual_length)
    says = f"{factor:.4g}: the losses of a window sum to 1 already, and {_multiplied(factor)}"
    verdict: Verdict = "fault" if is_second_division and line.certain else "note"
    return Reading(verdict, factor, says, FIX_DIVIDE_ONCE, line.wrong_totals)


def multiplied_by_another_number(line: LineOfBackward) -> Reading | None:
    if not line.is_multiplied:
        return None
    total = upper_median([window.total for window in line.wrong_totals])
    by_hand = _multiplied(line.typical_factor)
    says = f"the weights of a window of {line.usual_length} sum to {total:.4g}, not to 1: {by_hand}"
    verdict: Verdict = "warning" if line.has_constant_factor and line.certain else "note"
    return Reading(verdict, total, says, FIX_OWN_LENGTH, line.wrong_totals)


def weights_sum_to_1(line: LineOfBackward) -> Reading | None:
    return None if line.wrong else NO_FINDING


def sum_of_tasks(line: LineOfBackward) -> Reading | None:
    if not any(window.same_inputs for window in line.windows):
        return None
    says = (
        f"{line.typical_sum:.2f}: a window adds {line.usual_length} losses of the same inputs, or that were all "
        "computed first; meant as a sum over tasks, this is right"
    )
    return Reading("note", line.typical_sum, says, FIX_SUM, line.wrong)


def missing_division_beside_other_lines(line: LineOfBackward) -> Reading | None:
    if not any(window.other_lines for window in line.windows):
        return None
    if not line.lacks_division:
        return NO_FINDING
    n = line.usual_length
    says = (
        f"{line.typical_sum:.2f} = your {n} backwards a window at this line, beside those at others: a division by "
        "their number would be missing in an accumulation"
    )
    return Reading("warning", line.typical_sum, says, FIX_DIVIDE.format(n), line.several_wrong)


def missing_division(line: LineOfBackward) -> Reading | None:
    if not line.lacks_division:
        return None
    n = line.usual_length
    says = f"{line.typical_sum:.2f} = your {n} micro-batches: the division by the accumulation count is missing"
    return Reading("fault", line.typical_sum, says, FIX_DIVIDE.format(n), line.several_wrong)


def some_losses_divided(line: LineOfBackward) -> Reading | None:
    divided, undivided, number = line.divided, line.undivided, line.micro_batches
    if not line.certain or len(line.several_wrong) < 2 or not divided or not undivided or divided + undivided < number:
        return None
    counts = f"{divided} of {number} losses were divided by {line.usual_length}, the others not at all"
    return Reading("fault", line.typical_sum, f"{line.typical_sum:.2f}: {counts}", FIX_EVERY_LOSS, line.several_wrong)


def short_window_by_full_count(line: LineOfBackward) -> Reading | None:
    n = line.usual_length
    full_windows_are_right = all(len(window.micro_batches) != n for window in line.wrong)
    if not line.certain or not full_windows_are_right or line.divided < line.micro_batches:
        return None
    short = line.wrong[-1]
    m = len(short.micro_batches)
    says = f"{short.sum:.2f} = {m}/{n}: a window of {m} micro-batches was divided by {n}; full windows sum to 1"
    return Reading("fault", short.sum, says, FIX_OWN_LENGTH, line.wrong)


def other_weights(line: LineOfBackward) -> Reading | None:
    explanation = "a weight of the loss, a division by another number, or a hook on a parameter"
    if line.reductions == {"sum"}:
        explanation = "a sum, or weights by length"
    says = (
        f"the weights of a window of {line.usual_length} sum to {line.typical_sum:.4g}, not to 1: {explanation} would "
        "explain it"
    )
    return Reading("note", line.typical_sum, says, FIX_NOTHING, line.wrong)


def _multiplied(factor: float) -> str:
    return f"the loop multiplied the gradients by {factor:.4g} before the step"


READINGS: tuple[Callable[[LineOfBackward], Reading | None], ...] = (
    one_backward_per_window,
    gradients_divided_or_clipped,
    divided_twice,
    multiplied_by_another_number,
    weights_sum_to_1,
    sum_of_tasks,
    missing_division_beside_other_lines,
    missing_division,
    some_losses_divided,
    short_window_by_full_count,
    other_weights,
)


class WindowWeights(Invariant):
    code = "W01"
    title = "the weights of a window's losses sum to 1"
    rank = 130
    needs = ("backward", "forward")

    def __init__(self) -> None:
        self.windows: dict[tuple[int, CodeLocation | None], deque[Window]] = BoundedDefaultDict(recent_values)
        self.reasons: Counter[str] = Counter()  # why windows could not be judged

    def on_step(self, step: Step) -> None:
        by_line: dict[CodeLocation | None, list[Backward]] = {}
        for backward in step.backwards:
            by_line.setdefault(backward.location, []).append(backward)
        if step.uses_closure and len(step.backwards) == 1:
            self.reasons["one backward a window"] += 1
            return
        if len(by_line) > 1:
            self.reasons["backwards at different places: a sum over tasks cannot be told from an accumulation"] += 1
        for location, backwards in by_line.items():
            if len(by_line) == 1 or len(backwards) > 1:
                self._add(step, location, backwards, other_lines=len(by_line) > 1)

    def _add(self, step: Step, location: CodeLocation | None, backwards: list[Backward], other_lines: bool) -> None:
        known = [weight for weight in map(micro_batch_weight, backwards) if weight is not None]
        if len(known) < len(backwards):
            self.reasons["the loss is no sum of scaled means, as far as its graph tells"] += 1
            return
        if step.has_gradient_hooks:
            known = [replace(weight, certain=False) for weight in known]
        window = Window(step.number, known, _have_same_inputs(step.forwards, backwards), other_lines, _factor(step))
        self.windows[step.optimizer, location].append(window)

    def finish(self, seen: Observation) -> list[Finding]:
        found = []
        for (_, location), windows in self.windows.items():
            line = LineOfBackward(list(windows))
            reading = next(one for one in (read(line) for read in READINGS) if one is not None)
            if reading is not NO_FINDING:
                shown = reading.windows
                at = Occurrences(location, len(shown), shown[0].step, shown[-1].step)
                found.append(self.found(at, reading.verdict, reading.says, reading.fix, number=reading.number))
        return found

    def unchecked(self, seen: Observation) -> str | None:
        if any(len(window.micro_batches) > 1 for windows in self.windows.values() for window in windows):
            return None
        if self.reasons:
            return self.reasons.most_common(1)[0][0]
        return "one backward a window" if self.windows else "no backward led to a step"


def _factor(step: Step) -> float | None:
    """Return by what the loop multiplied the gradients, or None if that is not known."""
    factors = [math.nan if (value := value_of(one)) is None else value for one in step.gradient_factors]
    factor = math.prod(factors) if factors else math.nan
    return factor if math.isfinite(factor) else None


def _have_same_inputs(forwards: list[Forward], backwards: list[Backward]) -> bool:
    """Return whether the losses have the same inputs, or were all computed before the first backward."""
    own = {backward.number for backward in backwards}
    uses = [(forward, own.intersection(forward.used_by)) for forward in forwards]
    used = [(forward, numbers) for forward, numbers in uses if numbers]
    if any(len(numbers) > 1 for _, numbers in used):
        return True
    if used and all(forward.backwards_before < min(own) for forward, _ in used):
        return True
    inputs = [tuple(forward.fingerprints) for forward, _ in used if forward.fingerprints]
    one_forward_each = len(used) == len(set().union(*(numbers for _, numbers in used)))
    return one_forward_each and len(set(inputs)) < len(inputs)
