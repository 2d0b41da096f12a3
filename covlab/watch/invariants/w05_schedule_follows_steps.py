"""W05: the learning rate advances with the steps that ran."""

from collections import Counter

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences, learning_rates
from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.observation import Observation


class ScheduleHistory:
    """How one schedule was called between the steps of one optimizer."""

    def __init__(self, location: CodeLocation | None) -> None:
        self.location = location
        self.calls_before_first_step = 0
        self.steps_with_call = 0  # before them, since the step before
        self.several_calls = Occurrences(location)  # of these steps, those with more than one call
        self.numbers_of_calls: Counter[int] = Counter()  # {calls: how many of those steps}
        self.as_many_as_backwards = 0  # of those steps, the ones with as many calls as backwards
        self.after_skipped = Occurrences(location)  # steps that did not run and that a call followed

    def add(self, calls: int, step: Step, previous: Step) -> None:
        if calls > 1:
            self.several_calls.add(step.number)
            self.numbers_of_calls[calls] += 1
            self.as_many_as_backwards += len(step.backwards) == calls
        self.steps_with_call += 1
        if not previous.ran:
            self.after_skipped.add(previous.number)

    def usual_calls(self) -> int:
        """Return the median number of calls where there were several."""
        return sorted(self.numbers_of_calls.elements())[self.several_calls.count // 2]


class OptimizerHistory:
    """The schedules and learning rates of one optimizer, counted as its steps come."""

    def __init__(self) -> None:
        self.steps = 0
        self.previous: tuple[Step, list[float | None]] | None = None
        self.schedules: dict[int, ScheduleHistory] = {}
        self.rate_changes: Counter[tuple[bool, bool]] = Counter()  # {(step ran?, rates changed after it?): steps}
        self.changed_after_skipped = Occurrences()

    def add(self, step: Step) -> None:
        rates, calls = learning_rates(step), Counter(call.schedule for call in step.schedule_calls)
        for schedule, location in dict(step.schedule_calls).items():
            self.schedules.setdefault(schedule, ScheduleHistory(location))
        if self.previous is None:
            for schedule, times in calls.items():
                self.schedules[schedule].calls_before_first_step = times
        else:
            previous, previous_rates = self.previous
            for schedule, times in calls.items():
                self.schedules[schedule].add(times, step, previous)
            if previous_rates and rates:
                self._add_rates(previous, previous_rates != rates)
        self.steps, self.previous = self.steps + 1, (step, rates)

    def _add_rates(self, previous: Step, changed: bool) -> None:
        self.rate_changes[previous.ran, changed] += 1
        if changed and not previous.ran:
            wrong = self.changed_after_skipped
            wrong.location = wrong.location if wrong.count else previous.location
            wrong.add(previous.number)


class ScheduleFollowsSteps(Invariant):
    code = "W05"
    title = "the schedule advances with executed steps, or with epochs"
    rank = 140
    needs = ("schedule",)

    fix_several_calls = "call the schedule's step() where the optimizer's step is called"
    fix_skipped_steps = (
        "advance only if the step ran: compare scaler.get_scale() before and after update(), it falls after a skip"
    )
    fix_first_step = "call the schedule's step() after the optimizer's, unless you meant to skip that rate"
    fix_by_hand = "count the steps that ran, not the windows"

    def __init__(self) -> None:
        self.optimizers: dict[int, OptimizerHistory] = BoundedDefaultDict(OptimizerHistory)

    def on_step(self, step: Step) -> None:
        self.optimizers[step.optimizer].add(step)

    def finish(self, seen: Observation) -> list[Finding]:
        judged = [
            self._judge(schedule, optimizer.steps - 1)
            for optimizer in self.optimizers.values()
            for schedule in optimizer.schedules.values()
        ]
        found = [finding for finding in judged if finding is not None]
        if found or self._has_schedule():
            return found
        by_hand = [self._judge_rates_set_by_hand(optimizer) for optimizer in self.optimizers.values()]
        return [finding for finding in by_hand if finding is not None]

    def _judge(self, schedule: ScheduleHistory, pairs: int) -> Finding | None:
        """Judge a schedule of an optimizer with so many pairs of steps that follow each other."""
        if schedule.several_calls.count > 1 and schedule.several_calls.count >= 0.5 * pairs:
            return self._several_calls(schedule)
        wrong, advances = schedule.after_skipped, schedule.steps_with_call
        if wrong.count and pairs > 1 and advances >= 0.6 * pairs:
            says = f"{wrong.count} of {advances} advances followed a step that the loss scaler had skipped"
            return self.found(wrong, "fault", says, self.fix_skipped_steps, number=wrong.count)
        if schedule.calls_before_first_step == 1 and advances:  # several: a run that is resumed winds its schedule on
            says = (
                "the schedule advanced before the first step, which so never runs at the schedule's first learning rate"
            )
            return self.found(schedule.location, "note", says, self.fix_first_step, number=1)
        return None

    def _several_calls(self, schedule: ScheduleHistory) -> Finding:
        calls, at = schedule.usual_calls(), schedule.several_calls
        mostly_per_backward = schedule.as_many_as_backwards > at.count / 2
        why = f"your {calls} micro-batches" if mostly_per_backward else "calls a step"
        says = f"{calls:.2f} = {why}: the schedule advances {calls} times a step, and ends after 1/{calls} of the steps"
        return self.found(at, "fault", says, self.fix_several_calls, number=calls)

    def _judge_rates_set_by_hand(self, optimizer: OptimizerHistory) -> Finding | None:
        """Judge learning rates that change with almost every step although no scheduler sets them."""
        wrong, changes = optimizer.changed_after_skipped, optimizer.rate_changes
        if not wrong.count or changes[True, True] < 0.6 * (changes[True, True] + changes[True, False]):
            return None
        skipped = changes[False, True] + changes[False, False]
        says = (
            f"the learning rate, set by hand with every step, went on after {wrong.count} of {skipped} steps that did "
            "not run"
        )
        return self.found(wrong, "warning", says, self.fix_by_hand, number=wrong.count)

    def _has_schedule(self) -> bool:
        """Return whether a scheduler was stepped between two steps."""
        return any(optimizer.schedules for optimizer in self.optimizers.values())

    def unchecked(self, seen: Observation) -> str | None:
        return None if self._has_schedule() else "no torch.optim.lr_scheduler was stepped between two steps"
