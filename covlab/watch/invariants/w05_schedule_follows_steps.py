"""W05: the learning rate advances with the steps that ran."""

import math
from collections import Counter
from itertools import combinations
from statistics import median_high
from typing import ClassVar

from covlab.watch.finding import Finding
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences, learning_rates
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.schedules import WatchedSchedule, meaning_of_metric

CALLS_WITH_A_TREND = 5  # of a plateau schedule; fewer values show no trend
SHARE_OF_A_TREND = 0.5  # of the pairs of different values, those in one order minus those in the other
LEAST_MOVE = 0.05  # of the largest value
LARGEST_SET = 20_000  # samples


class ScheduleHistory:
    """How one schedule was called between the steps of one optimizer."""

    def __init__(self, location: CodeLocation | None) -> None:
        self.location = location
        self.calls_before_first_step = 0
        self.steps_with_call = 0  # steps with at least one call since the step before
        self.several_calls = Occurrences(location)  # of these steps, those with more than one call
        self.numbers_of_calls: Counter[int] = Counter()  # {calls: how many of those steps}
        self.as_many_as_backwards = 0  # of those steps, the ones with as many calls as backwards
        self.after_skipped = Occurrences(location)  # skipped steps that were followed by a call

    def add(self, calls: int, step: Step, previous: Step | None) -> None:
        """Count the calls between two steps, or before the first."""
        if previous is None:
            self.calls_before_first_step = calls
            return
        if calls > 1:
            self.several_calls.add(step.number)
            self.numbers_of_calls[calls] += 1
            self.as_many_as_backwards += len(step.backwards) == calls
        self.steps_with_call += 1
        if not previous.ran:
            self.after_skipped.add(previous.number)


class OptimizerHistory:
    """Count what the schedules and learning rates of one optimizer do between its steps."""

    def __init__(self) -> None:
        self.steps = 0
        self.previous: Step | None = None
        self.schedules: dict[int, ScheduleHistory] = {}
        self.rate_changes: Counter[tuple[bool, bool]] = Counter()  # {(step ran?, rates changed after it?): steps}
        self.changed_after_skipped = Occurrences()

    def add(self, step: Step) -> None:
        previous, calls = self.previous, Counter(call.schedule for call in step.schedule_calls)
        locations = {call.schedule: call.location for call in step.schedule_calls}
        for schedule, location in locations.items():
            history = self.schedules.setdefault(schedule, ScheduleHistory(location))
            history.add(calls[schedule], step, previous)
        if previous is not None and previous.learning_rates and step.learning_rates:
            changed = learning_rates(previous) != learning_rates(step)
            self.rate_changes[previous.ran, changed] += 1
            if changed and not previous.ran:
                self.changed_after_skipped.add(previous.number, previous.location)
        self.steps, self.previous = self.steps + 1, step


def direction(values: list[float]) -> int:
    """Return 1 if the values clearly rise from the first to the last, -1 if they fall, and 0 otherwise."""
    if len(values) < CALLS_WITH_A_TREND or abs(values[-1] - values[0]) < LEAST_MOVE * max(map(abs, values)):
        return 0
    signs = [(later > earlier) - (later < earlier) for earlier, later in combinations(values, 2)]
    share = sum(signs) / max(1, sum(map(abs, signs)))  # a schedule that cut the rate too early leaves equal values
    return round(share / abs(share)) if abs(share) >= SHARE_OF_A_TREND else 0


def are_proportions(values: list[float]) -> bool:
    """Return whether all values are k/n for one n, as accuracies on a set of n samples are, also in percent."""
    scale = 100.0 if max(values, default=0.0) > 1 else 1.0
    shares = [value / scale for value in set(values)]
    if len(shares) < 3 or min(shares) < 0 or max(shares) > 1:
        return False
    return any(all(abs(one * n - round(one * n)) < 1e-3 for one in shares) for n in range(2, LARGEST_SET))


