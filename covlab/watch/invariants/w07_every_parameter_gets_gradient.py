"""W07: every trainable parameter gets a gradient.

An output that nobody asks for, a token that is only taken under a mask, and a layer that is dropped are correct. So
there is a fault only where something shows that gradients are cut off on their way to the parameters.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from covlab.watch.finding import Finding, Verdict
from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.invariants.bounded_memory import BoundedDefaultDict, Occurrences
from covlab.watch.invariants.framework_advice import Action
from covlab.watch.seen.events import Step
from covlab.watch.seen.location import CodeLocation
from covlab.watch.seen.optimizer import WatchedOptimizer

AVERAGED = re.compile(r"target|teacher|ema|momentum|shadow|slow|averag|frozen")  # names of what a loop moves by itself

FIX_CUT = "let the tensor itself through, not its values; if you want to freeze them, set requires_grad=False"
FIX_NO_GRAD = "run the module with gradients; if you want to freeze it, set requires_grad=False and leave it out"
FIX_CHECKPOINT = "pass use_reentrant=False to checkpoint, or call requires_grad_() on its first input"


@dataclass(frozen=True)
class Cause:
    """What keeps gradients from some parameters, and the line."""

    parameters: set[int]
    location: CodeLocation | None
    says: str
    fix: str


class EveryParameterGetsGradient(Invariant):
    title = "every trainable parameter gets a gradient"
    rank = 90
    consequences = ("W10",)
    needs = ("forward", "model")
    nothing_to_check = "no step was seen"

    meaning = """
        A parameter that the optimizer holds and that gets no gradient never learns. Often a `detach()`, `no_grad()`,
        `argmax()` or a new tensor cuts the graph between the output and the loss. The other parameters learn, so the
        loss still falls.
    """
    example = """
        import torch
        from torch import nn

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 1)

            def forward(self, x):
                return self.head(self.body(x).detach())  # the body gets no gradient

        model = Model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(20):
            optimizer.zero_grad()
            model(torch.randn(16, 8)).square().mean().backward()
            optimizer.step()
    """
    limits = """
        It cannot know which parameters a task needs. Layers that are left unused on purpose, such as a head for another
        task, are at most a note or a warning. Parameters with requires_grad=False are not judged.
    """

    fix_unused = (
        "nothing, if you do not use them in this task; otherwise use them in the loss, or set requires_grad=False"
    )
    fix_nothing_reached = (
        "look for detach(), .data, .item(), no_grad(), argmax() or a new tensor between the output and the loss"
    )
    actions: ClassVar[dict[str, Action]] = {FIX_CHECKPOINT: "checkpoint"}

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[int, int] = BoundedDefaultDict(int)  # of each optimizer, those that ran
        self.empty_steps: dict[int, int] = BoundedDefaultDict(int)  # of these, those that found no gradient at all

    def on_step(self, step: Step) -> None:
        self.checked += step.ran
        self.steps[step.optimizer] += step.ran
        self.empty_steps[step.optimizer] += step.ran and step.measured and step.gradient_size is None

    def find(self) -> Findings:
        for watched in self.seen.optimizers.values():
            steps, missing = self.steps[watched.number], watched.missing()
            if not steps or not missing or not self.seen.counts["backwards"]:
                continue
            for cause in _causes(watched, missing):
                missing -= cause.parameters
                yield self._cut(watched, cause, steps)
            never = missing - watched.with_gradient
            if never and never == watched.trainable:
                if self.empty_steps[watched.number]:  # without empty steps, the loop put gradients there by hand
                    yield self._none(watched)
            elif never:
                yield self._unused(watched, never, steps)

    def _cut(self, watched: WatchedOptimizer, cause: Cause, steps: int) -> Finding:
        """Return the finding about parameters whose gradients are cut off."""
        names, count, first = watched.names_of(cause.parameters), len(cause.parameters), 1
        got = f"never got a gradient in {steps} steps"
        stopped = [watched.last_gradient[one] for one in cause.parameters if one in watched.last_gradient]
        if stopped:
            first = max(stopped) + 2  # the next step still has these gradients
            got = f"last got a gradient before step {first} of {steps}: from then on gradients stop"
        says = f"{count} of {len(watched.trainable)} tensors {got}: {first_few(names)}; {cause.says}"
        verdict: Verdict = "fault" if steps - first + 1 >= self.steps_for_fault else "note"
        if all(map(AVERAGED.search, names)):
            verdict, says = "note", f"{says}. By their names, the loop moves them itself"
        at = Occurrences(cause.location, 1, first, steps)
        return self.found(at, verdict, says, cause.fix, number=count)

    def _unused(self, watched: WatchedOptimizer, never: set[int], steps: int) -> Finding:
        """Return the finding about parameters that get no gradient, although nothing shows a cut."""
        ran = "ran, but nothing shows that the loss uses their output"
        why = ran if never & watched.in_called_modules else "were not seen to run"
        says = (
            f"{len(never)} of {len(watched.trainable)} tensors never got a gradient in {steps} steps: "
            f"{first_few(watched.names_of(never))}; their modules {why}{_neighbors(watched, never)}"
        )
        return self.found(Occurrences(None, 1, 1, steps), "note", says, self.fix_unused, number=len(never))

    def _none(self, watched: WatchedOptimizer) -> Finding:
        """Return the finding about an optimizer whose parameters no backward ever reached."""
        empty, elsewhere = self.empty_steps[watched.number], self.seen.backwards_without_parameters
        says = (
            f"{empty} steps of {watched.name} found no gradient, because no backward reached any of its "
            f"{len(watched.trainable)} tensors: {first_few(watched.names_of(watched.trainable))}"
        )
        location = watched.last_step.location if watched.last_step is not None else None
        if elsewhere:
            says += f"; {elsewhere.total()} backwards ended before any parameter"
            location = elsewhere.most_common(1)[0][0]
        at = Occurrences(location, empty, 1, watched.attempts)
        lasting = empty >= self.steps_for_fault
        return self.found(at, "fault" if lasting else "note", says, self.fix_nothing_reached, number=empty)


def _causes(watched: WatchedOptimizer, missing: set[int]) -> Iterator[Cause]:
    """Yield what keeps gradients from the missing parameters: modules that run without, then operations that cut."""
    left = set(missing)
    by_line: dict[tuple[CodeLocation | None, bool], set[int]] = {}
    for runs, parameters in watched.runs_without_gradient.values():
        steps = watched.attempts - max((watched.last_gradient.get(one, 0) for one in parameters), default=0)
        own = parameters & left
        if own and runs.steps >= max(10, steps / 2):
            by_line.setdefault((runs.location, runs.in_checkpoint), set()).update(own)
            left -= own
    for (location, in_checkpoint), own in by_line.items():
        if in_checkpoint:
            says = (
                "their modules ran without gradients inside a reentrant checkpoint, none of whose inputs "
                "requires a gradient"
            )
        else:
            says = "their modules ran without gradients, under no_grad() or in inference mode"
        yield Cause(own, location, says, FIX_CHECKPOINT if in_checkpoint else FIX_NO_GRAD)
    for cut in watched.cuts:
        own = left.intersection(cut.parameters)
        left -= own
        if own:
            says = f"{cut.operation} passes their values on without a gradient, and the loss uses them"
            yield Cause(own, cut.location, says, FIX_CUT)


def _neighbors(watched: WatchedOptimizer, never: set[int]) -> str:
    """Return the first module without a gradient, and the next one with gradients, as text."""
    names = list(watched.parameter_names.items())
    first = next((position for position, (one, _) in enumerate(names) if one in never), None)
    if first is None:
        return ""
    after = [name for one, name in names[first:] if one in watched.with_gradient]
    before = [name for one, name in names[:first] if one in watched.with_gradient]
    nearest = after[0] if after else before[-1] if before else None
    if nearest is None:
        return ""
    module, other = (name.rpartition(".")[0] or name for name in (names[first][1], nearest))
    return f". The first without a gradient is {module}; {other} beside it gets gradients"
