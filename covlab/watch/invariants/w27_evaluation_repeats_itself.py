"""W27: evaluation repeats itself."""

import re

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.source_code import argument_of_call
from covlab.watch.seen.cuts import frames_compiled
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import ActiveDropout, Observation

ON_PURPOSE = re.compile(r"mc(?![a-z])|monte|bayes|prenet|always|noise|noisy|stochastic|uncertain", re.IGNORECASE)
NAMES = {"scaled_dot_product_attention": "the dropout of scaled_dot_product_attention"}


class EvaluationRepeatsItself(Invariant):
    title = "evaluation repeats itself"
    rank = 103
    needs = ("forward", "dropout")

    fix = "pass training=self.training"
    fix_attention = "pass dropout_p=p if self.training else 0.0"
    fix_unregistered = "make this module in __init__() as an attribute of the model, so that eval() reaches it"

    def on_step(self, step: Step) -> None:
        self.checked += 1

    def find(self) -> Findings:
        drawn = self.seen.draws_samples.union(
            *(samples.draw_locations() for samples in self.seen.fingerprints.models.values())
        )
        for dropout in self.seen.active_dropouts.values():
            is_meant = self._is_meant(dropout) or not dropout.evaluations.isdisjoint(drawn)
            name = NAMES.get(dropout.function, dropout.function)
            says = (
                f"{name} (p = {dropout.p:g}) still dropped values while the model was in evaluation mode, so two "
                "evaluations of one input differ"
            )
            if dropout.unregistered:
                says += f": eval() does not reach this {dropout.unregistered}, which is no part of the model"
            says += ". Only Monte Carlo dropout, or a network like Tacotron's prenet, does this on purpose"
            fix = self.fix_attention if dropout.function in NAMES else self.fix
            fix = self.fix_unregistered if dropout.unregistered else fix
            yield self.found(
                dropout.location,
                "note" if is_meant else "warning",
                says,
                self.fix_nothing if is_meant else fix,
                number=dropout.p,
                times=dropout.calls,
            )

    @staticmethod
    def _is_meant(dropout: ActiveDropout) -> bool:
        """Return whether the code asks for it: by an argument, or by a name."""
        location = dropout.location
        if location is None or any(map(ON_PURPOSE.search, (*dropout.classes, location.function))):
            return True
        if dropout.unregistered or dropout.function in NAMES:
            return False
        return argument_of_call(location, dropout.function, 2, "training") is not None

    def unchecked(self, seen: Observation) -> str | None:
        if frames_compiled() != seen.compiled_before and not seen.active_dropouts:
            return "the model is compiled, so its operations are not seen"
        return None
