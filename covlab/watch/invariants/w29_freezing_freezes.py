"""W29: freezing freezes."""

from covlab.watch.finding import counted
from covlab.watch.invariants import Findings, Invariant, first_few
from covlab.watch.invariants.source_code import is_read, lines_that_set
from covlab.watch.seen.events import Step
from covlab.watch.seen.observation import FreezeAttempt


class FreezingFreezes(Invariant):
    title = "freezing freezes"
    rank = 93
    needs = ("freezing",)

    fix = "call requires_grad_(False) of the module, which freezes its parameters, before the optimizer is made"
    fix_unfreeze = "call requires_grad_(True) of the module, and give its parameters to the optimizer"

    def on_step(self, step: Step) -> None:
        self.checked += 1

    def find(self) -> Findings:
        for attempt in self.seen.freezing.values():
            location = attempt.location
            if attempt.attribute != "requires_grad":
                if is_read(attempt.attribute):
                    continue
                location = next(iter(lines_that_set(attempt.attribute)), None)
                if location is None and attempt.of_module:
                    continue
            fix = self.fix_unfreeze if attempt.value else self.fix
            yield self.found(location, "warning", _told(attempt), fix, number=len(attempt.parameters))


def _told(attempt: FreezeAttempt) -> str:
    count = counted(len(attempt.parameters), "parameter")
    still = "stayed frozen" if attempt.value else "had gradients and were trained"
    if attempt.attribute != "requires_grad":
        return f"PyTorch knows no {attempt.attribute}: the attribute is requires_grad. {count} {still}"
    where = first_few(attempt.modules)
    return (
        f"requires_grad = {attempt.value} on a module ({where}) only sets an attribute that PyTorch never reads: "
        f"{count} of it {still}"
    )
