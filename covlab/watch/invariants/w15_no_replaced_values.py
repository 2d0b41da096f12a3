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
    consequences = ("W02", "W04", "W10")
    needs = ("replacement",)

    fix = "remove the replacement, skip such a step as scaler.step(optimizer) does, and find the first NaN or infinity"

    def find(self) -> Findings:
        for (location, replaced), calls in self.seen.replacements.items():
            needed, times = sum(bool(number.value) for number in calls.needed), calls.calls
            verdict: Verdict = "note"
            fix = self.fix
            says = f"{needed} of {times} calls replaced NaN or infinity in {WHAT[replaced]}"
            if replaced == "model":
                fix = self.fix_nothing
            elif needed:
                verdict = "warning" if replaced == "losses" else "fault"
                says += ": this hides what went wrong, and the step runs anyway"
            else:
                says = f"{times} calls would replace NaN or infinity in {WHAT[replaced]}; there was none"
            if needed or replaced != "model":
                yield self.found(location, verdict, says, fix, number=needed, times=times)
