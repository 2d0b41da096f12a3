"""W11: training forwards lead to backwards."""

from collections import Counter, defaultdict

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.bounded_memory import Occurrences, OccurrencesByLocation
from covlab.watch.seen.events import Forward, Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.observation import Observation


class ForwardsReachBackward(Invariant):
    code = "W11"
    title = "training forwards lead to backwards"
    rank = 20
    consequences = ("W07", "W10")
    needs = ("forward",)

    fix_last_only = "indent backward() into the loop over the micro-batches"
    fix_no_step = "call backward() and step() in the loop itself, not in a branch that is never taken"
    fix_no_backward = "call loss.backward() before optimizer.step()"

    def __init__(self) -> None:
        self.steps = 0
        self.only_last_used = OccurrencesByLocation()
        # {line: {forwards: windows}}
        self.numbers_of_forwards: dict[CodeLocation | None, Counter[int]] = defaultdict(Counter)
        self.without_gradient = Occurrences()  # steps after forwards that could have led to a gradient

    def on_step(self, step: Step) -> None:
        self.steps += 1
        training = [forward for forward in step.forwards if forward.training]
        unused = [forward for forward in training if forward.observable and not forward.used_by]
        if unused and step.ran and step.measured and step.gradient_size is None:
            self.without_gradient.add(step.number)
            self.without_gradient.location = unused[0].location
        by_model: dict[tuple[CodeLocation | None, int], list[Forward]] = defaultdict(list)
        for forward in training:
            by_model[forward.location, forward.model].append(forward)
        for (location, _), forwards in by_model.items():
            if _only_last_is_used(forwards):
                self.only_last_used[location].add(step.number)
                self.numbers_of_forwards[location][len(forwards)] += 1

    def finish(self, seen: Observation) -> list[Finding]:
        return [
            *(self._last_only(at) for at in self.only_last_used.values()),
            *self._no_step(seen),
            *self._no_backward(seen),
        ]

    def _last_only(self, at: Occurrences) -> Finding:
        n = self.numbers_of_forwards[at.location].most_common(1)[0][0]
        usual = at.count >= 3 and at.count >= 0.5 * self.steps
        says = f"{n} forwards and one backward a window, on the last: {n - 1} of {n} micro-batches do not train"
        return self.found(at, "fault" if usual else "note", says, self.fix_last_only, number=n)

    def _no_step(self, seen: Observation) -> list[Finding]:
        counts, waits = seen.counts, any(watched.attempts == 0 for watched in seen.optimizers.values())
        unused = [one for one in seen.forwards if one.training and one.observable and not one.used_by]
        if counts["steps"] or not waits or len(unused) < self.steps_for_fault:
            return []
        location = Counter(forward.location for forward in unused).most_common(1)[0][0]
        says = f"{counts['forwards']} training forwards, {counts['backwards']} backwards and no step"
        return [self.found(location, "fault", says, self.fix_no_step, number=counts["backwards"], times=len(unused))]

    def _no_backward(self, seen: Observation) -> list[Finding]:
        steps = self.without_gradient
        if seen.counts["backwards"] or steps.count < self.steps_for_fault:
            return []
        says = f"{steps.count} steps followed training forwards, and no backward came between: they found no gradient"
        return [self.found(steps, "fault", says, self.fix_no_backward, number=0)]


def _only_last_is_used(forwards: list[Forward]) -> bool:
    used = [bool(forward.used_by) for forward in forwards]
    is_last = len(used) > 1 and used[-1] and not any(used[:-1])
    return is_last and all(forward.observable for forward in forwards)
