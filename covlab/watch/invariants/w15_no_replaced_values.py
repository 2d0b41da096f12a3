"""W15: no non-finite value is replaced."""

from covlab.watch.finding import Verdict
from covlab.watch.invariants import Findings, Invariant

WHAT = {
    "gradient": "gradients",
    "loss": "the loss",
    "losses": "values that lead to the loss",
    "model": "values inside the model",
}


class NoReplacedValues(Invariant):
    title = "no non-finite value is replaced"
    rank = 50
    fault_stays = True
    consequences = ("W02", "W04", "W10")
    needs = ("replacement",)

    meaning = """
        Replacing NaN by 0 hides the first symptom of a bug. The step then runs with a part of its gradient missing, and
        nobody learns that a sample, a division or a logarithm went wrong.
    """
    example = """
        import torch

        model = torch.nn.Linear(8, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for number in range(20):
            x = torch.randn(16, 8)
            x[0, 0] = float("inf") if number % 5 == 4 else 0.0  # a broken sample
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            for parameter in model.parameters():
                parameter.grad.nan_to_num_()  # hides it
            optimizer.step()
    """
    limits = """
        It sees `nan_to_num`, and what has the same effect on gradients and losses, only where a value really was
        replaced. A replacement in the preparation of the data, before the training, is not seen.
    """

    fix = "remove the replacement, skip such a step as scaler.step(optimizer) does, and find the first NaN or infinity"

    def find(self) -> Findings:
        for (location, replaced), calls in self.seen.replacements.items():
            needed, times = sum(bool(number.value) for number in calls.needed), calls.calls
            if replaced == "model" and not needed:
                continue
            says = f"{needed} of {times} calls replaced NaN or infinity in {WHAT[replaced]}"
            verdict: Verdict = "note"
            if replaced != "model" and needed:
                verdict = "warning" if replaced == "losses" else "fault"
                says += ": this hides what went wrong, and the step runs anyway"
            fix = self.fix_nothing if replaced == "model" else self.fix
            yield self.found(location, verdict, says, fix, number=needed, times=times)
