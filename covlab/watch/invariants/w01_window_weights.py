"""W01: the weights of a window's losses sum to 1.

A window is all the backwards that lead to one optimizer step. If the weights of its losses do not sum to 1, the step is
that of another loss: usually it is as many times too long as there are micro-batches.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median_high

from covlab.watch.finding import Verdict, counted
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences, gradient_factor, recent_values
from covlab.watch.invariants.framework_advice import Action, framework_advice
from covlab.watch.seen.events import Backward, Forward, Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.losses import MicroBatchWeight, is_close, micro_batch_weight
from covlab.watch.seen.observation import Observation


@dataclass(frozen=True)
class Window:
    """The losses of one window whose backwards were called at one line."""

    step: int
    micro_batches: list[MicroBatchWeight]
    same_inputs: bool  #: from ``_have_same_inputs``; True means a sum of tasks, not an accumulation
    other_lines: bool  #: the window also has backwards at other lines
    gradient_factor: float | None  #: the loop multiplied the gradients by this
    others_step_within: bool = False  #: between its backwards, another optimizer stepped
    alternates: bool = False  #: since the window before, another optimizer stepped on losses of its own

    @property
    def sum(self) -> float:
        return sum(one.value for one in self.micro_batches)

    @property
    def has_unequal_means(self) -> bool:
        """Whether means over very different numbers of targets have equal weights."""
        targets = [one.targets or 0 for one in self.micro_batches]
        alike = all(is_close(one.value, self.micro_batches[0].value) for one in self.micro_batches)
        return len(targets) > 1 and alike and min(targets) > 0 and max(targets) >= 1.5 * min(targets)

    @property
    def total(self) -> float:
        """The sum of the weights after the gradients were multiplied."""
        return math.nan if self.gradient_factor is None else self.sum * self.gradient_factor


class LineOfBackward:
    """All windows whose backwards were called at one line."""

    def __init__(self, windows: list[Window]) -> None:
        self.windows = windows
        micro_batches = [one for window in windows for one in window.micro_batches]
        lengths = Counter(len(window.micro_batches) for window in windows)
        usual_length = lengths.most_common(1)[0][0]
        # usual number of micro-batches per window; the largest number if most windows have only one
        self.length = usual_length if usual_length > 1 else max(lengths)
        self.micro_batches = len(micro_batches)
        self.certain = all(one.certain for one in micro_batches)
        self.reductions = {one.reduction for one in micro_batches}
        self.undivided = sum(is_close(one.value, 1) for one in micro_batches)
        self.multiplied = sum(is_close(one.value, self.length) for one in micro_batches)
        self.divided = sum(is_close(one.value, 1 / self.length) for one in micro_batches)
        self.wrong = [window for window in windows if not is_close(window.sum, 1)]
        self.several_wrong = [window for window in self.wrong if len(window.micro_batches) > 1]
        # an optimizer steps less often than another, or several losses of two networks that train each other
        self.has_own_rhythm = all(window.others_step_within for window in self.several_wrong) or (
            self.length == 2 and any(window.alternates for window in self.several_wrong)
        )
        self.lacks_division = self.certain and len(self.several_wrong) > 1 and self.undivided == self.micro_batches
        multiplied = [window for window in windows if window.gradient_factor is not None]
        self.wrong_totals = [window for window in multiplied if not is_close(window.total, 1)]
        self.gradient_factors = [one.gradient_factor for one in windows if one.gradient_factor is not None]
        self.is_multiplied = any(abs(factor - 1) > 0.01 for factor in self.gradient_factors)
        self.has_constant_factor = all(is_close(factor, self.gradient_factors[0]) for factor in self.gradient_factors)
        # clipping multiplies by another factor each time
        is_clipped = self.is_multiplied and not self.wrong and not self.has_constant_factor
        self.sums_to_1 = is_clipped or not (self.wrong_totals if self.is_multiplied else self.wrong)
        self.typical_sum = median_high([window.sum for window in self.wrong] or [1.0])
        self.typical_factor = median_high(self.gradient_factors or [1.0])
        self.multiplication = f"the loop multiplied the gradients by {self.typical_factor:.4g} before the step"


@dataclass(frozen=True)
class Reading:
    """An explanation of the windows of a line, and the windows that show it."""

    verdict: Verdict
    number: float
    says: str
    fix: str  #: {0} is the number of micro-batches per window
    windows: list[Window]


STEPS_KEPT = 64  # of all optimizers

NO_FINDING = Reading("note", 1, "", "", [])

FIX_DIVIDE = "divide the loss by the number of micro-batches in its window: (loss / {0}).backward()"
FIX_ONCE = "do not multiply the loss by {0}, and divide it by {0}: (loss / {0}).backward()"
FIX_LENGTH = "divide by the number of micro-batches that the window really has"
ACTIONS: dict[str, Action] = {FIX_DIVIDE: "divide", FIX_ONCE: "divide", FIX_LENGTH: "length"}


def correct(line: LineOfBackward) -> Reading | None:
    """Accept one backward per window, or weights that sum to 1, also after the loop divided or clipped gradients."""
    return NO_FINDING if line.length == 1 or line.sums_to_1 else None


def means_that_count_alike(line: LineOfBackward) -> Reading | None:
    """Note equal weights of means over very different numbers of targets, as of sentences of different length."""
    if not line.sums_to_1:
        return None
    uneven = [window for window in line.windows if window.has_unequal_means]
    if not uneven or 2 * len(uneven) < len(line.windows):
        return None
    targets = [one.targets or 0 for one in uneven[-1].micro_batches]
    says = (
        f"{first_numbers(targets)} targets (tokens or samples) in the {counted(len(targets), 'micro-batch')} of a "
        "window, and each mean counts alike: a target in a short micro-batch weighs more than one in a long one"
    )
    fix = "if every target should count alike, add up their losses and divide by the number of targets in the window"
    return Reading("note", max(targets) / min(targets), says, fix, uneven)


def divided_twice(line: LineOfBackward) -> Reading | None:
    if not line.is_multiplied or line.wrong:
        return None
    factor = line.typical_factor
    is_second_division = is_close(factor, 1 / line.length)
    verdict: Verdict = "fault" if is_second_division and line.certain else "note"
    says = f"the weights of a window's losses sum to 1, but then {line.multiplication}"
    return Reading(verdict, factor, says, "divide once: either the losses or the gradients", line.wrong_totals)


def multiplied_by_another_number(line: LineOfBackward) -> Reading | None:
    if not line.is_multiplied:
        return None
    total = median_high(window.total for window in line.wrong_totals)
    verdict: Verdict = "warning" if line.has_constant_factor and line.certain else "note"
    says = f"the weights of {line.length} micro-batches sum to {total:.4g}, not to 1: {line.multiplication}"
    return Reading(verdict, total, says, FIX_LENGTH, line.wrong_totals)


def sum_of_tasks(line: LineOfBackward) -> Reading | None:
    if not any(window.same_inputs for window in line.windows):
        return None
    says = (
        f"{line.typical_sum:.2f}: a window adds {line.length} losses that have the same inputs, or that were all "
        "computed before the first backward; this is correct if you want a sum over tasks"
    )
    fix = "if you want a mean, divide by the number of losses"
    return Reading("note", line.typical_sum, says, fix, line.wrong)


def missing_division_beside_other_lines(line: LineOfBackward) -> Reading | None:
    if not any(window.other_lines for window in line.windows):
        return None
    if not line.lacks_division:
        return NO_FINDING
    says = (
        f"{line.typical_sum:.2f} = your {line.length} backwards per window at this line, besides those at other lines: "
        "if this is gradient accumulation, the division by their number is missing"
    )
    return Reading("warning", line.typical_sum, says, FIX_DIVIDE, line.several_wrong)


def missing_divisions(line: LineOfBackward) -> Reading | None:
    """Recognize a loss that is even multiplied by the number of micro-batches: n times n instead of 1."""
    n = line.length
    if not line.certain or n < 3 or line.multiplied < line.micro_batches or len(line.several_wrong) < 2:
        return None
    says = (
        f"{line.typical_sum:.2f} = {n} × {n}: each of your {n} micro-batches counts {n} times. The division by the "
        "accumulation count is missing, and so is the one for a multiplication by it"
    )
    return Reading("fault", line.typical_sum, says, FIX_ONCE, line.several_wrong)


def sum_on_purpose(line: LineOfBackward) -> Reading | None:
    """Note a sum in a loop of several optimizers, as of a generator that steps less often than its critic."""
    if not line.lacks_division or not line.has_own_rhythm:
        return None
    says = (
        f"{line.typical_sum:.2f} = the {line.length} losses of a window, and other optimizers step between them or "
        "between the windows: this is correct if you want their sum"
    )
    fix = "if you want a mean, divide what only this optimizer takes by the number of losses: its loss or its gradients"
    return Reading("note", line.typical_sum, says, fix, line.several_wrong)


def missing_division(line: LineOfBackward) -> Reading | None:
    if not line.lacks_division:
        return None
    n = line.length
    says = f"{line.typical_sum:.2f} = your {n} micro-batches: the division by the accumulation count is missing"
    return Reading("fault", line.typical_sum, says, FIX_DIVIDE, line.several_wrong)


def some_losses_divided(line: LineOfBackward) -> Reading | None:
    divided, undivided, number = line.divided, line.undivided, line.micro_batches
    if not line.certain or len(line.several_wrong) < 2 or not divided or not undivided or divided + undivided < number:
        return None
    were = "was" if divided == 1 else "were"
    counts = f"{divided} of {number} losses {were} divided by {line.length}, the others not at all"
    fix = "divide the loss of every micro-batch, not only where a condition holds"
    return Reading("fault", line.typical_sum, f"{line.typical_sum:.2f}: {counts}", fix, line.several_wrong)


def short_window_by_full_count(line: LineOfBackward) -> Reading | None:
    n = line.length
    full_windows_are_right = all(len(window.micro_batches) != n for window in line.wrong)
    if not line.certain or not full_windows_are_right or line.divided < line.micro_batches:
        return None
    short = line.wrong[-1]
    m = len(short.micro_batches)
    says = f"{short.sum:.2f} = {m}/{n}: a window of {counted(m, 'micro-batch')} was divided by {n}"
    says += "; full windows sum to 1"
    return Reading("fault", short.sum, says, FIX_LENGTH, line.wrong)


def other_weights(line: LineOfBackward) -> Reading | None:
    why = "a weight of the loss, a division by another number, or a hook on a parameter"
    if line.reductions == {"sum"}:
        why = "a sum instead of a mean, or weights by length"
    says = f"the weights of {line.length} micro-batches sum to {line.typical_sum:.4g}, not 1; possible reasons: {why}"
    targets = [one.targets for one in line.wrong[-1].micro_batches]
    if len(set(targets)) > 1 and None not in targets:
        says += f". In the last such window they are means over {first_numbers(targets)} targets"
    return Reading("note", line.typical_sum, says, Invariant.fix_nothing, line.wrong)


def first_numbers(numbers: Sequence[float | None], most: int = 6) -> str:
    """Return the first ``most`` numbers as text."""
    text = ", ".join(f"{number:g}" for number in numbers[:most] if number is not None)
    return f"{text}, …" if len(numbers) > most else text


# The possible explanations of the windows of one line. The first one that fits decides.
READINGS: tuple[Callable[[LineOfBackward], Reading | None], ...] = (
    means_that_count_alike,
    correct,
    divided_twice,
    multiplied_by_another_number,
    sum_of_tasks,
    missing_division_beside_other_lines,
    sum_on_purpose,
    missing_division,
    missing_divisions,
    some_losses_divided,
    short_window_by_full_count,
    other_weights,
)


class WindowWeights(Invariant):
    title = "the weights of a window's losses sum to 1"
    rank = 130
    fault_stays = True
    needs = ("backward", "forward")

    meaning = """
        A window is all the backwards that lead to one optimizer step. The step is right if the weights of the window's
        losses sum to 1, as in a mean. If nobody divides the loss by the number of micro-batches, the step is that many
        times too long. Adam hides this, until you clip, change the window, or add weight decay.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for number in range(1, 41):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            loss.backward()  # four of these lead to one step, and none is divided by 4
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    """
    limits = """
        It reads the weights from the graph of the loss. It says nothing where that graph is not a sum of scaled means,
        or where each window has one backward. It cannot know whether you want a sum over tasks or a mean over tokens:
        then it writes a note, not a fault. It also writes a note where another optimizer steps between the losses of a
        window, as for a generator that steps less often than its critic, and for two losses of networks that take
        turns, such as those of real and of made samples.
    """

    def __init__(self) -> None:
        super().__init__()
        self.windows: dict[tuple[int, CodeLocation | None], deque[Window]] = BoundedDefaultDict(recent_values)
        self.reasons: Counter[str] = Counter()  # why windows could not be judged
        self.steps: deque[tuple[int, set[int]]] = deque(maxlen=STEPS_KEPT)  # the last: optimizer, numbers of backwards

    def on_step(self, step: Step) -> None:
        alternates = self._alternates(step)
        by_line: dict[CodeLocation | None, list[Backward]] = {}
        for backward in step.backwards:
            by_line.setdefault(backward.location, []).append(backward)
        if step.uses_closure and len(step.backwards) == 1:
            self.reasons["one backward per window"] += 1
            return
        if len(by_line) > 1:
            self.reasons["backwards at different lines, which may be a sum over tasks"] += 1
        for location, backwards in by_line.items():
            if len(by_line) == 1 or len(backwards) > 1:
                self._add(step, location, backwards, len(by_line) > 1, alternates)

    def _alternates(self, step: Step) -> bool:
        """Return whether another optimizer stepped since this one did, and on losses that this one did not take."""
        own, others = {backward.number for backward in step.backwards}, []
        for optimizer, numbers in reversed(self.steps):
            if optimizer == step.optimizer:
                own |= numbers
                break
            others.append(numbers)
        self.steps.append((step.optimizer, {backward.number for backward in step.backwards}))
        return any(numbers and numbers.isdisjoint(own) for numbers in others)

    def _add(
        self,
        step: Step,
        location: CodeLocation | None,
        backwards: list[Backward],
        other_lines: bool,
        alternates: bool,
    ) -> None:
        known = [weight for weight in map(micro_batch_weight, backwards) if weight is not None]
        if len(known) < len(backwards):
            self.reasons["the graph of the loss does not show a sum of scaled means"] += 1
            return
        if step.has_gradient_hooks:
            known = [replace(weight, certain=False) for weight in known]
        same_inputs, factor = _have_same_inputs(step.forwards, backwards), gradient_factor(step)
        within = backwards[0].steps_before != backwards[-1].steps_before
        window = Window(step.number, known, same_inputs, other_lines, factor, within, alternates)
        self.windows[step.optimizer, location].append(window)

    def find(self) -> Findings:
        for (_, location), windows in self.windows.items():
            line = LineOfBackward(list(windows))
            reading = next(one for one in (read(line) for read in READINGS) if one is not None)
            if reading is not NO_FINDING:
                shown = reading.windows
                at = Occurrences(location, len(shown), shown[0].step, shown[-1].step)
                action = ACTIONS.get(reading.fix)
                fix = (action and framework_advice(location, action)) or reading.fix
                yield self.found(at, reading.verdict, reading.says, fix.format(line.length), number=reading.number)

    def unchecked(self, seen: Observation) -> str | None:
        if any(len(window.micro_batches) > 1 for windows in self.windows.values() for window in windows):
            return None
        if self.reasons:
            return self.reasons.most_common(1)[0][0]
        return "one backward per window" if self.windows else "no backward led to a step"


def _have_same_inputs(forwards: list[Forward], backwards: list[Backward]) -> bool:
    """Return whether the losses have the same inputs, or were all computed before the first backward."""
    own = {backward.number for backward in backwards}
    uses = [(forward, own.intersection(forward.used_by)) for forward in forwards]
    used = [(forward, numbers) for forward, numbers in uses if numbers]
    if any(len(numbers) > 1 for _, numbers in used):
        return True
    if len(own) > 1 and used and all(forward.backwards_before < min(own) for forward, _ in used):
        return True
    inputs = [tuple(forward.fingerprints) for forward, _ in used if forward.fingerprints]
    backwards_with_forward = {number for _, numbers in used for number in numbers}
    one_forward_each = len(used) == len(backwards_with_forward)
    return one_forward_each and len(set(inputs)) < len(inputs)
