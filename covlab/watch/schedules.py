"""W05: the learning rate advances with the steps that ran."""

from collections import Counter
from dataclasses import dataclass, field

from covlab.watch.finding import Finding
from covlab.watch.invariant import Invariant, Last, Span, rates_of
from covlab.watch.records import Site, Step


@dataclass
class Calls:
    """How one schedule was called between the steps of one optimizer."""

    site: Site | None
    early: int = 0  #: calls before the first step
    several: Span = field(default_factory=Span)  #: steps with more than one call since the step before
    times: Counter = field(default_factory=Counter)  #: {calls: how many of these steps}
    alike: int = 0  #: of these, as many calls as backwards
    after: int = 0  #: steps that a call followed
    after_skipped: Span = field(default_factory=Span)  #: of these, steps that did not run


class History:
    """The schedules and learning rates beside one optimizer's steps, counted as they come."""

    def __init__(self):
        self.steps = 0
        self.before: tuple[Step, list[float]] | None = None
        self.calls: dict[int, Calls] = {}
        self.changes: Counter = Counter()  #: {(did the step run?, did the rates change after it?): steps}
        self.by_hand, self.site = Span(), None  #: steps that did not run, and whose rates changed; where the first was

    def add(self, step: Step) -> None:
        rates, calls = rates_of(step), Counter(schedule for schedule, _ in step.schedules)
        for schedule, site in dict(step.schedules).items():
            self.calls.setdefault(schedule, Calls(site))
        if self.before is None:
            for schedule, times in calls.items():
                self.calls[schedule].early = times
        else:
            former, former_rates = self.before
            for schedule, times in calls.items():
                self._called(self.calls[schedule], times, step, former)
            if former_rates and rates:
                self._changed(former, former_rates != rates)
        self.steps, self.before = self.steps + 1, (step, rates)

    def _called(self, seen: Calls, times: int, step: Step, former: Step) -> None:
        if times > 1:
            seen.several.add(step.number)
            seen.times[times] += 1
            seen.alike += len(step.backwards) == times
        seen.after += 1
        if not former.ran:
            seen.after_skipped.add(former.number)

    def _changed(self, former: Step, changed: bool) -> None:
        self.changes[former.ran, changed] += 1
        if changed and not former.ran:
            self.site = self.site if self.by_hand.count else former.site
            self.by_hand.add(former.number)


class Scheduled(Invariant):
    code = "W05"

    def __init__(self):
        super().__init__()
        self.histories: dict[int, History] = Last(History)

    @property
    def any(self) -> bool:
        """Was a scheduler stepped between two steps?"""
        return any(history.calls for history in self.histories.values())

    def step(self, step: Step) -> None:
        self.histories[step.optimizer].add(step)

    def finish(self, observer) -> list[Finding]:
        found = [
            finding
            for history in self.histories.values()
            for seen in history.calls.values()
            for finding in self._judge(seen, history.steps - 1)
        ]
        return found or [finding for history in self.histories.values() for finding in self._by_hand(history)]

    def _by_hand(self, history: History) -> list[Finding]:
        """Learning rates that are set without a scheduler: what changed after a step that did not run."""
        wrong, changes = history.by_hand, history.changes
        if self.any or not wrong.count or changes[True, True] < 0.6 * (changes[True, True] + changes[True, False]):
            return []
        skipped = changes[False, True] + changes[False, False]
        says = (
            f"the learning rate, set by hand with every step, went on after {wrong.count} of {skipped} steps that "
            "did not run"
        )
        return [
            Finding(
                "W05",
                "warning",
                wrong.count,
                says,
                "count the steps that ran, not the windows",
                history.site,
                wrong.count,
                wrong.first,
                wrong.last,
            )
        ]

    def _judge(self, seen: Calls, pairs: int) -> list[Finding]:
        """Of one schedule, beside an optimizer with so many ``pairs`` of steps that follow each other."""
        many, wrong = seen.several, seen.after_skipped
        if many.count > 1 and many.count >= 0.5 * pairs:
            calls = sorted(seen.times.elements())[many.count // 2]
            why = f"your {calls} micro-batches" if seen.alike > many.count / 2 else "calls a step"
            says = (
                f"{calls:.2f} = {why}: the schedule advances {calls} times a step, and ends after 1/{calls} of "
                "the steps"
            )
            fix = "call the schedule's step() where the optimizer's step is called"
            return [Finding("W05", "fault", calls, says, fix, seen.site, many.count, many.first, many.last)]
        habit = seen.after >= 0.6 * pairs and pairs > 1
        if habit and wrong.count:
            says = f"{wrong.count} of {seen.after} advances followed a step that the loss scaler had skipped"
            fix = (
                "advance only if the step ran: compare scaler.get_scale() before and after update(), it falls "
                "after a skip"
            )
            return [Finding("W05", "fault", wrong.count, says, fix, seen.site, wrong.count, wrong.first, wrong.last)]
        if seen.early == 1 and seen.after:  # several: a run that is resumed winds its schedule on
            says = (
                "the schedule advanced before the first step, which so never runs at the schedule's first learning rate"
            )
            return [
                Finding(
                    "W05",
                    "note",
                    1,
                    says,
                    "call the schedule's step() after the optimizer's, unless you meant to skip that rate",
                    seen.site,
                )
            ]
        return []

    def unchecked(self) -> str | None:
        return None if self.any else "no torch.optim.lr_scheduler was stepped between two steps"
