"""W08: the optimizer holds the model's parameters."""

from covlab.watch.finding import Finding
from covlab.watch.invariants import Invariant
from covlab.watch.invariants.summary import first_few
from covlab.watch.seen.observation import Observation


class OptimizerHoldsModel(Invariant):
    code = "W08"
    title = "the optimizer holds the model's parameters"
    rank = 10
    consequences = ("W04", "W07", "W10", "W11", "W03")

    fix = "make the optimizer after the model is complete, from model.parameters()"

    def finish(self, seen: Observation) -> list[Finding]:
        return [
            self._judge(seen, model, is_held, missing)
            for (model, is_held), missing in seen.parameters_in_no_optimizer.items()
        ]

    def _judge(self, seen: Observation, model: str, is_held: bool, missing: set[str]) -> Finding:
        optimizers = list(seen.optimizers.values())
        idle = [watched for watched in optimizers if not watched.with_gradient and watched.attempts >= 2]
        steps = [watched.last_step for watched in (idle or optimizers)]
        location = next((step.location for step in steps if step is not None), None)
        if idle and not is_held:
            says = (
                f"none of the parameters that {model} trains with is in an optimizer: {first_few(missing)}; "
                f"{idle[0].name} holds {len(idle[0].trainable)} tensors that got no gradient"
            )
            return self.found(location, "fault", says, self.fix, number=len(missing))
        says = (
            f"{len(missing)} trainable tensors of {model} get gradients and are in no optimizer: {first_few(missing)}"
        )
        return self.found(location, "warning", says, self.fix, number=len(missing))
