"""W27: evaluation repeats itself."""

import re

from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.source_code import argument_of_call
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import ActiveDropout, Observation

ON_PURPOSE = re.compile(r"mc(?![a-z])|monte|bayes|prenet|always|noise|noisy|stochastic|uncertain", re.IGNORECASE)
NAMES = {"scaled_dot_product_attention": "the dropout of scaled_dot_product_attention"}


class EvaluationRepeatsItself(Invariant):
    title = "evaluation repeats itself"
    rank = 103
    needs = ("forward", "dropout")

    meaning = """
        In evaluation mode, the same input should give the same output. `F.dropout` and `scaled_dot_product_attention`
        do not know the mode of the module: if they always get a probability, evaluation is random and too pessimistic.
    """
    example = """
        import torch
        import torch.nn.functional as F

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.out = torch.nn.Linear(8, 4)

            def forward(self, x):
                return self.out(F.dropout(x, 0.2))  # without training=self.training

        model = Model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for epoch in range(3):
            for x in torch.randn(8, 16, 8):
                loss = F.cross_entropy(model(x), x[:, :4].argmax(1))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                model(torch.randn(16, 8))
            model.train()
    """
    limits = """
        Dropout in evaluation can be meant, as in Monte Carlo dropout: where the names in your code say so, it is a
        note. Other sources of randomness, such as sampling, are not judged.
    """

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
        if seen.has_compiled and not seen.active_dropouts:
            return "the model is compiled, so its operations are not seen"
        return None
