"""W20: nll_loss and kl_div get log-probabilities."""

from covlab.watch.finding import Verdict
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.loss_graph import LossFact

ROUNDING = 2e-2  # of log-probabilities and sums of probabilities in bfloat16

FIX_NLL = "use log_softmax instead of softmax before nll_loss, or give the logits to cross_entropy"
FIX_KL = "pass log-probabilities as the first argument of kl_div: F.kl_div(F.log_softmax(logits, dim=-1), target)"


class LossGetsLogProbabilities(Invariant):
    title = "nll_loss and kl_div get log-probabilities"
    rank = 34
    needs = ("backward", "loss")
    fix = FIX_KL
    nothing_to_check = "no loss was seen whose graph could be read"

    meaning = """
        `nll_loss` and `kl_div` do not compute a logarithm: they expect log-probabilities. With probabilities or logits
        they still return a number, and the network learns something else.
    """
    example = """
        import torch
        import torch.nn.functional as F

        model = torch.nn.Linear(8, 4)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8)
            labels = x[:, :4].argmax(1)
            loss = F.nll_loss(model(x).softmax(1), labels)  # log_softmax is missing
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        It follows the graph of the loss. Expressions that use a probability on purpose, as in a policy gradient, are at
        most a note.
    """

    def find(self) -> Findings:
        self.checked = self.seen.losses_read
        for fact in self.seen.loss_facts.values():
            reading = _read(fact)
            if reading is not None:
                verdict, says, fix = reading
                at = Occurrences(fact.location, 1, fact.first)
                yield self.found(at, verdict, says, fix, number=None)


def _read(fact: LossFact) -> tuple[Verdict, str, str] | None:
    if fact.kind == "nll of probabilities":
        says = (
            "nll_loss gets the output of a softmax: it needs the logarithm of probabilities, so what is minimized is "
            "minus a probability, not a cross-entropy"
        )
        return "fault", says, FIX_NLL
    if fact.kind != "kl of probabilities":
        return None
    if "softmax" in fact.texts:
        return "fault", "the first argument of kl_div is the output of a softmax; it must be its logarithm", FIX_KL
    values = list(fact.values())
    largest = min((one[0] for one in values), default=0.0)
    if largest <= ROUNDING:
        return None
    says = f"the first argument of kl_div is as large as {largest:.3g}: a log-probability is never above 0"
    is_distribution = all(len(one) > 3 and one[3] < ROUNDING for one in values)
    is_probability = all(smallest >= 0 and off < ROUNDING for _, smallest, off, *_ in values)
    return ("fault" if is_distribution or is_probability else "warning"), says, FIX_KL
