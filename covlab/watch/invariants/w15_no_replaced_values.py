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
