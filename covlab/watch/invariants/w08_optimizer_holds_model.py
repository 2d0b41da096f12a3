"""W08: the optimizer holds the model's parameters."""

from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.seen.observation import Observation


class OptimizerHoldsModel(Invariant):
    title = "the optimizer holds the model's parameters"
    rank = 10
    consequences = ("W04", "W07", "W10", "W11", "W03")

    fix = "create the optimizer after the model is complete, from model.parameters()"

    def find(self) -> Findings:
        optimizers = list(self.seen.optimizers.values())
        idle = [watched for watched in optimizers if not watched.with_gradient and watched.attempts >= 2]
        steps = [watched.last_step for watched in (idle or optimizers)]
        location = next((step.location for step in steps if step is not None), None)
        for (model, is_held), missing in self.seen.parameters_in_no_optimizer.items():
            if idle and not is_held:
                says = (
                    f"no parameter of {model} is in an optimizer: {first_few(missing)}; "
                    f"{idle[0].name} holds {len(idle[0].trainable)} tensors that got no gradient"
                )
                yield self.found(location, "fault", says, number=len(missing))
            else:
                says = (
                    f"{len(missing)} trainable tensors of {model} get gradients but are in no optimizer: "
                    f"{first_few(missing)}"
                )
                yield self.found(location, "warning", says, number=len(missing))

    def unchecked(self, seen: Observation) -> str | None:
        return None if seen.counts["forwards"] else "no call of a model was seen"
