"""W10: gradients are not all zero."""

from dataclasses import replace

from covlab.watch.finding import Verdict
from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.invariants.bounded_memory import LongestRuns, Occurrences
from covlab.watch.seen.deferred import value_of
from covlab.watch.seen.events import Step
from covlab.watch.seen.optimizer import WatchedOptimizer
from covlab.watch.seen.tensor_histories import TensorHistory


class NonzeroGradients(Invariant):
    title = "gradients are not all zero"
    rank = 40
    consequences = ("W04",)
    needs = ("gradient size",)
    nothing_to_check = "no step with gradients was seen"

    meaning = """
        If a gradient is exactly 0, its parameter cannot learn. Two layers in a row that start at zero never get out of
        there. A weight of 0 in the loss, a saturated activation, or an underflow in float16 has the same effect.
    """
    example = """
        import torch
        from torch import nn

        model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 1, bias=False))
        for parameter in model.parameters():
            nn.init.zeros_(parameter)  # each layer's zeros make the other's gradient zero
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(20):
            x = torch.randn(16, 8)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        A few zeros are normal, such as those behind a ReLU or of words that a batch does not have. It reports tensors
        whose gradient is zero in every step that it measured.
    """

    fix_stuck = "initialize at most one of two layers in a row with zeros"
    fix_some = "look for a weight of 0, a saturated activation or units that are never used between these and the loss"
    fix = "look for a weight of 0, a saturated activation or an underflow between the loss and the parameters"

    def __init__(self) -> None:
        super().__init__()
        self.zero = LongestRuns()

    def on_step(self, step: Step) -> None:
        size = value_of(step.gradient_size)
        self.checked += size is not None
        self.zero.add(step, size)

    def find(self) -> Findings:
        yield from self._every_gradient()
        for watched in self.seen.optimizers.values():
            zero = [one for one in watched.histories.values() if one.steps_with_zero_gradient >= self.steps_for_fault]
            # the gradient of a bias may cancel out, as in the critic of a GAN
            if any(one.is_matrix for one in zero) and len(zero) < len(watched.histories):
                yield from self._some_gradients(watched, zero)

    def _some_gradients(self, watched: WatchedOptimizer, zero: list[TensorHistory]) -> Findings:
        """Judge single tensors. Weights that are zero themselves are stuck; others may be unused on purpose."""
        stuck = [one for one in zero if one.all_zero and one.is_matrix]
        steps = min(one.steps_with_zero_gradient for one in zero)
        names = first_few(watched.names_of({one.name for one in stuck or zero}))
        says = (
            f"the gradients of {len(stuck or zero)} of {len(watched.histories)} tensors were exactly 0 in {steps} "
            f"steps in a row: {names}"
        )
        if stuck:
            says += "; these weights are all 0 themselves, so they can stay so for ever"
        location = watched.last_step.location if watched.last_step is not None else None
        at = Occurrences(location, 1, min(one.first_zero or 1 for one in zero), max(one.last_zero or 1 for one in zero))
        fix = self.fix_stuck if stuck and not watched.has_hooks else self.fix_some
        verdict: Verdict = "warning" if stuck and not watched.has_hooks else "note"
        yield self.found(at, verdict, says, fix, number=len(zero))

    def _every_gradient(self) -> Findings:
        for run in self.zero.all():
            loss = f"; the loss was {run.latest_loss:.4g}" if run.latest_loss is not None else ""
            says = f"every gradient was exactly 0 in {run.count} windows in a row{loss}"
            at = replace(run, location=run.first_backward)
            yield self.found(at, "fault" if run.count >= self.steps_for_fault else "note", says, number=0.0)
