"""W05: the learning rate advances with the steps that ran."""

from collections import Counter
from statistics import median_high
from typing import ClassVar

from covlab.watch.finding import Finding
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences, learning_rates
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation


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


class ScheduleFollowsSteps(Invariant):
    title = "the schedule advances with executed steps, or with epochs"
    rank = 140
    needs = ("schedule",)
    nothing_to_check = "no torch.optim.lr_scheduler was stepped between two steps"

    meaning = """
        A schedule is made for a number of steps, or of epochs. If it advances once per micro-batch, or also where a
        step was skipped, the learning rate falls several times too fast, and most of the training runs with almost
        none.
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

    def _judge_rates_set_by_hand(self, optimizer: OptimizerHistory) -> Findings:
        """Judge learning rates that change with almost every step although no scheduler sets them."""
        wrong, changes = optimizer.changed_after_skipped, optimizer.rate_changes
        if wrong.count and changes[True, True] >= 0.6 * (changes[True, True] + changes[True, False]):
            skipped = changes[False, True] + changes[False, False]
            says = (
                f"the learning rate, set by hand, also changed after {wrong.count} of {skipped} steps that did not run"
            )
            yield self.found(wrong, "warning", says, self.fix_by_hand, number=wrong.count)
