"""W04: a step moves the parameters."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import torch

from covlab.watch.finding import Finding, Verdict, counted
from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences, learning_rates
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.optimizer import WatchedOptimizer
from covlab.watch.seen.tensor_histories import TensorHistory

HALF = (torch.bfloat16, torch.float16)


@dataclass
class ZeroRates(Occurrences):
    """Consecutive steps with a learning rate of 0."""

    rate_before: float = 0.0  # the learning rate of the step before
    ended: bool = False


class RateHistory:
    """The learning rates of one optimizer."""

    def __init__(self) -> None:
        self.steps = 0  # that ran
        self.largest = self.latest = 0.0
        self.has_fallen = self.has_risen = False
        self.nonzero: Counter[int] = Counter()  # of each group, steps with a rate
        self.groups = 0
        self.schedule: CodeLocation | None = None  # where a schedule was stepped last
        self.runs: list[ZeroRates] = []  # the first, the longest and the last one

    def add(self, step: Step) -> None:
        if step.schedule_calls:
            self.schedule = step.schedule_calls[-1].location
        rates = [abs(rate) for rate in learning_rates(step) if rate is not None]
        if not step.ran or not rates or len(rates) < len(step.learning_rates):
            return
        self.steps, self.groups = self.steps + 1, len(rates)
        self.nonzero.update(group for group, rate in enumerate(rates) if rate)
        rate = max(rates)
        if not rate:
            if not self.runs or self.runs[-1].ended:
                self._begin(step)
            self.runs[-1].add(step.number)
        elif self.runs:
            self.runs[-1].ended = True
        if self.steps > 1:
            self.has_risen |= rate > self.latest
            self.has_fallen |= rate < self.latest
        self.largest, self.latest = max(self.largest, rate), rate

    def _begin(self, step: Step) -> None:
        if len(self.runs) > 2:
            first, *others = self.runs
            self.runs = [first, max(others, key=lambda run: run.count)]
        run = ZeroRates(self.schedule or step.location)
        run.rate_before = self.latest
        self.runs.append(run)


class ParametersMove(Invariant):
    title = "a step moves the parameters"
    rank = 70
    nothing_to_check = "no step with gradients was seen"

    meaning = """
        After a step, the parameters that have gradients should have other values. They stay if the learning rate is 0,
        or if the update is so small that it rounds away in bfloat16 or float16. Nothing crashes, and the loss stays
        where it is.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step // 100)  # 0, not 0.01, 0.02, …
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warm_up.step()
    """
    limits = """
        A learning rate of 0 for fewer than ten steps is a note, as in a warm-up. Groups that are frozen by a rate of 0
        get a note. It says nothing about parameters without gradients; that is W07.
    """

    fix_learning_rate = "check the learning rate and its schedule: an integer division, or a factor that is 0"
    fix_schedule = "check what the schedule does there: its gamma, its milestones, or a length that is too short"
    fix_warm_up = "start the warm-up at a factor of 1/steps, not 0"
    fix_precision = "keep these parameters in float32 (use autocast), or raise the learning rate"
    fix_size = "check the size of the gradients and of the learning rate, and whether the loop puts the old values back"
    actions: ClassVar[dict[str, Action]] = {fix_warm_up: "warm up", fix_precision: "precision"}

    def __init__(self) -> None:
        super().__init__()
        self.rates: dict[int, RateHistory] = BoundedDefaultDict(RateHistory)

    def on_step(self, step: Step) -> None:
        self.checked += step.ran and step.gradient_size is not None and value_of(step.gradient_size) is not None
        self.rates[step.optimizer].add(step)

    def find(self) -> Findings:
        for number, rates in self.rates.items():
            watched = self.seen.optimizers.get(number)
            for run in rates.runs:
                yield from self._zero_rates(number, rates, run)
            if watched is not None and rates.largest:
                yield from self._zero_groups(watched, rates)
                yield from self._still(watched, rates)

    def _zero_rates(self, optimizer: int, rates: RateHistory, run: ZeroRates) -> Findings:
        """Judge steps with a learning rate of 0, at the start, in the middle or at the end of a run."""
        lasting, steps = run.count >= self.steps_for_fault, counted(run.count, "step")
        others_train = any(other.largest for one, other in self.rates.items() if one != optimizer)
        if run.first == 1:
            verdict: Verdict = "fault" if lasting and not (others_train and run.ended) else "note"
            says = f"the learning rate was 0 in {'the first' if run.ended else 'all'} {steps}: no parameter moved"
            warm = run.ended and not lasting
            says += ", as in a warm-up that starts at 0" if warm else ""
            fix = self.fix_warm_up if warm else self.fix_learning_rate
            yield self.found(run, verdict, says, fix, number=run.count)
        elif run.ended and lasting:
            says = f"the learning rate was 0 from step {run.first} to step {run.last}: no parameter moved"
            yield self.found(run, "note", says, self.fix_nothing, number=run.count)
        elif not run.ended and lasting:
            # a schedule that ends at 0 often has some steps left, as in the last epoch
            is_end = run.rate_before <= 0.25 * rates.largest and run.count <= 0.25 * rates.steps
            says = (
                f"the learning rate is 0 from step {run.first} on: the last {steps} of {rates.steps} change nothing. "
                f"It was {run.rate_before:.3g} in the step before"
            )
            yield self.found(run, "note" if is_end else "fault", says, self.fix_schedule, number=run.count)

    def _zero_groups(self, watched: WatchedOptimizer, rates: RateHistory) -> Findings:
        """Note parameter groups that never have a learning rate, while others do."""
        zero = [group for group in range(rates.groups) if not rates.nonzero[group]]
        if zero and rates.steps >= self.steps_for_fault:
            groups = ", ".join(map(str, zero))
            says = (
                f"the learning rate of parameter group {groups} of {watched.name} was 0 in all {rates.steps} steps, as "
                "where it is frozen on purpose"
            )
            where = watched.made_at or (watched.last_step.location if watched.last_step is not None else None)
            yield self.found(where, "note", says, self.fix_nothing, number=len(zero))

    def _still(self, watched: WatchedOptimizer, rates: RateHistory) -> Findings:
        """Judge tensors that have gradients and a learning rate, and of which not a bit changes."""
        histories = list(watched.histories.values())
        still = [
            one
            for one in histories
            if one.steps_still >= self.steps_for_fault
            and one.nonzero_gradients > 1
            and one.first_zero is None
            and rates.nonzero[one.group] >= self.steps_for_fault
            # rounding makes a small gradient where there is none, as of a bias before a normalization
            and one.gradient_share > (3e-2 if one.dtype in HALF else 1e-5)
        ]
        if still and all(one.steps_still >= self.steps_for_fault for one in histories):
            yield self._found_still(watched, rates, still, "fault")
            return
        half, single = [one for one in still if one.dtype in HALF], [one for one in still if one.dtype not in HALF]
        if half:
            yield self._found_still(watched, rates, half, "fault")
        if single:
            yield self._found_still(watched, rates, single, "warning")

    def _found_still(
        self, watched: WatchedOptimizer, rates: RateHistory, still: list[TensorHistory], verdict: Verdict
    ) -> Finding:
        steps = min(one.steps_still for one in still)
        names = first_few(watched.names_of({one.name for one in still}))
        is_half = still[0].dtype in HALF
        why = f": in {str(still[0].dtype).removeprefix('torch.')}, their updates round away" if is_half else ""
        says = (
            f"{len(still)} of {len(watched.histories)} tensors never moved in {steps} steps, although they have "
            f"gradients and a learning rate of up to {rates.largest:.3g}{why}: {names}"
        )
        if rates.has_risen and not rates.has_fallen:
            verdict, says = "note", f"{says}; the learning rate is still rising"
        location = watched.last_step.location if watched.last_step is not None else None
        at = Occurrences(location, 1, min(one.first for one in still), max(one.still_before for one in still) - 1)
        return self.found(at, verdict, says, self.fix_precision if is_half else self.fix_size, number=len(still))
