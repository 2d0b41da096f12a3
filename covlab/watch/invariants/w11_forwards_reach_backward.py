"""W11: training forwards lead to backwards."""

from collections import Counter, defaultdict
from typing import ClassVar

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.events import Forward, GradientsCleared, Step
from covlab.watch.seen.location import CodeLocation

LONGEST_WINDOW = 30  # backwards that a loop may accumulate in its first window; a run may end within it


class ForwardsReachBackward(Invariant):
    title = "training forwards lead to backwards"
    rank = 20
    consequences = ("W03", "W07", "W10")
    needs = ("forward", "model")

    meaning = """
        A call of the model in training should lead to a backward. If `backward()` is indented one level too little,
        only the last micro-batch of each window trains, and the work for all others is thrown away.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(10):
            for x in torch.randn(4, 16, 8):
                loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            (loss / 4).backward()  # only the last of the four
            optimizer.step()
            optimizer.zero_grad()
    """
    limits = """
        It does not count calls without gradients, nor those that a loss does not need, such as a generator's samples
        for its discriminator. A call whose output you only log looks like one that was forgotten.
    """

    fix_last_only = "indent backward() into the loop over the micro-batches"
    fix_no_step = "call backward() and step() in the loop itself, not in a branch that is never taken"
    fix_never = "call optimizer.step() after the last backward of every window; check the condition before it"
    fix_schedule = "call optimizer.step() as well: a schedule's step() only changes the learning rate"
    fix_no_backward = "call loss.backward() before optimizer.step()"
    actions: ClassVar[dict[str, Action]] = {fix_never: "step"}

    def __init__(self) -> None:
        super().__init__()
        # {line: {forwards: windows}}, for the windows in which only the last forward has a backward
        self.numbers_of_forwards: dict[CodeLocation | None, Counter[int]] = defaultdict(Counter)
        self.cleared: dict[int, int] = BoundedDefaultDict(int)  # by optimizer: clearings before any step
        self.without_gradient = Occurrences()  # steps after forwards that could have led to a gradient

    def on_step(self, step: Step) -> None:
        training = [forward for forward in step.forwards if forward.training]
        unused = [forward for forward in training if forward.observable and not forward.used_by]
        if unused and step.ran and step.measured and step.gradient_size is None:
            self.without_gradient.add(step.number)
            self.without_gradient.location = unused[0].location
        by_model: dict[tuple[CodeLocation | None, int], list[Forward]] = defaultdict(list)
        for forward in training:
            by_model[forward.location, forward.model].append(forward)
        for (location, _), forwards in by_model.items():
            *others, last = (bool(forward.used_by) for forward in forwards)
            if others and last and not any(others) and all(forward.observable for forward in forwards):
                self.violations[location].add(step.number)
                self.numbers_of_forwards[location][len(forwards)] += 1

    def on_cleared(self, cleared: GradientsCleared) -> None:
        self.cleared[cleared.optimizer] += not cleared.steps_before

    def find(self) -> Findings:
        counts = self.seen.counts
        for at in self.violations.values():
            n = self.numbers_of_forwards[at.location].most_common(1)[0][0]
            usual = at.count >= 3 and at.count >= 0.5 * counts["steps"]
            says = f"only the last of {n} forwards per window has a backward: {n - 1} of {n} micro-batches do not train"
            yield self.found(at, "fault" if usual else "note", says, self.fix_last_only, number=n)

        has_idle_optimizer = any(watched.attempts == 0 for watched in self.seen.optimizers.values())
        unused = [one for one in self.seen.forwards if one.training and one.observable and not one.used_by]
        if not counts["steps"] and has_idle_optimizer and len(unused) >= self.steps_for_fault:
            location = Counter(forward.location for forward in unused).most_common(1)[0][0]
            says = f"{counts['forwards']} training forwards, {counts['backwards']} backwards and no step"
            yield self.found(location, "fault", says, self.fix_no_step, number=counts["backwards"], times=len(unused))

        if not counts["steps"] and any(forward.training and forward.used_by for forward in self.seen.forwards):
            yield from self._never_steps()

        steps = self.without_gradient.count
        if not counts["backwards"] and steps >= self.steps_for_fault:
            says = f"{steps} steps found no gradient: they followed training forwards without a backward between them"
            yield self.found(self.without_gradient, "fault", says, self.fix_no_backward, number=0)

    def _never_steps(self) -> Findings:
        """Yield a finding about each optimizer that gets gradients and never steps."""
        for watched in self.seen.optimizers.values():
            backwards = watched.idle_backwards
            is_cleared = self.cleared[watched.number] >= 3  # W03 tells it, unless a schedule is stepped instead
            enough = self.steps_for_fault if is_cleared else LONGEST_WINDOW
            if backwards < enough or watched.attempts or watched.changed_by_hand:
                continue
            if is_cleared and not watched.schedule_calls:
                continue
            says = f"{backwards} backwards gave {watched.name} gradients, and it never made a step: nothing is trained"
            location, fix = watched.idle_location, self.fix_never
            if watched.schedule_calls:
                calls = len(watched.schedule_calls)
                says += f"; its learning-rate schedule was stepped {calls} times"
                location, fix = watched.schedule_calls[-1].location, self.fix_schedule
            yield self.found(location, "fault", says, fix, number=0, times=backwards)
