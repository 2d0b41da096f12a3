"""W15: no non-finite value is replaced."""

from covlab.watch.finding import Finding, Verdict
from covlab.watch.invariants import Invariant
from covlab.watch.seen.observation import Observation

WHAT = {
    "gradient": "gradients",
    "loss": "the loss",
    "losses": "values on their way to the loss",
    "model": "values inside the model",
}


class NoReplacedValues(Invariant):
    code = "W15"
    title = "no non-finite value is replaced"
    rank = 50
    consequences = ("W02", "W04", "W10")
    needs = ("replacement",)

    fix = (
        "take the replacement out, skip a step whose gradients are not finite as scaler.step(optimizer) does, and find "
        "out where they come from"
    )
    fix_in_model = "nothing, if that is what you meant"

    def finish(self, seen: Observation) -> list[Finding]:
        found = []
        for (location, replaced), calls in seen.replacements.items():
            needed, times = sum(bool(number.value) for number in calls.needed), calls.calls
            met = f"{needed} of {times} calls replaced NaN or infinity in {WHAT[replaced]}"
            if replaced == "model":
                if needed:
                    found.append(self.found(location, "note", met, self.fix_in_model, number=needed, times=times))
            elif needed:
                verdict: Verdict = "warning" if replaced == "losses" else "fault"
                says = f"{met}: what went wrong is hidden, and the step is taken all the same"
                found.append(self.found(location, verdict, says, self.fix, number=needed, times=times))
            else:
                says = f"{times} calls would replace NaN or infinity in {WHAT[replaced]}; none was met"
                found.append(self.found(location, "note", says, self.fix, number=needed, times=times))
        return found