class ScheduleFollowsSteps(Invariant):
    title = "the schedule advances with executed steps, or with epochs"
    rank = 140
    needs = ("schedule",)
    nothing_to_check = "no torch.optim.lr_scheduler was stepped between two steps"

    meaning = """
        A schedule is made for a number of steps, or of epochs. If it advances once per micro-batch, the learning rate
        falls several times too fast, and most of the training runs with almost none. The rate also falls too fast if
        the schedule advances where a step was skipped.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=10)
        for number in range(1, 41):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean() / 4
            loss.backward()
            schedule.step()  # four times per step
            if number % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    """
    limits = """
        It counts calls of torch.optim.lr_scheduler between steps. A schedule that you step once per epoch is correct.
        It does not know for how many steps you made the schedule.
    """

    fix_several_calls = "call the schedule's step() once per optimizer.step()"
    fix_skipped_steps = "advance only if the step ran: after a skipped step, scaler.update() lowers scaler.get_scale()"
    fix_first_step = "call the schedule's step() after optimizer.step(), unless you want to skip that learning rate"
    fix_idle = "create the schedule after the optimizer that steps, and pass it that optimizer"
    fix_min = 'pass mode="max" to ReduceLROnPlateau, or give its step() a loss'
    fix_max = 'leave out mode="max" of ReduceLROnPlateau, or give its step() a score that should rise'
    fix_per_batch = (
        "if T_max counts epochs, call step() once per epoch, or pass T_max=epochs * batches per epoch; "
        "CosineAnnealingWarmRestarts is for several periods"
    )
    fix_beyond = "pass T_max the number of calls of step() in the whole run; CosineAnnealingWarmRestarts is for periods"
    fix_by_hand = "count the steps that ran, not the windows"
    actions: ClassVar[dict[str, Action]] = {fix_several_calls: "schedule"}

    def __init__(self) -> None:
        super().__init__()
        self.optimizers: dict[int, OptimizerHistory] = BoundedDefaultDict(OptimizerHistory)

    def on_step(self, step: Step) -> None:
        optimizer = self.optimizers[step.optimizer]
        optimizer.add(step)
        self.checked += bool(optimizer.schedules)

    def find(self) -> Findings:
        yield from self._idle_optimizers()
        for optimizer in self.optimizers.values():
            for schedule in optimizer.schedules.values():
                yield from self._judge(schedule, optimizer.steps - 1)
        for known in self.seen.schedules:
            yield from self._judge_plateau(known)
            yield from self._judge_cosine(known)
        if not self.checked:
            for optimizer in self.optimizers.values():
                yield from self._judge_rates_set_by_hand(optimizer)

    def _idle_optimizers(self) -> Findings:
        """Judge schedules of an optimizer that makes no step (any more), while another one steps its parameters."""
        for idle in self.seen.optimizers.values():
            calls = idle.schedule_calls  # since its last step
            others = [
                other
                for other in self.seen.optimizers.values()
                if other is not idle
                and not idle.steps_within_another
                and not idle.with_gradient.isdisjoint(other.with_gradient)
                and other.last_step is not None
                and other.attempts >= self.steps_for_fault
            ]
            if len(calls) >= (5 if idle.attempts else 2) and others:
                self.checked += 1
                does = "makes no step any more" if idle.attempts else "never makes a step"
                says = (
                    f"{len(calls)} calls of the schedule change the learning rate of a {idle.name} that {does}: "
                    f"another optimizer, {others[0].name}, steps its parameters, at its own rate"
                )
                yield self.found(calls[-1].location, "fault", says, self.fix_idle, number=len(calls), times=len(calls))

    def _judge(self, schedule: ScheduleHistory, pairs: int) -> Findings:
        """Judge a schedule whose optimizer has ``pairs`` pairs of consecutive steps."""
        several, skipped, advances = schedule.several_calls, schedule.after_skipped, schedule.steps_with_call
        if several.count > 1 and several.count >= 0.5 * pairs:
            yield self._several_calls(schedule)
        elif skipped.count and pairs > 1 and advances >= 0.6 * pairs:
            says = f"{skipped.count} of {advances} advances followed a step that the GradScaler had skipped"
            yield self.found(skipped, "fault", says, self.fix_skipped_steps, number=skipped.count)
        elif schedule.calls_before_first_step == 1 and advances:  # several calls are a resumed run that catches up
            says = "the schedule advanced before the first step, so no step uses the schedule's first learning rate"
            yield self.found(schedule.location, "note", says, self.fix_first_step, number=1)

    def _several_calls(self, schedule: ScheduleHistory) -> Finding:
        at, calls = schedule.several_calls, median_high(schedule.numbers_of_calls.elements())
        mostly_per_backward = schedule.as_many_as_backwards > at.count / 2
        why = f"your {calls} micro-batches" if mostly_per_backward else "calls per step"
        says = (
            f"{calls:.2f} = {why}: the schedule advances {calls} times per step and ends after 1/{calls} of all steps"
        )
        return self.found(at, "fault", says, self.fix_several_calls, number=calls)

    def _judge_plateau(self, schedule: WatchedSchedule) -> Findings:
        """Judge whether a plateau schedule waits for its metric to move the way that it should not."""
        metrics = [(one.value.value, value_of(one.loss)) for one in schedule.metrics]
        values = [value for value, _ in metrics if value is not None and math.isfinite(value)]
        trend = direction(values)
        self.checked += bool(values)
        moves = f"from {values[0]:.4g} to {values[-1]:.4g} in {len(values)} calls" if values else ""
        named, is_score = meaning_of_metric(schedule.location), are_proportions(values)
        if schedule.mode == "min" and trend > 0:
            grows_like_accuracy = named == "unknown" and is_score and values[-1] > 0.5
            if named == "score" or grows_like_accuracy:
                says = (
                    f'the metric of a plateau schedule with mode="min" rose {moves}, as an accuracy does: the schedule '
                    "cuts the learning rate while the metric improves"
                )
                yield self.found(schedule.location, "warning", says, self.fix_min, number=values[-1], times=len(values))
        elif schedule.mode == "max" and trend < 0:
            ratios = [abs(value / loss) for value, loss in metrics if value is not None and loss]
            is_as_large_as_the_loss = bool(ratios) and 1 / 3 < median_high(ratios) < 3 and values[-1] < 0.8 * values[0]
            if named == "loss" or (named == "unknown" and not is_score and values[-1] >= 0 and is_as_large_as_the_loss):
                says = (
                    f'the metric of a plateau schedule with mode="max" fell {moves}, as a loss does: the schedule cuts '
                    "the learning rate while the metric improves"
                )
                yield self.found(schedule.location, "warning", says, self.fix_max, number=values[-1], times=len(values))

    def _judge_cosine(self, schedule: WatchedSchedule) -> Findings:
        """Judge a cosine that goes on beyond its period: from T_max on, the learning rate rises again."""
        half, position = schedule.half_period, schedule.position
        if not half or position <= 2 * half:
            return
        steps = schedule.last_step - schedule.first_step
        per_step = schedule.calls > 1 and steps <= schedule.calls
        called = "at every step of the optimizer" if per_step else "more often than T_max says"
        says = (
            f"CosineAnnealingLR with T_max = {half} was stepped {position} times, {called}: the learning rate went up "
            f"and down with a period of {2 * half} calls, {position / (2 * half):.3g} periods in all"
        )
        fix = self.fix_per_batch if per_step else self.fix_beyond
        yield self.found(schedule.location, "note", says, fix, number=position / (2 * half), times=schedule.calls)

    def _judge_rates_set_by_hand(self, optimizer: OptimizerHistory) -> Findings:
        """Judge learning rates that change with almost every step although no scheduler sets them."""
        wrong, changes = optimizer.changed_after_skipped, optimizer.rate_changes
        if wrong.count and changes[True, True] >= 0.6 * (changes[True, True] + changes[True, False]):
            skipped = changes[False, True] + changes[False, False]
            says = (
                f"the learning rate, set by hand, also changed after {wrong.count} of {skipped} steps that did not run"
            )
            yield self.found(wrong, "warning", says, self.fix_by_hand, number=wrong.count)
