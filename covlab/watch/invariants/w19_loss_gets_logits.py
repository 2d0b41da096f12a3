"""W19: a loss that applies a softmax or a sigmoid itself gets logits.

``cross_entropy`` and ``binary_cross_entropy_with_logits`` turn logits into probabilities. With probabilities as
input, the loss cannot come near 0, and its gradients are weak. An operation between the two, such as a temperature,
makes other logits on purpose.
"""

from covlab.watch.finding import Verdict
from covlab.watch.invariants import Findings, Invariant
from covlab.watch.invariants.bounded_memory import Occurrences
from covlab.watch.seen.loss_graph import LossFact

ROUNDING = 2e-2  # of probabilities in bfloat16

FIX_SOFTMAX = "remove the softmax before the loss; cross_entropy takes the outputs of the last layer as they are"
FIX_SIGMOID = "remove the sigmoid before the loss, or use binary_cross_entropy, which takes probabilities"


class LossGetsLogits(Invariant):
    title = "the loss gets logits, not probabilities"
    rank = 33
    consequences = ("W10",)
    needs = ("backward", "loss")
    fix = FIX_SOFTMAX
    nothing_to_check = "no loss was seen whose graph could be read"

    meaning = """
        `cross_entropy` and `binary_cross_entropy_with_logits` turn logits into probabilities themselves. If they get
        probabilities, the loss cannot come near 0 and its gradients are weak. The network learns, but slowly and not
        well.
    """
    example = """
        import torch
        import torch.nn.functional as F

        model = torch.nn.Linear(8, 4)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(20):
            x = torch.randn(16, 8)
            labels = x[:, :4].argmax(1)
            loss = F.cross_entropy(model(x).softmax(1), labels)  # a softmax of a softmax
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    """
    limits = """
        It follows the graph of the loss. An operation between the two, such as a temperature, makes other logits on
        purpose, and is accepted. A loss that you wrote yourself is not known.
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
    name = "cross_entropy" if fact.name == "LogSoftmax" else fact.name
    if fact.kind == "softmax twice" and all(one[0] >= -ROUNDING for one in fact.values() if one):
        says = (
            f"{name} gets the output of a softmax and applies a second softmax to it: on numbers between 0 and 1, the "
            "result is nearly uniform, so the loss stays high"
        )
        return "fault", says, FIX_SOFTMAX
    if fact.kind == "probabilities as logits":
        values = list(fact.values())
        if values and all(smallest >= 0 and off < ROUNDING for smallest, off in values):
            says = (
                f"every row of the input of {name} sums to 1, as after a softmax, and {name} applies a "
                "softmax itself: the loss stays high"
            )
            return "fault", says, FIX_SOFTMAX
    if fact.kind == "sigmoid before logits":
        says = (
            "binary_cross_entropy_with_logits gets the output of a sigmoid and applies a second sigmoid to it: the "
            "result lies between 0.5 and 0.73, so the loss stays high"
        )
        return "fault", says, FIX_SIGMOID
    if fact.kind == "softmax before logits":
        says = (
            "binary_cross_entropy_with_logits gets the output of a softmax and applies a sigmoid to it: it lies "
            "between 0.5 and 0.73"
        )
        return "warning", says, "give it logits, or use cross_entropy on the logits if the classes exclude each other"
    if fact.kind == "sigmoid before softmax":
        says = f"{name} gets the output of a sigmoid: its logits lie between 0 and 1, so no probability can come near 1"
        return "note", says, "remove the sigmoid before the loss, unless you want such bounded logits"
    if fact.kind == "log_softmax twice":
        says = f"{name} gets the output of a log_softmax and applies a second one, which changes nothing"
        return "note", says, "use nll_loss after log_softmax, or cross_entropy without it"
    return None
